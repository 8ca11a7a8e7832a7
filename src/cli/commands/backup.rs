//! `asof backup`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::base::units::{show_duration, show_size};
use crate::base::{UnixTime, check_source_name, default_source_name};
use crate::cli::args::BackupArgs;
use crate::cli::config::{SourceConfig, SourceKind};
use crate::cli::context::Context;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::open::{Need, open_repository, tell_problems};
use crate::cli::show::{Done, count, time};
use crate::ops;
use crate::ops::backup::{BackupOptions, BackupReport, Input, backup_stream};
use crate::ops::open::Opened;
use crate::repo::writer::WriterOptions;
use crate::source::path::as_path;
use crate::source::{Roots, RuleOptions, read_list};
use crate::view::TimeSpec;

/// The only path that was given, if it has the form of a source's name: without `/`.
pub fn bare_name(args: &BackupArgs) -> Option<String> {
    match args.paths.as_slice() {
        [only] if args.files_from.is_empty() => is_bare(only),
        _ => None,
    }
}

fn is_bare(path: &Path) -> Option<String> {
    let text = path.to_str()?;
    (!text.contains('/') && text != "." && text != "..").then(|| text.to_owned())
}

/// The source of the configuration file that is to be backed up, if it is one. What has
/// the form of a name and is none is a path, if there is a file there.
fn named_source(context: &Context, args: &BackupArgs) -> Result<Option<String>, Failure> {
    let Some(name) = bare_name(args).filter(|_| args.source.is_none()) else { return Ok(None) };
    match context.config.source(&name) {
        Ok(_) => Ok(Some(name)),
        Err(_) if Path::new(&name).exists() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What is to be backed up.
enum What {
    Paths(Vec<PathBuf>),
    Stream(String, Input),
}

/// Takes a snapshot.
pub fn backup(context: &Context, args: &BackupArgs, started: Instant) -> Result<Done, Failure> {
    let name = named_source(context, args)?;
    let defined = name.as_deref().map(|name| context.config.source(name)).transpose()?.cloned();
    if let (Some(name), Some(SourceKind::Sqlite { path })) =
        (&name, defined.as_ref().map(|defined| &defined.kind))
    {
        return Err(followed(name, path));
    }
    let host = args.host.clone().or_else(|| defined.as_ref().and_then(|d| d.host.clone()));
    let host = host.unwrap_or_else(host_name);
    let (what, default_name) = what_to_back_up(args, defined.as_ref(), &host)?;
    let source = name.or_else(|| args.source.clone()).unwrap_or(default_name);
    check_source_name(&source)?;
    let expires = expires(context, args)?;

    let mut opened = open_repository(context, Need::Write)?;
    let mut skip = vec![context.local()?.cache_dir];
    skip.extend(opened.repo.store().local_path().map(Path::to_owned));
    let options = BackupOptions { expires, ..options(args, defined, source, host, skip) };
    opened.repo.check_source(&options.source)?;
    let before = opened.problems.len();
    let watch = context.watch();
    let progress = watch.progress();
    let report = match what {
        What::Paths(paths) => opened.healing(|opened| {
            ops::backup::backup(&opened.repo, &paths, &options, &progress, &context.stop)
        }),
        What::Stream(name, input) => {
            backup_stream(&opened.repo, &name, input, &options, &progress, &context.stop)
        }
    };
    watch.finish();
    tell_problems(context, opened.problems.get(before..).unwrap_or_default());
    finish(context, &opened, &options, &report?, started)
}

/// Copying a database file while it is written to gives a mixture that may not open.
fn followed(name: &str, path: &Path) -> Failure {
    Failure::usage(format!(
        "the source {name} is the database {}, which is followed and not copied: run `asof follow \
         {name}`",
        path.display()
    ))
}

/// From when on the snapshot is no longer wanted.
fn expires(context: &Context, args: &BackupArgs) -> Result<Option<UnixTime>, Failure> {
    let now = context.now();
    let end = match (&args.expires_at, args.expires_in) {
        (Some(text), _) => Some(TimeSpec::parse(text, &context.zone()?, now)?.instant),
        (None, span) => span.map(|span| now.plus(span)),
    };
    match end {
        Some(end) if end <= now => Err(Failure::usage(format!(
            "a snapshot that expires at {end} would be forgotten at once: name a time to come"
        ))),
        end => Ok(end),
    }
}

fn what_to_back_up(
    args: &BackupArgs,
    defined: Option<&SourceConfig>,
    host: &str,
) -> Result<(What, String), Failure> {
    if args.stdin || args.command {
        let program = args.argv.first().map(|word| Path::new(word).file_name());
        let program = program.flatten().and_then(OsStr::to_str).unwrap_or("stdin");
        let name = args.stdin_name.as_deref().unwrap_or(program).to_owned();
        let source = default_source_name(host, &[&name]);
        let input = if args.command {
            Input::Command(args.argv.clone())
        } else {
            Input::Stream(Box::new(std::io::stdin()))
        };
        return Ok((What::Stream(name, input), source));
    }
    if args.stdin_name.is_some() {
        return Err(Failure::usage("--stdin-name needs --stdin or --command"));
    }
    let mut paths = match defined.map(|defined| &defined.kind) {
        Some(SourceKind::Directory { paths }) => paths.clone(),
        // `backup` itself has refused to copy a database.
        Some(SourceKind::Sqlite { .. }) => Vec::new(),
        None => args.paths.clone(),
    };
    for list in &args.files_from {
        paths.extend(read_list(list)?);
    }
    if paths.is_empty() {
        return Err(Failure::usage("nothing was named to back up")
            .hint("name directories, as in `asof backup /etc`, or see `asof backup --help`"));
    }
    let roots = Roots::new(&paths)?;
    let names: Vec<&Path> = roots.paths().iter().map(|path| as_path(path)).collect();
    let source = default_source_name(host, &names);
    Ok((What::Paths(paths), source))
}

fn options(
    args: &BackupArgs,
    defined: Option<SourceConfig>,
    source: String,
    host: String,
    skip: Vec<PathBuf>,
) -> BackupOptions {
    let defined = defined.unwrap_or_default();
    let both = |mut first: Vec<String>, more: &[String]| {
        first.extend_from_slice(more);
        first
    };
    let leave_out = &args.leave_out;
    let mut exclude_file = defined.exclude_file;
    exclude_file.extend_from_slice(&leave_out.exclude_file);
    let larger = leave_out.exclude_larger_than.or(defined.exclude_larger_than.map(|size| size.0));
    let default = WriterOptions::default();
    BackupOptions {
        source,
        host,
        user: user_name(),
        tags: both(defined.tags, &args.tags),
        rules: RuleOptions {
            exclude: both(defined.exclude, &leave_out.exclude),
            exclude_file,
            exclude_if_present: both(defined.exclude_if_present, &leave_out.exclude_if_present),
            exclude_caches: defined.exclude_caches || leave_out.exclude_caches,
            exclude_larger_than: larger,
            one_file_system: defined.one_file_system || leave_out.one_file_system,
        },
        expires: None,
        skip,
        skip_if_unchanged: defined.skip_if_unchanged || args.skip_if_unchanged,
        change_roots: args.change_roots,
        force: args.force,
        writer: WriterOptions {
            level: args.compression_level.unwrap_or(default.level),
            dry_run: args.dry_run,
            ..default
        },
    }
}

/// This machine's name.
pub(super) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Who runs this.
pub(super) fn user_name() -> String {
    let uid = nix::unistd::geteuid();
    match nix::unistd::User::from_uid(uid) {
        Ok(Some(user)) => user.name,
        _ => uid.to_string(),
    }
}

/// Shows how it ended.
fn finish(
    context: &Context,
    opened: &Opened,
    options: &BackupOptions,
    report: &BackupReport,
    started: Instant,
) -> Result<Done, Failure> {
    let zone = context.zone_to_show();
    let seconds = started.elapsed();
    let (counts, written) = (report.counts, report.written);
    let source = &report.source;
    let title = match report.snapshot {
        Some(id) => format!("snapshot {} of {source}, {}", id.short(), time(&zone, report.taken)),
        None if options.writer.dry_run => format!("{source}: a dry run, nothing was stored"),
        None => format!("{source}: nothing changed, so no snapshot was made"),
    };
    let stored = if options.writer.dry_run { "would store at most" } else { "stored" };
    let mut met = vec![
        count(counts.new, "new", "new"),
        count(counts.changed, "changed", "changed"),
        format!(
            "{} of {}",
            count(counts.unchanged, "unchanged", "unchanged"),
            count(counts.files, "file", "files")
        ),
    ];
    if counts.errors > 0 {
        met.push(count(counts.errors, "error", "errors"));
    }
    if counts.unsteady > 0 {
        met.push(format!("{} while read", count(counts.unsteady, "changed", "changed")));
    }
    context.out.say(&title)?;
    context.out.say(&format!("  {}", met.join(", ")))?;
    context.out.say(&format!(
        "  read {}, {stored} {}; {}, {}",
        show_size(counts.bytes_read),
        // Nothing is packed in a dry run: what is known is how much would be new.
        show_size(if options.writer.dry_run { written.bytes_new } else { written.bytes_stored }),
        count(opened.reached.requests().calls(), "request", "requests"),
        show_duration(seconds)
    ))?;
    let done = Done::new(title).with(report).field("seconds", &seconds.as_secs_f64());
    let done = done.field("dry_run", &options.writer.dry_run);
    Ok(match Exit::of_problems(counts.errors) {
        Exit::Done => done,
        exit => done.ending(exit, "some-files-unreadable"),
    })
}
