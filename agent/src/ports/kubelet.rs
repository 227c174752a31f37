//! The kubelet of the node: its configuration and its state files.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;

use trimtab_domain::cgroup::Configured;
use trimtab_domain::cpuset::CpuSet;
use trimtab_domain::roster::isolation::HandlerTypes;
use trimtab_domain::spec::ResourceManagersSpec;
use trimtab_domain::workload::PodUid;

/// Where the kubelet's configuration and state come from.
pub trait KubeletSource: Send + Sync + 'static {
    /// The configuration that the running kubelet has, or the next one will have. Unreadable parts become problems in
    /// the answer: pinning must know that it does not know.
    fn settings(&self) -> KubeletSettings;

    /// The kubelet's own record of CPUs and memory.
    fn state(&self) -> KubeletState;
}

/// The kubelet's PodResources API, which tells by its answer whether the kubelet itself gives CPUs out.
pub trait KubeletAllocatable: Send + Sync + 'static {
    /// CPUs that the kubelet may give to containers; empty unless its CPU manager is static. `None`: nobody answers in
    /// time, which says nothing.
    fn exclusive_cpus(&self) -> Pin<Box<dyn Future<Output = Option<CpuSet>> + Send + '_>>;
}

/// The effective configuration, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KubeletSettings {
    /// True if a kubelet runs, or anything of one is configured.
    pub present: bool,
    /// Whether a process was found, with its command line.
    pub running: bool,
    /// cgroup driver and where it is set; absent without a kubelet.
    pub driver: Option<Configured>,
    /// Everywhere else that a driver is set, from the strongest to the weakest.
    pub other_drivers: Vec<Configured>,
    /// `cgroupRoot`; empty: `/`.
    pub cgroup_root: String,
    /// `containerRuntimeEndpoint`; empty: set nowhere, or no kubelet is known.
    pub runtime_endpoint: String,
    /// `--root-dir`.
    pub root_dir: String,
    /// Resource managers, with the source of the CPU and memory policy.
    pub managers: ResourceManagersSpec,
    /// Where `cpuManagerPolicy` is set; empty: nowhere, the default `none` is in force.
    pub cpu_policy_source: String,
    /// Where `memoryManagerPolicy` is set; empty: nowhere, the default `None` is in force.
    pub memory_policy_source: String,
    /// Files and flags that make up the configuration, in the order in which they are merged.
    pub sources: Vec<String>,
    /// What could not be read or understood.
    pub problems: Vec<String>,
}

/// What the kubelet's checkpoints say; policies are empty where there is no file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KubeletState {
    /// `policyName` of `cpu_manager_state`.
    pub cpu_policy: String,
    /// Its shared pool.
    pub shared_cpus: CpuSet,
    /// Exclusive CPUs by pod and container name.
    pub cpus: BTreeMap<(PodUid, String), CpuSet>,
    /// `policyName` of `memory_manager_state`.
    pub memory_policy: String,
    /// Memory blocks by pod and container name.
    pub memory: BTreeMap<(PodUid, String), Vec<KubeletBlock>>,
    /// What could not be read or understood.
    pub problems: Vec<String>,
}

/// A memory block in the kubelet's checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubeletBlock {
    /// NUMA nodes, ascending.
    pub nodes: Vec<u32>,
    /// `memory`, `hugepages-2Mi` …
    pub memory_type: String,
    /// Bytes.
    pub size_bytes: u64,
}

/// Where the container runtimes' configuration comes from.
pub trait RuntimeSource: Send + Sync + 'static {
    /// The cgroup driver of every runtime handler that is configured, each with its source.
    fn drivers(&self) -> RuntimeSettings;
}

/// What the configuration files of the container runtimes say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RuntimeSettings {
    /// Drivers by handler.
    pub drivers: Vec<Configured>,
    /// Types of the handlers.
    pub handlers: HandlerTypes,
    /// What could not be read or understood, or has no effect.
    pub problems: Vec<String>,
}
