//! `asof upgrade`.

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::open::{Need, passphrase, reach_store};
use crate::cli::show::Done;
use crate::format::FORMAT_VERSION;
use crate::ops::upgrade::{self as op, find};

/// Upgrades a repository.
pub fn upgrade(context: &Context) -> Result<Done, Failure> {
    let reached = reach_store(context, Need::Owner, false)?;
    let store = reached.store.as_ref();
    let found = find(store)?;
    let needed = found.is_needed();
    let title = if needed {
        let passphrase = passphrase(context, &reached)?;
        op::upgrade(store, &found, passphrase.as_bytes())?;
        format!("upgraded the repository to format version {FORMAT_VERSION}")
    } else {
        format!("the repository is of format version {FORMAT_VERSION} already")
    };
    context.out.say(&title)?;
    if needed {
        context.out.say(
            "  Older versions of asof refuse it now: update asof on every machine that uses it.",
        )?;
    }
    Ok(Done::new(title)
        .field("repository", &found.config.repository)
        .field("format_version", &FORMAT_VERSION)
        .field("upgraded", &needed))
}
