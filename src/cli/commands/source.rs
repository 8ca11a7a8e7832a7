//! `asof source`: what the configuration file says of sources, written and shown.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::base::check_source_name;
use crate::base::units::{show_size, write_duration};
use crate::cli::args::{SourceAddArgs, SourceCommand};
use crate::cli::config::url::SourceUrl;
use crate::cli::config::{
    Config, Size, SourceConfig, SourceKind, SourceTable, define_source, remove_source,
};
use crate::cli::context::Context;
use crate::cli::failure::{Failure, file};
use crate::cli::output::{Align, Table, printable};
use crate::cli::show::{Done, count};

/// Defines, lists, shows or removes sources.
pub fn source(context: &Context, command: SourceCommand) -> Result<Done, Failure> {
    match command {
        SourceCommand::Add(args) => add(context, &args),
        SourceCommand::List => list(context),
        SourceCommand::Show { name } => show(context, &name),
        SourceCommand::Remove { name } => remove(context, &name),
    }
}

fn add(context: &Context, args: &SourceAddArgs) -> Result<Done, Failure> {
    let name = &args.name;
    check_source_name(name)?;
    let table = table(context, args)?;
    let path = context.config.path_to_write(context.global.config.as_deref(), &context.env)?;
    let change = define_source(&path, &context.env, name, &table, args.replace)?;
    let source = change.config.defined_source(name)?;
    warn_of_missing(context, source);
    let row = Row::of(&change.config, name, source);
    let did = if change.was_there { "Replaced" } else { "Defined" };
    let next = match &source.kind {
        SourceKind::Directory { .. } => format!("asof backup {name}"),
        SourceKind::Sqlite { .. } => format!("asof follow {name}"),
    };
    let file = change.path.display().to_string();
    context.out.say(&format!(
        "{did} the source {name} in {file}: {}\nNext: {next}",
        printable(row.urls.join(" ").as_bytes())
    ))?;
    let done = Done::new(format!("{} the source {name}", did.to_lowercase()));
    Ok(done.field("file", &file).field("source", &row))
}

/// What was typed, as it is written into the file.
fn table(context: &Context, args: &SourceAddArgs) -> Result<SourceTable, Failure> {
    let urls: Vec<SourceUrl> =
        args.urls.iter().map(|url| SourceUrl::parse(url)).collect::<Result<_, _>>()?;
    let mut table = SourceTable::default();
    for url in &urls {
        let path = absolute(url.path().as_ref())?;
        match url {
            SourceUrl::Directory(_) => table.paths.push(path.into()),
            SourceUrl::Sqlite(typed) if Path::new(typed).is_dir() => {
                let what =
                    format!("{} is a directory and no database", printable(typed.as_bytes()));
                return Err(Failure::usage(what).hint("name the database's file in it"));
            }
            SourceUrl::Sqlite(_) if urls.len() == 1 => {
                table.url = Some(SourceUrl::Sqlite(path).to_string());
            }
            SourceUrl::Sqlite(_) => {
                let what = "a database is a source by itself: several directories can be one \
                            source, and nothing else";
                return Err(Failure::usage(what).hint("give each database a name of its own"));
            }
        }
    }
    let leave_out = &args.leave_out;
    let files = leave_out.exclude_file.iter().map(|path| absolute(path).map(PathBuf::from));
    Ok(SourceTable {
        exclude: leave_out.exclude.clone(),
        exclude_file: files.collect::<Result<_, _>>()?,
        exclude_if_present: leave_out.exclude_if_present.clone(),
        exclude_caches: leave_out.exclude_caches,
        exclude_larger_than: leave_out.exclude_larger_than.map(Size),
        one_file_system: leave_out.one_file_system,
        skip_if_unchanged: args.skip_if_unchanged,
        interval: args.interval,
        spool_limit: args.spool_limit.map(Size),
        sync: args.sync.then_some(true),
        all_for: args.all_for,
        hourly_for: args.hourly_for,
        daily_for: args.daily_for,
        tags: args.tags.clone(),
        host: args.host.clone(),
        // What was typed, and not what ASOF_PROFILE says for now.
        profile: context.global.profile.clone(),
        ..table
    })
}

/// A path as it is written into the file: absolute, and with nothing in it that would be
/// expanded when it is read.
fn absolute(path: &Path) -> Result<String, Failure> {
    let path = std::path::absolute(path).map_err(file(path))?;
    let text = path.to_str().ok_or_else(|| {
        let shown = printable(path.as_os_str().as_encoded_bytes());
        let what =
            format!("{shown} is not text in UTF-8, and cannot stand in a configuration file");
        Failure::usage(what).hint("name the directory above it")
    })?;
    Ok(text.replace('$', "$$"))
}

/// What is not there yet may come later, so it is no failure.
fn warn_of_missing(context: &Context, source: &SourceConfig) {
    let paths: Vec<&PathBuf> = match &source.kind {
        SourceKind::Directory { paths } => paths.iter().collect(),
        SourceKind::Sqlite { path } => vec![path],
    };
    for path in paths.into_iter().filter(|path| !path.exists()) {
        let path = printable(path.as_os_str().as_encoded_bytes());
        context.out.warning(&format!("there is nothing at {path} yet"));
    }
}

fn list(context: &Context) -> Result<Done, Failure> {
    let config = &context.config;
    let rows: Vec<Row> =
        config.sources.iter().map(|(name, source)| Row::of(config, name, source)).collect();
    let left = Align::Left;
    let mut table =
        Table::new(&[("NAME", left), ("KIND", left), ("WHERE", left), ("PROFILE", left)]);
    for row in &rows {
        let place = printable(row.places.join(" ").as_bytes());
        let profile = row.profile.clone().unwrap_or_default();
        table.row([row.name.clone(), row.kind.to_owned(), place, profile]);
    }
    if rows.is_empty() {
        context.out.note("No source is defined; `asof source add NAME PATH` defines one.");
    } else {
        context.out.table(&table)?;
    }
    let done = Done::new(count(rows.len() as u64, "source", "sources"));
    Ok(done.field("file", &file_of(config)).field("sources", &rows))
}

fn show(context: &Context, name: &str) -> Result<Done, Failure> {
    let config = &context.config;
    let details = Details::of(config, name, config.defined_source(name)?);
    let mut table = Table::new(&[("", Align::Left), ("", Align::Left)]);
    for (field, value) in details.lines() {
        table.row([field, &printable(value.as_bytes())]);
    }
    context.out.table(&table)?;
    let done = Done::new(format!("the source {name}"));
    Ok(done.field("file", &file_of(config)).field("source", &details))
}

fn remove(context: &Context, name: &str) -> Result<Done, Failure> {
    // Named by the error if it is not there, also if there is no file at all.
    context.config.defined_source(name)?;
    let path = context.config.path_to_write(context.global.config.as_deref(), &context.env)?;
    let change = remove_source(&path, &context.env, name)?;
    let file = change.path.display().to_string();
    context.out.say(&format!(
        "Removed the definition of {name} from {file}. What is stored of it stays: `asof snapshots \
         --source {name}` lists it."
    ))?;
    if has_rules(&change.config, name) {
        context.out.note(&format!(
            "asof: {file} still has rules of `asof forget` for {name}; they hold for what is stored"
        ));
    }
    Ok(Done::new(format!("removed the definition of {name}")).field("file", &file))
}

/// Whether `forget` has rules for this source.
fn has_rules(config: &Config, name: &str) -> bool {
    let of_profiles = config.profiles.values().filter_map(|profile| profile.retention.as_ref());
    let mut all = config.retention.iter().chain(of_profiles);
    all.any(|keep| keep.sources.contains_key(name))
}

fn file_of(config: &Config) -> Option<String> {
    config.path.as_ref().map(|path| path.display().to_string())
}

/// A source in the list, and for programs.
#[derive(Serialize)]
struct Row {
    name: String,
    kind: &'static str,
    /// As `source add` takes them.
    urls: Vec<String>,
    #[serde(skip)]
    places: Vec<String>,
    /// The profile that is used if none is named.
    profile: Option<String>,
}

impl Row {
    fn of(config: &Config, name: &str, source: &SourceConfig) -> Row {
        let urls = source.kind.urls();
        Row {
            name: name.to_owned(),
            kind: source.kind.word(),
            places: urls.iter().map(|url| url.path().to_owned()).collect(),
            urls: urls.iter().map(SourceUrl::to_string).collect(),
            profile: config.profile_name(None, Some(name)).map(str::to_owned),
        }
    }
}

/// All that is defined of a source. What its kind has no use for is left out.
#[derive(Serialize)]
struct Details {
    #[serde(flatten)]
    row: Row,
    tags: Vec<String>,
    host: Option<String>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    backup: Option<Backup>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    stream: Option<Stream>,
}

/// How directories are backed up.
#[derive(Serialize)]
struct Backup {
    exclude: Vec<String>,
    exclude_file: Vec<PathBuf>,
    exclude_if_present: Vec<String>,
    exclude_caches: bool,
    exclude_larger_than_bytes: Option<u64>,
    one_file_system: bool,
    skip_if_unchanged: bool,
}

/// How a database is followed.
#[derive(Serialize)]
struct Stream {
    interval_seconds: f64,
    #[serde(skip)]
    interval: String,
    spool_limit_bytes: u64,
    sync: bool,
    #[serde(flatten)]
    thin: std::collections::BTreeMap<&'static str, String>,
}

impl Details {
    fn of(config: &Config, name: &str, source: &SourceConfig) -> Details {
        let (backup, stream) = match &source.kind {
            SourceKind::Directory { .. } => (
                Some(Backup {
                    exclude: source.exclude.clone(),
                    exclude_file: source.exclude_file.clone(),
                    exclude_if_present: source.exclude_if_present.clone(),
                    exclude_caches: source.exclude_caches,
                    exclude_larger_than_bytes: source.exclude_larger_than.map(|size| size.0),
                    one_file_system: source.one_file_system,
                    skip_if_unchanged: source.skip_if_unchanged,
                }),
                None,
            ),
            SourceKind::Sqlite { .. } => (
                None,
                Some(Stream {
                    interval_seconds: source.stream.interval.as_secs_f64(),
                    interval: write_duration(source.stream.interval),
                    spool_limit_bytes: source.stream.spool_limit,
                    sync: source.stream.sync,
                    thin: [
                        ("all_for", source.stream.thin.all_for),
                        ("hourly_for", source.stream.thin.hourly_for),
                        ("daily_for", source.stream.thin.daily_for),
                    ]
                    .into_iter()
                    .filter_map(|(key, span)| Some((key, write_duration(span?))))
                    .collect(),
                }),
            ),
        };
        let (tags, host) = (source.tags.clone(), source.host.clone());
        Details { row: Row::of(config, name, source), tags, host, backup, stream }
    }

    /// What people are shown: what is not empty.
    fn lines(&self) -> Vec<(&'static str, String)> {
        let yes = |set: bool| if set { "yes".to_owned() } else { String::new() };
        let mut lines = vec![
            ("name", self.row.name.clone()),
            ("kind", self.row.kind.to_owned()),
            ("where", self.row.places.join(" ")),
            ("profile", self.row.profile.clone().unwrap_or_default()),
            ("host", self.host.clone().unwrap_or_default()),
            ("tags", self.tags.join(" ")),
        ];
        if let Some(backup) = &self.backup {
            let files: Vec<_> =
                backup.exclude_file.iter().map(|path| path.to_string_lossy()).collect();
            lines.extend([
                ("exclude", backup.exclude.join(" ")),
                ("exclude file", files.join(" ")),
                ("exclude if present", backup.exclude_if_present.join(" ")),
                ("exclude caches", yes(backup.exclude_caches)),
                (
                    "exclude larger than",
                    backup.exclude_larger_than_bytes.map(show_size).unwrap_or_default(),
                ),
                ("one file system", yes(backup.one_file_system)),
                ("skip if unchanged", yes(backup.skip_if_unchanged)),
            ]);
        }
        if let Some(stream) = &self.stream {
            lines.extend([
                ("interval", stream.interval.clone()),
                ("spool limit", show_size(stream.spool_limit_bytes)),
                ("sync", if stream.sync { "yes" } else { "no" }.to_owned()),
            ]);
            lines.extend(stream.thin.iter().map(|(key, span)| (*key, span.clone())));
        }
        lines.retain(|(_, value)| !value.is_empty());
        lines
    }
}
