//! Keys from passphrases: argon2id, with bounds on what a key file may ask for.
//!
//! A key file says how its key is derived. It comes from the store, so what it
//! says is not believed beyond bounds: a forged one must not make a reader
//! allocate all memory or work for hours.

use argon2::{Algorithm, Argon2, Params, Version};
use serde::{Deserialize, Serialize};

use crate::codec::seal::SealKey;
use crate::codec::{CodecError, random};

/// Parameters of argon2id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl Cost {
    /// RFC 9106's second recommendation: 64 MiB, about a fifth of a second.
    pub const DEFAULT: Cost = Cost { memory_kib: 64 * 1024, passes: 3, lanes: 4 };

    /// As cheap as argon2 goes, for tests and for passphrases that are random.
    pub const LEAST: Cost = Cost { memory_kib: 8, passes: 1, lanes: 1 };

    const MEMORY_KIB_MAX: u32 = 1024 * 1024;
    const PASSES_MAX: u32 = 16;
    const LANES_MAX: u32 = 8;
}

/// A salt for [`derive()`].
pub type Salt = [u8; 32];

/// A fresh salt.
#[must_use]
pub fn salt() -> Salt {
    random::bytes()
}

/// The key that a passphrase, a salt and a cost make.
///
/// # Errors
///
/// [`CodecError::Derivation`] if the cost is out of bounds.
pub fn derive(passphrase: &[u8], salt: &Salt, cost: Cost) -> Result<SealKey, CodecError> {
    if cost.memory_kib > Cost::MEMORY_KIB_MAX {
        return Err(CodecError::Derivation("more than 1 GiB of memory"));
    }
    if cost.passes > Cost::PASSES_MAX {
        return Err(CodecError::Derivation("more than 16 passes"));
    }
    if cost.lanes > Cost::LANES_MAX {
        return Err(CodecError::Derivation("more than 8 lanes"));
    }
    let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(32))
        .map_err(|_| CodecError::Derivation("less than argon2 can do"))?;
    let mut key = [0; 32];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase, salt, &mut key)
        .map_err(|_| CodecError::Derivation("parameters that argon2 refuses"))?;
    Ok(SealKey::from_bytes(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depends_on_passphrase_and_salt_and_refuses_what_is_out_of_bounds() {
        let key = derive(b"pass", &[1; 32], Cost::LEAST).unwrap();
        assert_eq!(derive(b"pass", &[1; 32], Cost::LEAST).unwrap(), key);
        assert_ne!(derive(b"pasS", &[1; 32], Cost::LEAST).unwrap(), key);
        assert_ne!(derive(b"pass", &[2; 32], Cost::LEAST).unwrap(), key);
        for cost in [
            Cost { memory_kib: u32::MAX, ..Cost::LEAST },
            Cost { passes: 1000, ..Cost::LEAST },
            Cost { lanes: 100, ..Cost::LEAST },
            Cost { memory_kib: 0, ..Cost::LEAST },
        ] {
            assert!(derive(b"pass", &[1; 32], cost).is_err(), "{cost:?}");
        }
    }
}
