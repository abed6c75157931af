//! The only source of randomness: the operating system. Tests may repeat what is no secret.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Secret;

/// The operating system gave no random bytes. Nothing may go on with other bytes in their place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gives no random bytes")]
pub struct RandomError(#[source] getrandom::Error);

/// Where random bytes come from that are no secret: ids and salts.
#[derive(Debug, Default)]
pub enum Randomness {
    /// From the operating system.
    #[default]
    System,
    /// From a seed, so that a test can replay a history. Whoever stores anything with it must be the only one with
    /// this seed.
    Repeatable(Repeatable),
}

/// See [`Randomness::Repeatable`].
#[derive(Debug)]
pub struct Repeatable {
    seed: u64,
    drawn: AtomicU64,
}

impl Randomness {
    /// Bytes that look random and are the same for every source of this seed.
    pub fn repeatable(seed: u64) -> Self {
        Self::Repeatable(Repeatable { seed, drawn: AtomicU64::new(0) })
    }

    /// Draws so many bytes.
    pub fn draw<const N: usize>(&self) -> Result<[u8; N], RandomError> {
        let Self::Repeatable(Repeatable { seed, drawn }) = self else { return random() };
        let mut bytes = [0; N];
        let mut hasher = blake3::Hasher::new();
        hasher.update(&seed.to_le_bytes()).update(&drawn.fetch_add(1, Ordering::Relaxed).to_le_bytes());
        hasher.finalize_xof().fill(&mut bytes);
        Ok(bytes)
    }
}

/// Random bytes that are no secret: ids and salts.
pub fn random<const N: usize>() -> Result<[u8; N], RandomError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(RandomError)?;
    Ok(bytes)
}

/// A fresh random secret.
pub fn random_secret<const N: usize>() -> Result<Secret<N>, RandomError> {
    let mut outcome = Ok(());
    let secret = Secret::fill_with(|place| outcome = getrandom::fill(place));
    outcome.map_err(RandomError)?;
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sources_of_one_seed_repeat_each_other() {
        let [one, same, other] = [7, 7, 8].map(Randomness::repeatable);
        let drawn = [one.draw::<32>().unwrap(), one.draw().unwrap()];
        assert_ne!(drawn[0], drawn[1]);
        assert_eq!(drawn, [same.draw().unwrap(), same.draw().unwrap()]);
        assert_ne!(drawn[0], other.draw().unwrap());
        assert_ne!(Randomness::System.draw::<32>().unwrap(), Randomness::default().draw().unwrap());
    }

    #[test]
    fn random_bytes_do_not_repeat() {
        assert_ne!(random::<32>().unwrap(), random::<32>().unwrap());
        assert!(random_secret::<32>().unwrap() != random_secret::<32>().unwrap());
    }
}
