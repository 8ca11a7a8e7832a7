//! Certificates that were verified once.
//!
//! A machine shows its certificate with each record. To verify it takes longer than all
//! else that is done with a small record, and a followed source makes one a second.

use crate::base::WriterId;
use crate::cache::MemoryCache;
use crate::codec::hash::sha256;
use crate::format::FormatError;
use crate::format::certificate::Certificate;
use crate::format::config::Config;

/// So many are remembered.
const KEPT: usize = 256;

/// Those of one repository. Shared by threads.
pub(super) struct Certificates(MemoryCache<(WriterId, [u8; 32]), Certificate>);

impl Default for Certificates {
    fn default() -> Certificates {
        Certificates(MemoryCache::new(KEPT))
    }
}

impl Certificates {
    /// The certificate that a writer shows, if the repository's owner made it for that writer.
    pub(super) fn verify(
        &self,
        bytes: &[u8],
        config: &Config,
        writer: WriterId,
    ) -> Result<Certificate, FormatError> {
        let shown = (writer, sha256(bytes));
        if let Some(certificate) = self.0.get(&shown) {
            return Ok(certificate);
        }
        let certificate = Certificate::verify(bytes, config.owner, config.repository, writer)?;
        self.0.put(shown, certificate.clone(), 1);
        Ok(certificate)
    }
}
