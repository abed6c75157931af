//! kluis keeps backups: content-addressed, deduplicated, compressed, encrypted, and provably restorable.
//!
//! The modules stand on floors. A file uses its own module and the floors below it, never sideways and never
//! up; `tests/tidy.rs` checks this.
//!
//! | Floor | Modules |
//! | --- | --- |
//! | 6 faces | [`cli`] |
//! | 4 operations | [`backup`], [`restore`], [`retention`], [`mod@forget`], [`prune`], [`check`], [`stats`] |
//! | | [`diff`], [`find`], [`mount`] |
//! | 3 repository | [`repo`] |
//! | 2 devices | [`storage`], [`index`], [`source`], [`target`] |
//! | 1 codecs | [`hash`], [`chunker`], [`compress`], [`crypto`], [`mod@format`] |
//! | 0 ground | [`id`], [`wire`], [`limits`], [`units`], [`clock`], [`event`], [`shelf`] |

pub mod clock;
pub mod event;
pub mod id;
pub mod limits;
pub mod shelf;
pub mod units;
pub mod wire;

pub mod chunker;
pub mod compress;
pub mod crypto;
pub mod format;
pub mod hash;

pub mod index;
pub mod source;
pub mod storage;
pub mod target;

pub mod repo;

pub mod backup;
pub mod check;
pub mod copy;
pub mod diff;
pub mod find;
pub mod forget;
pub mod mount;
pub mod prune;
pub mod restore;
pub mod retention;
pub mod stats;

pub mod cli;
