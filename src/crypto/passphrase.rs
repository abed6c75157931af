//! Keys from passphrases: Argon2id.

use std::time::Duration;

use argon2::{Algorithm, Argon2, Params, Version};

use super::Secret;

const MEMORY_KIB_MIN: u32 = 64 << 10;
const MEMORY_KIB_MAX: u32 = 2 << 20;
const PASS_COUNT_MIN: u32 = 3;
const PASS_COUNT_MAX: u32 = 16;
const LANE_COUNT_MAX: u32 = 16;

const MEMORY_KIB_DEFAULT: u32 = 256 << 10;
const LANE_COUNT_DEFAULT: u32 = 4;
/// Measured memory is a multiple of this.
const MEMORY_KIB_STEP: u32 = 8 << 10;

/// A passphrase could not be stretched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KdfError {
    /// Less than is safe, or more than a reader should be made to spend. Refused before anything is allocated.
    #[error(
        "stretching with {memory_kib} KiB, {passes} passes and {lanes} lanes is outside the allowed limits"
    )]
    OutsideLimits {
        /// Memory in KiB.
        memory_kib: u32,
        /// Passes over the memory.
        passes: u32,
        /// Lanes worked on side by side.
        lanes: u32,
    },
    /// The memory that the parameters ask for is not there.
    #[error("there are no {memory_kib} KiB of memory to stretch the passphrase")]
    OutOfMemory {
        /// Memory in KiB.
        memory_kib: u32,
    },
    /// The passphrase is longer than 4 GiB.
    #[error("the passphrase is too long")]
    PassphraseTooLong,
}

/// How much work one try of a passphrase costs. Always within the limits of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KdfParams {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

impl Default for KdfParams {
    fn default() -> Self {
        Self { memory_kib: MEMORY_KIB_DEFAULT, passes: PASS_COUNT_MIN, lanes: LANE_COUNT_DEFAULT }
    }
}

impl KdfParams {
    /// The cheapest that is allowed.
    pub const MIN: Self =
        Self { memory_kib: MEMORY_KIB_MIN, passes: PASS_COUNT_MIN, lanes: LANE_COUNT_DEFAULT };

    /// Parameters as a slot states them: 64 MiB to 2 GiB, 3 to 16 passes, 1 to 16 lanes.
    pub fn new(memory_kib: u32, passes: u32, lanes: u32) -> Result<Self, KdfError> {
        let is_allowed = (MEMORY_KIB_MIN..=MEMORY_KIB_MAX).contains(&memory_kib)
            && (PASS_COUNT_MIN..=PASS_COUNT_MAX).contains(&passes)
            && (1..=LANE_COUNT_MAX).contains(&lanes);
        let error = KdfError::OutsideLimits { memory_kib, passes, lanes };
        if is_allowed { Ok(Self { memory_kib, passes, lanes }) } else { Err(error) }
    }

    /// Parameters that take about `target` where `time` was measured: `time` stretches something with the
    /// parameters it is given and says how long that took. It is called once.
    ///
    /// Memory grows first, up to 256 MiB, because that is what an attacker's hardware lacks; then the passes. A
    /// slow computer gets the minimum, even if that takes longer than `target`.
    pub fn measure(target: Duration, time: impl FnOnce(Self) -> Duration) -> Self {
        let spent = time(Self::MIN).as_secs_f64().max(1e-6);
        let affordable = target.as_secs_f64() / spent;
        // Conversions from float to integer saturate, so no measurement leads outside the limits.
        let memory_kib = (f64::from(MEMORY_KIB_MIN) * affordable) as u32 / MEMORY_KIB_STEP * MEMORY_KIB_STEP;
        let memory_kib = memory_kib.clamp(MEMORY_KIB_MIN, MEMORY_KIB_DEFAULT);
        let passes_per_min = f64::from(PASS_COUNT_MIN) * f64::from(MEMORY_KIB_MIN) / f64::from(memory_kib);
        let passes = ((passes_per_min * affordable) as u32).clamp(PASS_COUNT_MIN, PASS_COUNT_MAX);
        Self { memory_kib, passes, lanes: LANE_COUNT_DEFAULT }
    }

    /// Memory in KiB.
    pub const fn memory_kib(&self) -> u32 {
        self.memory_kib
    }

    /// Passes over the memory.
    pub const fn passes(&self) -> u32 {
        self.passes
    }

    /// Lanes worked on side by side.
    pub const fn lanes(&self) -> u32 {
        self.lanes
    }
}

/// Stretches a passphrase with Argon2id version 1.3: 32 bytes of sealing key, then 32 bytes of commitment to it
/// ([`Secret::key_and_commitment`]).
pub fn stretch(passphrase: &[u8], salt: &[u8; 32], params: KdfParams) -> Result<Secret<64>, KdfError> {
    let KdfParams { memory_kib, passes, lanes } = params;
    let outside = KdfError::OutsideLimits { memory_kib, passes, lanes };
    let params = Params::new(memory_kib, passes, lanes, Some(64)).map_err(|_| outside.clone())?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let mut outcome = Ok(());
    let keys = Secret::<64>::fill_with(|place| outcome = argon2.hash_password_into(passphrase, salt, place));
    match outcome {
        Ok(()) => Ok(keys),
        Err(argon2::Error::OutOfMemory) => Err(KdfError::OutOfMemory { memory_kib }),
        Err(argon2::Error::PwdTooLong) => Err(KdfError::PassphraseTooLong),
        Err(_) => Err(outside),
    }
}

#[cfg(test)]
mod tests;
