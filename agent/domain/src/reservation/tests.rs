//! Sums and faults of reservations.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::topology::{CpuInfo, NumaNode};

/// Two NUMA nodes of 8 GiB, CPUs 0-7.
fn machine() -> Machine {
    let cpu = |cpu| CpuInfo { cpu, core: cpu, socket: 0, numa: cpu / 4, uncore_cache: None };
    let node = |id| NumaNode { id, memory_bytes: 8 << 30, hugepages: Vec::new(), distances: Vec::new() };
    Machine::new(&(0..8).map(cpu).collect::<Vec<_>>(), vec![node(0), node(1)], None).unwrap()
}

type Texts<'a> = &'a [(&'a str, &'a str)];

fn spec(kube: Texts<'_>, system: Texts<'_>, eviction: Texts<'_>, cpus: &str) -> ResourceManagersSpec {
    let map = |texts: Texts<'_>| texts.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    ResourceManagersSpec {
        kube_reserved: map(kube),
        system_reserved: map(system),
        eviction_hard: map(eviction),
        reserved_system_cpus: cpus.to_owned(),
        ..ResourceManagersSpec::default()
    }
}

/// Sums as `cpu memory`, or the error.
fn shown(kube: Texts<'_>, system: Texts<'_>, eviction: Texts<'_>, cpus: &str) -> String {
    match NodeReservation::new(&spec(kube, system, eviction, cpus), &machine()) {
        Ok(reservation) => {
            let amount = |name| reservation.amounts.get(&name).map_or("-".to_owned(), ToString::to_string);
            format!("{} {}", amount(ResourceName::Cpu), amount(ResourceName::Memory))
        }
        Err(error) => error.to_string(),
    }
}

#[test]
fn reservations_add_up_and_a_cpu_list_replaces_their_cpus() {
    let memory = [("memory.available", "100Mi")];
    assert_eq!(shown(&[("cpu", "500m"), ("memory", "1Gi")], &[("cpu", "1")], &memory, ""), "1500m 1124Mi");
    assert_eq!(shown(&[("cpu", "4")], &[("cpu", "3")], &memory, "0,2"), "2 100Mi");
    assert_eq!(shown(&[("cpu", "0")], &[("pid", "1000")], &[], ""), "- -");
    assert_eq!(shown(&[], &[], &[("memory.available", "5%")], ""), "- 858993472");
    assert_eq!(shown(&[], &[], &[("memory.available", "100%"), ("nodefs.available", "10%")], ""), "- -");
}

#[test]
fn faults_are_found_in_the_order_of_the_kubelet() {
    let bad = [("memory.available", "0")];
    let rows = [
        (shown(&[("gpu", "1")], &[("cpu", "x")], &bad, "9"), "reserved-cpus: 9 is not a subset of online-cpus: 0-7"),
        (
            shown(&[("gpu", "1")], &[("cpu", "x")], &bad, ""),
            "--kube-reserved value failed to parse: cannot reserve \"gpu\" resource",
        ),
        (
            shown(&[], &[("cpu", "-1")], &bad, ""),
            "--system-reserved value failed to parse: resource quantity for \"cpu\" cannot be negative: -1",
        ),
        (shown(&[], &[], &bad, ""), "eviction threshold memory.available must be positive: 0"),
        (
            shown(&[], &[], &[("memory.available", "101%")], ""),
            "eviction percentage threshold memory.available must be <= 100%: 101%",
        ),
        (shown(&[], &[], &[("memory", "1Mi")], ""), "unsupported eviction signal memory"),
    ];
    for (got, expected) in rows {
        assert_eq!(got, expected);
    }
}

#[test]
fn capacity_is_compared_exactly() {
    let check = |cpu: &str| {
        let reservation = NodeReservation::new(&spec(&[], &[("cpu", cpu)], &[], ""), &machine()).unwrap();
        reservation.check_capacity(&machine()).is_ok()
    };
    assert!(check("8"));
    assert!(!check("8001m"));
}
