//! Stored objects: what their bytes mean (docs/format.md is the law, this is its implementation).

pub mod parity;
pub mod tree;
