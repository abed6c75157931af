//! Sealing and opening of one message: AES-256-GCM.

use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::{AeadInOut, Aes256Gcm, KeyInit};

use super::Secret;

/// Bytes that sealing adds to a message.
pub const TAG_BYTES: usize = 16;

/// A message was not opened. Nothing of it is returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Fewer bytes than a tag has.
    #[error("a sealed message of {len} bytes is shorter than its tag")]
    TooShort {
        /// How many there are.
        len: usize,
    },
    /// The key is another one, or the message, its position, or what is authenticated beside it was altered.
    #[error("a sealed message was altered, or is sealed with another key")]
    Altered,
}

/// Seals and opens messages. The nonce of a message is its `position`: two messages must not be sealed under one
/// key at the same position, which holders keep by counting.
pub struct SealingKey(Box<Aes256Gcm>);

impl SealingKey {
    /// The sealing key with these bytes. Setting it up costs about as much as sealing a kilobyte.
    pub fn new(key: &Secret<32>) -> Self {
        Self(Box::new(Aes256Gcm::new(key.expose().into())))
    }

    /// Encrypts `buffer` in place and authenticates it together with `aad`. The tag belongs behind it.
    pub fn seal(&self, position: u64, aad: &[u8], buffer: &mut [u8]) -> [u8; TAG_BYTES] {
        let tag = self.0.encrypt_inout_detached(&nonce(position).into(), aad, InOutBuf::from(buffer));
        tag.expect("no buffer in memory reaches the 64 GiB that one message may have").into()
    }

    /// Appends `plain`, sealed and followed by its tag, to `into`.
    pub fn seal_to(&self, position: u64, aad: &[u8], plain: &[u8], into: &mut Vec<u8>) {
        let start = into.len();
        into.reserve(plain.len() + TAG_BYTES);
        into.extend_from_slice(plain);
        let (_, buffer) = into.split_at_mut(start);
        let tag = self.seal(position, aad, buffer);
        into.extend_from_slice(&tag);
    }

    /// Writes what `sealed`, which ends in its tag, holds into `into`, which is as long as that. After an error `into` is as
    /// it was.
    pub fn open_into(
        &self,
        position: u64,
        aad: &[u8],
        sealed: &[u8],
        into: &mut [u8],
    ) -> Result<(), OpenError> {
        let too_short = OpenError::TooShort { len: sealed.len() };
        let (message, tag) = sealed.split_last_chunk::<TAG_BYTES>().ok_or(too_short)?;
        let buffer = InOutBuf::new(message, into).expect("the caller made room for exactly the message");
        let opened = self.0.decrypt_inout_detached(&nonce(position).into(), aad, buffer, tag.into());
        opened.map_err(|_| OpenError::Altered)
    }

    /// Appends what `sealed`, which ends in its tag, holds to `into`. After an error `into` is as it was.
    pub fn open_to(
        &self,
        position: u64,
        aad: &[u8],
        sealed: &[u8],
        into: &mut Vec<u8>,
    ) -> Result<(), OpenError> {
        let too_short = OpenError::TooShort { len: sealed.len() };
        let message_len = sealed.len().checked_sub(TAG_BYTES).ok_or(too_short)?;
        let start = into.len();
        into.resize(start + message_len, 0);
        let (_, room) = into.split_at_mut(start);
        let opened = self.open_into(position, aad, sealed, room);
        if opened.is_err() {
            into.truncate(start);
        }
        opened
    }
}

fn nonce(position: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    let (_, counter) = nonce.split_at_mut(4);
    counter.copy_from_slice(&position.to_be_bytes());
    nonce
}

#[cfg(test)]
mod tests;
