//! Sizes, durations and counts, as people write and read them.
//!
//! **Sizes** follow coreutils: a letter alone and a letter with `iB` count in 1024s
//! (`10M` = `10MiB` = 10,485,760), a letter with `B` counts in 1000s (`10MB` =
//! 10,000,000), and a number alone is bytes. Upper and lower case are the same. Sizes
//! are shown in 1024s, with their unit: `1.2 GiB`.
//!
//! **Durations** are numbers with units, the largest first: `26h`, `1h30m`, `1.5d`.
//! A day has 24 hours and a week seven days, as befits an age or an interval; spans in
//! the calendar, as in `3d-ago`, are times and are read where times are.

use std::time::Duration;

use crate::base::Kind;

/// A text that is not a size or not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Not a size.
    #[error("`{text}` is not a size; write a number and K, M, G, T or P, as 500K, 16M or 1.5GiB")]
    Size {
        /// What was written.
        text: String,
    },
    /// Not a duration.
    #[error(
        "`{text}` is not a duration; write numbers and s, m, h, d or w, as 90s, 26h, 1h30m or 3d"
    )]
    Duration {
        /// What was written.
        text: String,
    },
    /// More than fits.
    #[error("`{text}` is too large")]
    TooLarge {
        /// What was written.
        text: String,
    },
}

impl UnitError {
    /// What the failure means: always a request that makes no sense as given.
    #[must_use]
    pub fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

/// Reads a size in bytes: `4096`, `500K`, `16M`, `1.5GiB`, `2TB`.
///
/// A part of a byte is dropped.
///
/// # Errors
///
/// [`UnitError`] with the text.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let bad = || UnitError::Size { text: text.to_owned() };
    let (number, unit) = split_number(text.trim()).ok_or_else(bad)?;
    let unit = unit.trim_start().to_ascii_lowercase();
    let (letter, base) = match unit.strip_suffix("ib") {
        Some(letter) if !letter.is_empty() => (letter, 1024_u128),
        _ => match unit.strip_suffix('b') {
            Some(letter) => (letter, 1000),
            None => (unit.as_str(), 1024),
        },
    };
    let power = match letter {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(bad()),
    };
    if power == 0 && number.fraction != 0 {
        return Err(bad());
    }
    number
        .times(base.pow(power))
        .and_then(|n| u64::try_from(n).ok())
        .ok_or_else(|| UnitError::TooLarge { text: text.to_owned() })
}

/// Reads a duration: `90s`, `26h`, `1h30m`, `3d`, `250ms`.
///
/// # Errors
///
/// [`UnitError`] with the text; a number without a unit is one.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let bad = || UnitError::Duration { text: text.to_owned() };
    let too_large = || UnitError::TooLarge { text: text.to_owned() };
    let mut rest = text.trim();
    let mut nanos = 0_u128;
    let mut last = u128::MAX;
    while !rest.is_empty() {
        let (number, tail) = split_number(rest).ok_or_else(bad)?;
        let end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let unit: u128 = match unit {
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "d" => 86_400_000_000_000,
            "w" => 604_800_000_000_000,
            _ => return Err(bad()),
        };
        if unit >= last {
            return Err(bad());
        }
        last = unit;
        nanos = number.times(unit).and_then(|n| nanos.checked_add(n)).ok_or_else(too_large)?;
        rest = tail;
    }
    if last == u128::MAX {
        return Err(bad());
    }
    let seconds = u64::try_from(nanos / 1_000_000_000).map_err(|_| too_large())?;
    let nanos = u32::try_from(nanos % 1_000_000_000).unwrap_or(0);
    Ok(Duration::new(seconds, nanos))
}

/// Shows a size: `512 B`, `1.2 GiB`, `124 MiB`; three digits or so.
#[must_use]
pub fn show_size(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut unit = 1024_u128;
    let mut names = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"].into_iter();
    let mut name = names.next().unwrap_or("KiB");
    // The next unit once this one would be rounded to 1024 of itself.
    while u128::from(bytes) * 2 >= unit * 2047 {
        match names.next() {
            Some(next) => {
                name = next;
                unit *= 1024;
            }
            None => break,
        }
    }
    let tenths = (u128::from(bytes) * 10 + unit / 2) / unit;
    if tenths < 1000 {
        format!("{}.{} {name}", tenths / 10, tenths % 10)
    } else {
        format!("{} {name}", (u128::from(bytes) + unit / 2) / unit)
    }
}

/// Shows a rate: `12.3 MiB/s`; nothing sensible can be said of no time, so that is `0 B/s`.
#[must_use]
pub fn show_rate(bytes: u64, time: Duration) -> String {
    let per_second = match time.as_millis() {
        0 => 0,
        millis => u128::from(bytes) * 1000 / millis,
    };
    format!("{}/s", show_size(u64::try_from(per_second).unwrap_or(u64::MAX)))
}

/// Shows a duration in its two largest units: `12ms`, `4.2s`, `2m 03s`, `1h 02m`, `3d 04h`.
#[must_use]
pub fn show_duration(time: Duration) -> String {
    let millis = time.as_millis();
    if millis < 1000 {
        return format!("{millis}ms");
    }
    let tenths = (millis + 50) / 100;
    if tenths < 100 {
        return format!("{}.{}s", tenths / 10, tenths % 10);
    }
    let s = (millis + 500) / 1000;
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m {:02}s", s / 60, s % 60),
        3600..86_400 => format!("{}h {:02}m", s / 3600, s / 60 % 60),
        _ => format!("{}d {:02}h", s / 86_400, s / 3600 % 24),
    }
}

/// Shows a duration of whole seconds exactly, as [`parse_duration`] reads it, in the largest
/// unit that leaves nothing over: `30d`, `90h`, `61s`. A part of a second is dropped.
#[must_use]
pub fn show_span(time: Duration) -> String {
    let seconds = time.as_secs();
    let units = [(86_400, 'd'), (3600, 'h'), (60, 'm')];
    match units.into_iter().find(|(unit, _)| seconds > 0 && seconds.is_multiple_of(*unit)) {
        Some((unit, letter)) => format!("{}{letter}", seconds / unit),
        None => format!("{seconds}s"),
    }
}

/// Writes a size so that [`parse_size`] reads the same number: `1G`, `1536M`, `1000`.
#[must_use]
pub fn write_size(bytes: u64) -> String {
    let mut left = bytes;
    let mut unit = "";
    for next in ["K", "M", "G", "T", "P"] {
        if left == 0 || !left.is_multiple_of(1024) {
            break;
        }
        left /= 1024;
        unit = next;
    }
    format!("{left}{unit}")
}

/// Writes a duration so that [`parse_duration`] reads the same: as [`show_span`], and with a
/// part of a second in milliseconds: `1500ms`. What is less than one of those is dropped.
#[must_use]
pub fn write_duration(time: Duration) -> String {
    match time.subsec_millis() {
        0 => show_span(time),
        _ => format!("{}ms", time.as_millis()),
    }
}

/// Shows a count with separators: `1,234,567`.
#[must_use]
pub fn show_count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number with up to nine decimals.
struct Number {
    whole: u128,
    /// In billionths.
    fraction: u32,
}

impl Number {
    /// This many of something, without the part that is less than one.
    fn times(&self, unit: u128) -> Option<u128> {
        let whole = self.whole.checked_mul(unit)?;
        let fraction = u128::from(self.fraction).checked_mul(unit)? / 1_000_000_000;
        whole.checked_add(fraction)
    }
}

/// Splits a number off the front of a text.
fn split_number(text: &str) -> Option<(Number, &str)> {
    let digits = |t: &str| t.bytes().take_while(u8::is_ascii_digit).count();
    let (whole, rest) = text.split_at(digits(text));
    if whole.is_empty() {
        return None;
    }
    // A number with too many digits is as good as the largest: both are refused.
    let whole = whole.parse().unwrap_or(u128::MAX);
    let Some(tail) = rest.strip_prefix('.') else {
        return Some((Number { whole, fraction: 0 }, rest));
    };
    let (decimals, rest) = tail.split_at(digits(tail));
    if decimals.is_empty() {
        return None;
    }
    let kept: String = decimals.chars().chain("000000000".chars()).take(9).collect();
    let fraction = kept.parse().ok()?;
    Some((Number { whole, fraction }, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("4096B", 4096),
            ("1k", 1024),
            ("100K", 102_400),
            ("10M", 10 << 20),
            ("10MiB", 10 << 20),
            ("10mib", 10 << 20),
            ("10 MiB", 10 << 20),
            ("10MB", 10_000_000),
            ("1.5GiB", 3 << 29),
            ("0.5K", 512),
            ("1.0001K", 1024),
            ("2T", 2 << 40),
            ("1P", 1 << 50),
            (" 7 ", 7),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in [
            "", "K", "-1", "+1", "1.5", "1.5B", "1.", ".5K", "1X", "1KK", "1iB", "1e3", "1,000",
            "1 0",
        ] {
            assert!(matches!(parse_size(text), Err(UnitError::Size { .. })), "{text}");
        }
        for text in ["18446744073709551616", "16384P", "99999999999999999999999K"] {
            assert!(matches!(parse_size(text), Err(UnitError::TooLarge { .. })), "{text}");
        }
    }

    #[test]
    fn durations() {
        let s = Duration::from_secs;
        for (text, time) in [
            ("90s", s(90)),
            ("26h", s(93_600)),
            ("3d", s(259_200)),
            ("1h30m", s(5400)),
            ("1w1d", s(691_200)),
            ("1.5h", s(5400)),
            ("0s", s(0)),
            ("250ms", Duration::from_millis(250)),
            ("1m0.5s", Duration::from_millis(60_500)),
        ] {
            assert_eq!(parse_duration(text), Ok(time), "{text}");
        }
        for text in ["", "5", "h", "1x", "1mo", "1y", "30m1h", "1h1h", "-1h", "1h 30m", "1h,", "1H"]
        {
            assert!(matches!(parse_duration(text), Err(UnitError::Duration { .. })), "{text}");
        }
        assert!(matches!(parse_duration("99999999999999999999w"), Err(UnitError::TooLarge { .. })));
    }

    #[test]
    fn sizes_for_people() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (102_399, "100 KiB"),
            (102_400, "100 KiB"),
            (1_047_551, "1023 KiB"),
            (1_048_064, "1.0 MiB"),
            (1_048_575, "1.0 MiB"),
            (1_288_490_189, "1.2 GiB"),
            (130_023_424, "124 MiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(show_size(bytes), text, "{bytes}");
        }
        assert_eq!(show_rate(10 << 20, Duration::from_secs(2)), "5.0 MiB/s");
        assert_eq!(show_rate(1, Duration::ZERO), "0 B/s");
    }

    #[test]
    fn durations_for_people() {
        for (millis, text) in [
            (0, "0ms"),
            (999, "999ms"),
            (4_200, "4.2s"),
            (9_960, "10s"),
            (59_499, "59s"),
            (59_600, "1m 00s"),
            (123_000, "2m 03s"),
            (3_599_900, "1h 00m"),
            (3_720_000, "1h 02m"),
            (273_600_000, "3d 04h"),
        ] {
            assert_eq!(show_duration(Duration::from_millis(millis)), text, "{millis}");
        }
    }

    #[test]
    fn spans_are_exact() {
        for (seconds, text) in
            [(0, "0s"), (1, "1s"), (60, "1m"), (61, "61s"), (5400, "90m"), (324_000, "90h")]
        {
            assert_eq!(show_span(Duration::from_secs(seconds)), text);
        }
        assert_eq!(show_span(Duration::from_secs(30 * 86_400)), "30d");
    }

    #[test]
    fn what_is_written_is_short() {
        for (bytes, text) in
            [(0, "0"), (1000, "1000"), (1536, "1536"), (3 << 29, "1536M"), (1 << 30, "1G")]
        {
            assert_eq!(write_size(bytes), text);
        }
        for (millis, text) in
            [(0, "0s"), (250, "250ms"), (1000, "1s"), (1500, "1500ms"), (60_000, "1m")]
        {
            assert_eq!(write_duration(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn counts_for_people() {
        for (n, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(show_count(n), text);
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in ".{0,30}", likely in "[0-9.]{0,25}[kmgtpibsdhw]{0,3}", n in any::<u64>(), t in any::<u64>()) {
            let _ = (parse_size(&text), parse_duration(&text));
            let _ = (parse_size(&likely), parse_duration(&likely));
            let _ = (show_size(n), show_count(n), show_rate(n, Duration::from_millis(t)));
            let _ = show_duration(Duration::from_millis(t));
        }

        #[test]
        fn a_span_reads_back_as_it_is(seconds in 0_u64..1 << 40) {
            let time = Duration::from_secs(seconds);
            prop_assert_eq!(parse_duration(&show_span(time)).unwrap(), time);
        }

        #[test]
        fn what_is_written_reads_back_as_it_is(n in any::<u64>(), power in 0_u32..6, millis in 0_u64..1 << 50) {
            for bytes in [n, n.wrapping_shl(10 * power)] {
                prop_assert_eq!(parse_size(&write_size(bytes)), Ok(bytes));
            }
            let time = Duration::from_millis(millis);
            prop_assert_eq!(parse_duration(&write_duration(time)), Ok(time));
        }

        #[test]
        fn what_is_shown_reads_back_about_right(n in any::<u64>()) {
            if let Ok(read) = parse_size(&show_size(n)) {
                prop_assert!(read.abs_diff(n) <= n / 19, "{}", show_size(n));
            }
        }
    }
}
