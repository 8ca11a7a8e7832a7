//! `asof init`.

use std::path::PathBuf;

use serde_json::json;

use crate::base::Kind;
use crate::cli::args::InitArgs;
use crate::cli::ask::Asker;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::open::{Need, reach_store};
use crate::cli::secret::Purpose;
use crate::cli::show::Done;
use crate::format::FORMAT_VERSION;
use crate::format::config::Parameters;
use crate::ops::keys::KeyRow;
use crate::ops::open::describe;
use crate::ops::parameters::parameters;
use crate::repo::{self, InitOptions};
use crate::store::Location;

/// Makes a repository.
pub fn init(context: &Context, args: &InitArgs) -> Result<Done, Failure> {
    let parameters = parameters(args.grace, args.skew)?;
    let made = missing_directory(context)?;
    let reached = reach_store(context, Need::Owner, true)?;
    let outcome = make(context, args, parameters, &reached);
    if outcome.is_err()
        && let Some(directory) = made
    {
        // Nothing was put into it, or it stays.
        let _ = std::fs::remove_dir(directory);
    }
    outcome
}

/// The directory that will be made, if it is missing now.
fn missing_directory(context: &Context) -> Result<Option<PathBuf>, Failure> {
    Ok(match context.location()? {
        Location::Directory(path) if !path.exists() => Some(path),
        _ => None,
    })
}

fn make(
    context: &Context,
    args: &InitArgs,
    parameters: Parameters,
    reached: &crate::ops::open::Reached,
) -> Result<Done, Failure> {
    let store = &reached.store;
    let place = store.location();
    // Looked at first, so that nobody thinks up a passphrase in vain.
    match describe(reached) {
        Ok(_) => return Err(repo::Error::Exists { location: place }.into()),
        Err(error) if error.kind() == Kind::NoRepository => {}
        Err(error) => return Err(error.into()),
    }
    let mut ask = Asker { stop: context.stop.clone() };
    let subject = format!("the new repository in {place}");
    let passphrase = context.places().passphrase(Purpose::New, &subject, &mut ask)?;
    let options = InitOptions {
        encrypted: !args.unencrypted,
        parameters,
        cost: args.kdf_cost.into(),
        label: args.label.clone(),
    };
    let (config, key) =
        repo::init(store.as_ref(), &options, passphrase.as_bytes(), &context.clock)?;
    // What this machine knew of that place is about another repository.
    if let Ok(local) = context.local() {
        repo::repository::forget_location(&local.cache_dir, &place);
    }
    tell(context, args, &place, &config.repository.to_string())?;
    Ok(Done::new(format!("made repository {} in {place}", config.repository.short())).with(
        &json!({
            "repository": config.repository,
            "location": place,
            "encrypted": config.encryption.is_some(),
            "format_version": FORMAT_VERSION,
            "grace_seconds": config.parameters.grace_seconds,
            "skew_seconds": config.parameters.skew_seconds,
            "key": KeyRow::of(&key),
        }),
    ))
}

fn tell(context: &Context, args: &InitArgs, place: &str, id: &str) -> Result<(), Failure> {
    if context.out.is_quiet() {
        return Ok(());
    }
    let what = if args.unencrypted { "an unencrypted" } else { "an encrypted" };
    // How it was named this time is how the next commands name it.
    let again = match context.global.repo.as_deref() {
        Some(_) => format!("asof -r {place}"),
        None => "asof".to_owned(),
    };
    let passphrase = if args.unencrypted {
        "the passphrase: nothing can be backed up, forgotten or changed without it. Nothing is\n    \
         encrypted: whoever can read the store can read the backups"
    } else {
        "the passphrase: without it nobody can read the backups, and nobody can reset it"
    };
    context.out.line(&format!(
        "Made {what} repository in {place}
  id {id}

Keep safe:
  - {passphrase}
  - a paper copy of the key, in case the key files in the store are lost:
      {again} key export > asof-key.txt

This is format version {FORMAT_VERSION}: every later asof reads it.

Next:
  {again} backup /etc
  {again} snapshots
  {again} mount /mnt"
    ))?;
    Ok(())
}
