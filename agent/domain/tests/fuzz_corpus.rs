//! Runs the body of every fuzz target of the domain over its corpus, and over damaged copies of it, with plain cargo.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests; the corpus is read from files"
)]
#![allow(unreachable_pub, reason = "the bodies are public in the crate of the fuzz targets")]

#[path = "../../../tests/fuzz/src/bodies.rs"]
mod bodies;
#[path = "../../../tests/fuzz/src/replay.rs"]
mod replay;

use std::path::Path;

#[test]
fn every_target_answers_to_its_corpus_and_to_damaged_copies() {
    replay::replay(&bodies::TARGETS, Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fuzz/corpus")));
}
