//! Pods come and go at random, others meddle, the agent restarts: no CPU is ever given twice.

use std::collections::BTreeMap;

use proptest::prelude::*;
use trimtab_domain::cgroup::Version;
use trimtab_domain::cpuset::CpuSet;
use trimtab_domain::spec::cgroup::CgroupDriver;
use trimtab_domain::workload::QosClass::{self, BestEffort, Burstable, Guaranteed};

use super::{agent, converge, static_cpus};
use crate::laws::dry_run;
use crate::support::fake_cgroups::{Ask, FakeCgroups, Shape};

/// What happens between two passes.
#[derive(Debug, Clone)]
enum Event {
    Start {
        qos: QosClass,
        milli: u64,
    },
    /// One more container in the pod of another.
    Join {
        container: usize,
        milli: u64,
    },
    Stop(usize),
    Meddle {
        container: usize,
        bits: u32,
    },
    Restart,
    LoseLedger,
}

fn event() -> impl Strategy<Value = Event> {
    let ask = prop_oneof![Just(1000_u64), Just(2000), Just(3000), Just(1500), Just(500)];
    let qos = prop_oneof![3 => Just(Guaranteed), 1 => Just(Burstable), 1 => Just(BestEffort)];
    prop_oneof![
        5 => (qos, ask.clone()).prop_map(|(qos, milli)| Event::Start { qos, milli }),
        2 => (any::<usize>(), ask).prop_map(|(container, milli)| Event::Join { container, milli }),
        3 => any::<usize>().prop_map(Event::Stop),
        2 => (any::<usize>(), 1_u32..4096).prop_map(|(container, bits)| Event::Meddle { container, bits }),
        1 => Just(Event::Restart),
        1 => Just(Event::LoseLedger),
    ]
}

/// A running container.
struct Running {
    pod: String,
    qos: QosClass,
    path: String,
    whole: Option<usize>,
}

async fn check(node: &FakeCgroups, running: &[Running], reserved: &CpuSet, known: &mut BTreeMap<String, CpuSet>) {
    let spec = static_cpus(&reserved.to_string());
    let (agent, view) = trimtab::subsystems::pinning::Pinning::new(node.ports());
    let view = {
        dry_run(&agent, &spec).await;
        view.borrow().clone()
    };
    let exclusive: BTreeMap<&str, CpuSet> = view
        .pods
        .iter()
        .flat_map(|pod| &pod.containers)
        .filter(|container| !container.exclusive_cpus.is_empty())
        .map(|container| (container.id.0.as_str(), container.exclusive_cpus.iter().copied().collect()))
        .collect();
    let mut taken = CpuSet::new();
    for (id, cpus) in &exclusive {
        assert!(cpus.is_disjoint(&taken), "CPUs {cpus} are given twice ({id})");
        assert!(cpus.is_disjoint(reserved), "reserved CPUs are given to {id}");
        taken.insert_all(cpus);
    }
    let mut now = BTreeMap::new();
    for container in running {
        let id = container.path.trim_end_matches(".scope").rsplit(['/', '-']).next().unwrap();
        let effective = node.effective(&container.path);
        match exclusive.get(id) {
            Some(cpus) => {
                assert_eq!(Some(cpus.len()), container.whole, "{}", container.path);
                assert_eq!(&effective, cpus, "{}", container.path);
                now.insert(container.path.clone(), cpus.clone());
            }
            None => assert!(effective.is_disjoint(&taken), "{} shares {effective} of {taken}", container.path),
        }
        if let (Some(before), Some(after)) = (known.get(&container.path), now.get(&container.path)) {
            assert_eq!(before, after, "{} was moved", container.path);
        }
    }
    assert!(
        known.keys().all(|path| now.contains_key(path) || running.iter().all(|c| &c.path != path)),
        "a pin was lost"
    );
    *known = now;
}

fn whole_cpus(qos: QosClass, milli: u64) -> Option<usize> {
    (qos == Guaranteed && milli.is_multiple_of(1000)).then(|| usize::try_from(milli / 1000).unwrap())
}

async fn play(version: Version, driver: CgroupDriver, events: Vec<Event>) {
    let shape = Shape { nodes: 2, cores_per_node: 3, threads: 2 };
    let node = FakeCgroups::new(version, driver, shape);
    let reserved = CpuSet::parse("0,6").unwrap();
    let spec = static_cpus("0,6");
    let (mut running, mut known, mut held) = (Vec::<Running>::new(), BTreeMap::new(), agent(&node));
    for (number, event) in events.into_iter().enumerate() {
        match event {
            Event::Start { qos, milli } => {
                // Names in no order of age.
                let uid = format!("{:04x}", number * 7919 % 65536);
                let ask = if qos == BestEffort {
                    Ask { milli: 0, memory: None }
                } else {
                    Ask { milli, memory: Some(1 << 28) }
                };
                let pod = node.pod(qos, &uid);
                let path = node.container(&pod, qos, 1, ask);
                let whole = whole_cpus(qos, milli);
                running.push(Running { pod, qos, path, whole });
            }
            Event::Join { container, milli } if !running.is_empty() => {
                let Running { pod, qos, .. } = &running[container % running.len()];
                let (pod, qos) = (pod.clone(), *qos);
                let ask = if qos == BestEffort {
                    Ask { milli: 0, memory: None }
                } else {
                    Ask { milli, memory: Some(1 << 28) }
                };
                let path = node.container(&pod, qos, u32::try_from(number).unwrap() + 2, ask);
                running.push(Running { pod, qos, path, whole: whole_cpus(qos, milli) });
            }
            Event::Stop(which) if !running.is_empty() => {
                let gone = running.remove(which % running.len());
                let alone = running.iter().all(|other| other.pod != gone.pod);
                node.vanish(if alone { &gone.pod } else { &gone.path });
                known.remove(&gone.path);
            }
            Event::LoseLedger => node.ledger.lose(),
            Event::Meddle { container, bits } if !running.is_empty() => {
                let set: CpuSet = (0..shape.cpus()).filter(|cpu| bits >> cpu & 1 == 1).collect();
                node.drift(&running[container % running.len()].path, "cpuset.cpus", &set.to_string());
            }
            Event::Restart => held = agent(&node),
            Event::Join { .. } | Event::Stop(_) | Event::Meddle { .. } => {}
        }
        converge(&held, &spec).await;
        check(&node, &running, &reserved, &mut known).await;
        node.host.take_attempts();
        converge(&held, &spec).await;
        assert_eq!(node.host.take_attempts(), 0, "a second pass wrote");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn no_cpu_is_ever_given_twice(
        v1 in any::<bool>(),
        systemd in any::<bool>(),
        events in proptest::collection::vec(event(), 1..24),
    ) {
        let version = if v1 { Version::V1 } else { Version::V2 };
        let driver = if systemd { CgroupDriver::Systemd } else { CgroupDriver::Cgroupfs };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(play(version, driver, events));
    }
}
