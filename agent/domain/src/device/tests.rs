//! Hints and choices for devices on a machine with four NUMA nodes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use super::*;
use crate::hint::HintList;
use crate::workload::{Labels, QosClass};

const NIC: &str = "example.com/nic";

/// Devices `a`, `b`, … near the given nodes; `-` is a device without nodes, a trailing `!` a sick one.
fn manager(nodes: &[&str]) -> DeviceManager {
    let device = |(index, text): (usize, &&str)| {
        let healthy = !text.ends_with('!');
        let digits: NumaMask = text.chars().filter_map(|c| c.to_digit(10)).collect();
        let id: DeviceId = char::from(b'a' + u8::try_from(index).unwrap()).to_string().into();
        (id, Device { nodes: Some(digits).filter(|nodes| !nodes.is_empty()), healthy })
    };
    let pool = nodes.iter().enumerate().map(device).collect();
    DeviceManager::new(NumaMask(15), [(NIC.into(), pool)].into())
}

fn pod(containers: &[(ContainerKind, &str)]) -> Pod {
    let container = |(index, (kind, count)): (usize, &(ContainerKind, &str))| {
        let map: BTreeMap<ResourceName, _> = [(NIC.into(), count.parse().unwrap())].into();
        Container {
            name: format!("c{index}"),
            kind: *kind,
            resources: Resources { requests: map.clone(), limits: map },
        }
    };
    Pod {
        uid: PodUid("uid".into()),
        namespace: "default".into(),
        name: "pod".into(),
        qos: QosClass::BestEffort,
        containers: containers.iter().enumerate().map(container).collect(),
        resources: None,
        annotations: Labels::default(),
    }
}

fn print(hints: &ProviderHints) -> String {
    let one = |hint: &crate::hint::TopologyHint| {
        let nodes: String = hint.affinity.unwrap().iter().map(|node| node.to_string()).collect();
        format!("{nodes}{}", if hint.preferred { '+' } else { '-' })
    };
    match hints.resources() {
        [] => "no opinion".into(),
        [resource] => match &resource.hints {
            HintList::Any => "any".into(),
            HintList::Masks(list) => list.iter().map(one).collect::<Vec<_>>().join(" "),
        },
        _ => panic!("one resource"),
    }
}

#[test]
fn hints_name_the_node_sets_that_are_near_enough_devices() {
    let rows: &[(&str, &[&str], &str, &str)] = &[
        ("one of two", &["0", "1"], "1", "0+ 1+ 01-"),
        ("both", &["0", "1"], "2", "01+"),
        ("more than there are", &["0", "1"], "3", ""),
        ("sick devices count for the empty machine only", &["0", "0!", "1"], "2", "01-"),
        ("a device near two nodes counts once", &["01", "1"], "2", "1+ 01-"),
        ("without nodes", &["-", "-"], "1", "any"),
        ("devices without nodes do not count", &["0", "-"], "2", ""),
        ("nothing asked for", &["0"], "0", "no opinion"),
    ];
    for (name, devices, count, expected) in rows {
        let pod = pod(&[(ContainerKind::App, count)]);
        let manager = manager(devices);
        assert_eq!(print(&manager.hints_for_container(&pod, &pod.containers[0])), *expected, "{name}");
        assert_eq!(print(&manager.hints_for_pod(&pod)), *expected, "{name}, for the pod");
    }
}

#[test]
fn devices_near_the_hinted_nodes_are_taken_first() {
    let pod = pod(&[(ContainerKind::App, "3")]);
    let mut manager = manager(&["0", "1", "2", "2", "-"]);
    manager.allocate(&pod, &pod.containers[0], Some(NumaMask(0b110))).unwrap();
    let owned = manager.devices_of(&pod.uid, "c0", &NIC.into()).unwrap();
    assert_eq!(owned.iter().map(AsRef::as_ref).collect::<String>(), "bcd");
    assert_eq!(print(&manager.hints_for_container(&pod, &pod.containers[0])), "12+ 012-", "what it has is repeated");
}

#[test]
fn init_containers_hand_their_devices_on() {
    let pod = pod(&[(ContainerKind::Init, "2"), (ContainerKind::App, "1"), (ContainerKind::App, "2")]);
    let mut manager = manager(&["0", "1", "2"]);
    for container in &pod.containers[..2] {
        manager.allocate(&pod, container, None).unwrap();
    }
    let owned = |container| manager.devices_of(&pod.uid, container, &NIC.into()).unwrap().clone();
    assert!(owned("c1").is_subset(&owned("c0")));
    // One device is left to use again, on node 1, and one is free, on node 2.
    assert_eq!(print(&manager.hints_for_container(&pod, &pod.containers[2])), "12+ 012-");
    manager.allocate(&pod, &pod.containers[2], None).unwrap();
    manager.remove_container(&pod.uid, "c2");
    assert_eq!(manager.containers_of(&pod.uid).collect::<Vec<_>>(), ["c0", "c1"]);
}

#[test]
fn too_few_devices_and_changed_requests_are_refused() {
    let (two, three) = (pod(&[(ContainerKind::App, "2")]), pod(&[(ContainerKind::App, "3")]));
    let mut manager = manager(&["0", "1"]);
    let error = manager.allocate(&three, &three.containers[0], None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "requested number of devices unavailable for example.com/nic. Requested: 3, Available: 2"
    );
    manager.allocate(&two, &two.containers[0], None).unwrap();
    let error = manager.allocate(&three, &three.containers[0], None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "pod \"uid\" container \"c0\" changed request for resource \"example.com/nic\" from 2 to 3"
    );
    assert_eq!(print(&manager.hints_for_container(&three, &three.containers[0])), "");
}
