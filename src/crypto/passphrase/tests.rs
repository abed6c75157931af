//! Vectors computed with the `argon2-cffi` package of Python (the reference implementation in C).

use super::*;
use crate::crypto::fixture::hex;

fn salt() -> [u8; 32] {
    std::array::from_fn(|at| at as u8 + 64)
}

/// Far below what is allowed, so that many tries cost nothing.
fn cheap() -> KdfParams {
    KdfParams { memory_kib: 64, passes: 3, lanes: 4 }
}

#[test]
fn a_passphrase_stretches_to_what_it_always_did() {
    let cheap = stretch(b"correct horse", &salt(), cheap()).unwrap();
    assert_eq!(
        hex(cheap.expose()),
        "bb65d4d4d070956c6a2dd9ba2c287303f7eb899cacd6995e16941d4a6ea734c9\
         d3969d20450e151895a8b5143e569f68f616f17a566be9afda55ed874f6f576b"
    );
    let real = stretch(b"correct horse", &salt(), KdfParams::MIN).unwrap();
    assert_eq!(
        hex(real.expose()),
        "73affd52db894d5c28bfb536ba2fcef860c30d0e830e4fd6195c9c688e704458\
         57438b9803defd1b267cd9f688f8ee67b3e4bdedc8f953798ccfc2072bb3a0e7"
    );
}

#[test]
fn another_passphrase_salt_or_cost_gives_another_key() {
    let stretched = |passphrase: &[u8], salt, params| stretch(passphrase, &salt, params).unwrap();
    let key = stretched(b"correct horse", salt(), cheap());
    assert!(key != stretched(b"correct horsf", salt(), cheap()));
    assert!(key != stretched(b"correct horse ", salt(), cheap()));
    assert!(key != stretched(b"", salt(), cheap()));
    assert!(key != stretched(b"correct horse", [0; 32], cheap()));
    assert!(key != stretched(b"correct horse", salt(), KdfParams { passes: 4, ..cheap() }));
    assert!(key != stretched(b"correct horse", salt(), KdfParams { lanes: 2, ..cheap() }));
}

#[test]
fn parameters_outside_the_limits_are_refused() {
    assert_eq!(KdfParams::new(256 << 10, 3, 4), Ok(KdfParams::default()));
    for (memory_kib, passes, lanes) in
        [((64 << 10) - 1, 3, 4), ((2 << 20) + 1, 3, 4), (u32::MAX, 3, 4), (0, 0, 0)].into_iter().chain([
            (64 << 10, 2, 4),
            (64 << 10, 17, 4),
            (64 << 10, 3, 0),
            (64 << 10, 3, 17),
        ])
    {
        let error = KdfError::OutsideLimits { memory_kib, passes, lanes };
        assert_eq!(KdfParams::new(memory_kib, passes, lanes), Err(error));
    }
}

#[test]
fn measured_parameters_meet_the_target_within_the_limits() {
    // A pretended computer that needs so many milliseconds for a pass over 64 MiB.
    let measured = |ms_per_pass: u64| {
        let time = |params: KdfParams| {
            assert_eq!(params, KdfParams::MIN);
            Duration::from_millis(ms_per_pass * 3)
        };
        let params = KdfParams::measure(Duration::from_secs(1), time);
        (params.memory_kib() >> 10, params.passes(), params.lanes())
    };
    assert_eq!(measured(1000), (64, 3, 4), "a slow computer gets the minimum");
    assert_eq!(measured(167), (120, 3, 4), "memory grows first");
    assert_eq!(measured(50), (256, 5, 4), "then the passes");
    assert_eq!(measured(1), (256, 16, 4), "a fast computer gets the maximum");
    assert_eq!(measured(0), (256, 16, 4), "a clock that stands still does no harm");
}
