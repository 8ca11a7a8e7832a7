//! Backing up what a program prints: a snapshot of one file.

use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::Arc;

use super::{BackupOptions, BackupReport, Before, Tree, advance, first_cause, publish};
use crate::base::{ChunkId, Progress, Stop, UnixTime};
use crate::codec::chunker::Chunker;
use crate::codec::hash::{ChunkKind, Hasher, sha256};
use crate::format::extents::{Content, INLINE_MAX};
use crate::format::fact::{Counts, Links};
use crate::format::node::{Entry, FileKind, Owner};
use crate::ops::{Error, Result};
use crate::repo::trees::{DirBuilder, Draft, store_extents};
use crate::repo::writer::{Lane, Writer};
use crate::repo::{self, Repository};

/// Where the bytes come from.
pub enum Input {
    /// A stream, usually standard input.
    Stream(Box<dyn Read + Send>),
    /// A command's standard output; it must succeed.
    Command(Vec<std::ffi::OsString>),
}

/// Backs up a stream as one file called `name`.
///
/// # Errors
///
/// [`Error::Command`] if the command fails: then no snapshot is made.
pub fn backup_stream(
    repo: &Arc<Repository>,
    name: &str,
    input: Input,
    options: &BackupOptions,
    progress: &Arc<Progress>,
    stop: &Stop,
) -> Result<BackupReport> {
    repo.check_writable()?;
    if !crate::format::node::is_sound_name(name.as_bytes()) {
        let what = format!("{name:?} is not a name that a file can have: no / and not empty");
        return Err(Error::Invalid { what });
    }
    let paths = vec![name.as_bytes().to_vec()];
    let before = Before::find(repo, options, &paths)?;
    let started = repo.clock().now();
    progress.enter("reading");
    let writer = Writer::start(repo, options.writer, None, progress, stop)?;
    let stored = store(repo, name, input, &writer, progress, stop);
    let tree = match stored {
        Ok(tree) => tree,
        Err(error) => return Err(first_cause(writer, error)),
    };
    let taken = repo.clock().now();
    let times = (started, taken);
    Ok(publish(repo, writer, tree, options, &before, times, &paths, progress)?.report)
}

fn store(
    repo: &Repository,
    name: &str,
    input: Input,
    writer: &Writer,
    progress: &Progress,
    stop: &Stop,
) -> Result<Tree> {
    let mut lane = writer.lane(ChunkKind::Data);
    let chunker = Chunker::new(repo.config().parameters.chunks, &repo.keys().ids);
    let content = match input {
        Input::Stream(mut stream) => {
            read_all(&mut stream, "standard input", &mut lane, &chunker, progress, stop)?
        }
        Input::Command(words) => run(&words, &mut lane, &chunker, progress, stop)?,
    };
    lane.flush()?;
    drop(lane);
    let mut nodes = writer.lane(ChunkKind::Node);
    let now = repo.clock().now();
    let mut file = made_up(name.as_bytes(), FileKind::File, 0o600, now);
    file.entry.size = content.size;
    file.entry.sha256 = Some(content.sha256.to_vec().into());
    match content.inline {
        Some(bytes) => file.entry.content = Some(Content::Inline(bytes.into())),
        None => {
            (file.entry.content, file.refs) = store_extents(&content.extents, &mut nodes)?;
        }
    }
    let mut builder = DirBuilder::new(repo.keys().split.clone());
    builder.add(file, 0, &mut nodes)?;
    let dir = builder.finish(&mut nodes)?;
    nodes.flush()?;
    advance(progress, 1, 0);
    let counts = Counts {
        files: 1,
        dirs: 1,
        bytes: content.size,
        new: 1,
        bytes_read: content.size,
        ..Counts::default()
    };
    let root = dir.entry_of(made_up(b"", FileKind::Dir, 0o700, now));
    Ok(Tree { root, links: Links::Inline(Vec::new()), link_refs: Vec::new(), counts })
}

/// An entry for something that has no file behind it.
fn made_up(name: &[u8], kind: FileKind, mode: u32, now: UnixTime) -> Draft {
    Draft {
        entry: Entry::new(name, kind, mode, now),
        refs: Vec::new(),
        owner: Owner {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            user: None,
            group: None,
        },
    }
}

fn run(
    words: &[std::ffi::OsString],
    lane: &mut Lane,
    chunker: &Chunker,
    progress: &Progress,
    stop: &Stop,
) -> Result<StreamContent> {
    let shown: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    let command = shown.join(" ");
    let failed = |why: String| Error::Command { command: command.clone(), why };
    let (program, arguments) =
        words.split_first().ok_or_else(|| failed("it is empty".to_owned()))?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed(format!("it cannot be started: {error}")))?;
    let Some(mut output) = child.stdout.take() else {
        return Err(failed("it has no standard output".into()));
    };
    let content = read_all(&mut output, "the command's output", lane, chunker, progress, stop);
    if content.is_err() {
        let _ = child.kill();
    }
    drop(output);
    let status = child.wait().map_err(|error| failed(error.to_string()))?;
    let content = content?;
    if status.success() { Ok(content) } else { Err(failed(status.to_string())) }
}

/// What a stream held.
struct StreamContent {
    inline: Option<Vec<u8>>,
    extents: Vec<(u64, Option<ChunkId>)>,
    sha256: [u8; 32],
    size: u64,
}

fn read_all(
    stream: &mut dyn Read,
    what: &str,
    lane: &mut Lane,
    chunker: &Chunker,
    progress: &Progress,
    stop: &Stop,
) -> Result<StreamContent> {
    let mut buffer = vec![0; 2 * chunker.max()];
    let (mut start, mut filled, mut ended) = (0, 0, false);
    let mut whole = Hasher::new();
    let mut content = StreamContent { inline: None, extents: Vec::new(), sha256: [0; 32], size: 0 };
    loop {
        while !ended && filled - start < chunker.max() {
            if stop.is_raised() {
                return Err(repo::Error::Interrupted.into());
            }
            buffer.copy_within(start..filled, 0);
            filled -= start;
            start = 0;
            match stream.read(&mut buffer[filled..]) {
                Ok(0) => ended = true,
                Ok(count) => {
                    filled += count;
                    advance(progress, 0, count as u64);
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(source) => return Err(Error::File { path: what.into(), source }),
            }
        }
        if start == filled {
            break;
        }
        if ended && content.size == 0 && filled - start <= INLINE_MAX {
            let bytes = buffer[start..filled].to_vec();
            whole.update(&bytes);
            content.size = bytes.len() as u64;
            content.inline = Some(bytes);
            break;
        }
        let length = chunker.cut(&buffer[start..filled]);
        let chunk = &buffer[start..start + length];
        whole.update(chunk);
        let id = lane.add(chunk, &sha256(chunk))?;
        content.extents.push((length as u64, Some(id)));
        content.size += length as u64;
        start += length;
    }
    // Ctrl-C ends both sides of a pipe: what came to its end so is no whole dump.
    if stop.is_raised() {
        return Err(repo::Error::Interrupted.into());
    }
    content.sha256 = whole.finish();
    Ok(content)
}
