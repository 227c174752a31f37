//! The replay of recorded decisions, itself replayed on crafted directories: what it prints and when it fails.
#![allow(
    clippy::print_stderr,
    clippy::exit,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests"
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

use std::fs;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use report::{Report, report};

/// A good and a bad case of the simplest category.
const GOOD: &str =
    r#"{"id":"good","input":"1,0","expect":{"printed":"0-1","size":2},"later":"unknown fields do no harm"}"#;
const BAD: &str = r#"{"id":"bad","input":"1,0","expect":{"printed":"7","size":1}}"#;

/// A directory with these files.
fn directory(name: &str, files: &[(&str, &str)]) -> PathBuf {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("contract").join(name);
    _ = fs::remove_dir_all(&root);
    fs::create_dir_all(&root).unwrap();
    for (name, text) in files {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

fn run(name: &str, files: &[(&str, &str)]) -> Report {
    report(&[directory(name, files)], &[])
}

#[test]
fn a_line_for_each_category_and_the_total_at_the_end() {
    let sysctl =
        r#"{"id":"n","kind":"normalize","name":"net/ipv4/ip_forward","expect":{"normalized":"net.ipv4.ip_forward"}}"#;
    let files =
        [("cpuset_parse.jsonl", GOOD), ("below/sysctl.jsonl", sysctl), ("README.md", "words"), ("summary.json", "{}")];
    let report = run("good", &files);
    let expected = "parity cpuset_parse: 1 passed, 0 failed\nparity sysctl: 1 passed, 0 failed\nparity total: 2 passed, 0 failed\n";
    assert_eq!((report.text.as_str(), report.good), (expected, true));
}

#[test]
fn failing_cases_are_named_with_what_was_expected_and_got() {
    let report = run("bad", &[("cpuset_parse.jsonl", &format!("{GOOD}\n\n{BAD}\nno JSON\n"))]);
    assert!(!report.good);
    let lines: Vec<&str> = report.text.lines().collect();
    assert_eq!(lines[0], "parity cpuset_parse: 1 passed, 2 failed");
    assert_eq!(lines[1], "FAILED cpuset_parse bad");
    assert!(lines[2].contains("expected") && lines[2].contains('7'), "{}", lines[2]);
    assert!(lines[3].contains("got") && lines[3].contains("0-1"), "{}", lines[3]);
    assert!(lines[4].ends_with("cpuset_parse.jsonl:4"), "a case without id is named by its place: {}", lines[4]);
    assert_eq!(lines.last(), Some(&"parity total: 1 passed, 2 failed"));
}

#[test]
fn twenty_failing_cases_are_shown() {
    let report = run("many", &[("cpuset_parse.jsonl", &vec![BAD; 30].join("\n"))]);
    assert_eq!(report.text.lines().filter(|line| line.starts_with("FAILED ")).count(), 20);
    assert!(report.text.ends_with("parity total: 0 passed, 30 failed\n"), "{}", report.text);
}

#[test]
fn files_that_say_nothing_are_failures() {
    for (name, files) in [
        ("unknown", &[("cpuset_parse.jsonl", GOOD), ("surprise.jsonl", GOOD)][..]),
        ("not-lines", &[("cpuset_parse.jsonl", GOOD), ("sysctl.json", "{}")]),
        ("empty-category", &[("cpuset_parse.jsonl", GOOD), ("sysctl.jsonl", "\n")]),
        ("nothing", &[("README.md", "words")]),
    ] {
        let report = run(name, files);
        assert!(!report.good && report.text.contains("BROKEN "), "{name}: {}", report.text);
        assert!(report.text.lines().last().is_some_and(|line| line.starts_with("parity total: ")), "{}", report.text);
    }
    let absent = report(&[Path::new(env!("CARGO_TARGET_TMPDIR")).join("contract/absent")], &[]);
    assert!(!absent.good && absent.text.ends_with("parity total: 0 passed, 0 failed\n"), "{}", absent.text);
}

#[test]
fn a_scenario_of_packets_without_rows_has_failed() {
    let report = run("packets", &[("ipmasq-packets.jsonl", "{\"scenario\":\"s\"}"), ("ipmasq.README.md", "words")]);
    assert!(!report.good && report.text.contains("FAILED ipmasq-packets s"), "{}", report.text);
    assert!(report.text.ends_with("parity total: 0 passed, 1 failed\n"), "{}", report.text);
}

#[test]
fn recorded_defects_of_the_originals_are_counted_apart() {
    let report = run("defects", &[("ipmasq.jsonl", "{\"id\":\"d\",\"defect\":true}\n"), ("cpuset_parse.jsonl", GOOD)]);
    assert!(report.good, "{}", report.text);
    assert!(report.text.contains("parity ipmasq: 1 recorded defects of the originals"), "{}", report.text);
    assert!(report.text.ends_with("parity total: 1 passed, 0 failed\n"), "{}", report.text);
}

#[test]
fn machines_are_those_of_their_own_directory() {
    let machine = |cpus: u32| {
        let cpu = |id| serde_json::json!({ "cpu": id, "core": id, "socket": 0, "numa": 0, "uncore_cache": null });
        let node = serde_json::json!({ "id": 0, "memory_bytes": 1, "hugepages": [], "distances": [10], "new": 1 });
        let cpus: Vec<_> = (0..cpus).map(cpu).collect();
        serde_json::json!({ "machines": [{ "name": "m", "cpus": cpus, "numa_nodes": [node] }] }).to_string()
    };
    let take = |cpus: &str| {
        let count = cpus.split('-').next_back().unwrap().parse::<u32>().unwrap() + 1;
        let expect = serde_json::json!({ "cpus": cpus });
        let case = serde_json::json!({ "id": "t", "kind": "take", "machine": "m", "num_cpus": count, "available": cpus,
            "options": {}, "expect": expect });
        case.to_string()
    };
    let small = directory("small", &[("machines.json", &machine(2)), ("cpu_assignment.jsonl", &take("0-1"))]);
    let large = directory("large", &[("machines.json", &machine(8)), ("cpu_assignment.jsonl", &take("0-7"))]);
    let both = report(&[small, large], &[]);
    assert!(both.good, "{}", both.text);
    assert!(both.text.starts_with("parity cpu_assignment: 2 passed, 0 failed\n"), "{}", both.text);
}

#[test]
fn state_files_are_cases_wherever_they_lie_and_compressed_files_are_read() {
    let state = r#"{"policyName":"static","defaultCpuSet":"0-7","checksum":14413152}"#;
    let root = directory(
        "files",
        &[("checkpoints/files/one/cpu_manager_state", state), ("checkpoints/files/cpu_manager_state", state)],
    );
    let mut gz = GzEncoder::new(fs::File::create(root.join("cpuset_parse.jsonl.gz")).unwrap(), Compression::fast());
    std::io::Write::write_all(&mut gz, GOOD.as_bytes()).unwrap();
    gz.finish().unwrap();
    let report = report(&[root], &[]);
    assert!(report.good && report.text.contains("parity files: 2 passed, 0 failed\n"), "{}", report.text);
    assert!(report.text.contains("parity cpuset_parse: 1 passed, 0 failed\n"), "{}", report.text);
}
