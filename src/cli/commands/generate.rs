//! `asof completions`, `asof man`, `asof version`.

use std::path::Path;

use clap::CommandFactory;

use crate::cli::args::Cli;
use crate::cli::context::Context;
use crate::cli::failure::{Failure, file};
use crate::cli::show::Done;
use crate::format::FORMAT_VERSION;

/// Writes a completion script.
pub fn completions(context: &Context, shell: clap_complete::Shell) -> Result<Done, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "asof", &mut script);
    context.out.bytes(&script)?;
    Ok(Done { raw: true, ..Done::default() })
}

/// Writes manual pages: all into a directory, or the first to standard output.
pub fn man(context: &Context, dir: Option<&Path>) -> Result<Done, Failure> {
    let Some(dir) = dir else {
        let mut page = Vec::new();
        let rendered = clap_mangen::Man::new(Cli::command()).render(&mut page);
        rendered.map_err(file(Path::new("asof.1")))?;
        context.out.bytes(&page)?;
        return Ok(Done { raw: true, ..Done::default() });
    };
    std::fs::create_dir_all(dir).map_err(file(dir))?;
    clap_mangen::generate_to(Cli::command().disable_help_subcommand(true), dir)
        .map_err(file(dir))?;
    let message = format!("wrote the manual pages to {}", dir.display());
    context.out.say(&message)?;
    Ok(Done::new(message).field("dir", &dir.display().to_string()))
}

/// Shows versions.
pub fn version(context: &Context) -> Result<Done, Failure> {
    let version = env!("CARGO_PKG_VERSION");
    let message = format!("asof {version}, repository format {FORMAT_VERSION}");
    context.out.line(&message)?;
    Ok(Done::new(message).field("version", &version).field("format_version", &FORMAT_VERSION))
}
