//! The names in a directory, read and put in order.

use std::os::fd::BorrowedFd;

use rustix::fs::RawDir;
use rustix::io::Errno;

/// The names of a directory, end to end in one buffer: a directory may have a
/// million of them, and a million allocations would be most of the walk.
#[derive(Default)]
pub(super) struct Names {
    bytes: Vec<u8>,
    spans: Vec<(usize, u16)>,
}

impl Names {
    pub(super) fn of<'a>(names: impl Iterator<Item = &'a [u8]>) -> Names {
        let mut all = Names::default();
        all.add(names);
        all
    }

    pub(super) fn len(&self) -> usize {
        self.spans.len()
    }

    pub(super) fn get(&self, index: usize) -> Option<&[u8]> {
        self.spans.get(index).map(|span| self.name(*span))
    }

    fn name(&self, (start, length): (usize, u16)) -> &[u8] {
        &self.bytes[start..start + usize::from(length)]
    }

    fn push(&mut self, name: &[u8]) {
        // The kernel has no name longer than 255 bytes.
        if let Ok(length) = u16::try_from(name.len()) {
            self.spans.push((self.bytes.len(), length));
            self.bytes.extend_from_slice(name);
        }
    }

    pub(super) fn read(&mut self, dir: BorrowedFd<'_>, buffer: &mut Vec<u8>) -> Result<(), Errno> {
        let mut entries = RawDir::new(dir, buffer.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                self.push(name);
            }
        }
        Ok(())
    }

    /// Puts the names in byte order, each once.
    pub(super) fn sort(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        let name = |span: &(usize, u16)| &bytes[span.0..span.0 + usize::from(span.1)];
        self.spans.sort_unstable_by(|a, b| name(a).cmp(name(b)));
        self.spans.dedup_by(|a, b| name(a) == name(b));
        self.bytes = bytes;
    }

    pub(super) fn add<'a>(&mut self, names: impl Iterator<Item = &'a [u8]>) {
        names.for_each(|name| self.push(name));
        self.sort();
    }

    /// Whether a name is there; they must be in order.
    pub(super) fn has(&self, name: &[u8]) -> bool {
        self.spans.binary_search_by(|span| self.name(*span).cmp(name)).is_ok()
    }
}
