//! The format: bytes and what they mean, a file for each section of
//! `docs/FORMAT.md`, which is normative.
//!
//! Everything here is a function of its arguments. What is decoded came from a
//! store that anybody may have written to, so no length is believed, every index
//! is checked, and a value that decodes is one that the rest of the program can
//! use without looking again.

pub mod bundle;
pub mod certificate;
pub mod checkpoint;
pub mod config;
pub mod extents;
pub mod fact;
pub mod item;
pub mod keyfile;
pub mod names;
pub mod node;
pub mod pack;
pub mod record;
pub mod segment;
pub mod writerfile;

use crate::base::Kind;

/// The version of the format: of repositories that this program makes. It reads all up
/// to this one; only `asof.json` says it.
pub const FORMAT_VERSION: u8 = 1;

/// How everything else is laid out: packs, records, key files, writer files. A number
/// of its own, in each of them and in what is signed and sealed, so that what was
/// written under an earlier version of the format stays as it is.
pub const LAYOUT: u8 = 0;

/// Bytes that are not what the format says they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// They do not decode, or contradict themselves.
    #[error("malformed {what}: {why}")]
    Malformed {
        /// Which structure.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// They are not signed by whom they name.
    #[error("forged {what}: {why}")]
    Forged {
        /// Which structure.
        what: &'static str,
        /// Whose signature it should be.
        why: &'static str,
    },
    /// They are signed by somebody whom the owner did not allow it.
    #[error("not certified by the owner: {why}")]
    Uncertified {
        /// What is wrong with the certificate.
        why: &'static str,
    },
    /// They were written by a later version.
    #[error("{what} {found} is not known to this version of asof, which knows {known}")]
    Future {
        /// What is of a later version: `format version`, `flag` ….
        what: &'static str,
        /// What was found.
        found: String,
        /// What is known.
        known: String,
    },
}

impl FormatError {
    /// A structure that does not decode.
    pub fn malformed(what: &'static str, why: impl std::fmt::Display) -> FormatError {
        FormatError::Malformed { what, why: why.to_string() }
    }

    /// What it means to whoever must act.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            FormatError::Malformed { .. }
            | FormatError::Forged { .. }
            | FormatError::Uncertified { .. } => Kind::Damaged,
            FormatError::Future { .. } => Kind::Future,
        }
    }
}

/// Decodes one CBOR value that fills `bytes` to the end.
pub(crate) fn decode_whole<'b, T: minicbor::Decode<'b, ()>>(
    what: &'static str,
    bytes: &'b [u8],
) -> Result<T, FormatError> {
    let mut decoder = minicbor::Decoder::new(bytes);
    let value = decoder.decode().map_err(|e| FormatError::malformed(what, e))?;
    if decoder.position() == bytes.len() {
        Ok(value)
    } else {
        Err(FormatError::malformed(what, "bytes follow its end"))
    }
}

/// Encodes a value as CBOR.
///
/// # Panics
///
/// Never: writing into memory does not fail, and no encoder of the format reports
/// errors of its own.
pub(crate) fn encode<T: minicbor::Encode<()>>(value: &T) -> Vec<u8> {
    #[allow(clippy::expect_used)]
    minicbor::to_vec(value).expect("encoding into memory does not fail")
}
