//! POSIX ACLs as the text that tar programs exchange. Pure.

/// Bytes in front of the entries: the version, 2, as u32.
const HEADER: [u8; 4] = [2, 0, 0, 0];

/// The record of tar for an extended attribute that holds an ACL.
pub(super) fn record_name(xattr: &[u8]) -> Option<&'static str> {
    match xattr {
        b"system.posix_acl_access" => Some("SCHILY.acl.access"),
        b"system.posix_acl_default" => Some("SCHILY.acl.default"),
        _ => None,
    }
}

/// The value of such an attribute as text: `user::rw-,user:1000:r--,...`. Users and groups stand there by number, which
/// every tar understands; a name that the other computer does not know would cost the whole ACL. `None` if the value is
/// no ACL.
pub(super) fn text(value: &[u8]) -> Option<String> {
    let entries = value.strip_prefix(&HEADER)?;
    let (entries, []) = entries.as_chunks::<8>() else { return None };
    let lines: Option<Vec<String>> = entries.iter().map(entry_text).collect();
    lines.filter(|lines| !lines.is_empty()).map(|lines| lines.join(","))
}

/// An entry is tag and permissions as u16, and a number as u32, little-endian.
fn entry_text(entry: &[u8; 8]) -> Option<String> {
    let [tag_low, tag_high, rights_low, rights_high, id @ ..] = *entry;
    let id = u32::from_le_bytes(id);
    let who = match u16::from_le_bytes([tag_low, tag_high]) {
        0x01 => "user:".to_owned(),
        0x02 => format!("user:{id}"),
        0x04 => "group:".to_owned(),
        0x08 => format!("group:{id}"),
        0x10 => "mask:".to_owned(),
        0x20 => "other:".to_owned(),
        _ => return None,
    };
    let rights = u16::from_le_bytes([rights_low, rights_high]);
    let rights = [(4, 'r'), (2, 'w'), (1, 'x')].map(|(bit, c)| if rights & bit != 0 { c } else { '-' });
    Some(format!("{who}:{}", rights.iter().collect::<String>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value of an attribute with these tags, rights and numbers.
    fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut value = HEADER.to_vec();
        for (tag, rights, id) in entries {
            value.extend(tag.to_le_bytes());
            value.extend(rights.to_le_bytes());
            value.extend(id.to_le_bytes());
        }
        value
    }

    #[test]
    fn an_acl_is_written_as_other_programs_write_it() {
        let nobody = u32::MAX;
        let entries =
            [(1, 6, nobody), (2, 5, 1000), (4, 4, nobody), (8, 7, 5), (0x10, 7, nobody), (0x20, 0, nobody)];
        let expected = "user::rw-,user:1000:r-x,group::r--,group:5:rwx,mask::rwx,other::---";
        assert_eq!(text(&acl(&entries)).as_deref(), Some(expected));
    }

    #[test]
    fn what_is_no_acl_has_no_text() {
        let good = acl(&[(1, 6, 0)]);
        for bad in [&[][..], &HEADER, &good[..9], &[1, 0, 0, 0], &acl(&[(3, 6, 0)])] {
            assert_eq!(text(bad), None, "{bad:?}");
        }
    }
}
