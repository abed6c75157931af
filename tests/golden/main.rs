//! What was stored once can be read for ever: fixed bytes of every kind of object, and whole repositories made by
//! every released format. They are added to, and never edited.

#![expect(clippy::unwrap_used, reason = "fixtures of tests fail loudly, as the tests themselves do")]

mod repository;
mod vectors;
mod wide;
