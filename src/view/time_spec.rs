//! Times as people and programs write them.
//!
//! One parser serves the command line and the mount, so that a time means the same
//! in `asof restore db@TIME` and in `cd M/at/TIME`:
//!
//! ```text
//! 2026  2026-11  2026-11-20                        a year, a month, a day
//! 2026-11-20T10  2026-11-20 10:15  …T10:15:03.12   an hour, a minute, a second, a part of one
//! 2026-11-20T10-15-03.123Z                         without colons, as the mount writes it
//! …Z  …+01:00  …+01-00  …[Europe/Berlin]           in that zone; else in the zone handed in
//! …[Europe.Berlin]                                 the same where no slash can be, as in a name
//! now  today  yesterday  90m-ago  3d-ago  2mo-ago  counted from now
//! @1763633703  @1763633703.5                       seconds since 1970
//! ```
//!
//! **A coarser time means the last instant of its unit**: `2026-11-20` is the last
//! nanosecond of that day, `10:15` that of the minute. So a view at a day shows what
//! the day ended with. The same holds for fractions (`.123` ends at `.123999999`)
//! and for `@seconds`; digits beyond the ninth are finer than any instant and dropped.
//!
//! **Clocks that jump.** A clock time that the zone's clocks skip, or show twice, is
//! an error that says what to write instead: guessing could show the wrong hour of a
//! disaster. A day, month or year is never ambiguous: its end is the last instant
//! that belongs to it, whatever clocks did that night. A whole day that a zone skipped
//! is an error. A time with an offset or `Z` is never ambiguous.
//!
//! **Leap seconds.** Second 60 is accepted where UTC can have one, at the end of a day
//! in UTC, and means the last nanosecond of second 59, since nothing that asof stores
//! counts leap seconds.
//!
//! **Ago.** Hours, minutes and seconds are exact spans. Days, weeks, months and years
//! go back in the calendar of the zone to the same time of day. If clocks showed that
//! twice, the first is meant; if they skipped it, what they would have shown as that had
//! they not been put forward yet. A month that has no such day is counted from its last.
//! `now` and `…-ago` are exact instants and not units.
//!
//! **Ends.** Years are 0001 to 9999, in whatever zone. Seconds since 1970 are any that
//! 64 bits can hold, since a snapshot may claim any, and must have a name.
//!
//! Splitting text into fields is in `fields.rs`; what the calendar makes of them is here,
//! by way of jiff.

mod fields;

use jiff::civil::{Date, DateTime, Time};
use jiff::{Span, ToSpan, Zoned};

use self::fields::{Fields, Suffix};
use crate::base::{Kind, UnixTime};
use crate::view::time_name::{has_date, instant_name};
use crate::view::zone::{Instants, Zone, offset_name};

pub(super) use self::fields::read_offset;

/// What a time came to mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resolved {
    /// The instant; of a coarse time, the last nanosecond of its unit.
    pub instant: UnixTime,
    /// Whether the same text will mean another instant later on (`now`, `3d-ago`).
    /// A name of this kind must not be cached.
    pub moves: bool,
}

/// A text that is not a time, or not one that exists.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// None of the forms.
    #[error(
        "`{text}` is not a time; write one as 2026-11-20, 2026-11-20T10:15, \
         2026-11-20T10-15-03.123Z, with an offset as 2026-11-20T10:15+01:00, \
         or as now, today, yesterday, 90m-ago, 3d-ago, 2mo-ago, @1763633703"
    )]
    NotATime {
        /// What was written.
        text: String,
    },
    /// A month 13, a 30th of February, a second 61.
    #[error("`{text}` is not a time that exists: {why}")]
    Impossible {
        /// What was written.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// The zone's clocks jumped over it.
    #[error(
        "`{text}` does not exist in {zone}, where clocks were put forward past it; \
         write {before} for the moment before that, {after} for the moment after, or add an offset"
    )]
    Skipped {
        /// What was written.
        text: String,
        /// The zone it was read in.
        zone: String,
        /// A time that works: the last before the jump.
        before: String,
        /// A time that works: the first after the jump.
        after: String,
    },
    /// The zone's clocks showed it twice.
    #[error(
        "`{text}` happened twice in {zone}, where clocks were put back; \
         write {earlier} for the first time or {later} for the second, or add an offset"
    )]
    Twice {
        /// What was written.
        text: String,
        /// The zone it was read in.
        zone: String,
        /// A time that works: the first of the two.
        earlier: String,
        /// A time that works: the second of the two.
        later: String,
    },
    /// Before the year 0001 or after the year 9999, or more seconds than there can be.
    #[error("`{text}` is out of range; years are 0001 to 9999, and seconds have 64 bits")]
    OutOfRange {
        /// What was written.
        text: String,
    },
    /// An offset that is not what the zone beside it had.
    #[error("`{text}` contradicts itself: {zone} was at {offset} then; leave out one of the two")]
    OffsetMismatch {
        /// What was written.
        text: String,
        /// The zone in brackets.
        zone: String,
        /// The offset that it had.
        offset: String,
    },
    /// No zone of that name.
    #[error(
        "there is no time zone `{name}`; write a name as Europe/Berlin (from the machine's \
         zone database, package tzdata), an offset as +01:00, UTC, or local"
    )]
    UnknownZone {
        /// What was written.
        name: String,
    },
    /// The machine's own zone is said to be one that there is not.
    #[error(
        "the environment variable TZ is `{tz}`, which is no time zone that this machine knows; \
         unset it, or say which zone dates are of with --timezone"
    )]
    UnknownLocal {
        /// What it is.
        tz: String,
    },
}

impl TimeError {
    /// What the failure means: always a request that makes no sense as given.
    #[must_use]
    pub fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

/// A time that was read but not yet placed: that takes a zone and the present.
#[derive(Debug, Clone)]
pub struct TimeSpec {
    text: String,
    form: Form,
}

#[derive(Debug, Clone)]
enum Form {
    Now,
    /// So many days before today, the whole day.
    Day(i64),
    Ago(Span),
    Unix(UnixTime),
    Fields(Fields),
}

impl TimeSpec {
    /// Reads a time and says which instant it means.
    ///
    /// # Errors
    ///
    /// [`TimeError`], which quotes the text and says what would work.
    pub fn parse(text: &str, zone: &Zone, now: UnixTime) -> Result<Resolved, TimeError> {
        TimeSpec::read(text)?.resolve(zone, now)
    }

    /// Reads a time without placing it: checks its form, not whether it exists.
    ///
    /// # Errors
    ///
    /// [`TimeError::NotATime`] and [`TimeError::OutOfRange`].
    pub fn read(text: &str) -> Result<TimeSpec, TimeError> {
        let form = if let Some(seconds) = text.strip_prefix('@') {
            let at = fields::unix(seconds).ok_or_else(|| not_a_time(text))?;
            Form::Unix(at.ok_or_else(|| out_of_range(text))?)
        } else if let Some(span) = text.strip_suffix("-ago") {
            Form::Ago(span_of(span).ok_or_else(|| not_a_time(text))?)
        } else {
            match text {
                "now" => Form::Now,
                "today" => Form::Day(0),
                "yesterday" => Form::Day(1),
                _ => Form::Fields(Fields::read(text).ok_or_else(|| not_a_time(text))?),
            }
        };
        Ok(TimeSpec { text: shown(text), form })
    }

    /// Says which instant the time means, in a zone and at a present.
    ///
    /// # Errors
    ///
    /// [`TimeError`] for a time that does not exist, is ambiguous, or is out of range.
    pub fn resolve(&self, zone: &Zone, now: UnixTime) -> Result<Resolved, TimeError> {
        Ok(match &self.form {
            Form::Now => Resolved { instant: now, moves: true },
            Form::Day(back) => {
                let day = zone.civil(now).date().checked_sub(back.days());
                let day = day.map_err(|_| out_of_range(&self.text))?;
                self.counted(self.end_of_days(day, day, zone)?)?
            }
            Form::Ago(span) => {
                let from = now
                    .to_timestamp()
                    .ok_or_else(|| out_of_range(&self.text))?
                    .to_zoned(zone.tz().clone());
                let then: Result<Zoned, _> = from.checked_sub(*span);
                let then = then.map_err(|_| out_of_range(&self.text))?;
                self.counted(UnixTime::from(then.timestamp()))?
            }
            Form::Unix(at) => Resolved { instant: *at, moves: false },
            Form::Fields(fields) => Resolved { instant: self.place(fields, zone)?, moves: false },
        })
    }

    /// What was counted from now, if the calendar of people reaches that far.
    fn counted(&self, instant: UnixTime) -> Result<Resolved, TimeError> {
        if has_date(instant) {
            Ok(Resolved { instant, moves: true })
        } else {
            Err(out_of_range(&self.text))
        }
    }

    /// The last instant of the unit that the fields name.
    fn place(&self, fields: &Fields, default: &Zone) -> Result<UnixTime, TimeError> {
        let named = match &fields.zone {
            Some(name) => Some(Zone::parse(name)?),
            None => None,
        };
        // An offset decides; a zone beside it is only checked against it.
        let decided = match fields.suffix {
            Some(Suffix::Utc) => Some(Zone::utc()),
            Some(Suffix::Offset(seconds)) => Some(Zone::fixed(seconds)),
            None => None,
        };
        let zone = decided.as_ref().or(named.as_ref()).unwrap_or(default);

        let (first, last) = self.days(fields)?;
        let instant = match &fields.clock {
            None => self.end_of_days(first, last, zone)?,
            Some(clock) => {
                let (from, to) = clock.ends().map_err(|why| self.impossible(why))?;
                self.end_of_clock(first.to_datetime(from), first.to_datetime(to), zone)?
            }
        };
        if fields.is_leap_second() && (instant.seconds + 1).rem_euclid(86_400) != 0 {
            return Err(
                self.impossible("second 60 exists only at the end of a day in UTC".to_owned())
            );
        }
        if let (Some(Suffix::Offset(offset)), Some(named)) = (fields.suffix, &named) {
            let actual = named.offset(instant);
            if actual != offset {
                return Err(TimeError::OffsetMismatch {
                    text: self.text.clone(),
                    zone: named.name().to_owned(),
                    offset: offset_name(actual),
                });
            }
        }
        Ok(instant)
    }

    /// The first and the last day of the year, month or day that the fields name.
    fn days(&self, fields: &Fields) -> Result<(Date, Date), TimeError> {
        let year = fields.year;
        if year == 0 {
            return Err(out_of_range(&self.text));
        }
        if let Some(month @ (0 | 13..)) = fields.month {
            return Err(self.impossible(format!("there is no month {month:02}")));
        }
        let calendar =
            |month: i8, day: i8| Date::new(year, month, day).map_err(|_| out_of_range(&self.text));
        let first = calendar(fields.month.unwrap_or(1), 1)?;
        match (fields.month, fields.day) {
            (None, _) => Ok((first, first.last_of_year())),
            (Some(_), None) => Ok((first, first.last_of_month())),
            (Some(month), Some(day)) => {
                if day < 1 || day > first.days_in_month() {
                    let most = first.days_in_month();
                    return Err(self.impossible(format!("{year:04}-{month:02} has {most} days")));
                }
                let day = calendar(month, day)?;
                Ok((day, day))
            }
        }
    }

    /// The last instant that belongs to the days. Clocks that are put back or forward
    /// at their end do not make that ambiguous.
    fn end_of_days(&self, first: Date, last: Date, zone: &Zone) -> Result<UnixTime, TimeError> {
        let end = last.to_datetime(Time::MAX);
        match zone.instants(end) {
            Instants::One(at) | Instants::Two(_, at) => Ok(at),
            Instants::Skipped { jump } => {
                let begin = first.to_datetime(Time::midnight());
                self.before_jump(zone.instants(begin), jump, zone)
            }
        }
    }

    /// The last instant at which clocks show a time in the unit from `first` to `last`.
    fn end_of_clock(
        &self,
        first: DateTime,
        last: DateTime,
        zone: &Zone,
    ) -> Result<UnixTime, TimeError> {
        match zone.instants(last) {
            Instants::One(at) => Ok(at),
            Instants::Two(earlier, later) => Err(TimeError::Twice {
                text: self.text.clone(),
                zone: zone.name().to_owned(),
                earlier: instant_name(earlier),
                later: instant_name(later),
            }),
            Instants::Skipped { jump } => self.before_jump(zone.instants(first), jump, zone),
        }
    }

    /// The last instant before a jump that skips the end of a unit, if it does not
    /// skip the beginning too.
    fn before_jump(
        &self,
        begin: Instants,
        jump: UnixTime,
        zone: &Zone,
    ) -> Result<UnixTime, TimeError> {
        let before = jump.minus(std::time::Duration::from_nanos(1));
        match begin {
            Instants::Skipped { jump: same } if same == jump => Err(TimeError::Skipped {
                text: self.text.clone(),
                zone: zone.name().to_owned(),
                before: instant_name(before),
                after: instant_name(UnixTime::new(jump.seconds, 999_999_999)),
            }),
            _ => Ok(before),
        }
    }

    fn impossible(&self, why: String) -> TimeError {
        TimeError::Impossible { text: self.text.clone(), why }
    }
}

/// A span as `2h`, `3d`, `1w`, `2mo`, `1y`, `1h30m`: jiff's short form, not negative.
fn span_of(text: &str) -> Option<Span> {
    let plain = |b: u8| b.is_ascii_digit() || b.is_ascii_lowercase() || b == b'.';
    if !text.starts_with(|c: char| c.is_ascii_digit()) || !text.bytes().all(plain) {
        return None;
    }
    text.parse::<Span>().ok().filter(|span| !span.is_negative())
}

/// The text as an error quotes it: without what could upset a terminal, and not endless.
pub(super) fn shown(text: &str) -> String {
    const LONGEST: usize = 80;
    let mut out: String =
        text.chars().take(LONGEST).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(LONGEST).is_some() {
        out.push('…');
    }
    out
}

fn not_a_time(text: &str) -> TimeError {
    TimeError::NotATime { text: shown(text) }
}

fn out_of_range(text: &str) -> TimeError {
    TimeError::OutOfRange { text: shown(text) }
}

#[cfg(test)]
mod tests;
