//! What a run says: a line for each category, the first failing cases, what is wrong with the files, and the total.

use std::fmt::Write as _;
use std::path::PathBuf;

use crate::runner;
use crate::vectors::Vectors;

/// Failing cases that are shown in full.
const SHOWN: usize = 20;

/// Characters of an expected or actual value that are shown.
const SHOWN_CHARACTERS: usize = 600;

/// The answer of a run.
pub(crate) struct Report {
    /// Lines; the last one is the total.
    pub(crate) text: String,
    /// True if no case failed, and nothing was wrong with the files.
    pub(crate) good: bool,
}

/// Runs the cases of all directories, or only those of the named categories.
pub(crate) fn report(directories: &[PathBuf], only: &[String]) -> Report {
    let mut text = String::new();
    let vectors = match Vectors::read(directories) {
        Ok(vectors) => vectors.narrowed(only),
        Err(problem) => Vectors { problems: vec![format!("{problem:#}")], ..Vectors::default() },
    };
    let mut broken = vectors.problems;
    for (category, count) in &vectors.defects {
        _ = writeln!(text, "parity {category}: {count} recorded defects of the originals are not counted");
    }
    let results = runner::run(vectors.cases);
    let (mut passed, mut failed) = (0, 0);
    for (category, count) in &results.categories {
        _ = writeln!(text, "parity {category}: {} passed, {} failed", count.passed, count.failed);
        passed += count.passed;
        failed += count.failed;
    }
    for category in
        vectors.categories.iter().filter(|c| !results.categories.contains_key(*c) && !vectors.defects.contains_key(*c))
    {
        broken.push(format!("category {category} has files, but no case in them"));
    }
    if passed + failed == 0 && broken.is_empty() {
        broken.push("no case was found".to_owned());
    }
    for failure in results.failures.iter().take(SHOWN) {
        _ = writeln!(text, "FAILED {} {}", failure.category, failure.id);
        _ = writeln!(text, "  expected {}", cut(&failure.mismatch.expected));
        _ = writeln!(text, "  got      {}", cut(&failure.mismatch.got));
    }
    for problem in &broken {
        _ = writeln!(text, "BROKEN {problem}");
    }
    _ = writeln!(text, "parity total: {passed} passed, {failed} failed");
    Report { text, good: failed == 0 && broken.is_empty() }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARACTERS) {
        Some((end, _)) => format!("{}… ({} bytes)", text.get(..end).unwrap_or(text), text.len()),
        None => text.to_owned(),
    }
}
