//! The facts of the picture: every CPU with its place, its use and its holders.

use std::collections::BTreeMap;

use trimtab_domain::cpuset::CpuSet;

use crate::reconcile::node_view::{CpuView, NodeView, NumaNodeView};

/// The machine and who uses it, at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Topology {
    /// Name of the node.
    pub node: String,
    /// Online CPUs, ascending by number; empty: not read yet.
    pub cpus: Vec<Cpu>,
    /// CPUs that exist and are offline, ascending.
    pub offline_cpus: Vec<u32>,
    /// NUMA nodes with their memory, ascending by id.
    pub numa_nodes: Vec<NumaNodeView>,
    /// Containers that hold CPUs, by namespace, pod and container.
    pub holders: Vec<Holder>,
    /// Containers that hold none, and so run in the shared pool.
    pub sharing_containers: u64,
    /// Those of them that do not run as ordered; each says why.
    pub mispinned_sharing: Vec<Holder>,
    /// Why nothing is written although a policy is set; `None`: pins are enforced.
    pub observe_only: Option<String>,
}

/// One online CPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cpu {
    /// Where it is.
    pub place: CpuView,
    /// What it is for.
    pub usage: Usage,
    /// The kernel keeps it free of ordinary tasks.
    pub isolated: bool,
    /// Positions in [`Topology::holders`]; more than one only while containers of one pod hand CPUs on.
    pub holders: Vec<usize>,
}

/// What an online CPU is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Usage {
    /// Containers hold it, nobody else runs on it.
    Exclusive,
    /// It can be given out; until then it is one of the shared pool.
    Free,
    /// One of the shared pool that is never given out.
    Shared,
    /// Reserved for the system.
    Reserved,
    /// No pod may use it.
    Other,
}

impl Usage {
    /// Every use, in the order of legends.
    pub const ALL: [Self; 5] = [Self::Exclusive, Self::Free, Self::Shared, Self::Reserved, Self::Other];

    /// The word in tables, in JSON and in class names.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exclusive => "exclusive",
            Self::Free => "free",
            Self::Shared => "shared",
            Self::Reserved => "reserved",
            Self::Other => "other",
        }
    }

    /// One character for it where nobody holds the CPU.
    #[must_use]
    pub const fn symbol(self) -> char {
        match self {
            Self::Exclusive => '!',
            Self::Free => '.',
            Self::Shared => '~',
            Self::Reserved => '#',
            Self::Other => '-',
        }
    }

    /// What it means, for legends.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Exclusive => "held by one container",
            Self::Free => "free to be given out, shared until then",
            Self::Shared => "shared",
            Self::Reserved => "reserved for the system",
            Self::Other => "not for pods",
        }
    }
}

/// A container that holds CPUs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Holder {
    /// Namespace of its pod; empty where no local source knows it.
    pub namespace: String,
    /// Its pod: the name, or else the uid.
    pub pod: String,
    /// Its name, or else its id.
    pub container: String,
    /// Why it does not run as was ordered; `None`: it does.
    pub mispinned: Option<String>,
    /// True while it does not run and keeps its CPUs for its next start.
    pub waiting: bool,
}

impl Holder {
    /// `namespace/pod/container`, without a namespace that is not known.
    #[must_use]
    pub fn path(&self) -> String {
        let Self { namespace, pod, container, .. } = self;
        if namespace.is_empty() { format!("{pod}/{container}") } else { format!("{namespace}/{pod}/{container}") }
    }
}

impl Topology {
    /// The facts of a view.
    #[must_use]
    pub fn new(node: &str, view: &NodeView) -> Self {
        let mut topology = Self {
            node: node.to_owned(),
            offline_cpus: view.machine.offline_cpus.clone(),
            numa_nodes: view.machine.numa_nodes.clone(),
            observe_only: view.observe_only.clone(),
            ..Self::default()
        };
        let mut holders_of = BTreeMap::<u32, Vec<usize>>::new();
        for (pod, container) in view.pods.iter().flat_map(|pod| pod.containers.iter().map(move |c| (pod, c))) {
            let holder = Holder {
                namespace: pod.namespace.clone(),
                pod: pod.name.clone(),
                container: container.name.clone(),
                mispinned: container.mispinned.clone(),
                waiting: container.waiting,
            };
            if container.exclusive_cpus.is_empty() {
                topology.sharing_containers += u64::from(!container.waiting);
                topology.mispinned_sharing.extend(Some(holder).filter(|holder| holder.mispinned.is_some()));
                continue;
            }
            for cpu in &container.exclusive_cpus {
                holders_of.entry(*cpu).or_default().push(topology.holders.len());
            }
            topology.holders.push(holder);
        }
        let set = |cpus: &[u32]| cpus.iter().copied().collect::<CpuSet>();
        let (reserved, allocatable) = (set(&view.reserved_cpus), set(&view.allocatable_cpus));
        let (shared, isolated) = (set(&view.shared_cpus), set(&view.machine.isolated_cpus));
        let cpus = view.machine.cpus.iter().map(|place| {
            let holders = holders_of.remove(&place.cpu).unwrap_or_default();
            let usage = match place.cpu {
                _ if !holders.is_empty() => Usage::Exclusive,
                cpu if reserved.contains(cpu) => Usage::Reserved,
                cpu if allocatable.contains(cpu) => Usage::Free,
                cpu if shared.contains(cpu) => Usage::Shared,
                _ => Usage::Other,
            };
            Cpu { place: *place, usage, isolated: isolated.contains(place.cpu), holders }
        });
        topology.cpus = cpus.collect();
        topology
    }

    /// CPUs of a holder.
    #[must_use]
    pub fn cpus_of(&self, holder: usize) -> CpuSet {
        self.cpus.iter().filter(|cpu| cpu.holders.contains(&holder)).map(|cpu| cpu.place.cpu).collect()
    }

    /// CPUs of one use.
    #[must_use]
    pub fn cpus_in(&self, usage: Usage) -> CpuSet {
        self.cpus.iter().filter(|cpu| cpu.usage == usage).map(|cpu| cpu.place.cpu).collect()
    }

    /// What stands for a CPU where there is little room: the key of its holder, or the symbol of its use; `+` follows
    /// where there are several holders, `!` where one does not run as ordered.
    #[must_use]
    pub fn mark(&self, cpu: &Cpu) -> String {
        let doubt = if self.is_mispinned(cpu) { "!" } else { "" };
        match cpu.holders.as_slice() {
            [] => cpu.usage.symbol().to_string(),
            [only] => key(*only) + doubt,
            [first, ..] => key(*first) + "+" + doubt,
        }
    }

    /// True if a holder of the CPU does not run as ordered.
    #[must_use]
    pub fn is_mispinned(&self, cpu: &Cpu) -> bool {
        self.holders_of(cpu).any(|holder| holder.mispinned.is_some())
    }

    /// Containers that do not run as ordered: those with CPUs of their own, then those without.
    pub fn mispinned(&self) -> impl Iterator<Item = &Holder> {
        self.holders.iter().filter(|holder| holder.mispinned.is_some()).chain(&self.mispinned_sharing)
    }

    fn holders_of<'a>(&'a self, cpu: &'a Cpu) -> impl Iterator<Item = &'a Holder> {
        cpu.holders.iter().filter_map(|holder| self.holders.get(*holder))
    }

    /// Its use and its holders, in words.
    #[must_use]
    pub fn describe(&self, cpu: &Cpu) -> String {
        let names: Vec<String> = self.holders_of(cpu).map(Holder::path).collect();
        let mut words =
            if names.is_empty() { cpu.usage.meaning().to_owned() } else { format!("held by {}", names.join(" and ")) };
        if cpu.isolated {
            words.push_str(", isolated by the kernel");
        }
        for reason in self.holders_of(cpu).filter_map(|holder| holder.mispinned.as_ref()) {
            words.push_str("; mispinned: ");
            words.push_str(reason);
        }
        words
    }
}

/// Short name of a holder by its position: `A` … `Z`, `AA` …
#[must_use]
pub fn key(mut holder: usize) -> String {
    let mut letters = Vec::new();
    loop {
        letters.push(char::from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ".get(holder % 26).copied().unwrap_or(b'?')));
        if holder < 26 {
            return letters.iter().rev().collect();
        }
        holder = holder / 26 - 1;
    }
}

#[cfg(test)]
mod tests;
