//! The context of every key derivation. The texts shape stored bytes: they are never changed and never reused.

/// From the master secret: key of chunk ids.
pub const CHUNK_ID: &str = "kluis 2026 v1 chunk id";
/// From the master secret: key of directory node ids.
pub const NODE_ID: &str = "kluis 2026 v1 node id";
/// From the master secret: key of list node ids.
pub const LIST_ID: &str = "kluis 2026 v1 list id";
/// From the master secret: key of the gear table that cuts files into chunks.
pub const CHUNKER: &str = "kluis 2026 v1 chunker";
/// From the master secret: key of the places where directories are split into nodes.
pub const SPLIT: &str = "kluis 2026 v1 split";
/// From the master secret: key of the tags of those who may destroy.
pub const ADMIN: &str = "kluis 2026 v1 admin";
/// From the master secret: key of the tag over the settings.
pub const CONFIG: &str = "kluis 2026 v1 config";
/// From the master secret: what a computer remembers of a repository to notice another one in its place.
pub const FINGERPRINT: &str = "kluis 2026 v1 fingerprint";
/// From a catalogue root: key of the salts of new objects.
pub const HEDGE: &str = "kluis 2026 v1 hedge";
/// From a root or the unlock key, and the header of an object: the keys of that object.
pub const OBJECT: &str = "kluis 2026 v1 object";
/// From the secret in a key file, and the salt of a slot: sealing key and commitment of that slot.
pub const SLOT_KEY_FILE: &str = "kluis 2026 v1 slot key file";
/// From the bytes of a key file: the checksum inside it.
pub const KEY_FILE_CHECKSUM: &str = "kluis 2026 v1 key file checksum";

#[cfg(test)]
mod tests {
    #[test]
    fn no_two_derivations_share_a_context() {
        let mut all = [
            super::CHUNK_ID,
            super::NODE_ID,
            super::LIST_ID,
            super::CHUNKER,
            super::SPLIT,
            super::ADMIN,
            super::CONFIG,
            super::FINGERPRINT,
            super::HEDGE,
            super::OBJECT,
            super::SLOT_KEY_FILE,
            super::KEY_FILE_CHECKSUM,
        ];
        all.sort_unstable();
        assert!(all.windows(2).all(|pair| pair[0] != pair[1]));
        assert!(all.iter().all(|context| context.starts_with("kluis 2026 v1 ")));
    }
}
