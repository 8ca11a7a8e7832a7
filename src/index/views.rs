//! Numbers of the mount's directories.
//!
//! An inode number is a view's number and a rank. Views get their numbers when
//! they are first looked up, and keep them as long as the index lives, so that
//! numbers are the same after a remount.

use super::{Index, Result};

impl Index {
    /// The number of the view of that name, which is given one of at least `least`
    /// if it has none.
    ///
    /// # Errors
    ///
    /// [`super::Error`] if the index cannot be written.
    pub fn view_number(&self, name: &str, least: u64) -> Result<u64> {
        let known = self.read(|db| {
            let mut statement = db.prepare_cached("SELECT number FROM view WHERE name = ?1")?;
            super::optional(statement.query_row([name], |row| row.get::<_, i64>(0)))
        })?;
        let number = match known {
            Some(number) => number,
            None => self.write(|db| {
                let next: i64 =
                    db.query_row("SELECT coalesce(max(number), 0) + 1 FROM view", [], |row| {
                        row.get(0)
                    })?;
                let next = next.max(i64::try_from(least).unwrap_or(i64::MAX));
                db.query_row(
                    "INSERT INTO view VALUES (?1, ?2)
                     ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING number",
                    (next, name),
                    |row| row.get(0),
                )
            })?,
        };
        Ok(u64::try_from(number).unwrap_or(0))
    }
}
