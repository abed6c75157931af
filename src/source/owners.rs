//! Names of users and groups.
//!
//! Read from `/etc/passwd` and `/etc/group` directly: the program is linked statically, and the name services of the
//! C library cannot be used from there. Users of a directory service are known by number only.

use std::collections::HashMap;
use std::path::Path;

/// The names of the users and groups of this computer, as they were when loaded.
#[derive(Debug, Clone, Default)]
pub struct Owners {
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
}

impl Owners {
    /// Reads the names. A file that cannot be read counts as empty.
    pub fn load() -> Owners {
        let read = |path| std::fs::read(Path::new(path)).unwrap_or_default();
        Owners { users: parse(&read("/etc/passwd")), groups: parse(&read("/etc/group")) }
    }

    /// The name of a user.
    pub fn user(&self, uid: u32) -> Option<&str> {
        self.users.get(&uid).map(String::as_str)
    }

    /// The name of a group.
    pub fn group(&self, gid: u32) -> Option<&str> {
        self.groups.get(&gid).map(String::as_str)
    }
}

/// Both files hold the name in the first field and the number in the third. As for the system, the first line that
/// has a number counts.
fn parse(bytes: &[u8]) -> HashMap<u32, String> {
    let mut names = HashMap::new();
    for line in bytes.split(|&byte| byte == b'\n') {
        let Ok(line) = std::str::from_utf8(line) else { continue };
        let mut fields = line.split(':');
        let (name, number) = (fields.next(), fields.nth(1));
        let number = number.and_then(|number| number.parse::<u32>().ok());
        // Lines that begin with + or - refer to a directory service.
        if let (Some(name), Some(number)) = (name, number)
            && !name.is_empty()
            && !name.starts_with(['+', '-', '#'])
        {
            names.entry(number).or_insert_with(|| name.to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_with_a_number_names_it() {
        let names =
            parse(b"root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/:\nme:x:1000:1000::/home/me:/bin/sh\n");
        assert_eq!(names.get(&0).map(String::as_str), Some("root"));
        assert_eq!(names.get(&1000).map(String::as_str), Some("me"));
    }

    #[test]
    fn damaged_lines_are_skipped() {
        let names =
            parse(b"\n:x:1:\n+::0:\nshort\nname:x:minus:\n\xff:x:2:\n#c:x:3:\ngood:x:4\nbig:x:4294967296:\n");
        assert_eq!(names, HashMap::from([(4, "good".to_owned())]));
    }

    #[test]
    fn the_names_of_this_computer_can_be_loaded() {
        let owners = Owners::load();
        assert_eq!(owners.user(0).is_some(), Path::new("/etc/passwd").exists());
        assert_eq!(owners.user(u32::MAX - 7), None);
        assert_eq!(owners.group(u32::MAX - 7), None);
    }
}
