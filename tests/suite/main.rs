//! Tests of the library from outside, in one binary because linking is slow.

// Helpers of tests may end a test, and say what did not run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod backup_restore;
mod bundles;
mod ceph;
mod check;
mod checkpoint;
mod crash;
mod damage;
mod decode_any;
mod disk;
mod fixture;
mod follow;
mod followed;
mod forged;
mod forget;
mod full_disk;
mod gc;
mod golden;
mod golden_bytes;
mod manifest;
mod reader;
mod requests;
mod runs;
mod safety;
mod segments;
mod states_in_views;
mod store_contract;
mod store_faults;
mod store_local;
mod store_s3;
mod streams;
mod thin;
mod unchanged_log;
mod upgrade;
mod verify_log;
mod world;
