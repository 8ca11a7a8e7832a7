//! `mount` and `umount`, as they are typed. Needs `/dev/fuse`, and says so if it is missing.

use std::path::Path;
use std::process::Command;

use crate::bench::{Bench, Ran};

/// Ends the mount whatever becomes of the test.
struct Mounted<'a>(&'a Bench, &'static str);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        self.0.asof(["umount", self.1]);
    }
}

fn can_mount() -> bool {
    let can = Path::new("/dev/fuse").exists();
    if !can {
        eprintln!("NOT RUN: there is no /dev/fuse here, so nothing was mounted");
    }
    can
}

#[test]
fn a_mount_goes_to_the_background_when_it_can_be_used() {
    if !can_mount() {
        return;
    }
    let bench = Bench::with_snapshot();
    std::fs::create_dir(bench.path("m")).unwrap();
    let report = bench.asof(["mount", "m", "--json"]).exits(0).json();
    let mounted = Mounted(&bench, "m");
    assert_eq!(std::fs::read(bench.path("m/latest/s/hello")).unwrap(), b"hello\n");
    // What served as the secret is neither in its arguments nor in its environment.
    let pid = report["pid"].as_u64().unwrap();
    for file in ["environ", "cmdline"] {
        let bytes = std::fs::read(format!("/proc/{pid}/{file}")).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains("correct horse"), "{file}");
    }
    assert!(Path::new(report["log"].as_str().unwrap()).exists());
    // What other commands know of the repository it knows too.
    let indexes = |dir: std::path::PathBuf| {
        let found = Command::new("find").arg(dir).args(["-name", "index.sqlite"]).output().unwrap();
        String::from_utf8(found.stdout).unwrap().lines().count()
    };
    bench.asof(["snapshots"]).exits(0);
    assert_eq!(indexes(bench.path("cache")), 1);
    bench.asof(["mount", "m"]).exits(1).tells("already");
    drop(mounted);
    assert!(!bench.path("m/latest").exists());
    bench.asof(["umount", "m"]).exits(1).tells("not mounted");
}

#[test]
fn fstab_mounts_by_the_name_of_the_program() {
    if !can_mount() {
        return;
    }
    let bench = Bench::with_snapshot();
    std::fs::create_dir(bench.path("m")).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_asof"), bench.path("mount.asof")).unwrap();
    let mut command = bench.dress(Command::new(bench.path("mount.asof")));
    command.env_remove("ASOF_REPOSITORY").arg(bench.path("repo")).arg(bench.path("m"));
    let ran = Ran::of(command.args(["-o", "rw,noauto,timezone=UTC"]).output().unwrap());
    ran.exits(0);
    let mounted = Mounted(&bench, "m");
    assert!(bench.path("m/latest/s/sub/deep").exists());
    drop(mounted);
}

#[test]
fn a_mount_that_cannot_be_made_says_why() {
    let bench = Bench::with_snapshot();
    bench.asof(["mount", "nowhere"]).exits(1).tells("mkdir -p nowhere");
    bench.asof(["mount", "src/hello"]).exits(2).tells("not a directory");
    if can_mount() {
        bench.asof(["mount", "repo"]).exits(2).tells("the repository's own files");
    }
    std::fs::create_dir(bench.path("m")).unwrap();
    let mut command = bench.command();
    command.env("ASOF_PASSWORD", "wrong").args(["mount", "m"]);
    Ran::of(command.output().unwrap()).exits(12);
}

/// Without root the kernel is asked through fusermount3; what is shown is the same.
#[test]
fn an_ordinary_user_mounts_and_finds_every_odd_file_as_it_was() {
    if !can_mount() {
        return;
    }
    let bench = Bench::new();
    let open_to_all =
        std::os::unix::fs::MetadataExt::mode(&std::fs::metadata("/dev/fuse").unwrap());
    let root = rustix::process::geteuid().is_root();
    if root && open_to_all & 0o006 != 0o006 {
        eprintln!("NOT RUN: /dev/fuse is closed to ordinary users here (chmod a+rw /dev/fuse)");
        assert!(std::env::var_os("ASOF_TEST_REQUIRE_S3").is_none(), "scripts/test opens it");
        return;
    }
    let program = bench.path("asof");
    std::fs::copy(env!("CARGO_BIN_EXE_asof"), &program).unwrap();
    let home = bench.path("nobody");
    std::fs::create_dir(&home).unwrap();
    if root {
        std::os::unix::fs::chown(&home, Some(65_534), Some(65_534)).unwrap();
    }
    let run = |program: &Path, args: &[&str]| {
        let mut command = match root {
            true => {
                let mut command = Command::new("setpriv");
                command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program);
                command
            }
            false => Command::new(program),
        };
        command = bench.dress(command);
        command.env("ASOF_CACHE_DIR", home.join("cache"));
        command.env("ASOF_REPOSITORY", home.join("repo")).env("HOME", &home);
        command.current_dir(&home);
        Ran::of(command.args(args).output().unwrap())
    };
    let script = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/make-odd-tree"));
    run(script, &["odd"]).exits(0);
    run(Path::new("mkdir"), &["m"]).exits(0);
    run(&program, &["init", "--kdf-cost", "least"]).exits(0);
    run(&program, &["backup", "--source", "odd", "odd"]).exits(0);
    run(&program, &["mount", "m"]).exits(0);
    let compared = run(
        Path::new("rsync"),
        &["-aHAXSn", "--numeric-ids", "-i", "--checksum", "--delete", "odd/", "m/latest/odd/"],
    );
    let again = run(&program, &["umount", "m"]);
    assert_eq!(compared.exits(0).stdout, "");
    again.exits(0);
}
