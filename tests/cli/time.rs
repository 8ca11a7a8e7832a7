//! Several moments beside each other: `diff`, `history`.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::bench::Bench;

/// Two snapshots: of what is there at first, and of it with a change of every kind.
fn two() -> Bench {
    let bench = Bench::with_repository();
    bench.write("src/old", b"one\ntwo\nthree\n");
    bench.write("src/gone/file", b"gone\n");
    bench.write("src/turned", b"a file\n");
    bench.write("src/binary", b"\0\x01\x02");
    bench.backup().exits(0);
    bench.write("src/old", b"one\n2\nthree\n");
    std::fs::remove_dir_all(bench.path("src/gone")).unwrap();
    std::fs::remove_file(bench.path("src/turned")).unwrap();
    bench.write("src/turned/inside", b"now a directory\n");
    bench.write("src/binary", b"\0\x01\x03");
    let hello = bench.path("src/hello");
    std::fs::set_permissions(hello, std::fs::Permissions::from_mode(0o600)).unwrap();
    bench.backup().exits(0);
    bench
}

/// The index of the only repository.
fn index_of(dir: &std::path::Path) -> std::path::PathBuf {
    let below = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut found = below.filter_map(|path| match path.is_dir() {
        true => Some(index_of(&path)).filter(|path| !path.as_os_str().is_empty()),
        false => path.file_name().is_some_and(|name| name == "index.sqlite").then_some(path),
    });
    found.next().unwrap_or_default()
}

fn ids(bench: &Bench) -> Vec<String> {
    let listed = bench.asof(["snapshots", "--json"]).exits(0).json();
    let id = |snapshot: &Value| format!("id:{}", snapshot["id"].as_str().unwrap());
    listed["snapshots"].as_array().unwrap().iter().map(id).collect()
}

#[test]
fn what_differs_is_listed_by_what_became_of_it() {
    let bench = two();
    let ids = ids(&bench);
    let shown = bench.asof(["diff", &ids[0], &ids[1]]).exits(0).stdout;
    assert_eq!(
        shown,
        "M /binary\n- /gone\n- /gone/file\nU /hello\nM /old\nT /turned\n+ /turned/inside\n"
    );
    assert_eq!(bench.asof(["diff", &ids[1], "s"]).exits(0).stdout, "");
    let names = bench.asof(["diff", "--name-only", "-0", &ids[1], &ids[0]]).exits(0).stdout;
    assert!(names.starts_with("/binary\0/gone\0/gone/file\0/hello\0"), "{names:?}");
    let below = format!("{}:/gone", ids[0]);
    bench.asof(["diff", &below, &format!("{}:/turned", ids[1])]).exits(0).shows("- /turned/file\n");
    bench.asof(["diff", &below, &format!("{}:/gone", ids[1])]).exits(1).tells("/gone is not in s@");
}

#[test]
fn sizes_totals_and_reasons_are_told() {
    let bench = two();
    let ids = ids(&bench);
    let stat = bench.asof(["diff", "--stat", &ids[0], "s"]).exits(0);
    stat.shows("U /hello  mode\n")
        .shows("M /old  14 B -> 12 B\n")
        .shows("T /turned  7 B -> directory\n")
        .shows("1 name added, 2 removed, 3 changed, 1 in attributes alone");
    let json = bench.asof(["diff", "--json", &ids[0], "s"]).exits(0).stdout;
    let lines: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [.., old, _, _, report] = lines.as_slice() else { panic!("{json}") };
    assert_eq!((&old["path"], &old["change"]), (&"/old".into(), &"content".into()));
    assert_eq!((&old["before"]["size"], &old["after"]["size"]), (&14.into(), &12.into()));
    assert_eq!((&report["added"], &report["removed"]), (&1.into(), &2.into()));
}

/// `patch` makes the later state of the earlier one, but for what a patch cannot say.
#[test]
fn a_patch_is_one() {
    let bench = two();
    let ids = ids(&bench);
    let patch = bench.asof(["diff", "--patch", &ids[0], "s"]).exits(0);
    // `hello` has another mode, and `turned` is a directory now.
    let patch = patch.tells("2 changes are left out, for which a patch has no words");
    let patch =
        patch.shows("Binary files a/binary and b/binary differ\n").shows("-two\n+2\n").stdout;
    bench.asof(["restore", &ids[0], "--target", "copy"]).exits(0);
    std::fs::remove_file(bench.path("copy/turned")).unwrap();
    bench.write("patch", patch.replace("--- a/turned\n+++ /dev/null", "").as_bytes());
    let text: String = patch
        .split_inclusive('\n')
        .skip_while(|line| !line.starts_with("--- a/old"))
        .take_while(|line| !line.starts_with("--- a/turned"))
        .collect();
    bench.write("patch", text.as_bytes());
    let mut command = Command::new("patch");
    command.args(["-p1", "-d", "copy", "-i", "../patch"]).current_dir(bench.path(""));
    assert!(command.stdout(Stdio::null()).status().unwrap().success(), "{text}");
    assert_eq!(std::fs::read(bench.path("copy/old")).unwrap(), b"one\n2\nthree\n");
}

#[test]
fn every_version_of_a_path_has_a_row() {
    let bench = Bench::with_repository();
    bench.backup().exits(0);
    bench.backup().exits(0);
    std::fs::remove_file(bench.path("src/hello")).unwrap();
    bench.backup().exits(0);
    bench.write("src/hello", b"hello again\n");
    bench.write("src/late", b"late\n");
    bench.backup().exits(0);
    let shown = bench.asof(["history", "s:/hello"]).exits(0).shows("SHA256").stdout;
    let rows: Vec<Vec<&str>> = shown.lines().map(|row| row.split_whitespace().collect()).collect();
    assert_eq!(rows.len(), 4, "{shown}");
    // Two columns of dates and times are four words.
    let part = |row: usize| (rows[row][4], rows[row][5]);
    assert_eq!((part(1), part(2).0), (("2", "-rw-r--r--"), "1"));
    assert_eq!(part(2).1, "deleted");
    assert_eq!(rows[3][7], "12");
    let json = bench.asof(["history", "--json", "s:/hello"]).exits(0).json();
    let versions = json["versions"].as_array().unwrap();
    assert_eq!(versions.len(), 3);
    assert_eq!((&versions[1]["present"], &versions[1]["entry"]), (&false.into(), &Value::Null));
    // What it says selects what it shows.
    let selector = format!("{}:/hello", versions[0]["selector"].as_str().unwrap());
    assert_eq!(bench.asof(["cat", &selector]).exits(0).stdout, "hello\n");
    let until = format!("{}:/hello", versions[1]["selector"].as_str().unwrap());
    let json = bench.asof(["history", "--json", &until]).exits(0).json();
    assert_eq!(json["versions"].as_array().unwrap().len(), 2);
    bench.asof(["history", "s:/never"]).exits(1).tells("/never never was in s (4 snapshots)");
}

#[test]
fn a_directory_has_every_name_that_ever_was_in_it() {
    let bench = Bench::with_repository();
    bench.backup().exits(0);
    std::fs::remove_file(bench.path("src/hello")).unwrap();
    bench.write("src/late", b"late\n");
    bench.backup().exits(0);
    let json = bench.asof(["history", "--names", "--json", "s"]).exits(0).json();
    let name = |name: &Value| {
        (name["name"].as_str().unwrap().to_owned(), name["present"].as_bool().unwrap())
    };
    let names: Vec<_> = json["names"].as_array().unwrap().iter().map(name).collect();
    let expected =
        [("hello", false), ("large", true), ("late", true), ("link", true), ("sub", true)];
    assert_eq!(names, expected.map(|(name, present)| (name.to_owned(), present)));
    bench.asof(["history", "--names", "s"]).exits(0).shows("deleted  file");
}

/// `sha256sum` finds every file as it was, with whatever name, and one that changed.
#[test]
fn a_manifest_is_what_sha256sum_checks() {
    let bench = Bench::with_repository();
    bench.write("src/empty", b"");
    bench.write("src/odd\\name\nof two lines", b"odd\n");
    bench.backup().exits(0);
    let ran = bench.asof(["manifest", "s"]).exits(0);
    std::fs::write(bench.path("list"), &ran.output.stdout).unwrap();
    let check = || {
        let mut command = Command::new("sha256sum");
        command.args(["-c", "--strict", "../list"]).current_dir(bench.path("src"));
        let output = command.output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    let (success, said) = check();
    assert!(success && said.lines().count() == 5, "{said}");
    bench.write("src/sub/deep", b"tampered\n");
    let (success, said) = check();
    assert!(!success && said.contains("sub/deep: FAILED"), "{said}");
    bench.asof(["manifest", "s:/hello"]).exits(0).shows("  hello\n");
    bench.asof(["manifest", "s:/nothing"]).exits(1).tells("/nothing is not in s@");
}

#[test]
fn everything_that_ever_was_is_found_with_its_time() {
    let bench = two();
    let found = |args: &[&str]| {
        let all = ["find", "--json"].iter().chain(args);
        let shown = bench.asof(all).exits(0).stdout;
        let hits = shown.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let hit = |hit: Value| {
            let path = hit["entry"]["path"].as_str()?.to_owned();
            Some((path, hit["state"] == "present"))
        };
        let mut hits: Vec<_> = hits.filter_map(hit).collect();
        hits.sort();
        hits
    };
    let hits = |all: &[(&str, bool)]| {
        all.iter().map(|(path, present)| ((*path).to_owned(), *present)).collect::<Vec<_>>()
    };
    assert_eq!(found(&["--name", "ol*"]), hits(&[("old", false), ("old", true)]));
    assert_eq!(found(&["--path", "/gone"]), hits(&[("gone", false), ("gone/file", false)]));
    assert_eq!(found(&["--path", "gon"]), hits(&[]));
    let turned = hits(&[("turned", false), ("turned", true), ("turned/inside", true)]);
    assert_eq!(found(&["--path", "turned"]), turned);
    assert_eq!(found(&["--path", "turned", "--type", "d"]), hits(&[("turned", true)]));
    assert_eq!(found(&["--size", "250k.."]), hits(&[("large", true)]));
    assert_eq!(found(&["--size", "..3"]), hits(&[("binary", false), ("binary", true)]));
    assert_eq!(found(&["--deleted", "--type", "f"]), hits(&[("gone/file", false)]));
    assert_eq!(found(&["--type", "link"]), hits(&[("link", true)]));
    let hash = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
    // Its mode changed, its bytes did not.
    assert_eq!(found(&["--sha256", hash]), hits(&[("hello", false), ("hello", true)]));
    assert_eq!(found(&["--mtime", "..2001"]), hits(&[]));
    assert_eq!(found(&["--mtime", "2001..", "--name", "deep"]), hits(&[("sub/deep", true)]));
    assert_eq!(found(&["--changed-between", "2001", "2002"]), hits(&[]));
    let listed = bench.asof(["snapshots", "--json"]).exits(0).json();
    let first = listed["snapshots"][0]["shown_from"].as_str().unwrap().to_owned();
    let since = found(&["--changed-between", &first, "now", "--type", "f"]);
    assert!(since.contains(&("gone/file".to_owned(), false)), "{since:?}");
    assert!(since.contains(&("turned/inside".to_owned(), true)), "{since:?}");
    assert!(!since.iter().any(|(path, _)| path == "large"), "{since:?}");
    bench
        .asof(["find", "--name", "hello"])
        .exits(0)
        .shows("present")
        .shows("replaced")
        .shows("s:/hello");
    bench.asof(["find", "--source", "t"]).exits(1).tells("there are: s");
    bench.asof(["find", "--size", "3"]).exits(2).tells("FROM..TO");
    bench.asof(["find", "--sha256", "abc"]).exits(2).tells("64 hexadecimal digits");
    bench.asof(["find", "--name", "[a"]).exits(2).tells("--name");
    // What cannot be is said, and not looked for.
    bench
        .asof(["find", "--changed-between", "now", "2020"])
        .exits(2)
        .tells("the earlier one first");
    bench.asof(["find", "--mtime", "now..2020"]).exits(2).tells("the earlier one first");
    bench.asof(["find", "--size", "5M..1M"]).exits(2).tells("as large and as small");
}

/// What is backed up or forgotten meanwhile is searched as it is now, and an index that was
/// damaged is made anew.
#[test]
fn a_search_knows_what_was_backed_up_and_forgotten() {
    let bench = two();
    let hits = |args: &[&str]| {
        let all = ["find", "--name", "old"].iter().chain(args);
        bench.asof(all).exits(0).stdout.lines().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(hits(&[]).len(), 2);
    let id = ids(&bench)[0].clone();
    bench.write("src/old", b"three\n");
    bench.backup().exits(0);
    let all = hits(&[]);
    assert_eq!(all.len(), 3, "{all:?}");
    assert!(all[1].contains("replaced") && all[2].contains("present"), "{all:?}");
    bench.asof(["forget", &id]).exits(0);
    assert_eq!(hits(&[]), all[1..]);
    let index = index_of(&bench.path("cache"));
    let database = rusqlite::Connection::open(&index).unwrap();
    let damage = "UPDATE search_version SET last = last + 1 WHERE path = CAST('old' AS BLOB)";
    assert!(database.execute(damage, []).unwrap() > 0);
    drop(database);
    let found = bench.asof(["find", "--name", "old"]).exits(4);
    found.tells("a row of the search is not what was written").tells("made anew: search again");
    assert_eq!(hits(&[]), all[1..]);
}

/// Everything that is known of a file of the past is told, the time that it was there too.
#[test]
fn a_file_knows_when_it_was_there() {
    let bench = two();
    let listed = bench.asof(["snapshots", "--json"]).exits(0).json();
    let at = |n: usize| listed["snapshots"][n]["shown_from"].clone();
    let stat = |path: &str| bench.asof(["stat", "--json", path]).exits(0).json();
    let large = stat("s:/large");
    assert_eq!((&large["first_seen"], &large["last_seen"]), (&at(0), &at(1)));
    let stored = large["stored_size"].as_u64().unwrap();
    // Noise does not become smaller, and its seals are not counted.
    assert!((290_000..310_000).contains(&stored), "{stored}");
    assert_eq!(large["writer"].as_str().unwrap().len(), 64);
    let old = stat("s:/old");
    assert_eq!((&old["first_seen"], &old["last_seen"]), (&at(1), &at(1)));
    assert!(stat("s:/sub")["stored_size"].is_null());
    bench
        .asof(["stat", "s:/large"])
        .exits(0)
        .shows("first seen")
        .shows("last seen")
        .shows("stored")
        .shows("writer");
}
