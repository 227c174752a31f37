//! Runs the bodies of fuzz targets over their corpora, and over damaged copies of them, with plain cargo.

use std::fs;
use std::path::Path;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// A fuzz target: its name, which is that of its corpus, and its body.
pub type Target = (&'static str, fn(&[u8]));

/// Damaged copies per seed.
const COPIES: usize = 50;

/// Runs every target; the corpora are the folders of this one.
pub fn replay(targets: &[Target], corpus: &Path) {
    for (name, body) in targets {
        let directory = corpus.join(name);
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
