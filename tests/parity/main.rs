//! Replays recorded decisions of the kubelet, case by case, through the public functions of the domain.
//!
//! `TRIMTAB_VECTORS` names the directories, separated by colons; without it the project's own copy is read. The answer
//! is one line per category, the first failing cases, and an exit code.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::exit,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test program: it reads files, measures time, prints and exits; an absent JSON field is null, and a panic is a failed case"
)]

mod category;
mod checkpoints;
mod cpu;
mod load;
mod machine;
mod merge;
mod reserved;
mod runner;
mod scenario;
mod sysctl;
mod texts;
mod vectors;

use std::path::PathBuf;
use std::process::ExitCode;

/// The project's own vectors, beside this directory.
const OWN_VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/vectors");

/// Failing cases that are shown in full.
const SHOWN: usize = 20;

/// Characters of an expected or actual value that are shown.
const SHOWN_CHARACTERS: usize = 600;

fn main() -> ExitCode {
    let directories = match std::env::var("TRIMTAB_VECTORS") {
        Ok(list) if !list.is_empty() => list.split(':').filter(|d| !d.is_empty()).map(PathBuf::from).collect(),
        _ => vec![PathBuf::from(OWN_VECTORS)],
    };
    let only: Vec<String> = std::env::args().skip(1).filter(|a| category::judge(a).is_some()).collect();
    let vectors = match vectors::Vectors::read(&directories) {
        Ok(vectors) => vectors.narrowed(&only),
        Err(problem) => {
            eprintln!("parity: {problem}");
            return ExitCode::FAILURE;
        }
    };
    let mut broken = vectors.problems.clone();
    for name in &vectors.later {
        println!("parity {name}: not run, these cases belong to a later piece of work");
    }
    let results = runner::run(vectors.cases);
    let (mut passed, mut failed) = (0, 0);
    for (category, result) in &results.categories {
        println!("parity {category}: {} passed, {} failed", result.passed, result.failed);
        passed += result.passed;
        failed += result.failed;
    }
    for category in vectors.categories.iter().filter(|c| !results.categories.contains_key(*c)) {
        broken.push(format!("category {category} has files, but no case in them"));
    }
    for failure in results.failures.iter().take(SHOWN) {
        println!("FAILED {} {}", failure.category, failure.id);
        println!("  expected {}", cut(&failure.mismatch.expected));
        println!("  got      {}", cut(&failure.mismatch.got));
    }
    for problem in &broken {
        println!("BROKEN {problem}");
    }
    println!("parity total: {passed} passed, {failed} failed");
    let good = failed == 0 && passed > 0 && broken.is_empty();
    // A case that hangs still has its thread: leave without waiting for it.
    std::process::exit(i32::from(!good));
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARACTERS) {
        Some((end, _)) => format!("{}… ({} bytes)", text.get(..end).unwrap_or(text), text.len()),
        None => text.to_owned(),
    }
}
