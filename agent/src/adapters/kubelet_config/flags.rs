//! Flags of the kubelet, as fields of the KubeletConfiguration.

use serde_json::{Map, Value};

use super::layers::Layers;

/// How the text of a flag becomes a field.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    /// `a=1,b=2`.
    Pairs,
    /// One `a=1` per occurrence, commas and all.
    OnePair,
    /// `memory.available<100Mi,…`.
    Thresholds,
    /// `a,b`.
    List,
    /// `A=true,B=false`, merged by key onto the files.
    Gates,
    /// `0:memory=1Gi,hugepages-2Mi=2Mi;1:memory=1Gi`, accumulating.
    ReservedMemory,
}

/// Flag, field, kind (kubelet `cmd/kubelet/app/options`).
const FLAGS: [(&str, &str, Kind); 17] = [
    ("cgroup-driver", "cgroupDriver", Kind::Text),
    ("container-runtime-endpoint", "containerRuntimeEndpoint", Kind::Text),
    ("cgroup-root", "cgroupRoot", Kind::Text),
    ("cpu-manager-policy", "cpuManagerPolicy", Kind::Text),
    ("cpu-manager-policy-options", "cpuManagerPolicyOptions", Kind::OnePair),
    ("memory-manager-policy", "memoryManagerPolicy", Kind::Text),
    ("topology-manager-policy", "topologyManagerPolicy", Kind::Text),
    ("topology-manager-scope", "topologyManagerScope", Kind::Text),
    ("topology-manager-policy-options", "topologyManagerPolicyOptions", Kind::Pairs),
    ("reserved-cpus", "reservedSystemCPUs", Kind::Text),
    ("reserved-memory", "reservedMemory", Kind::ReservedMemory),
    ("kube-reserved", "kubeReserved", Kind::Pairs),
    ("system-reserved", "systemReserved", Kind::Pairs),
    ("eviction-hard", "evictionHard", Kind::Thresholds),
    ("enforce-node-allocatable", "enforceNodeAllocatable", Kind::List),
    ("feature-gates", "featureGates", Kind::Gates),
    ("kube-reserved-cgroup", "kubeReservedCgroup", Kind::Text),
];

/// Every value of a flag, in order: `--name=value` or `--name value`, with one dash or two.
pub(super) fn all<'a>(arguments: &'a [String], name: &str) -> Vec<&'a str> {
    let mut values = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let Some(flag) = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-')) else { continue };
        match flag.split_once('=') {
            Some((flag, value)) if flag == name => values.push(value),
            None if flag == name => values.extend(rest.next().map(String::as_str)),
            _ => {}
        }
    }
    values
}

/// The value of a flag that counts: the last.
pub(super) fn last(arguments: &[String], name: &str) -> Option<String> {
    all(arguments, name).pop().map(str::to_owned)
}

/// Lays the flags over the files.
pub(super) fn apply(arguments: &[String], source: &str, layers: &mut Layers, problems: &mut Vec<String>) {
    let mut fields = Map::new();
    for (flag, field, kind) in FLAGS {
        let values = all(arguments, flag);
        let Some(last) = values.last() else { continue };
        let parsed = match kind {
            Kind::Text => Ok(Value::String((*last).to_owned())),
            Kind::List => Ok(last.split(',').filter(|item| !item.is_empty()).map(Value::from).collect()),
            Kind::Pairs => pairs(last.split(','), '=').map(Value::Object),
            Kind::OnePair => pairs(values.iter().copied(), '=').map(Value::Object),
            Kind::Thresholds => pairs(last.split(','), '<').map(Value::Object),
            Kind::Gates => gates(&values).map(|gates| {
                let mut merged = layers.value(field).and_then(Value::as_object).cloned().unwrap_or_default();
                merged.extend(gates);
                Value::Object(merged)
            }),
            Kind::ReservedMemory => reserved_memory(&values),
        };
        match parsed {
            Ok(value) => {
                fields.insert(field.to_owned(), value);
            }
            Err(text) => problems.push(format!("{source}: --{flag} has {text:?}, which cannot be understood")),
        }
    }
    if let Some(text) = last(arguments, "system-reserved-cgroup") {
        fields.insert("systemReservedCgroup".into(), Value::String(text));
    }
    layers.add_fields(fields, source);
}

fn pairs<'a>(items: impl Iterator<Item = &'a str>, separator: char) -> Result<Map<String, Value>, String> {
    let items = items.map(str::trim).filter(|item| !item.is_empty());
    items
        .map(|item| {
            let (name, value) = item.split_once(separator).ok_or_else(|| item.to_owned())?;
            Ok((name.trim().to_owned(), Value::String(value.trim().to_owned())))
        })
        .collect()
}

fn gates(values: &[&str]) -> Result<Map<String, Value>, String> {
    let pairs = pairs(values.iter().flat_map(|value| value.split(',')), '=')?;
    let state = |value: Value| match value.as_str() {
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        other => Err(other.unwrap_or_default().to_owned()),
    };
    pairs.into_iter().map(|(name, value)| Ok((name, Value::Bool(state(value)?)))).collect()
}

fn reserved_memory(values: &[&str]) -> Result<Value, String> {
    let groups = values.iter().flat_map(|value| value.split(';')).filter(|group| !group.is_empty());
    let group = |text: &str| {
        let (node, limits) = text.split_once(':').ok_or_else(|| text.to_owned())?;
        let node: u32 = node.trim().parse().map_err(|_| text.to_owned())?;
        let limits = pairs(limits.split(','), '=')?;
        Ok(serde_json::json!({ "numaNode": node, "limits": limits }))
    };
    groups.map(group).collect::<Result<Vec<_>, String>>().map(Value::Array)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn applied(arguments: &[&str]) -> (Layers, Vec<String>) {
        let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
        let (mut layers, mut problems) = (Layers::default(), Vec::new());
        apply(&arguments, "flags", &mut layers, &mut problems);
        (layers, problems)
    }

    #[test]
    fn flags_become_fields() {
        let rows = [
            (vec!["--cgroup-driver=systemd"], "cgroupDriver", json!("systemd")),
            (vec!["--cgroup-driver", "systemd"], "cgroupDriver", json!("systemd")),
            (vec!["-cgroup-driver=cgroupfs", "--cgroup-driver=systemd"], "cgroupDriver", json!("systemd")),
            (vec!["--kube-reserved=cpu=500m,memory=1Gi"], "kubeReserved", json!({"cpu": "500m", "memory": "1Gi"})),
            (
                vec!["--cpu-manager-policy-options=full-pcpus-only=true", "--cpu-manager-policy-options=x=1,y=2"],
                "cpuManagerPolicyOptions",
                json!({"full-pcpus-only": "true", "x": "1,y=2"}),
            ),
            (
                vec!["--eviction-hard=memory.available<5%,nodefs.available<1Gi"],
                "evictionHard",
                json!({"memory.available": "5%", "nodefs.available": "1Gi"}),
            ),
            (
                vec!["--enforce-node-allocatable=pods,kube-reserved"],
                "enforceNodeAllocatable",
                json!(["pods", "kube-reserved"]),
            ),
            (vec!["--feature-gates=A=true", "--feature-gates=B=0"], "featureGates", json!({"A": true, "B": false})),
            (
                vec!["--reserved-memory", "0:memory=3Gi;1:memory=2148Mi,hugepages-2Mi=2Mi"],
                "reservedMemory",
                json!([
                    {"numaNode": 0, "limits": {"memory": "3Gi"}},
                    {"numaNode": 1, "limits": {"memory": "2148Mi", "hugepages-2Mi": "2Mi"}}
                ]),
            ),
            (
                vec!["--container-runtime-endpoint=unix:///run/crio/crio.sock"],
                "containerRuntimeEndpoint",
                json!("unix:///run/crio/crio.sock"),
            ),
            (vec!["--reserved-cpus=0-1"], "reservedSystemCPUs", json!("0-1")),
            (vec!["--system-reserved-cgroup=/system"], "systemReservedCgroup", json!("/system")),
        ];
        for (arguments, field, expected) in rows {
            let (layers, problems) = applied(&arguments);
            assert_eq!((layers.value(field), problems.as_slice()), (Some(&expected), &[][..]), "{arguments:?}");
        }
    }

    #[test]
    fn flags_that_cannot_be_understood_are_told() {
        for argument in [
            "--kube-reserved=cpu",
            "--feature-gates=A=maybe",
            "--reserved-memory=memory=1Gi",
            "--reserved-memory=x:memory=1Gi",
            "--eviction-hard=memory.available=5%",
        ] {
            let (layers, problems) = applied(&[argument]);
            assert!(layers.sources().is_empty(), "{argument}");
            assert_eq!(problems.len(), 1, "{argument}: {problems:?}");
        }
    }
}
