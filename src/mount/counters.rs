//! What the mount has done, for `.asof/counters.json`.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Figures that only grow.
        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $($(#[$doc])* pub(super) $name: AtomicU64,)*
        }

        impl Counters {
            /// All of them by name.
            pub(super) fn figures(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.load(Ordering::Relaxed)),)*]
            }
        }
    };
}

counters! {
    /// Names looked up.
    lookups,
    /// Attributes asked for.
    getattrs,
    /// Pieces of listings.
    readdirs,
    /// Links read.
    readlinks,
    /// Pieces of files.
    reads,
    /// Bytes of files that were asked for.
    read_bytes,
    /// Questions about extended attributes.
    xattrs,
    /// Files that were pushed into the kernel's page cache.
    pushed,
    /// Their bytes.
    pushed_bytes,
    /// Large files of which a plain copy became whole.
    copied,
    /// Times that one was opened and passed through to its copy.
    passed,
    /// Questions that the event loop could not answer from memory.
    deferred,
    /// Questions that were answered with EIO since time was up.
    expired,
    /// Questions that failed.
    errors,
    /// Handlers that panicked.
    panics,
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64, by: u64) {
        counter.fetch_add(by, Ordering::Relaxed);
    }
}
