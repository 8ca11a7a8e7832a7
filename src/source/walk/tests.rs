use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::source::path::shown;
use crate::source::{FileReader, Place, RuleOptions};
use crate::target::Target;

/// Writes down what a walk tells: `name/` for a directory, `..` for its end.
#[derive(Default)]
struct Recorder {
    events: Vec<String>,
    troubles: Vec<String>,
    skipped: Vec<Skipped>,
    places: BTreeMap<String, Place>,
    /// Done once, at the entry of this name.
    at: Option<(String, Box<dyn FnOnce()>)>,
}

impl Recorder {
    fn met(&mut self, visit: &Visit<'_>) {
        assert!(visit.path.ends_with(visit.name));
        if self.at.as_ref().is_some_and(|(name, _)| name.as_bytes() == visit.name) {
            (self.at.take().unwrap().1)();
        }
    }

    fn line(&self) -> String {
        self.events.join(" ")
    }
}

impl Visitor for Recorder {
    type Error = Error;

    fn enter(&mut self, dir: &Visit<'_>) -> Result<(), Error> {
        assert_eq!(dir.meta.kind, FileKind::Dir);
        self.events.push(format!("{}/", shown(dir.name)));
        self.met(dir);
        Ok(())
    }

    fn file(&mut self, file: &Visit<'_>) -> Result<(), Error> {
        self.events.push(shown(file.name));
        self.places.insert(shown(file.name), file.place());
        self.met(file);
        Ok(())
    }

    fn leave(&mut self) -> Result<(), Error> {
        self.events.push("..".to_owned());
        Ok(())
    }

    fn problem(&mut self, path: &[u8], trouble: Trouble) -> Result<(), Error> {
        self.troubles.push(format!("{}: {trouble}", shown(path)));
        Ok(())
    }

    fn skipped(&mut self, _: &[u8], why: Skipped) {
        self.skipped.push(why);
    }
}

fn record(recorder: Recorder, roots: &[&Path], rules: RuleOptions, skip: &[&Path]) -> Recorder {
    let mut recorder = recorder;
    let roots: Vec<PathBuf> = roots.iter().map(|p| p.to_path_buf()).collect();
    let skip: Vec<PathBuf> = skip.iter().map(|p| p.to_path_buf()).collect();
    let roots = Roots::new(&roots).unwrap();
    walk(&roots, &Rules::new(&rules).unwrap(), &skip, &mut recorder).unwrap();
    let events = &recorder.events;
    let left = events.iter().filter(|e| *e == "..").count();
    assert_eq!(left, events.iter().filter(|e| e.ends_with('/')).count());
    recorder
}

fn walked(roots: &[&Path]) -> String {
    record(Recorder::default(), roots, RuleOptions::default(), &[]).line()
}

/// A tree from paths; those that end in a slash are directories.
fn tree(paths: &[&str]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for path in paths {
        let full = dir.path().join(path);
        fs::create_dir_all(full.parent().unwrap()).unwrap();
        match path.strip_suffix('/') {
            Some(_) => fs::create_dir_all(full).unwrap(),
            None => fs::write(full, *path).unwrap(),
        }
    }
    dir
}

/// The events for the directories from `/` down to a temporary one.
fn way(dir: &Path, inside: &str) -> String {
    let names: Vec<String> = dir.iter().skip(1).map(|n| shown(n.as_bytes())).collect();
    let up = " ..".repeat(names.len() + 1);
    format!("/ {}/ {inside}{up}", names.join("/ "))
}

#[test]
fn entries_come_in_byte_order_of_name_with_directories_in_place() {
    let dir = tree(&["a/x", "a-b", "a.b", "ab", "B", "a/y/", "\u{e9}"]);
    fs::write(dir.path().join(std::ffi::OsStr::from_bytes(b"a\xff")), "").unwrap();
    assert_eq!(walked(&[dir.path()]), "/ B a/ x y/ .. .. a-b a.b ab a\\xff é ..");
}

#[test]
fn several_roots_are_one_tree_in_which_nothing_else_is() {
    let dir = tree(&["a/b/c", "a/b/d", "a/e", "f/g", "f/h", "i"]);
    let at = |p: &str| dir.path().join(p);
    let got = walked(&[&at("f/h"), &at("a/b"), &at("f/h")]);
    assert_eq!(got, way(dir.path(), "a/ b/ c d .. .. f/ h .."));
    let got = walked(&[&at("a/b"), &at("a"), &at("i")]);
    assert_eq!(got, way(dir.path(), "a/ b/ c d .. e .. i"));
    assert_eq!(walked(&[&at("a/b/c")]), "/ c ..");
    assert_eq!(walked(&[&at("a/b"), &at("f/../a/b/.")]), "/ c d ..");
}

#[test]
fn a_root_that_links_to_a_directory_is_followed_and_no_other_link_is() {
    let dir = tree(&["real/x", "f"]);
    let at = |p: &str| dir.path().join(p);
    symlink("real", at("link")).unwrap();
    symlink("f", at("to-file")).unwrap();
    symlink("gone", at("dangling")).unwrap();
    assert_eq!(walked(&[&at("link")]), "/ x ..");
    assert_eq!(walked(&[&at("to-file")]), "/ to-file ..");
    assert_eq!(walked(&[&at("link"), &at("f")]), way(dir.path(), "f link/ x .."));
    assert_eq!(walked(&[&at("link/x"), &at("dangling")]), way(dir.path(), "dangling link/ x .."));
    assert_eq!(walked(&[dir.path()]), "/ dangling f link real/ x .. to-file ..");
    // A path through a link is kept as it was asked for, also inside a whole root.
    let got = walked(&[dir.path(), &at("link/x")]);
    assert_eq!(got, way(dir.path(), "dangling f link/ x .. real/ x .. to-file"));

    let recorder = record(Recorder::default(), &[&at("dangling")], RuleOptions::default(), &[]);
    assert_eq!(recorder.places["dangling"].meta().kind, FileKind::Symlink);
}

#[test]
fn rules_leave_out_what_is_found_but_not_what_was_asked_for() {
    let dir = tree(&["a.o", "cache/x", "keep/cache", "keep/b.o", "src/target/y", "src/z", "big"]);
    fs::write(dir.path().join("big"), [0; 100]).unwrap();
    let rules = RuleOptions {
        exclude: vec!["*.o".into(), "cache/".into(), "src/target".into(), "!b.o".into()],
        exclude_larger_than: Some(99),
        ..RuleOptions::default()
    };
    let got = record(Recorder::default(), &[dir.path()], rules.clone(), &[]).line();
    assert_eq!(got, "/ keep/ b.o cache .. src/ z .. ..");
    let asked = [&dir.path().join("cache"), &dir.path().join("a.o"), &dir.path().join("big")];
    let got = record(Recorder::default(), &asked.map(|p| &**p), rules.clone(), &[]).line();
    assert_eq!(got, way(dir.path(), "a.o big cache/ x .."));
    // A root below what is left out brings the way to it and nothing else.
    let asked = [dir.path(), &dir.path().join("src/target/y")];
    let got = record(Recorder::default(), &asked, rules, &[]).line();
    assert_eq!(got, way(dir.path(), "keep/ b.o cache .. src/ target/ y .. z .."));
}

#[test]
fn marked_directories_keep_their_mark_alone() {
    let dir = tree(&["c/CACHEDIR.TAG", "c/x", "d/CACHEDIR.TAG", "d/x", "n/.nobackup", "n/x/y"]);
    let tag = b"Signature: 8a477f597d28d172789f06886806bc55\nremark";
    fs::write(dir.path().join("c/CACHEDIR.TAG"), tag).unwrap();
    let rules = RuleOptions {
        exclude_caches: true,
        exclude_if_present: vec![".nobackup".into(), "x:no such header".into()],
        ..RuleOptions::default()
    };
    let recorder = record(Recorder::default(), &[dir.path()], rules, &[]);
    assert_eq!(recorder.line(), "/ c/ CACHEDIR.TAG .. d/ CACHEDIR.TAG x .. n/ .nobackup .. ..");
    assert_eq!(recorder.skipped, [Skipped::Tagged, Skipped::Tagged]);
}

#[test]
fn directories_set_apart_are_stored_empty_under_whatever_name() {
    let dir = tree(&["store/packs/x", "y"]);
    symlink(dir.path().join("store"), dir.path().join("alias")).unwrap();
    let (alias, gone) = (dir.path().join("alias"), dir.path().join("gone"));
    let recorder =
        record(Recorder::default(), &[dir.path()], RuleOptions::default(), &[&alias, &gone]);
    assert_eq!(recorder.line(), "/ alias store/ .. y ..");
    assert_eq!(recorder.skipped, [Skipped::SetApart]);
    let itself = record(Recorder::default(), &[&alias], RuleOptions::default(), &[&alias]);
    assert_eq!((itself.line().as_str(), itself.skipped.len()), ("/ ..", 1));
}

#[test]
fn with_one_file_system_mount_points_are_stored_empty() {
    let dir = tree(&["a", "mnt/", "z"]);
    let at = dir.path().join("mnt");
    let flags = rustix::mount::MountFlags::empty();
    if let Err(e) = rustix::mount::mount("asof-test", &at, "tmpfs", flags, None) {
        eprintln!("NOT TESTED: mount points, since nothing can be mounted here ({e})");
        return;
    }
    fs::write(at.join("in"), "").unwrap();
    let rules = RuleOptions { one_file_system: true, ..RuleOptions::default() };
    let one = record(Recorder::default(), &[dir.path()], rules.clone(), &[]);
    let both = record(Recorder::default(), &[dir.path(), &at], rules, &[]).line();
    let all = walked(&[dir.path()]);
    rustix::mount::unmount(&at, rustix::mount::UnmountFlags::empty()).unwrap();
    assert_eq!(one.line(), "/ a mnt/ .. z ..");
    assert_eq!(one.skipped, [Skipped::OtherFileSystem]);
    assert_eq!(both, way(dir.path(), "a mnt/ in .. z"));
    assert_eq!(all, "/ a mnt/ in .. z ..");
}

#[test]
fn what_vanishes_or_cannot_be_listed_is_reported_and_the_rest_is_walked() {
    let dir = tree(&["a", "b", "c/x", "d"]);
    let path = dir.path().to_owned();
    let act = move || {
        fs::remove_file(path.join("b")).unwrap();
        fs::remove_dir_all(path.join("c")).unwrap();
    };
    let recorder = Recorder { at: Some(("a".into(), Box::new(act))), ..Recorder::default() };
    let recorder = record(recorder, &[dir.path()], RuleOptions::default(), &[]);
    assert_eq!(recorder.line(), "/ a d ..");
    assert_eq!(recorder.troubles.len(), 2);
    assert!(recorder.troubles.iter().all(|t| t.contains("vanished")), "{:?}", recorder.troubles);
    if rustix::process::geteuid().is_root() {
        eprintln!("NOT TESTED as root: directories that cannot be listed");
        return;
    }
    fs::create_dir(dir.path().join("dark")).unwrap();
    fs::set_permissions(dir.path().join("dark"), fs::Permissions::from_mode(0o000)).unwrap();
    let recorder = record(Recorder::default(), &[dir.path()], RuleOptions::default(), &[]);
    assert_eq!(recorder.line(), "/ a d dark/ .. ..");
    assert!(recorder.troubles[0].contains("cannot be listed"), "{:?}", recorder.troubles);
    let dark = Roots::new(&[dir.path().join("dark")]).unwrap();
    assert!(walk(&dark, &Rules::default(), &[], &mut Recorder::default()).is_err());
    fs::set_permissions(dir.path().join("dark"), fs::Permissions::from_mode(0o700)).unwrap();
}

/// Three thousand levels, whose path is longer than the kernel takes at once: walked on a
/// small stack with few descriptors, and the file at the bottom opens after the walk.
#[test]
fn trees_deeper_than_the_kernel_names_are_walked_read_and_removed() {
    const DEPTH: usize = 3000;
    let dir = tempfile::tempdir().unwrap();
    let target = Target::open(dir.path()).unwrap();
    let mut path = b"top".to_vec();
    target.make_dir(&path).unwrap();
    for _ in 0..DEPTH {
        path.extend_from_slice(b"/dd");
        target.make_dir(&path).unwrap();
    }
    for (name, content) in [(&b"/bottom"[..], &b"hello"[..]), (b"/e", b"")] {
        let file = target.create_file(&[&path[..], name].concat()).unwrap();
        file.write_at(content, 0).unwrap();
        file.finish().unwrap();
    }
    // After the deep part, so that the walk has to find its way back.
    target.create_file(b"top/z").unwrap().finish().unwrap();
    let top = dir.path().join("top");
    let body = move || {
        let recorder = record(Recorder::default(), &[&top], RuleOptions::default(), &[]);
        assert_eq!(recorder.troubles, [""; 0]);
        assert_eq!(recorder.events.len(), 2 * (DEPTH + 1) + 3);
        assert!(recorder.places["bottom"].path().len() > 9000);
        let reader = FileReader::open(&recorder.places["bottom"]).unwrap();
        let mut content = [0; 5];
        reader.read_exact_at(&mut content, 0).unwrap();
        assert_eq!(&content, b"hello");
    };
    std::thread::Builder::new().stack_size(256 * 1024).spawn(body).unwrap().join().unwrap();
    let removed = target.remove(b"top").unwrap();
    assert_eq!((removed.entries, removed.refused.count), (DEPTH as u64 + 4, 0));
}

/// The way back must not lead into another directory.
#[test]
fn a_directory_that_is_moved_under_the_walk_is_reported_not_confused() {
    let dir = tempfile::tempdir().unwrap();
    let mut deep = dir.path().join("a");
    for _ in 0..OPEN_DIRS_MAX + 10 {
        deep.push("d");
    }
    fs::create_dir_all(&deep).unwrap();
    fs::create_dir(dir.path().join("elsewhere")).unwrap();
    fs::write(dir.path().join("a/d/zafter"), "").unwrap();
    fs::write(dir.path().join("elsewhere/zafter"), "").unwrap();
    fs::write(deep.join("bottom"), "").unwrap();
    let (from, to) = (dir.path().join("a/d/d"), dir.path().join("elsewhere/d"));
    let gone = dir.path().join("a");
    let act = move || {
        fs::rename(from, to).unwrap();
        fs::remove_dir_all(gone).unwrap();
    };
    let recorder = Recorder { at: Some(("bottom".into(), Box::new(act))), ..Recorder::default() };
    let recorder = record(recorder, &[&dir.path().join("a")], RuleOptions::default(), &[]);
    assert_eq!(recorder.troubles.len(), 1, "{:?}", recorder.troubles);
    assert!(recorder.troubles[0].contains("was moved"), "{:?}", recorder.troubles);
    assert!(!recorder.line().contains("zafter"));
}

#[test]
fn a_place_opens_the_file_that_was_met_or_none() {
    let dir = tree(&["a", "b", "c", "d", "e/f"]);
    let recorder = record(Recorder::default(), &[dir.path()], RuleOptions::default(), &[]);
    let at = |name: &str| dir.path().join(name);
    let open = |name: &str| FileReader::open(&recorder.places[name]).map_err(|e| e.trouble);

    fs::rename(at("b"), at("a")).unwrap();
    assert!(matches!(open("a"), Err(Trouble::Replaced)));
    assert!(matches!(open("b"), Err(Trouble::Vanished)));
    fs::remove_file(at("c")).unwrap();
    rustix::fs::mknodat(CWD, at("c"), rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap();
    assert!(matches!(open("c"), Err(Trouble::Replaced)));
    fs::remove_file(at("d")).unwrap();
    symlink("a", at("d")).unwrap();
    assert!(matches!(open("d"), Err(Trouble::Replaced)));
    let error = FileReader::open(&recorder.places["d"]).unwrap_err().to_string();
    assert!(error.contains(&at("d").display().to_string()), "{error}");
    assert!(open("f").is_ok());
}
