//! Which streams there are.

use super::{Index, Result};
use crate::base::StreamId;

impl Index {
    /// Every stream of which something stands that is not forgotten, with each source under
    /// whose name it does: by source.
    ///
    /// # Errors
    ///
    /// [`super::Error`] if the index cannot be read.
    pub fn streams(&self) -> Result<Vec<(String, StreamId)>> {
        self.read(|db| {
            let mut statement = db.prepare_cached(
                "SELECT DISTINCT source, stream FROM
                     (SELECT source, stream, id FROM segment
                      UNION ALL SELECT base.source, base.stream, snapshot.id FROM base
                          JOIN snapshot ON snapshot.id = base.snapshot
                              AND snapshot.record = base.record)
                 WHERE id NOT IN (SELECT snapshot FROM forgotten) ORDER BY source, stream",
            )?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, StreamId(row.get(1)?))))?;
            rows.collect()
        })
    }
}
