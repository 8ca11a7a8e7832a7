//! The parameters of a new repository, from what was asked for.
//!
//! They hold for good, and the argument for collection (FORMAT.md, section 17) rests on
//! them, so what cannot work is refused here and not met at the first collection.

use std::time::Duration;

use crate::base::units::show_span;
use crate::format::config::{GRACE_SECONDS_MAX, Parameters, SKEW_SECONDS_MAX, SKEWS_PER_GRACE};
use crate::ops::{Error, Result};

/// The default parameters with another grace period and bound on the store's clocks.
///
/// # Errors
///
/// [`Error::Invalid`] if one is no whole number of seconds, is out of bounds, or does not
/// go with the other; it says what would.
pub fn parameters(grace: Option<Duration>, skew: Option<Duration>) -> Result<Parameters> {
    let default = Parameters::default();
    let grace_seconds = seconds("grace", grace, default.grace_seconds, GRACE_SECONDS_MAX)?;
    let skew_seconds = seconds("skew", skew, default.skew_seconds, SKEW_SECONDS_MAX)?;
    if skew_seconds > grace_seconds / SKEWS_PER_GRACE {
        let (grace, skew) = (shown(grace_seconds), shown(skew_seconds));
        let longer = shown(skew_seconds * SKEWS_PER_GRACE);
        let shorter = match grace_seconds / SKEWS_PER_GRACE {
            0 => String::new(),
            most => format!("--skew {} or less, or ", shown(most)),
        };
        return Err(Error::Invalid {
            what: format!(
                "--skew {skew} is more than an eighth of --grace {grace}: say {shorter}--grace \
                 {longer} or more"
            ),
        });
    }
    Ok(Parameters { grace_seconds, skew_seconds, ..default })
}

fn seconds(name: &str, asked: Option<Duration>, default: u64, most: u64) -> Result<u64> {
    let Some(asked) = asked else { return Ok(default) };
    let found = asked.as_secs();
    if asked.subsec_nanos() != 0 || !(1..=most).contains(&found) {
        let most = shown(most);
        let what = format!("--{name} is a whole number of seconds, at least 1s and at most {most}");
        return Err(Error::Invalid { what });
    }
    Ok(found)
}

fn shown(seconds: u64) -> String {
    show_span(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::units::parse_duration;

    fn of(grace: &str, skew: &str) -> Result<(u64, u64)> {
        let read = |text: &str| (!text.is_empty()).then(|| parse_duration(text).unwrap());
        let made = parameters(read(grace), read(skew))?;
        assert!(made.is_sound());
        Ok((made.grace_seconds, made.skew_seconds))
    }

    #[test]
    fn what_can_work_is_taken() {
        let default = Parameters::default();
        assert_eq!(of("", "").unwrap(), (default.grace_seconds, default.skew_seconds));
        assert_eq!(of("60s", "7s").unwrap(), (60, 7));
        assert_eq!(of("8s", "1s").unwrap(), (8, 1));
        assert_eq!(of("8h", "").unwrap(), (8 * 3600, 3600));
        assert_eq!(of("36525d", "7d").unwrap(), (36_525 * 86_400, 7 * 86_400));
    }

    /// What the refusal names does work.
    #[test]
    fn what_cannot_work_is_refused_with_what_does() {
        for (grace, skew, says) in [
            ("60s", "", "--skew 1h is more than an eighth of --grace 1m: say --skew 7s or less"),
            ("", "4d", "--skew 90h or less, or --grace 32d or more"),
            ("7s", "1s", "--grace 7s: say --grace 8s or more"),
            ("0s", "1s", "--grace is a whole number of seconds, at least 1s and at most 36525d"),
            ("1h", "500ms", "--skew is a whole number of seconds, at least 1s and at most 7d"),
            ("1h", "1.5s", "--skew is a whole number"),
            ("36526d", "", "--grace is a whole number"),
            ("", "8d", "--skew is a whole number"),
        ] {
            let text = of(grace, skew).unwrap_err().to_string();
            assert!(text.contains(says), "{grace} {skew}: {text}");
        }
        assert!(of("", "90h").is_ok() && of("32d", "4d").is_ok());
    }
}
