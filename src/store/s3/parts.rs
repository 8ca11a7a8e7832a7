//! A body that comes piece by piece, put together in parts, each in memory of its own.

use bytes::Bytes;

/// Parts of certain lengths.
pub(super) struct Parts<'a> {
    whole: Vec<Bytes>,
    filling: Vec<u8>,
    /// How much of the part that is being filled is still to come.
    room: usize,
    following: &'a [usize],
}

impl Parts<'_> {
    /// Parts of these lengths; none means one part that has `all` bytes, or so.
    pub(super) fn new(lengths: &[usize], all: usize) -> Parts<'_> {
        let (first, following) = lengths.split_first().map_or((all, lengths), |(n, all)| (*n, all));
        let filling = Vec::with_capacity(first);
        Parts { whole: Vec::with_capacity(lengths.len()), filling, room: first, following }
    }

    /// Adds what came. The last part takes more than its length.
    pub(super) fn add(&mut self, mut piece: &[u8]) {
        while let Some((next, following)) = self.following.split_first()
            && piece.len() >= self.room
        {
            let (end, rest) = piece.split_at(self.room);
            self.filling.extend_from_slice(end);
            // Memory is taken when its bytes come, and not for all parts at first.
            let full = std::mem::replace(&mut self.filling, Vec::with_capacity(*next));
            self.whole.push(full.into());
            (self.room, self.following, piece) = (*next, following, rest);
        }
        self.filling.extend_from_slice(piece);
        self.room = self.room.saturating_sub(piece.len());
    }

    /// The parts, of which some are missing if less came.
    pub(super) fn finish(mut self) -> Vec<Bytes> {
        self.whole.push(self.filling.into());
        self.whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_the_pieces_fall_the_parts_have_their_lengths() {
        let body: Vec<u8> = (0..20).collect();
        for lengths in [&[20][..], &[7, 1, 12], &[0, 5, 0, 15], &[19, 1], &[20, 0]] {
            for piece in [1, 2, 6, 7, 8, 19, 20] {
                let mut parts = Parts::new(lengths, 0);
                body.chunks(piece).for_each(|piece| parts.add(piece));
                let parts = parts.finish();
                assert_eq!(parts.iter().map(Bytes::len).collect::<Vec<_>>(), lengths);
                assert_eq!(parts.concat(), body);
            }
        }
    }

    #[test]
    fn without_lengths_there_is_one_part() {
        for all in [0, 3, 9] {
            let mut parts = Parts::new(&[], all);
            parts.add(b"abc");
            parts.add(b"def");
            assert_eq!(parts.finish(), ["abcdef"]);
        }
    }
}
