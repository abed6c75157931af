//! Which users and groups of this computer are meant by those of the snapshot.

use std::collections::HashMap;

use crate::wire::Bytes;

/// Translates stored numbers of users and groups: by name where this computer knows the name, otherwise as they
/// are.
#[derive(Debug, Clone, Default)]
pub struct OwnerMap {
    users: HashMap<u32, u32>,
    groups: HashMap<u32, u32>,
}

impl OwnerMap {
    /// The map for the users and groups (number and name) that a snapshot lists, on this computer.
    ///
    /// `/etc/passwd` and `/etc/group` are read directly: the program is linked statically and asks no other
    /// directory of users.
    pub fn of_this_computer(users: &[(u32, Bytes)], groups: &[(u32, Bytes)]) -> Self {
        let read = |path| std::fs::read(path).unwrap_or_default();
        Self::new(users, &read("/etc/passwd"), groups, &read("/etc/group"))
    }

    fn new(users: &[(u32, Bytes)], passwd: &[u8], groups: &[(u32, Bytes)], group: &[u8]) -> Self {
        Self { users: translate(users, passwd), groups: translate(groups, group) }
    }

    /// The user and group on this computer for a stored pair.
    pub fn local(&self, uid: u32, gid: u32) -> (u32, u32) {
        let user = self.users.get(&uid).copied().unwrap_or(uid);
        (user, self.groups.get(&gid).copied().unwrap_or(gid))
    }
}

/// Only numbers that change are kept.
fn translate(stored: &[(u32, Bytes)], database: &[u8]) -> HashMap<u32, u32> {
    let mut local: HashMap<&[u8], u32> = HashMap::new();
    for line in database.split(|byte| *byte == b'\n') {
        let mut fields = line.split(|byte| *byte == b':');
        let (Some(name), Some(_), Some(number)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let number = std::str::from_utf8(number).ok().and_then(|number| number.parse().ok());
        if let Some(number) = number
            && !name.is_empty()
        {
            // The first line of a name counts, as for the C library.
            local.entry(name).or_insert(number);
        }
    }
    let pairs = stored.iter().filter_map(|(number, name)| Some((*number, *local.get(name.as_slice())?)));
    pairs.filter(|(number, local)| number != local).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_found_by_name_first_and_by_number_otherwise() {
        let users = [(1000, Bytes::from(&b"anna"[..])), (1001, Bytes::from(&b"gone"[..]))];
        let groups = [(50, Bytes::from(&b"staff"[..]))];
        let passwd = b"root:x:0:0:::\nanna:x:1007:1007:A,,,:/home/anna:/bin/sh\nanna:x:9:9:::\nbroken\n";
        let map = OwnerMap::new(&users, passwd, &groups, b"staff:x:20:anna\n");
        assert_eq!(map.local(1000, 50), (1007, 20));
        assert_eq!(map.local(1001, 1000), (1001, 1000));
    }
}
