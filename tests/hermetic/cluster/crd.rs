//! The CustomResourceDefinitions: structural, checked in, and of one mind with the reader of profiles.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use trimtab::cluster::crd::{definitions, manifests};
use trimtab::profile::{parse, schema};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/crd")
}

#[test]
fn the_definitions_in_deploy_are_those_of_the_code() {
    for (file, text) in manifests().unwrap() {
        let path = directory().join(file);
        if std::env::var_os("TRIMTAB_BLESS").is_some() {
            fs::create_dir_all(directory()).unwrap();
            fs::write(&path, &text).unwrap();
        }
        let found = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(found, text, "{}: run the test with TRIMTAB_BLESS=1", path.display());
        let read: Value = serde_saphyr::from_str(&text).unwrap();
        let written = definitions().into_iter().find(|definition| definition.file == file).unwrap();
        assert_eq!(read, written.object, "{file} reads as it was written");
    }
}

/// Calls with each piece of a schema and the place where it is.
fn walk(schema: &Value, place: &str, see: &mut impl FnMut(&str, &Value)) {
    see(place, schema);
    for (name, below) in schema["properties"].as_object().into_iter().flatten() {
        walk(below, &format!("{place}.{name}"), see);
    }
    for (keyword, step) in [("items", "[]"), ("additionalProperties", "{}")] {
        if schema[keyword].is_object() {
            walk(&schema[keyword], &format!("{place}{step}"), see);
        }
    }
}

#[test]
fn every_piece_is_structural_and_described() {
    for definition in definitions() {
        let version = &definition.object["spec"]["versions"][0];
        let root = &version["schema"]["openAPIV3Schema"];
        walk(root, "", &mut |place, piece| {
            if place == ".metadata" {
                // A real API server refuses definitions that say more.
                return assert_eq!(piece, &serde_json::json!({"type": "object"}), "{place}");
            }
            let free = ["x-kubernetes-int-or-string", "x-kubernetes-preserve-unknown-fields"];
            assert!(
                piece["type"].is_string() != free.iter().any(|word| piece[word] == true),
                "{place}: one of the two"
            );
            assert!(piece["description"].as_str().is_some_and(|text| text.ends_with(['.', '.'])), "{place}: described");
            assert!(!(piece["properties"].is_object() && piece["additionalProperties"].is_object()), "{place}: either");
            for name in piece["required"].as_array().into_iter().flatten() {
                assert!(
                    piece["properties"][name.as_str().unwrap()].is_object(),
                    "{place}: {name} is required and absent"
                );
            }
            for rule in piece["x-kubernetes-validations"].as_array().into_iter().flatten() {
                assert!(rule["rule"].is_string() && rule["message"].is_string(), "{place}");
            }
            if !piece["default"].is_null() {
                assert_eq!(problems(piece, &piece["default"], place), Vec::<String>::new(), "{place}: default");
            }
        });
        for column in version["additionalPrinterColumns"].as_array().unwrap() {
            let path = column["jsonPath"].as_str().unwrap();
            let mut at = root;
            for step in path.split('.').skip(1).filter(|_| !path.starts_with(".metadata")) {
                at = &at["properties"][step];
            }
            assert!(at.is_object(), "column {path}");
        }
    }
}

/// A document that has a value at a place of the schema.
fn document(place: &str, value: Value) -> String {
    let mut value = value;
    let mut rest = place;
    while !rest.is_empty() {
        if let Some(outer) = rest.strip_suffix("[]") {
            (value, rest) = (json!([value]), outer);
        } else if let Some(outer) = rest.strip_suffix("{}") {
            (value, rest) = (json!({"a": value}), outer);
        } else {
            let (outer, name) = rest.rsplit_once('.').unwrap();
            (value, rest) = (json!({name: value}), outer);
        }
    }
    json!({"apiVersion": "trimtab.dev/v1alpha1", "kind": "NodeProfile", "metadata": {"name": "p"}, "spec": value})
        .to_string()
}

#[test]
fn schema_and_reader_know_the_same_fields() {
    let mut objects = 0;
    walk(&schema::spec(), "", &mut |place, piece| {
        let Some(properties) = piece["properties"].as_object() else { return };
        objects += 1;
        let known: BTreeSet<&str> = properties.keys().map(String::as_str).collect();
        let text = document(place, json!({"no-such-field": 1}));
        let rejected = parse("p", text.as_bytes()).unwrap_err();
        let unknown = rejected.diagnostics.iter().find(|problem| problem.message == "unknown field");
        let unknown = unknown.unwrap_or_else(|| panic!("the reader has no fields at {place:?}: {rejected}"));
        let read: BTreeSet<&str> = unknown.allowed.split(", ").collect();
        assert_eq!(known, read, "schema and reader at {place:?}");
    });
    assert!(objects >= 15, "{objects}");
}

/// What the API server would say, rules in CEL and patterns left out.
pub(super) fn problems(schema: &Value, value: &Value, place: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut check = |fits: bool, what: &str| {
        if !fits {
            found.push(format!("{place}: {what}"));
        }
    };
    if schema["x-kubernetes-int-or-string"] == true {
        check(value.is_string() || value.is_i64() || value.is_u64(), "int or string");
    }
    match schema["type"].as_str() {
        Some("string") => check(value.is_string(), "string"),
        Some("boolean") => check(value.is_boolean(), "boolean"),
        Some("integer") => check(value.is_i64() || value.is_u64(), "integer"),
        Some("array") => check(value.is_array(), "array"),
        Some("object") => check(value.is_object(), "object"),
        _ => {}
    }
    let length =
        value.as_str().map(str::len).or(value.as_array().map(Vec::len)).or(value.as_object().map(|map| map.len()));
    for keyword in ["maxLength", "maxItems", "maxProperties"] {
        check(schema[keyword].as_u64().is_none_or(|most| length.unwrap_or(0) as u64 <= most), keyword);
    }
    check(schema["minimum"].as_u64().is_none_or(|least| value.as_u64().is_none_or(|value| value >= least)), "minimum");
    check(schema["maximum"].as_u64().is_none_or(|most| value.as_u64().is_none_or(|value| value <= most)), "maximum");
    check(!(schema["minimum"] == 0 && value.as_i64().is_some_and(|value| value < 0)), "minimum");
    check(schema["enum"].as_array().is_none_or(|words| words.contains(value)), "enum");
    for name in schema["required"].as_array().into_iter().flatten() {
        check(value.get(name.as_str().unwrap()).is_some(), &format!("{name} is required"));
    }
    if let Some(map) = value.as_object() {
        for (name, below) in map {
            let place = format!("{place}.{name}");
            let (field, free) = (&schema["properties"][name], &schema["additionalProperties"]);
            match (field.is_object(), free.is_object()) {
                (true, _) => found.extend(problems(field, below, &place)),
                (_, true) => found.extend(problems(free, below, &place)),
                _ if schema["x-kubernetes-preserve-unknown-fields"] == true => {}
                _ => found.push(format!("{place}: unknown field")),
            }
        }
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate().filter(|_| schema["items"].is_object()) {
        found.extend(problems(&schema["items"], item, &format!("{place}[{index}]")));
    }
    found
}

#[test]
fn what_is_a_valid_file_is_a_valid_object() {
    let mut directories = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")];
    let mut profiles = 0;
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
            let text = match entry.extension().and_then(|end| end.to_str()) {
                _ if entry.is_dir() => {
                    directories.push(entry);
                    continue;
                }
                Some("yaml" | "json") => fs::read_to_string(&entry).unwrap(),
                _ => continue,
            };
            if parse("p", text.as_bytes()).is_err() {
                continue;
            }
            profiles += 1;
            let value: Value = serde_saphyr::from_str(&text).unwrap();
            assert_eq!(problems(&schema::spec(), &value["spec"], "spec"), Vec::<String>::new(), "{}", entry.display());
        }
    }
    assert!(profiles >= 8, "{profiles}");
}

#[test]
fn what_the_schema_refuses_is_refused_by_the_reader_too() {
    let bad = [
        json!({"weight": 1001}),
        json!({"weight": -1}),
        json!({"weight": "1"}),
        json!({"nodeSelector": {"matchLabels": {"a": 1}}}),
        json!({"nodeSelector": {"matchExpressions": [{"key": "a", "operator": "Is"}]}}),
        json!({"nodeSelector": {"matchExpressions": [{"operator": "Exists"}]}}),
        json!({"sysctls": {"policy": "other"}}),
        json!({"sysctls": {"values": ["a"]}}),
        json!({"kernel": {"transparentHugePages": {"enabled": "yes"}}}),
        json!({"kernel": {"hugePages": [{"size": "2Mi", "node": 0}]}}),
        json!({"kernel": {"modules": {"load": [1]}}}),
        json!({"cgroup": {"driver": "auto"}}),
        json!({"resourceManagers": {"cpuManagerPolicy": "dynamic"}}),
        json!({"resourceManagers": {"featureGates": {"PodLevelResources": "true"}}}),
        json!({"resourceManagers": {"enforceNodeAllocatable": ["everything"]}}),
        json!({"resourceManagers": {"extensions": {"isolatedCPUs": "Some"}}}),
        json!({"ipMasq": {"cidrLimit": 5000}}),
        json!({"ipMasq": {"backend": "ebpf"}}),
        json!({"ipMasq": {"enableIPv6": "yes"}}),
        json!({"ipMasq": {"cluster": {"podCIDRs": "10.0.0.0/8"}}}),
        json!({"kubernetes": {"extendedResources": {"a/b": "4"}}}),
        json!({"kubernetes": {"heldPods": {"fail": 1}}}),
        json!({"pause": {}}),
        json!({"pause": {"until": 5}}),
        json!({"pause": {"until": "2030-01-31T12:00:00Z", "for": "1h"}}),
        json!({"unknown": {}}),
    ];
    for spec in bad {
        assert!(!problems(&schema::spec(), &spec, "spec").is_empty(), "the schema takes {spec}");
        assert!(parse("p", document("", spec.clone()).as_bytes()).is_err(), "the reader takes {spec}");
    }
}

#[test]
fn defaults_change_nothing_for_the_reader() {
    fn fill(schema: &Value, value: &mut Value) {
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            if value.get(name).is_none() && !field["default"].is_null() {
                value[name.as_str()] = field["default"].clone();
            }
            if let Some(below) = value.get_mut(name) {
                fill(field, below);
            }
        }
    }
    let cases = [
        json!({}),
        json!({"cgroup": {}, "kernel": {}, "sysctls": {}}),
        json!({"resourceManagers": {"extensions": {}}}),
        json!({"resourceManagers": {"cpuManagerPolicy": "static", "reservedSystemCPUs": "0"}}),
        json!({"ipMasq": {}}),
        json!({"ipMasq": {"compat": "azure", "configDir": "/etc/config"}}),
        json!({"ipMasq": {"compat": "kubernetes-sigs", "configFile": "/etc/config/x", "cluster": {}}}),
        json!({"kubernetes": {"heldPods": {}}}),
    ];
    for spec in cases {
        let mut filled = spec.clone();
        fill(&schema::spec(), &mut filled);
        let read =
            |spec: &Value| parse("p", document("", spec.clone()).as_bytes()).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(read(&spec).spec, read(&filled).spec, "{spec} and {filled}");
    }
}
