//! What the work behind a backup and a read costs at the least, for `scripts/bench`.
//!
//! `floors CORPUS REPOSITORY SCRATCH`: the repository holds the corpus; its passphrase is in
//! ASOF_PASSWORD and the cache directory in ASOF_CACHE_DIR, as for the program. Prints JSON:
//! CPU seconds of one thread, of small and of large files.
//!
//! Only what no program can leave out that makes this repository of that corpus, or that
//! corpus of this repository, and only once: bytes are read, cut, hashed, compressed and
//! sealed, and the other way. It is done with the program's own calls, and the frames are
//! those of the repository, so the parameters are the program's: each frame must come out as
//! long as it is there. Nobody waits for anybody here, nothing is looked up, noted, compared,
//! passed on or put together. That is what makes it a floor, and not a forecast.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::hint::black_box;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use asof::base::{ChunkId, Clock};
use asof::codec::chunker::Chunker;
use asof::codec::compress::{Compressor, unpack};
use asof::codec::hash::{ChunkKind, sha256};
use asof::codec::seal::{Part, SealKey, Sealer, TAG_BYTES};
use asof::format::names;
use asof::format::pack::{PackFact, associated};
use asof::repo::keys::Credential;
use asof::repo::packer::open_pack;
use asof::repo::writer::WriterOptions;
use asof::repo::{LocalOptions, Repository};
use asof::store::LocalStore;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

/// The program's own: what is unpacked is allocated, and memory that comes from the kernel
/// each time would take longer than unpacking.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> Result<()> {
    let args: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [corpus, store, scratch] = args.as_slice() else {
        anyhow::bail!("floors CORPUS REPOSITORY SCRATCH")
    };
    let variable = |name| std::env::var(name).context(name);
    let repo = Repository::open(
        Arc::new(LocalStore::open(store)?),
        Credential::Passphrase(variable("ASOF_PASSWORD")?.into_bytes().into()),
        &LocalOptions { cache_dir: variable("ASOF_CACHE_DIR")?.into(), cache_bytes: 0 },
        &Clock::system(),
    )?;
    let mut floors = Floors::new(&repo);
    fs::create_dir(scratch)?;
    floors.files(&corpus.join("small"), scratch, false)?;
    floors.files(&corpus.join("large"), scratch, true)?;
    let mut packs = files_below(&store.join(names::PACKS))?;
    packs.sort();
    for pack in packs {
        floors.pack(&pack)?;
    }
    let Floors { small, large, at_random, weight, .. } = floors;
    let told = Told { small, large, random_read: at_random / weight };
    let mut out = std::io::stdout();
    serde_json::to_writer(&mut out, &told)?;
    writeln!(out)?;
    Ok(())
}

#[derive(Serialize)]
struct Told {
    small: Spent,
    large: Spent,
    /// Seconds for the one chunk that a read at a random place of a large file is in.
    random_read: f64,
}

/// CPU seconds, by what they were spent on.
#[derive(Default, Serialize)]
struct Spent {
    /// Files out of the page cache, with opening them.
    read: f64,
    cut: f64,
    /// SHA-256 of each chunk of each file, once.
    hash: f64,
    compress: f64,
    seal: f64,
    /// Packs out of the page cache.
    fetch: f64,
    open: f64,
    unpack: f64,
    /// SHA-256 of each chunk that is stored, once.
    compare: f64,
    /// Files into memory that nobody had before, with making them.
    write: f64,
}

struct Floors<'a> {
    repo: &'a Repository,
    chunker: Chunker,
    compressor: Compressor,
    buffer: Vec<u8>,
    sealed: Vec<u8>,
    /// The chunks of the large files.
    of_large: HashSet<ChunkId>,
    small: Spent,
    large: Spent,
    /// Sums over the chunks of large files: a longer one is hit more often.
    at_random: f64,
    weight: f64,
}

impl<'a> Floors<'a> {
    fn new(repo: &'a Repository) -> Floors<'a> {
        let chunker = Chunker::new(repo.config().parameters.chunks, &repo.keys().ids);
        Floors {
            repo,
            compressor: Compressor::new(WriterOptions::default().level),
            buffer: vec![0; 2 * chunker.max()],
            sealed: Vec::new(),
            chunker,
            of_large: HashSet::new(),
            small: Spent::default(),
            large: Spent::default(),
            at_random: 0.0,
            weight: 0.0,
        }
    }

    /// Reads, cuts and hashes files, and writes each to a file of its own.
    fn files(&mut self, below: &Path, scratch: &Path, is_large: bool) -> Result<()> {
        let scratch = scratch.join(if is_large { "large" } else { "small" });
        fs::create_dir(&scratch)?;
        for (number, path) in files_below(below)?.iter().enumerate() {
            self.file(path, &scratch.join(number.to_string()), is_large)?;
        }
        Ok(())
    }

    fn file(&mut self, from: &Path, to: &Path, is_large: bool) -> Result<()> {
        let spent = if is_large { &mut self.large } else { &mut self.small };
        let mut reads = timed(&mut spent.read, || File::open(from))?;
        let mut writes = timed(&mut spent.write, || File::create(to))?;
        let mut filled = 0;
        loop {
            let read = timed(&mut spent.read, || reads.read(&mut self.buffer[filled..]))?;
            timed(&mut spent.write, || writes.write_all(&self.buffer[filled..filled + read]))?;
            filled += read;
            let mut start = 0;
            while start < filled && (read == 0 || filled - start >= self.chunker.max()) {
                let chunk = &self.buffer[start..filled];
                let length = timed(&mut spent.cut, || self.chunker.cut(chunk));
                let sha = timed(&mut spent.hash, || sha256(&chunk[..length]));
                if is_large {
                    self.of_large.insert(self.repo.keys().ids.chunk_id(ChunkKind::Data, &sha));
                }
                start += length;
            }
            self.buffer.copy_within(start..filled, 0);
            filled -= start;
            if read == 0 {
                break;
            }
        }
        timed(&mut spent.read, || drop(reads));
        timed(&mut spent.write, || drop(writes));
        Ok(())
    }

    /// Opens all frames of a pack, and makes them anew.
    fn pack(&mut self, path: &Path) -> Result<()> {
        let (mut fetch, mut bytes) = (0.0, std::mem::take(&mut self.sealed));
        bytes.clear();
        timed(&mut fetch, || File::open(path)?.read_to_end(&mut bytes))?;
        let name = path.file_name().and_then(|name| name.to_str()).context("a pack's name")?;
        let (id, keys) = (name.parse()?, self.repo.keys());
        let fact =
            open_pack(id, &bytes, self.repo.config().repository, keys.reader.as_ref(), None)?;
        let sealer = SealKey::from_bytes(fact.key.context("it is not sealed")?).sealer();
        let mut chunks: HashMap<usize, Vec<(ChunkId, std::ops::Range<usize>)>> = HashMap::new();
        for (id, start, length) in fact.directory.places() {
            let number = fact.directory.frames_of(start, length).start;
            let frame = fact.directory.frames.get(number).context("a chunk in no frame")?;
            let from = usize::try_from(start - frame.start)?;
            chunks.entry(number).or_default().push((id, from..from + length as usize));
        }
        for (number, frame) in fact.directory.frames.iter().enumerate() {
            let from = usize::try_from(frame.offset)?;
            let sealed = &bytes[from..from + frame.sealed_len as usize];
            let within = chunks.remove(&number).unwrap_or_default();
            let share = fetch * f64::from(frame.sealed_len) / bytes.len() as f64;
            let own = Spent { fetch: share, ..Spent::default() };
            self.frame(own, &fact, &sealer, number, sealed, &within)?;
        }
        self.sealed = bytes;
        Ok(())
    }

    fn frame(
        &mut self,
        mut own: Spent,
        fact: &PackFact,
        sealer: &Sealer,
        number: usize,
        sealed: &[u8],
        chunks: &[(ChunkId, std::ops::Range<usize>)],
    ) -> Result<()> {
        let is_large = chunks.iter().all(|(id, _)| self.of_large.contains(id));
        let frame = &fact.directory.frames[number];
        let (part, associated) = (Part::Numbered(u32::try_from(number)?), associated(fact.kind));
        let mut bytes = sealed.to_vec();
        let opened = timed(&mut own.open, || sealer.open(part, &associated, &mut bytes))?;
        let plain_len = frame.plain_len as usize;
        let plain = timed(&mut own.unpack, || unpack(frame.codec, opened, plain_len))?;
        for (id, place) in chunks {
            let sha = timed(&mut own.compare, || sha256(&plain[place.clone()]));
            ensure!(self.repo.keys().ids.chunk_id(fact.kind, &sha) == *id, "a chunk is damaged");
        }
        let (_, mut packed) = timed(&mut own.compress, || match chunks.len() {
            1 => self.compressor.pack_long(&plain),
            _ => self.compressor.pack(&plain),
        });
        ensure!(packed.len() + TAG_BYTES == sealed.len(), "it was compressed in another way");
        timed(&mut own.seal, || sealer.seal(part, &associated, &mut packed));
        black_box(packed);
        if is_large {
            let length = f64::from(frame.plain_len);
            self.at_random += length * (own.open + own.unpack + own.compare);
            self.weight += length;
        }
        let spent = if is_large { &mut self.large } else { &mut self.small };
        spent.fetch += own.fetch;
        spent.open += own.open;
        spent.unpack += own.unpack;
        spent.compare += own.compare;
        spent.compress += own.compress;
        spent.seal += own.seal;
        Ok(())
    }
}

/// Does something, and adds the CPU seconds that it took this thread.
fn timed<T>(spent: &mut f64, work: impl FnOnce() -> T) -> T {
    let now = || {
        let now = clock_gettime(ClockId::ThreadCPUTime);
        now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
    };
    let began = now();
    let done = work();
    *spent += now() - began;
    done
}

fn files_below(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.extend(files_below(&entry.path())?);
        } else {
            found.push(entry.path());
        }
    }
    Ok(found)
}
