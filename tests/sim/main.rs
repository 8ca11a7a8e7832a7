//! The simulation that attacks the protocol of docs/FORMAT.md, section 17: many parties,
//! one store under control, and every seed another course of events.

// Helpers of tests may end a test, and say what did not run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod collector;
mod oracle;
mod party;
mod quiet;
mod reckless;
mod rng;
mod rules;
mod run;
mod seeds;
mod stream;
mod tree;
mod world;
