//! The names of objects, made and read in this one place.
//!
//! ```text
//! asof.json
//! upgrade/asof.json
//! keys/<sha256>.json
//! packs/<first 2 digits>/<sha256>
//! log/<hour>-<sha256>            hour: YYYYMMDDHH, UTC, as the writer claims it
//! log/<hour>-<sha256>.bundle     of records of that hour
//! ```
//!
//! But for the first two, a name holds the SHA-256 of the object's bytes: it is its
//! own proof, and writing an object twice can do no harm. The hour in front lets
//! LIST begin where the last one ended.

use crate::base::{KeyId, PackId, RecordId, UnixTime};

/// The repository's description.
pub const CONFIG: &str = "asof.json";
/// The same in a newer version of the format, put there before it takes the place of the
/// old one.
pub const UPGRADE: &str = "upgrade/asof.json";
/// Where wrapped keys are.
pub const KEYS: &str = "keys/";
/// Where packs are.
pub const PACKS: &str = "packs/";
/// Where records are.
pub const LOG: &str = "log/";

/// How names of bundles end.
const BUNDLE: &str = ".bundle";

/// The name of a file with wrapped keys.
#[must_use]
pub fn key(id: KeyId) -> String {
    format!("{KEYS}{id}.json")
}

/// The id in the name of a file with wrapped keys.
#[must_use]
pub fn parse_key(name: &str) -> Option<KeyId> {
    name.strip_prefix(KEYS)?.strip_suffix(".json")?.parse().ok()
}

/// The name of a pack.
#[must_use]
pub fn pack(id: PackId) -> String {
    let id = id.to_string();
    format!("{PACKS}{}/{id}", &id[..2])
}

/// The id in the name of a pack.
#[must_use]
pub fn parse_pack(name: &str) -> Option<PackId> {
    let (folder, id) = name.strip_prefix(PACKS)?.split_once('/')?;
    id.starts_with(folder).then_some(())?;
    (folder.len() == 2).then_some(())?;
    id.parse().ok()
}

/// An hour of UTC, as the names of records have it: ten digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hour(u64);

impl Hour {
    /// The hour that `at` is in, clamped to the years 0001 to 9999.
    #[must_use]
    pub fn of(at: UnixTime) -> Hour {
        const FIRST: i64 = -62_135_596_800;
        const LAST: i64 = 253_402_207_200;
        let seconds = at.seconds.clamp(FIRST, LAST);
        let zoned = jiff::Timestamp::from_second(seconds)
            .unwrap_or_default()
            .to_zoned(jiff::tz::TimeZone::UTC);
        let digits = |n: i64| u64::try_from(n).unwrap_or(0);
        Hour(
            digits(zoned.year().into()) * 1_000_000
                + digits(zoned.month().into()) * 10_000
                + digits(zoned.day().into()) * 100
                + digits(zoned.hour().into()),
        )
    }
}

impl Hour {
    /// When the hour begins; none if these digits are no hour of the calendar.
    #[must_use]
    pub fn begins(self) -> Option<UnixTime> {
        let part = |n: u64| i8::try_from(n % 100).ok();
        let year = i16::try_from(self.0 / 1_000_000).ok()?;
        let (month, day) = (part(self.0 / 10_000)?, part(self.0 / 100)?);
        let civil = jiff::civil::DateTime::new(year, month, day, part(self.0)?, 0, 0, 0).ok()?;
        let zoned = civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
        Some(zoned.timestamp().into())
    }
}

impl std::fmt::Display for Hour {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:010}", self.0)
    }
}

/// The name of a record.
#[must_use]
pub fn record(hour: Hour, id: RecordId) -> String {
    format!("{LOG}{hour}-{id}")
}

/// Where a listing of records of that hour and later begins: before all of them,
/// after all earlier ones.
#[must_use]
pub fn record_start(hour: Hour) -> String {
    format!("{LOG}{hour}")
}

/// The name of a bundle of records of that hour, of which this is the SHA-256.
#[must_use]
pub fn bundle(hour: Hour, hash: &[u8; 32]) -> String {
    format!("{LOG}{hour}-{}{BUNDLE}", hex::encode(hash))
}

/// The hour and the SHA-256 in the name of a bundle.
#[must_use]
pub fn parse_bundle(name: &str) -> Option<(Hour, [u8; 32])> {
    parse_record(name.strip_suffix(BUNDLE)?).map(|(hour, id)| (hour, id.0))
}

/// The hour and id in the name of a record.
#[must_use]
pub fn parse_record(name: &str) -> Option<(Hour, RecordId)> {
    let (hour, id) = name.strip_prefix(LOG)?.split_once('-')?;
    let plain = hour.len() == 10 && hour.bytes().all(|b| b.is_ascii_digit());
    plain.then_some(())?;
    Some((Hour(hour.parse().ok()?), id.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        let id = [0xc4; 32];
        assert_eq!(parse_key(&key(KeyId(id))), Some(KeyId(id)));
        assert_eq!(parse_pack(&pack(PackId(id))), Some(PackId(id)));
        let hour = Hour::of("2026-11-21T05:59:59Z".parse::<jiff::Timestamp>().unwrap().into());
        assert_eq!(hour.to_string(), "2026112105");
        assert_eq!(parse_record(&record(hour, RecordId(id))), Some((hour, RecordId(id))));
        assert!(record_start(hour) < record(hour, RecordId([0; 32])));
        assert_eq!(parse_bundle(&bundle(hour, &id)), Some((hour, id)));
        assert_eq!(parse_record(&bundle(hour, &id)), None);
        assert_eq!(parse_bundle(&record(hour, RecordId(id))), None);
        assert_eq!(Hour::of(UnixTime::new(i64::MAX, 0)).to_string(), "9999123022");
        let begins = hour.begins().unwrap();
        assert_eq!(begins.to_string(), "2026-11-21T05:00:00Z");
        assert_eq!(Hour::of(begins), hour);
        assert_eq!(Hour(2_026_113_105).begins(), None);
        assert_eq!(Hour(2_026_112_124).begins(), None);
    }

    #[test]
    fn nothing_else_reads_as_a_name() {
        let id = PackId([0xc4; 32]);
        for name in ["", "packs/", "packs/c5/", &format!("packs/c5/{id}"), &format!("packs/{id}")] {
            assert_eq!(parse_pack(name), None, "{name}");
        }
        for name in [format!("log/202611210-{id}"), format!("log/+026112105-{id}"), "log/".into()] {
            assert_eq!(parse_record(&name), None, "{name}");
        }
    }
}
