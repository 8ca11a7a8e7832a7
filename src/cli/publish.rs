//! How followers stand, for other programs: a file that is always whole, and a socket that
//! answers at once.
//!
//! The file is for who reads files: a shell, a collector of metrics, a person. It is as old
//! as its last change. The socket is for who wants to know now: whether anybody answers
//! says whether the process lives, and lags are counted up to that moment.
//!
//! Both only ever read the [`StatusBoard`], so neither can hold a follower up.

pub mod file;
pub mod socket;

use crate::ops::follow::status::StatusBoard;

/// The board as one line of JSON, and its version.
fn document(board: &StatusBoard) -> (u64, Vec<u8>) {
    let (version, status) = board.read();
    // It is made of texts and numbers, which have a form.
    let mut bytes = serde_json::to_vec(&status).unwrap_or_default();
    bytes.push(b'\n');
    (version, bytes)
}

#[cfg(test)]
pub(super) fn test_board() -> StatusBoard {
    use crate::base::{Clock, UnixTime};
    use crate::ops::follow::status::Process;

    let process = Process { pid: 1, version: "0".to_owned(), started: UnixTime::EPOCH };
    StatusBoard::new(process, Clock::system())
}
