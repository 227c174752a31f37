//! The machines on which the cases were recorded.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;
use serde::Deserialize;
use trimtab_domain::topology::{CpuInfo, HugePages, Machine, NumaNode};

/// Machines by name; names are local to one directory of vectors.
#[derive(Default)]
pub(crate) struct Machines(BTreeMap<String, Arc<Machine>>);

#[derive(Deserialize)]
struct File {
    machines: Vec<Recorded>,
}

#[derive(Deserialize)]
struct Recorded {
    name: String,
    cpus: Vec<RecordedCpu>,
    numa_nodes: Vec<RecordedNode>,
    #[serde(default)]
    derived: Derived,
}

#[derive(Deserialize, Default)]
struct Derived {
    num_sockets: Option<usize>,
}

#[derive(Deserialize)]
struct RecordedCpu {
    cpu: u32,
    core: u32,
    socket: u32,
    numa: u32,
    uncore_cache: Option<u32>,
}

#[derive(Deserialize)]
struct RecordedNode {
    id: u32,
    memory_bytes: u64,
    #[serde(default)]
    hugepages: Vec<RecordedHugePages>,
    #[serde(default)]
    distances: Vec<u32>,
}

#[derive(Deserialize)]
struct RecordedHugePages {
    page_size_bytes: u64,
    count: u64,
}

impl Machines {
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let file: File = serde_json::from_str(text).context("not a list of machines")?;
        let machine = |recorded: Recorded| {
            let name = recorded.name.clone();
            let machine = recorded.build().with_context(|| format!("machine {name}"))?;
            Ok((name, Arc::new(machine)))
        };
        Ok(Self(file.machines.into_iter().map(machine).collect::<anyhow::Result<_>>()?))
    }

    pub(crate) fn named(&self, name: &str) -> Option<&Arc<Machine>> {
        self.0.get(name)
    }
}

impl Recorded {
    fn build(self) -> anyhow::Result<Machine> {
        let cpu = |c: &RecordedCpu| CpuInfo {
            cpu: c.cpu,
            core: c.core,
            socket: c.socket,
            numa: c.numa,
            uncore_cache: c.uncore_cache,
        };
        let pages = |p: RecordedHugePages| HugePages { page_size_bytes: p.page_size_bytes, count: p.count };
        let node = |n: RecordedNode| NumaNode {
            id: n.id,
            memory_bytes: n.memory_bytes,
            hugepages: n.hugepages.into_iter().map(pages).collect(),
            distances: n.distances,
        };
        let cpus: Vec<CpuInfo> = self.cpus.iter().map(cpu).collect();
        Ok(Machine::new(&cpus, self.numa_nodes.into_iter().map(node).collect(), self.derived.num_sockets)?)
    }
}
