//! Each rule of safety is needed: without it the simulation finds a loss.
//!
//! What a rule forbids happens seldom by itself, so each has the kind of run in which it
//! happens often, or a script in which it happens unless the seed has it otherwise. The
//! same run with the rule loses nothing, which shows that it is the rule.

use std::sync::LazyLock;

use asof::format::names;
use asof::repo::rules::Rules;

use crate::run::{Act, Bias, GRACE, HOUR, Plan, run};
use crate::seeds::{number, plan, told};

/// A rule: its name, how it is switched off, and what runs show it.
struct Rule {
    name: &'static str,
    /// The seed at which the search begins, since one of the next has found it before.
    from: u64,
    off: fn(&mut Rules),
    runs: fn(Plan) -> Plan,
}

const RULES: [Rule; 12] = [
    Rule { name: "evidence expires", from: 1, off: |r| r.evidence_expires = false, runs: unaware },
    Rule { name: "late is noticed", from: 26, off: |r| r.late_is_noticed = false, runs: slow },
    Rule {
        name: "condemned is no evidence",
        from: 1,
        off: |r| r.condemned_is_no_evidence = false,
        runs: slow,
    },
    Rule {
        name: "young packs stay",
        from: 156,
        off: |r| r.young_packs_stay = false,
        runs: very_slow,
    },
    Rule {
        name: "young snapshots are roots",
        from: 1,
        off: |r| r.young_snapshots_are_roots = false,
        runs: forgotten,
    },
    Rule { name: "pins are roots", from: 1, off: |r| r.pins_are_roots = false, runs: pinned },
    Rule { name: "deletion waits", from: 4, off: |r| r.deletion_waits = false, runs: slow },
    Rule {
        name: "deletion marks anew",
        from: 41,
        off: |r| r.deletion_marks_anew = false,
        runs: slow,
    },
    Rule { name: "copies must stand", from: 1, off: |r| r.copies_must_stand = false, runs: twice },
    Rule {
        name: "only trusted copies count",
        from: 70,
        off: |r| r.only_trusted_copies_count = false,
        runs: lied_to,
    },
    Rule {
        name: "covered records wait",
        from: 9,
        off: |r| r.covered_records_wait = false,
        runs: dropped,
    },
    Rule {
        name: "stale index is rebuilt",
        from: 2,
        off: |r| r.stale_index_is_rebuilt = false,
        runs: away,
    },
];

/// Two writers, one that forgets and two that collect.
const WITH_OWNERS: Bias = Bias {
    cast: &[0, 2, 5, 6, 7],
    pieces: 4,
    changes: 900,
    keeps: 0,
    gap: GRACE / 3,
    sleeps: GRACE,
};

/// Writers that are suspended now and then for up to the grace period.
fn slow(plan: Plan) -> Plan {
    Plan { drowsy: Some(250), trouble: Some(0), bias: Some(WITH_OWNERS), ..plan }
}

/// Writers that take longer than anything else lasts.
fn very_slow(plan: Plan) -> Plan {
    let bias = Bias { cast: &[0, 5, 6], sleeps: GRACE * 4 / 5, ..WITH_OWNERS };
    Plan { drowsy: Some(400), bias: Some(bias), ..slow(plan) }
}

/// What is needed only once it is condemned, wherever it is: two machines store the same
/// without knowing of each other; it is forgotten; one of them backs it up again, and is held
/// up while both packs are condemned.
const TWICE: &[Act] = &[
    Act::Become(0, 0),
    Act::Become(2, 0),
    Act::Hold(0, names::LOG),
    Act::Do(2),
    Act::Release(0),
    Act::Do(5),
    Act::Pass(GRACE + 2 * HOUR),
    Act::Do(5),
    Act::Hold(0, names::LOG),
    Act::Do(6),
    Act::Release(0),
    Act::Pass(GRACE + 3 * HOUR),
    Act::Do(6),
];

/// A machine misses a condemnation because its record left the log when the checkpoint was
/// not seen by everybody, and publishes just before another run deletes.
const DROPPED: &[Act] = &[
    Act::Blind(2, 6),
    Act::Blind(7, 2),
    Act::Become(0, 0),
    Act::Do(0),
    Act::Do(5),
    Act::Pass(GRACE + 3 * HOUR),
    Act::Do(6),
    // The last that it knows of the log is its own, and stays there.
    Act::Pass(HOUR * 5 / 6),
    Act::Become(2, 1),
    Act::Do(2),
    Act::Do(2),
    Act::Pass(HOUR * 23 / 12),
    Act::Do(6),
    Act::Do(7),
    Act::Pass(HOUR * 5 / 6),
    Act::Become(2, 0),
    Act::Hold(2, names::LOG),
    Act::Pass(GRACE - HOUR * 13 / 4),
    Act::Release(2),
    Act::Pass(HOUR * 13 / 15),
    Act::Do(7),
];

/// A machine that only writes builds each time on what it published not long before, all
/// of which is forgotten at once; the last of it just before a collector lists.
static FORGOTTEN: LazyLock<Vec<Act>> = LazyLock::new(|| {
    const STEP: i64 = 12;
    let mut acts = vec![Act::Blind(7, 3), Act::Become(3, 0)];
    for hour in (0..=2 * GRACE / HOUR + STEP).step_by(STEP as usize) {
        let collects = (GRACE / HOUR..GRACE / HOUR + STEP).contains(&hour);
        acts.extend([Act::Do(3), Act::Do(5), Act::Do(5)]);
        acts.extend(collects.then_some(Act::Do(6)));
        acts.push(Act::Pass(STEP * HOUR));
    }
    acts.extend([Act::Do(3), Act::Do(7)]);
    acts
});

/// A machine was away for so long that all that was said of a pack has left the log.
const AWAY: &[Act] = &[
    Act::Become(0, 0),
    Act::Do(0),
    Act::Do(5),
    Act::Pass(GRACE + 3 * HOUR),
    Act::Do(6),
    Act::Pass(GRACE + 3 * HOUR),
    Act::Do(6),
    Act::Pass(5 * GRACE),
    Act::Do(6),
    Act::Pass(2 * GRACE),
    Act::Do(6),
    Act::Pass(2 * GRACE),
    Act::Do(6),
    Act::Do(0),
];

/// A machine that only writes takes more than two grace periods for a backup that builds
/// on a snapshot that was forgotten meanwhile, without its hearing of it.
const PINNED: &[Act] = &[
    Act::Become(3, 0),
    Act::Do(3),
    Act::Do(5),
    Act::Pass(GRACE * 3 / 4),
    Act::Gain(3, 1),
    Act::Hold(3, ""),
    // The new data, its claim, a pin.
    Act::Write(3),
    Act::Write(3),
    Act::Write(3),
    Act::Pass(GRACE * 3 / 10),
    Act::Do(6),
    Act::Pass(GRACE * 3 / 5),
    // The nodes, their claim, a pin; the snapshot's record waits.
    Act::Write(3),
    Act::Write(3),
    Act::Write(3),
    Act::Pass(GRACE * 9 / 20),
    Act::Do(6),
    Act::Release(3),
];

fn scripted(plan: Plan, script: &'static [Act]) -> Plan {
    let bias = Bias { changes: 0, ..WITH_OWNERS };
    Plan { drowsy: Some(0), trouble: Some(0), bias: Some(bias), script, ..plan }
}

fn twice(plan: Plan) -> Plan {
    scripted(plan, TWICE)
}

fn forgotten(plan: Plan) -> Plan {
    scripted(Plan { encrypted: true, ..plan }, &FORGOTTEN)
}

fn pinned(plan: Plan) -> Plan {
    scripted(Plan { encrypted: true, ..plan }, PINNED)
}

fn dropped(plan: Plan) -> Plan {
    scripted(plan, DROPPED)
}

fn away(plan: Plan) -> Plan {
    scripted(plan, AWAY)
}

/// One of the writers lies.
fn lied_to(plan: Plan) -> Plan {
    let bias = Bias { cast: &[0, 2, 4, 5, 6, 7], keeps: 1, changes: 200, ..WITH_OWNERS };
    Plan { drowsy: Some(0), liar: true, bias: Some(bias), ..slow(plan) }
}

/// A writer that only writes, and so does not hear of what is forgotten; long pauses.
fn unaware(plan: Plan) -> Plan {
    let bias = Bias { cast: &[3, 5, 6], changes: 150, gap: GRACE, ..WITH_OWNERS };
    Plan { drowsy: Some(0), trouble: Some(0), encrypted: true, bias: Some(bias), ..plan }
}

/// The runs that show a rule, with these rules kept.
fn runs(rule: &Rule, rules: Rules) -> Plan {
    (rule.runs)(Plan { rules, deeds: 80, encrypted: false, liar: false, ..plan(1) })
}

#[test]
fn without_a_rule_something_is_lost_and_with_it_nothing() {
    let seeds = number("ASOF_SIM_RULE_SEEDS").unwrap_or(100);
    let mut missing = Vec::new();
    let only = std::env::var("ASOF_SIM_RULE").unwrap_or_default();
    for rule in RULES.iter().filter(|rule| rule.name.contains(&only)) {
        let mut rules = Rules::default();
        (rule.off)(&mut rules);
        let without = runs(rule, rules);
        let found = (rule.from..rule.from + seeds)
            .find_map(|seed| Some((seed, run(seed, &without).wrong?)));
        match found {
            Some((seed, wrong)) => {
                println!("{}: seed {seed}: {wrong}", rule.name);
                let with = run(seed, &runs(rule, Rules::default()));
                assert!(with.wrong.is_none(), "{}: {}", rule.name, told(seed, &with));
            }
            None => missing.push(rule.name),
        }
        if let Some(seed) = number("ASOF_SIM_SHOW") {
            println!("{}", told(seed, &run(seed, &without)));
        }
    }
    assert!(missing.is_empty(), "nothing is lost without: {missing:?}");
}
