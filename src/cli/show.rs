//! Words and figures as people read them.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::base::UnixTime;
use crate::base::units::show_count;
use crate::cli::exit::Exit;
use crate::view::Zone;

/// A command that came to its end: what programs are told, and how the process ends.
#[derive(Debug, Default)]
pub struct Done {
    /// What happened, in a sentence.
    pub message: String,
    /// How the process ends.
    pub exit: Option<Exit>,
    /// Why it is not simply done, in one word.
    pub reason: Option<&'static str>,
    /// The report's own fields.
    pub fields: Map<String, Value>,
    /// Whether standard output is not for a report: a file's bytes went there.
    pub raw: bool,
}

impl Done {
    /// Done, with nothing more to report.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Done {
        Done { message: message.into(), ..Done::default() }
    }

    /// The same with the fields of a report.
    #[must_use]
    pub fn with(mut self, report: &impl Serialize) -> Done {
        if let Ok(Value::Object(fields)) = serde_json::to_value(report) {
            self.fields.extend(fields);
        }
        self
    }

    /// The same with one more field.
    #[must_use]
    pub fn field(mut self, name: &str, value: &impl Serialize) -> Done {
        let value = serde_json::to_value(value).unwrap_or_default();
        self.fields.insert(name.to_owned(), value);
        self
    }

    /// The same, ending so.
    #[must_use]
    pub fn ending(self, exit: Exit, reason: &'static str) -> Done {
        Done { exit: Some(exit), reason: Some(reason), ..self }
    }
}

/// A time as clocks in a zone show it: `2026-11-20 10:15:03`. One that no clock shows, as a
/// broken one can claim, as seconds since 1970.
#[must_use]
pub fn time(zone: &Zone, at: UnixTime) -> String {
    let shown = zone.civil(at);
    if at.to_timestamp().is_none() || shown.year() < 1 {
        return at.to_seconds();
    }
    shown.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// So many of something: `1 file`, `1,234 files`.
#[must_use]
pub fn count(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", show_count(n), if n == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_counts_for_people() {
        let zone = Zone::parse("+01:00").unwrap();
        assert_eq!(time(&zone, UnixTime::new(0, 5)), "1970-01-01 01:00:00");
        assert_eq!(time(&zone, UnixTime::new(-62_135_600_400, 0)), "0001-01-01 00:00:00");
        assert_eq!(time(&zone, UnixTime::new(-62_135_600_401, 0)), "@-62135600401.000000000");
        assert_eq!(time(&zone, UnixTime::new(i64::MAX, 5)), "@9223372036854775807.000000005");
        assert_eq!(count(1, "file", "files"), "1 file");
        assert_eq!(count(1234, "file", "files"), "1,234 files");
    }
}
