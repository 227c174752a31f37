//! Replays recorded decisions of the kubelet and rules of the masquerade agents, case by case.
//!
//! `TRIMTAB_VECTORS` names the directories, separated by colons; without it the project's own copy is read. The answer
//! is one line per category, the first failing cases, and an exit code.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::exit,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test program: it reads files, measures time, prints and exits; an absent JSON field is null, and a panic is a failed case"
)]

mod category;
mod checkpoints;
mod cpu;
mod ipmasq;
mod load;
mod machine;
mod merge;
mod report;
mod reserved;
mod runner;
mod scenario;
mod sysctl;
mod texts;
mod vectors;

use std::io::Write as _;
use std::path::PathBuf;

/// The project's own vectors, beside this directory.
const OWN_VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/vectors");

fn main() {
    let directories: Vec<PathBuf> = match std::env::var("TRIMTAB_VECTORS") {
        Ok(list) if !list.is_empty() => list.split(':').filter(|d| !d.is_empty()).map(PathBuf::from).collect(),
        _ => vec![PathBuf::from(OWN_VECTORS)],
    };
    let only: Vec<String> = std::env::args().skip(1).filter(|a| category::judge(a).is_some()).collect();
    let report = report::report(&directories, &only);
    let shown = std::io::stdout().lock().write_all(report.text.as_bytes());
    // A case that hangs still has its thread: leave without waiting for it.
    std::process::exit(i32::from(!report.good || shown.is_err()));
}
