//! Counts that are wrong: nothing that is needed may go.
