//! CPUs, caches, NUMA nodes and their memory from sysfs, read as cadvisor reads them for the kubelet.

mod caches;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use trimtab_domain::cpuset::CpuSet;
use trimtab_domain::topology::{CpuInfo, HugePages, NumaNode};

use crate::ports::machine::{Hardware, MachineSource, TopologyError};
use crate::ports::{FileError, HostFiles};

const CPUS: &str = "/sys/devices/system/cpu";
const NODES: &str = "/sys/devices/system/node";

/// Topology of the host's sysfs.
pub struct SysfsTopology {
    files: Arc<dyn HostFiles>,
    /// The CPUs of the last reading: thousands of files on a large machine, which change only with what is online.
    cpus: Mutex<Option<(CpuKey, Vec<CpuInfo>)>>,
}

/// What the list of CPUs depends on: the online CPUs, and the CPUs of each node.
type CpuKey = (Option<String>, Vec<Group>);

/// A NUMA node, or a package where there are none, with its CPUs in the order of the directory.
type Group = (u32, Vec<u32>);

impl SysfsTopology {
    /// Topology below the host root's `/sys`.
    #[must_use]
    pub fn new(files: Arc<dyn HostFiles>) -> Self {
        Self { files, cpus: Mutex::new(None) }
    }

    /// Ids of the NUMA nodes with the CPUs of each; without NUMA support, one per package.
    fn groups(&self) -> Result<(bool, Vec<Group>), TopologyError> {
        let nodes = numbered(&*self.files, Path::new(NODES), "node")?;
        if !nodes.is_empty() {
            let cpus = |node: u32| numbered(&*self.files, &node_path(node), "cpu").map(|cpus| (node, cpus));
            return Ok((true, nodes.into_iter().map(cpus).collect::<Result<_, _>>()?));
        }
        let mut packages = BTreeMap::<u32, Vec<u32>>::new();
        for cpu in numbered(&*self.files, Path::new(CPUS), "cpu")? {
            if let Some(package) = self.topology_id(cpu, "physical_package_id")? {
                packages.entry(package).or_default().push(cpu);
            }
        }
        Ok((false, packages.into_iter().collect()))
    }

    fn read_cpus(&self, groups: &[Group], online: Option<&CpuSet>) -> Result<Vec<CpuInfo>, TopologyError> {
        let mut infos = Vec::new();
        for (numa, cpus) in groups {
            let mut node = Vec::new();
            for cpu in cpus.iter().copied().filter(|cpu| online.is_none_or(|online| online.contains(*cpu))) {
                // A CPU without these has no place; the kubelet leaves it out, too.
                let (Some(core), Some(socket)) =
                    (self.topology_id(cpu, "core_id")?, self.topology_id(cpu, "physical_package_id")?)
                else {
                    continue;
                };
                node.push(CpuInfo { cpu, core, socket, numa: *numa, uncore_cache: None });
            }
            caches::fill(&*self.files, &mut node);
            infos.append(&mut node);
        }
        Ok(infos)
    }

    fn topology_id(&self, cpu: u32, file: &str) -> Result<Option<u32>, TopologyError> {
        read_number(&*self.files, &cpu_path(cpu).join("topology").join(file))
    }

    fn read_list(&self, path: &Path) -> Result<Option<CpuSet>, TopologyError> {
        let Some(text) = self.files.read(path)? else { return Ok(None) };
        let text = text.trim();
        let set = CpuSet::parse(text).map_err(|source| TopologyError::CpuList {
            path: path.display().to_string(),
            text: text.into(),
            source,
        })?;
        Ok(Some(set))
    }

    fn read_node(&self, id: u32) -> Result<NumaNode, TopologyError> {
        let directory = node_path(id);
        let memory_bytes = match self.files.read(&directory.join("meminfo"))? {
            Some(text) => mem_total(&text, &directory.join("meminfo"))?,
            None => 0,
        };
        let distances = match self.files.read(&directory.join("distance"))? {
            Some(text) => parse_row(&text, &directory.join("distance"))?,
            None => Vec::new(),
        };
        Ok(NumaNode { id, memory_bytes, hugepages: self.read_hugepages(&directory.join("hugepages"))?, distances })
    }

    fn read_hugepages(&self, directory: &Path) -> Result<Vec<HugePages>, TopologyError> {
        let mut sizes = Vec::new();
        for entry in self.files.list(directory)?.unwrap_or_default() {
            let size = entry.name.strip_prefix("hugepages-").and_then(|rest| rest.strip_suffix("kB"));
            let Some(kib) = size.and_then(|kib| kib.parse::<u64>().ok()) else { continue };
            let count = read_number(&*self.files, &directory.join(&entry.name).join("nr_hugepages"))?;
            sizes.push(HugePages { page_size_bytes: kib.saturating_mul(1024), count: count.unwrap_or(0) });
        }
        sizes.sort_by_key(|pages| pages.page_size_bytes);
        Ok(sizes)
    }

    /// Distinct `physical id` lines; absent if there is none, as on arm64.
    fn read_sockets(&self) -> Result<Option<usize>, FileError> {
        let text = self.files.read(Path::new("/proc/cpuinfo"))?.unwrap_or_default();
        let field = |line: &str| {
            let (name, value) = line.split_once(':')?;
            (name.trim() == "physical id").then(|| value.trim().to_owned())
        };
        let ids: BTreeSet<String> = text.lines().filter_map(field).collect();
        Ok((!ids.is_empty()).then_some(ids.len()))
    }
}

impl MachineSource for SysfsTopology {
    fn read(&self) -> Result<Hardware, TopologyError> {
        let online_file = Path::new(CPUS).join("online");
        let online = self.read_list(&online_file)?;
        let (numa, groups) = self.groups()?;
        let nodes = match numa {
            true => groups.iter().map(|(id, _)| self.read_node(*id)).collect::<Result<Vec<_>, _>>()?,
            false => groups.iter().map(|(id, _)| NumaNode { id: *id, ..NumaNode::default() }).collect(),
        };
        let key = (online.as_ref().map(ToString::to_string), groups);
        let mut known = self.cpus.lock().unwrap_or_else(PoisonError::into_inner);
        let cpus = match &*known {
            Some((known, cpus)) if *known == key => cpus.clone(),
            _ => {
                let cpus = self.read_cpus(&key.1, online.as_ref())?;
                *known = Some((key, cpus.clone()));
                cpus
            }
        };
        drop(known);
        let present = self.read_list(&Path::new(CPUS).join("present"))?.unwrap_or_default();
        let meminfo = Path::new("/proc/meminfo");
        let memory_bytes = self.files.read(meminfo)?.map_or(Ok(0), |text| mem_total(&text, meminfo))?;
        Ok(Hardware {
            cpus,
            nodes,
            sockets: self.read_sockets()?,
            offline: online.map_or_else(CpuSet::new, |online| present.difference(&online)),
            isolated: self.read_list(&Path::new(CPUS).join("isolated"))?.unwrap_or_default(),
            memory_bytes,
        })
    }
}

fn cpu_path(cpu: u32) -> PathBuf {
    Path::new(CPUS).join(format!("cpu{cpu}"))
}

fn node_path(node: u32) -> PathBuf {
    Path::new(NODES).join(format!("node{node}"))
}

/// Numbers of the entries `<prefix><number>`, in the order of the directory, that is, by name.
fn numbered(files: &dyn HostFiles, directory: &Path, prefix: &str) -> Result<Vec<u32>, FileError> {
    let entries = files.list(directory)?.unwrap_or_default();
    let number = |name: &str| name.strip_prefix(prefix)?.parse().ok().filter(|n| format!("{prefix}{n}") == name);
    Ok(entries.iter().filter_map(|entry| number(&entry.name)).collect())
}

fn read_number<T: FromStr>(files: &dyn HostFiles, path: &Path) -> Result<Option<T>, TopologyError> {
    let Some(text) = files.read(path)? else { return Ok(None) };
    let text = text.trim();
    text.parse().map(Some).map_err(|_| TopologyError::Number { path: path.display().to_string(), text: text.into() })
}

/// `MemTotal` in bytes, of `/proc/meminfo` or of a node (`Node 0 MemTotal:  8145048 kB`).
fn mem_total(text: &str, path: &Path) -> Result<u64, TopologyError> {
    let line = text.lines().find(|line| line.split_whitespace().any(|word| word == "MemTotal:"));
    let kib = line.and_then(|line| {
        let mut words = line.split_whitespace().skip_while(|word| *word != "MemTotal:").skip(1);
        let number = words.next()?.parse::<u64>().ok()?;
        (words.next() == Some("kB")).then_some(number)
    });
    let bytes = kib.and_then(|kib| kib.checked_mul(1024));
    bytes.ok_or_else(|| TopologyError::Number {
        path: path.display().to_string(),
        text: line.unwrap_or("no MemTotal").trim().into(),
    })
}

fn parse_row(text: &str, path: &Path) -> Result<Vec<u32>, TopologyError> {
    let number = |word: &str| {
        word.parse().map_err(|_| TopologyError::Number { path: path.display().to_string(), text: text.trim().into() })
    };
    text.split_whitespace().map(number).collect()
}
