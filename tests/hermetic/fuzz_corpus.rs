//! Runs the body of every fuzz target of the wire formats over its corpus, and over damaged copies of it.

use std::path::Path;

use crate::replay::replay;
use crate::wire::TARGETS;

#[test]
fn every_target_answers_to_its_corpus_and_to_damaged_copies() {
    replay(&TARGETS, Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fuzz/corpus")));
}
