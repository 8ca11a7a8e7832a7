//! The order in which the program asks the disk for things, as the kernel saw it.
//!
//! A power cut keeps what was synced and any part of the rest. So what a repository
//! survives is decided by the order of writes, syncs and links, which no test can see
//! in the files: `strace` writes it down.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::bench::{Bench, Ran};

/// A system call that succeeded: the lines of the record at which it began and ended.
#[derive(Debug)]
struct Event {
    began: usize,
    ended: usize,
    what: What,
}

#[derive(Debug, PartialEq)]
enum What {
    Write(PathBuf),
    Sync(PathBuf),
    Touch(PathBuf),
    Link(PathBuf, PathBuf),
    Make(PathBuf),
    Say,
}

const CALLS: &str = "trace=write,writev,pwrite64,pwritev,fsync,fdatasync,utimensat,link,linkat,\
                     rename,renameat,renameat2,mkdir,mkdirat";

#[test]
fn everything_is_on_disk_before_what_relies_on_it() {
    let bench = Bench::new();
    let repo = std::fs::canonicalize(bench.path("")).unwrap().join("repo");
    let Some(made) = trace(&bench, &["init", "--kdf-cost", "least"]) else {
        return;
    };
    assert!(objects(&made, &repo).len() >= 2, "the description and a key");
    let said = says(&made).unwrap();
    for name in objects(&made, &repo) {
        assert!(durable(&made, &repo, name) < said, "{} comes too late", name.display());
    }

    for args in [&["backup", "--source", "s", "src"], &["backup", "--source", "t", "src/sub"]] {
        let events = trace(&bench, args).unwrap();
        let of = |folder: &str| {
            let all = objects(&events, &repo);
            all.into_iter().filter(|name| name.starts_with(repo.join(folder))).collect::<Vec<_>>()
        };
        let (packs, records) = (of("packs"), of("log"));
        let record = records.last().expect("a record");
        assert!(!packs.is_empty());
        let named = linked(&events, record).began;
        for pack in packs {
            assert!(durable(&events, &repo, pack) < named, "{} comes too late", pack.display());
        }
        assert!(durable(&events, &repo, record) < says(&events).unwrap(), "reported too early");
    }
}

/// The line from which on an object survives a power cut. Checks its file on the way.
fn durable(events: &[Event], repo: &Path, name: &Path) -> usize {
    let link = linked(events, name);
    let What::Link(file, _) = &link.what else { unreachable!() };
    let of = |what: &What| events.iter().filter(|e| e.what == *what).collect::<Vec<_>>();
    let (writes, syncs) = (of(&What::Write(file.clone())), of(&What::Sync(file.clone())));
    let written = writes.iter().map(|e| e.ended).max().expect("it was written");
    let whole = syncs.iter().any(|e| written < e.began && e.ended < link.began);
    assert!(whole, "{} has its name before its bytes are on disk", name.display());
    let touched = of(&What::Touch(file.clone()));
    let timed = touched.iter().any(|e| written < e.began && e.ended < link.began);
    assert!(timed, "the time of {} is that of its writing", name.display());
    // The time was set after the bytes were synced.
    let timed = syncs.iter().filter(|e| e.began > link.ended).map(|e| e.ended).min();
    let mut safe = timed.expect("the time is synced too").max(synced(events, name, link.ended));
    for dir in name.ancestors().skip(1).take_while(|dir| dir.starts_with(repo)) {
        if let Some(made) = of(&What::Make(dir.to_owned())).first() {
            safe = safe.max(synced(events, dir, made.ended));
        }
    }
    safe
}

/// When the directory of a name was synced that appeared at `after`.
fn synced(events: &[Event], name: &Path, after: usize) -> usize {
    let sync = What::Sync(name.parent().unwrap().to_owned());
    let done = events.iter().filter(|e| e.what == sync && e.began > after).map(|e| e.ended).min();
    done.unwrap_or_else(|| panic!("the directory of {} is never synced", name.display()))
}

/// The names of the objects that were made, in their order.
fn objects<'a>(events: &'a [Event], repo: &Path) -> Vec<&'a Path> {
    let links = events.iter().filter_map(|event| match &event.what {
        What::Link(_, name) if name.starts_with(repo) => Some(name.as_path()),
        _ => None,
    });
    links.collect()
}

fn linked<'a>(events: &'a [Event], name: &Path) -> &'a Event {
    let is_it = |e: &&Event| matches!(&e.what, What::Link(_, to) if to == name);
    events.iter().find(is_it).unwrap()
}

/// When the first word on standard output was said.
fn says(events: &[Event]) -> Option<usize> {
    events.iter().find(|e| e.what == What::Say).map(|e| e.began)
}

/// Runs the program and returns what it asked of the kernel; `None`, loudly, if that
/// may not be watched here.
fn trace(bench: &Bench, args: &[&str]) -> Option<Vec<Event>> {
    let record = bench.path("strace");
    let mut command = bench.dress(Command::new("strace"));
    command.args(["-f", "-y", "-s", "0", "-e", CALLS, "-o"]).arg(&record);
    command.arg(env!("CARGO_BIN_EXE_asof")).args(args);
    let ran = Ran::of(command.output().expect("strace is installed"));
    if ran.stderr.contains("ptrace") {
        let loud = "*** strace may not watch: THE ORDER OF SYNCS WAS NOT TESTED ***\n";
        let _ = std::io::Write::write_all(&mut std::io::stderr(), loud.as_bytes());
        return None;
    }
    ran.exits(0);
    Some(events(&std::fs::read_to_string(record).unwrap()))
}

fn events(record: &str) -> Vec<Event> {
    let mut begun: HashMap<&str, (usize, &str)> = HashMap::new();
    let mut events = Vec::new();
    for (line, text) in record.lines().enumerate() {
        let (thread, text) = text.split_once(' ').unwrap();
        let text = text.trim_start();
        if let Some(begin) = text.strip_suffix(" <unfinished ...>") {
            begun.insert(thread, (line, begin));
            continue;
        }
        let (began, call) = match text.starts_with("<... ") {
            true => begun.remove(thread).unwrap(),
            false => (line, text),
        };
        let done = text.rsplit_once(" = ").is_some_and(|(_, result)| !result.starts_with('-'));
        if let Some(what) = what(call).filter(|_| done) {
            events.push(Event { began, ended: line, what });
        }
    }
    events.sort_by_key(|event| event.began);
    events
}

/// `fsync(7</dir/file>) = 0`, `linkat(AT_FDCWD</dir>, "/from", AT_FDCWD</dir>, "/to", 0) = 0`
fn what(call: &str) -> Option<What> {
    let (name, args) = call.split_once('(')?;
    let path = || Some(PathBuf::from(args.split_once('<')?.1.split_once('>')?.0));
    let mut quoted = args.split('"').skip(1).step_by(2).map(PathBuf::from);
    match name {
        _ if name.contains("write") && args.starts_with("1<") => Some(What::Say),
        _ if name.contains("write") => Some(What::Write(path()?)),
        "fsync" | "fdatasync" => Some(What::Sync(path()?)),
        "utimensat" => Some(What::Touch(path()?)),
        "mkdir" | "mkdirat" => Some(What::Make(quoted.next()?)),
        _ => Some(What::Link(quoted.next()?, quoted.next()?)),
    }
}
