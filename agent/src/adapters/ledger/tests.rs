//! The ledger on a real disk: what is kept, what a torn or edited file does, what a dry run reads.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "the tests damage the files on purpose")]

use proptest::prelude::*;

use super::*;

fn promise(object: &str, original: &str, ordered: &str) -> LedgerChange {
    LedgerChange::Promise(Record {
        object: object.into(),
        original: Original::Value(original.into()),
        ordered: ordered.into(),
    })
}

fn open(dir: &Path) -> (DiskLedger, Vec<Finding>) {
    DiskLedger::open(dir).unwrap()
}

#[test]
fn promises_outlive_the_process_and_the_first_original_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, findings) = open(dir.path());
    assert!(findings.is_empty());
    ledger.commit("sysctl", &[promise("a", "1", "2"), promise("b", "5", "6")]).unwrap();
    ledger.commit("sysctl", &[promise("a", "2", "3")]).unwrap();
    drop(ledger);
    let (ledger, findings) = open(dir.path());
    assert!(findings.is_empty());
    let records = ledger.records("sysctl");
    assert_eq!(records.len(), 2);
    assert_eq!((records[0].object.as_str(), &records[0].original), ("a", &Original::Value("1".into())));
    assert_eq!(records[0].ordered, "3");
    assert!(ledger.records("other").is_empty());
    ledger.commit("sysctl", &[LedgerChange::Forget { object: "a".into() }]).unwrap();
    assert_eq!(ledger.records("sysctl").len(), 1);
    ledger.commit("sysctl", &[LedgerChange::Forget { object: "b".into() }]).unwrap();
    assert!(ledger.subsystems().is_empty());
}

#[test]
fn a_damaged_ledger_is_set_aside_and_the_generation_before_is_used() {
    type Damaging = fn(&mut Vec<u8>);
    let rows: [(&str, Damaging); 7] = [
        ("torn", |bytes| bytes.truncate(bytes.len() - 9)),
        ("torn in the first line", |bytes| bytes.truncate(10)),
        ("empty", Vec::clear),
        ("a bit flipped", |bytes| *bytes.last_mut().unwrap() ^= 1),
        ("not text", |bytes| bytes.fill(0xff)),
        ("zeros, as some file systems leave after a crash", |bytes| bytes.fill(0)),
        ("longer", |bytes| bytes.extend_from_slice(b"  ")),
    ];
    for (name, damage) in rows {
        let dir = tempfile::tempdir().unwrap();
        let (ledger, _) = open(dir.path());
        ledger.commit("sysctl", &[promise("a", "1", "2")]).unwrap();
        ledger.commit("sysctl", &[promise("b", "1", "2")]).unwrap();
        drop(ledger);
        let path = dir.path().join(CURRENT);
        let mut bytes = fs::read(&path).unwrap();
        damage(&mut bytes);
        fs::write(&path, &bytes).unwrap();
        let (ledger, findings) = open(dir.path());
        let codes: Vec<&str> = findings.iter().map(|finding| finding.code).collect();
        assert_eq!(codes, ["ledger-damaged", "ledger-recovered"], "{name}");
        let records = ledger.records("sysctl");
        assert_eq!(records.len(), 1, "{name}: the generation before knew `a` only");
        let kept = fs::read_dir(dir.path())
            .unwrap()
            .flatten()
            .find(|entry| entry.file_name().to_string_lossy().starts_with("ledger.damaged-"));
        assert_eq!(fs::read(kept.unwrap().path()).unwrap(), bytes, "{name}: nothing is discarded");
    }
}

#[test]
fn both_generations_damaged_start_empty_with_a_finding() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(CURRENT), "x").unwrap();
    fs::write(dir.path().join(PREVIOUS), "y").unwrap();
    let (ledger, findings) = open(dir.path());
    assert_eq!(findings.len(), 3);
    assert!(findings[2].message.contains("cannot be given back"), "{}", findings[2].message);
    assert!(ledger.subsystems().is_empty());
}

#[test]
fn a_crash_between_the_two_renames_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, _) = open(dir.path());
    ledger.commit("sysctl", &[promise("a", "1", "2")]).unwrap();
    drop(ledger);
    fs::rename(dir.path().join(CURRENT), dir.path().join(PREVIOUS)).unwrap();
    let (ledger, findings) = open(dir.path());
    assert!(findings.is_empty());
    assert_eq!(ledger.records("sysctl").len(), 1);
}

#[test]
fn a_later_version_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let text = "trimtab-ledger 2 2 0000000000000000\n{}";
    fs::write(dir.path().join(CURRENT), text).unwrap();
    let error = DiskLedger::open(dir.path()).unwrap_err();
    assert!(matches!(error, OpenError::Newer { found: 2, .. }), "{error}");
    assert_eq!(fs::read_to_string(dir.path().join(CURRENT)).unwrap(), text);
}

#[test]
fn a_dry_run_reads_the_same_and_leaves_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    assert!(DiskLedger::peek(&dir.path().join("absent")).unwrap().0.subsystems().is_empty());
    assert!(!dir.path().join("absent").exists());
    let (ledger, _) = open(dir.path());
    ledger.commit("sysctl", &[promise("a", "1", "2")]).unwrap();
    ledger.commit("sysctl", &[promise("b", "1", "2")]).unwrap();
    drop(ledger);
    let (whole, findings) = DiskLedger::peek(dir.path()).unwrap();
    assert_eq!((whole.records("sysctl").len(), findings.len()), (2, 0));
    fs::write(dir.path().join(CURRENT), "torn").unwrap();
    let (before, findings) = DiskLedger::peek(dir.path()).unwrap();
    assert_eq!((before.records("sysctl").len(), findings.len()), (1, 1));
    assert!(findings[0].message.contains("it is not used"), "{findings:?}");
    assert_eq!(fs::read_to_string(dir.path().join(CURRENT)).unwrap(), "torn");
}

#[test]
fn a_failed_write_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, _) = open(&dir.path().join("state"));
    ledger.commit("sysctl", &[promise("a", "1", "2")]).unwrap();
    fs::rename(dir.path().join("state"), dir.path().join("gone")).unwrap();
    ledger.commit("sysctl", &[promise("b", "1", "2")]).unwrap_err();
    assert_eq!(ledger.records("sysctl").len(), 1);
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in ".{0,200}") {
        let _ = parse(&text);
    }

    #[test]
    fn what_is_rendered_is_read_back(objects in proptest::collection::btree_map(".{0,20}", (".{0,20}", ".{0,20}"), 0..8)) {
        let objects = objects.into_iter().map(|(object, (original, ordered))| {
            (object, Kept { original: Original::Value(original), ordered })
        });
        let content: Content = [("s".to_owned(), objects.collect())].into();
        prop_assert_eq!(parse(&render(&content).unwrap()).unwrap(), content);
    }
}
