//! The profile as its writer meets it: examples, one table of bad documents, arbitrary text.

use std::path::{Path, PathBuf};

use trimtab::profile::parse;

fn examples() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples");
    let entries = std::fs::read_dir(directory).unwrap();
    let profile = |path: &PathBuf| path.extension().is_some_and(|end| end == "yaml" || end == "json");
    entries.map(|entry| entry.unwrap().path()).filter(profile).collect()
}

#[test]
fn every_example_is_valid_and_warns_of_nothing() {
    let examples = examples();
    assert!(examples.len() >= 5, "{examples:?}");
    for path in examples {
        let text = std::fs::read(&path).unwrap();
        let profile = parse(&path.to_string_lossy(), &text).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(profile.warnings, [], "{}", path.display());
        assert_eq!(
            Some(profile.spec.name.as_str()),
            path.file_stem().and_then(|stem| stem.to_str()).map(|stem| if stem == "profile" {
                "example"
            } else {
                stem
            })
        );
    }
}
