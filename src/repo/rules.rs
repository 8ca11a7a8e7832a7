//! The rules that keep what is needed from being deleted, each by name.
//!
//! docs/FORMAT.md, section 17, argues from them that nothing is lost. They can be
//! switched off for one purpose: the simulation shows for each that it finds a loss
//! without it, and so that it would find one if a rule were broken.

/// Which rules are kept. All of them, outside the simulation.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)]
pub struct Rules {
    /// What a writer stands on without storing it is young enough, and its records
    /// have the deadline that follows.
    pub evidence_expires: bool,
    /// A record that was received after its deadline gives nobody evidence, and whoever
    /// published it does its work again.
    pub late_is_noticed: bool,
    /// Nobody builds on a pack that is condemned.
    pub condemned_is_no_evidence: bool,
    /// A pack is condemned only when it and its claims are older than the grace period.
    pub young_packs_stay: bool,
    /// A forgotten snapshot is a root until it is older than the grace period.
    pub young_snapshots_are_roots: bool,
    /// Pins are roots.
    pub pins_are_roots: bool,
    /// A condemned pack is deleted only when the grace period has passed again.
    pub deletion_waits: bool,
    /// What is to be deleted is looked at again, as of the run that deletes it.
    pub deletion_marks_anew: bool,
    /// What is needed and stands in a pack to be deleted must stand in one that is
    /// not condemned.
    pub copies_must_stand: bool,
    /// The claims of writers that are not trusted do not make another pack superfluous.
    pub only_trusted_copies_count: bool,
    /// Records that a checkpoint covers are deleted only when the grace period has passed.
    pub covered_records_wait: bool,
    /// An index that was not brought up to date for long is made anew.
    pub stale_index_is_rebuilt: bool,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            evidence_expires: true,
            late_is_noticed: true,
            condemned_is_no_evidence: true,
            young_packs_stay: true,
            young_snapshots_are_roots: true,
            pins_are_roots: true,
            deletion_waits: true,
            deletion_marks_anew: true,
            copies_must_stand: true,
            only_trusted_copies_count: true,
            covered_records_wait: true,
            stale_index_is_rebuilt: true,
        }
    }
}
