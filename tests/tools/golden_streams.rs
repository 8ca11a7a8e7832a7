//! The repository in `tests/golden/streams-v1`: a SQLite database that was followed.
//!
//! ```text
//! first stream   image 0 ‖ 1–4 ‖ 5–7, which cut pages off ‖ image 7 ‖ 8–10
//!                ‖ 11–12, forgotten ‖ 13–14 ‖ image 14 ‖ 15–16
//!                all of it by the owner, and now in a checkpoint alone
//! second stream  image 0, with the gap before it ‖ 1–3 ‖ 1–4, as if a reply had been lost
//!                ‖ 6, the state before it not kept
//!                by a writer whose key is for this source
//! ```

use asof::base::StreamId;
use asof::capture::sqlite::Follower;
use asof::format::node::{Entry, FileKind, Owner};
use asof::format::segment::{Gap, StreamPoint};
use asof::ops::follow::{Change, Data, Image, Origin, Publisher};
use asof::ops::moments::{Between, Listed, each_moment};
use asof::repo::streams::{decode, state_id};
use asof::repo::trees::Draft;
use asof::repo::writer::WriterOptions;
use asof::repo::{Library, browse};
use rusqlite::Connection;

use super::*;

const FIRST: StreamId = StreamId([0x5a; 16]);
const SECOND: StreamId = StreamId([0xa5; 16]);
const PAGE: usize = 512;

pub fn make(work: &Path) -> Result<()> {
    fs::create_dir(work).with_context(|| work.display().to_string())?;
    fs::create_dir(work.join("golden"))?;
    let mut made = Made::new(work, work.join("golden/streams-v1"))?;
    made.memory = Some(MemoryStore::with_clock(made.clock.clone()));
    made.init(true)?;
    let path = work.join("kv.db");
    let db = Connection::open(&path)?;
    db.execute_batch(&format!(
        "PRAGMA page_size = {PAGE}; PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = wal;
         CREATE TABLE word (id INTEGER PRIMARY KEY, text)"
    ))?;

    let mut shop = Shop::begin(&made, &db, &made.owner()?, FIRST, None)?;
    (0..4).try_for_each(|n| shop.commit(&[&insert(n, 700)]))?;
    shop.segment()?;
    shop.commit(&[&insert(5, 3000), &insert(6, 2000)])?;
    let before = shop.state.len();
    shop.commit(&and_cut_off("DELETE FROM word WHERE id > 2"))?;
    ensure!(shop.state.len() + 8 * PAGE < before, "too little was cut off");
    shop.commit(&[&insert(7, 1200)])?;
    shop.segment()?;
    shop.image()?;
    (8..11).try_for_each(|n| shop.commit(&[&insert(n, 300)]))?;
    shop.segment()?;
    (11..13).try_for_each(|n| shop.commit(&[&insert(n, 300)]))?;
    shop.segment()?;
    shop.commit(&and_cut_off("DELETE FROM word WHERE id = 1"))?;
    shop.commit(&["UPDATE word SET text = 'short' WHERE id = 2"])?;
    shop.segment()?;
    shop.image()?;
    (15..17).try_for_each(|n| shop.commit(&[&insert(n, 300)]))?;
    shop.segment()?;
    let first = shop.end();

    let repo = made.owner()?;
    let mut forgotten = Vec::new();
    repo.index().each_in_line(("shop", &FIRST), (11, 12), |row| {
        forgotten.push(decode(&repo, &row)?.1.id);
        Ok::<(), anyhow::Error>(())
    })?;
    ensure!(forgotten.len() == 1, "{forgotten:?}");
    let fact = Forget { snapshots: forgotten, reason: Some("for the test".into()) };
    publish(&repo, vec![EncodedFact::of(&Fact::Forget(fact))])?;
    drop(repo);
    made.pass(10 * DAY);
    ensure!(made.collect()?.condemned.packs > 0, "nothing was condemned");
    made.pass(10 * DAY);
    ensure!(made.collect()?.deleted.packs > 0, "nothing was deleted");
    made.pass(10 * DAY);
    made.compact()?;

    let sources = Some(vec!["shop".to_owned()]);
    let owner = made.owner()?;
    let file = keyring::export_writer(&owner, "shop", sources, false)?;
    drop(owner);
    fs::write(made.dir.join("writer.json"), file.encode())?;
    (20..22).try_for_each(|n| db.execute_batch(&insert(n, 300)))?;
    let gap = Gap {
        since: first.last().context("no state")?.at,
        stream: FIRST,
        position: 16,
        reason: "its write-ahead log began again while it was not followed".into(),
    };
    let mut shop = Shop::begin(&made, &db, &made.writer()?, SECOND, Some(gap))?;
    (22..25).try_for_each(|n| shop.commit(&[&insert(n, 300)]))?;
    let again = shop.waiting.clone();
    shop.segment()?;
    shop.commit(&and_cut_off("DELETE FROM word WHERE id > 10"))?;
    shop.waiting.splice(0..0, again);
    shop.published = 0;
    shop.segment()?;
    (26..28).try_for_each(|n| shop.commit(&[&insert(n, 300)]))?;
    shop.leave_out_first();
    shop.segment()?;
    let second = shop.end();

    made.write_down()?;
    made.memory = None;
    let shown = |seen: &Seen| match seen.stream {
        FIRST => !(11..=13).contains(&seen.position),
        _ => seen.position != 5,
    };
    note_states(&made, first.into_iter().chain(second).filter(shown).collect())?;
    made.note_objects()
}

fn insert(id: u64, bytes: usize) -> String {
    format!("INSERT INTO word VALUES ({id}, x'{}')", hex::encode(noise(id, bytes)))
}

/// A statement, and as many more as cut off all pages that are free then: each cuts one.
fn and_cut_off(statement: &str) -> Vec<&str> {
    let cuts = std::iter::repeat_n("PRAGMA incremental_vacuum", 30);
    std::iter::once(statement).chain(cuts).collect()
}

/// A state that the database was in.
struct Seen {
    stream: StreamId,
    position: u64,
    at: UnixTime,
    bytes: Vec<u8>,
}

/// A stream of the database: what is committed, captured and published.
struct Shop<'a> {
    made: &'a Made,
    db: &'a Connection,
    follower: Follower,
    publisher: Publisher,
    stream: StreamId,
    state: Vec<u8>,
    seen: Vec<Seen>,
    waiting: Vec<Change>,
    published: u64,
}

impl<'a> Shop<'a> {
    fn begin(
        made: &'a Made,
        db: &'a Connection,
        repo: &Arc<Repository>,
        stream: StreamId,
        gap: Option<Gap>,
    ) -> Result<Shop<'a>> {
        let path = made.work.join("kv.db");
        let origin = Origin {
            source: "shop".into(),
            kind: "sqlite",
            path: path.as_os_str().as_bytes().to_vec(),
            host: "golden".into(),
            user: "root".into(),
        };
        let publisher = Publisher::new(repo, origin, WriterOptions::default(), &Stop::new());
        let mut follower = Follower::open(&path, None, made.clock.clone())?;
        let mut base = follower.base()?;
        let (mut state, at) = (Vec::new(), base.at);
        std::io::Read::read_to_end(&mut base, &mut state)?;
        drop(base);
        let seen = vec![Seen { stream, position: 0, at, bytes: state.clone() }];
        let (waiting, published) = (Vec::new(), 0);
        let mut shop =
            Shop { made, db, follower, publisher, stream, state, seen, waiting, published };
        shop.publish_image(gap)?;
        Ok(shop)
    }

    /// Ends capture. Returns all that was seen.
    fn end(self) -> Vec<Seen> {
        self.seen
    }

    fn last(&self) -> (u64, UnixTime) {
        self.seen.last().map_or((0, UnixTime::EPOCH), |seen| (seen.position, seen.at))
    }

    fn commit(&mut self, statements: &[&str]) -> Result<()> {
        self.made.pass(1);
        self.db.execute_batch(&format!("BEGIN; {}; COMMIT", statements.join("; ")))?;
        let commits = self.follower.pull(usize::MAX)?;
        let [commit] = commits.as_slice() else { anyhow::bail!("{} commits", commits.len()) };
        ensure!(commit.page_size as usize == PAGE, "another page size");
        let (mut numbers, mut data) = (Vec::new(), Vec::new());
        self.state.resize(commit.database_pages as usize * PAGE, 0);
        let mut pages = commit.pages();
        while let Some((number, page)) = pages.next_page()? {
            numbers.push(number);
            data.extend_from_slice(page);
            let at = (number as usize - 1) * PAGE;
            self.state[at..at + PAGE].copy_from_slice(page);
        }
        let (position, at) = (self.last().0 + 1, commit.at);
        self.seen.push(Seen { stream: self.stream, position, at, bytes: self.state.clone() });
        self.waiting.push(Change {
            position,
            at,
            within: commit.uncertainty.as_nanos().try_into()?,
            size: commit.database_pages,
            page_bytes: commit.page_size,
            numbers,
            data: Data::Held(data),
        });
        Ok(())
    }

    /// Makes one change of the two that wait.
    fn leave_out_first(&mut self) {
        let Some(mut last) = self.waiting.pop() else { return };
        let Some(first) = self.waiting.pop() else { return };
        let (Data::Held(before), Data::Held(after)) = (&first.data, &last.data) else { return };
        let paged = |numbers: &[u32], data: &[u8]| -> Vec<(u32, Vec<u8>)> {
            let pages = data.chunks(PAGE).map(<[u8]>::to_vec);
            numbers.iter().copied().zip(pages).filter(|page| page.0 <= last.size).collect()
        };
        let mut pages = std::collections::BTreeMap::new();
        pages.extend(paged(&first.numbers, before));
        pages.extend(paged(&last.numbers, after));
        last.numbers = pages.keys().copied().collect();
        last.data = Data::Held(pages.into_values().flatten().collect());
        self.waiting.push(last);
    }

    fn segment(&mut self) -> Result<()> {
        self.made.pass(1);
        let changes = std::mem::take(&mut self.waiting);
        self.publisher.segment(self.stream, self.published, &changes)?;
        self.published = self.last().0;
        Ok(())
    }

    fn image(&mut self) -> Result<()> {
        let (mut base, mut image) = (self.follower.base()?, Vec::new());
        std::io::Read::read_to_end(&mut base, &mut image)?;
        drop(base);
        ensure!(image == self.state, "the image is not the state");
        self.publish_image(None)
    }

    fn publish_image(&mut self, gap: Option<Gap>) -> Result<()> {
        self.made.pass(1);
        let (position, at) = self.last();
        let file = Draft {
            entry: Entry::new(b"kv.db", FileKind::File, 0o640, UnixTime::new(TIME, 0)),
            refs: Vec::new(),
            owner: Owner::default(),
        };
        let point = Some(StreamPoint { stream: self.stream, position, gap });
        let image = Image { point, at, file, bytes: &mut self.state.as_slice() };
        self.publisher.image(image)?;
        Ok(())
    }
}

/// Writes down every state and gap, having compared the states with those that there were.
fn note_states(made: &Made, expected: Vec<Seen>) -> Result<()> {
    let repo = made.owner()?;
    let local = LocalOptions { cache_dir: made.tree("cache"), cache_bytes: 0 };
    let library = Shelf::open(&repo, &local, ReaderOptions::default())?;
    let (mut lines, mut expected) = (String::new(), expected.into_iter());
    each_moment(&repo, "shop", Between::default(), |listed| {
        match listed {
            Listed::State { at, stream, position, size, .. } => {
                let seen = expected.next().context("a state too many")?;
                let same = (seen.stream, seen.position, seen.at) == (*stream, *position, *at);
                ensure!(same, "{listed:?} instead of {}", seen.position);
                let info = library.snapshot(&state_id("shop", stream, *position))?;
                let dir = browse::Found::root(&info.context("no state")?).dir().context("dir")?;
                let file = browse::find(&library, dir, b"kv.db.raw")?.context("file")?.content();
                let bytes = library.read(&file, 0, seen.bytes.len() + 1)?;
                ensure!(bytes == seen.bytes, "{position} does not read back");
                let hash = hex::encode(sha256(&bytes));
                lines += &format!("state {stream} {position} {} {size} {hash}\n", at.to_exact());
            }
            Listed::Gap { since, until, reason } => {
                let until = until.context("nothing behind a gap")?;
                lines += &format!("gap {} {} {reason}\n", since.to_exact(), until.to_exact());
            }
        }
        Ok::<(), anyhow::Error>(())
    })?;
    ensure!(expected.next().is_none(), "a state too few");
    Ok(fs::write(made.dir.join("states.txt"), lines)?)
}
