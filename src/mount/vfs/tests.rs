use super::*;
use crate::base::{Clock, Kind, UnixTime};
use crate::view::Zone;
use crate::view::namespace::ROOT;
use crate::view::testing::{Cut, Sample, TestLibrary};

fn vfs_over(library: &Arc<TestLibrary>, all_root: bool) -> Vfs {
    let clock = Clock::from_fn(|| UnixTime::new(1_800_000_000, 0));
    let as_library = Arc::clone(library) as Arc<dyn Library>;
    let namespace =
        Namespace::new(Arc::clone(&as_library), Zone::utc(), clock, Box::new(Vec::new)).unwrap();
    let owners = Owners { uid: 5, gid: 6, all_root };
    Vfs::new(namespace, as_library, owners, Arc::new(Counters::default()))
}

fn vfs_of(root: &Sample) -> (Arc<TestLibrary>, Vfs) {
    let library = TestLibrary::new();
    let cut = Cut { leaf: 3, inner: 2, extents: 2, ..Cut::default() };
    library.publish_cut("s", UnixTime::new(1_790_000_000, 0), root, cut);
    let vfs = vfs_over(&library, false);
    (library, vfs)
}

fn found(vfs: &Vfs, path: &str) -> Entry {
    let mut entry = vfs.getattr(ROOT, Reach::Store).unwrap();
    for name in path.split('/') {
        entry = match vfs.lookup(entry.attr.ino, name.as_bytes(), Reach::Store).unwrap() {
            Looked::Found(entry) if entry.attr.kind == FileKind::Symlink => {
                let target = vfs.readlink(entry.attr.ino, Reach::Store).unwrap();
                found(vfs, std::str::from_utf8(&target).unwrap())
            }
            Looked::Found(entry) => entry,
            Looked::Absent(_) => panic!("no {name} of {path}"),
        };
    }
    entry
}

#[test]
fn attributes_are_the_sources_own() {
    let mut device = Sample::new(FileKind::CharDevice, 0o660);
    device.device = Some((0x123, 0x45678));
    let mut suid = Sample::file(vec![1; 5000]);
    suid.mode = 0o4755;
    suid.mtime = UnixTime::new(-5, 7);
    let sparse = Sample::pieces(vec![Ok(vec![2; 100]), Err(1 << 30), Ok(vec![3; 5000])]);
    let root = Sample::dir([("dev", device), ("suid", suid), ("sparse", sparse)]);
    let (_, vfs) = vfs_of(&root);
    let suid = found(&vfs, "latest/s/suid").attr;
    assert_eq!((suid.mode, suid.uid, suid.gid, suid.links), (0o4755, 1000, 100, 1));
    assert_eq!((suid.size, suid.blocks, suid.mtime), (5000, 16, UnixTime::new(-5, 7)));
    let sparse = found(&vfs, "latest/s/sparse").attr;
    assert_eq!((sparse.size, sparse.blocks), ((1 << 30) + 5100, 16));
    // major 0x123, minor 0x45678: the kernel's 32-bit form.
    assert_eq!(found(&vfs, "latest/s/dev").attr.rdev, 0x4561_2378);
    let root = found(&vfs, "latest/s").attr;
    assert_eq!((root.kind, root.mode, root.size, root.links), (FileKind::Dir, 0o755, 4096, 2));
    let made_up = found(&vfs, "at").attr;
    assert_eq!((made_up.mode, made_up.uid, made_up.gid), (0o555, 5, 6));
}

#[test]
fn everything_can_be_shown_as_roots() {
    let library = TestLibrary::new();
    library.publish("s", UnixTime::new(1, 0), &Sample::dir([("f", Sample::file("x"))]));
    let vfs = vfs_over(&library, true);
    for path in ["latest/s/f", "latest/s", "at", ".asof/status.json"] {
        let attr = found(&vfs, path).attr;
        assert_eq!((attr.uid, attr.gid), (0, 0), "{path}");
    }
}

/// Every read gives exactly what the file has there.
#[test]
fn reads_are_whole_at_any_offset() {
    let pieces = vec![Ok(vec![1; 700]), Err(1000), Ok(vec![2; 1]), Ok(vec![3; 900]), Err(50)];
    let file = Sample::pieces(pieces);
    let all = file.bytes();
    let root =
        Sample::dir([("f", file), ("empty", Sample::file("")), ("tiny", Sample::file("ab"))]);
    let (_, vfs) = vfs_of(&root);
    let ino = found(&vfs, "latest/s/f").attr.ino;
    for offset in (0..all.len() + 10).step_by(37) {
        for length in [0usize, 1, 99, 1000, 10_000] {
            let read = vfs.read(ino, offset as u64, length as u32, Reach::Store).unwrap();
            let from = offset.min(all.len());
            assert_eq!(&read[..], &all[from..(from + length).min(all.len())], "{offset}+{length}");
        }
    }
    let read = |path: &str, offset| vfs.read(found(&vfs, path).attr.ino, offset, 9, Reach::Store);
    assert_eq!(&read("latest/s/tiny", 1).unwrap()[..], b"b");
    assert!(read("latest/s/empty", 0).unwrap().is_empty());
    assert!(matches!(read("latest/s", 0), Err(Error::IsADirectory)));
    assert!(matches!(vfs.read(ino, 0, 9, Reach::Memory), Err(Error::WouldBlock)));
}

/// A chunk that is lost takes its own bytes and no others.
#[test]
fn a_lost_chunk_fails_its_own_bytes() {
    let file = Sample::pieces(vec![Ok(vec![1; 700]), Ok(vec![2; 800])]);
    let (library, vfs) = vfs_of(&Sample::dir([("f", file)]));
    let ino = found(&vfs, "latest/s/f").attr.ino;
    library.lose(&[2; 800]);
    assert_eq!(vfs.read(ino, 0, 700, Reach::Store).unwrap().len(), 700);
    assert_eq!(vfs.read(ino, 0, 701, Reach::Store).unwrap_err().kind(), Kind::Damaged);
}

#[test]
fn holes_are_found() {
    let file = Sample::pieces(vec![Err(10), Ok(vec![1; 20]), Err(30), Ok(vec![2; 5]), Err(7)]);
    let (_, vfs) = vfs_of(&Sample::dir([("f", file)]));
    let ino = found(&vfs, "latest/s/f").attr.ino;
    let seek = |offset, whence| vfs.lseek(ino, offset, whence, Reach::Store).ok();
    for (offset, data, hole) in [
        (0, Some(10), Some(0)),
        (10, Some(10), Some(30)),
        (29, Some(29), Some(30)),
        (30, Some(60), Some(30)),
        (64, Some(64), Some(65)),
        (65, None, Some(65)),
        (72, None, None),
    ] {
        assert_eq!(seek(offset, Whence::Data), data, "data from {offset}");
        assert_eq!(seek(offset, Whence::Hole), hole, "hole from {offset}");
    }
}

/// Names that cannot change are kept by the kernel, also that there is none; others not.
#[test]
fn what_may_be_kept_is_said_and_no_more() {
    let (_, vfs) = vfs_of(&Sample::dir([("f", Sample::file("x"))]));
    let root = found(&vfs, "latest/s").attr.ino;
    let hours = Duration::from_secs(3600);
    assert!(found(&vfs, "latest/s/f").name_time > hours);
    assert!(
        matches!(vfs.lookup(root, b"g", Reach::Store).unwrap(), Looked::Absent(t) if t > hours)
    );
    let at = found(&vfs, "at").attr.ino;
    let absent = vfs.lookup(at, b"1970", Reach::Store).unwrap();
    assert!(matches!(absent, Looked::Absent(Duration::ZERO)));
    match vfs.lookup(ROOT, b"latest", Reach::Store).unwrap() {
        Looked::Found(latest) => assert_eq!(latest.name_time, Duration::from_secs(1)),
        Looked::Absent(_) => panic!("there is a snapshot"),
    }
    assert_eq!(found(&vfs, ".asof/status.json").attr_time, Duration::ZERO);
}

/// A listing with dots, in pieces of any size, is the same listing.
#[test]
fn listings_go_on_where_they_stopped() {
    let files = (0..25).map(|n| (format!("f{n:02}"), Sample::file("")));
    let (_, vfs) = vfs_of(&Sample::dir(files));
    let dir = found(&vfs, "latest/s").attr.ino;
    let list = |piece: usize| {
        let (mut names, mut after) = (Vec::new(), 0);
        loop {
            let mut count = 0;
            vfs.readdir(dir, after, Reach::Store, &mut Dirs::default(), &mut |row| {
                names.push(String::from_utf8(row.name.to_vec()).unwrap());
                after = row.position;
                count += 1;
                count == piece
            })
            .unwrap();
            if count < piece {
                return names;
            }
        }
    };
    let whole = list(1000);
    assert_eq!((whole.len(), &whole[..3]), (27, &[".".to_owned(), "..".into(), "f00".into()][..]));
    for piece in 1..6 {
        assert_eq!(list(piece), whole);
    }
}

#[test]
fn files_read_in_order_are_hinted_ahead() {
    let files = (0..40).map(|n| (format!("f{n:02}"), Sample::file(vec![n as u8; 1000 + n])));
    let library = TestLibrary::new();
    library.publish("s", UnixTime::new(1, 0), &Sample::dir(files));
    let vfs = vfs_over(&library, false);
    let read = |n: usize| {
        let ino = found(&vfs, &format!("latest/s/f{n:02}")).attr.ino;
        vfs.read(ino, 0, 100, Reach::Store).unwrap();
    };
    let hinted = || std::mem::take(&mut *library.prefetched.lock().unwrap());
    for n in [30, 5, 20] {
        read(n);
    }
    assert_eq!(hinted(), [] as [u64; 0], "no order, no hint");
    (0..4).for_each(read);
    let ahead = hinted();
    assert_eq!(ahead.first(), Some(&1003));
    assert!(ahead.windows(2).all(|w| w[0] + 1 == w[1]), "each once, in order: {ahead:?}");
}

#[test]
fn totals_are_those_of_the_repository() {
    let (_, vfs) = vfs_of(&Sample::dir([("a", Sample::file("")), ("b", Sample::file(""))]));
    assert_eq!(vfs.statfs(Reach::Store).unwrap(), Statfs { bytes: 12_345_678, files: 3 });
}

/// Who copies a tree is given the files that come before the next listing, in the order in
/// which it reads them, wherever they are.
#[test]
fn what_is_read_before_the_next_listing_is_pushed() {
    let file = |text: &str| Sample::file(text.repeat(300));
    let m = Sample::dir([("b", file("b")), ("c", file("c")), ("n", Sample::dir::<&str>([]))]);
    let q = Sample::dir([("r", file("r"))]);
    let y = Sample::dir([("a", file("a")), ("m", m), ("p", file("p")), ("q", q), ("s", file("s"))]);
    let x = Sample::dir([("0", file("0")), ("1", file("1")), ("2", file("2"))]);
    let z = Sample::dir([("t", file("t"))]);
    let (library, vfs) = vfs_of(&Sample::dir([("x", x), ("y", y), ("z", z)]));
    let (pushed, sunk) = crossbeam_channel::unbounded();
    let sink = move |_, bytes: &[u8]| {
        pushed.send(char::from(bytes[0])).unwrap();
        Ok(())
    };
    let library = library as Arc<dyn Library>;
    vfs.push_by(Pusher::start(library, Arc::default(), Box::new(sink), 2).unwrap());
    let after_listing = |path: &str| {
        let dir = found(&vfs, &format!("latest/s/{path}")).attr.ino;
        let mut dirs = Dirs::default();
        vfs.readdir(dir, 0, Reach::Store, &mut dirs, &mut |_| false).unwrap();
        if let Some(done) = vfs.listing_ended(dir, &mut || {}) {
            done.recv().unwrap_err();
        }
        sunk.try_iter().collect::<String>()
    };
    assert_eq!(after_listing("x"), "", "nobody copies");
    for name in ["0", "1", "2"] {
        let ino = found(&vfs, &format!("latest/s/x/{name}")).attr.ino;
        vfs.read(ino, 0, 300, Reach::Store).unwrap();
    }
    // The first is left out, so that it is seen whether somebody reads it.
    assert_eq!(after_listing("x"), "12");
    let told = ["y", "y/m", "y/m/n", "y/q", "z"].map(after_listing);
    assert_eq!(told, ["a", "bcp", "p", "rs", "t"]);
}
