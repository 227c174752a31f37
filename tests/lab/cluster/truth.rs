//! What the kernel lets the processes of containers use: `/proc/<pid>/status`, nothing that anybody says of himself.

use std::collections::BTreeMap;
use std::fs;

use trimtab_domain::cpuset::CpuSet;

use super::pods::Pod;

/// What the threads of one container may use.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Allowed {
    /// Union over all threads.
    pub(crate) cpus: CpuSet,
    /// Union over all threads.
    pub(crate) mems: CpuSet,
    /// Threads seen.
    pub(crate) threads: usize,
    /// True if not all threads have the same sets.
    pub(crate) torn: bool,
}

/// A container that was started and not stopped.
#[derive(Debug, Clone)]
pub(crate) struct Running {
    pub(crate) pod: Pod,
    pub(crate) sandbox: String,
    pub(crate) container: String,
    pub(crate) id: String,
    /// How often it was made anew.
    pub(crate) attempt: u32,
}

/// Every container with processes (sandboxes too), by its id.
pub(crate) fn containers() -> BTreeMap<String, Allowed> {
    let mut found: BTreeMap<String, Allowed> = BTreeMap::new();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    for process in processes.filter(|entry| entry.file_name().to_string_lossy().parse::<u32>().is_ok()) {
        // A process may end at any moment.
        let Ok(cgroups) = fs::read_to_string(process.path().join("cgroup")) else { continue };
        let Some(id) = cgroups.lines().find_map(container_id) else { continue };
        let Ok(threads) = fs::read_dir(process.path().join("task")) else { continue };
        for thread in threads.flatten() {
            let Ok(status) = fs::read_to_string(thread.path().join("status")) else { continue };
            let (Some(cpus), Some(mems)) = (list(&status, "Cpus_allowed_list:"), list(&status, "Mems_allowed_list:"))
            else {
                continue;
            };
            let seen = found.entry(id.to_owned()).or_default();
            seen.torn |= seen.threads > 0 && (&seen.cpus, &seen.mems) != (&cpus, &mems);
            seen.cpus = seen.cpus.union(&cpus);
            seen.mems = seen.mems.union(&mems);
            seen.threads += 1;
        }
    }
    found
}

/// Kills every process of a container or sandbox.
pub(crate) fn kill_all(id: &str) {
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = process.file_name().to_string_lossy().parse() else { continue };
        let cgroups = fs::read_to_string(process.path().join("cgroup")).unwrap_or_default();
        if cgroups.lines().any(|line| container_id(line) == Some(id)) {
            // It may have ended by itself.
            let _ended = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
    }
}

/// Pages of its own (not of files) that the first process of a container has on each NUMA node (`numa_maps`).
#[allow(dead_code, reason = "the plain machine has one node")]
pub(crate) fn pages_by_node(id: &str) -> BTreeMap<u32, u64> {
    let mut pages = BTreeMap::new();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(cgroups) = fs::read_to_string(process.path().join("cgroup")) else { continue };
        if !cgroups.lines().any(|line| container_id(line) == Some(id)) {
            continue;
        }
        let maps = fs::read_to_string(process.path().join("numa_maps")).unwrap_or_default();
        for word in maps
            .lines()
            .filter(|line| line.contains("anon=") && !line.contains("file="))
            .flat_map(str::split_whitespace)
        {
            let Some((node, count)) = word.strip_prefix('N').and_then(|word| word.split_once('=')) else { continue };
            *pages.entry(node.parse().unwrap()).or_default() += count.parse::<u64>().unwrap();
        }
        break;
    }
    pages
}

/// The container of a line of `/proc/<pid>/cgroup`.
fn container_id(line: &str) -> Option<&str> {
    let name = line.rsplit('/').next()?;
    let name = name.strip_suffix(".scope").unwrap_or(name);
    let id = name.rsplit('-').next()?;
    (id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(id)
}

fn list(status: &str, field: &str) -> Option<CpuSet> {
    let text = status.lines().find_map(|line| line.strip_prefix(field))?;
    CpuSet::parse(text.trim()).ok()
}

/// The CPUs that are online.
pub(crate) fn online() -> CpuSet {
    CpuSet::parse(fs::read_to_string("/sys/devices/system/cpu/online").unwrap().trim()).unwrap()
}

/// What must hold at every moment at which no call to the runtime is under way: a container that was promised whole CPUs
/// runs on that many, none of them reserved, and no other container may run there. Answers with the exclusive CPUs.
pub(crate) fn exclusive(running: &[Running], reserved: &CpuSet) -> Result<CpuSet, String> {
    let allowed = containers();
    let of = |one: &Running| allowed.get(&one.id).ok_or_else(|| format!("{} has no process", one.pod.name));
    let mut taken = CpuSet::default();
    let promised = |one: &&Running| one.pod.exclusive_cpus(&one.container) > 0;
    for one in running.iter().filter(promised) {
        let (name, seen, count) = (&one.pod.name, of(one)?, one.pod.exclusive_cpus(&one.container));
        if seen.torn || seen.cpus.len() != count {
            return Err(format!("{name} was promised {count} CPUs and may use {seen:?}"));
        }
        if !seen.cpus.is_disjoint(&taken) || !seen.cpus.is_disjoint(reserved) {
            return Err(format!("{name} has {}, of which others hold {taken} and {reserved} is reserved", seen.cpus));
        }
        taken = taken.union(&seen.cpus);
    }
    for one in running.iter().filter(|one| !promised(one)) {
        let seen = of(one)?;
        if seen.torn || !seen.cpus.is_disjoint(&taken) {
            return Err(format!("{} may use {seen:?} although {taken} is exclusive", one.pod.name));
        }
    }
    Ok(taken)
}

/// What must hold in the end: besides, everybody else may use all that is left.
pub(crate) fn settled(running: &[Running], reserved: &CpuSet) -> Result<(), String> {
    let rest = online().difference(&exclusive(running, reserved)?);
    let allowed = containers();
    for one in running.iter().filter(|one| one.pod.exclusive_cpus(&one.container) == 0) {
        let seen = allowed.get(&one.id).ok_or("a container has no process")?;
        if seen.cpus != rest {
            return Err(format!("{} may use {} and not all of {rest}", one.pod.name, seen.cpus));
        }
    }
    Ok(())
}
