//! What each fuzz target does with its input: it must answer, and what it accepts must survive printing.

use trimtab_domain::cgroup::tree::hugepage_resource;
use trimtab_domain::cgroup::{
    CgroupMounts, CgroupRoot, CpuControl, literal_systemd_path, parse_cpu_max, parse_leaf, parse_limit, parse_quota_v1,
    parse_weight,
};
use trimtab_domain::checkpoint::{
    InitialContainers, Layout, read_cpu_state, read_memory_state, write_cpu_state, write_memory_state,
};
use trimtab_domain::cpuset::{CpuList, CpuSet};
use trimtab_domain::quantity::Quantity;
use trimtab_domain::reserved_memory::{ReservedMemoryFlag, faults};
use trimtab_domain::spec::cgroup::CgroupDriver;
use trimtab_domain::sysctl::{HostNamespaces, KernelVersion, SysctlAllowlist, SysctlPattern, normalize};
use trimtab_domain::workload::QosClass;

use crate::replay::Target;

/// Every target of the domain's parsers.
pub const TARGETS: [Target; 6] = [
    ("cgroup", cgroup),
    ("cpuset", cpuset),
    ("quantity", quantity),
    ("checkpoint", checkpoint),
    ("reserved_memory", reserved_memory),
    ("sysctl", sysctl),
];

/// Names, mounts and values of cgroups: a pod's directory is named as it is read, requests never panic.
pub fn cgroup(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(mounts) = CgroupMounts::parse(text) {
        let any = mounts.unified().is_some() || mounts.controllers().any(|(name, _)| !name.starts_with("name="));
        assert_eq!(mounts.mode().is_some(), any);
    }
    let roots = [CgroupRoot::default()].into_iter().chain(CgroupRoot::parse(text));
    for layout in
        roots.flat_map(|root| [CgroupDriver::Systemd, CgroupDriver::Cgroupfs].map(|driver| root.layout(driver)))
    {
        let Some(layout) = layout else { continue };
        for qos in [QosClass::Guaranteed, QosClass::Burstable, QosClass::BestEffort] {
            let Some(uid) = layout.parse_pod(qos, text) else { continue };
            assert_eq!(
                layout.parse_pod(qos, layout.pod_directory(qos, &uid).rsplit('/').next().unwrap_or("")),
                Some(uid)
            );
        }
    }
    let _ = (parse_leaf(text), literal_systemd_path(text), hugepage_resource(text), parse_limit("memory.max", text));
    let quotas = [parse_cpu_max(text).ok(), parse_quota_v1(text, "100000").ok(), None];
    let weights = [parse_weight("cpu.shares", text).ok(), parse_weight("cpu.weight", text).ok(), None];
    for quota in quotas {
        for weight in weights {
            let control = CpuControl { weight, quota };
            let _ = (control.guaranteed_request_milli(), control.limit_milli(), control.asks_for_nothing());
        }
    }
}

/// CPU lists: the canonical form is a fixed point, and both readers agree.
pub fn cpuset(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let list = CpuList::parse(text);
    if let Ok(set) = CpuSet::parse(text) {
        let printed = set.to_string();
        assert_eq!(CpuSet::parse(&printed).as_ref(), Ok(&set), "printed {printed}");
        assert_eq!(list.map(|list| list.to_string()), Ok(printed));
    }
}

/// Quantities: printing keeps the value, and arithmetic never panics.
pub fn quantity(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(quantity) = Quantity::parse(text) else { return };
    let again = Quantity::parse(&quantity.to_string());
    // The canonical form may have more digits than a text may have: 1e38 printed with a fraction of a unit.
    if let Ok(again) = again {
        assert_eq!(again, quantity, "printed {quantity}");
    }
    let _ = (quantity.value(), quantity.milli_value(), quantity.as_int64());
    let _ = (quantity.checked_add(&quantity), quantity.checked_sub(&Quantity::from_milli(1)));
}

/// State files: what is read is written, and read again the same.
pub fn checkpoint(data: &[u8]) {
    for layout in [Layout::Container, Layout::Pod] {
        for policy in ["none", "static", "None", "Static"] {
            if let Ok(state) = read_cpu_state(data, policy, layout, &InitialContainers::new()) {
                let written = write_cpu_state(policy, &state, layout);
                let again = read_cpu_state(written.as_bytes(), policy, layout, &InitialContainers::new());
                assert_eq!(again.map(|s| s.default_cpu_set), Ok(state.default_cpu_set), "{written}");
            }
            if let Ok(state) = read_memory_state(data, policy, layout) {
                let written = write_memory_state(policy, &state, layout);
                // A null in the file is written as an empty map or list; from then on nothing changes.
                if let Ok(settled) = read_memory_state(written.as_bytes(), policy, layout) {
                    assert_eq!(write_memory_state(policy, &settled, layout), written);
                }
            }
        }
    }
}

/// The flag: every accepted value is printed, and the faults are found without a panic.
pub fn reserved_memory(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut flag = ReservedMemoryFlag::default();
    let all_accepted = text.split('\n').all(|value| flag.add(value).is_ok());
    let _ = (faults(flag.reservations()), flag.to_string());
    if all_accepted && !text.is_empty() {
        let groups: Vec<_> = text.split(['\n', ';']).filter(|group| !group.is_empty()).collect();
        assert_eq!(flag.reservations().len(), groups.len(), "{text}");
    }
}

/// Sysctl names and patterns: an accepted pattern without a star admits its own name.
pub fn sysctl(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = (KernelVersion::parse(text), normalize(text));
    if let Ok(list) = SysctlAllowlist::new([text]) {
        let SysctlPattern { name_or_prefix, is_prefix } = SysctlPattern::split(text);
        let admitted = list.admit([name_or_prefix.as_str()], HostNamespaces::default());
        assert!(is_prefix || admitted.is_ok(), "{text}: {admitted:?}");
        assert!(list.admit([text], HostNamespaces { network: true, ipc: true }).is_err(), "{text}");
    }
}
