//! Pods with resources of their own (gate `PodLevelResourceManagers`).

use super::*;

fn gated(options: &[&str]) -> CpuManager {
    let mut config = config(options, "0");
    config.gates.pod_level = true;
    let mut manager = CpuManager::new(Arc::new(B.machine()), &config).unwrap();
    manager.start(CpuState::default()).unwrap();
    manager
}

/// A pod with a CPU request of its own; containers with CPUs have as much memory as makes them Guaranteed.
fn whole(cpu: &str, containers: &[&str]) -> Pod {
    let memory = (ResourceName::Memory, "1Gi".parse().unwrap());
    let mut pod = pod("p", containers);
    for container in &mut pod.containers {
        container.resources.requests.insert(memory.0.clone(), memory.1);
        container.resources.limits.insert(memory.0.clone(), memory.1);
    }
    let own = BTreeMap::from([(ResourceName::Cpu, cpu.parse().unwrap()), memory]);
    pod.resources = Some(Resources { requests: own.clone(), limits: own });
    pod
}

#[test]
fn a_pod_shares_out_its_bubble() {
    let mut manager = gated(&[]);
    let pod = whole("6", &["i:init:4", "s:sidecar:1", "i:later:500m", "a:own:2", "a:rest:1500m"]);
    manager.allocate_pod(&pod, &TopologyHint::new(NumaMask(0b10), true)).unwrap();
    let parts: Vec<_> = pod.containers.iter().map(|c| owned(&manager, &pod, &c.name)).collect();
    assert_eq!(parts, ["4-5,12-13", "4", "5-6,12-14", "5,13", "6,12,14"]);
    assert_eq!(manager.state().pods.get(&pod.uid), Some(&set("4-6,12-14")));
    let saved = manager.state().clone();
    manager.start(saved).unwrap();
    manager.retain_active(|_, container| container == "own");
    assert_eq!(manager.state().default_cpu_set, set("0-3,7-11,15"), "the bubble lasts as long as its last container");
    manager.retain_active(|_, _| false);
    assert_eq!(manager.state().default_cpu_set, set("0-15"));
}

#[test]
fn a_bubble_without_room_for_shared_containers_is_refused() {
    let rows = [
        (vec!["a:own:2", "a:rest:0"], AllocationError::EmptyPodSharedPool),
        (vec!["s:sidecar:2", "i:init:0", "a:own:0"], AllocationError::EmptyPodSharedPoolForInit),
    ];
    for (containers, error) in rows {
        let mut manager = gated(&[]);
        let pod = whole("2", &containers);
        assert_eq!(manager.hints_for_pod(&pod), ProviderHints::impossible(ResourceName::Cpu), "{containers:?}");
        assert_eq!(manager.allocate_pod(&pod, &TopologyHint::NONE), Err(error), "{containers:?}");
        assert!(manager.state().assignments.is_empty());
    }
}

#[test]
fn pods_without_a_whole_request_have_no_bubble() {
    let mut manager = gated(&[]);
    let pod = whole("1500m", &["a:own:1"]);
    assert!(manager.hints_for_pod(&pod).is_empty());
    manager.allocate_pod(&pod, &TopologyHint::NONE).unwrap();
    assert!(manager.state().pods.is_empty());
    admit(&mut manager, &pod).unwrap();
    assert_eq!(owned(&manager, &pod, "own"), "8", "container by container under any other scope");
}

#[test]
fn whole_cores_are_promised_to_the_pod_and_not_to_its_containers() {
    let mut manager = gated(&["full-pcpus-only"]);
    let odd = whole("3", &["a:own:1"]);
    let error = manager.allocate_pod(&odd, &TopologyHint::NONE).unwrap_err();
    assert_eq!(error.to_string(), "SMT Alignment Error: requested 3 cpus not multiple cpus per core = 2");
    let even = whole("4", &["a:own:1"]);
    manager.allocate_pod(&even, &TopologyHint::NONE).unwrap();
    assert_eq!(owned(&manager, &even, "own"), "1");
}
