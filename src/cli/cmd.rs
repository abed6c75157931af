//! The commands, one per file: an `Args` struct whose doc comments are the help, and a `run` that reads like a recipe.

pub mod backup;
pub mod check;
pub mod completions;
pub mod copy;
pub mod diff;
pub mod doctor;
pub mod dump;
pub mod find;
pub mod forget;
pub mod init;
pub mod key;
pub mod ls;
pub mod manpages;
pub mod mount;
pub mod prune;
pub mod repair;
pub mod restore;
pub mod scrub;
pub mod snapshots;
pub mod stats;
pub mod undo_forget;
