//! Every profile that the README, the pages below docs and the manifests show is one that an agent takes.

use std::fs;
use std::path::{Path, PathBuf};

use trimtab::profile::parse;

const HEAD: &str = "apiVersion: trimtab.dev/v1alpha1\nkind: NodeProfile\nmetadata:\n  name: shown\n";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// README and pages, each with its name.
fn pages() -> Vec<(String, String)> {
    let below = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages = below.filter(|path| path.extension().is_some_and(|end| end == "md"));
    let named = |path: PathBuf| (path.display().to_string(), fs::read_to_string(path).unwrap());
    pages.chain([root().join("README.md")]).map(named).collect()
}

/// The blocks of a page that are YAML.
fn blocks(page: &str) -> impl Iterator<Item = &str> {
    page.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap())
}

/// A block as a whole profile; `None` for what is none and does not look like one.
fn profile(block: &str) -> Option<String> {
    let first = block.lines().find(|line| !line.starts_with('#')).unwrap_or_default().trim_start();
    let indented = |by: usize| block.lines().map(|line| format!("{:by$}{line}\n", "")).collect::<String>();
    match first.split_once(':')?.0 {
        "apiVersion" if block.contains("kind: NodeProfile") => Some(block.to_owned()),
        "spec" => Some(format!("{HEAD}{block}")),
        "ipMasq" => Some(format!("{HEAD}spec:\n{}", indented(2))),
        "extensions" => Some(format!("{HEAD}spec:\n  ipMasq:\n{}", indented(4))),
        // Kustomizations and parts of them, which `make manifests` renders; a part of a pod.
        "apiVersion" | "patches" | "volumeMounts" => None,
        other => panic!("a block begins with {other}: say here what it is a part of\n{block}"),
    }
}

fn is_taken(name: &str, text: &str) {
    let profile = parse(name, text.as_bytes()).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(profile.warnings, [], "{name}\n{text}");
}

#[test]
fn every_profile_of_the_pages_is_valid_and_warns_of_nothing() {
    let mut seen = 0;
    for (name, page) in pages() {
        for text in blocks(&page).filter_map(profile) {
            is_taken(&name, &text);
            seen += 1;
        }
    }
    assert!(seen >= 7, "{seen} profiles");
}

#[test]
fn every_profile_of_the_manifests_is_valid_and_warns_of_nothing() {
    let (mut seen, mut folders) = (0, vec![root().join("deploy")]);
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().is_some_and(|name| name == "profile.yaml")
                && !path.iter().any(|part| part == "templates")
            {
                is_taken(&path.display().to_string(), &fs::read_to_string(path).unwrap());
                seen += 1;
            }
        }
    }
    assert!(seen >= 7, "{seen} profiles");
}
