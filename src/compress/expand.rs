//! From stored frames back to their plaintext.

use std::io::Cursor;

use zstd::zstd_safe::{DCtx, find_frame_compressed_size};

use super::Codec;
use crate::limits;

/// A stored frame does not expand to what it should. Nothing of it is returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExpandError {
    /// The frame, its prefix or its plaintext is longer than is allowed.
    #[error("a frame of {plain_len} bytes, stored in {stored_len}, exceeds the limits")]
    TooLong {
        /// Stated length of the plaintext.
        plain_len: usize,
        /// Length of what is stored.
        stored_len: usize,
    },
    /// The stored bytes are not one zstd frame, or its window is too large.
    #[error("the stored bytes are no compressed frame")]
    Malformed,
    /// The plaintext is shorter or longer than stated.
    #[error("the frame does not expand to exactly {plain_len} bytes")]
    OtherLength {
        /// Stated length of the plaintext.
        plain_len: usize,
    },
}

/// Expands frames. Keeps its working memory from frame to frame, so every thread has one of its own.
pub struct Expander {
    context: DCtx<'static>,
}

impl Default for Expander {
    fn default() -> Self {
        Self::new()
    }
}

impl Expander {
    /// An expander.
    pub fn new() -> Self {
        Self { context: DCtx::create() }
    }

    /// Appends the plaintext of `stored`, exactly `plain_len` bytes, to `into`. After an error `into` is as it was.
    ///
    /// `prefix` is the plaintext of the bases, and empty unless the codec is [`Codec::ZstdPrefix`]. What is allocated
    /// depends on `plain_len`, which must keep its limit, and never on what the stored bytes say.
    pub fn expand(
        &mut self,
        codec: Codec,
        stored: &[u8],
        prefix: &[u8],
        plain_len: usize,
        into: &mut Vec<u8>,
    ) -> Result<(), ExpandError> {
        let keeps_limits = plain_len <= limits::FRAME_BYTES_MAX
            && stored.len() <= plain_len
            && prefix.len() <= limits::PREFIX_BYTES_MAX;
        if !keeps_limits {
            return Err(ExpandError::TooLong { plain_len, stored_len: stored.len() });
        }
        match codec {
            Codec::Stored if stored.len() == plain_len => {
                into.extend_from_slice(stored);
                Ok(())
            }
            Codec::Stored => Err(ExpandError::OtherLength { plain_len }),
            Codec::Zstd => expand_with(&mut self.context, stored, plain_len, into),
            Codec::ZstdPrefix => {
                // The context borrows the prefix, so it lives no longer than the frame.
                let mut context = DCtx::create();
                context.ref_prefix(prefix).map_err(|_| ExpandError::Malformed)?;
                expand_with(&mut context, stored, plain_len, into)
            }
        }
    }
}

fn expand_with(
    context: &mut DCtx<'_>,
    stored: &[u8],
    plain_len: usize,
    into: &mut Vec<u8>,
) -> Result<(), ExpandError> {
    // The library would also read several frames end to end, of which ours never are made.
    let is_one_frame = find_frame_compressed_size(stored) == Ok(stored.len());
    if !is_one_frame || !window_is_allowed(stored) {
        return Err(ExpandError::Malformed);
    }
    let start = into.len();
    into.reserve(plain_len);
    let mut cursor = Cursor::new(std::mem::take(into));
    cursor.set_position(start as u64);
    let outcome = context.decompress(&mut cursor, stored);
    *into = cursor.into_inner();
    let expanded = into.len().saturating_sub(start);
    if outcome.is_ok() && expanded == plain_len {
        return Ok(());
    }
    into.truncate(start);
    // Spare capacity of `into` may let a frame become longer than stated; too little of it is an error of zstd.
    Err(if outcome.is_ok() { ExpandError::OtherLength { plain_len } } else { ExpandError::Malformed })
}

/// Whether the frame keeps to the window that every reader must offer (RFC 8878, 3.1.1.1). A frame without a window
/// has one as long as its content, which is limited anyway.
fn window_is_allowed(stored: &[u8]) -> bool {
    const SINGLE_SEGMENT: u8 = 1 << 5;
    match stored.get(4..6) {
        Some([descriptor, _]) if descriptor & SINGLE_SEGMENT != 0 => true,
        Some([_, window]) => {
            let base = 1u64 << (10 + (window >> 3));
            let window_len = base + base / 8 * u64::from(window & 7);
            window_len <= 1 << limits::ZSTD_WINDOW_LOG_MAX
        }
        Some(_) | None => false,
    }
}
