//! Made the repositories in `tests/golden`, and would make others like them.
//!
//! `golden WORK OLD`: as root, since it makes devices; WORK is a new directory, and should
//! have a name that may be published, since it stands in the snapshots; OLD is the program
//! of format version 0 (built from commit afc4cea). Then WORK/golden holds what is checked
//! in as `tests/golden`. Repositories of versions that were released are never made again.
//! `golden WORK`: the one with a database that was followed, which came later; see
//! `golden_streams.rs`.
//!
//! The trees are the same every time, down to the bytes of files and their times. Ids and
//! keys are random, so the repositories are not. Those of this program are made in memory,
//! with a clock that lets time pass for the collector, and then written to a directory,
//! whose receipts are the times of its files.
//!
//! ```text
//! trees/NAME.txt              what a tree is, see manifest.rs
//! v<N>-<KIND>/store/          the repository; its passphrase is `correct horse`,
//!                             and from version 1 on `battery staple` reads only
//! v<N>-<KIND>/sha256.txt      of each of its objects
//! v<N>-<KIND>/receipts.txt    when the store received each of them, seconds
//! v<N>-<KIND>/snapshots.txt   what each snapshot says of itself, oldest first, after the tree's name
//! v<N>-<KIND>/writer.json     a writer file
//! streams-v<N>/               the same, but for its snapshots, of a database that was followed
//! streams-v<N>/states.txt     each of its states and gaps, in order, and what a state's SHA-256 is
//! ```

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod golden_streams;
#[path = "../suite/manifest.rs"]
mod manifest;

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use asof::base::{Clock, Progress, SnapshotId, Stop, UnixTime};
use asof::codec::chunker::Sizes;
use asof::codec::hash::sha256;
use asof::codec::passphrase::Cost;
use asof::codec::sign::SigningKey;
use asof::format::config::Parameters;
use asof::format::fact::{Fact, Forget, Grace, Pin, Revoke};
use asof::format::keyfile::Role;
use asof::format::writerfile::WriterFile;
use asof::ops::backup::{BackupOptions, Input, backup, backup_stream};
use asof::ops::gc::{GcOptions, GcReport, gc};
use asof::repo::checkpoint::{CompactOptions, compact, drop_covered};
use asof::repo::keys::Credential;
use asof::repo::log::{Chain, EncodedFact};
use asof::repo::reader::ReaderOptions;
use asof::repo::{InitOptions, LocalOptions, Repository, Shelf, init, keyring};
use asof::store::{LocalStore, MemoryStore, Store};
use rustix::fs::{FileType, Mode, XattrFlags};

const PASSPHRASE: &str = "correct horse";
/// Of a key that only reads.
const READER: &str = "battery staple";
/// Everything in the trees is about so old. Seconds.
const TIME: i64 = 1_700_000_000;
const DAY: i64 = 86_400;
const WORDS: &str = "so much depends upon a red wheel barrow\n";

fn main() -> Result<()> {
    let args: Vec<PathBuf> = std::env::args_os().skip(1).map(Into::into).collect();
    let (work, old) = match args.as_slice() {
        [work] => return golden_streams::make(work),
        [work, old] => (work, old),
        _ => anyhow::bail!("golden WORK [OLD]"),
    };
    ensure!(rustix::process::geteuid().is_root(), "only root can make devices");
    fs::create_dir(work).with_context(|| work.display().to_string())?;
    fs::create_dir_all(work.join("golden/trees"))?;
    for name in ["v0-encrypted", "v1-encrypted", "v1-unencrypted"] {
        let dir = work.join("golden").join(name);
        let mut made = Made::new(work, dir)?;
        fs::create_dir(made.tree("source"))?;
        first_tree(&made.tree("source"))?;
        if name.starts_with("v0") {
            made.by_old_program(old)?;
        } else {
            made.memory = Some(MemoryStore::with_clock(made.clock.clone()));
            made.by_this_program(name == "v1-encrypted")?;
            made.write_down()?;
            made.memory = None;
        }
        made.note()?;
        fs::remove_dir_all(made.tree("source"))?;
        fs::remove_dir_all(made.tree("web"))?;
    }
    Ok(())
}

/// The same bytes for the same seed, and nothing that packs.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}

/// Every kind of file, and of content: none, inline, of one chunk, of many, of so many that
/// their list is a tree, with holes; a directory that is a tree of nodes; more files with
/// several names than a snapshot's own record lists.
fn first_tree(root: &Path) -> Result<()> {
    fs::write(root.join("empty"), "")?;
    fs::write(root.join("inline"), "a few words")?;
    fs::write(root.join("chunk"), noise(1, 1000))?;
    fs::write(root.join("chunks"), noise(2, 20_000))?;
    fs::write(root.join("long"), vec![b'x'; 5_000_000])?;
    let sparse = fs::File::create(root.join("sparse"))?;
    sparse.set_len(3 << 20)?;
    sparse.write_all_at(&noise(3, 4096), 1 << 20)?;
    fs::File::create(root.join("all-hole"))?.set_len(1 << 20)?;
    fs::write(root.join("changing"), "before")?;

    fs::create_dir_all(root.join("links/other"))?;
    fs::write(root.join("links/a"), noise(4, 600))?;
    fs::hard_link(root.join("links/a"), root.join("links/other/b"))?;
    symlink("a", root.join("links/symlink"))?;
    symlink(OsStr::from_bytes(b"no such \xff\nfile"), root.join("links/dangling"))?;

    fs::create_dir(root.join("special"))?;
    let node = |name: &str, kind, mode, device| {
        let path = root.join("special").join(name);
        rustix::fs::mknodat(rustix::fs::CWD, &path, kind, Mode::from_raw_mode(mode), device)
    };
    node("null", FileType::CharacterDevice, 0o666, rustix::fs::makedev(1, 3))?;
    node("disk", FileType::BlockDevice, 0o660, rustix::fs::makedev(7, 200))?;
    node("fifo", FileType::Fifo, 0o640, 0)?;
    node("socket", FileType::Socket, 0o755, 0)?;
    fs::hard_link(root.join("special/fifo"), root.join("special/fifo-too"))?;

    fs::create_dir(root.join("names"))?;
    let long = [b'n'; 255];
    let names: [&[u8]; 7] =
        [b" space ", b"new\nline", b"caf\xe9", "größe 日本語".as_bytes(), b"-rf", b"...", &long];
    for name in names {
        fs::write(root.join("names").join(OsStr::from_bytes(name)), "odd")?;
    }

    fs::create_dir(root.join("modes"))?;
    for mode in [0, 0o400, 0o4755, 0o2711, 0o7777] {
        let path = root.join(format!("modes/f{mode:04o}"));
        fs::write(&path, "mode")?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    }
    fs::create_dir(root.join("modes/d1777"))?;
    fs::set_permissions(root.join("modes/d1777"), fs::Permissions::from_mode(0o1777))?;
    fs::write(root.join("modes/owned"), "owned")?;
    std::os::unix::fs::chown(root.join("modes/owned"), Some(123_456), Some(654_321))?;

    fs::create_dir(root.join("xattrs"))?;
    fs::write(root.join("xattrs/user"), "user")?;
    for (name, value) in [("user.b", &b"\x00\xff "[..]), ("user.a", b"a"), ("user.none", b"")] {
        rustix::fs::setxattr(root.join("xattrs/user"), name, value, XattrFlags::empty())?;
    }
    rustix::fs::setxattr(root.join("xattrs"), "trusted.t", b"dir", XattrFlags::empty())?;

    fs::create_dir(root.join("many"))?;
    fs::create_dir(root.join("linked"))?;
    for n in 0..2100 {
        let path = root.join(format!("many/f{n:04}"));
        fs::write(&path, format!("{}", n % 10))?;
        if n < 300 {
            fs::hard_link(&path, root.join(format!("linked/l{n:04}")))?;
        }
    }
    age_tree(root)
}

/// What becomes of it.
fn change(root: &Path) -> Result<()> {
    fs::remove_dir_all(root.join("many"))?;
    fs::remove_dir_all(root.join("linked"))?;
    fs::write(root.join("changing"), "afterwards")?;
    fs::write(root.join("new"), noise(5, 700))?;
    age_tree(root)
}

/// Gives everything in a tree its time, the deepest first.
fn age_tree(root: &Path) -> Result<()> {
    let mut all = vec![root.to_owned()];
    let mut at = 0;
    while let Some(path) = all.get(at).cloned() {
        if fs::symlink_metadata(&path)?.is_dir() {
            let below: std::io::Result<Vec<_>> =
                fs::read_dir(&path)?.map(|entry| Ok(entry?.path())).collect();
            all.extend(below?);
        }
        at += 1;
    }
    for path in all.iter().rev() {
        let (seconds, nanos) = match path.file_name().and_then(OsStr::to_str) {
            Some("empty") => (-305_000_000, 987_654_321),
            Some("inline") => (7_258_118_400, 1),
            // A change that keeps the size must not keep the time.
            Some("changing") => (TIME + i64::try_from(fs::metadata(path)?.len())?, 0),
            _ => (TIME, 0),
        };
        let time = rustix::fs::Timespec { tv_sec: seconds, tv_nsec: nanos };
        let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
        let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::utimensat(rustix::fs::CWD, path, &times, flags)?;
    }
    Ok(())
}

struct Made {
    work: PathBuf,
    dir: PathBuf,
    /// Of this program, until it is written down.
    memory: Option<MemoryStore>,
    now: Arc<AtomicI64>,
    /// The clock of the store, and of everybody.
    clock: Clock,
}

impl Made {
    fn new(work: &Path, dir: PathBuf) -> Result<Made> {
        let now = Arc::new(AtomicI64::new(TIME + 1_000_000));
        let moved = Arc::clone(&now);
        let clock = Clock::from_fn(move || UnixTime::new(moved.load(Ordering::SeqCst), 0));
        fs::create_dir(&dir)?;
        Ok(Made { work: work.to_owned(), dir, memory: None, now, clock })
    }

    fn tree(&self, name: &str) -> PathBuf {
        self.work.join(name)
    }

    fn store(&self) -> PathBuf {
        self.dir.join("store")
    }

    /// Notes what a tree is, which is the same for all repositories.
    fn describe(&self, tree: &str, name: &str) -> Result<()> {
        let lines = manifest::of_tree(&self.tree(tree)).join("\n") + "\n";
        let path = self.work.join(format!("golden/trees/{name}.txt"));
        ensure!(!path.exists() || fs::read_to_string(&path)? == lines, "{name} is not the same");
        Ok(fs::write(path, lines)?)
    }

    /// The repository, as a machine that knows nothing yet sees it.
    fn open(&self, credential: Credential) -> Result<Arc<Repository>> {
        let (store, clock): (Arc<dyn Store>, _) = match &self.memory {
            Some(memory) => (Arc::new(memory.clone()), self.clock.clone()),
            None => (Arc::new(LocalStore::open(&self.store())?), Clock::system()),
        };
        // Receipts are whole seconds: no two things have one.
        self.pass(1);
        let cache_dir = self.tree("cache");
        let _ = fs::remove_dir_all(&cache_dir);
        let local = LocalOptions { cache_dir, cache_bytes: 0 };
        let repo = Arc::new(Repository::open(store, credential, &local, &clock)?);
        if repo.keys().can_read() {
            let problems = repo.sync(true)?.problems;
            ensure!(problems.is_empty(), "{problems:?}");
        }
        Ok(repo)
    }

    fn owner(&self) -> Result<Arc<Repository>> {
        self.open(Credential::Passphrase(PASSPHRASE.as_bytes().to_vec().into()))
    }

    fn writer(&self) -> Result<Arc<Repository>> {
        let file = WriterFile::decode(&fs::read(self.dir.join("writer.json"))?)?;
        self.open(Credential::Writer(Box::new(file)))
    }

    /// Lets time pass.
    fn pass(&self, seconds: i64) {
        self.now.fetch_add(seconds, Ordering::SeqCst);
    }

    /// Writes the objects to a directory, with their receipts.
    fn write_down(&self) -> Result<()> {
        let memory = self.memory.as_ref().context("nothing in memory")?;
        let page = memory.list("", None)?;
        ensure!(!page.more, "too many objects");
        for object in page.objects {
            let path = self.store().join(&object.key);
            fs::create_dir_all(path.parent().context("path")?)?;
            fs::write(&path, memory.get(&object.key, object.size)?)?;
            let after = Duration::from_secs(object.receipt.seconds.try_into()?);
            fs::File::open(&path)?.set_modified(std::time::UNIX_EPOCH + after)?;
        }
        Ok(())
    }

    fn backup(&self, repo: &Arc<Repository>, source: &str, tree: &str) -> Result<SnapshotId> {
        let second = source == "tree" && !self.tree(tree).join("many").exists();
        let options = BackupOptions {
            expires: second.then_some(UnixTime::new(32_503_680_000, 0)),
            tags: if second { vec![] } else { vec!["one".into(), "two".into()] },
            ..options(source)
        };
        let (progress, stop) = (Arc::new(Progress::silent()), Stop::new());
        let report = backup(repo, &[self.tree(tree)], &options, &progress, &stop)?;
        ensure!(report.counts.errors == 0, "{report:?}");
        report.snapshot.context("no snapshot")
    }

    /// A snapshot that is forgotten at once.
    fn back_up_and_forget(&self, seed: u64) -> Result<()> {
        let dir = self.tree("gone");
        fs::create_dir_all(&dir)?;
        fs::write(dir.join("file"), noise(seed, 3000))?;
        let repo = self.owner()?;
        let id = self.backup(&repo, "gone", "gone")?;
        fs::remove_dir_all(dir)?;
        let fact = Forget { snapshots: vec![id], reason: Some("for the test".into()) };
        publish(&repo, vec![EncodedFact::of(&Fact::Forget(fact))])
    }

    fn collect(&self) -> Result<GcReport> {
        let repo = self.owner()?;
        let options = GcOptions::default();
        let report = gc(&repo, &options, &Arc::new(Progress::silent()), &Stop::new())?;
        ensure!(report.failed.is_empty() && report.late.is_empty(), "{report:?}");
        Ok(report)
    }

    /// Until all that was said is in a checkpoint alone.
    fn compact(&self) -> Result<()> {
        let (progress, stop) = (Progress::silent(), Stop::new());
        let repo = self.owner()?;
        let at = repo.sync(true)?.at.context("no time")?;
        let merged = compact(&repo, at, &CompactOptions { records_min: 1 }, &progress, &stop)?;
        ensure!(merged.published, "{merged:?}");
        self.pass(10 * DAY);
        let repo = self.owner()?;
        let at = repo.sync(true)?.at.context("no time")?;
        let dropped = drop_covered(&repo, at, false, &HashSet::new(), &progress, &stop)?;
        ensure!(dropped.objects > 0, "nothing dropped");
        Ok(())
    }

    /// Facts that no operation publishes by itself here: pins, a revocation, a grace period,
    /// and one that only a later version knows.
    fn say_more(&self, snapshot: SnapshotId) -> Result<()> {
        let repo = self.owner()?;
        let infos = repo.snapshots()?;
        let info = infos.iter().find(|info| info.snapshot.id == snapshot).context("no snapshot")?;
        let mut chain = Chain::default();
        let pins = [Pin::Snapshot(snapshot), Pin::Chain(chain.id(), 0)];
        let revoke = Revoke { writer: SigningKey::random().id(), from: UnixTime::new(TIME, 0) };
        // {0: the snapshot's root, 1: kind 77, 2: {0: "later"}}
        let root = info.refs.first().context("no root")?;
        let later =
            [&[0xa3, 0, 0x58, 32][..], &root.0, b"\x01\x18\x4d\x02\xa1\x00\x65later"].concat();
        let mut facts: Vec<EncodedFact> =
            pins.into_iter().map(|pin| EncodedFact::of(&Fact::Pin(pin))).collect();
        facts.push(EncodedFact::of(&Fact::Revoke(revoke)));
        facts.push(EncodedFact::of(&Fact::Grace(Grace { seconds: 2 * 86_400 })));
        facts.push(EncodedFact { bytes: later });
        let deadline = UnixTime::new(repo.clock().now().seconds + 3600, 0);
        chain.publish(&repo, facts, Some(deadline))?;
        Ok(())
    }

    fn init(&self, encrypted: bool) -> Result<()> {
        // Small chunks and packs, so that there are many.
        let parameters = Parameters {
            chunks: Sizes { min: 1024, average: 2048, max: 4096 },
            pack_bytes: 16 << 10,
            grace_seconds: 86_400,
            skew_seconds: 60,
        };
        let how = InitOptions { encrypted, parameters, cost: Cost::LEAST, label: "golden".into() };
        let store = self.memory.as_ref().context("nothing in memory")?;
        init(store, &how, PASSPHRASE.as_bytes(), &self.clock)?;
        Ok(())
    }

    fn by_this_program(&self, encrypted: bool) -> Result<()> {
        self.init(encrypted)?;
        self.describe("source", "first")?;
        let first = self.backup(&self.owner()?, "tree", "source")?;
        self.web_tree()?;
        let sources = Some(vec!["web".to_owned()]);
        let owner = self.owner()?;
        let file = keyring::export_writer(&owner, "web", sources, true)?;
        fs::write(self.dir.join("writer.json"), file.encode())?;
        keyring::add(&owner, Role::Reader, "reader", READER.as_bytes(), Cost::LEAST)?;
        self.backup(&self.writer()?, "web", "web")?;
        self.back_up_and_forget(6)?;
        self.say_more(first)?;
        self.pass(10 * DAY);
        ensure!(self.collect()?.condemned.packs > 0, "nothing was condemned");
        self.pass(10 * DAY);
        ensure!(self.collect()?.deleted.packs > 0, "nothing was deleted");
        self.pass(10 * DAY);
        self.compact()?;

        change(&self.tree("source"))?;
        self.describe("source", "second")?;
        let second = self.backup(&self.owner()?, "tree", "source")?;
        let (progress, stop) = (Arc::new(Progress::silent()), Stop::new());
        let input = Input::Stream(Box::new(WORDS.as_bytes()));
        self.backup(&self.writer()?, "web", "web")?;
        backup_stream(&self.owner()?, "words.txt", input, &options("words"), &progress, &stop)?;
        self.back_up_and_forget(7)?;
        self.pass(10 * DAY);
        ensure!(self.collect()?.condemned.packs > 0, "nothing was condemned");
        self.back_up_and_forget(8)?;
        self.pass(10 * DAY);
        let report = self.collect()?;
        ensure!(report.condemned.packs > 0 && report.deleted.packs > 0, "{report:?}");
        self.say_more(second)
    }

    fn web_tree(&self) -> Result<()> {
        let web = self.tree("web");
        fs::create_dir(&web)?;
        fs::write(web.join("index.html"), "<p>Hello")?;
        fs::write(web.join("logo"), noise(9, 2500))?;
        age_tree(&web)?;
        self.describe("web", "web")
    }

    fn by_old_program(&self, old: &Path) -> Result<()> {
        let store = self.store();
        let run = |more: &[&str], input: &str| -> Result<()> {
            let mut command = Command::new(old);
            command.arg("-r").arg(&store).arg("--cache-dir").arg(self.tree("cache"));
            command.args(more).env("ASOF_PASSWORD", PASSPHRASE).stdin(Stdio::piped());
            let mut child = command.spawn()?;
            std::io::Write::write_all(
                &mut child.stdin.take().context("no input")?,
                input.as_bytes(),
            )?;
            ensure!(child.wait()?.success(), "{more:?}");
            Ok(())
        };
        let backup = ["backup", "--host", "golden", "--source"];
        let (source, web) = (self.tree("source"), self.tree("web"));
        let (source, web) = (source.to_str().context("path")?, web.to_str().context("path")?);
        let writer = self.dir.join("writer.json");
        let writer = writer.to_str().context("path")?;
        run(&["init", "--kdf-cost", "least"], "")?;
        self.describe("source", "first")?;
        run(&[&backup[..], &["tree", "--tag", "one", "--tag", "two", source]].concat(), "")?;
        self.web_tree()?;
        run(&["key", "export-writer", "--source", "web", "--label", "web", writer], "")?;
        run(&[&["--writer-key", writer][..], &backup, &["web", web]].concat(), "")?;
        change(&self.tree("source"))?;
        self.describe("source", "second")?;
        run(&[&backup[..], &["tree", source]].concat(), "")?;
        let stdin = ["words", "--stdin", "--stdin-name", "words.txt"];
        run(&[&backup[..], &stdin].concat(), WORDS)
    }

    /// Writes down what there is, having compared it with the trees.
    fn note(&self) -> Result<()> {
        let repo = self.owner()?;
        let local = LocalOptions { cache_dir: self.tree("cache"), cache_bytes: 0 };
        let library = Shelf::open(&repo, &local, ReaderOptions::default())?;
        let mut snapshots = String::new();
        let mut seen = 0;
        for info in repo.snapshots()?.iter() {
            let tree = match info.snapshot.source.as_str() {
                "tree" => ["first", "second"][std::mem::replace(&mut seen, 1)],
                other => other,
            };
            let lines = manifest::of_snapshot(&library, info)?;
            let trees = self.work.join("golden/trees");
            if tree == "words" {
                // Its times are those of the backup.
                let hash = hex::encode(sha256(WORDS.as_bytes()));
                let line = format!("words.txt f mode=600 size={} sha256={hash}\n", WORDS.len());
                fs::write(trees.join("words.txt"), line)?;
            } else {
                let noted = fs::read_to_string(trees.join(format!("{tree}.txt")))?;
                ensure!(lines.join("\n") + "\n" == noted, "{tree} does not read back");
            }
            snapshots += &format!("{tree} {}\n", manifest::of_info(info, repo.config().owner));
        }
        fs::write(self.dir.join("snapshots.txt"), snapshots)?;
        self.note_objects()
    }

    fn note_objects(&self) -> Result<()> {
        let (mut hashes, mut receipts) = (String::new(), String::new());
        let _ = fs::remove_dir_all(self.store().join("tmp"));
        for path in files(&self.store())? {
            let name = path.strip_prefix(self.store())?.display();
            hashes += &format!("{} {name}\n", hex::encode(sha256(&fs::read(&path)?)));
            let modified = path.metadata()?.modified()?.duration_since(std::time::UNIX_EPOCH)?;
            receipts += &format!("{} {name}\n", modified.as_secs());
        }
        fs::write(self.dir.join("sha256.txt"), hashes)?;
        Ok(fs::write(self.dir.join("receipts.txt"), receipts)?)
    }
}

fn publish(repo: &Repository, facts: Vec<EncodedFact>) -> Result<()> {
    Chain::default().publish(repo, facts, None)?;
    Ok(())
}

fn options(source: &str) -> BackupOptions {
    BackupOptions {
        source: source.into(),
        host: "golden".into(),
        user: "root".into(),
        ..BackupOptions::default()
    }
}

/// Every file below a directory, in order.
fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
