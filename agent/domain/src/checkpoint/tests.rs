//! State files: worked examples, every leniency of the reader, and round trips.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use super::*;
use crate::cpu::CpuState;
use crate::cpuset::CpuSet;
use crate::workload::{ContainerId, PodUid};

fn read(text: &str) -> Result<CpuState, CheckpointError> {
    read_cpu_state(text.as_bytes(), "static", Layout::Container, &InitialContainers::new())
}

fn state(shared: &str, entries: &[(&str, &str, &str)]) -> CpuState {
    let mut assignments: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
    for (pod, name, cpus) in entries {
        let containers = assignments.entry(PodUid((*pod).into())).or_default();
        containers.insert((*name).to_owned(), CpuSet::parse(cpus).unwrap());
    }
    CpuState { default_cpu_set: CpuSet::parse(shared).unwrap(), assignments, ..CpuState::default() }
}

#[test]
fn current_layouts_are_written_byte_for_byte() {
    let two = state("0-1,6-7", &[("pod-a", "app", "4-5"), ("pod-b", "c1", "2"), ("pod-b", "c2", "3")]);
    let rows = [
        ("none", state("", &[]), r#"{"policyName":"none","defaultCpuSet":"","checksum":1353318690}"#),
        ("static", state("0-7", &[]), r#"{"policyName":"static","defaultCpuSet":"0-7","checksum":14413152}"#),
        (
            "static",
            two,
            r#"{"policyName":"static","defaultCpuSet":"0-1,6-7","entries":{"pod-a":{"app":"4-5"},"pod-b":{"c1":"2","c2":"3"}},"checksum":109203796}"#,
        ),
    ];
    for (policy, state, expected) in rows {
        assert_eq!(write_cpu_state(policy, &state, Layout::Container), expected);
        let initial = InitialContainers::new();
        assert_eq!(read_cpu_state(expected.as_bytes(), policy, Layout::Container, &initial).unwrap(), state);
    }
    let none = r#"{"policyName":"None","machineState":{},"checksum":4236770233}"#;
    let read = read_memory_state(none.as_bytes(), "None", Layout::Container).unwrap();
    assert_eq!(write_memory_state("None", &read, Layout::Container), none);
}

#[test]
fn oldest_layout_is_migrated_with_the_containers_that_run() {
    let text = r#"{"policyName":"static","defaultCpuSet":"1-3","entries":{"containerID0":"7","containerID1":"4-6"},"checksum":421373791}"#;
    let known = |id: &str, name: &str| (ContainerId(id.into()), (PodUid("uid".into()), name.to_owned()));
    let both = InitialContainers::from([known("containerID0", "a"), known("containerID1", "b")]);
    let migrated = read_cpu_state(text.as_bytes(), "static", Layout::Container, &both).unwrap();
    assert_eq!(migrated, state("1-3", &[("uid", "a", "7"), ("uid", "b", "4-6")]));
    let one = InitialContainers::from([known("containerID1", "b")]);
    let error = read_cpu_state(text.as_bytes(), "static", Layout::Container, &one).unwrap_err();
    assert_eq!(
        error.to_string(),
        "failed to migrate checkpoint from v1 to v2: containerID 'containerID0' not found in initial containers list"
    );
}

#[test]
fn names_match_without_case_and_the_last_field_wins() {
    let expected = state("0-1", &[("u", "c", "2")]);
    let rows = [
        r#"{"POLICYNAME":"static","defaultCpuSet":"0-1","entries":{"u":{"c":"2"}}}"#,
        r#"{"policyName":"none","policyName":"static","defaultCpuSet":"1,0","entries":{"u":{"c":"2"}},"checksum":0}"#,
        "\t{\"more\":[1,{}],\"policyName\":\"static\",\"defaultCpuSet\":\"0-1\",\"entries\":{\"u\":{\"c\":\"\\u0032\"}}}\r\n",
        r#"{"policyName":"static","defaultCpuSet":"0-1","entries":{"u":{}},"entries":{"u":{"c":"2"}}}"#,
    ];
    for text in rows {
        assert_eq!(read(text).unwrap(), expected, "{text}");
    }
}

#[test]
fn faults_have_the_words_of_the_reference() {
    let rows = [
        ("", "unexpected end of JSON input"),
        ("{", "unexpected end of JSON input"),
        (r#"{"a":"#, "unexpected end of JSON input"),
        ("hello", "invalid character 'h' looking for beginning of value"),
        ("{}x", "invalid character 'x' after top-level value"),
        ("{1", "invalid character '1' looking for beginning of object key string"),
        (r#"{"a" 1}"#, "invalid character '1' after object key"),
        (r#"{"a":1 "b""#, "invalid character '\"' after object key:value pair"),
        ("[1 2]", "invalid character '2' after array element"),
        ("[1,]", "invalid character ']' looking for beginning of value"),
        ("-", "invalid character ' ' in numeric literal"),
        ("01", "invalid character '1' after top-level value"),
        ("1.x", "invalid character 'x' after decimal point in numeric literal"),
        ("1e+", "invalid character ' ' in exponent of numeric literal"),
        ("trve", "invalid character 'v' in literal true (expecting 'u')"),
        ("nul", "invalid character ' ' in literal null (expecting 'l')"),
        (r#""\x""#, "invalid character 'x' in string escape code"),
        (r#""\u00g0""#, "invalid character 'g' in \\u hexadecimal character escape"),
        ("\"a\n\"", "invalid character '\\n' in string literal"),
        ("\"é'\u{1}", "invalid character '\\x01' in string literal"),
        ("é", "invalid character 'Ã' looking for beginning of value"),
        ("'", "invalid character '\\'' looking for beginning of value"),
        ("[]", "json: cannot unmarshal array into Go value of type state.CPUManagerCheckpointV1"),
        ("7", "json: cannot unmarshal number into Go value of type state.CPUManagerCheckpointV1"),
        (
            r#"{"policyName":1}"#,
            "json: cannot unmarshal number into Go struct field CPUManagerCheckpointV1.policyName of type string",
        ),
        (
            r#"{"entries":{"u":{"c":"2"}},"checksum":1}"#,
            "json: cannot unmarshal object into Go struct field CPUManagerCheckpointV1.entries of type string",
        ),
        (
            r#"{"checksum":-1}"#,
            "json: cannot unmarshal number -1 into Go struct field CPUManagerCheckpointV1.checksum of type checksum.Checksum",
        ),
        (r#"{"policyName":"static","checksum":1}"#, "checkpoint is corrupted"),
        ("null", "configured policy \"static\" differs from state checkpoint policy \"\""),
        (
            r#"{"policyName":"static","defaultCpuSet":"x"}"#,
            "could not parse default cpu set \"x\": strconv.Atoi: parsing \"x\": invalid syntax",
        ),
    ];
    for (text, expected) in rows {
        assert_eq!(read(text).unwrap_err().to_string(), expected, "{text}");
    }
}

#[test]
fn deep_nesting_is_refused_and_not_followed() {
    let error = read(&"[".repeat(1_000_000)).unwrap_err();
    assert_eq!(error.to_string(), "invalid character '[' exceeded max depth");
}

#[test]
fn nested_faults_of_the_memory_file_name_their_path() {
    let rows = [
        (
            r#"{"machineState":{"0":{"memoryMap":{"memory":{"total":1.5}}}}}"#,
            "json: cannot unmarshal number 1.5 into Go struct field MemoryTable.machineState.memoryMap.total of type uint64",
        ),
        (
            r#"{"machineState":{"x":{}}}"#,
            "json: cannot unmarshal number x into Go struct field MemoryManagerCheckpointV1.machineState of type int",
        ),
        (
            r#"{"entries":{"u":{"c":[{"type":[]}]}}}"#,
            "json: cannot unmarshal array into Go struct field Block.entries.type of type v1.ResourceName",
        ),
    ];
    for (text, expected) in rows {
        let error = read_memory_state(text.as_bytes(), "Static", Layout::Container).unwrap_err();
        assert_eq!(error.to_string(), expected, "{text}");
    }
}

#[test]
fn restore_error_tells_the_operator_what_to_do() {
    let error = RestoreError {
        manager: "CPU",
        path: "/var/lib/kubelet/cpu_manager_state".into(),
        cause: CheckpointError::Corrupted,
    };
    assert_eq!(
        error.to_string(),
        "could not restore state from checkpoint: checkpoint is corrupted, please drain this node and delete the CPU manager checkpoint file \"/var/lib/kubelet/cpu_manager_state\" before restarting Kubelet"
    );
}
