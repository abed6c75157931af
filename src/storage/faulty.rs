//! To be written.
/// To be written.
pub struct Fault;
/// To be written.
pub struct FaultPlan;
/// To be written.
pub struct FaultyStorage;
