//! What the fuzz targets do. Each is a plain function of bytes, so that `tests/fuzz_corpus.rs` runs the seeds without a
//! fuzzing engine. See `fuzz/README.md`.

pub mod choices;
pub mod decoders;
pub mod frames;
pub mod judging;
pub mod operations;
pub mod restoring;
pub mod shaped;
pub mod texts;

/// What is done with the bytes of a fuzzer. It panics where something is wrong.
pub type Target = fn(&[u8]);

/// All targets by name. A file in `fuzz_targets`, an entry in `Cargo.toml` and a folder in `seeds` belong to each.
pub const TARGETS: [(&str, Target); 29] = [
    ("body", decoders::body),
    ("container", decoders::container),
    ("done", decoders::done),
    ("excludes", texts::excludes),
    ("expand", frames::expand),
    ("forget", decoders::forget),
    ("frame", decoders::frame),
    ("index_object", decoders::index_object),
    ("key_file", decoders::key_file),
    ("keyring", decoders::keyring),
    ("lease", decoders::lease),
    ("list_branch", decoders::list_branch),
    ("node", decoders::node),
    ("operations", operations::operations),
    ("pack", decoders::pack_tail),
    ("pack_directory", decoders::pack_directory),
    ("parity", frames::parity_trailer),
    ("parity_repair", frames::parity_repair),
    ("plan", decoders::plan),
    ("repository_config", decoders::repository_config),
    ("restore_plan", restoring::restore_plan),
    ("retention", judging::retention),
    ("selector", texts::selector),
    ("slot", decoders::slot),
    ("snapshot", decoders::snapshot),
    ("tombstone", decoders::tombstone),
    ("tree", decoders::tree),
    ("units", texts::units),
    ("verdict", decoders::verdict),
];
