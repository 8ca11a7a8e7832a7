//! Instants.
//!
//! A file system can hold times that a calendar library cannot (ext4 reaches the
//! year 2446, XFS 2486, and a broken clock anything), and a backup must return
//! them to the nanosecond. So an instant is seconds and nanoseconds since 1970,
//! as the kernel has it, and becomes a calendar date only when it is shown.

use std::fmt;
use std::time::{Duration, SystemTime};

use minicbor::Encode;

/// Seconds and nanoseconds since 1970-01-01T00:00:00Z; before it, seconds are
/// negative and nanoseconds still count forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode)]
#[cbor(array)]
pub struct UnixTime {
    /// Whole seconds, rounded towards the past.
    #[n(0)]
    pub seconds: i64,
    /// 0 to 999,999,999.
    #[n(1)]
    pub nanos: u32,
}

impl UnixTime {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: UnixTime = UnixTime { seconds: 0, nanos: 0 };

    /// An instant from its parts.
    #[must_use]
    pub const fn new(seconds: i64, nanos: u32) -> UnixTime {
        UnixTime { seconds, nanos }
    }

    /// An instant that many milliseconds after 1970.
    #[must_use]
    pub fn from_millis(millis: i64) -> UnixTime {
        let nanos = u32::try_from(millis.rem_euclid(1000)).unwrap_or(0) * 1_000_000;
        UnixTime { seconds: millis.div_euclid(1000), nanos }
    }

    /// Milliseconds since 1970, rounded towards the past, saturating.
    #[must_use]
    pub fn as_millis(self) -> i64 {
        self.seconds.saturating_mul(1000).saturating_add(i64::from(self.nanos / 1_000_000))
    }

    /// Nanoseconds since 1970.
    #[must_use]
    pub fn as_nanos(self) -> i128 {
        i128::from(self.seconds) * 1_000_000_000 + i128::from(self.nanos)
    }

    /// The instant `by` later, saturating.
    #[must_use]
    pub fn plus(self, by: Duration) -> UnixTime {
        let nanos = self.nanos + by.subsec_nanos();
        let carry = i64::from(nanos >= 1_000_000_000);
        let seconds = i64::try_from(by.as_secs()).unwrap_or(i64::MAX);
        UnixTime {
            seconds: self.seconds.saturating_add(seconds).saturating_add(carry),
            nanos: nanos % 1_000_000_000,
        }
    }

    /// The instant `by` earlier, saturating.
    #[must_use]
    pub fn minus(self, by: Duration) -> UnixTime {
        let borrow = self.nanos < by.subsec_nanos();
        let seconds = i64::try_from(by.as_secs()).unwrap_or(i64::MAX);
        UnixTime {
            seconds: self.seconds.saturating_sub(seconds).saturating_sub(i64::from(borrow)),
            nanos: self.nanos + u32::from(borrow) * 1_000_000_000 - by.subsec_nanos(),
        }
    }

    /// How long after `earlier` this is; zero if it is not after it.
    #[must_use]
    pub fn since(self, earlier: UnixTime) -> Duration {
        let nanos = self.as_nanos() - earlier.as_nanos();
        let seconds = u64::try_from(nanos / 1_000_000_000).unwrap_or(0);
        let rest = u32::try_from((nanos % 1_000_000_000).max(0)).unwrap_or(0);
        Duration::new(seconds, rest)
    }

    /// As seconds since 1970 with all nine digits: `@-1.500000000` is a second and a half
    /// before it.
    #[must_use]
    pub fn to_seconds(self) -> String {
        let nanos = self.as_nanos();
        let sign = if nanos < 0 { "-" } else { "" };
        let nanos = nanos.unsigned_abs();
        format!("@{sign}{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000)
    }

    /// RFC 3339 in UTC with all nine digits. Typed again it means just this instant, where
    /// fewer digits would mean the last one of their unit.
    #[must_use]
    pub fn to_exact(self) -> String {
        match self.to_timestamp() {
            Some(at) if self.seconds >= YEAR_1 => format!("{at:.9}"),
            _ => self.to_seconds(),
        }
    }

    /// The calendar's view of it, if the calendar reaches that far (years -9999 to 9999).
    #[must_use]
    pub fn to_timestamp(self) -> Option<jiff::Timestamp> {
        let nanos = i32::try_from(self.nanos).ok()?;
        jiff::Timestamp::new(self.seconds, nanos).ok()
    }
}

/// Refuses a second of more than 10^9 nanoseconds, so that no arithmetic can overflow.
impl<'b, C> minicbor::Decode<'b, C> for UnixTime {
    fn decode(
        d: &mut minicbor::Decoder<'b>,
        ctx: &mut C,
    ) -> Result<UnixTime, minicbor::decode::Error> {
        let at = d.position();
        let (seconds, nanos): (i64, u32) = d.decode_with(ctx)?;
        if nanos >= 1_000_000_000 {
            let why = "a time has too many nanoseconds";
            return Err(minicbor::decode::Error::message(why).at(at));
        }
        Ok(UnixTime { seconds, nanos })
    }
}

impl From<jiff::Timestamp> for UnixTime {
    fn from(at: jiff::Timestamp) -> UnixTime {
        let nanos = at.as_nanosecond();
        let seconds = i64::try_from(nanos.div_euclid(1_000_000_000)).unwrap_or(0);
        let rest = u32::try_from(nanos.rem_euclid(1_000_000_000)).unwrap_or(0);
        UnixTime { seconds, nanos: rest }
    }
}

impl From<SystemTime> for UnixTime {
    fn from(at: SystemTime) -> UnixTime {
        match at.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => UnixTime::EPOCH.plus(after),
            Err(before) => UnixTime::EPOCH.minus(before.duration()),
        }
    }
}

/// The first second of the year 0001, before which RFC 3339 has no way to write a time.
const YEAR_1: i64 = -62_135_596_800;

/// RFC 3339 in UTC with as many digits as it needs; where that has none, `@seconds`.
impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_timestamp() {
            Some(at) if self.seconds >= YEAR_1 => write!(f, "{at}"),
            _ => f.write_str(&self.to_seconds()),
        }
    }
}

impl serde::Serialize for UnixTime {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exact_text_has_all_its_digits() {
        let at = |nanos| UnixTime::new(1_700_000_000, nanos).to_exact();
        assert_eq!(at(400_390_000), "2023-11-14T22:13:20.400390000Z");
        assert_eq!(at(0), "2023-11-14T22:13:20.000000000Z");
        assert_eq!(UnixTime::new(YEAR_1 - 1, 5).to_exact(), "@-62135596800.999999995");
    }

    #[test]
    fn arithmetic_carries_and_borrows_across_seconds_and_the_epoch() {
        let half = Duration::from_millis(500);
        let at = UnixTime::new(-1, 600_000_000);
        assert_eq!(at.plus(half), UnixTime::new(0, 100_000_000));
        assert_eq!(at.plus(half).minus(half), at);
        assert_eq!(at.plus(half).since(at), half);
        assert_eq!(at.since(at.plus(half)), Duration::ZERO);
        assert_eq!(UnixTime::from_millis(-1), UnixTime::new(-1, 999_000_000));
        assert_eq!(UnixTime::from_millis(-1).as_millis(), -1);
    }

    #[test]
    fn shows_instants_that_no_calendar_has() {
        assert_eq!(UnixTime::new(i64::MAX, 5).to_string(), "@9223372036854775807.000000005");
        assert_eq!(UnixTime::new(i64::MIN, 0).to_string(), "@-9223372036854775808.000000000");
        assert_eq!(UnixTime::new(i64::MIN, 1).to_string(), "@-9223372036854775807.999999999");
        assert_eq!(UnixTime::new(-62_135_596_800, 0).to_string(), "0001-01-01T00:00:00Z");
        assert_eq!(
            UnixTime::new(-62_135_596_801, 999_999_999).to_string(),
            "@-62135596800.000000001"
        );
        assert_eq!(UnixTime::new(1, 500_000_000).to_string(), "1970-01-01T00:00:01.5Z");
    }
}
