use std::io::Write;

use super::*;

fn rules(patterns: &[&str]) -> Rules {
    let exclude = patterns.iter().map(|p| (*p).to_owned()).collect();
    Rules::new(&RuleOptions { exclude, ..RuleOptions::default() }).unwrap()
}

/// `/srv/data` is what is backed up in these cases; a path that ends in a slash is a directory.
fn excluded(patterns: &[&str], path: &str) -> bool {
    let plain = path.strip_suffix('/').unwrap_or(path);
    rules(patterns).excludes(plain.as_bytes(), "/srv/data".len(), plain != path)
}

#[test]
fn patterns_mean_what_their_slashes_say() {
    for (pattern, path, expected) in [
        ("*.o", "/srv/data/a.o", true),
        ("*.o", "/srv/data/deep/er/a.o", true),
        ("*.o", "/srv/data/a.op", false),
        ("cache/", "/srv/data/x/cache/", true),
        ("cache/", "/srv/data/x/cache", false),
        ("/srv/data/tmp", "/srv/data/tmp/", true),
        ("/srv/data/tmp", "/srv/data/x/srv/data/tmp", false),
        ("/tmp", "/srv/data/tmp", false),
        ("a/b", "/srv/data/a/b", true),
        ("a/b", "/srv/data/x/a/b", false),
        ("srv/data/a", "/srv/data/a", false),
        ("**/a/b", "/srv/data/x/a/b", true),
        ("a/**/z", "/srv/data/a/z", true),
        ("a/**/z", "/srv/data/a/b/c/z", true),
        ("a/**", "/srv/data/a/", false),
        ("a/**", "/srv/data/a/b", true),
        ("[ab]?", "/srv/data/b1", true),
        ("#odd#", "/srv/data/#odd#", true),
        ("größe", "/srv/data/größe", true),
    ] {
        assert_eq!(excluded(&[pattern], path), expected, "{pattern} on {path}");
    }
}

/// Patterns of both anchors take turns here; neither kind may jump the queue.
#[test]
fn the_last_pattern_that_matches_decides() {
    let list = ["*.log", "!/srv/data/keep.log", "/srv/data/keep.log", "!k*"];
    assert!(!excluded(&list, "/srv/data/keep.log"));
    assert!(excluded(&list[..3], "/srv/data/keep.log"));
    assert!(!excluded(&list[..2], "/srv/data/keep.log"));
    assert!(excluded(&list, "/srv/data/other.log"));
}

#[test]
fn names_that_are_not_utf8_match_byte_by_byte() {
    let rules = rules(&["x??.bak", "*\n*"]);
    assert!(rules.excludes(b"/r/x\xff\xfe.bak", 2, false));
    assert!(!rules.excludes(b"/r/x\xff.bak", 2, false));
    assert!(rules.excludes(b"/r/new\nline", 2, false));
}

#[test]
fn with_the_root_of_the_file_system_absolute_and_relative_are_one() {
    let rules = rules(&["var/tmp", "/proc"]);
    assert!(rules.excludes(b"/var/tmp", 0, true));
    assert!(rules.excludes(b"/var/tmp", 1, true));
    assert!(rules.excludes(b"/proc", 1, true));
}

#[test]
fn a_bad_pattern_is_named_with_its_place() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"# remark\n\n*.tmp\r\n[z\n").unwrap();
    let path = file.path().to_owned();
    let options = RuleOptions { exclude_file: vec![path.clone()], ..RuleOptions::default() };
    let text = Rules::new(&options).unwrap_err().to_string();
    assert!(text.contains("[z") && text.contains(&format!("{}, line 4", path.display())), "{text}");

    for bad in ["a{b", "!", "/"] {
        let options = RuleOptions { exclude: vec![bad.to_owned()], ..RuleOptions::default() };
        assert!(Rules::new(&options).unwrap_err().to_string().contains(bad), "{bad}");
    }
    let options = RuleOptions { exclude_if_present: vec!["a/b".into()], ..RuleOptions::default() };
    assert!(Rules::new(&options).is_err());
}
