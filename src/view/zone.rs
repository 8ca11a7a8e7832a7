//! The time zone that dates without one are read in.
//!
//! A date such as `2026-11-20` is a different day in Berlin and in Los Angeles.
//! The command line takes the zone from `--timezone` or the machine, once, and
//! hands it down, so that everything below gives the same answer twice.

use jiff::civil::{Date, DateTime, date};
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};

use crate::base::UnixTime;
use crate::view::time_spec::TimeError;

/// A time zone with the name that people know it by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    tz: TimeZone,
    name: String,
}

impl Zone {
    /// Coordinated universal time.
    #[must_use]
    pub fn utc() -> Zone {
        Zone::from(TimeZone::UTC)
    }

    /// The machine's zone, from `TZ` or `/etc/localtime`; UTC if neither says.
    ///
    /// `TZ` may be a name or a file, with a colon before it or not, or a rule as
    /// `CET-1CEST,M3.5.0,M10.5.0/3`; if it is empty it means UTC, as it does to the C library.
    ///
    /// # Errors
    ///
    /// [`TimeError::UnknownLocal`] if `TZ` is none of these. The C library would take UTC;
    /// here that could be the wrong day.
    pub fn local() -> Result<Zone, TimeError> {
        let variable = std::env::var_os("TZ");
        let linked = if variable.is_none() { linked() } else { None };
        match (linked.map_or_else(TimeZone::try_system, Ok), variable) {
            (Ok(tz), _) => Ok(Zone::from(tz)),
            (Err(_), None) => Ok(Zone::utc()),
            (Err(_), Some(tz)) => {
                let tz = super::time_spec::shown(&tz.to_string_lossy());
                Err(TimeError::UnknownLocal { tz })
            }
        }
    }

    /// Reads a zone: `local`, `UTC`, an offset as `+01:00`, or a name as `Europe/Berlin`.
    ///
    /// The name may be written `Europe.Berlin`: a file's name, which a time can be, holds
    /// no slash, and no zone's name holds a dot.
    ///
    /// # Errors
    ///
    /// [`TimeError::UnknownZone`] if no zone has that name. Names come from the
    /// machine's zone database (`tzdata`); the others work without one. For `local`,
    /// [`TimeError::UnknownLocal`].
    pub fn parse(text: &str) -> Result<Zone, TimeError> {
        if text == "local" {
            return Zone::local();
        }
        if matches!(text, "Z" | "z" | "UTC" | "utc") {
            return Ok(Zone::utc());
        }
        if let Some(seconds) = super::time_spec::read_offset(text) {
            return Ok(Zone::fixed(seconds));
        }
        match TimeZone::get(&text.replace('.', "/")) {
            Ok(tz) if !text.is_empty() => Ok(Zone::from(tz)),
            _ => Err(TimeError::UnknownZone { name: super::time_spec::shown(text) }),
        }
    }

    /// A zone that is always this many seconds east of UTC.
    pub(super) fn fixed(seconds: i32) -> Zone {
        Offset::from_seconds(seconds).map_or_else(|_| Zone::utc(), |o| Zone::from(o.to_time_zone()))
    }

    /// What people call it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The zone as the calendar library has it.
    #[must_use]
    pub fn tz(&self) -> &TimeZone {
        &self.tz
    }

    /// What clocks and calendars in this zone show at an instant.
    ///
    /// Instants that no calendar reaches are shown as the nearest that one does.
    #[must_use]
    pub fn civil(&self, at: UnixTime) -> DateTime {
        let limit = if at.seconds < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
        self.tz.to_datetime(at.to_timestamp().unwrap_or(limit))
    }

    /// The seconds that clocks here are ahead of UTC at an instant.
    #[must_use]
    pub fn offset(&self, at: UnixTime) -> i32 {
        let limit = if at.seconds < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
        self.tz.to_offset(at.to_timestamp().unwrap_or(limit)).seconds()
    }

    /// Which instants, if any, clocks in this zone show as `shown`.
    pub(super) fn instants(&self, shown: DateTime) -> Instants {
        match self.tz.to_ambiguous_timestamp(shown).offset() {
            AmbiguousOffset::Unambiguous { offset } => Instants::One(instant(shown, offset)),
            AmbiguousOffset::Fold { before, after } => {
                Instants::Two(instant(shown, before), instant(shown, after))
            }
            AmbiguousOffset::Gap { after, .. } => {
                // Read with the later offset, a skipped time lies before the jump.
                let before_jump = instant(shown, after);
                let jump = before_jump
                    .to_timestamp()
                    .and_then(|at| self.tz.following(at).next())
                    .map_or(before_jump, |t| UnixTime::from(t.timestamp()));
                Instants::Skipped { jump }
            }
        }
    }
}

impl From<TimeZone> for Zone {
    fn from(tz: TimeZone) -> Zone {
        let name = match (tz.iana_name(), tz.to_fixed_offset()) {
            (Some(name), _) => name.to_owned(),
            (None, Ok(offset)) => offset_name(offset.seconds()),
            (None, Err(_)) => "local time".to_owned(),
        };
        Zone { tz, name }
    }
}

/// The zone that `/etc/localtime` is a link to. The library would find the same, and read the
/// names of all zones for it.
fn linked() -> Option<TimeZone> {
    const LOCAL: &str = "/etc/localtime";
    let target = std::fs::read_link(LOCAL).ok()?;
    let (_, name) = target.to_str()?.split_once("/zoneinfo/")?;
    TimeZone::tzif(name, &std::fs::read(LOCAL).ok()?).ok()
}

/// The instants at which clocks show a certain time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Instants {
    /// Just one, as nearly always.
    One(UnixTime),
    /// Two, because clocks were put back; the earlier first.
    Two(UnixTime, UnixTime),
    /// None, because clocks were put forward.
    Skipped {
        /// The instant at which they were.
        jump: UnixTime,
    },
}

/// `+01:00`.
pub(super) fn offset_name(seconds: i32) -> String {
    let sign = if seconds < 0 { '-' } else { '+' };
    let s = seconds.unsigned_abs();
    let tail = match s % 60 {
        0 => String::new(),
        s => format!(":{s:02}"),
    };
    format!("{sign}{:02}:{:02}{tail}", s / 3600, s / 60 % 60)
}

/// The instant that is `shown` on a clock `offset` ahead of UTC. Unlike the
/// calendar library's own conversion it reaches to the last second of 9999.
fn instant(shown: DateTime, offset: Offset) -> UnixTime {
    let day = shown.date().duration_since(date(1970, 1, 1) as Date).as_secs();
    let time = shown.time();
    let seconds =
        i64::from(time.hour()) * 3600 + i64::from(time.minute()) * 60 + i64::from(time.second())
            - i64::from(offset.seconds());
    let nanos = u32::try_from(time.subsec_nanosecond()).unwrap_or(0);
    UnixTime::new(day + seconds, nanos)
}
