//! What programs see.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::Ordering;

use rustix::fs::{CWD, Mode, SeekFrom, XattrFlags};

use super::passthrough::with_copies;
use super::*;
use crate::view::testing::Cut;

/// A mount of the odd tree with the smallest nodes, and the tree itself beside it.
fn odd_mount() -> (TempDir, Mounted) {
    odd_mount_with(options())
}

fn odd_mount_with(options: MountOptions) -> (TempDir, Mounted) {
    let library = TestLibrary::new();
    let root = odd_tree();
    let cut = Cut { leaf: 3, inner: 2, extents: 7, links_inline: 0 };
    library.publish_cut("s", time(-60), &root, cut);
    let source = TempDir::new().unwrap();
    make(&source.path().join("tree"), &root, &mut HashMap::new());
    (source, Mounted::with(&library, options))
}

#[test]
fn copies_are_faithful_to_the_last_attribute() {
    are_faithful(options());
}

/// As on a kernel that can nothing of what makes it fast.
#[test]
fn copies_of_a_plain_mount_are_as_faithful() {
    are_faithful(MountOptions { plain: true, ..options() });
}

#[test]
fn copies_of_what_is_passed_through_are_as_faithful() {
    let (_dir, options) = with_copies(1 << 30);
    are_faithful(options);
}

/// `rsync` with every option and every byte finds no difference, in the mount and in
/// what `cp`, `tar` and `rsync` make of it.
fn are_faithful(options: MountOptions) {
    if !can_mount() {
        return;
    }
    let (source, mounted) = odd_mount_with(options);
    let (tree, shown) = (source.path().join("tree"), mounted.path("latest/s"));
    let (tree, shown) = (tree.display(), shown.display());
    let compare = "rsync -aHAXS --numeric-ids -n --itemize-changes --checksum --delete";
    assert_eq!(out(&format!("{compare} {tree}/ {shown}/")), "");
    let copies = TempDir::new().unwrap();
    let copies = copies.path().display();
    for (name, copy) in [
        ("cp", format!("cp -a {shown}/. {copies}/cp")),
        ("rsync", format!("rsync -aHAXS --numeric-ids {shown}/ {copies}/rsync")),
        (
            "tar",
            format!(
                "mkdir {copies}/tar && tar -C {shown} --numeric-owner --xattrs --acls --format=posix \
                 --warning=no-file-ignored -cf - . | \
                 tar -C {copies}/tar --numeric-owner --xattrs --acls --xattrs-include='*' --warning=no-timestamp -xpf -"
            ),
        ),
    ] {
        assert_eq!(out(&copy), "", "{name}");
        let sockets = if name == "tar" { "--exclude=/socket" } else { "" };
        // The times of directories that tar sets come in whatever order: -O.
        assert_eq!(out(&format!("{compare} {sockets} {tree}/ {copies}/{name}/")), "", "{name}");
    }
    assert_eq!(out(&format!("diff -r --no-dereference {tree}/big {shown}/big")), "");
}

#[test]
fn stat_shows_what_the_source_had() {
    if !can_mount() {
        return;
    }
    let (source, mounted) = odd_mount();
    let find = "find . -mindepth 1 ! -type d -printf '%p %y %s %m %n %U %G %T@ %l\\n' | sort";
    let (tree, shown) = (source.path().join("tree"), mounted.path("latest/s"));
    let list = |dir: &Path| out(&format!("cd '{}' && {find}", dir.display()));
    assert_eq!(list(&tree), list(&shown));
    let devices =
        |dir: &Path| out(&format!("cd '{}' && stat -c '%n %t %T' dev disk", dir.display()));
    assert_eq!(devices(&tree), devices(&shown));
    let inum = |name: &str| std::fs::symlink_metadata(shown.join(name)).unwrap().ino();
    let linked = out(&format!("find '{}' -inum {} | wc -l", shown.display(), inum("link2")));
    assert_eq!(linked.trim(), "3");
    let twice = out(&format!(
        "find -L '{}' -printf '%i\\n' | sort | uniq -d | wc -l",
        mounted.path("at").display()
    ));
    assert_eq!(twice.trim(), "2", "the hard link, and what the symbolic link leads to");
    let sparse = std::fs::metadata(shown.join("sparse")).unwrap();
    assert_eq!((sparse.size(), sparse.blocks()), ((1 << 20) + 70_000 + 4096 * 4, 152));
    assert_eq!(std::fs::metadata(shown.join("deep")).unwrap().nlink(), 3);
}

#[test]
fn every_write_is_refused_as_on_a_read_only_file_system() {
    if !can_mount() {
        return;
    }
    let (_source, mounted) = odd_mount();
    for dir in ["latest/s", "latest", "at", "", ".asof", "snapshots"] {
        let dir = mounted.path(dir);
        let new = dir.join("new");
        let read_only = |what: &str, result: io::Result<()>| {
            let error = result.expect_err(what);
            assert_eq!(
                error.kind(),
                io::ErrorKind::ReadOnlyFilesystem,
                "{what} in {dir:?}: {error}"
            );
        };
        read_only("create", std::fs::write(&new, ""));
        read_only("mkdir", std::fs::create_dir(&new));
        read_only("symlink", std::os::unix::fs::symlink("x", &new));
        let fifo = rustix::fs::FileType::Fifo;
        read_only("mknod", rustix::fs::mknodat(CWD, &new, fifo, Mode::RUSR, 0).map_err(Into::into));
        let own = std::fs::read_dir(&dir).unwrap().next().unwrap().unwrap().path();
        let elsewhere = dir.join("elsewhere");
        read_only("rename", std::fs::rename(&own, &elsewhere));
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        read_only("chmod", std::fs::set_permissions(&dir, mode));
        read_only("chown", std::os::unix::fs::lchown(&own, Some(1), Some(1)));
        let flags = XattrFlags::empty();
        read_only("setxattr", rustix::fs::setxattr(&dir, "user.x", b"", flags).map_err(Into::into));
        read_only("removexattr", rustix::fs::removexattr(&dir, "user.x").map_err(Into::into));
    }
    let file = mounted.path("latest/s/a file");
    let read_only = |result: io::Result<()>| {
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::ReadOnlyFilesystem);
    };
    read_only(std::fs::OpenOptions::new().write(true).open(&file).map(drop));
    read_only(std::fs::remove_file(&file));
    read_only(std::fs::remove_dir(mounted.path("latest/s/empty dir")));
    read_only(std::fs::hard_link(&file, mounted.path("latest/s/other")));

    assert_eq!(std::fs::read(&file).unwrap(), b"content");
}

#[test]
fn holes_are_where_they_were() {
    if !can_mount() {
        return;
    }
    let (_source, mounted) = odd_mount();
    let file = std::fs::File::open(mounted.path("latest/s/sparse")).unwrap();
    let data = |from| rustix::fs::seek(&file, SeekFrom::Data(from));
    let hole = |from| rustix::fs::seek(&file, SeekFrom::Hole(from));
    let mib = 1 << 20;
    assert_eq!((data(0), hole(0)), (Ok(mib), Ok(0)));
    assert_eq!((data(mib), hole(mib)), (Ok(mib), Ok(mib + 70_000)));
    assert_eq!(data(mib + 70_000), Ok(mib + 70_000 + 3 * 4096));
    let end = mib + 70_000 + 4 * 4096;
    assert_eq!(hole(end - 1), Ok(end));
    assert_eq!(data(end), Err(rustix::io::Errno::NXIO));
}

#[test]
fn extended_attributes_are_those_of_the_source_and_asof_stays_unlisted() {
    if !can_mount() {
        return;
    }
    let (_source, mounted) = odd_mount();
    let shown = mounted.path("latest/s");
    let in_tree = |script: &str| out(&format!("cd '{}' && {script}", shown.display()));
    assert_eq!(
        in_tree("getfattr -d -m - -e hex attr"),
        "# file: attr\nuser.color=0x72656400ff\n\n"
    );
    assert_eq!(in_tree("getfattr --only-values -n user.asof.source attr"), "s");
    assert_eq!(in_tree("getfattr --only-values -n user.asof.entries ."), "61");
    let sha = in_tree("sha256sum big").split(' ').next().unwrap().to_owned();
    assert_eq!(in_tree("getfattr --only-values -n user.asof.sha256 big"), sha);
    assert!(in_tree("getfacl -n acl").contains("user:12:r--"));
    let missing = rustix::fs::getxattr(shown.join("attr"), "user.none", &mut [0u8; 8][..]);
    assert_eq!(missing, Err(rustix::io::Errno::NODATA));
}

#[test]
fn without_xattrs_there_are_none() {
    if !can_mount() {
        return;
    }
    let library = TestLibrary::new();
    library.publish("s", time(-60), &odd_tree());
    let mounted = Mounted::with(&library, MountOptions { no_xattrs: true, ..options() });
    let file = mounted.path("latest/s/attr");
    let listed = rustix::fs::listxattr(&file, &mut [0u8; 64][..]);
    assert_eq!(listed, Err(rustix::io::Errno::OPNOTSUPP));
    let answer = rustix::fs::getxattr(&file, "user.color", &mut [0u8; 8][..]);
    assert_eq!(answer, Err(rustix::io::Errno::OPNOTSUPP));
}

#[test]
fn df_and_mountinfo_say_what_it_is() {
    if !can_mount() {
        return;
    }
    let (_source, mounted) = odd_mount();
    let vfs = rustix::fs::statvfs(mounted.point.path()).unwrap();
    assert_eq!((vfs.f_blocks * vfs.f_frsize).div_ceil(4096), 12_345_678u64.div_ceil(4096));
    assert_eq!((vfs.f_bavail, vfs.f_bfree, vfs.f_files, vfs.f_namemax), (0, 0, 62, 255));
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let point = mounted.point.path().to_str().unwrap();
    let line = table.lines().find(|line| line.contains(point)).unwrap();
    assert!(line.contains(" - fuse.asof asof ro,"), "{line}");
    for option in ["ro", "nosuid", "nodev", "noatime"] {
        assert!(line.split(' ').nth(5).unwrap().split(',').any(|o| o == option), "{line}");
    }
}

#[test]
fn times_are_names() {
    if !can_mount() {
        return;
    }
    let (_source, mounted) = odd_mount();
    let instant = "2026-11-20T11-59-00.000000000Z";
    let link = |path: &str| std::fs::read_link(mounted.path(path)).map(|p| p.display().to_string());
    assert_eq!(link("latest").unwrap(), format!("at/{instant}"));
    for spelling in ["now", "2026-11-20", "@1795176000", "2026"] {
        assert_eq!(link(&format!("at/{spelling}")).unwrap(), instant);
        assert!(mounted.path(&format!("at/{spelling}/s/a file")).exists());
    }
    assert!(mounted.path(&format!("snapshots/s/{instant}/a file")).exists());
    for none in ["at/2025", "at/rubbish", "at/1h-ago", "snapshots/other", "elsewhere"] {
        assert_eq!(link(none).unwrap_err().kind(), io::ErrorKind::NotFound, "{none}");
    }
    let status = out(&format!("cat {}", mounted.path(".asof/status.json").display()));
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["sources"][0]["newest"]["name"], instant);
}

/// Modes and owners count when others may look, and nobody else looks otherwise.
#[test]
fn permissions_are_enforced_when_others_may_look() {
    if !can_mount() {
        return;
    }
    let library = TestLibrary::new();
    let secret = Sample { mode: 0o600, owner: (0, 0), ..Sample::file("secret") };
    let acl =
        b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff\x02\0\x04\0\xfe\xff\0\0\x04\0\0\0\xff\xff\xff\xff\
        \x10\0\x04\0\xff\xff\xff\xff\x20\0\0\0\xff\xff\xff\xff";
    let by_acl = Sample { mode: 0o640, owner: (0, 0), ..Sample::file("by acl") }
        .xattr("system.posix_acl_access", acl);
    let root = [("secret", secret), ("open", Sample::file("open")), ("acl", by_acl)];
    library.publish("s", time(-60), &Sample::dir(root));
    let cat = |mounted: &Mounted, name: &str| {
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        let _ = std::fs::set_permissions(mounted.point.path().parent().unwrap(), open);
        let path = mounted.path("latest/s").join(name);
        let output = sh(&format!("setpriv --reuid 65534 --clear-groups cat {}", path.display()));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    // The mount point's own directory must let others through.
    let room = TempDir::new().unwrap();
    std::fs::set_permissions(room.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    let point = || TempDir::new_in(room.path()).unwrap();
    let others = MountOptions { allow_other: true, ..options() };
    let mounted = Mounted::on(point(), &library, others).unwrap();
    assert_eq!(["open", "acl", "secret"].map(|name| cat(&mounted, name)), ["open", "by acl", ""]);
    assert_eq!(std::fs::read(mounted.path("latest/s/secret")).unwrap(), b"secret");
    let mounted = Mounted::on(point(), &library, options()).unwrap();
    assert_eq!(cat(&mounted, "open"), "");
    assert_eq!(std::fs::read(mounted.path("latest/s/secret")).unwrap(), b"secret");
}

/// With nothing in memory every answer comes from the pool, and is the same.
#[test]
fn a_large_directory_is_right_with_nothing_in_memory() {
    if !can_mount() {
        return;
    }
    let library = TestLibrary::new();
    let files = (0..3000).map(|n| (format!("f{n:04}"), Sample::file(format!("{n}"))));
    let cut = Cut { leaf: 100, inner: 10, ..Cut::default() };
    library.publish_cut("s", time(-60), &Sample::dir(files), cut);
    library.forgetful.store(true, Ordering::Relaxed);
    let mounted = Mounted::new(&library);
    let dir = mounted.path("latest/s");
    let dir = dir.display();
    assert_eq!(out(&format!("ls {dir} | wc -l")).trim(), "3000");
    assert_eq!(out(&format!("ls -U {dir} | sort -c && ls {dir} | uniq | wc -l")).trim(), "3000");
    let sum = (0..3000).map(|n: u32| n.to_string()).collect::<String>();
    assert_eq!(out(&format!("cd {dir} && cat *")), sum);
}
