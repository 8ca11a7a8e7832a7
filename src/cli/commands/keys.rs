//! `asof key`.

use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde_json::json;
use zeroize::Zeroizing;

use crate::base::check_source_name;
use crate::cli::args::{KeyCommand, NewPassword};
use crate::cli::ask::Asker;
use crate::cli::context::Context;
use crate::cli::failure::{Failure, file};
use crate::cli::open::{Need, open_repository, passphrase, reach_store};
use crate::cli::output::{Align, Table, printable};
use crate::cli::secret::{Passphrase, Places, Purpose};
use crate::cli::show::{Done, count};
use crate::format::keyfile::{KeyFile, Role};
use crate::ops::keys::{self, KeyRow};
use crate::ops::open::describe;
use crate::repo::keyring;

/// The longest copy of a key that is read. Bytes.
const COPY_BYTES_MAX: u64 = 1 << 20;

/// Does one of the things that can be done with keys.
pub fn keys(context: &Context, command: KeyCommand) -> Result<Done, Failure> {
    match command {
        KeyCommand::List => list(context),
        KeyCommand::Add { read_only, label, new } => add(context, read_only, &label, &new),
        KeyCommand::Remove { id } => remove(context, &id),
        KeyCommand::Passwd { new } => passwd(context, &new),
        KeyCommand::Export { id } => export(context, id.as_deref()),
        KeyCommand::Import { file } => import(context, &file),
        KeyCommand::ExportWriter { sources, label, untrusted, file } => {
            export_writer(context, sources, &label, !untrusted, &file)
        }
    }
}

fn list(context: &Context) -> Result<Done, Failure> {
    let reached = reach_store(context, Need::Owner, false)?;
    describe(&reached)?;
    let rows = keys::list(reached.store.as_ref())?;
    let left = Align::Left;
    let mut table = Table::new(&[("ID", left), ("MAY", left), ("CREATED", left), ("LABEL", left)]);
    for row in &rows {
        if let Some(problem) = &row.problem {
            context.met_damage();
            context.out.warning(problem);
        }
        table.row([
            row.id.short(),
            row.role.map_or("unreadable", may).to_owned(),
            row.created.get(..19).unwrap_or(&row.created).replace('T', " "),
            printable(row.label.as_bytes()),
        ]);
    }
    context.out.table(&table)?;
    Ok(Done::new(count(rows.len() as u64, "key", "keys")).field("keys", &rows))
}

fn may(role: Role) -> &'static str {
    match role {
        Role::Owner => "read, write, change",
        Role::Reader => "read",
    }
}

/// Asks for the passphrase of a key that is to be made.
fn new_passphrase(context: &Context, new: &NewPassword) -> Result<Passphrase, Failure> {
    let places = Places {
        file: new.new_password_file.as_deref(),
        command: new.new_password_command.as_deref(),
        env: None,
        profile: None,
    };
    let mut ask = Asker { stop: context.stop.clone() };
    places.passphrase(Purpose::New, "the new key", &mut ask).map_err(|error| {
        let failure = Failure::from(error);
        if failure.reason == "invalid" {
            return failure.hint("give it with --new-password-file or --new-password-command");
        }
        failure
    })
}

fn add(
    context: &Context,
    read_only: bool,
    label: &str,
    new: &NewPassword,
) -> Result<Done, Failure> {
    let opened = open_repository(context, Need::Owner)?;
    opened.repo.keys().owner()?;
    let passphrase = new_passphrase(context, new)?;
    let role = if read_only { Role::Reader } else { Role::Owner };
    let cost = new.kdf_cost.into();
    let key = keyring::add(&opened.repo, role, label, passphrase.as_bytes(), cost)?;
    let row = KeyRow::of(&key);
    context.out.say(&format!("Added key {}, which may {}.", row.id.short(), may(role)))?;
    Ok(Done::new(format!("added key {}", row.id.short())).field("key", &row))
}

fn remove(context: &Context, id: &str) -> Result<Done, Failure> {
    let opened = open_repository(context, Need::Owner)?;
    let rows = keys::list(opened.repo.store().as_ref())?;
    let id = id.to_ascii_lowercase();
    let fitting: Vec<&KeyRow> =
        rows.iter().filter(|row| !id.is_empty() && row.id.to_string().starts_with(&id)).collect();
    let row = match fitting.as_slice() {
        [row] => *row,
        // Says what is wrong, whichever it is.
        _ => return Err(pick_failure(&opened, &id)),
    };
    keyring::remove(&opened.repo, row.id)?;
    context.out.say(&format!(
        "Removed key {}. Its passphrase no longer opens the repository; what its holder may have \
         kept is not taken back.",
        row.id.short()
    ))?;
    Ok(Done::new(format!("removed key {}", row.id.short())).field("removed", &row.id))
}

fn pick_failure(opened: &crate::ops::open::Opened, id: &str) -> Failure {
    match keys::pick(opened.repo.store().as_ref(), Some(id)) {
        Err(error) => error.into(),
        Ok(_) => Failure::usage("a key is named by the first digits of its id"),
    }
}

fn passwd(context: &Context, new: &NewPassword) -> Result<Done, Failure> {
    let reached = reach_store(context, Need::Owner, false)?;
    let config = describe(&reached)?;
    let old = passphrase(context, &reached)?;
    // Tried before the new one is asked for.
    keyring::unlock(reached.store.as_ref(), &config, old.as_bytes())?;
    let fresh = new_passphrase(context, new)?;
    let changed = keys::change_passphrase(
        reached.store.as_ref(),
        &config,
        old.as_bytes(),
        fresh.as_bytes(),
        new.kdf_cost.into(),
        &context.clock,
    )?;
    context.out.say(&format!(
        "Changed the passphrase: key {} takes the place of {}. Paper copies of the old one still \
         open with the old passphrase.",
        changed.new.id.short(),
        changed.old.short()
    ))?;
    Ok(Done::new("changed the passphrase").with(&changed))
}

fn export(context: &Context, id: Option<&str>) -> Result<Done, Failure> {
    let reached = reach_store(context, Need::Owner, false)?;
    let config = describe(&reached)?;
    let key: KeyFile = keys::pick(reached.store.as_ref(), id)?;
    let text = String::from_utf8_lossy(&key.encode()).into_owned();
    let place = reached.store.location();
    context.out.line(&format!(
        "Key {} of the asof repository {} in {place}
label: {}
made:  {}

This copy is worth nothing without its passphrase, which is not on it. Keep it apart from the
repository. If the files in keys/ of the repository are lost, type or scan the lines between the
marks into a file and put them back:

    asof -r {place} key import FILE

-----BEGIN ASOF KEY-----
{}
-----END ASOF KEY-----",
        key.id().short(),
        config.repository,
        printable(key.label.as_bytes()),
        key.created,
        text.trim_end()
    ))?;
    let done = Done::new(format!("exported key {}", key.id().short()));
    Ok(done.field("key", &KeyRow::of(&key)).field("text", &text))
}

fn import(context: &Context, path: &Path) -> Result<Done, Failure> {
    let reached = reach_store(context, Need::Owner, false)?;
    let config = describe(&reached)?;
    let mut bytes = Vec::new();
    if path.as_os_str() == "-" {
        let read = std::io::stdin().lock().take(COPY_BYTES_MAX).read_to_end(&mut bytes);
        read.map_err(file(Path::new("standard input")))?;
    } else {
        let copy = std::fs::File::open(path).map_err(file(path))?;
        copy.take(COPY_BYTES_MAX).read_to_end(&mut bytes).map_err(file(path))?;
    }
    let row = keys::import(reached.store.as_ref(), &config, &bytes)?;
    context.out.say(&format!("Key {} is in the repository again.", row.id.short()))?;
    Ok(Done::new(format!("imported key {}", row.id.short())).field("key", &row))
}

fn export_writer(
    context: &Context,
    sources: Vec<String>,
    label: &str,
    trusted: bool,
    path: &Path,
) -> Result<Done, Failure> {
    for source in &sources {
        check_source_name(source)?;
    }
    if path.exists() {
        let what = format!("{} exists; a writer key is written to a new file", path.display());
        return Err(Failure::usage(what));
    }
    let opened = open_repository(context, Need::Owner)?;
    let sources = (!sources.is_empty()).then_some(sources);
    let writer = keyring::export_writer(&opened.repo, label, sources.clone(), trusted)?;
    let bytes = Zeroizing::new(writer.encode());
    let mut made = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(file(path))?;
    made.write_all(&bytes).and_then(|()| made.sync_all()).map_err(file(path))?;
    let which = match &sources {
        Some(names) => format!("the source {}", names.join(" or ")),
        None => "any source".to_owned(),
    };
    context.out.say(&format!(
        "Wrote a writer key for {which} to {}.
It backs up and does nothing else: bring it to the machine that is to be backed up, and use it
with --writer-key FILE or ASOF_WRITER_KEY. Whoever has it can add snapshots of {which}, and
cannot read, change or remove any.",
        path.display()
    ))?;
    let done = Done::new(format!("wrote a writer key to {}", path.display()));
    Ok(done.with(&json!({
        "writer": writer.certificate.writer,
        "label": label,
        "sources": sources,
        "trusted": trusted,
        "file": path.display().to_string(),
    })))
}
