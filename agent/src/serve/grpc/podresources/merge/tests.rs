#![allow(clippy::indexing_slicing, reason = "tests")]
//! Which source each part of an answer comes from.

use trimtab_domain::workload::{ContainerId, PodUid, QosClass};

use super::*;

fn container(name: &str, cpus: &[u32], memory: u64) -> ContainerView {
    let block = MemoryBlock { memory_type: "memory".into(), size_bytes: memory, numa_nodes: vec![0] };
    ContainerView {
        name: name.into(),
        id: ContainerId(format!("id-{name}-{}", cpus.len())),
        exclusive_cpus: cpus.to_vec(),
        memory: if memory > 0 { vec![block] } else { vec![] },
        effective_cpus: String::new(),
        effective_mems: String::new(),
        mispinned: None,
        waiting: false,
    }
}

fn pod(name: &str, uid: &str, containers: Vec<ContainerView>) -> PodView {
    let qos = QosClass::Guaranteed;
    PodView { uid: PodUid(uid.into()), name: name.into(), namespace: "n".into(), qos, containers }
}

fn theirs(name: &str, containers: &[(&str, &[i64])]) -> v1::PodResources {
    let container = |(name, cpus): &(&str, &[i64])| v1::ContainerResources {
        name: (*name).into(),
        cpu_ids: cpus.to_vec(),
        ..Default::default()
    };
    v1::PodResources {
        name: name.into(),
        namespace: "n".into(),
        containers: containers.iter().map(container).collect(),
    }
}

/// `pod/container=cpus+bytes` of every container.
fn shown(merged: &Merged) -> String {
    let container = |pod: &v1::PodResources, one: &v1::ContainerResources| {
        let bytes: u64 = one.memory.iter().map(|block| block.size).sum();
        let cpus: Vec<_> = one.cpu_ids.iter().map(ToString::to_string).collect();
        format!("{}/{}={}+{bytes}", pod.name, one.name, cpus.join(","))
    };
    let of_pod = |pod: &v1::PodResources| {
        let containers: Vec<_> = pod.containers.iter().map(|one| container(pod, one)).collect();
        if containers.is_empty() { pod.name.clone() } else { containers.join(" ") }
    };
    merged.pods.iter().map(of_pod).collect::<Vec<_>>().join(" ")
}

/// What the kubelet gives out itself.
#[derive(Clone, Copy, PartialEq)]
enum Gives {
    Nothing,
    Cpus,
    Memory,
}

type Row = (&'static str, Gives, Vec<PodView>, Vec<v1::PodResources>, &'static str);

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn each_part_comes_from_who_gives_it_out() {
    let rows: Vec<Row> = vec![
        (
            "CPUs and memory are ours",
            Gives::Nothing,
            vec![pod("p", "1", vec![container("a", &[3, 2], 5)])],
            vec![theirs("p", &[("a", &[])])],
            "p/a=2,3+5",
        ),
        (
            "CPUs are the kubelet's, whatever we recorded; memory is ours",
            Gives::Cpus,
            vec![pod("p", "1", vec![container("a", &[9], 5)])],
            vec![theirs("p", &[("a", &[4]), ("b", &[])])],
            "p/a=4+5 p/b=+0",
        ),
        (
            "memory is the kubelet's, and it gave none",
            Gives::Memory,
            vec![pod("p", "1", vec![container("a", &[9], 5)])],
            vec![theirs("p", &[("a", &[])])],
            "p/a=9+0",
        ),
        (
            "sidecars stay in front, ordinary init containers are not shown",
            Gives::Nothing,
            vec![pod(
                "p",
                "1",
                vec![container("app", &[1], 0), container("init", &[1], 0), container("sidecar", &[2], 0)],
            )],
            vec![theirs("p", &[("sidecar", &[]), ("app", &[])])],
            "p/sidecar=2+0 p/app=1+0",
        ),
        (
            "a pod without running containers is there",
            Gives::Nothing,
            vec![],
            vec![theirs("waiting", &[("a", &[])]), theirs("empty", &[])],
            "empty waiting/a=+0",
        ),
        (
            "a pod that the kubelet does not list is there while it has something of ours",
            Gives::Nothing,
            vec![
                pod("forced-away", "1", vec![container("a", &[1], 0), container("b", &[], 0)]),
                pod("with-memory", "2", vec![container("a", &[], 7)]),
                pod("over", "3", vec![container("a", &[], 0)]),
            ],
            vec![theirs("p", &[("a", &[])])],
            "forced-away/a=1+0 forced-away/b=+0 p/a=+0 with-memory/a=+7",
        ),
        (
            "what the kubelet gave and does not list any more is free",
            Gives::Cpus,
            vec![pod("over", "1", vec![container("a", &[1], 0)])],
            vec![],
            "",
        ),
        (
            "of two containers with one name the one that has something",
            Gives::Nothing,
            vec![pod("p", "1", vec![container("a", &[], 0), container("a", &[6], 0), container("a", &[], 0)])],
            vec![theirs("p", &[("a", &[])])],
            "p/a=6+0",
        ),
        (
            "of two pods with one name the running one is the kubelet's, the other is shown while it has something",
            Gives::Nothing,
            vec![
                pod("p", "1", vec![container("a", &[1], 0)]),
                pod("p", "2", vec![container("a", &[2], 0), container("b", &[], 0)]),
            ],
            vec![theirs("p", &[("a", &[]), ("b", &[])])],
            "p/a=2+0 p/b=+0 p/a=1+0",
        ),
        (
            "both pods of one name when the kubelet lists both",
            Gives::Nothing,
            vec![pod("p", "1", vec![container("a", &[1], 0)]), pod("p", "2", vec![container("a", &[2], 0)])],
            vec![theirs("p", &[("a", &[])]), theirs("p", &[("a", &[])])],
            "p/a=2+0 p/a=1+0",
        ),
    ];
    for (name, gives, pods, list, expected) in rows {
        let view = NodeView { pods, ..NodeView::default() };
        let mut kubelet =
            KubeletAnswers { list: v1::ListPodResourcesResponse { pod_resources: list }, ..Default::default() };
        if gives == Gives::Cpus {
            kubelet.allocatable.cpu_ids = vec![4, 5];
        }
        if gives == Gives::Memory {
            kubelet.allocatable.memory = vec![v1::ContainerMemory::default()];
        }
        assert_eq!(shown(&merge(&view, Some(&kubelet))), expected, "{name}");
    }
}

#[test]
fn allocatable_comes_from_who_gives_out() {
    let block = |bytes| MemoryBlock { memory_type: "memory".into(), size_bytes: bytes, numa_nodes: vec![0] };
    let view = NodeView { allocatable_cpus: vec![2, 1], allocatable_memory: vec![block(7)], ..NodeView::default() };
    let memory = |size| v1::ContainerMemory { memory_type: "memory".into(), size, topology: None };
    let device = v1::ContainerDevices { resource_name: "v/d".into(), ..Default::default() };
    let rows = [
        ("nobody but us", vec![], vec![], vec![1, 2], 7),
        ("CPUs from the kubelet", vec![8], vec![], vec![8], 7),
        ("memory from the kubelet", vec![], vec![memory(9)], vec![1, 2], 9),
    ];
    for (name, cpu_ids, blocks, cpus, bytes) in rows {
        let allocatable = v1::AllocatableResourcesResponse { devices: vec![device.clone()], cpu_ids, memory: blocks };
        let merged = merge(&view, Some(&KubeletAnswers { allocatable, ..Default::default() })).allocatable;
        assert_eq!(
            (merged.cpu_ids, merged.memory[0].size, merged.devices),
            (cpus, bytes, vec![device.clone()]),
            "{name}"
        );
    }
    let alone = merge(&view, None).allocatable;
    assert_eq!((alone.cpu_ids, alone.memory[0].size, alone.devices), (vec![1, 2], 7, vec![]));
}

#[test]
fn memory_and_huge_pages_are_told_by_node_and_type() {
    let block = |kind: &str, size_bytes, nodes: &[u32]| MemoryBlock {
        memory_type: kind.into(),
        size_bytes,
        numa_nodes: nodes.to_vec(),
    };
    let mut one = container("a", &[], 0);
    one.memory = vec![
        block("memory", 3, &[1]),
        block("hugepages-1Gi", 2 << 30, &[0, 1]),
        block("memory", 4, &[0]),
        block("hugepages-2Mi", 4 << 20, &[0]),
    ];
    let view = NodeView { pods: vec![pod("p", "1", vec![one])], ..NodeView::default() };
    let merged = merge(&view, None);
    let told: Vec<_> = merged.pods[0].containers[0]
        .memory
        .iter()
        .map(|block| {
            let nodes: Vec<_> =
                block.topology.iter().flat_map(|topology| &topology.nodes).map(|node| node.id).collect();
            (block.memory_type.as_str(), block.size, nodes)
        })
        .collect();
    let expected = [
        ("hugepages-2Mi", 4 << 20, vec![0]),
        ("memory", 4, vec![0]),
        ("hugepages-1Gi", 2 << 30, vec![0, 1]),
        ("memory", 3, vec![1]),
    ];
    assert_eq!(told, expected, "the size is that of the whole block, not per node");
}

#[test]
fn sum_over_the_list_never_exceeds_what_is_allocatable() {
    // Every mix of givers: what is told as taken comes from the same side as what is told as allocatable.
    let ours = vec![pod("p", "1", vec![container("a", &[1, 2], 5)])];
    for gives in [Gives::Nothing, Gives::Cpus, Gives::Memory] {
        let view = NodeView { pods: ours.clone(), allocatable_cpus: vec![1, 2, 3], ..NodeView::default() };
        let mut kubelet = KubeletAnswers::default();
        kubelet.list.pod_resources = vec![theirs("p", &[("a", if gives == Gives::Cpus { &[10] } else { &[] })])];
        if gives == Gives::Cpus {
            kubelet.allocatable.cpu_ids = vec![10, 11];
        }
        let merged = merge(&view, Some(&kubelet));
        for id in &merged.pods[0].containers[0].cpu_ids {
            assert!(merged.allocatable.cpu_ids.contains(id), "{id} in {:?}", merged.allocatable.cpu_ids);
        }
    }
}
