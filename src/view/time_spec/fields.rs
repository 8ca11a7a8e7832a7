//! Splitting a written date and time into its fields.
//!
//! The calendar library reads complete times only; here the fields that are *absent*
//! carry meaning, since they say how coarse the time is. So the text is split here,
//! and everything that takes a calendar is left to the library.
//!
//! ```text
//! time    = year [ "-" month [ "-" day [ ("T" | "t" | " ") clock ] ] ] [ [" "] offset ] [ "[" zone "]" ]
//! clock   = hour [ sep minute [ sep second [ "." digits ] ] ]       sep is ":" or "-", the same throughout
//! offset  = "Z" | "z" | ("+" | "-") hour [ [":" | "-"] minute ]
//! ```
//!
//! Where hyphens separate the clock's fields, a hyphen goes on with the clock for as
//! long as it can, and a negative offset must be written with its minutes and after
//! the seconds: `10-15-03-02-00` is 10:15:03 at two hours west. A year or a month
//! alone takes no numeric offset, and a day no negative one, since `2026-11-20-10`
//! looks like an hour; `[-10:00]` is possible everywhere.

use jiff::civil::Time;

use crate::base::UnixTime;

/// The fields of a date and time; those that were not written are absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fields {
    pub(super) year: i16,
    pub(super) month: Option<i8>,
    pub(super) day: Option<i8>,
    pub(super) clock: Option<Clock>,
    pub(super) suffix: Option<Suffix>,
    pub(super) zone: Option<String>,
}

/// How far from UTC a time was said to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Suffix {
    Utc,
    /// In seconds, positive to the east.
    Offset(i32),
}

/// The fields of a time of day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Clock {
    hour: i8,
    minute: Option<i8>,
    second: Option<i8>,
    fraction: Option<Fraction>,
}

/// A part of a second: its first nanosecond and its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fraction {
    nanos: u32,
    unit: u32,
}

impl Fields {
    /// Splits a text; `None` if it does not have the form.
    pub(super) fn read(text: &str) -> Option<Fields> {
        let mut at = Cursor(text.as_bytes());
        let mut fields = Fields {
            year: at.digits(4).and_then(|n| i16::try_from(n).ok())?,
            month: None,
            day: None,
            clock: None,
            suffix: None,
            zone: None,
        };
        let mut hyphens = false;
        if at.take(b"-").is_some() {
            fields.month = Some(at.two()?);
            if at.take(b"-").is_some() {
                fields.day = Some(at.two()?);
                let digit = |b: Option<&u8>| b.is_some_and(u8::is_ascii_digit);
                if digit(at.0.get(1)) && at.take(b"Tt ").is_some() {
                    (fields.clock, hyphens) = at.clock().map(|(c, h)| (Some(c), h))?;
                }
            }
        }
        if fields.clock.is_some() && at.0.len() > 1 {
            let _ = at.take(b" ");
        }
        let signs: &[u8] = match (fields.day, fields.clock) {
            (_, Some(_)) => b"+-",
            (Some(_), None) => b"+",
            (None, None) => b"",
        };
        fields.suffix = at.suffix(signs, hyphens)?;
        fields.zone = at.brackets()?;
        at.0.is_empty().then_some(fields)
    }

    /// Whether the second written is 60.
    pub(super) fn is_leap_second(&self) -> bool {
        self.clock.is_some_and(|c| c.second == Some(60))
    }
}

impl Clock {
    /// The first and the last nanosecond of the unit, as clocks show them; or what is
    /// wrong with the fields. Second 60 is shown as the end of second 59.
    pub(super) fn ends(&self) -> Result<(Time, Time), String> {
        let Clock { hour, minute, second, fraction } = *self;
        let wrong = |what: &str, n: i8| format!("there is no {what} {n:02}");
        if !(0..24).contains(&hour) {
            return Err(wrong("hour", hour));
        }
        if let Some(n @ 60..) = minute {
            return Err(wrong("minute", n));
        }
        if let Some(n @ 61..) = second {
            return Err(wrong("second", n));
        }
        let (from, to) = match (second, fraction) {
            (Some(60), _) => (999_999_999, 999_999_999),
            (_, Some(f)) => (f.nanos, f.nanos + (f.unit - 1)),
            (_, None) => (0, 999_999_999),
        };
        let time = |minute: Option<i8>, second: Option<i8>, nanos: u32, rest: i8| {
            let nanos = i32::try_from(nanos).unwrap_or(0);
            let second = second.unwrap_or(rest).min(59);
            Time::new(hour, minute.unwrap_or(rest), second, nanos).map_err(|e| e.to_string())
        };
        Ok((time(minute, second, from, 0)?, time(minute, second, to, 59)?))
    }
}

/// Reads an offset alone: `+01:00`, `+01-00`, `+0100`, `+01`, in seconds.
pub(in crate::view) fn read_offset(text: &str) -> Option<i32> {
    let mut at = Cursor(text.as_bytes());
    match at.suffix(b"+-", false)? {
        Some(Suffix::Offset(seconds)) if at.0.is_empty() => Some(seconds),
        _ => None,
    }
}

/// Reads seconds since 1970 with an optional fraction; the inner `None` is a number
/// that no instant has.
///
/// The number names the instant at which a unit begins, before 1970 as after it.
#[allow(clippy::option_option)]
pub(super) fn unix(text: &str) -> Option<Option<UnixTime>> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut at = Cursor(digits.as_bytes());
    let whole = at.run();
    if whole.is_empty() {
        return None;
    }
    let fraction = match at.take(b".") {
        Some(_) => Some(at.fraction()?),
        None => None,
    };
    if !at.0.is_empty() {
        return None;
    }
    let f = fraction.unwrap_or(Fraction { nanos: 0, unit: 1_000_000_000 });
    let whole = std::str::from_utf8(whole).ok().and_then(|w| w.parse::<u64>().ok());
    Some(whole.and_then(|whole| {
        let nanos = i128::from(whole) * 1_000_000_000 + i128::from(f.nanos);
        let first = if negative { -nanos } else { nanos };
        let last = first + i128::from(f.unit - 1);
        let seconds = i64::try_from(last.div_euclid(1_000_000_000)).ok()?;
        let nanos = u32::try_from(last.rem_euclid(1_000_000_000)).ok()?;
        Some(UnixTime::new(seconds, nanos))
    }))
}

/// What is left of the text.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    /// Takes the next byte if it is one of these.
    fn take(&mut self, any: &[u8]) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        any.contains(first).then(|| {
            self.0 = rest;
            *first
        })
    }

    /// Takes all digits that come next.
    fn run(&mut self) -> &'a [u8] {
        let n = self.0.iter().take_while(|b| b.is_ascii_digit()).count();
        let (digits, rest) = self.0.split_at(n);
        self.0 = rest;
        digits
    }

    /// Takes exactly so many digits.
    fn digits(&mut self, n: usize) -> Option<u32> {
        let (digits, rest) = self.0.split_at_checked(n)?;
        let value = number(digits)?;
        self.0 = rest;
        Some(value)
    }

    fn two(&mut self) -> Option<i8> {
        self.digits(2).and_then(|n| i8::try_from(n).ok())
    }

    /// Takes a time of day, and says whether hyphens separate it.
    fn clock(&mut self) -> Option<(Clock, bool)> {
        let mut clock = Clock { hour: self.two()?, minute: None, second: None, fraction: None };
        let Some(sep) = self.take(b":-") else {
            return Some((clock, false));
        };
        let hyphens = sep == b'-';
        clock.minute = Some(self.two()?);
        if self.take(&[sep]).is_some() {
            clock.second = Some(self.two()?);
            if self.take(b".").is_some() {
                clock.fraction = Some(self.fraction()?);
            }
        }
        Some((clock, hyphens))
    }

    /// Takes the digits after a decimal point; what is finer than a nanosecond is dropped.
    fn fraction(&mut self) -> Option<Fraction> {
        let digits = self.run();
        let kept = &digits[..digits.len().min(9)];
        let missing = u32::try_from(9 - kept.len()).unwrap_or(0);
        let unit = 10_u32.pow(missing);
        let nanos = number(kept)? * unit;
        Some(Fraction { nanos, unit })
    }

    /// Takes `Z` or an offset if one comes next; `None` if what comes is neither one
    /// nor the end nor a bracket.
    #[allow(clippy::option_option)]
    fn suffix(&mut self, signs: &[u8], hyphens: bool) -> Option<Option<Suffix>> {
        if self.take(b"Zz").is_some() {
            return Some(Some(Suffix::Utc));
        }
        let Some(sign) = self.take(signs) else {
            return Some(None);
        };
        let hours = self.digits(2)?;
        let minutes = match self.take(b":-") {
            Some(_) => Some(self.digits(2)?),
            None if self.0.first().is_some_and(u8::is_ascii_digit) => Some(self.digits(2)?),
            None => None,
        };
        if hours > 23 || minutes.is_some_and(|m| m > 59) {
            return None;
        }
        if sign == b'-' && hyphens && minutes.is_none() {
            return None;
        }
        let seconds = i32::try_from(hours * 3600 + minutes.unwrap_or(0) * 60).ok()?;
        Some(Some(Suffix::Offset(if sign == b'-' { -seconds } else { seconds })))
    }

    /// Takes a zone in brackets if one comes next.
    #[allow(clippy::option_option)]
    fn brackets(&mut self) -> Option<Option<String>> {
        if self.take(b"[").is_none() {
            return Some(None);
        }
        let end = self.0.iter().position(|b| *b == b']')?;
        let name = std::str::from_utf8(&self.0[..end]).ok()?;
        self.0 = &self.0[end + 1..];
        Some(Some(name.to_owned()))
    }
}

/// The number that at most nine digits are; `None` if there are none or others.
fn number(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() || digits.len() > 9 {
        return None;
    }
    digits.iter().try_fold(0_u32, |n, b| b.is_ascii_digit().then(|| n * 10 + u32::from(b - b'0')))
}
