#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests stop at the first surprise")]

use trimtab_domain::workload::{ContainerId, PodUid, QosClass};

use super::*;
use crate::reconcile::node_view::{ContainerView, MachineView, PodView};

fn place(cpu: u32) -> CpuView {
    CpuView { cpu, core: cpu, socket: 0, numa_node: 0, uncore_cache: None }
}

fn container(name: &str, exclusive_cpus: &[u32]) -> ContainerView {
    ContainerView {
        name: name.into(),
        id: ContainerId(name.into()),
        exclusive_cpus: exclusive_cpus.to_vec(),
        memory: Vec::new(),
        effective_cpus: String::new(),
        effective_mems: String::new(),
        mispinned: None,
        waiting: false,
    }
}

fn view() -> NodeView {
    let containers = vec![container("init", &[4, 5]), container("app", &[5]), container("log", &[])];
    let pod = PodView {
        uid: PodUid("u".into()),
        name: "db".into(),
        namespace: String::new(),
        qos: QosClass::Guaranteed,
        containers,
    };
    let machine = MachineView {
        cpus: (0..8).map(place).collect(),
        isolated_cpus: vec![7],
        offline_cpus: vec![8],
        ..MachineView::default()
    };
    let mut view = NodeView { machine, pods: vec![pod], ..NodeView::default() };
    (view.reserved_cpus, view.allocatable_cpus, view.shared_cpus) = (vec![0], vec![1, 4, 5], vec![0, 1, 2]);
    view
}

#[test]
fn each_cpu_has_the_use_that_binds_most() {
    let topology = Topology::new("n", &view());
    let uses: Vec<_> = topology.cpus.iter().map(|cpu| cpu.usage).collect();
    use Usage::{Exclusive, Free, Other, Reserved, Shared};
    assert_eq!(uses, [Reserved, Free, Shared, Other, Exclusive, Exclusive, Other, Other]);
    assert_eq!(topology.sharing_containers, 1);
    assert_eq!(topology.cpus_of(0).to_string(), "4-5");
    assert_eq!(topology.cpus_in(Other).to_string(), "3,6-7");
}

#[test]
fn a_cpu_says_who_holds_it_and_that_it_is_isolated() {
    let topology = Topology::new("n", &view());
    let said: Vec<_> =
        [4, 5, 7].map(|at: usize| (topology.mark(&topology.cpus[at]), topology.describe(&topology.cpus[at]))).into();
    let said: Vec<_> = said.iter().map(|(mark, words)| (mark.as_str(), words.as_str())).collect();
    assert_eq!(
        said,
        [("A", "held by db/init"), ("A+", "held by db/init and db/app"), ("-", "not for pods, isolated by the kernel")]
    );
}

#[test]
fn keys_go_on_after_z() {
    let rows = [(0, "A"), (25, "Z"), (26, "AA"), (51, "AZ"), (52, "BA"), (701, "ZZ"), (702, "AAA")];
    for (holder, expected) in rows {
        assert_eq!(key(holder), expected);
    }
}
