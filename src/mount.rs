//! The mount: the past as a file system that the kernel asks for.
//!
//! `vfs` answers as plain functions of numbers, `fuse` translates between
//! them and the kernel's requests, `session` mounts and unmounts. Nothing here
//! writes to the repository, and a mount takes no lock.

mod ahead;
mod copies;
mod counters;
mod errno;
mod fuse;
mod mountinfo;
mod pool;
mod push;
mod session;
mod vfs;

pub use copies::PassthroughOptions;
pub use session::{MountError, MountOptions, serve, unmount};

#[cfg(test)]
mod kernel_tests;
