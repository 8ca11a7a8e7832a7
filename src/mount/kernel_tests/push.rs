//! What is pushed into the kernel, for whom, and that it is right.

use std::collections::HashMap;

use super::*;

/// Directories of small files: as a source tree, but deeper files first here and there.
fn sources(dirs: usize, files: usize) -> Sample {
    let file = |dir: usize, n: usize| {
        let length = 1 + (dir * 7919 + n * 104_729) % 20_000;
        Sample::file((0..length).map(|at| (at * (dir + 3) + n) as u8).collect::<Vec<u8>>())
    };
    Sample::dir((0..dirs).map(|dir| {
        let mut all: Vec<(String, Sample)> =
            (0..files).map(|n| (format!("f{n:02}"), file(dir, n))).collect();
        all.push(("below".to_owned(), Sample::dir([("g", file(dir, 50)), ("h", file(dir, 51))])));
        (format!("d{dir:02}"), Sample::dir(all))
    }))
}

fn mounted(root: &Sample) -> (TempDir, Mounted) {
    let library = TestLibrary::new();
    library.publish("s", time(-60), root);
    let source = TempDir::new().unwrap();
    make(&source.path().join("tree"), root, &mut HashMap::new());
    (source, Mounted::new(&library))
}

pub(super) fn counter(mounted: &Mounted, name: &str) -> u64 {
    let text = std::fs::read_to_string(mounted.path(".asof/counters.json")).unwrap();
    let counters: serde_json::Value = serde_json::from_str(&text).unwrap();
    counters["mount"][name].as_u64().unwrap()
}

/// Most files of a copy never become a READ, and every byte is right.
#[test]
fn a_copy_finds_most_files_in_the_kernel() {
    if !can_mount() {
        return;
    }
    let (source, mounted) = mounted(&sources(40, 10));
    let (tree, shown) = (source.path().join("tree"), mounted.path("latest/s"));
    let copy = TempDir::new().unwrap();
    let copy = copy.path().display();
    out(&format!("tar -C {} -cf - . | tar -C {copy} -xpf -", shown.display()));
    assert_eq!(out(&format!("diff -r {} {copy}", tree.display())), "");
    let pushed = counter(&mounted, "pushed");
    assert!(pushed > 300, "{pushed} of 480");
    let reads = counter(&mounted, "reads");
    assert!(reads < 240, "{reads} for 480 files");
}

/// A program that names every file by a path through `latest` has it looked up now and then,
/// and not for each of them.
#[test]
fn a_copy_through_latest_looks_it_up_seldom() {
    if !can_mount() {
        return;
    }
    let (source, mounted) = mounted(&sources(40, 10));
    let copy = TempDir::new().unwrap();
    let copy = copy.path().display();
    out(&format!("cp -a {} {copy}", mounted.path("latest/s").display()));
    let tree = source.path().join("tree");
    assert_eq!(out(&format!("diff -r {} {copy}/s", tree.display())), "");
    let lookups = counter(&mounted, "lookups");
    assert!(lookups < 240, "{lookups} for 480 files");
}

/// Who only looks gets nothing pushed.
#[test]
fn a_search_pushes_nothing() {
    if !can_mount() {
        return;
    }
    let (_source, mounted) = mounted(&sources(40, 10));
    let shown = mounted.path("latest/s");
    out(&format!("find {} -printf '%s\\n'", shown.display()));
    assert_eq!(counter(&mounted, "pushed"), 0);
    // One file is no copy.
    out(&format!("cat {}/d07/f03", shown.display()));
    out(&format!("ls -lR {}", shown.display()));
    assert_eq!(counter(&mounted, "pushed"), 0);
}

/// Copies, pushes, evictions and new snapshots at once, and the mount taken away under
/// them: every byte that anybody reads is right, and everything ends.
#[test]
fn reads_race_with_pushes_evictions_and_news() {
    use std::sync::atomic::{AtomicBool, Ordering};

    if !can_mount() {
        return;
    }
    let root = sources(30, 8);
    let library = TestLibrary::new();
    library.publish("s", time(-60), &root);
    let mut mounted = Mounted::new(&library);
    let shown = std::fs::canonicalize(mounted.path("latest/s")).unwrap();
    let paths: Vec<(PathBuf, Vec<u8>)> = (0..30)
        .flat_map(|dir| (0..8).map(move |n| (dir, n)))
        .map(|(dir, n)| {
            let path = shown.join(format!("d{dir:02}/f{n:02}"));
            let bytes = std::fs::read(&path).unwrap();
            let sample = &root.children[format!("d{dir:02}").as_bytes()].children
                [format!("f{n:02}").as_bytes()];
            assert_eq!(sample.pieces, [Ok(bytes.clone())]);
            (path, bytes)
        })
        .collect();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|n| {
                let (paths, shown) = (&paths, &shown);
                scope.spawn(move || {
                    for round in 0..12 {
                        if (n + round) % 3 == 0 {
                            out(&format!("tar -C {} -cf - . | cat > /dev/null", shown.display()));
                        }
                        for (path, bytes) in paths {
                            let read = std::fs::read(path).unwrap();
                            assert!(read == *bytes, "{}", path.display());
                        }
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            for (path, bytes) in paths.iter().cycle() {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                let Ok(file) = std::fs::File::open(path) else { break };
                let length = std::num::NonZeroU64::new(bytes.len() as u64);
                let advice = rustix::fs::Advice::DontNeed;
                rustix::fs::fadvise(&file, 0, length, advice).unwrap();
            }
        });
        scope.spawn(|| {
            for n in 0..20 {
                library.publish("s", time(-50 + n), &Sample::dir([("new", Sample::file("x"))]));
                let path = mounted.path("latest/s/new");
                eventually("a new snapshot shows", || path.exists());
            }
        });
        for reader in readers {
            reader.join().unwrap();
        }
        over.store(true, Ordering::Relaxed);
    });
    // Whoever is inside when the mount goes reads on, or hears that it is gone.
    let inside = std::fs::File::open(&paths[5].0).unwrap();
    let copying = std::thread::spawn(move || {
        sh(&format!("tar -C {} -cf - . | cat > /dev/null", shown.display()))
    });
    mounted.end().unwrap();
    drop(inside);
    copying.join().unwrap();
}
