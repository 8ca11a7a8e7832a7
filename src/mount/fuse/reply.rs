//! Replies: how each can fail, and what is counted and logged when it does.

use std::sync::Arc;

use fuser::{
    Errno, INodeNo, ReplyAttr, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEntry,
    ReplyLseek, ReplyOpen, ReplyStatfs, ReplyXattr,
};

use crate::mount::counters::Counters;
use crate::mount::errno;
use crate::mount::pool::{Refusal, Refuse};
use crate::mount::vfs::Vfs;
use crate::view::error::Error;

/// Ends a reply with the number of an error, which is counted and perhaps logged.
pub(super) fn fail<R: Fail>(vfs: &Vfs, call: &'static str, ino: INodeNo, reply: R, error: &Error) {
    vfs.failed(call, ino.0, error);
    reply.fail(errno::of(error));
}

/// A reply that can be an error number.
pub(super) trait Fail: Send + 'static {
    fn fail(self, errno: Errno);
}

macro_rules! fail {
    ($($reply:ty),*) => {
        $(impl Fail for $reply {
            fn fail(self, errno: Errno) {
                self.error(errno);
            }
        })*
    };
}

fail!(
    ReplyAttr,
    ReplyData,
    ReplyDirectory,
    ReplyDirectoryPlus,
    ReplyEntry,
    ReplyLseek,
    ReplyOpen,
    ReplyStatfs,
    ReplyXattr
);

/// A reply whose refusal is counted.
pub(super) struct Counted<R> {
    pub(super) reply: R,
    pub(super) vfs: Arc<Vfs>,
    pub(super) call: &'static str,
    pub(super) ino: INodeNo,
}

impl<R: Fail> Refuse for Counted<R> {
    fn refuse(self, why: Refusal) {
        let counters = self.vfs.counters();
        match why {
            Refusal::Late => {
                Counters::add(&counters.expired, 1);
                self.vfs.late(self.call, self.ino.0);
            }
            Refusal::Panicked => Counters::add(&counters.panics, 1),
        }
        self.reply.fail(Errno::EIO);
    }
}

/// Replies with a value of which the caller may have asked the size alone.
pub(super) fn send_xattr(reply: ReplyXattr, value: &[u8], size: u32) {
    match u32::try_from(value.len()) {
        Ok(length) if size == 0 => reply.size(length),
        Ok(length) if length <= size => reply.data(value),
        _ => reply.error(Errno::ERANGE),
    }
}
