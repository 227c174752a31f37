//! The desk, asked as a runtime asks it: what it answers, and what a pass makes of it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use trimtab::ports::admission::{Admission, RuntimePeer};
use trimtab::ports::kubelet::KubeletAllocatable;
use trimtab::reconcile::Subsystem;
use trimtab::subsystems::pinning::Pinning;
use trimtab_domain::cgroup::Version;
use trimtab_domain::cpuset::CpuSet;
use trimtab_domain::roster::{ContainerState, Sandbox, SandboxContainer, SandboxId};
use trimtab_domain::spec::NodeSpec;
use trimtab_domain::spec::cgroup::CgroupDriver;
use trimtab_domain::workload::QosClass::{BestEffort, Burstable, Guaranteed};
use trimtab_domain::workload::{ContainerId, Labels};

use super::{agent, converge, static_cpus};
use crate::laws::pass;
use crate::support::fake_cgroups::{Ask, FakeCgroups, Shape, id};
use crate::support::node_runtime::{NodeRuntime, told};

const LITTLE: Ask = Ask { milli: 100, memory: None };

fn set(text: &str) -> CpuSet {
    CpuSet::parse(text).unwrap()
}

/// Two NUMA nodes with CPUs 0-3 and 4-7.
fn node() -> FakeCgroups {
    FakeCgroups::new(Version::V2, CgroupDriver::Systemd, Shape { nodes: 2, cores_per_node: 4, threads: 1 })
}

/// A node whose runtime asks an agent that has looked at it.
async fn asked(spec: &NodeSpec) -> (FakeCgroups, NodeRuntime, Pinning) {
    let node = node();
    let agent = agent(&node);
    converge(&agent, spec).await;
    let mut runtime = NodeRuntime::new(&node);
    runtime.connect(agent.desk());
    (node, runtime, agent)
}

fn effective(runtime: &NodeRuntime, uid: &str, name: &str) -> CpuSet {
    runtime.node.effective(&runtime.pods[uid].containers[name].path)
}

/// What the desk is told of a container of a pod that runs.
fn container(runtime: &NodeRuntime, uid: &str, number: u32) -> (Sandbox, SandboxContainer) {
    let pod = &runtime.pods[uid];
    let container = SandboxContainer {
        id: ContainerId(id(uid, 9000 + number)),
        sandbox: pod.sandbox.id.clone(),
        name: format!("x{number}"),
        state: ContainerState::Created,
        created_at_ns: 0,
        pid: None,
        cgroups_path: String::new(),
        labels: Labels::default(),
        annotations: Labels::default(),
        resources: Some(told(LITTLE, pod.qos)),
    };
    (pod.sandbox.clone(), container)
}

#[tokio::test]
async fn before_the_first_pass_only_those_entitled_to_cpus_wait() {
    let node = node();
    let agent = agent(&node);
    let mut runtime = NodeRuntime::new(&node);
    runtime.connect(agent.desk());
    runtime.run_pod(Guaranteed, "a", &[]);
    runtime.run_pod(Burstable, "b", &[]);
    let refused = runtime.create("a", "main", Ask::cpus(2)).unwrap_err();
    assert_eq!(refused.reason, "NodeNotObserved");
    assert!(refused.message.contains("2 exclusive CPUs"), "{refused}");
    runtime.create("b", "main", LITTLE).unwrap();
    runtime.create("a", "half", Ask { milli: 1500, memory: Some(1) }).unwrap();
    converge(&agent, &static_cpus("0")).await;
    runtime.create("a", "main", Ask::cpus(2)).unwrap();
    assert_eq!(effective(&runtime, "a", "main"), set("1-2"));
    assert_eq!(effective(&runtime, "b", "main"), set("0,3-7"));
}

#[tokio::test]
async fn without_a_policy_nothing_is_said() {
    for spec in [NodeSpec::default(), {
        let mut none = static_cpus("");
        none.resource_managers.as_mut().unwrap().cpu_manager_policy = "none".into();
        none
    }] {
        let (_, mut runtime, _) = asked(&spec).await;
        runtime.run_pod(Guaranteed, "a", &[]);
        runtime.create("a", "main", Ask::cpus(2)).unwrap();
        let made = &runtime.pods["a"].containers["main"];
        assert_eq!(made.container.resources.as_ref().unwrap().cpus, "", "nothing was answered");
    }
}

#[tokio::test]
async fn who_does_not_fit_is_refused_in_the_words_of_the_kubelet_until_he_does() {
    let mut spec = static_cpus("0");
    spec.resource_managers.as_mut().unwrap().topology_manager_policy = "single-numa-node".into();
    let (_, mut runtime, agent) = asked(&spec).await;
    runtime.run_pod(Guaranteed, "a", &[]);
    runtime.create("a", "main", Ask::cpus(3)).unwrap();
    runtime.run_pod(Guaranteed, "b", &[]);
    let refused = runtime.create("b", "main", Ask::cpus(5)).unwrap_err();
    assert_eq!(refused.to_string(), "TopologyAffinityError: Resources cannot be allocated with Topology locality");
    runtime.create("b", "main", Ask::cpus(5)).unwrap_err();
    let done = converge(&agent, &spec).await;
    let [refusal] = done.plan.refusals.as_slice() else { panic!("{:?}", done.plan.refusals) };
    assert_eq!(refusal.object, "shop/pod-b/main");
    assert!(refusal.detail.starts_with("TopologyAffinityError: ") && refusal.detail.contains("since 2"), "{refusal:?}");
    let held = agent.desk().view().held;
    assert_eq!((held.len(), held[0].tries), (1, 2));
    runtime.create("b", "main", Ask::cpus(4)).unwrap();
    assert!(agent.desk().view().held.is_empty());
    let done = converge(&agent, &spec).await;
    assert!(done.plan.refusals.is_empty(), "{:?}", done.plan.refusals);

    let (_, mut runtime, _) = asked(&static_cpus("0")).await;
    runtime.run_pod(Guaranteed, "c", &[]);
    let refused = runtime.create("c", "main", Ask::cpus(8)).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "UnexpectedAdmissionError: Allocate failed due to not enough cpus available to satisfy request: requested=8, \
         available=7, which is unexpected"
    );
}

#[tokio::test]
async fn the_others_are_narrowed_in_the_same_answer_and_widened_by_a_pass() {
    let spec = static_cpus("0");
    let (node, mut runtime, agent) = asked(&spec).await;
    runtime.run_pod(BestEffort, "b", &[]);
    runtime.create("b", "main", Ask { milli: 0, memory: None }).unwrap();
    runtime.run_pod(Guaranteed, "a", &[]);
    runtime.create("a", "main", Ask::cpus(2)).unwrap();
    assert_eq!((effective(&runtime, "a", "main"), effective(&runtime, "b", "main")), (set("1-2"), set("0,3-7")));
    converge(&agent, &spec).await;
    runtime.stop_pod("a");
    assert_eq!(effective(&runtime, "b", "main"), set("0,3-7"), "growing is left to a pass");
    converge(&agent, &spec).await;
    assert_eq!(effective(&runtime, "b", "main"), set("0-7"));
    let _ = node;
}

#[tokio::test]
async fn a_container_that_starts_again_gets_its_cpus_and_a_successor_those_of_an_init_container() {
    let spec = static_cpus("0");
    let (_, mut runtime, agent) = asked(&spec).await;
    runtime.run_pod(Guaranteed, "a", &[]);
    runtime.create("a", "init", Ask::cpus(3)).unwrap();
    converge(&agent, &spec).await;
    runtime.exit("a", "init");
    converge(&agent, &spec).await;
    runtime.run_pod(Guaranteed, "b", &[]);
    runtime.create("b", "main", Ask::cpus(4)).unwrap();
    runtime.create("a", "main", Ask::cpus(3)).unwrap();
    assert_eq!(effective(&runtime, "a", "main"), set("1-3"), "nothing else is left, and these may be used again");
    converge(&agent, &spec).await;
    runtime.exit("a", "main");
    converge(&agent, &spec).await;
    runtime.run_pod(Guaranteed, "c", &[]);
    runtime.create("c", "main", Ask::cpus(1)).unwrap_err();
    runtime.create("a", "main", Ask::cpus(3)).unwrap();
    assert_eq!(effective(&runtime, "a", "main"), set("1-3"), "kept while it was away");
    runtime.stop_pod("a");
    runtime.create("c", "main", Ask::cpus(3)).unwrap();
    assert_eq!(effective(&runtime, "c", "main"), set("1-3"), "given back with the pod, what was lent as well");
}

#[tokio::test]
async fn a_container_created_with_cpus_of_somebody_else_ends_pinning_at_once() {
    let spec = static_cpus("0");
    let (node, mut runtime, agent) = asked(&spec).await;
    runtime.run_pod(Guaranteed, "a", &[]);
    runtime.create("a", "main", Ask::cpus(2)).unwrap();
    converge(&agent, &spec).await;
    runtime.run_pod(Burstable, "b", &[]);
    let (sandbox, mut foreign) = container(&runtime, "b", 1);
    foreign.resources.as_mut().unwrap().cpus = "4-5".into();
    let answer = agent.desk().create(&sandbox, &foreign).unwrap();
    assert_eq!(answer, trimtab::ports::admission::Created::default(), "nothing is set against it");
    // Even before a pass has looked.
    runtime.run_pod(Guaranteed, "c", &[]);
    runtime.create("c", "main", Ask::cpus(1)).unwrap();
    assert_eq!(effective(&runtime, "c", "main"), set("0-7"));
    node.host.take_attempts();
    let done = converge(&agent, &spec).await;
    assert_eq!(node.host.take_attempts(), 0, "nothing is written any more");
    assert_eq!(effective(&runtime, "a", "main"), set("1-2"), "pins stay as they are");
    let finding = done.plan.findings.iter().find(|finding| finding.code == "pinning-observe-only");
    assert!(finding.unwrap().message.contains("shop/pod-b/x1 was to be created with CPUs 4-5"), "{finding:?}");
    // A person changes the settings: it is tried again.
    converge(&agent, &static_cpus("0,7")).await;
    assert_eq!(effective(&runtime, "c", "main").len(), 1);
}

#[tokio::test]
async fn one_hand_is_undone_and_a_second_container_tells_a_pinner() {
    let spec = static_cpus("0");
    let (_, mut runtime, agent) = asked(&spec).await;
    for uid in ["a", "b"] {
        runtime.run_pod(Guaranteed, uid, &[]);
        runtime.create(uid, "main", Ask::cpus(2)).unwrap();
    }
    assert_eq!(runtime.change_cpus("a", "main", "5-6").unwrap(), set("1-2"), "the answer overrides the request");
    assert_eq!(runtime.change_cpus("a", "main", "5").unwrap(), set("1-2"), "once more the same container");
    assert_eq!(agent.desk().view().foreign.cpus, None);
    assert_eq!(runtime.change_cpus("b", "main", "5-6").unwrap(), set("5-6"), "a pinner is let be");
    assert!(agent.desk().view().foreign.cpus.unwrap().contains("the CPUs of 2 containers"));
}

#[tokio::test(start_paused = true)]
async fn a_hand_now_and_then_is_no_pinner() {
    let spec = static_cpus("0");
    let (_, mut runtime, agent) = asked(&spec).await;
    for uid in ["a", "b", "c"] {
        runtime.run_pod(Guaranteed, uid, &[]);
        runtime.create(uid, "main", Ask::cpus(1)).unwrap();
    }
    assert_eq!(runtime.change_cpus("a", "main", "5-6").unwrap(), set("1"));
    tokio::time::advance(Duration::from_secs(3600)).await;
    assert_eq!(runtime.change_cpus("b", "main", "5-6").unwrap(), set("2"), "an hour later it is another hand");
    runtime.exit("b", "main");
    assert_eq!(runtime.change_cpus("c", "main", "5-6").unwrap(), set("3"), "who is over is no sign");
    assert_eq!(agent.desk().view().foreign.cpus, None);
}

/// What the answer to a request takes from others is written by no pass, and comes back all the same.
#[tokio::test]
async fn what_an_answer_took_from_others_is_given_back() {
    for off in [NodeSpec::default(), static_cpus("0")] {
        let spec = static_cpus("0");
        let (node, mut runtime, agent) = asked(&spec).await;
        runtime.run_pod(Burstable, "b", &[]);
        runtime.create("b", "main", LITTLE).unwrap();
        converge(&agent, &spec).await;
        runtime.run_pod(Guaranteed, "a", &[]);
        runtime.create("a", "main", Ask::cpus(2)).unwrap();
        assert_eq!(effective(&runtime, "b", "main"), set("0,3-7"));
        converge(&agent, &spec).await;
        if off.resource_managers.is_some() {
            runtime.stop_pod("a");
            converge(&agent, &off).await;
            assert_eq!(effective(&runtime, "b", "main"), set("0-7"));
        }
        converge(&agent, &NodeSpec::default()).await;
        assert_eq!(effective(&runtime, "b", "main"), set("0-7"));
        assert!(node.ledger.snapshot().is_empty());
    }
}

/// A container was created between the plan of a pass and its writes, and the answer has taken more from another one.
#[tokio::test]
async fn a_write_planned_before_an_answer_does_not_undo_it() {
    let spec = static_cpus("0");
    for (meanwhile, after) in [("0,5-7", "0,5-7"), ("0,2-4", "0,3-4"), ("1", "1")] {
        let node = node();
        let shared = node.simple(Burstable, "b", LITTLE);
        node.simple(Guaranteed, "a", Ask::cpus(2));
        let agent = agent(&node);
        let observed = agent.observe(&spec.resource_managers).await.unwrap();
        let plan = Pinning::plan(&spec.resource_managers, &observed);
        let shrinks = plan.steps().find(|step| step.to_string() == format!("{shared}/cpuset.cpus: (empty) -> 0,3-7"));
        node.drift(&shared, "cpuset.cpus", meanwhile);
        agent.apply(shrinks.unwrap()).await.unwrap();
        assert_eq!(node.effective(&shared), set(after), "{meanwhile}");
    }
}

/// A person has paused pinning: creations are answered by the profile that is in force, not by one that waits.
#[tokio::test]
async fn a_look_at_another_profile_changes_no_answer() {
    let spec = static_cpus("0");
    let (_, mut runtime, agent) = asked(&spec).await;
    runtime.run_pod(Guaranteed, "a", &[]);
    runtime.create("a", "main", Ask::cpus(2)).unwrap();
    converge(&agent, &spec).await;
    assert_eq!(effective(&runtime, "a", "main"), set("1-2"));
    let wider = static_cpus("0-2");
    let seen = agent.look(&wider.resource_managers).await.unwrap();
    let plan = Pinning::plan(&wider.resource_managers, &seen);
    assert!(plan.findings.iter().any(|finding| finding.code == "pinning-move"), "it is told");
    runtime.run_pod(Guaranteed, "b", &[]);
    runtime.create("b", "main", Ask::cpus(1)).unwrap();
    assert_eq!(effective(&runtime, "a", "main"), set("1-2"), "nobody moves");
    assert_eq!(effective(&runtime, "b", "main"), set("3"));
    converge(&agent, &wider).await;
    assert!(effective(&runtime, "a", "main").is_disjoint(&set("0-2")), "now it is in force");
}

#[tokio::test]
async fn an_old_request_of_the_agent_itself_does_no_harm() {
    let spec = static_cpus("0");
    let (_, mut runtime, agent) = asked(&spec).await;
    runtime.run_pod(Burstable, "b", &[]);
    runtime.create("b", "main", LITTLE).unwrap();
    let wide = set("0-7");
    agent.desk().announce(&runtime.pods["b"].containers["main"].container.id, &wide);
    runtime.run_pod(Guaranteed, "a", &[]);
    runtime.create("a", "main", Ask::cpus(2)).unwrap();
    assert_eq!(runtime.change_cpus("b", "main", "0-7").unwrap(), set("0,3-7"), "cut to what is free now");
    agent.desk().announce(&runtime.pods["b"].containers["main"].container.id, &set("0,3"));
    assert_eq!(runtime.change_cpus("b", "main", "0,3").unwrap(), set("0,3"), "a request that shrinks is not undone");
    assert_eq!(agent.desk().view().foreign.cpus, None, "none of it is somebody else's");
}

/// `kubectl debug`: an ephemeral container has neither requests nor limits, whatever the class of its pod.
#[tokio::test]
async fn a_container_to_debug_with_takes_nothing_from_the_pod_that_it_joins() {
    let spec = static_cpus("0");
    let (_, mut runtime, agent) = asked(&spec).await;
    runtime.run_pod(Guaranteed, "a", &[]);
    let sum = told(Ask::cpus(2), Guaranteed);
    runtime.pods.get_mut("a").unwrap().sandbox.pod_resources = Some(sum);
    runtime.create("a", "main", Ask::cpus(2)).unwrap();
    converge(&agent, &spec).await;
    assert_eq!(effective(&runtime, "a", "main"), set("1-2"));
    runtime.create("a", "debugger-x", Ask { milli: 0, memory: None }).unwrap();
    converge(&agent, &spec).await;
    assert_eq!(effective(&runtime, "a", "main"), set("1-2"), "it keeps its CPUs");
    assert_eq!(effective(&runtime, "a", "debugger-x"), set("0,3-7"), "the shared ones");
    let own: Vec<CpuSet> = agent.desk().view().places.into_iter().filter_map(|place| place.cpus).collect();
    assert_eq!(own, [set("1-2")]);
    // The main one crashes while somebody looks at it.
    runtime.exit("a", "main");
    converge(&agent, &spec).await;
    runtime.create("a", "main", Ask::cpus(2)).unwrap();
    assert_eq!(effective(&runtime, "a", "main"), set("1-2"));
}

/// KEP-2837: what a container leaves out is that of its pod, so it looks as if it asked for all of it.
#[tokio::test]
async fn containers_that_live_of_the_resources_of_their_pod_share_cpus_and_are_not_refused() {
    let spec = static_cpus("0");
    let (_, mut runtime, agent) = asked(&spec).await;
    runtime.run_pod(Guaranteed, "a", &[]);
    runtime.pods.get_mut("a").unwrap().sandbox.pod_resources = Some(told(Ask::cpus(4), Guaranteed));
    runtime.create("a", "one", Ask::cpus(4)).unwrap();
    runtime.create("a", "two", Ask::cpus(4)).unwrap();
    // What is as wide as everything need not be remembered, which the pass after notices.
    pass(&agent, &spec).await;
    converge(&agent, &spec).await;
    for name in ["one", "two"] {
        assert_eq!(effective(&runtime, "a", name), set("0-7"), "{name}");
    }
    assert!(agent.desk().view().places.iter().all(|place| place.cpus.is_none()));
}

#[tokio::test]
async fn annotations_of_cri_o_count_with_cri_o_only() {
    for (name, expected) in [("containerd", false), ("cri-o", true)] {
        let (_, mut runtime, agent) = asked(&static_cpus("0")).await;
        agent.desk().connected(&RuntimePeer {
            name: name.into(),
            version: "1.30".into(),
            nri: None,
            safe_unsolicited_updates: false,
        });
        runtime.run_pod(Guaranteed, "a", &[("cpu-load-balancing.crio.io", "disable")]);
        runtime.create("a", "main", Ask::cpus(1)).unwrap();
        let foreign = agent.desk().view().foreign.cpus;
        assert_eq!(foreign.is_some_and(|reason| reason.contains("cpu-load-balancing.crio.io")), expected, "{name}");
    }
}

#[tokio::test]
async fn annotations_of_cri_o_count_on_pods_that_ran_before() {
    for (name, expected) in [("containerd", false), ("cri-o", true)] {
        let spec = static_cpus("0");
        let (_, mut runtime, agent) = asked(&spec).await;
        runtime.run_pod(Guaranteed, "a", &[("cpu-quota.crio.io", "disable")]);
        let desk = agent.desk();
        // A session that begins: the pod has no container yet that anybody would be asked about.
        desk.disconnected();
        desk.connected(&RuntimePeer {
            name: name.into(),
            version: "1.30".into(),
            nri: None,
            safe_unsolicited_updates: false,
        });
        desk.synchronize(vec![runtime.pods["a"].sandbox.clone()], Vec::new());
        let said = |foreign: Option<String>| foreign.is_some_and(|reason| reason.contains("cpu-quota.crio.io"));
        assert_eq!(said(desk.view().foreign.cpus), expected, "{name}");
        // Who changes the settings does not make the annotation go away.
        converge(&agent, &spec).await;
        converge(&agent, &static_cpus("0,7")).await;
        assert_eq!(said(desk.view().foreign.cpus), expected, "{name}");
    }
}

/// A kubelet that says which CPUs it gives out.
struct SaysSo(&'static str);

impl KubeletAllocatable for SaysSo {
    fn exclusive_cpus(&self) -> Pin<Box<dyn Future<Output = Option<CpuSet>> + Send + '_>> {
        Box::pin(async { Some(set(self.0)) })
    }
}

#[tokio::test]
async fn a_kubelet_that_gives_out_cpus_is_let_be() {
    for (cpus, pinned) in [("", true), ("1-7", false)] {
        let node = node();
        let container = node.simple(Guaranteed, "aaaa", Ask::cpus(2));
        let agent = agent(&node).beside_kubelet(Arc::new(SaysSo(cpus)));
        let done = converge(&agent, &static_cpus("0")).await;
        assert_eq!(node.effective(&container) == set("1-2"), pinned, "kubelet says {cpus:?}");
        let said = done.plan.findings.iter().any(|finding| finding.message.contains("PodResources API"));
        assert_eq!(said, !pinned);
    }
}

#[tokio::test]
async fn pods_in_a_guest_are_left_alone_and_that_is_said() {
    let spec = static_cpus("0");
    let (_, mut runtime, agent) = asked(&spec).await;
    runtime.run_pod(Guaranteed, "a", &[]);
    runtime.pods.get_mut("a").unwrap().sandbox.runtime_handler = "kata-qemu".into();
    runtime.create("a", "main", Ask::cpus(2)).unwrap();
    assert_eq!(effective(&runtime, "a", "main"), set("0-7"));
    let done = converge(&agent, &spec).await;
    assert!(done.plan.findings.iter().any(|finding| finding.code == "pod-sandboxed"), "{:?}", done.plan.findings);
    runtime.run_pod(Guaranteed, "b", &[]);
    runtime.create("b", "main", Ask::cpus(2)).unwrap();
    assert_eq!(effective(&runtime, "b", "main"), set("1-2"));
}

#[tokio::test]
async fn an_annotation_gives_a_burstable_container_cpus_of_its_own_beside_the_shared_ones() {
    let mut spec = static_cpus("0");
    spec.resource_managers.as_mut().unwrap().extensions.pod_annotations = true;
    let (_, mut runtime, agent) = asked(&spec).await;
    runtime.run_pod(Burstable, "a", &[("trimtab.dev/exclusive-cpus.main", "2")]);
    runtime.create("a", "main", Ask { milli: 3000, memory: None }).unwrap();
    runtime.run_pod(Burstable, "b", &[]);
    runtime.create("b", "main", LITTLE).unwrap();
    runtime.run_pod(Guaranteed, "c", &[]);
    runtime.create("c", "main", Ask::cpus(1)).unwrap();
    let check = |runtime: &NodeRuntime| {
        assert_eq!(effective(runtime, "c", "main"), set("3"));
        assert_eq!(effective(runtime, "b", "main"), set("0,4-7"));
        assert_eq!(effective(runtime, "a", "main"), set("0-2,4-7"), "its own, and the shared ones");
    };
    check(&runtime);
    converge(&agent, &spec).await;
    check(&runtime);
    runtime.run_pod(Burstable, "d", &[("trimtab.dev/exclusive-cpus.main", "many")]);
    let refused = runtime.create("d", "main", Ask { milli: 3000, memory: None }).unwrap_err();
    assert!(refused.message.contains("\"many\" is no number of CPUs"), "{refused}");
}

#[tokio::test]
async fn without_the_extension_a_resize_of_exclusive_cpus_is_infeasible() {
    let (_, mut runtime, _) = asked(&static_cpus("0")).await;
    runtime.run_pod(Guaranteed, "a", &[]);
    runtime.create("a", "main", Ask::cpus(2)).unwrap();
    let refused = runtime.resize("a", "main", Ask::cpus(3)).unwrap_err();
    assert_eq!(refused.reason, "Infeasible");
    assert_eq!(effective(&runtime, "a", "main"), set("1-2"));
    runtime.resize("a", "main", Ask { milli: 2000, memory: Some(2 << 30) }).unwrap();
}

#[tokio::test]
async fn events_of_what_nobody_knows_change_nothing() {
    use trimtab::ports::admission::Lifecycle;
    let (_, mut runtime, agent) = asked(&static_cpus("0")).await;
    runtime.run_pod(Guaranteed, "a", &[]);
    runtime.create("a", "main", Ask::cpus(2)).unwrap();
    let (mut sandbox, container) = container(&runtime, "a", 7);
    let desk = agent.desk();
    assert!(desk.stop(&sandbox, &container).is_empty());
    desk.event(Lifecycle::ContainerRemoved, &sandbox, Some(&container));
    sandbox.id = SandboxId("other".into());
    sandbox.uid.0 = "elsewhere".into();
    desk.event(Lifecycle::SandboxStopped, &sandbox, None);
    desk.event(Lifecycle::SandboxRemoved, &sandbox, None);
    let places = desk.view().places;
    assert_eq!((places.len(), places[0].cpus.clone()), (1, Some(set("1-2"))));
}
