//! What is found in a log, and about which record.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use crate::base::{ChainId, RecordId, UnixTime, WriterId};
use crate::format::record::Header;

/// How many findings of each severity are told of one by one.
const KEPT: u64 = 1000;

/// What a finding means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The log is not what honest programs and an honest store leave behind.
    Problem,
    /// Good to know: it happens without anybody's ill will, or the owner has dealt with it.
    Notice,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident $name:literal,)*) => {
        /// What is wrong.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum FindingKind {
            $($(#[$doc])* $kind,)*
        }

        impl FindingKind {
            /// Every kind.
            pub const ALL: &[FindingKind] = &[$(FindingKind::$kind,)*];

            /// Its name, as people and programs are told.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(FindingKind::$kind => $name,)*
                }
            }
        }
    };
}

kinds! {
    /// An object of the log whose name no record can have.
    StrayName "stray-name",
    /// Bytes that are not what the name says.
    Altered "altered",
    /// Bytes under their own name that are no record of this repository.
    Malformed "malformed",
    /// A record that a later version wrote.
    UnknownVersion "unknown-version",
    /// A record whose signature is not by the writer that it names.
    Forged "forged",
    /// A record of somebody whom the owner gave no certificate.
    Uncertified "uncertified",
    /// A record that the repository's key does not open, or that does not unpack.
    Unreadable "unreadable",
    /// A record that was received after its writer's certificate expired.
    Expired "expired",
    /// A record that was received after its writer was revoked.
    Revoked "revoked",
    /// A fact that only the owner may publish, by a writer.
    WrongRole "wrong-role",
    /// A snapshot or a segment of a source that is not in its writer's certificate.
    WrongSource "wrong-source",
    /// A fact that does not decode, or says what nobody can.
    BadFact "bad-fact",
    /// A record that others of its chain come after, and that is not there.
    Missing "missing",
    /// A snapshot that another one says it was compared with, and that is neither published nor
    /// forgotten.
    SnapshotGone "snapshot-gone",
    /// The end of a chain that was there before and is gone.
    Cut "cut",
    /// A chain that was there before, of which nothing is left.
    ChainGone "chain-gone",
    /// Another record has the number of one that was there before.
    Rewritten "rewritten",
    /// A record that does not follow the one that has the number before its own.
    Severed "severed",
    /// Several records of one chain with one number.
    Fork "fork",
    /// A record that was received before the one that it follows.
    Reordered "reordered",
    /// A record that stands in the log a second time, under another name.
    Replayed "replayed",
    /// A time by the writer's clock that is later than the receipt.
    ClockAhead "clock-ahead",
    /// A time by the writer's clock that is long before the receipt.
    ClockBehind "clock-behind",
    /// A name whose hour does not fit the receipt.
    Misnamed "misnamed",
    /// A checkpoint whose nodes cannot be read.
    UnreadCheckpoint "unread-checkpoint",
    /// A record that was received after its deadline.
    Late "late",
}

impl Serialize for FindingKind {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.name())
    }
}

/// Which record it is about, as far as that is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct About {
    /// The object's name in the store.
    pub object: Option<String>,
    /// The record.
    pub record: Option<RecordId>,
    /// Who signed it.
    pub writer: Option<WriterId>,
    /// Its chain.
    pub chain: Option<ChainId>,
    /// Its number in the chain.
    pub number: Option<u64>,
    /// When it was published, by its writer's clock.
    pub claimed: Option<UnixTime>,
    /// When the store received it.
    pub received: Option<UnixTime>,
}

impl About {
    /// An object of the log.
    pub(super) fn object(name: String, record: Option<RecordId>, received: UnixTime) -> About {
        About { object: Some(name), record, received: Some(received), ..About::default() }
    }

    /// The same with what its header says.
    pub(super) fn with(self, header: &Header) -> About {
        About {
            writer: Some(header.writer),
            chain: Some(header.chain),
            number: Some(header.number),
            ..self
        }
    }
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it means.
    pub severity: Severity,
    /// What it is.
    pub kind: FindingKind,
    /// Which record it is about.
    #[serde(flatten)]
    pub about: About,
    /// What is wrong, in a sentence.
    pub what: String,
}

impl Finding {
    pub(super) fn problem(kind: FindingKind, about: About, what: impl Into<String>) -> Finding {
        Finding { severity: Severity::Problem, kind, about, what: what.into() }
    }

    pub(super) fn notice(kind: FindingKind, about: About, what: impl Into<String>) -> Finding {
        Finding { severity: Severity::Notice, kind, about, what: what.into() }
    }
}

/// All findings: counted, and the first of them kept.
#[derive(Default)]
pub(super) struct Findings {
    pub(super) kept: Vec<Finding>,
    pub(super) problems: u64,
    pub(super) notices: u64,
    pub(super) kinds: BTreeMap<FindingKind, u64>,
}

impl Findings {
    pub(super) fn add(&mut self, finding: Finding) {
        let count = match finding.severity {
            Severity::Problem => &mut self.problems,
            Severity::Notice => &mut self.notices,
        };
        *count += 1;
        *self.kinds.entry(finding.kind).or_default() += 1;
        if *count <= KEPT {
            self.kept.push(finding);
        }
    }

    /// Adds those of another part of the work.
    pub(super) fn absorb(&mut self, other: Findings) {
        self.problems += other.problems;
        self.notices += other.notices;
        for (kind, count) in other.kinds {
            *self.kinds.entry(kind).or_default() += count;
        }
        self.kept.extend(other.kept);
        let mut room = BTreeMap::from([(Severity::Problem, KEPT), (Severity::Notice, KEPT)]);
        self.kept.retain(|finding| match room.get_mut(&finding.severity) {
            Some(left) if *left > 0 => {
                *left -= 1;
                true
            }
            _ => false,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_counted_and_some_are_kept_of_each_severity() {
        let some = |count: u64, severity: Severity| {
            let mut findings = Findings::default();
            for _ in 0..count {
                let finding = Finding::problem(FindingKind::Fork, About::default(), "");
                findings.add(Finding { severity, ..finding });
            }
            findings
        };
        let mut all = some(KEPT - 1, Severity::Problem);
        all.absorb(some(KEPT + 2, Severity::Notice));
        all.absorb(some(3, Severity::Problem));
        assert_eq!((all.problems, all.notices), (KEPT + 2, KEPT + 2));
        assert_eq!(all.kinds, BTreeMap::from([(FindingKind::Fork, 2 * KEPT + 4)]));
        let kept = |severity| all.kept.iter().filter(|one| one.severity == severity).count() as u64;
        assert_eq!((kept(Severity::Problem), kept(Severity::Notice)), (KEPT, KEPT));
    }

    /// The document says what each kind means.
    #[test]
    fn every_kind_is_in_the_document() {
        let document = include_str!("../../../docs/SEMANTICS.md");
        for kind in FindingKind::ALL {
            let name = format!("`{}`", kind.name());
            assert!(document.contains(&name), "{name}");
        }
    }
}
