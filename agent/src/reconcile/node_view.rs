//! Who holds which CPUs and which memory: what the subsystem `pinning` shows beside its report.

mod machine;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use trimtab_domain::workload::{ContainerId, PodUid, QosClass};

pub use self::machine::{CpuView, MachineView, MemoryBook, MemoryUse, NumaNodeView};

/// The workloads of the node and what they hold; made anew after each pass, never changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeView {
    /// The machine under them.
    pub machine: MachineView,
    /// Pods in byte order of namespace, name, uid.
    pub pods: Vec<PodView>,
    /// CPUs that could be given out exclusively on the empty node, ascending; empty under policy `none`.
    pub allocatable_cpus: Vec<u32>,
    /// Memory that could be given out on the empty node, by node then type; empty under policy `None`.
    pub allocatable_memory: Vec<MemoryBlock>,
    /// CPUs of the shared pool, ascending.
    pub shared_cpus: Vec<u32>,
    /// CPUs reserved for the system, ascending.
    pub reserved_cpus: Vec<u32>,
    /// Why nothing is written although a policy is set; `None`: pins are enforced.
    pub observe_only: Option<String>,
    /// Who else pins; empty: nobody.
    pub foreign_pinners: BTreeSet<PinnerKind>,
    /// Pods of which a container is not created at the moment, because the runtime was answered that it cannot be placed.
    pub held_pods: usize,
    /// How late containers were pinned since the agent started.
    pub late_pins: LatePins,
    /// Why containers have what they have; those of which nobody decides are not in it.
    pub explanations: BTreeMap<ContainerId, Explained>,
}

/// Why a container has the CPUs and the memory that it has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Explained {
    /// The rule that decided, in one sentence.
    pub rule: String,
    /// What the container asks for; empty: not known.
    pub request: String,
    /// Policies in force.
    pub policy: String,
    /// The NUMA nodes that were agreed on, and how well that suits; empty: no opinion.
    pub hint: String,
    /// Who writes its sets; empty: nobody.
    pub writer: String,
}

/// Another program that gives out CPUs or memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PinnerKind {
    /// The kubelet, by its configuration, its state files or its own word.
    Kubelet,
    /// Somebody whose sets show at the container runtime: another NRI plugin, hooks of CRI-O, a manager in disguise.
    Runtime,
}

impl PinnerKind {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Kubelet, Self::Runtime];

    /// Label in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kubelet => "kubelet",
            Self::Runtime => "runtime",
        }
    }
}

/// How late containers were pinned that got CPUs of their own when they ran already; one that a runtime created with its
/// CPUs is never among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LatePins {
    /// They were there when the agent started: the hand-over between two agents.
    pub at_start: Lateness,
    /// They came while the agent ran: the start race.
    pub later: Lateness,
}

/// Time from the creation of containers to their pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lateness {
    /// How many.
    pub count: u64,
    /// Of the last one; absent before the first, or if nobody knows when it was created.
    pub last: Option<Duration>,
    /// The longest.
    pub longest: Option<Duration>,
}

/// One pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodView {
    /// Its uid (for a static pod the hash of its configuration).
    pub uid: PodUid,
    /// Its name; the uid where no local source knows the name.
    pub name: String,
    /// Its namespace; empty where no local source knows it.
    pub namespace: String,
    /// Its QoS class.
    pub qos: QosClass,
    /// Its containers, sandbox and ordinary init containers that are over left out: those that run, then those that wait.
    pub containers: Vec<ContainerView>,
}

/// One container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerView {
    /// Its name; the id where no local source knows the name.
    pub name: String,
    /// Id given by the runtime.
    pub id: ContainerId,
    /// CPUs that only this container may use, ascending; empty: it runs in the shared pool.
    pub exclusive_cpus: Vec<u32>,
    /// Memory blocks that it holds; empty without memory pinning.
    pub memory: Vec<MemoryBlock>,
    /// CPUs that the kernel lets it use now, in list form.
    pub effective_cpus: String,
    /// NUMA nodes that the kernel lets it use now, in list form.
    pub effective_mems: String,
    /// Why it does not run as was ordered; `None`: it does.
    pub mispinned: Option<String>,
    /// True while it does not run and keeps what it holds: it crashed and will be restarted, or is about to be made.
    pub waiting: bool,
}

/// Memory of one type from a set of NUMA nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryBlock {
    /// `memory`, `hugepages-2Mi` …
    pub memory_type: String,
    /// Bytes in total over all nodes.
    pub size_bytes: u64,
    /// NUMA node ids, ascending.
    pub numa_nodes: Vec<u32>,
}
