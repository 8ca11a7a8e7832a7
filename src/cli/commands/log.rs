//! `asof log`.

use serde_json::json;

use crate::base::units::show_size;
use crate::base::{UnixTime, check_source_name};
use crate::cli::args::LogArgs;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::open::{Need, open_repository};
use crate::cli::output::{Align, Table, printable};
use crate::cli::show::{Done, count};
use crate::ops::moments::{Between, Listed, each_moment};
use crate::ops::open::Freshness;
use crate::view::{TimeSpec, instant_name};

/// How many rows are aligned with each other.
const TABLE_ROWS: usize = 1000;

/// Lists the moments of a followed source.
pub fn log(context: &Context, args: &LogArgs) -> Result<Done, Failure> {
    check_source_name(&args.source)?;
    let zone = context.zone()?;
    let time = |text: &Option<String>| -> Result<Option<UnixTime>, Failure> {
        let spec = text.as_deref().map(|text| TimeSpec::parse(text, &zone, context.now()));
        Ok(spec.transpose()?.map(|spec| spec.instant))
    };
    let between = Between { since: time(&args.since)?, until: time(&args.until)? };
    let opened = open_repository(context, Need::Read(Freshness::IfPossible))?;
    let (left, right) = (Align::Left, Align::Right);
    let mut table = Table::new(&[
        ("TIME", left),
        ("POSITION", right),
        ("SIZE", right),
        ("PAGES", right),
        ("", left),
    ]);
    let mut rows = 0;
    let counted = each_moment(&opened.repo, &args.source, between, |listed| {
        if context.out.is_json() {
            context.out.json(&json!(listed))?;
            return Ok(());
        }
        table.row(row(listed));
        rows += 1;
        if rows == TABLE_ROWS {
            context.out.table(&table)?;
            (table, rows) = (table.next(), 0);
        }
        Ok::<(), Failure>(())
    })?;
    if rows > 0 {
        context.out.table(&table)?;
    }
    let message = format!(
        "{}, {}",
        count(counted.states, "moment", "moments"),
        count(counted.gaps, "gap", "gaps")
    );
    Ok(Done::new(message).field("states", &counted.states).field("gaps", &counted.gaps))
}

fn row(listed: &Listed) -> [String; 5] {
    match listed {
        Listed::State { at, position, size, pages, .. } => [
            instant_name(*at),
            position.to_string(),
            show_size(*size),
            pages.to_string(),
            String::new(),
        ],
        Listed::Gap { since, until, reason } => {
            let until = until.map_or_else(|| "now".to_owned(), instant_name);
            let what = format!(
                "gap until {until}: nothing is known of this time ({})",
                printable(reason.as_bytes())
            );
            [instant_name(*since), "-".into(), "-".into(), "-".into(), what]
        }
    }
}
