//! What the kubelet cannot do.

use super::*;

fn extended(shape: Shape, options: &[&str], reserved: &str, extensions: CpuExtensions) -> CpuManager {
    extended_on(shape.machine(), options, reserved, extensions)
}

fn extended_on(machine: Machine, options: &[&str], reserved: &str, extensions: CpuExtensions) -> CpuManager {
    let config = CpuConfig { extensions, ..config(options, reserved) };
    let mut manager = CpuManager::new(Arc::new(machine), &config).unwrap();
    manager.start(CpuState::default()).unwrap();
    manager
}

fn annotated(containers: &[&str], annotations: &[(&str, &str)]) -> Pod {
    let annotations = annotations.iter().map(|(key, value)| (format!("trimtab.dev/{key}"), (*value).to_owned()));
    Pod { qos: QosClass::Burstable, annotations: annotations.collect(), ..pod("p", containers) }
}

#[test]
fn annotations_give_cpus_to_containers_of_any_pod() {
    let on = CpuExtensions { annotations: true, ..CpuExtensions::default() };
    let mut manager = extended(A, &[], "0", on);
    let pod = annotated(
        &["a:own:2", "a:both:1500m", "a:asked:1", "a:rest:3"],
        &[
            ("exclusive-cpus.own", "2"),
            ("exclusive-cpus.both", "1"),
            ("exclusive-cpus.asked", "1"),
            ("shared-cpus.asked", "true"),
        ],
    );
    admit(&mut manager, &pod).unwrap();
    let run: Vec<_> = pod.containers.iter().map(|c| manager.runs_on(&pod, c).unwrap().to_string()).collect();
    assert_eq!(run, ["1,5", "0,3-4,6-7", "0,2-3,6-7", "0,3,6-7"]);
}

#[test]
fn annotations_mean_nothing_unless_turned_on() {
    let mut manager = manager(A, &[], "0");
    let pod = annotated(&["a:c:2"], &[("exclusive-cpus.c", "nonsense")]);
    admit(&mut manager, &pod).unwrap();
    assert_eq!(manager.claim(&pod, &pod.containers[0]), Ok(CpuClaim::Shared(SharedReason::QosClass)));
}

#[test]
fn annotations_that_cannot_be_granted_are_refused() {
    let on = CpuExtensions { annotations: true, ..CpuExtensions::default() };
    for (key, value, problem) in [
        ("exclusive-cpus.c", "two", "is no number of CPUs"),
        ("exclusive-cpus.c", "-1", "is no number of CPUs"),
        ("exclusive-cpus.c", "3", "is more than the container requests"),
        ("shared-cpus.c", "yes", "is neither true nor false"),
    ] {
        let mut manager = extended(A, &[], "0", on);
        let error = admit(&mut manager, &annotated(&["a:c:2"], &[(key, value)])).unwrap_err();
        assert_eq!(error.to_string(), format!("annotation trimtab.dev/{key}: {value:?} {problem}"));
        assert!(manager.state().assignments.is_empty());
    }
}

#[test]
fn an_annotation_can_keep_a_guaranteed_container_on_shared_cpus() {
    let on = CpuExtensions { annotations: true, ..CpuExtensions::default() };
    let mut manager = extended(A, &[], "0", on);
    let pod = Pod { qos: QosClass::Guaranteed, ..annotated(&["a:c:2", "a:d:2"], &[("exclusive-cpus.d", "0")]) };
    admit(&mut manager, &pod).unwrap();
    assert_eq!((owned(&manager, &pod, "c").as_str(), owned(&manager, &pod, "d").as_str()), ("1,5", ""));
}

#[test]
fn isolated_cpus_are_never_shared() {
    let machine = || A.machine().with_isolated(&set("0,2-3,6-7"));
    let exclusive = CpuExtensions { isolated: IsolatedCpus::ExclusiveOnly, ..CpuExtensions::default() };
    let mut manager = extended_on(machine(), &[], "0", exclusive);
    assert_eq!(manager.state().default_cpu_set, set("0-1,4-5"), "CPU 0 is reserved before it is isolated");
    let (two, three) = (pod("two", &["a:c:2"]), pod("three", &["a:c:3"]));
    admit(&mut manager, &two).unwrap();
    assert_eq!(owned(&manager, &two, "c"), "2,6", "isolated CPUs come first");
    admit(&mut manager, &three).unwrap();
    assert_eq!(owned(&manager, &three, "c"), "1,4-5", "two isolated CPUs do not hold three");
    let saved = manager.state().clone();
    manager.start(saved.clone()).unwrap();
    assert_eq!(*manager.state(), saved);
    manager.retain_active(|_, _| false);
    assert_eq!(manager.state().default_cpu_set, set("0-1,4-5"));

    let untouched = CpuExtensions { isolated: IsolatedCpus::Untouched, ..CpuExtensions::default() };
    let mut manager = extended_on(machine(), &[], "0", untouched);
    assert_eq!(manager.allocatable(), set("1,4-5"));
    assert!(admit(&mut manager, &pod("four", &["a:c:4"])).is_err());
    admit(&mut manager, &three).unwrap();
    assert_eq!(
        (owned(&manager, &three, "c"), manager.state().default_cpu_set.to_string()),
        ("1,4-5".into(), "0".into())
    );
}

#[test]
fn a_resized_container_keeps_its_cpus() {
    let on = CpuExtensions { resize: true, ..CpuExtensions::default() };
    let mut manager = extended(B, &[], "0", on);
    let hint = TopologyHint::new(NumaMask(0b10), true);
    let sized = |count: usize| pod("p", &[format!("a:c:{count}").as_str()]);
    let mut resize = |count: usize, hint: TopologyHint| {
        let pod = sized(count);
        manager.allocate(&pod, &pod.containers[0], &hint).map(|()| {
            check_invariants(&manager, &Arc::clone(manager.machine()), false);
            owned(&manager, &pod, "c")
        })
    };
    assert_eq!(resize(2, hint).unwrap(), "4,12");
    assert_eq!(resize(4, TopologyHint::NONE).unwrap(), "4-5,12-13", "grows on its own node");
    assert_eq!(resize(3, TopologyHint::NONE).unwrap(), "4-5,12");
    assert_eq!(resize(9, TopologyHint::NONE).unwrap(), "4-8,12-15", "then beyond it");
    assert!(resize(16, TopologyHint::NONE).is_err(), "CPU 0 is reserved");
    assert_eq!(resize(8, TopologyHint::NONE).unwrap(), "4-7,12-15", "the refusal changed nothing");
    assert_eq!(resize(0, TopologyHint::NONE).unwrap(), "", "back to the shared CPUs");
}

#[test]
fn random_resizes_keep_every_invariant_and_every_cpu_that_can_be_kept() {
    let on = CpuExtensions { resize: true, annotations: true, isolated: IsolatedCpus::ExclusiveOnly };
    let isolated = set("6-9,20-23");
    let mut manager = extended_on(C.machine().with_isolated(&isolated), &[], "0", on);
    let mut random = SmallRng::seed_from_u64(7);
    for step in 0..10_000 {
        let uid = format!("pod-{}", random.random_range(0..8));
        let size = random.random_range(0..10);
        let pod = pod(&uid, &[format!("a:c:{size}").as_str()]);
        let container = &pod.containers[0];
        let before = manager.state().cpus_of(&pod.uid, "c").cloned().unwrap_or_default();
        let nodes = NumaMask(random.random_range(1..16));
        if manager.allocate(&pod, container, &TopologyHint::new(nodes, true)).is_ok() {
            let after = manager.state().cpus_of(&pod.uid, "c").cloned().unwrap_or_default();
            assert_eq!(after.len(), size, "step {step}");
            assert_eq!(after.intersection_len(&before), size.min(before.len()), "step {step}: {before} became {after}");
        } else {
            assert_eq!(manager.state().cpus_of(&pod.uid, "c").cloned().unwrap_or_default(), before, "step {step}");
        }
        let (shared, owned) = (&manager.state().default_cpu_set, manager.state().assigned());
        assert!(shared.is_disjoint(&isolated) && shared.is_disjoint(&owned) && shared.contains(0), "step {step}");
        assert_eq!(shared.union(&owned).union(&isolated).len(), 32, "step {step}");
        let sizes: usize = manager.state().iter().map(|(_, _, cpus)| cpus.len()).sum();
        assert_eq!(sizes, owned.len(), "step {step}: a CPU is owned twice");
    }
}

#[test]
fn hints_for_a_resize_hold_the_nodes_where_the_container_is() {
    let on = CpuExtensions { resize: true, ..CpuExtensions::default() };
    let mut manager = extended(B, &[], "0", on);
    let small = pod("p", &["a:c:2"]);
    manager.allocate(&small, &small.containers[0], &TopologyHint::new(NumaMask(0b10), true)).unwrap();
    let list = |count: usize| {
        let pod = pod("p", &[format!("a:c:{count}").as_str()]);
        let both = [manager.hints_for_container(&pod, &pod.containers[0]), manager.hints_for_pod(&pod)];
        let masks = |hints: &ProviderHints| -> Vec<u64> {
            hints.resources()[0].hints.as_slice().iter().map(|hint| hint.affinity.unwrap().0).collect()
        };
        assert_eq!(masks(&both[0]), masks(&both[1]));
        masks(&both[0])
    };
    assert_eq!(list(8), [0b10, 0b11]);
    assert_eq!(list(9), [0b11]);
    assert_eq!(list(1), [0b10, 0b11]);
}

#[test]
fn a_decision_is_explained_step_by_step() {
    let mut manager = manager(B, &[], "0");
    let pod = pod("p", &["i:init:2", "a:app:11", "a:shared:500m"]);
    let hint = TopologyHint::new(NumaMask(0b10), true);
    let [init, app, shared] = pod.containers.as_slice() else { panic!("three containers") };
    manager.allocate(&pod, init, &hint).unwrap();

    let why = manager.explain(&pod, app, &hint).unwrap();
    let step = |reason, cpus| PickStep { reason, cpus: set(cpus) };
    let steps = [
        step(PickReason::WholeNumaNode(1), "4-7,12-15"),
        step(PickReason::WholeCore(1), "1,9"),
        step(PickReason::PartOfCore(0), "8"),
    ];
    assert_eq!(why.steps, steps);
    assert_eq!(why.claim, CpuClaim::Exclusive { cpus: 11, and_shared: false });
    assert_eq!((why.reusable, why.inside), (set("4,12"), Some(set("4-7,12-15"))));
    assert_eq!((why.offered, why.cpus), (set("1-15"), set("1,4-9,12-15")));
    assert_eq!(manager.state().cpus_of(&pod.uid, "app"), None, "nothing has changed");

    let why = manager.explain(&pod, shared, &hint).unwrap();
    assert_eq!((why.claim, why.steps), (CpuClaim::Shared(SharedReason::NotWhole), Vec::new()));
    assert_eq!(why.cpus, manager.state().default_cpu_set);
    let why = manager.explain(&pod, init, &hint).unwrap();
    assert_eq!((why.owned, why.cpus), (Some(set("4,12")), set("4,12")));
}

#[test]
fn an_even_distribution_is_explained_by_its_shares() {
    let manager = manager(B, &["distribute-cpus-across-numa"], "0");
    let pod = pod("p", &["a:c:9"]);
    let why = manager.explain(&pod, &pod.containers[0], &TopologyHint::NONE).unwrap();
    assert_eq!(why.shares, [NodeShare { node: 0, cpus: 4 }, NodeShare { node: 1, cpus: 5 }]);
    assert_eq!(why.steps.iter().map(|step| step.cpus.len()).sum::<usize>(), 9);
}
