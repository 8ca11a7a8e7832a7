//! The program itself: what it prints, as text and as JSON, and how it ends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod backup;
mod bench;
mod benchmark;
mod bucket;
mod check;
mod durable;
mod follow;
mod forget;
mod keys;
mod look;
mod mount;
mod refusals;
mod served;
mod source;
mod time;
mod times;
mod units;
mod upgrade;
mod verify_log;
mod walkthrough;
