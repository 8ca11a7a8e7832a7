//! `source`, and what `backup` makes of what it writes.

use serde_json::json;

use crate::bench::{Bench, PASSPHRASE, Ran};

/// Runs with the bench's own configuration file.
fn run(bench: &Bench, args: &[&str]) -> Ran {
    let mut command = bench.command();
    command.env("ASOF_CONFIG", bench.path("conf/asof.toml"));
    command.env_remove("ASOF_REPOSITORY").env_remove("ASOF_PASSWORD");
    Ran::of(command.args(args).output().unwrap())
}

fn text(bench: &Bench) -> String {
    std::fs::read_to_string(bench.path("conf/asof.toml")).unwrap()
}

/// A repository, and a file that knows it.
fn bench() -> Bench {
    let bench = Bench::with_repository();
    bench.write("conf/secret", format!("{PASSPHRASE}\n").as_bytes());
    bench.write(
        "conf/asof.toml",
        b"# Mine.\n[profiles.here]\nrepository = \"../repo\"\npassword_file = \"secret\"\n",
    );
    bench
}

#[test]
fn a_directory_is_defined_backed_up_and_removed_and_its_snapshots_stay() {
    let bench = bench();
    let add = ["source", "add", "files", "src", "--exclude", "large", "--tag", "t", "--host", "h"];
    run(&bench, &add).exits(0).shows("asof backup files");
    let src = bench.path("src");
    assert_eq!(
        text(&bench),
        format!(
            "# Mine.\n[profiles.here]\nrepository = \"../repo\"\npassword_file = \"secret\"\n\n\
             [sources.files]\npaths = [\"{}\"]\nexclude = [\"large\"]\ntags = [\"t\"]\nhost = \"h\"\n",
            src.display()
        )
    );
    run(&bench, &["backup", "files"]).exits(0).shows("of files");
    assert!(!run(&bench, &["ls", "files"]).exits(0).stdout.contains("large"));
    run(&bench, &["source", "remove", "files"]).exits(0).shows("stays");
    run(&bench, &["backup", "files"]).exits(2).tells("neither a source");
    run(&bench, &["ls", "files"]).exits(0).shows("hello");
    assert!(text(&bench).starts_with("# Mine.\n"));
}

#[test]
fn a_database_is_defined_and_is_not_copied() {
    let bench = bench();
    bench.write("kv.db", b"");
    let add = ["source", "add", "shop", "sqlite:kv.db", "--interval", "500ms", "--sync"];
    let ran = run(&bench, &add).exits(0).shows("asof follow shop");
    assert!(ran.stderr.is_empty(), "{}", ran.stderr);
    run(&bench, &["backup", "shop"]).exits(2).tells("asof follow shop");
    let shown = run(&bench, &["source", "show", "shop", "--json"]).exits(0).json();
    assert_eq!(
        shown["source"],
        json!({
            "name": "shop", "kind": "sqlite",
            "urls": [format!("sqlite:{}", bench.path("kv.db").display())],
            "profile": "here", "tags": [], "host": null,
            "interval_seconds": 0.5, "spool_limit_bytes": 1 << 30, "sync": true,
        })
    );
    run(&bench, &["source", "show", "shop"]).exits(0).shows("interval     500ms");
}

#[test]
fn sources_are_listed_for_people_and_programs() {
    let bench = bench();
    run(&bench, &["source", "list"]).exits(0).tells("asof source add");
    run(&bench, &["source", "add", "www", "src", "dir:/etc"]).exits(0);
    run(&bench, &["source", "add", "shop", "sqlite:/kv.db", "--profile", "here"])
        .exits(0)
        .tells("nothing at /kv.db yet");
    let listed = run(&bench, &["source", "list"]).exits(0);
    let src = bench.path("src").display().to_string();
    let rows: Vec<Vec<&str>> =
        listed.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(
        rows,
        [
            vec!["NAME", "KIND", "WHERE", "PROFILE"],
            vec!["shop", "sqlite", "/kv.db", "here"],
            vec!["www", "directory", &src, "/etc", "here"],
        ]
    );
    let listed = run(&bench, &["source", "list", "--json"]).exits(0).json();
    assert_eq!(listed["sources"][0]["urls"], json!(["sqlite:/kv.db"]));
    assert_eq!(listed["sources"][1]["kind"], "directory");
}

/// No file and no directory for it: `add` makes both, in the place that all commands look at.
#[test]
fn the_first_source_makes_the_file() {
    let bench = Bench::new();
    bench.asof(["source", "add", "www", "src"]).exits(0);
    assert!(bench.path("home/.config/asof/config.toml").exists());
    bench.asof(["source", "show", "www"]).exits(0).shows("directory");
    let named = ["--config", "elsewhere/asof.toml", "source", "add", "www", "src"];
    bench.asof(named).exits(0);
    assert!(bench.path("elsewhere/asof.toml").exists());
    bench.asof(["--config", "none.toml", "source", "list"]).exits(2).tells("none.toml");
}

#[test]
fn a_dollar_sign_in_a_path_is_one() {
    let bench = bench();
    bench.write("a$HOME/file", b"x");
    run(&bench, &["source", "add", "odd", "a$HOME"]).exits(0);
    run(&bench, &["backup", "odd"]).exits(0);
    assert_eq!(run(&bench, &["ls", "odd"]).exits(0).stdout, "file\n");
}

#[test]
fn what_cannot_be_a_source_is_refused_and_changes_nothing() {
    let bench = bench();
    let before = text(&bench);
    for (args, part) in [
        (&["a b", "/x"][..], "cannot name a source"),
        (&["db", "postgres://h/db"], "no `postgres:`"),
        (&["db", "sqlit:/kv.db"], "did you mean `sqlite`?"),
        (&["db", "sqlite:src"], "is a directory and no database"),
        (&["db", "sqlite:/a", "sqlite:/b"], "a database is a source by itself"),
        (&["db", "sqlite:/a", "/b"], "a database is a source by itself"),
        (&["db", "sqlite:/a", "--exclude", "x"], "`sources.db.exclude` is for directories"),
        (&["www", "/a", "--interval", "1s"], "`sources.www.interval` is for databases"),
        (&["db", "sqlite:/a", "--interval", "1ms"], "from 100ms to 1d"),
        (&["db", "sqlite:/a", "--profile", "her"], "did you mean `here`?"),
        (&["db"], "URL"),
    ] {
        let args: Vec<&str> = ["source", "add"].iter().chain(args).copied().collect();
        run(&bench, &args).exits(2).tells(part);
    }
    assert_eq!(text(&bench), before);
    run(&bench, &["source", "add", "www", "src"]).exits(0);
    run(&bench, &["source", "add", "www", "/etc"]).exits(1).tells("--replace");
    run(&bench, &["source", "add", "www", "/etc", "--replace"]).exits(0).shows("Replaced");
    for verb in ["show", "remove"] {
        run(&bench, &["source", verb, "ww"]).exits(2).tells("it defines `www`");
    }
}
