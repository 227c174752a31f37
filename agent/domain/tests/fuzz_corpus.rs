//! Runs the body of every fuzz target over its corpus, and over damaged copies of it, with plain cargo.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests; the corpus is read from files"
)]

#[path = "../../../tests/fuzz/src/bodies.rs"]
#[allow(unreachable_pub, reason = "the bodies are public in the crate of the fuzz targets")]
mod bodies;

use std::fs;
use std::path::Path;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fuzz/corpus");

/// Damaged copies per seed.
const COPIES: usize = 50;

#[test]
fn every_target_answers_to_its_corpus_and_to_damaged_copies() {
    for (name, body) in bodies::TARGETS {
        let directory = Path::new(CORPUS).join(name);
        let seeds: Vec<_> =
            fs::read_dir(&directory).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect();
        assert!(!seeds.is_empty(), "{} has seeds", directory.display());
        let mut random = StdRng::seed_from_u64(0x7472_696d);
        for seed in &seeds {
            body(seed);
            for _ in 0..COPIES {
                body(&damaged(seed, &seeds, &mut random));
            }
        }
    }
}

/// A copy with a few bytes changed, cut, doubled, or taken from another seed.
fn damaged(seed: &[u8], seeds: &[Vec<u8>], random: &mut StdRng) -> Vec<u8> {
    let mut copy = seed.to_vec();
    for _ in 0..random.random_range(1..4) {
        let at = random.random_range(0..=copy.len());
        match random.random_range(0..5) {
            0 => copy.truncate(at),
            1 => copy.insert(at, random.random()),
            2 => {
                let other = &seeds[random.random_range(0..seeds.len())];
                let from = random.random_range(0..=other.len());
                copy.truncate(at);
                copy.extend_from_slice(&other[from..]);
            }
            3 => copy.extend_from_within(at..),
            _ if at < copy.len() => copy[at] ^= 1 << random.random_range(0..8),
            _ => {}
        }
        copy.truncate(1 << 16);
    }
    copy
}
