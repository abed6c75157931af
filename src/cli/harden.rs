//! What the process does to itself before it touches a secret or a file.

use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

/// Keeps secrets out of core dumps and away from debuggers of the same user, and allows as many open files as the
/// system grants.
///
/// Nothing here is needed to do the work, so a system that refuses is no error. `/proc/self/fd` stays usable:
/// the kernel always grants a process its own.
pub fn start() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let _ = setrlimit(Resource::Core, none);
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let files = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: files.maximum, maximum: files.maximum });
}
