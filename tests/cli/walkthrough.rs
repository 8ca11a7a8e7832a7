//! `docs/INVESTIGATION.md`: that every command of the page does what the page says.
//!
//! It mounts, so it needs root and `/dev/fuse`, and says so.

use std::path::Path;
use std::process::Command;

use crate::bench::Ran;

#[test]
fn a_break_in_is_looked_into_as_the_page_says() {
    if !rustix::process::geteuid().is_root() || !Path::new("/dev/fuse").exists() {
        eprintln!("NOT RUN: the walk-through needs root and /dev/fuse");
        return;
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/walkthrough");
    let mut command = Command::new(script);
    command.env("ASOF", env!("CARGO_BIN_EXE_asof"));
    Ran::of(command.output().unwrap()).exits(0).shows("do what it says");
}
