//! The disk stops in the middle of every transaction.
