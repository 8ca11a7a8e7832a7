//! `asof follow`.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::backup::{host_name, user_name};
use crate::base::{Kind, Stop, error_chain, pause};
use crate::cli::args::FollowArgs;
use crate::cli::config::{SourceConfig, SourceKind};
use crate::cli::context::Context;
use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, file, reason};
use crate::cli::hold;
use crate::cli::notify::Manager;
use crate::cli::open::{Need, open_until};
use crate::cli::publish::file::StatusFile;
use crate::cli::publish::socket::{SocketLimits, StatusSocket};
use crate::cli::show::{Done, count};
use crate::ops::follow::status::{FollowStatus, Process, State, StatusBoard};
use crate::ops::follow::{FollowOptions, Origin, follow as follow_source};
use crate::repo::writer::WriterOptions;
use crate::source::path::shown;

/// The status is written at most so often.
const STATUS_EVERY: Duration = Duration::from_millis(500);
/// So much time has what was captured to reach the store after the wish to stop. What does
/// not reach it waits for the next time.
const LAST: Duration = Duration::from_secs(90);
/// Only its owner may read it: a source's name tells something.
const STATUS_MODE: u32 = 0o600;

/// Follows databases until it is stopped.
pub fn follow(context: &Context, args: &FollowArgs) -> Result<Done, Failure> {
    let sources = sources(context, args)?;
    let is_open = Stop::new();
    let opened = open_until(context, Need::Write, &calls(&context.stop, &is_open))?;
    is_open.raise();
    let repo = &opened.repo;
    for (name, _) in &sources {
        repo.check_source(name)?;
    }
    let id = hex::encode(&repo.config().repository.as_bytes()[..8]);
    let root = state_dir(context, args)?.join("follow").join(id);
    let all: Vec<FollowOptions> = sources
        .iter()
        .map(|(name, source)| options(args, &root, name, source))
        .collect::<Result<_, _>>()?;
    let own = match all.as_slice() {
        [only] => only.directory.clone(),
        _ => root.clone(),
    };
    std::fs::create_dir_all(&own).map_err(file(&own))?;
    let process = Process {
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").into(),
        started: context.now(),
    };
    let board = StatusBoard::new(process, context.clock.clone());
    let manager = Manager::of(&context.env, std::process::id())?;
    let path = args.status_file.clone().unwrap_or_else(|| own.join("status.json"));
    let written = StatusFile::new(board.clone(), path, STATUS_MODE, STATUS_EVERY);
    let socket = args.socket.clone().unwrap_or_else(|| own.join("status.sock"));
    let socket = StatusSocket::bind(&socket, STATUS_MODE, SocketLimits::default())?;
    // Ended after the followers, so that what is told last is their end.
    let over = Stop::new();
    let failed: Mutex<Vec<(String, crate::ops::Error)>> = Mutex::default();
    std::thread::scope(|scope| {
        scope.spawn(|| written.run(&over, |error| tracing::warn!(%error, "no status is written")));
        scope.spawn(|| socket.serve(&board, &over));
        scope.spawn(|| tell(context, &board, &manager, &over));
        std::thread::scope(|scope| {
            for options in &all {
                let reporter = board.enter(&options.origin.source);
                let (failed, stop) = (&failed, &context.stop);
                scope.spawn(move || {
                    let outcome = follow_source(repo, options, &reporter, stop);
                    if let Err(error) = outcome {
                        reporter.failed(error_chain(&error));
                        reporter.state(State::Stopped);
                        context.out.error(&error);
                        let source = options.origin.source.clone();
                        context.out.note(&format!("asof: {source} is not followed any more"));
                        failed.lock().unwrap_or_else(PoisonError::into_inner).push((source, error));
                    }
                });
            }
        });
        let _ = manager.stopping();
        over.raise();
    });
    match ended(&failed.into_inner().unwrap_or_else(PoisonError::into_inner)) {
        Some(failure) => Err(failure),
        None => Ok(Done::new(format!("followed {}", count(all.len() as u64, "source", "sources")))),
    }
}

/// What there is to say of the sources that were not followed to the end: which, and why. The
/// first decides how the process ends, since what came later may follow from the wish to stop.
fn ended(failed: &[(String, crate::ops::Error)]) -> Option<Failure> {
    let kind = failed.first()?.1.kind();
    let why: Vec<String> =
        failed.iter().map(|(source, error)| format!("{source}: {}", error_chain(error))).collect();
    let what = format!("not everything was followed to its end: {}", why.join("; "));
    let hint = "what was captured and not published waits on this machine: start it again";
    let failure = Failure::told(what, reason(kind).into(), Exit::of(kind), Some(hint.into()));
    Some(if kind == Kind::Interrupted { failure } else { failure.standing() })
}

/// What ends calls to the store: the wish to stop, until the repository is open; then it,
/// and some time, since what was captured is still to be published.
fn calls(stop: &Stop, is_open: &Stop) -> Stop {
    let calls = Stop::new();
    let (stop, is_open, end) = (stop.clone(), is_open.clone(), calls.clone());
    std::thread::spawn(move || {
        while pause(Duration::from_secs(3600), &stop) {}
        if is_open.is_raised() {
            let _ = pause(LAST, &Stop::new());
        }
        end.raise();
    });
    calls
}

/// The databases that are to be followed, by name.
fn sources<'c>(
    context: &'c Context,
    args: &FollowArgs,
) -> Result<Vec<(String, &'c SourceConfig)>, Failure> {
    let is_database = |source: &SourceConfig| matches!(source.kind, SourceKind::Sqlite { .. });
    if args.all {
        let defined = context.config.sources.iter().filter(|(_, source)| is_database(source));
        let found: Vec<_> = defined.map(|(name, source)| (name.clone(), source)).collect();
        return match found.is_empty() {
            true => Err(Failure::usage("the configuration file defines no database")
                .hint("define one: asof source add NAME sqlite:/path/to/database")),
            false => Ok(found),
        };
    }
    let mut found = Vec::new();
    for name in &args.sources {
        let source = context.config.defined_source(name)?;
        if !is_database(source) {
            return Err(Failure::usage(format!("the source {name} is no database"))
                .hint(format!("asof backup {name}")));
        }
        if found.iter().all(|(known, _)| known != name) {
            found.push((name.clone(), source));
        }
    }
    Ok(found)
}

/// Where what must outlive the process is kept.
fn state_dir(context: &Context, args: &FollowArgs) -> Result<PathBuf, Failure> {
    let absolute = |name: &str| context.env.path(name).filter(|dir| dir.is_absolute());
    let dir = args
        .state_dir
        .clone()
        .or_else(|| absolute("XDG_STATE_HOME").map(|dir| dir.join("asof")))
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state/asof")));
    let Some(dir) = dir else {
        let what = "there is no directory for what is captured: neither HOME nor XDG_STATE_HOME is \
                    set";
        return Err(Failure::usage(what).hint("give one with --state-dir"));
    };
    std::path::absolute(&dir).map_err(file(&dir))
}

fn options(
    args: &FollowArgs,
    root: &Path,
    name: &str,
    source: &SourceConfig,
) -> Result<FollowOptions, Failure> {
    use std::os::unix::ffi::OsStrExt;
    let SourceKind::Sqlite { path } = &source.kind else {
        return Err(Failure::usage(format!("the source {name} is no database")));
    };
    let stream = &source.stream;
    Ok(FollowOptions {
        origin: Origin {
            source: name.to_owned(),
            kind: "sqlite",
            path: path.as_os_str().as_bytes().to_vec(),
            host: source.host.clone().unwrap_or_else(host_name),
            user: user_name(),
        },
        database: path.clone(),
        directory: root.join(name),
        interval: args.interval.unwrap_or(stream.interval),
        spool_limit: args.spool_limit.unwrap_or(stream.spool_limit),
        sync: args.sync || stream.sync,
        holder: (args.sync || stream.sync).then(hold::program),
        snapshot_every: args.snapshot_every,
        writer: WriterOptions::default(),
    })
}

/// Tells people and the service manager how things stand, until `over` is raised.
fn tell(context: &Context, board: &StatusBoard, manager: &Manager, over: &Stop) {
    let mut seen = 0;
    let mut before: Vec<(String, State, Option<String>)> = Vec::new();
    let mut ready = false;
    let beat = manager.alive_every().unwrap_or(Duration::from_secs(1)).min(Duration::from_secs(1));
    while !over.is_raised() {
        seen = board.wait_for_change(seen, beat);
        let (_, status) = board.read();
        let now = rows(&status);
        for (source, state, error) in &now {
            let old = before.iter().find(|(known, _, _)| known == source);
            if old.is_none_or(|(_, was, _)| was != state) {
                context.out.note(&format!("asof: {source}: {}", state.word()));
            }
            if let Some(error) = error
                && old.is_none_or(|(_, _, was)| was.as_ref() != Some(error))
            {
                context.out.warning(&format!("{source}: {}", shown(error.as_bytes())));
            }
        }
        let is_up = |state: &State| !matches!(state, State::Starting | State::Base);
        if !ready && !now.is_empty() && now.iter().all(|(_, state, _)| is_up(state)) {
            ready = true;
            let _ = manager.ready();
        }
        if now != before {
            let texts: Vec<String> =
                now.iter().map(|(name, state, _)| format!("{name} {}", state.word())).collect();
            let _ = manager.status(&texts.join(", "));
        }
        before = now;
        // Of a follower that hangs the manager is to learn.
        if manager.alive_every().is_some_and(|every| board.longest_silence() < every) {
            let _ = manager.alive();
        }
    }
}

fn rows(status: &FollowStatus) -> Vec<(String, State, Option<String>)> {
    let error = |row: &crate::ops::follow::status::Followed| {
        row.last_error.as_ref().map(|error| error.message.clone())
    };
    status.sources.iter().map(|row| (row.source.clone(), row.state, error(row))).collect()
}
