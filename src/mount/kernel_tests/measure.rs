//! Figures, for people: `cargo test --lib -- --ignored --nocapture measure`.
//!
//! Behind the mount is a library in memory, so this is what the mount itself takes.
//! Files of 40 bytes stand in their entries and are answered by the event loop;
//! files of 100 bytes and more have a chunk and go through the pool.

use std::fmt::Write as _;

use super::*;

fn measure(what: &str, root: &Sample) {
    let library = TestLibrary::new();
    library.publish("s", time(-60), root);
    let mut report = format!("{what}\n");
    for script in [
        "find . -printf %s | wc -c",
        "find . -type f | wc -l",
        "tar -cf - . | wc -c",
        "cp -r . $COPY/r",
        "cp -a . $COPY/a",
    ] {
        let mounted = Mounted::new(&library);
        let copy = TempDir::new_in("/dev/shm").unwrap();
        let dir = mounted.path("latest/s").canonicalize().unwrap();
        let script_here =
            format!("export COPY={}; cd {} && {script}", copy.path().display(), dir.display());
        let begun = Instant::now();
        let said = out(&script_here);
        let took = begun.elapsed();
        let counters = std::fs::read(mounted.path(".asof/counters.json")).unwrap();
        let counters: serde_json::Value = serde_json::from_slice(&counters).unwrap();
        let figure = |name: &str| counters["mount"][name].as_u64().unwrap();
        writeln!(
            report,
            "  {script:28} {:6.2} s   {:>12} lookups {} getattrs {} readdirs {} reads {} xattrs {} deferred {}",
            took.as_secs_f64(),
            said.trim(),
            figure("lookups"),
            figure("getattrs"),
            figure("readdirs"),
            figure("reads"),
            figure("xattrs"),
            figure("deferred"),
        )
        .unwrap();
    }
    std::io::stderr().write_all(report.as_bytes()).unwrap();
}

#[test]
#[ignore = "takes long and asserts nothing"]
fn measure_many_files() {
    if !can_mount() {
        return;
    }
    for size in [40, 100] {
        let files = (0..100_000).map(|n| (format!("f{n:06}"), Sample::file(vec![7; size])));
        measure(&format!("100,000 files of {size} bytes in one directory"), &Sample::dir(files));
    }
    let dirs = (0..7400).map(|d| {
        let files = (0..6).map(|n| (format!("f{n}"), Sample::file(vec![(d % 251) as u8; 14_000])));
        (format!("d{d:05}"), Sample::dir(files))
    });
    measure("44,400 files of 14 kB in 7,400 directories", &Sample::dir(dirs));
    let big = Sample::pieces((0..1000u32).map(|n| Ok(vec![n as u8; 1 << 20])).collect());
    let library = TestLibrary::new();
    library.publish("s", time(-60), &Sample::dir([("big", big)]));
    let mounted = Mounted::new(&library);
    let begun = Instant::now();
    out(&format!("cat {} > /dev/null", mounted.path("latest/s/big").display()));
    let report = format!("1 GB in one file: {:.2} s\n", begun.elapsed().as_secs_f64());
    std::io::stderr().write_all(report.as_bytes()).unwrap();
}
