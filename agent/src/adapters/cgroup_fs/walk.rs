//! One walk over the tree of pods.
//!
//! Containers come and go meanwhile: what has vanished is left out, never an error.

use std::collections::BTreeMap;
use std::path::Path;

use trimtab_domain::cgroup::tree::{ContainerCgroup, Cpuset, PodCgroup, PodTree, Processes, hugepage_resource};
use trimtab_domain::cgroup::{
    CgroupMounts, ControlError, CpuControl, Hierarchy, Leaf, Limit, PodsLayout, Quota, Version, parse_cpu_max,
    parse_leaf, parse_limit, parse_quota_v1, parse_weight,
};
use trimtab_domain::workload::QosClass;

use super::{at, effective_files, read_trimmed};
use crate::ports::{FileError, HostFiles};

/// Deepest nesting of cgroups inside a container that is followed; a container that nests deeper gets an error from the
/// kernel, not from us.
const MAX_DEPTH: usize = 8;
/// Most cgroups inside one container that are followed.
const MAX_INNER: usize = 1024;

/// The hierarchies and the names, for one walk.
pub(super) struct Walk<'a> {
    files: &'a dyn HostFiles,
    layout: &'a PodsLayout,
    cpuset: Hierarchy,
    cpu: Option<Hierarchy>,
    memory: Option<Hierarchy>,
    hugetlb: Option<Hierarchy>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        files: &'a dyn HostFiles,
        mounts: &CgroupMounts,
        cpuset: Hierarchy,
        layout: &'a PodsLayout,
    ) -> Self {
        let of = |controller| mounts.hierarchy_of(controller);
        Self { files, layout, cpuset, cpu: of("cpu"), memory: of("memory"), hugetlb: of("hugetlb") }
    }

    pub(super) fn read(&self) -> Result<PodTree, FileError> {
        let mut tree = PodTree {
            version: self.cpuset.version,
            mount: self.cpuset.mount.clone(),
            cpu: self.cpu.clone(),
            driver: self.layout.driver(),
            above: self.read_cpuset(&self.layout.parent())?,
            root: self.read_cpuset(&self.layout.root())?,
            classes: Vec::new(),
            pods: Vec::new(),
        };
        for qos in [QosClass::Guaranteed, QosClass::Burstable, QosClass::BestEffort] {
            let directory = self.layout.class_directory(qos);
            let Some(entries) = self.files.list(&at(&self.cpuset, &directory))? else { continue };
            if qos != QosClass::Guaranteed {
                tree.classes.push(self.read_cpuset(&directory)?);
            }
            for entry in entries.iter().filter(|entry| entry.is_directory) {
                let Some(uid) = self.layout.parse_pod(qos, &entry.name) else { continue };
                let path = format!("{directory}/{}", entry.name);
                let Some(containers) = self.read_containers(&path, qos)? else { continue };
                let quota = self.read_quota(&path)?.and_then(Result::ok);
                tree.pods.push(PodCgroup { cpuset: self.read_cpuset(&path)?, uid, qos, quota, containers });
            }
        }
        Ok(tree)
    }

    fn read_containers(&self, pod: &str, qos: QosClass) -> Result<Option<Vec<ContainerCgroup>>, FileError> {
        let Some(entries) = self.files.list(&at(&self.cpuset, pod))? else { return Ok(None) };
        let mut containers = Vec::new();
        for entry in entries.into_iter().filter(|entry| entry.is_directory) {
            if let Some(leaf) = parse_leaf(&entry.name) {
                let path = format!("{pod}/{}", entry.name);
                containers.extend(self.read_container(&path, leaf, qos)?);
            }
        }
        // Most pods have two, and there is one of these lists for each pod.
        containers.shrink_to_fit();
        containers.sort_by(|a, b| (a.inode, &a.cpuset.path).cmp(&(b.inode, &b.cpuset.path)));
        Ok(Some(containers))
    }

    fn read_container(&self, path: &str, leaf: Leaf, qos: QosClass) -> Result<Option<ContainerCgroup>, FileError> {
        let directory = at(&self.cpuset, path);
        let Some(inode) = self.inode(&directory)? else { return Ok(None) };
        let mut container = ContainerCgroup {
            cpuset: self.read_cpuset(path)?,
            inner: Vec::new(),
            id: leaf.id,
            kind: leaf.kind,
            inode,
            cpu: CpuControl::default(),
            memory: None,
            hugepages: BTreeMap::new(),
            processes: None,
            problems: Vec::new(),
        };
        if self.cpuset.version == Version::V1 {
            self.read_inner(path, 1, &mut container.inner)?;
        }
        self.read_cpu(path, &mut container)?;
        if qos == QosClass::Guaranteed {
            self.read_memory(path, &mut container)?;
            self.read_hugepages(path, &mut container)?;
        }
        if container.asks_for_nothing() {
            container.processes = Some(self.read_processes(&directory)?);
        }
        Ok(Some(container))
    }

    /// Outer `None`: the directory is gone. Inner `None`: this host has no inode numbers.
    fn inode(&self, directory: &Path) -> Result<Option<Option<u64>>, FileError> {
        match self.files.inode(directory)? {
            Some(inode) => Ok(Some(Some(inode))),
            None => Ok(self.files.list(directory)?.map(|_| None)),
        }
    }

    fn read_cpuset(&self, path: &str) -> Result<Cpuset, FileError> {
        let directory = at(&self.cpuset, path);
        let (cpus, mems) = effective_files(self.cpuset.version);
        let read = |file: &str| read_trimmed(self.files, &directory.join(file));
        Ok(Cpuset {
            path: path.to_owned(),
            cpus: read("cpuset.cpus")?,
            mems: read("cpuset.mems")?,
            effective_cpus: read(cpus)?,
            effective_mems: read(mems)?,
        })
    }

    fn read_inner(&self, path: &str, depth: usize, inner: &mut Vec<Cpuset>) -> Result<(), FileError> {
        let entries = self.files.list(&at(&self.cpuset, path))?.unwrap_or_default();
        for entry in entries.iter().filter(|entry| entry.is_directory) {
            if inner.len() >= MAX_INNER {
                break;
            }
            let child = format!("{path}/{}", entry.name);
            inner.push(self.read_cpuset(&child)?);
            if depth < MAX_DEPTH {
                self.read_inner(&child, depth + 1, inner)?;
            }
        }
        Ok(())
    }

    fn read_cpu(&self, path: &str, container: &mut ContainerCgroup) -> Result<(), FileError> {
        let Some(hierarchy) = &self.cpu else { return Ok(()) };
        let read = |file: &str| read_trimmed(self.files, &at(hierarchy, path).join(file));
        let weight_file = if hierarchy.version == Version::V1 { "cpu.shares" } else { "cpu.weight" };
        if let Some(text) = read(weight_file)? {
            container.cpu.weight = noted(parse_weight(weight_file, &text), path, &mut container.problems);
        }
        container.cpu.quota = self.read_quota(path)?.and_then(|quota| noted(quota, path, &mut container.problems));
        if !container.problems.is_empty() {
            // Half of the truth would be taken for a request.
            container.cpu = CpuControl::default();
        }
        Ok(())
    }

    fn read_quota(&self, path: &str) -> Result<Option<Result<Quota, ControlError>>, FileError> {
        let Some(hierarchy) = &self.cpu else { return Ok(None) };
        let read = |file: &str| read_trimmed(self.files, &at(hierarchy, path).join(file));
        Ok(match hierarchy.version {
            Version::V1 => match (read("cpu.cfs_quota_us")?, read("cpu.cfs_period_us")?) {
                (Some(quota), Some(period)) => Some(parse_quota_v1(&quota, &period)),
                _ => None,
            },
            Version::V2 => read("cpu.max")?.map(|text| parse_cpu_max(&text)),
        })
    }

    fn read_memory(&self, path: &str, container: &mut ContainerCgroup) -> Result<(), FileError> {
        let Some(hierarchy) = &self.memory else { return Ok(()) };
        let file = if hierarchy.version == Version::V1 { "memory.limit_in_bytes" } else { "memory.max" };
        if let Some(text) = read_trimmed(self.files, &at(hierarchy, path).join(file))? {
            container.memory = noted(parse_limit(file, &text), path, &mut container.problems);
        }
        Ok(())
    }

    fn read_hugepages(&self, path: &str, container: &mut ContainerCgroup) -> Result<(), FileError> {
        let Some(hierarchy) = &self.hugetlb else { return Ok(()) };
        let suffix = if hierarchy.version == Version::V1 { ".limit_in_bytes" } else { ".max" };
        let directory = at(hierarchy, path);
        for entry in self.files.list(&directory)?.unwrap_or_default() {
            let size = entry.name.strip_prefix("hugetlb.").and_then(|rest| rest.strip_suffix(suffix));
            let Some(resource) = size.and_then(hugepage_resource) else { continue };
            if let Some(text) = read_trimmed(self.files, &directory.join(&entry.name))?
                && let Some(limit) = noted(parse_limit("hugetlb", &text), path, &mut container.problems)
                && limit != Limit::Unlimited
            {
                container.hugepages.insert(resource, limit);
            }
        }
        Ok(())
    }

    /// Processes of the container, whether or not the runtime put them into a cgroup `container` of its own (crun).
    fn read_processes(&self, directory: &Path) -> Result<Processes, FileError> {
        let mut pids = Vec::new();
        for directory in [directory.to_owned(), directory.join("container")] {
            let text = read_trimmed(self.files, &directory.join("cgroup.procs"))?.unwrap_or_default();
            pids.extend(text.lines().map(str::to_owned));
        }
        let only = match pids.as_slice() {
            // Process 0 stands for one outside the agent's own process namespace.
            [pid] if pid != "0" && pid.bytes().all(|b| b.is_ascii_digit()) => {
                // A process that ends now, or hides its name, merely stays unknown.
                read_trimmed(self.files, &Path::new("/proc").join(pid).join("comm")).ok().flatten()
            }
            _ => None,
        };
        Ok(Processes { count: pids.len(), only })
    }
}

fn noted<T>(parsed: Result<T, ControlError>, path: &str, problems: &mut Vec<String>) -> Option<T> {
    parsed.map_err(|error| problems.push(format!("{path}: {error}"))).ok()
}
