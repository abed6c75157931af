//! To be written.
/// A stored object, mapped into memory.
pub struct MappedObject;
