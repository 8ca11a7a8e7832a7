//! The units for systemd: that systemd takes them, and that they say what they must.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use crate::bench::{Bench, Ran};

const UNITS: [&str; 2] = ["asof-follow@.service", "asof-follow.service"];

fn text(unit: &str) -> String {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/systemd");
    std::fs::read_to_string(dir.join(unit)).unwrap()
}

/// `Section.Key` with every value that it is given.
fn settings(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut settings: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut section = "";
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            Some(name) => section = name,
            None => {
                let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("{line:?}"));
                settings.entry(format!("{section}.{key}")).or_default().push(value.to_owned());
            }
        }
    }
    settings
}

#[test]
fn units_say_what_a_follower_needs() {
    for unit in UNITS {
        let settings = settings(&text(unit));
        let only = |key: &str| match settings[key].as_slice() {
            [only] => only.clone(),
            many => panic!("{unit}: {key} is {many:?}"),
        };
        assert_eq!(only("Service.Type"), "notify");
        assert_eq!(only("Service.NotifyAccess"), "main");
        assert_eq!(only("Service.Restart"), "on-failure");
        assert!(only("Service.ExecStart").starts_with("/usr/bin/asof follow "));
        assert!(settings.contains_key("Service.WatchdogSec"));
        // Who holds the log of a database outlives the main process when that is killed.
        assert_eq!(only("Service.KillMode"), "process");
        // Locks on a database are in a file beside it, wherever that is.
        assert_eq!(only("Service.ProtectSystem"), "full");
        for key in ["ProtectHome", "ReadOnlyPaths", "InaccessiblePaths", "DynamicUser"] {
            assert!(!settings.contains_key(&format!("Service.{key}")), "{unit}: {key}");
        }
    }
}

/// They differ in what is followed alone, so that a fix of one is not forgotten in the other.
#[test]
fn units_differ_in_what_is_followed_alone() {
    let [mut one, mut all] = UNITS.map(|unit| settings(&text(unit)));
    for key in ["Unit.Description", "Service.ExecStart", "Service.RuntimeDirectory"] {
        assert_ne!(one.remove(key).unwrap(), all.remove(key).unwrap());
    }
    assert_eq!(one, all);
}

#[test]
fn systemd_takes_the_units() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        eprintln!("NOT RUN: systemd-analyze is not installed");
        return;
    }
    let bench = Bench::new();
    for unit in UNITS {
        // The program need not be installed for this.
        let text = text(unit).replace("/usr/bin/asof", env!("CARGO_BIN_EXE_asof"));
        let path = bench.write(&unit.replace('@', "@shop"), text.as_bytes());
        let ran = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(path).output();
        let ran = Ran::of(ran.unwrap()).exits(0);
        // Unknown settings are only told of.
        assert!(!ran.stderr.contains("asof-follow"), "{}", ran.stderr);
    }
}
