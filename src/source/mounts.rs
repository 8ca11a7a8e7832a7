//! Which file systems are asof's own mounts.
//!
//! A backup of `/` that walked into a mount of its own past would store every
//! snapshot again, inside the next. The kernel's table of mounts says which
//! devices those are; it is read only where a walk crosses from one file system
//! into another, which is seldom.

use std::collections::HashMap;
use std::io;

use rustix::fs::makedev;

/// The type under which the kernel lists a mount of asof.
const OWN_TYPE: &str = "fuse.asof";

/// What is known about devices so far.
#[derive(Debug, Default)]
pub(crate) struct Mounts {
    own: HashMap<u64, bool>,
}

impl Mounts {
    /// Whether the device is a mount of asof. If the table cannot be read, it is not.
    pub(crate) fn is_own(&mut self, dev: u64) -> bool {
        *self.own.entry(dev).or_insert_with(|| {
            let table = read_table().unwrap_or_default();
            devices_of(&table, OWN_TYPE).any(|own| own == dev)
        })
    }
}

fn read_table() -> io::Result<String> {
    Ok(String::from_utf8_lossy(&std::fs::read("/proc/self/mountinfo")?).into_owned())
}

/// The devices of one type in a table of mounts; see `proc_pid_mountinfo(5)`.
fn devices_of<'a>(table: &'a str, kind: &'a str) -> impl Iterator<Item = u64> + 'a {
    table.lines().filter_map(move |line| {
        let (mount, system) = line.split_once(" - ")?;
        let (major, minor) = mount.split(' ').nth(2)?.split_once(':')?;
        let dev = makedev(major.parse().ok()?, minor.parse().ok()?);
        (system.split(' ').next() == Some(kind)).then_some(dev)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_found_by_type_whatever_optional_fields_a_line_has() {
        let table = "36 35 98:0 /a /b - c rw,noatime master:1 - ext4 /dev/root rw\n\
                     40 35 0:51 / /mnt/past ro,nosuid shared:7 - fuse.asof asof ro\n\
                     41 35 0:52 / /mnt/x rw - fuse.sshfs asof rw\n\
                     broken\n";
        assert_eq!(devices_of(table, OWN_TYPE).collect::<Vec<_>>(), [makedev(0, 51)]);
        assert!(!Mounts::default().is_own(makedev(98, 0)));
    }
}
