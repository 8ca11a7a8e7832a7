//! From settings to an open repository: which key, and what to say about it.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::failure::{Failure, file};
use crate::base::{Stop, error_chain};
use crate::cli::ask::Asker;
use crate::cli::context::Context;
use crate::cli::secret::{Passphrase, Purpose};
use crate::cli::show;
use crate::format::writerfile::WriterFile;
use crate::ops::open::{Freshness, Opened, Reached, describe, open, reach};
use crate::repo::keys::Credential;
use crate::repo::reader::ReaderOptions;
use crate::repo::{self, Library, Shelf};
use crate::store::Patience;

/// What a command wants to do with the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Read it.
    Read(Freshness),
    /// Read it all, which takes long.
    Check,
    /// Add to it: a writer key will do.
    Write,
    /// Change who may open it.
    Owner,
    /// Go through all of it for long, as its owner.
    Collect,
}

/// Reaches the store of the settings.
///
/// # Errors
///
/// If it cannot be reached, or nobody says where it is.
pub fn reach_store(context: &Context, need: Need, create: bool) -> Result<Reached, Failure> {
    reach_until(context, need, create, &context.stop)
}

fn reach_until(
    context: &Context,
    need: Need,
    create: bool,
    stop: &Stop,
) -> Result<Reached, Failure> {
    // Who watches is better told than kept waiting; a backup should outlive a gateway's restart.
    let lasting = matches!(need, Need::Write | Need::Collect | Need::Check);
    let patience = lasting.then(Patience::default);
    let copies = match need {
        Need::Read(Freshness::IfPossible) => Some(context.local()?.cache_dir.join("places")),
        _ => None,
    };
    let reached = reach(&context.place(patience, copies)?, create, stop)?;
    context.remember(&reached);
    Ok(reached)
}

/// The passphrase of the repository in a store.
///
/// # Errors
///
/// If it cannot be had.
pub fn passphrase(context: &Context, reached: &Reached) -> Result<Passphrase, Failure> {
    let places = context.places();
    let found = places.passphrase(
        Purpose::Open,
        &reached.store.location(),
        &mut Asker { stop: context.stop.clone() },
    );
    found.map_err(|error| match &context.profile.writer_key {
        Some(_) => Failure::from(error)
            .hint("a writer key can only back up; for anything else a passphrase is needed"),
        None => error.into(),
    })
}

/// What is shown to the repository to be let in.
///
/// # Errors
///
/// If there is no repository, or nothing to show.
pub fn credential(context: &Context, reached: &Reached, need: Need) -> Result<Credential, Failure> {
    if need == Need::Write
        && let Some(path) = &context.profile.writer_key
    {
        let bytes = Zeroizing::new(std::fs::read(path).map_err(file(path))?);
        let name = format!("the writer key {}", path.display());
        let writer = WriterFile::decode(&bytes).map_err(repo::Error::object(name))?;
        return Ok(Credential::Writer(Box::new(writer)));
    }
    // Looked at first, so that nobody is asked for the passphrase of nothing.
    let config = describe(reached)?;
    if config.encryption.is_none() && matches!(need, Need::Read(_) | Need::Check) {
        return Ok(Credential::None);
    }
    let passphrase = passphrase(context, reached)?;
    Ok(Credential::Passphrase(Zeroizing::new(passphrase.as_bytes().to_vec())))
}

/// Opens the repository of the settings, and says what there is to say about it.
///
/// # Errors
///
/// Whatever keeps it from being opened.
pub fn open_repository(context: &Context, need: Need) -> Result<Opened, Failure> {
    open_until(context, need, &context.stop)
}

/// The same, but calls to the store end when `stop` is raised, instead of with the wish to
/// stop.
///
/// # Errors
///
/// Those of [`open_repository`].
pub fn open_until(context: &Context, need: Need, stop: &Stop) -> Result<Opened, Failure> {
    let reached = reach_until(context, need, false, stop)?;
    let credential = credential(context, &reached, need)?;
    open_with(context, reached, credential, need)
}

/// Opens the repository in a store with a key at hand.
///
/// # Errors
///
/// Whatever keeps it from being opened.
pub fn open_with(
    context: &Context,
    reached: Reached,
    credential: Credential,
    need: Need,
) -> Result<Opened, Failure> {
    let freshness = match need {
        Need::Read(freshness) => freshness,
        Need::Write => Freshness::Needed,
        // They read the log themselves.
        Need::Owner | Need::Collect | Need::Check => Freshness::AsItIs,
    };
    let opened = open(reached, credential, &context.local()?, freshness, &context.clock)?;
    tell(context, &opened)?;
    Ok(opened)
}

/// Tells of everything that was not as it should be.
fn tell(context: &Context, opened: &Opened) -> Result<(), Failure> {
    let out = &context.out;
    if let Some(why) = &opened.rebuilt {
        match (opened.repo.keys().can_read(), why.starts_with("there was none")) {
            (true, true) => tracing::info!("a new index of the repository was made"),
            (true, false) => {
                out.warning(&format!("the local index was made anew from the log: {why}"));
            }
            (false, true) => out.note(
                "This machine has no index of the repository yet, and a writer key cannot read \
                 one: everything is uploaded.",
            ),
            (false, false) => out.warning(&format!(
                "the local index had to be thrown away, and a writer key cannot make it anew from \
                 the log, so everything is uploaded again: {why}"
            )),
        }
    }
    tell_problems(context, &opened.problems);
    if let Some((error, synced)) = &opened.offline {
        let zone = context.zone_to_show();
        let known = synced.map_or_else(String::new, |at| show::time(&zone, at));
        out.warning(&format!(
            "the store cannot be asked for what is new; this is what was known at {known}: {}",
            error_chain(error)
        ));
    }
    Ok(())
}

/// Tells of objects of which nothing, or not all, is believed.
pub fn tell_problems(context: &Context, problems: &[(String, String)]) {
    for (object, why) in problems {
        context.met_damage();
        context.out.warning(&format!("{object}: {why}"));
    }
}

/// Opens the repository to read from it, has something asked, and tells of what went wrong
/// meanwhile. An index that proves damaged is made anew, and it is asked once more.
///
/// # Errors
///
/// If the repository cannot be opened or read, and what `ask` returns.
pub fn ask<T>(
    context: &Context,
    ask: impl Fn(&Arc<dyn Library>) -> crate::ops::Result<T>,
) -> Result<(Arc<dyn Library>, T), Failure> {
    let mut opened = open_repository(context, Need::Read(Freshness::IfPossible))?;
    let before = opened.problems.len();
    let library = library(context, &opened, ReaderOptions::default())?;
    let answer = opened.healing(|_| ask(&library))?;
    tell_problems(context, opened.problems.get(before..).unwrap_or_default());
    Ok((library, answer))
}

/// The repository as what views are made of.
///
/// # Errors
///
/// If the keys at hand cannot read.
pub fn library(
    context: &Context,
    opened: &Opened,
    options: ReaderOptions,
) -> Result<Arc<dyn Library>, Failure> {
    Ok(Arc::new(Shelf::open(&opened.repo, &context.local()?, options)?))
}
