//! Names of users and groups, remembered, since a directory service may take
//! milliseconds for each and a tree has few owners.

use std::collections::HashMap;
use std::sync::Arc;

use nix::unistd::{Gid, Group, Uid, User};

/// The names behind numbers, and the numbers behind names, on this machine.
#[derive(Debug, Default)]
pub struct Owners {
    users: HashMap<u32, Option<Arc<str>>>,
    groups: HashMap<u32, Option<Arc<str>>>,
    uids: HashMap<String, Option<u32>>,
    gids: HashMap<String, Option<u32>>,
}

impl Owners {
    /// Knows nothing yet; asks the system once for each number or name.
    #[must_use]
    pub fn new() -> Owners {
        Owners::default()
    }

    /// The name of a user, or `None` if this machine has none for the number.
    pub fn user(&mut self, uid: u32) -> Option<Arc<str>> {
        let ask = || Some(User::from_uid(Uid::from_raw(uid)).ok()??.name.into());
        self.users.entry(uid).or_insert_with(ask).clone()
    }

    /// The name of a group, or `None` if this machine has none for the number.
    pub fn group(&mut self, gid: u32) -> Option<Arc<str>> {
        let ask = || Some(Group::from_gid(Gid::from_raw(gid)).ok()??.name.into());
        self.groups.entry(gid).or_insert_with(ask).clone()
    }

    /// The number of the user of that name here, or `None` if there is no such user.
    pub fn uid(&mut self, name: &str) -> Option<u32> {
        if let Some(known) = self.uids.get(name) {
            return *known;
        }
        let uid = User::from_name(name).ok().flatten().map(|u| u.uid.as_raw());
        self.uids.insert(name.to_owned(), uid);
        uid
    }

    /// The number of the group of that name here, or `None` if there is no such group.
    pub fn gid(&mut self, name: &str) -> Option<u32> {
        if let Some(known) = self.gids.get(name) {
            return *known;
        }
        let gid = Group::from_name(name).ok().flatten().map(|g| g.gid.as_raw());
        self.gids.insert(name.to_owned(), gid);
        gid
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_has_a_name_and_a_number_and_nobody_is_invented() {
        let mut owners = Owners::new();
        for _ in 0..2 {
            assert_eq!(owners.user(0).as_deref(), Some("root"));
            assert_eq!(owners.gid("root"), Some(0));
            assert_eq!(owners.user(3_999_999_999), None);
            assert_eq!(owners.uid("no such user"), None);
        }
    }
}
