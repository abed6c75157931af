//! The settings of a repository: readable JSON with a keyed tag (docs/format.md, "Settings").

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::chunker::{ChunkSizes, ChunkSizesError};
use crate::format::FormatError;
use crate::limits;

const OBJECT: &str = "repository configuration";
const TAG_DIGITS: usize = 64;
/// Features that this program understands.
const FEATURES: [&str; 0] = [];

/// The settings of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositoryConfig {
    /// Version of the format: 1.
    pub format: u16,
    /// Id of the repository in hexadecimal.
    pub repository: String,
    /// Number of these settings; the highest counts.
    pub number: u64,
    /// When they were written: RFC 3339.
    pub created: String,
    /// What a program must understand to use the repository.
    pub required: Vec<String>,
    /// How files are cut into chunks.
    pub chunker: ChunkerConfig,
    /// How large packs become.
    pub packs: PackConfig,
    /// Whether parity follows every object.
    pub parity: bool,
    /// Whether small control objects are stored twice.
    pub copies: bool,
    /// Seconds to wait before a listing shows what another host stored; 0 on a local disk.
    pub settle_seconds: u64,
    /// What was found out about the storage: a promise and whether it holds.
    pub probes: BTreeMap<String, bool>,
    /// Fields of later versions, kept as they are.
    #[serde(flatten)]
    pub unknown: BTreeMap<String, serde_json::Value>,
    /// Keyed hash over the text, see [`RepositoryConfig::tagged_text`].
    pub tag: String,
}

/// How files are cut into chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkerConfig {
    /// 1: FastCDC (2020) with a keyed gear table.
    pub method: u32,
    /// Smallest chunk in bytes, but for the last of a file.
    pub bytes_min: u32,
    /// Average that is aimed at.
    pub bytes_average: u32,
    /// Largest chunk.
    pub bytes_max: u32,
}

/// How large packs become before they are stored, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackConfig {
    /// Packs of chunks.
    pub data_bytes: u64,
    /// Packs of nodes.
    pub meta_bytes: u64,
    /// Whether packs and objects are padded to hide their lengths.
    pub padding: bool,
}

impl ChunkerConfig {
    /// The sizes for the chunker, if it can cut to them.
    pub fn sizes(&self) -> Result<ChunkSizes, ChunkSizesError> {
        ChunkSizes::new(self.bytes_min as usize, self.bytes_average as usize, self.bytes_max as usize)
    }
}

impl RepositoryConfig {
    /// Writes the settings as text whose tag is `tag_of` the same text with 64 zeros in the place of the tag.
    pub fn encode(&self, tag_of: impl Fn(&[u8]) -> [u8; 32]) -> Result<String, FormatError> {
        let zeros = "0".repeat(TAG_DIGITS);
        let untagged = Self { tag: zeros.clone(), ..self.clone() };
        let not_json = |_| FormatError::invalid(OBJECT, "it cannot be written as JSON");
        let text = serde_json::to_string_pretty(&untagged).map_err(not_json)? + "\n";
        let tag: String = tag_of(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(text.replace(&tag_field(&zeros), &tag_field(&tag)))
    }

    /// Reads settings. Their tag is not compared here: that needs a key, see [`Self::tagged_text`].
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let invalid = |rule| FormatError::invalid(OBJECT, rule);
        if bytes.len() > limits::SETTINGS_BYTES_MAX {
            return Err(invalid("it is too long"));
        }
        let config: Self = serde_json::from_slice(bytes).map_err(|_| invalid("it does not parse"))?;
        if config.format != 1 {
            return Err(invalid("its format is newer than this program"));
        }
        if config.required.iter().any(|feature| !FEATURES.contains(&feature.as_str())) {
            return Err(invalid("it requires a feature that this program does not know"));
        }
        let chunker = config.chunker;
        if chunker.method != 1 || chunker.sizes().is_err() {
            return Err(invalid("its chunker is unknown"));
        }
        let packs = config.packs;
        if packs.data_bytes.max(packs.meta_bytes) > limits::PACK_BYTES_MAX / 2 {
            return Err(invalid("its packs are too long"));
        }
        Ok(config)
    }

    /// The bytes that the tag is computed over: the text with zeros in the place of the tag.
    pub fn tagged_text(&self, text: &str) -> Vec<u8> {
        text.replace(&tag_field(&self.tag), &tag_field(&"0".repeat(TAG_DIGITS))).into_bytes()
    }
}

fn tag_field(tag: &str) -> String {
    format!("\"tag\": \"{tag}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> RepositoryConfig {
        RepositoryConfig {
            format: 1,
            repository: "00".repeat(16),
            number: 1,
            created: "2026-01-01T00:00:00Z".to_owned(),
            required: vec![],
            chunker: ChunkerConfig {
                method: 1,
                bytes_min: 1 << 17,
                bytes_average: 1 << 19,
                bytes_max: 1 << 21,
            },
            packs: PackConfig { data_bytes: 32 << 20, meta_bytes: 8 << 20, padding: false },
            parity: true,
            copies: true,
            settle_seconds: 0,
            probes: BTreeMap::new(),
            unknown: BTreeMap::new(),
            tag: String::new(),
        }
    }

    fn tag_of(text: &[u8]) -> [u8; 32] {
        *blake3::hash(text).as_bytes()
    }

    #[test]
    fn the_tag_covers_every_byte_of_the_text() {
        let text = config().encode(tag_of).unwrap();
        let decoded = RepositoryConfig::decode(text.as_bytes()).unwrap();
        let hex = |text: &[u8]| tag_of(text).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(decoded.tag, hex(&decoded.tagged_text(&text)));
        let changed = text.replace("32", "33").replace("33554432", "33554431");
        assert_ne!(decoded.tag, hex(&decoded.tagged_text(&changed)));
    }

    #[test]
    fn unknown_fields_survive_and_unknown_features_are_refused() {
        let text = config().encode(tag_of).unwrap().replacen('{', "{ \"colour\": \"red\",", 1);
        let decoded = RepositoryConfig::decode(text.as_bytes()).unwrap();
        assert!(decoded.encode(tag_of).unwrap().contains("\"colour\": \"red\""));
        let text = text.replace("\"required\": []", "\"required\": [\"time travel\"]");
        assert!(RepositoryConfig::decode(text.as_bytes()).is_err());
    }
}
