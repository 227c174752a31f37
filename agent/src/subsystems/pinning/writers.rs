//! Through whom a container's cgroup is written: the runtime (over CRI, else over NRI), else systemd, else the file itself.
//!
//! Whoever made a cgroup remembers what it ordered and orders it again: the runtime with its next update, systemd with
//! the next `daemon-reload`. So what is written past them does not last. Nothing is read or written here.

use std::collections::BTreeSet;

use trimtab_domain::cgroup::tree::{ContainerCgroup, PodCgroup, PodTree};
use trimtab_domain::cgroup::{Quota, Version, parse_cpu_max};
use trimtab_domain::cpuset::CpuSet;
use trimtab_domain::spec::cgroup::CgroupDriver;
use trimtab_domain::workload::ContainerId;

use super::facts::{CPUS, MEMS};
use crate::ports::runtime::ResourceChange;
use crate::ports::units::UnitChange;

/// File with the bound of CPU time, of version 1 and 2.
pub(super) const QUOTA: [&str; 2] = ["cpu.cfs_quota_us", "cpu.max"];

/// The file with the bound of CPU time.
pub(super) const fn quota_file(version: Version) -> &'static str {
    match version {
        Version::V1 => QUOTA[0],
        Version::V2 => QUOTA[1],
    }
}

/// Who makes a write.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Via {
    /// The agent itself, into the file.
    #[default]
    File,
    /// The container runtime (CRI), which keeps it in the specification of the container.
    Runtime(ContainerId),
    /// The same over the session in which it asks (NRI), where CRI is away and it is known to survive that.
    Plugin(ContainerId),
    /// systemd as a property of this unit, and the agent into the file at once, as runc and crun do: systemd writes a
    /// moment after it has answered.
    Unit(String),
}

/// Who answers at the moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Writers {
    /// Containers that the runtime knows and has not refused to change; empty if none answers.
    pub runtime: BTreeSet<ContainerId>,
    /// The same over NRI; empty while it answers over CRI, or might lock up.
    pub plugin: BTreeSet<ContainerId>,
    /// systemd answers and has not refused.
    pub units: bool,
}

impl Writers {
    /// The safest writer for the sets of a container.
    pub(super) fn for_container(&self, tree: &PodTree, container: &ContainerCgroup) -> Via {
        if self.plugin.contains(&container.id) {
            return Via::Plugin(container.id.clone());
        }
        self.for_container_quota(tree, container)
    }

    /// The same for its CPU time, of which NRI can only say that it is not bounded.
    pub(super) fn for_container_quota(&self, tree: &PodTree, container: &ContainerCgroup) -> Via {
        if self.runtime.contains(&container.id) {
            return Via::Runtime(container.id.clone());
        }
        // `AllowedCPUs` is for version 2 only (systemd.resource-control(5)).
        self.for_unit(tree, &container.cpuset.path, tree.version == Version::V2)
    }

    /// The safest writer for the CPU time of a pod: no runtime knows its cgroup.
    pub(super) fn for_pod_quota(&self, tree: &PodTree, pod: &PodCgroup) -> Via {
        self.for_unit(tree, &pod.cpuset.path, true)
    }

    fn for_unit(&self, tree: &PodTree, path: &str, able: bool) -> Via {
        let name = path.rsplit('/').next().unwrap_or(path);
        let is_unit = name.ends_with(".scope") || name.ends_with(".slice");
        let by_systemd = self.units && able && is_unit && tree.driver == CgroupDriver::Systemd;
        if by_systemd { Via::Unit(name.to_owned()) } else { Via::File }
    }
}

/// What a write to a file means to the runtime; `None`: it cannot be said to it.
pub(super) fn as_resources(file: &str, text: &str) -> Option<ResourceChange> {
    let set = || CpuSet::parse(text).ok().filter(|set| !set.is_empty());
    Some(match file {
        CPUS => ResourceChange { cpus: Some(set()?), ..ResourceChange::default() },
        MEMS => ResourceChange { mems: Some(set()?), ..ResourceChange::default() },
        _ => {
            let (quota, period) = parse_bound(file, text)?;
            // A quota that is not said (0) stays as it is; -1 lifts it.
            let quota = quota.map_or(Some(-1), |quota| i64::try_from(quota).ok())?;
            ResourceChange { cpu_quota_us: Some(quota), cpu_period_us: period, ..ResourceChange::default() }
        }
    })
}

/// What a write to a file means to systemd.
pub(super) fn as_properties(file: &str, text: &str) -> Option<UnitChange> {
    /// The kernel's, systemd's and the kubelet's.
    const DEFAULT_PERIOD_US: u64 = 100_000;
    let set = || CpuSet::parse(text).ok();
    Some(match file {
        CPUS => UnitChange { cpus: Some(set()?), ..UnitChange::default() },
        MEMS => UnitChange { mems: Some(set()?), ..UnitChange::default() },
        _ => {
            let (quota_us, period_us) = parse_bound(file, text)?;
            let quota = Quota { quota_us, period_us: period_us.unwrap_or(DEFAULT_PERIOD_US) };
            UnitChange { quota: Some(quota), ..UnitChange::default() }
        }
    })
}

/// Quota and period, as far as the file tells them.
fn parse_bound(file: &str, text: &str) -> Option<(Option<u64>, Option<u64>)> {
    if file == quota_file(Version::V2) {
        let quota = parse_cpu_max(text).ok()?;
        return Some((quota.quota_us, Some(quota.period_us)));
    }
    if text == "-1" { Some((None, None)) } else { Some((Some(text.parse().ok()?), None)) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn set(text: &str) -> Option<CpuSet> {
        CpuSet::parse(text).ok()
    }

    #[test]
    fn a_file_is_said_to_a_runtime_as_a_field() {
        let none = ResourceChange::default;
        let rows = [
            (CPUS, "2-3", Some(ResourceChange { cpus: set("2-3"), ..none() })),
            (MEMS, "1", Some(ResourceChange { mems: set("1"), ..none() })),
            (CPUS, "", None),
            (QUOTA[0], "-1", Some(ResourceChange { cpu_quota_us: Some(-1), ..none() })),
            (QUOTA[0], "200000", Some(ResourceChange { cpu_quota_us: Some(200_000), ..none() })),
            (
                QUOTA[1],
                "max 100000",
                Some(ResourceChange { cpu_quota_us: Some(-1), cpu_period_us: Some(100_000), ..none() }),
            ),
            (QUOTA[1], "x", None),
        ];
        for (file, text, expected) in rows {
            assert_eq!(as_resources(file, text), expected, "{file} {text}");
        }
    }

    #[test]
    fn a_file_is_said_to_systemd_as_a_property() {
        let none = UnitChange::default;
        let quota = |quota_us, period_us| Some(UnitChange { quota: Some(Quota { quota_us, period_us }), ..none() });
        let rows = [
            (CPUS, "2-3", Some(UnitChange { cpus: set("2-3"), ..none() })),
            (CPUS, "", Some(UnitChange { cpus: Some(CpuSet::new()), ..none() })),
            (MEMS, "0", Some(UnitChange { mems: set("0"), ..none() })),
            (QUOTA[0], "-1", quota(None, 100_000)),
            (QUOTA[1], "50000 25000", quota(Some(50_000), 25_000)),
        ];
        for (file, text, expected) in rows {
            assert_eq!(as_properties(file, text), expected, "{file} {text}");
        }
    }
}
