//! Tests of the library from outside, in one binary because linking is slow.

// Helpers of tests may end a test, and say what did not run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod backup_restore;
mod ceph;
mod checkpoint;
mod decode_any;
mod fixture;
mod forged;
mod golden_bytes;
mod reader;
mod safety;
mod store_contract;
mod store_faults;
mod store_local;
mod store_s3;
