//! What the hierarchy says about the driver in use.

use std::path::{Path, PathBuf};

use trimtab_domain::cgroup::{Hierarchy, PodsLayout, TreeFacts, Version, literal_systemd_path, parse_leaf};
use trimtab_domain::workload::QosClass;

use super::{at, read_trimmed};
use crate::ports::{FileError, HostFiles};

/// Where a runtime that takes a systemd path for a directory name puts its containers: beside its own cgroup, which is
/// below that of the service manager.
const RUNTIME_PARENTS: [&str; 8] = [
    "",
    "system.slice",
    "system.slice/containerd.service",
    "system.slice/crio.service",
    "system.slice/docker.service",
    "system.slice/k3s.service",
    "system.slice/rke2-server.service",
    "system.slice/rke2-agent.service",
];

/// Counts the pods of one layout and looks for a process in them.
pub(super) fn tree_facts(
    files: &dyn HostFiles,
    hierarchy: &Hierarchy,
    layout: &PodsLayout,
) -> Result<TreeFacts, FileError> {
    let root = at(hierarchy, &layout.root());
    let mut pods = Vec::new();
    for qos in [QosClass::Guaranteed, QosClass::Burstable, QosClass::BestEffort] {
        let directory = at(hierarchy, &layout.class_directory(qos));
        for entry in files.list(&directory)?.unwrap_or_default() {
            if entry.is_directory && layout.parse_pod(qos, &entry.name).is_some() {
                pods.push(directory.join(entry.name));
            }
        }
    }
    let populated = match hierarchy.version {
        Version::V2 => match read_trimmed(files, &root.join("cgroup.events"))? {
            Some(events) => events.lines().any(|line| line == "populated 1"),
            None => any_process(files, Version::V2, &pods)?,
        },
        Version::V1 => any_process(files, Version::V1, &pods)?,
    };
    Ok(TreeFacts { driver: layout.driver(), root: layout.root(), pods: pods.len(), populated })
}

fn any_process(files: &dyn HostFiles, version: Version, pods: &[PathBuf]) -> Result<bool, FileError> {
    for pod in pods {
        for entry in files.list(pod)?.unwrap_or_default() {
            if entry.is_directory
                && parse_leaf(&entry.name).is_some()
                && is_populated(files, version, &pod.join(entry.name))?
            {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// True if a process runs in the cgroup or below it. Version 1 does not tell of what is below, so only the cgroup is
/// looked at that crun makes inside its own.
pub(super) fn is_populated(files: &dyn HostFiles, version: Version, directory: &Path) -> Result<bool, FileError> {
    if version == Version::V2
        && let Some(events) = read_trimmed(files, &directory.join("cgroup.events"))?
    {
        return Ok(events.lines().any(|line| line == "populated 1"));
    }
    let busy = |directory: &Path| -> Result<bool, FileError> {
        Ok(read_trimmed(files, &directory.join("cgroup.procs"))?.is_some_and(|text| !text.is_empty()))
    };
    Ok(busy(directory)? || busy(&directory.join("container"))?)
}

/// Directories literally named `…slice:cri-containerd:<id>`.
pub(super) fn literal_paths(files: &dyn HostFiles, hierarchy: &Hierarchy) -> Result<Vec<String>, FileError> {
    let mut paths = Vec::new();
    for parent in RUNTIME_PARENTS {
        let directory = at(hierarchy, parent);
        for entry in files.list(&directory)?.unwrap_or_default() {
            if entry.is_directory && literal_systemd_path(&entry.name) {
                paths.push(directory.join(entry.name).display().to_string());
            }
        }
    }
    Ok(paths)
}
