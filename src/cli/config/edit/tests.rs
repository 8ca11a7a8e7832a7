//! Files as people write them, and what becomes of them.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;

use super::super::{
    Config, ConfigError, Size, SourceKind, SourceTable, define_source, remove_source,
};
use super::*;
use crate::cli::env::Env;

const FILE: &str = "# My backups.

default_profile = 'home'   # the usual one

# Where everything goes.
[profiles.home]
repository = \"/srv/backup\"

# The shop's files.
[sources.www]
exclude = [
    '*.log',  # too many
]
paths = ['/srv/www']  # all of it
# exclude_caches = true

[retention]
keep_last = 3
# the end
";

fn shop() -> SourceTable {
    SourceTable { url: Some("sqlite:/srv/kv.db".to_owned()), ..SourceTable::default() }
}

#[test]
fn a_new_source_stands_at_the_end_and_nothing_else_moves() {
    let text = define(FILE, "shop", &shop()).unwrap();
    assert_eq!(text, format!("{FILE}\n[sources.shop]\nurl = \"sqlite:/srv/kv.db\"\n"));
    assert_eq!(remove(&text, "shop").unwrap(), FILE);
    let alone = "[sources.shop]\nurl = \"sqlite:/srv/kv.db\"\n";
    assert_eq!(define("", "shop", &shop()).unwrap(), alone);
    assert_eq!(define("# mine", "shop", &shop()).unwrap(), format!("# mine\n\n{alone}"));
}

#[test]
fn a_replaced_source_keeps_its_place_and_the_comments_on_what_stays() {
    let table = SourceTable {
        paths: vec!["/srv/new".into()],
        one_file_system: true,
        ..SourceTable::default()
    };
    let text = define(FILE, "www", &table).unwrap();
    let expected = FILE.replace("exclude = [\n    '*.log',  # too many\n]\n", "").replace(
        "['/srv/www']  # all of it\n",
        "[\"/srv/new\"]  # all of it\none_file_system = true\n",
    );
    assert_eq!(text, expected);
}

#[test]
fn a_comment_that_stands_apart_outlives_the_source_below_it() {
    let text = "# My backups.\n\n# The shop.\n[sources.shop]\nurl = 'sqlite:/kv'\n\n# Else.\n[sources.b]\npaths = ['/b']\n";
    assert_eq!(
        remove(text, "shop").unwrap(),
        "# My backups.\n\n# Else.\n[sources.b]\npaths = ['/b']\n"
    );
    let only = "# My backups.\n\n[sources.shop]\nurl = 'sqlite:/kv'\n";
    assert_eq!(remove(only, "shop").unwrap().trim_end(), "# My backups.");
}

/// However the tables are written, what is defined is what is read.
#[test]
fn every_way_to_write_tables_is_understood() {
    let env = Env::of(&[]);
    let path = Path::new("/conf/asof.toml");
    for text in [
        "sources = { www = { paths = ['/w'] } }",
        "sources.www = { paths = ['/w'] }",
        "sources.www.paths = ['/w']",
        "[sources]\nwww = { paths = ['/w'] }",
        "[sources]\nwww.paths = ['/w']\n[profiles.x]\nrepository = '/r'",
        "[sources.www]\r\npaths = ['/w']\r\n",
        "[sources]\n",
    ] {
        let read = |text: &str| Config::parse(text, path, &env).unwrap().sources;
        let old = read(text);
        let added = define(text, "shop", &shop()).unwrap();
        let mut sources = read(&added);
        let kind = SourceKind::Sqlite { path: "/srv/kv.db".into() };
        assert_eq!(sources.remove("shop").unwrap().kind, kind, "{added}");
        assert_eq!(sources, old, "{added}");
        assert_eq!(read(&remove(&added, "shop").unwrap()), old, "{added}");
        if old.contains_key("www") {
            let replaced = define(text, "www", &shop()).unwrap();
            assert_eq!(read(&replaced)["www"].kind, kind, "{replaced}");
        }
    }
    assert!(matches!(define("sources = 1", "a", &shop()), Err(NotEditable::NoTable)));
    assert!(matches!(define("[", "a", &shop()), Err(NotEditable::Syntax(_))));
}

proptest! {
    /// Words of any kind are written so that they are read as they were.
    #[test]
    fn what_is_written_is_read(
        words in proptest::collection::vec(".*", 0..3), host in ".*", size in 0_u64..u64::MAX / 2,
        millis in 100_u64..86_400_000, flags in any::<[bool; 3]>(),
    ) {
        let directory = SourceTable {
            paths: vec!["/a".into()],
            exclude: words.clone(),
            exclude_if_present: words.clone(),
            exclude_caches: flags[0],
            exclude_larger_than: Some(Size(size)),
            one_file_system: flags[1],
            skip_if_unchanged: flags[2],
            tags: words,
            host: Some(host),
            ..SourceTable::default()
        };
        let database = SourceTable {
            interval: Some(Duration::from_millis(millis)),
            spool_limit: Some(Size(size)),
            sync: Some(flags[0]),
            all_for: flags[1].then_some(Duration::from_millis(millis)),
            hourly_for: flags[2].then_some(Duration::from_millis(millis)),
            daily_for: flags[0].then_some(Duration::from_millis(millis)),
            profile: Some("p".to_owned()),
            ..shop()
        };
        for table in [directory, database] {
            let text = define("", "a", &table).unwrap();
            let value: toml::Table = toml::from_str(&text).unwrap();
            let read: SourceTable = value["sources"]["a"].clone().try_into().unwrap();
            prop_assert_eq!(read, table);
        }
    }
}

fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    std::fs::write(&path, text).unwrap();
    (dir, path)
}

fn env() -> Env {
    Env::of(&[("HOME", "/home/me")])
}

#[test]
fn a_missing_file_is_made_for_its_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new/asof/config.toml");
    let change = define_source(&path, &env(), "shop", &shop(), false).unwrap();
    assert!(!change.was_there && change.config.sources.contains_key("shop"));
    assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o600);
    assert_eq!(path.parent().unwrap().metadata().unwrap().mode() & 0o7777, 0o700);
}

#[test]
fn mode_and_symlink_stay() {
    let (dir, real) = file(FILE);
    std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o640)).unwrap();
    let link = dir.path().join("link.toml");
    symlink("config.toml", &link).unwrap();
    define_source(&link, &env(), "shop", &shop(), false).unwrap();
    assert!(link.symlink_metadata().unwrap().is_symlink());
    assert_eq!(real.metadata().unwrap().mode() & 0o7777, 0o640);
    assert!(std::fs::read_to_string(&real).unwrap().contains("shop"));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "nothing is left beside it");
}

#[test]
fn a_name_that_is_there_is_replaced_only_if_asked_for() {
    let (_dir, path) = file(FILE);
    let error = define_source(&path, &env(), "www", &shop(), false).unwrap_err();
    assert!(matches!(error, ConfigError::SourceExists { .. }));
    assert!(error.to_string().contains("--replace"), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), FILE);
    assert!(define_source(&path, &env(), "www", &shop(), true).unwrap().was_there);
}

#[test]
fn what_would_not_read_back_is_not_written() {
    let (_dir, path) = file(FILE);
    let wrong = [
        ("shop", SourceTable { exclude: vec!["x".to_owned()], ..shop() }, "sources.shop.exclude"),
        ("shop", SourceTable { interval: Some(Duration::ZERO), ..shop() }, "sources.shop.interval"),
        ("shop", SourceTable { profile: Some("hom".to_owned()), ..shop() }, "did you mean `home`?"),
        ("a b", shop(), "cannot name a source"),
        ("shop", SourceTable::default(), "sources.shop.paths"),
    ];
    for (name, table, part) in wrong {
        let error = define_source(&path, &env(), name, &table, false).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), FILE);
    }
    std::fs::write(&path, "[profiles.x").unwrap();
    let error = define_source(&path, &env(), "shop", &shop(), false).unwrap_err();
    assert!(matches!(error, ConfigError::Syntax { .. }));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "[profiles.x");
}

#[test]
fn a_source_that_is_not_there_is_not_removed_and_the_others_are_named() {
    let (_dir, path) = file(FILE);
    let error = remove_source(&path, &env(), "ww").unwrap_err().to_string();
    assert!(error.contains("it defines `www`; did you mean `www`?"), "{error}");
    remove_source(&path, &env(), "www").unwrap();
    let error = remove_source(&path, &env(), "www").unwrap_err().to_string();
    assert!(error.contains("it defines none"), "{error}");
}

/// Each reads what the others wrote.
#[test]
fn two_at_a_time_lose_nothing() {
    let (_dir, path) = file(FILE);
    std::thread::scope(|scope| {
        for n in 0..8 {
            let path = &path;
            scope.spawn(move || {
                define_source(path, &env(), &format!("s{n}"), &shop(), false).unwrap();
            });
        }
    });
    let config = Config::load(Some(&path), &env()).unwrap();
    assert_eq!(config.sources.len(), 9);
}
