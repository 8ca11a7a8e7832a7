//! Caches: memory over disk, both bounded, both free to be lost at any moment.
//!
//! What lies on disk is sealed as it was in the store, so the cache adds nothing
//! to what a thief of the disk learns, and whatever was altered there does not
//! open. Nothing read from a cache is believed more than what a store returns.

mod disk;
mod memory;

pub use disk::DiskCache;
pub use memory::MemoryCache;
