//! Seeds, one after the other: a few hundred in every test, as many as one likes with
//! `scripts/sim`.
//!
//! | variable | what it says |
//! | --- | --- |
//! | `ASOF_SIM_SEEDS` | how many seeds |
//! | `ASOF_SIM_FIRST` | the first of them |
//! | `ASOF_SIM_STEPS` | how many things the parties do in each |
//! | `ASOF_SIM_TRACE` | how many events of a seed that fails are shown |

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};

use asof::base::pause::monotonic;
use asof::repo::rules::Rules;

use crate::party::Collect;
use crate::run::{Plan, Ran, run};
use crate::{collector, reckless};

/// The collector that is tested: the program's own.
pub const COLLECT: Option<Collect> = Some(collector::collect);

/// How many seeds a test runs, if nobody says.
const SEEDS: u64 = 150;

pub fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// What a seed runs: every fifth with encryption, whose keys are never the same again.
pub fn plan(seed: u64) -> Plan {
    Plan {
        deeds: usize::try_from(number("ASOF_SIM_STEPS").unwrap_or(60)).unwrap(),
        rules: Rules::default(),
        collect: COLLECT,
        trouble: None,
        drowsy: None,
        encrypted: seed.is_multiple_of(5),
        liar: seed % 5 == 1,
        bias: None,
        script: &[],
    }
}

pub fn told(seed: u64, ran: &Ran) -> String {
    let most = usize::try_from(number("ASOF_SIM_TRACE").unwrap_or(80)).unwrap();
    let trace = &ran.trace[ran.trace.len().saturating_sub(most)..];
    let wrong = ran.wrong.as_deref().unwrap_or_default();
    format!("{}\nseed {seed}: {wrong}", trace.join("\n"))
}

/// Runs seeds here, and stops at the first that finds something.
fn run_seeds(seeds: impl Iterator<Item = u64>) {
    let began = monotonic();
    let mut counts = BTreeMap::new();
    for seed in seeds {
        let ran = run(seed, &plan(seed));
        assert!(ran.wrong.is_none(), "{}\nASOF_SIM_FIRST={seed} scripts/sim", told(seed, &ran));
        *counts.entry("seeds").or_insert(0) += 1;
        for (what, n) in &ran.counts {
            *counts.entry(what).or_insert(0) += n;
        }
    }
    println!("{:.1} s {counts:?}", began.elapsed().as_secs_f64());
}

/// The seeds of one process, when [`no_seed_loses_anything`] started it.
#[test]
fn part() {
    let Some(step) = number("ASOF_SIM_PART_OF") else { return };
    let first = number("ASOF_SIM_FIRST").unwrap_or(1);
    let count = number("ASOF_SIM_SEEDS").unwrap_or(SEEDS);
    run_seeds((first..first.saturating_add(count)).step_by(usize::try_from(step).unwrap()));
}

/// A process for each processor, since a process can run only one seed at a time.
#[test]
fn no_seed_loses_anything() {
    if number("ASOF_SIM_PART_OF").is_some() {
        return;
    }
    let processes = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let (first, count) =
        (number("ASOF_SIM_FIRST").unwrap_or(1), number("ASOF_SIM_SEEDS").unwrap_or(SEEDS));
    let start = |n: u64| -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "seeds::part", "--nocapture"])
            .env("ASOF_SIM_PART_OF", processes.to_string())
            .env("ASOF_SIM_FIRST", first.saturating_add(n).to_string())
            .env("ASOF_SIM_SEEDS", count.saturating_sub(n).to_string())
            .env("ASOF_SIM_PROCESSOR", n.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let children: Vec<Child> = (0..processes.min(count)).map(start).collect();
    let mut wrong = String::new();
    for child in children {
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        println!("{}", said.trim());
        if !output.status.success() || !said.contains("1 passed") {
            wrong += &format!("{}: {}\n", output.status, String::from_utf8_lossy(&output.stderr));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// A seed that fails is worth something only if it fails again.
#[test]
fn a_seed_runs_the_same_again() {
    for seed in [1, 2, 3, 4, 6] {
        let (one, two) = (run(seed, &plan(seed)), run(seed, &plan(seed)));
        for (place, (a, b)) in one.trace.iter().zip(&two.trace).enumerate() {
            assert_eq!(a, b, "seed {seed}, event {place}");
        }
        assert_eq!(one.trace.len(), two.trace.len(), "seed {seed}");
    }
}

/// The simulation itself is no good if it does not notice that packs are missing.
#[test]
fn a_collector_without_rules_is_caught() {
    let caught = (1..=5).filter(|&seed| {
        let plan = Plan { collect: Some(reckless::collect), ..plan(1) };
        let ran = run(seed, &plan);
        ran.wrong.is_some_and(|wrong| wrong.contains("is lost"))
    });
    assert!(caught.count() >= 3);
}
