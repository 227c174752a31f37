//! Settings that change under running containers: who no longer fits moves, everybody else stays, nobody is restarted.

use trimtab::reconcile::Subsystem;
use trimtab::subsystems::pinning::Pinning;
use trimtab_domain::cgroup::Version;
use trimtab_domain::cpuset::CpuSet;
use trimtab_domain::spec::NodeSpec;
use trimtab_domain::spec::cgroup::CgroupDriver;
use trimtab_domain::workload::QosClass::{Burstable, Guaranteed};

use super::{agent, converge, static_cpus};
use crate::laws::dry_run;
use crate::support::fake_cgroups::{Ask, FakeCgroups, Shape};

fn set(text: &str) -> CpuSet {
    CpuSet::parse(text).unwrap()
}

/// Two NUMA nodes with CPUs 0-3,8-11 and 4-7,12-15.
fn node(version: Version) -> FakeCgroups {
    FakeCgroups::new(version, CgroupDriver::Systemd, Shape { nodes: 2, cores_per_node: 4, threads: 2 })
}

fn with(reserved: &str, change: impl FnOnce(&mut trimtab_domain::spec::ResourceManagersSpec)) -> NodeSpec {
    let mut spec = static_cpus(reserved);
    change(spec.resource_managers.as_mut().unwrap());
    spec
}

/// What a dry run says of moves.
async fn announced(agent: &Pinning, spec: &NodeSpec) -> Vec<(String, String)> {
    let plan = dry_run(agent, spec).await;
    let moves = plan.findings.into_iter().filter(|finding| finding.code == "pinning-move");
    moves.map(|finding| (finding.object, finding.message)).collect()
}

#[tokio::test]
async fn newly_reserved_cpus_move_only_their_owner() {
    for version in [Version::V1, Version::V2] {
        let node = node(version);
        let spec = static_cpus("0");
        let first = node.simple(Guaranteed, "a", Ask::cpus(2));
        let second = node.simple(Guaranteed, "b", Ask::cpus(2));
        let shared = node.simple(Burstable, "c", Ask { milli: 100, memory: None });
        let agent = agent(&node);
        converge(&agent, &spec).await;
        let before = [node.effective(&first), node.effective(&second)];
        let wider = static_cpus(&set("0").union(&before[0]).to_string());
        let moves = announced(&agent, &wider).await;
        assert_eq!(moves.len(), 1, "{moves:?}");
        assert_eq!(moves[0].0, "shop/pod-a/c1");
        assert!(moves[0].1.starts_with(&format!("moves from CPUs {} to CPUs ", before[0])), "{moves:?}");
        assert_eq!(node.effective(&first), before[0], "a dry run moves nobody");
        converge(&agent, &wider).await;
        let after = node.effective(&first);
        assert!(after.len() == 2 && after.is_disjoint(&before[0]) && after.is_disjoint(&before[1]), "{after}");
        assert_eq!(node.effective(&second), before[1], "who may stay stays");
        assert!(node.effective(&shared).is_disjoint(&after.union(&before[1])));
        assert!(announced(&agent, &wider).await.is_empty(), "a move is made once");
    }
}

#[tokio::test]
async fn whole_cores_are_made_on_running_containers() {
    let node = node(Version::V2);
    let spec = static_cpus("0,8");
    let odd = node.simple(Guaranteed, "a", Ask::cpus(1));
    let even = node.simple(Guaranteed, "b", Ask::cpus(2));
    let agent = agent(&node);
    // The lone thread goes to a core of its own, the pair to the rest of it and half of another.
    converge(&agent, &spec).await;
    node.vanish(&odd);
    node.drift(&even, "cpuset.cpus", "1-2");
    let fresh = super::agent(&node);
    node.ledger.lose();
    converge(&fresh, &spec).await;
    assert_eq!(node.effective(&even), set("1-2"), "what runs is adopted, although it is no whole core");
    let whole = with("0,8", |managers| {
        managers.cpu_manager_policy_options.insert("full-pcpus-only".into(), "true".into());
    });
    assert_eq!(announced(&fresh, &whole).await.len(), 1);
    converge(&fresh, &whole).await;
    let after = node.effective(&even);
    let cores: CpuSet = after.iter().map(|cpu| cpu % 8).collect();
    assert_eq!((after.len(), cores.len()), (2, 1), "{after} is one core");
}

#[tokio::test]
async fn a_numa_policy_brings_a_container_onto_one_node() {
    let node = node(Version::V2);
    let spec = static_cpus("0,8");
    let container = node.simple(Guaranteed, "a", Ask::cpus(4));
    node.drift(&container, "cpuset.cpus", "1-2,4-5");
    let agent = agent(&node);
    converge(&agent, &spec).await;
    assert_eq!(node.effective(&container), set("1-2,4-5"), "what runs is adopted");
    let strict = with("0,8", |managers| managers.topology_manager_policy = "single-numa-node".into());
    converge(&agent, &strict).await;
    let after = node.effective(&container);
    let on_first = after.intersection(&set("0-3,8-11")).len();
    assert!(after.len() == 4 && (on_first == 0 || on_first == 4), "{after} is on one node");
}

#[tokio::test]
async fn a_restart_with_the_same_settings_moves_nobody() {
    let node = node(Version::V2);
    let spec = with("0,8", |managers| managers.topology_manager_policy = "single-numa-node".into());
    let container = node.simple(Guaranteed, "a", Ask::cpus(4));
    node.drift(&container, "cpuset.cpus", "1-2,4-5");
    converge(&agent(&node), &spec).await;
    assert_eq!(node.effective(&container), set("1-2,4-5"));
    let again = agent(&node);
    converge(&again, &spec).await;
    assert_eq!(node.effective(&container), set("1-2,4-5"), "it does not conform, but nothing has changed");
}

#[tokio::test]
async fn who_finds_no_place_under_new_settings_stays_and_that_is_said() {
    let node = node(Version::V2);
    let container = node.simple(Guaranteed, "a", Ask::cpus(10));
    let agent = agent(&node);
    converge(&agent, &static_cpus("0,8")).await;
    let before = node.effective(&container);
    let strict = with("0,8", |managers| managers.topology_manager_policy = "single-numa-node".into());
    let done = converge(&agent, &strict).await;
    assert_eq!(node.effective(&container), before);
    let said: Vec<&str> = done.plan.refusals.iter().map(|refusal| refusal.detail.as_str()).collect();
    assert!(said.iter().any(|detail| detail.contains("TopologyAffinityError")), "{said:?}");
}

#[tokio::test]
async fn switched_on_and_off_again_nothing_is_left() {
    for version in [Version::V1, Version::V2] {
        let node = node(version);
        let container = node.simple(Guaranteed, "a", Ask::cpus(2));
        let shared = node.simple(Burstable, "b", Ask { milli: 100, memory: None });
        let none = with("", |managers| managers.cpu_manager_policy = "none".into());
        let agent = agent(&node);
        converge(&agent, &none).await;
        let before = node.cpusets();
        converge(&agent, &static_cpus("0")).await;
        assert_eq!(node.effective(&container).len(), 2);
        assert!(node.effective(&shared).is_disjoint(&node.effective(&container)));
        converge(&agent, &none).await;
        assert_eq!(node.effective(&container), set("0-15"));
        assert_eq!(node.effective(&shared), set("0-15"));
        if version == Version::V1 {
            assert_eq!(node.cpusets(), before);
        }
        assert!(Pinning::desired(&none).is_some() && node.ledger.snapshot().is_empty());
    }
}
