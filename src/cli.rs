//! The command line: what is typed, what is shown, and how it ends.
//!
//! Everything here is about people and shells. What a command *does* is an operation
//! of a lower layer, which a daemon could call as well; here its options are read,
//! its progress drawn, its report printed, and its failure turned into an exit code.
//!
//! ```text
//! args  what was typed → context  with environment and configuration file
//!   → commands/<verb>  open → ops::<verb> → what to show
//!     → here: the report, the exit code
//! ```

// Its comments are the help texts: what looks like a link there is a selector.
#[allow(rustdoc::broken_intra_doc_links, rustdoc::invalid_rust_codeblocks, rustdoc::bare_urls)]
pub mod args;
pub mod ask;
mod commands;
pub mod config;
pub mod context;
pub mod env;
pub mod exit;
pub mod failure;
mod fstab;
mod hold;
#[allow(rustdoc::broken_intra_doc_links)]
pub mod keep;
mod log;
pub mod notify;
mod open;
pub mod output;
pub mod publish;
pub mod secret;
mod show;
mod signals;
pub mod terminal;

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::base::pause::monotonic;
use args::{Cli, Command, SourceCommand};
use context::Context;
use exit::Exit;
use failure::Failure;
use output::{Out, OutputError, Told};
use show::Done;

/// The program: reads the command line of the process, does it, and says how it ended.
#[must_use]
pub fn main() -> ExitCode {
    let mut argv: Vec<OsString> = std::env::args_os().collect();
    if hold::is_holder(&argv) {
        return hold::run(&argv).into();
    }
    if fstab::is_helper(&argv) {
        match fstab::translate(&argv) {
            Ok(Some(translated)) => argv = translated,
            Ok(None) => return Exit::Done.into(),
            Err(wrong) => {
                Out::process(false, false).error(Failure::usage(wrong).error());
                return Exit::Usage.into();
            }
        }
    }
    let cli = match Cli::read(&argv) {
        Ok(cli) => cli,
        Err(error) => {
            // If it cannot be shown there is nobody left to tell.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Done }.into();
        }
    };
    let out = Arc::new(Out::process(cli.global.json, cli.global.quiet));
    log::start(cli.global.verbose, cli.global.in_background);
    match run(cli, argv, &out) {
        Ok(exit) => exit.into(),
        Err(OutputError::Closed) => output::end_as_if_by_sigpipe(),
        Err(error) => {
            out.error(&error);
            Exit::Failed.into()
        }
    }
}

/// Does what was typed and reports it. Fails only if the report cannot be written.
fn run(cli: Cli, argv: Vec<OsString>, out: &Arc<Out>) -> Result<Exit, OutputError> {
    let started = monotonic();
    let stop = signals::listen();
    let Cli { global, command } = cli;
    let source = named_source(&command);
    let makes = matches!(&command, Command::Source(SourceCommand::Add(_)));
    let context = Context::new(global, argv, Arc::clone(out), stop, source.as_deref(), makes);
    let context = match context {
        Ok(context) => context,
        Err(failure) => return failed(out, None, &failure),
    };
    let outcome = commands::run(&context, command, started);
    match outcome {
        Ok(done) => finished(&context, done),
        Err(failure) if failure.closed => Err(OutputError::Closed),
        Err(failure) => failed(out, Some(&context), &failure),
    }
}

/// The source of the configuration file that is backed up, if one can be meant.
fn named_source(command: &Command) -> Option<String> {
    match command {
        Command::Backup(args) => commands::backup::bare_name(args),
        Command::Follow(args) => args.sources.first().filter(|_| args.sources.len() == 1).cloned(),
        _ => None,
    }
}

fn finished(context: &Context, done: Done) -> Result<Exit, OutputError> {
    let out = &context.out;
    let damage = context.has_met_damage();
    let (exit, reason) = match (done.exit, done.reason) {
        (None | Some(Exit::Done), _) if damage => (Exit::Damage, Some("damaged")),
        (exit, reason) => (exit.unwrap_or(Exit::Done), reason),
    };
    if out.is_json() && !done.raw {
        let phase = if exit == Exit::Failed { "failed" } else { "succeeded" };
        let end = End { phase, exit, reason, message: &done.message };
        out.json(&end.object(done.fields, context.requests(), &out.told()))?;
    }
    out.finish()?;
    Ok(exit)
}

fn failed(out: &Out, context: Option<&Context>, failure: &Failure) -> Result<Exit, OutputError> {
    let asked = context.is_some_and(|context| context.stop.is_raised());
    let stopped = asked && !failure.stands;
    let (exit, reason) = match stopped {
        true => (Exit::Interrupted, "interrupted"),
        false => (failure.exit, failure.reason.as_str()),
    };
    if stopped {
        out.note("asof: interrupted");
    } else {
        out.error(failure.error());
        if let Some(hint) = &failure.hint {
            out.hint(hint);
        }
    }
    if out.is_json() {
        let message = failure.message();
        let end = End { phase: "failed", exit, reason: Some(reason), message: &message };
        let requests = context.and_then(Context::requests);
        out.json(&end.object(Map::new(), requests, &out.told()))?;
    }
    out.finish()?;
    Ok(exit)
}

/// How a command ended, for programs.
struct End<'a> {
    phase: &'static str,
    exit: Exit,
    reason: Option<&'a str>,
    message: &'a str,
}

impl End<'_> {
    /// The object that standard output carries: the report's own fields after how it ended.
    fn object(
        &self,
        fields: Map<String, Value>,
        requests: Option<crate::store::Requests>,
        told: &Told,
    ) -> Value {
        let mut object = Map::new();
        object.insert("phase".to_owned(), json!(self.phase));
        object.insert("reason".to_owned(), json!(self.reason));
        object.insert("message".to_owned(), json!(self.message));
        object.insert("exit".to_owned(), json!(self.exit.code()));
        object.insert("requests".to_owned(), json!(requests));
        object.insert("warnings".to_owned(), json!(told.warnings));
        object.insert("problems".to_owned(), json!(told.problems));
        object.extend(fields);
        Value::Object(object)
    }
}
