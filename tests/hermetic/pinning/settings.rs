//! Settings that change under running containers: who no longer fits moves, everybody else stays, nobody is restarted.

use nix::errno::Errno;
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

/// Carries a plan out step by step, and looks at the node after each; a step that fails ends it, as in a pass.
async fn step_by_step(agent: &Pinning, spec: &NodeSpec, mut look: impl FnMut(&str)) {
    let observed = agent.observe(&spec.resource_managers).await.unwrap();
    let plan = Pinning::plan(&spec.resource_managers, &observed);
    for step in plan.steps() {
        let made = agent.apply(step).await;
        look(&step.to_string());
        if made.is_err() {
            return;
        }
    }
}

/// A node on which four Guaranteed pods have their CPUs, and one pod shares; their paths in this order.
async fn settled(cpus: [u64; 4], spec: &NodeSpec) -> (FakeCgroups, Pinning, Vec<String>) {
    let node = node(Version::V2);
    let pods = std::iter::zip(["a", "b", "c", "d"], cpus);
    let mut paths: Vec<String> = pods.map(|(uid, cpus)| node.simple(Guaranteed, uid, Ask::cpus(cpus))).collect();
    paths.push(node.simple(Burstable, "e", Ask { milli: 100, memory: None }));
    let agent = agent(&node);
    converge(&agent, spec).await;
    (node, agent, paths)
}

/// Owners move among each other, and nobody comes to CPUs that another one has still to leave; on the way they may meet on
/// those that all share.
#[tokio::test]
async fn no_step_of_a_move_puts_two_owners_on_one_cpu() {
    let reserved = ["0", "0-2", "0,8-9", "0,3,11", "0,4", "0-1,8-9", "7,15", "0,10-12", "5-6"];
    let mut steps = 0;
    for (from, to) in reserved.iter().flat_map(|from| reserved.iter().map(move |to| (*from, *to))) {
        for (whole, cpus) in [(false, [3, 3, 2, 1]), (true, [4, 2, 2, 2])] {
            let (before, after) = (static_cpus(from), whole_cores(to, whole));
            let (twin, agent, paths) = settled(cpus, &before).await;
            converge(&agent, &after).await;
            // Who finds no place under the new settings shares in the end.
            let ends = paths.iter().zip(cpus).filter(|(path, cpus)| twin.effective(path).len() as u64 == *cpus);
            let owners: Vec<&String> = ends.map(|(path, _)| path).collect();
            let shared = twin.effective(&paths[4]);
            let (node, agent, _) = settled(cpus, &before).await;
            step_by_step(&agent, &after, |step| {
                steps += usize::from(step.contains("cpuset.cpus"));
                let now: Vec<CpuSet> = owners.iter().map(|path| node.effective(path)).collect();
                for (index, one) in now.iter().enumerate() {
                    let mut others = now.iter().skip(index + 1);
                    let apart = others.all(|other| other.intersection(one).is_subset(&shared));
                    assert!(apart, "{from} -> {to}, whole cores: {whole}: {now:?} after {step}; shared {shared}");
                }
            })
            .await;
        }
    }
    assert!(steps > 200, "{steps}");
}

fn whole_cores(reserved: &str, whole: bool) -> NodeSpec {
    with(reserved, |managers| {
        if whole {
            managers.cpu_manager_policy_options.insert("full-pcpus-only".into(), "true".into());
        }
    })
}

#[tokio::test]
async fn who_cannot_leave_keeps_others_from_coming() {
    let node = node(Version::V2);
    let agent = agent(&node);
    let [first, second] = ["a", "b"].map(|uid| node.simple(Guaranteed, uid, Ask::cpus(3)));
    converge(&agent, &static_cpus("0")).await;
    let before = [node.effective(&first), node.effective(&second)];
    assert_eq!(before, [set("1,8-9"), set("2-3,10")]);
    let wider = static_cpus("0-2");
    node.host.fail_writes(node.cpuset_file(&second, "cpuset.cpus"), Errno::EIO, 1);
    step_by_step(&agent, &wider, |step| {
        let now = [node.effective(&first), node.effective(&second)];
        assert!(now[0].is_disjoint(&now[1]), "{now:?} after {step}");
    })
    .await;
    assert_eq!(node.effective(&second), before[1], "it could not leave");
    converge(&agent, &wider).await;
    let after = [node.effective(&first), node.effective(&second)];
    assert!(after.iter().all(|cpus| cpus.len() == 3 && cpus.is_disjoint(&set("0-2"))), "{after:?}");
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
