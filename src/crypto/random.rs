//! The only source of randomness: the operating system.

use super::Secret;

/// The operating system gave no random bytes. Nothing may go on with other bytes in their place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gives no random bytes")]
pub struct RandomError(#[source] getrandom::Error);

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
    fn random_bytes_do_not_repeat() {
        assert_ne!(random::<32>().unwrap(), random::<32>().unwrap());
        assert!(random_secret::<32>().unwrap() != random_secret::<32>().unwrap());
    }
}
