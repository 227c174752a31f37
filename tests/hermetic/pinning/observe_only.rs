//! While the kubelet pins by itself nothing is written, and its own record is shown.

use trimtab::ports::Watch;
use trimtab::reconcile::Subsystem;
use trimtab::subsystems::pinning::Pinning;
use trimtab_domain::cgroup::Version;
use trimtab_domain::spec::NodeSpec;
use trimtab_domain::spec::cgroup::CgroupDriver;
use trimtab_domain::workload::QosClass;

use super::{converge, static_cpus};
use crate::laws::{dry_run, pass, texts};
use crate::support::fake_cgroups::{Ask, FakeCgroups, Shape, id};

const STATE: &str = "/var/lib/kubelet/cpu_manager_state";

fn node() -> FakeCgroups {
    let node = FakeCgroups::new(Version::V2, CgroupDriver::Systemd, Shape { nodes: 1, cores_per_node: 4, threads: 1 });
    node.simple(QosClass::Guaranteed, "aaaa", Ask::cpus(1));
    node
}

#[tokio::test]
async fn a_static_kubelet_is_left_alone_and_its_record_is_shown() {
    let node = node();
    let state = r#"{"policyName":"static","defaultCpuSet":"0,2-3","entries":{"aaaa":{"c1":"1"}},"checksum":7}"#;
    node.host.file(STATE, state);
    let (agent, view) = Pinning::new(node.ports());
    let done = pass(&agent, &static_cpus("0")).await;
    assert!(done.plan.is_empty());
    assert!(
        done.plan.findings.iter().any(|finding| finding.code == "pinning-observe-only"),
        "{:?}",
        done.plan.findings
    );
    assert_eq!(node.host.take_attempts(), 0);
    let shown = view.borrow().clone();
    assert!(shown.observe_only.as_deref().is_some_and(|reason| reason.contains("cpu_manager_state")));
    assert_eq!(shown.pods[0].containers[0].exclusive_cpus, [1]);
    assert_eq!(shown.shared_cpus, [0, 2, 3]);
    // Without a wish there is nothing to say, but still something to show.
    let plan = dry_run(&agent, &NodeSpec::default()).await;
    assert_eq!((plan.is_empty(), plan.findings.len()), (true, 0));
    assert_eq!(view.borrow().pods[0].containers[0].exclusive_cpus, [1]);
    assert_eq!(view.borrow().observe_only, None);
}

#[tokio::test]
async fn the_configuration_of_the_kubelet_counts_too() {
    let node = node();
    let config = "kind: KubeletConfiguration\ncpuManagerPolicy: static\nreservedSystemCPUs: \"0\"\n";
    node.host.file("/var/lib/kubelet/config.yaml", config);
    let (agent, view) = Pinning::new(node.ports());
    let plan = dry_run(&agent, &static_cpus("0")).await;
    assert!(plan.is_empty());
    let shown = view.borrow().clone();
    assert!(shown.observe_only.as_deref().is_some_and(|reason| reason.contains("/var/lib/kubelet/config.yaml")));
    assert_eq!((shown.allocatable_cpus.clone(), shown.reserved_cpus.clone()), (vec![1, 2, 3], vec![0]));
}

/// Its state files say so, and a look at them must not wait for the resync. The kernel's side is tested with the program.
#[tokio::test]
async fn where_the_kubelet_keeps_its_state_is_watched_as_long_as_something_is_wished() {
    let node = node();
    let agent = Pinning::new(node.ports()).0;
    for (spec, expected) in [(static_cpus("0"), true), (NodeSpec::default(), false)] {
        let observed = agent.observe(&spec.resource_managers).await.unwrap();
        let watches = Pinning::watches(&spec.resource_managers, &observed);
        assert_eq!(watches.contains(&Watch::Directory("/var/lib/kubelet".into())), expected, "{watches:?}");
    }
}

#[tokio::test]
async fn a_kubelet_that_begins_to_pin_finds_pins_as_they_were_and_leaves_them_so() {
    let node = node();
    let kept = node.simple(QosClass::Guaranteed, "bbbb", Ask::cpus(1));
    let agent = Pinning::new(node.ports()).0;
    converge(&agent, &static_cpus("0")).await;
    let held = node.cpusets();
    node.host.file(STATE, r#"{"policyName":"static","defaultCpuSet":"0-3","checksum":7}"#);
    node.host.take_attempts();
    let later = node.simple(QosClass::Guaranteed, "cccc", Ask::cpus(1));
    let plan = pass(&agent, &static_cpus("0")).await.plan;
    assert_eq!((texts(&plan), node.host.take_attempts()), (Vec::<String>::new(), 0));
    assert!(plan.findings.iter().any(|finding| finding.code == "pinning-observe-only"), "{:?}", plan.findings);
    assert!(held.iter().all(|(path, text)| node.cpusets().get(path) == Some(text)), "pins stay");
    assert_eq!(node.effective(&later).len(), 4, "nobody is pinned any more");
    // It was a slip, and is corrected once the pod that came first is gone.
    let first = node.path_of(&id("aaaa", 1)).unwrap();
    node.vanish(first.rsplit_once('/').unwrap().0);
    node.host.file(STATE, r#"{"policyName":"none","defaultCpuSet":"","checksum":1}"#);
    converge(&agent, &static_cpus("0")).await;
    assert_eq!(node.effective(&kept).to_string(), "2", "who was pinned does not move");
    assert_eq!(node.effective(&later).to_string(), "1");
}

#[tokio::test]
async fn other_policies_and_torn_records_are_no_obstacle() {
    for (state, finding) in [
        (r#"{"policyName":"none","defaultCpuSet":"","checksum":1353318690}"#, None),
        (r#"{"policyName":"none","#, Some("kubelet-unclear")),
        ("", Some("kubelet-unclear")),
        (r#"{"policyName":"none","defaultCpuSet":"3-1","checksum":1}"#, Some("kubelet-unclear")),
    ] {
        let node = node();
        node.host.file(STATE, state);
        let plan = dry_run(&Pinning::new(node.ports()).0, &static_cpus("0")).await;
        assert!(!plan.is_empty(), "{state}");
        assert_eq!(plan.findings.first().map(|finding| finding.code), finding, "{state}");
    }
}
