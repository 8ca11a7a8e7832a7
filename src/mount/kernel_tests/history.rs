//! The past of a path, with the programs that people search and compare with.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::*;
use crate::view::compare::tests::flat;
use crate::view::namespace::tests::history::{expected, named_tree};

fn file(text: &str) -> Sample {
    Sample::file(text)
}

/// A log that grows and is deleted, a directory that was a file, and much that stays.
fn days() -> [Sample; 4] {
    let same =
        || Sample::dir([("deep", Sample::dir([("x.txt", file("needle x")), ("y", file("y"))]))]);
    let day = |app: Option<&str>, other: Sample| {
        let mut log = Sample::dir([("kept", file("kept"))]);
        if let Some(text) = app {
            log.children.insert(b"app.log".to_vec(), file(text));
        }
        Sample::dir([("same", same()), ("log", log), ("turned", other)])
    };
    [
        day(Some("one\n"), file("a file")),
        day(Some("one\nneedle two\n"), file("a file")),
        day(None, Sample::dir([("into", file("a directory"))])),
        day(Some("one\n"), Sample::dir([("into", file("a directory"))])),
    ]
}

const AT: [&str; 4] = [
    "2026-11-20T11-56-00.000000000Z",
    "2026-11-20T11-57-00.000000000Z",
    "2026-11-20T11-58-00.000000000Z",
    "2026-11-20T11-59-00.000000000Z",
];

fn published() -> Arc<TestLibrary> {
    let library = TestLibrary::new();
    for (n, tree) in (0..).zip(&days()) {
        library.publish("s", time(60 * (n - 4)), tree);
    }
    library
}

/// `ls`, `cat`, `cp`, `find` and `diff` see every name that ever was, and every version.
#[test]
fn a_path_shows_every_name_and_every_version() {
    if !can_mount() {
        return;
    }
    let mounted = Mounted::new(&published());
    let said = |script: &str| {
        let output = sh(&format!("cd {} && {script}", mounted.path("history/s").display()));
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{script}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(said("ls"), "log\nsame\nturned\n");
    assert_eq!(said("ls log"), "app.log\nkept\n");
    // It was deleted and came back: three versions, of which two have the same bytes.
    let versions = [AT[0], AT[1], AT[3]].map(|at| format!("{at}.log\n")).concat();
    assert_eq!(said("ls log/app.log"), versions);
    assert_eq!(said("cat log/app.log/*"), "one\none\nneedle two\none\n");
    assert_eq!(
        said(&format!("ls turned && cat turned/{}", AT[0])),
        format!("{}\ninto\na file", AT[0])
    );
    let (first, second) = (format!("{}.log", AT[0]), format!("{}.log", AT[1]));
    let diff = format!("cd log/app.log; diff {first} {second}");
    assert_eq!(said(&diff), "1a2\n> needle two\n");
    assert_eq!(said("find . -type f -size -2c | sort").lines().count(), 1, "y alone");
    let everything = format!(
        ".\n./log\n./log/app.log\n./log/app.log/{0}.log\n./log/app.log/{1}.log\n\
         ./log/app.log/{3}.log\n./log/kept\n./log/kept/{0}\n./same\n./same/deep\n\
         ./same/deep/x.txt\n./same/deep/x.txt/{0}.txt\n./same/deep/y\n./same/deep/y/{0}\n\
         ./turned\n./turned/into\n./turned/into/{2}\n./turned/{0}\n",
        AT[0], AT[1], AT[2], AT[3]
    );
    let mut expected: Vec<&str> = everything.lines().collect();
    expected.sort_unstable();
    assert_eq!(said("find . | LC_ALL=C sort").lines().collect::<Vec<_>>(), expected);
    // A copy is what the snapshot has.
    let copies = TempDir::new().unwrap();
    said(&format!("cp -a log {}", copies.path().display()));
    let compare = "rsync -aHAXS -n --itemize-changes --checksum --delete --omit-dir-times";
    assert_eq!(said(&format!("{compare} log/ {}/log/", copies.path().display())), "");
}

/// Random histories, each a source of its own, against a model that keeps whole copies.
#[test]
fn every_path_shows_what_whole_copies_say() {
    if !can_mount() {
        return;
    }
    let library = TestLibrary::new();
    let mut runner = TestRunner::deterministic();
    let histories = proptest::collection::vec(named_tree(), 1..6);
    let cases: Vec<Vec<Sample>> =
        (0..32).map(|_| histories.new_tree(&mut runner).unwrap().current()).collect();
    for (source, trees) in cases.iter().enumerate() {
        for (n, tree) in (0..).zip(trees) {
            library.publish(&format!("s{source}"), time(n - 1000), tree);
        }
    }
    let mounted = Mounted::new(&library);
    for (source, trees) in cases.iter().enumerate() {
        let mut paths: BTreeSet<Vec<u8>> =
            trees.iter().flat_map(|tree| flat(tree).into_keys()).collect();
        paths.insert(Vec::new());
        for path in paths {
            let text = std::str::from_utf8(&path).unwrap();
            let dir = mounted.path(&format!("history/s{source}/{text}"));
            let listed = std::fs::read_dir(&dir)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let listed: BTreeSet<String> = listed.collect();
            let (names, versions) = expected(trees, text);
            let all = names.iter().chain(versions.keys()).cloned().collect();
            assert_eq!(listed, all, "s{source}/{text}");
            for (name, n) in versions {
                let sample = flat(&trees[n])[&path];
                let file = dir.join(name);
                let shown = std::fs::symlink_metadata(&file).unwrap();
                use std::os::unix::fs::MetadataExt;
                assert_eq!(shown.mode() & 0o7777, sample.mode, "{}", file.display());
                match sample.kind {
                    FileKind::File => assert_eq!(std::fs::read(&file).unwrap(), sample.bytes()),
                    _ => {
                        let target = std::fs::read_link(&file).unwrap();
                        assert_eq!(target.as_os_str().as_bytes(), sample.target);
                    }
                }
            }
        }
    }
}

/// What is published while it is mounted appears under the paths that are held open.
#[test]
fn a_new_version_appears_where_one_stands() {
    if !can_mount() {
        return;
    }
    let library = published();
    let mounted = Mounted::new(&library);
    let dir = mounted.path("history/s/log/app.log");
    let here = std::fs::File::open(&dir).unwrap();
    let listed = || std::fs::read_dir(&dir).unwrap().count();
    assert_eq!(listed(), 3);
    let number = std::fs::metadata(&dir).unwrap();
    library.publish("s", time(-1), &days()[1]);
    eventually("the new version is listed", || listed() == 4);
    use std::os::unix::fs::MetadataExt;
    assert_eq!(std::fs::metadata(&dir).unwrap().ino(), number.ino());
    assert_eq!(here.metadata().unwrap().ino(), number.ino());
}

/// `find`, `fd`, `rg`, `diff -r` and `rsync -n` work on every view, and agree on what is there.
#[test]
fn programs_that_search_work_on_every_view() {
    if !can_mount() {
        return;
    }
    let fd =
        ["fdfind", "fd"].into_iter().find(|fd| sh(&format!("command -v {fd}")).status.success());
    let must = std::env::var("ASOF_TEST_FUSE").is_ok_and(|wish| wish == "must");
    let (Some(fd), true) = (fd, sh("command -v rg").status.success()) else {
        assert!(!must, "fd and rg are not installed");
        std::io::stderr().write_all(b"\n*** NOT RUN: fd or rg is missing ***\n").unwrap();
        return;
    };
    let mounted = Mounted::new(&published());
    let said = |script: &str| {
        let output = sh(&format!("cd {} && {script}", mounted.point.path().display()));
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{script}");
        String::from_utf8(output.stdout).unwrap()
    };
    let pair = format!("changes/s/{}..{}", AT[0], AT[1]);
    for (view, hits) in [
        ("latest/s".to_owned(), 1),
        (format!("at/{}/s", AT[1]), 2),
        (format!("snapshots/s/{}", AT[1]), 2),
        (pair, 1),
        ("history/s".to_owned(), 2),
    ] {
        let sorted = |script: &str| {
            let mut lines: Vec<String> =
                said(&format!("cd {view} && {script}")).lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        let found = sorted("find . -mindepth 1 -printf '%P\\n'");
        let listed = sorted(&format!("{fd} --unrestricted --strip-cwd-prefix | sed 's:/$::'"));
        assert_eq!(listed, found, "{view}");
        assert_eq!(
            sorted("rg --no-messages --count-matches --sort path needle .").len(),
            hits,
            "{view}"
        );
        assert_eq!(sorted("grep -rl needle .").len(), hits, "{view}");
        assert_eq!(said(&format!("diff -r --no-dereference {view} {view}")), "");
        let compare = "rsync -aHAXS -n --itemize-changes --checksum --delete";
        assert_eq!(said(&format!("{compare} {view}/ {view}/")), "");
    }
}
