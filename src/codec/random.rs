//! Random bytes from the operating system.

use aws_lc_rs::rand::{SecureRandom, SystemRandom};

/// `N` random bytes.
///
/// # Panics
///
/// If the operating system has no randomness to give; nothing safe can be done then.
#[must_use]
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    #[allow(clippy::expect_used)]
    SystemRandom::new().fill(&mut out).expect("the operating system gives random bytes");
    out
}
