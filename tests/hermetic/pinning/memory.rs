//! Memory of their own NUMA nodes.

use std::collections::BTreeMap;

use trimtab::reconcile::node_view::MemoryBook;
use trimtab::subsystems::pinning::Pinning;
use trimtab_domain::cgroup::Version;
use trimtab_domain::plan::Cause;
use trimtab_domain::spec::cgroup::CgroupDriver;
use trimtab_domain::spec::resource_managers::ManagerExtensionsSpec;
use trimtab_domain::spec::resource_managers::ReservedMemory;
use trimtab_domain::spec::{NodeSpec, ResourceManagersSpec};
use trimtab_domain::workload::QosClass;

use super::{agent, converge};
use crate::laws::dry_run;
use crate::support::fake_cgroups::{Ask, FakeCgroups, Shape};

const TWO_NODES: Shape = Shape { nodes: 2, cores_per_node: 4, threads: 1 };
const GIB: u64 = 1 << 30;

fn node(version: Version) -> FakeCgroups {
    FakeCgroups::new(version, CgroupDriver::Systemd, TWO_NODES)
}

/// Both static, one node for each container.
fn both(topology: &str) -> NodeSpec {
    let amounts = |text: &str| BTreeMap::from([("memory".to_owned(), text.to_owned())]);
    let managers = ResourceManagersSpec {
        cpu_manager_policy: "static".into(),
        reserved_system_cpus: "0".into(),
        memory_manager_policy: "Static".into(),
        topology_manager_policy: topology.into(),
        reserved_memory: vec![
            ReservedMemory { numa_node: 0, limits: amounts("1Gi") },
            ReservedMemory { numa_node: 1, limits: amounts("1Gi") },
        ],
        // The kubelet adds 100Mi for its default eviction threshold.
        system_reserved: amounts("1948Mi"),
        // The fake's containers run, and version 2 would move their pages.
        extensions: ManagerExtensionsSpec { migrate_memory: true, ..ManagerExtensionsSpec::default() },
        ..ResourceManagersSpec::default()
    };
    NodeSpec { resource_managers: Some(managers), ..NodeSpec::default() }
}

const fn ask(milli: u64, gib: u64) -> Ask {
    Ask { milli, memory: Some(gib * GIB) }
}

#[tokio::test]
async fn cpus_and_memory_come_from_one_node() {
    for version in [Version::V1, Version::V2] {
        let node = node(version);
        let first = node.simple(QosClass::Guaranteed, "aaaa", ask(3000, 10));
        let second = node.simple(QosClass::Guaranteed, "bbbb", ask(2000, 12));
        let burstable = node.simple(QosClass::Burstable, "cccc", ask(1000, 1));
        let before = node.cpuset(&burstable, "cpuset.mems");
        let (agent, view) = Pinning::new(node.ports());
        converge(&agent, &both("single-numa-node")).await;
        assert_eq!(
            (node.cpuset(&first, "cpuset.cpus"), node.cpuset(&first, "cpuset.mems")),
            ("1-3".into(), "0".into())
        );
        assert_eq!(
            (node.cpuset(&second, "cpuset.cpus"), node.cpuset(&second, "cpuset.mems")),
            ("4-5".into(), "1".into())
        );
        assert_eq!(node.cpuset(&burstable, "cpuset.mems"), before);
        let view = view.borrow().clone();
        let blocks: Vec<_> = view.pods[1].containers[0]
            .memory
            .iter()
            .map(|b| (b.memory_type.as_str(), b.size_bytes, b.numa_nodes.clone()))
            .collect();
        assert_eq!(blocks, [("memory", 12 * GIB, vec![1])]);
        let allocatable: Vec<_> =
            view.allocatable_memory.iter().map(|b| (b.size_bytes, b.numa_nodes.clone())).collect();
        assert_eq!(allocatable, [(15 * GIB, vec![0]), (15 * GIB, vec![1])]);
        let nodes = view.machine.numa_nodes.iter();
        let books: Vec<_> = nodes.map(|n| (n.id, n.memory[0].total_bytes, n.memory[0].book.unwrap())).collect();
        let book = |held| MemoryBook { reserved_bytes: GIB, allocatable_bytes: 15 * GIB, held_bytes: held * GIB };
        assert_eq!(books, [(0, 16 * GIB, book(10)), (1, 16 * GIB, book(12))]);
        assert_eq!(view.machine.cpus.iter().map(|c| (c.cpu, c.numa_node)).nth(4), Some((4, 1)));
    }
}

#[tokio::test]
async fn placements_of_memory_survive_a_restart_and_a_lost_ledger() {
    let node = node(Version::V2);
    let first = node.simple(QosClass::Guaranteed, "aaaa", ask(2000, 12));
    let kept = node.simple(QosClass::Guaranteed, "bbbb", ask(2000, 12));
    let spec = both("single-numa-node");
    converge(&agent(&node), &spec).await;
    assert_eq!(node.cpuset(&kept, "cpuset.mems"), "1");
    node.vanish(first.rsplit_once('/').unwrap().0);
    assert!(dry_run(&agent(&node), &spec).await.steps().all(|step| !step.to_string().contains("mems")));
    node.ledger.lose();
    converge(&agent(&node), &spec).await;
    assert_eq!((node.cpuset(&kept, "cpuset.cpus"), node.cpuset(&kept, "cpuset.mems")), ("4-5".into(), "1".into()));
}

#[tokio::test]
async fn a_container_that_fits_no_node_is_refused_with_the_words_of_the_kubelet() {
    let node = node(Version::V2);
    let large = node.simple(QosClass::Guaranteed, "aaaa", ask(2000, 20));
    let done = converge(&agent(&node), &both("single-numa-node")).await;
    assert_eq!(done.left.refusals.len(), 1);
    let refusal = &done.left.refusals[0];
    assert_eq!(refusal.cause, Cause::Topology);
    assert!(
        refusal.detail.starts_with("TopologyAffinityError: Resources cannot be allocated with Topology locality"),
        "{}",
        refusal.detail
    );
    assert_eq!(node.effective(&large).to_string(), "0-7");
    // Without the policy it gets both nodes.
    converge(&agent(&node), &both("none")).await;
    assert_eq!((node.effective(&large).len(), node.cpuset(&large, "cpuset.mems.effective")), (2, "0-1".into()));
}

#[tokio::test]
async fn of_one_pod_whatever_fits_is_pinned() {
    let node = node(Version::V2);
    let pod = node.pod(QosClass::Guaranteed, "aaaa");
    let fits = node.container(&pod, QosClass::Guaranteed, 1, ask(2000, 1));
    let large = node.container(&pod, QosClass::Guaranteed, 2, ask(7000, 1));
    let done = converge(&agent(&node), &both("restricted")).await;
    assert_eq!(node.effective(&fits).len(), 2);
    assert_eq!(
        done.left.refusals.iter().map(|refusal| refusal.object.as_str()).collect::<Vec<_>>(),
        ["shop/pod-aaaa/c2"]
    );
    assert!(node.effective(&large).is_disjoint(&node.effective(&fits)));
}

#[tokio::test]
async fn a_reservation_that_does_not_add_up_stops_everything() {
    let node = node(Version::V2);
    node.simple(QosClass::Guaranteed, "aaaa", ask(2000, 1));
    let mut spec = both("none");
    spec.resource_managers.as_mut().unwrap().system_reserved.insert("memory".into(), "1Gi".into());
    let done = converge(&agent(&node), &spec).await;
    assert!(done.plan.is_empty());
    let detail = &done.plan.refusals[0].detail;
    assert!(
        detail.contains("the total amount \"2Gi\" of type \"memory\" is not equal to the value \"1124Mi\""),
        "{detail}"
    );
    assert!(detail.contains("reservedMemory"), "{detail}");
}

#[tokio::test]
async fn when_the_kubelet_pins_cpus_memory_can_still_be_held() {
    let node = node(Version::V2);
    let container = node.simple(QosClass::Guaranteed, "aaaa", ask(2000, 1));
    node.host.file(
        "/var/lib/kubelet/cpu_manager_state",
        r#"{"policyName":"static","defaultCpuSet":"0,3-7","entries":{"aaaa":{"c1":"1-2"}},"checksum":1}"#,
    );
    node.drift(&container, "cpuset.cpus", "1-2");
    let (agent, view) = Pinning::new(node.ports());
    converge(&agent, &both("none")).await;
    assert_eq!(
        (node.cpuset(&container, "cpuset.cpus"), node.cpuset(&container, "cpuset.mems")),
        ("1-2".into(), "0".into())
    );
    assert_eq!(view.borrow().pods[0].containers[0].exclusive_cpus, [1, 2]);
}

#[tokio::test]
async fn two_containers_of_one_pod_never_share_exclusive_cpus() {
    let node = node(Version::V2);
    let pod = node.pod(QosClass::Guaranteed, "aaaa");
    let one = node.container(&pod, QosClass::Guaranteed, 1, ask(1000, 1));
    let two = node.container(&pod, QosClass::Guaranteed, 2, ask(1000, 1));
    node.drift(&one, "cpuset.cpus", "5");
    node.drift(&two, "cpuset.cpus", "5");
    converge(&agent(&node), &both("none")).await;
    assert_eq!(node.effective(&one).to_string(), "5");
    assert!(node.effective(&two).is_disjoint(&node.effective(&one)));
}
