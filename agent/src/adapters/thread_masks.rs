//! Affinity masks of the threads of containers, from the host's `/proc`.
//!
//! The list of processes in a cgroup (`cgroup.procs`) shows an agent in a process namespace of its own nothing but
//! zeroes, so containers are found the other way round: by `/proc/PID/cgroup` of every process.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use trimtab_domain::cgroup::parse_leaf;
use trimtab_domain::cpuset::CpuSet;
use trimtab_domain::workload::ContainerId;

use super::known_processes::{KnownProcesses, process_ids};
use crate::ports::HostFiles;
use crate::ports::threads::{ThreadMasks, Threads};

/// Most threads of one container that are looked at; each costs a read of about 20 µs.
const MAX_THREADS: usize = 4096;

/// Threads below the host root's `/proc`.
pub struct ProcThreads {
    files: Arc<dyn HostFiles>,
    homes: Mutex<KnownProcesses<Home>>,
}

/// The containers that a process is in: none for one of the host, several for one of a container within a container.
type Home = Box<[ContainerId]>;

impl ProcThreads {
    /// Reads through these files.
    #[must_use]
    pub fn new(files: Arc<dyn HostFiles>) -> Self {
        Self { files, homes: Mutex::default() }
    }

    /// The text of a file of a process; one that ends meanwhile, or is hidden, is as good as absent.
    fn text(&self, path: &Path) -> Option<String> {
        self.files.read(path).ok().flatten()
    }

    fn add_process(&self, process: &Path, found: &mut ThreadMasks) {
        let tasks = process.join("task");
        let Ok(Some(threads)) = self.files.list(&tasks) else { return };
        for thread in threads {
            if found.threads == MAX_THREADS {
                found.truncated = true;
                return;
            }
            let status = self.text(&tasks.join(&thread.name).join("status"));
            if let Some(mask) = status.as_deref().and_then(allowed_cpus) {
                found.add(mask);
            }
        }
    }
}

impl Threads for ProcThreads {
    fn masks(&self, containers: &[&ContainerId]) -> BTreeMap<ContainerId, ThreadMasks> {
        let mut found: BTreeMap<ContainerId, ThreadMasks> = BTreeMap::new();
        if containers.is_empty() {
            return found;
        }
        let root = Path::new("/proc");
        let mut homes = self.homes.lock().unwrap_or_else(PoisonError::into_inner);
        homes.refresh(process_ids(&*self.files), |pid| {
            self.text(&root.join(pid.to_string()).join("cgroup")).map(|text| home(&text))
        });
        for (pid, home) in homes.iter().filter(|(_, home)| !home.is_empty()) {
            if let Some(id) = containers.iter().find(|id| home.contains(id)) {
                self.add_process(&root.join(pid.to_string()), found.entry((**id).clone()).or_default());
            }
        }
        found.retain(|_, masks| masks.threads > 0);
        found
    }
}

/// The containers that a process is in, by its cgroups. Paths are relative to the cgroup namespace of the reader
/// (cgroup_namespaces(7)), so only the names of containers in them count.
fn home(cgroups: &str) -> Home {
    let paths = cgroups.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    let mut ids: Vec<ContainerId> =
        paths.flat_map(|path| path.split('/')).filter_map(parse_leaf).map(|leaf| leaf.id).collect();
    ids.sort_unstable();
    ids.dedup();
    ids.into()
}

/// `Cpus_allowed_list` of `/proc/PID/task/TID/status`.
fn allowed_cpus(status: &str) -> Option<CpuSet> {
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    CpuSet::parse(list.trim()).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const ID: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    #[test]
    fn a_process_is_found_by_the_name_of_its_container() {
        let rows = [
            ("version 2", format!("0::/kubepods.slice/kubepods-podx.slice/cri-containerd-{ID}.scope\n"), true),
            ("inside", format!("0::/kubepods/podx/{ID}/inner\n"), true),
            ("other namespace", format!("0::/../../podx/{ID}\n"), true),
            ("version 1", format!("4:cpuset:/kubepods/podx/{ID}\n3:cpu,cpuacct:/\n"), true),
            ("another", "0::/kubepods/podx/bbbb\n".to_owned(), false),
            ("no path", "0::\n".to_owned(), false),
        ];
        for (name, text, expected) in rows {
            assert_eq!(home(&text).contains(&ContainerId(ID.into())), expected, "{name}");
        }
    }

    #[test]
    fn the_mask_is_the_line_of_the_list() {
        let status = "Name:\tx\nCpus_allowed:\tf\nCpus_allowed_list:\t0-3,8\nMems_allowed_list:\t0\n";
        assert_eq!(allowed_cpus(status), Some(CpuSet::parse("0-3,8").unwrap()));
        assert_eq!(allowed_cpus("Name:\tx\n"), None);
    }
}
