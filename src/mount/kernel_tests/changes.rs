//! What differs between two moments, as two trees for the programs that compare trees.

use std::collections::HashMap;

use super::*;

fn file(text: &str) -> Sample {
    Sample::file(text)
}

/// Two trees with a change of every kind between them.
fn trees() -> [Sample; 2] {
    let same = || Sample::dir([("deep", Sample::dir([("x", file("x")), ("y", file("y"))]))]);
    let before = Sample::dir([
        ("same", same()),
        ("half", Sample::dir([("kept", file("kept")), ("edited", file("one\ntwo\n"))])),
        ("gone", Sample::dir([("all", file("of it"))])),
        ("turned", file("a file")),
        ("link", Sample::symlink("here")),
        ("mode", file("same bytes")),
    ]);
    let mut other = file("same bytes");
    other.mode = 0o600;
    let after = Sample::dir([
        ("same", same()),
        ("half", Sample::dir([("kept", file("kept")), ("edited", file("one\n2\n"))])),
        ("new", Sample::dir([("all", file("of it"))])),
        ("turned", Sample::dir([("into", file("a directory"))])),
        ("link", Sample::symlink("there")),
        ("mode", other),
    ]);
    [before, after]
}

/// What `diff -r` and `rsync` say of the two sides is what they say of the whole trees.
#[test]
fn programs_that_compare_trees_see_what_differs_and_that_alone() {
    if !can_mount() {
        return;
    }
    let library = TestLibrary::new();
    let source = TempDir::new().unwrap();
    for (n, (tree, name)) in (0..).zip(trees().iter().zip(["before", "after"])) {
        library.publish("s", time(n - 60), tree);
        make(&source.path().join(name), tree, &mut HashMap::new());
    }
    let mounted = Mounted::new(&library);
    let pairs = mounted.path("changes/s");
    let pair = out(&format!("ls {}", pairs.display()));
    let pair = pairs.join(pair.trim());
    let said = |script: &str, dir: &Path| {
        let output = sh(&format!("cd {} && {script}", dir.display()));
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{script}");
        String::from_utf8(output.stdout).unwrap()
    };
    let diff = "diff -r --no-dereference before after";
    let told = said(diff, &pair);
    assert_eq!(told, said(diff, source.path()));
    assert!(told.contains("< two") && told.contains("Only in before: gone"), "{told}");
    let rsync = "rsync -aHAXS --numeric-ids -n --omit-dir-times --itemize-changes --checksum --delete after/ before/";
    assert_eq!(said(rsync, &pair), said(rsync, source.path()));
    let names = |dir: &str| said(&format!("cd {dir} && find . | LC_ALL=C sort"), &pair);
    assert_eq!(
        names("before"),
        ".\n./gone\n./gone/all\n./half\n./half/edited\n./link\n./mode\n./turned\n"
    );
    assert_eq!(
        names("after"),
        ".\n./half\n./half/edited\n./link\n./mode\n./new\n./new/all\n./turned\n./turned/into\n"
    );
    // A name that means the same leads there.
    let link = out(&format!("readlink {}", pairs.join("@1795175940..now").display()));
    assert_eq!(pairs.join(link.trim()), pair);
    assert_eq!(out(&format!("cat {}/before/half/edited", pair.display())), "one\ntwo\n");
}
