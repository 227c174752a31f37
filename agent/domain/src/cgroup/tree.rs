//! The tree of pods as the kernel shows it: plain data, texts as they were read.

use std::collections::BTreeMap;

use super::{CpuControl, Hierarchy, LeafKind, Limit, Quota, Version};
use crate::quantity::Quantity;
use crate::spec::cgroup::CgroupDriver;
use crate::workload::{ContainerId, PodUid, QosClass, ResourceName, Resources};

/// All pods of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodTree {
    /// Version of the hierarchy that has the controller `cpuset`.
    pub version: Version,
    /// Where that hierarchy is mounted, absolute.
    pub mount: String,
    /// The hierarchy that has the controller `cpu`; absent: none has it.
    pub cpu: Option<Hierarchy>,
    /// The driver whose names the tree has.
    pub driver: CgroupDriver,
    /// The cgroup above the directory of all pods, which bounds what pods can use; its path may be empty.
    pub above: Cpuset,
    /// The directory of all pods.
    pub root: Cpuset,
    /// The directories of the classes that have one.
    pub classes: Vec<Cpuset>,
    /// Pods by class and uid.
    pub pods: Vec<PodCgroup>,
}

/// The cpuset controller of one cgroup. Texts are without the final newline; absent: no such file, or it vanished.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cpuset {
    /// Path relative to the mount point, without a leading slash.
    pub path: String,
    /// `cpuset.cpus`.
    pub cpus: Option<String>,
    /// `cpuset.mems`.
    pub mems: Option<String>,
    /// `cpuset.cpus.effective`, of version 1 `cpuset.effective_cpus`.
    pub effective_cpus: Option<String>,
    /// `cpuset.mems.effective`, of version 1 `cpuset.effective_mems`.
    pub effective_mems: Option<String>,
}

/// One pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodCgroup {
    /// Its directory.
    pub cpuset: Cpuset,
    /// Its uid.
    pub uid: PodUid,
    /// Its class, by the place of its directory.
    pub qos: QosClass,
    /// Its bound of CPU time; absent where no hierarchy has the controller `cpu`, or the text makes no sense.
    pub quota: Option<Quota>,
    /// Its containers, sandbox and monitors among them, in order of creation.
    pub containers: Vec<ContainerCgroup>,
}

/// One container, sandbox or monitor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerCgroup {
    /// Its directory.
    pub cpuset: Cpuset,
    /// Cgroups below it that somebody made, outer ones first. Read on version 1 only, where they bound what may be
    /// written above them.
    pub inner: Vec<Cpuset>,
    /// Its id.
    pub id: ContainerId,
    /// What it is, as far as its name tells.
    pub kind: LeafKind,
    /// Inode number of the directory: kernfs numbers rise, so the order of the numbers is the order of creation. Absent
    /// where the host cannot tell.
    pub inode: Option<u64>,
    /// CPU time.
    pub cpu: CpuControl,
    /// Memory; read for Guaranteed pods only.
    pub memory: Option<Limit>,
    /// Huge pages by name of the resource (`hugepages-2Mi`); read for Guaranteed pods only.
    pub hugepages: BTreeMap<String, Limit>,
    /// Its processes; read only where nothing else tells a sandbox.
    pub processes: Option<Processes>,
    /// Values that the kernel never writes, as sentences; what they are about counts as unknown.
    pub problems: Vec<String>,
}

/// Who runs in a cgroup.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Processes {
    /// How many processes.
    pub count: usize,
    /// Name (`comm`) of the only one; absent if there are more or none, or if the agent cannot see it.
    pub only: Option<String>,
}

/// Name of the process of a sandbox (kubernetes/build/pause).
const PAUSE: &str = "pause";

impl PodCgroup {
    /// The containers without sandbox and monitors. `named` tells whether the node knows a container of this id by
    /// name: a sandbox has no log, so it never has one.
    ///
    /// A sandbox asks for nothing, like a container of a BestEffort pod. It is told apart by its only process, or by
    /// being the oldest cgroup of a pod of which other containers are known by name.
    pub fn real_containers(&self, named: impl Fn(&ContainerId) -> bool) -> impl Iterator<Item = &ContainerCgroup> {
        let any_named = self.containers.iter().any(|container| named(&container.id));
        let leaves = self.containers.iter().filter(|container| container.kind == LeafKind::Container);
        leaves.enumerate().filter_map(move |(age, container)| {
            let processes = container.processes.as_ref();
            let pause = processes.is_some_and(|processes| processes.only.as_deref() == Some(PAUSE));
            let empty = processes.is_some_and(|processes| processes.count == 0);
            let oldest = any_named && age == 0;
            let real = named(&container.id) || !container.asks_for_nothing() || !(pause || empty || oldest);
            real.then_some(container)
        })
    }
}

impl ContainerCgroup {
    /// True if neither CPU nor memory is asked for or bounded.
    #[must_use]
    pub fn asks_for_nothing(&self) -> bool {
        self.cpu.asks_for_nothing() && !matches!(self.memory, Some(Limit::Bytes(_)))
    }

    /// What the container of a Guaranteed pod asks for, which is also its limit; absent where the CPU request cannot be
    /// told exactly.
    #[must_use]
    pub fn guaranteed_resources(&self) -> Option<Resources> {
        let milli = self.cpu.guaranteed_request_milli()?;
        let mut amounts = BTreeMap::new();
        if milli > 0 {
            amounts.insert(ResourceName::Cpu, Quantity::from_milli(i64::try_from(milli).ok()?));
        }
        if let Some(Limit::Bytes(bytes)) = self.memory {
            amounts.insert(ResourceName::Memory, Quantity::from_bytes(i64::try_from(bytes).ok()?));
        }
        for (name, limit) in &self.hugepages {
            // The kubelet bounds every size by 0 that a container does not ask for.
            if let Limit::Bytes(bytes @ 1..) = limit {
                amounts.insert(name.as_str().into(), Quantity::from_bytes(i64::try_from(*bytes).ok()?));
            }
        }
        Some(Resources { requests: amounts.clone(), limits: amounts })
    }
}

/// Name of the resource for the page size in the name of a cgroup file (`hugetlb.2MB.max` → `hugepages-2Mi`).
#[must_use]
pub fn hugepage_resource(size: &str) -> Option<String> {
    let at = size.find(|c: char| !c.is_ascii_digit())?;
    let (digits, unit) = size.split_at(at);
    let shift = match unit {
        "KB" => 10,
        "MB" => 20,
        "GB" => 30,
        _ => return None,
    };
    let bytes = digits.parse::<i64>().ok().filter(|count| *count > 0)?.checked_mul(1 << shift)?;
    Some(format!("hugepages-{}", Quantity::from_bytes(bytes)))
}

#[cfg(test)]
mod tests;
