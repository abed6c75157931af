//! To be written.
/// To be written.
pub struct LocalStorage;
/// To be written.
pub struct LocalStorageOptions;
