//! Times of the answers to a runtime that creates containers, on a machine with 256 CPUs that runs 1,000 of them: what
//! pinning adds to each create, the lock included.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a bench prints, and stops at the first surprise"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use trimtab::ports::admission::{Admission, Lifecycle, RuntimePeer};
use trimtab::ports::cgroups::{CgroupError, CgroupTree, TreeEvidence, Written};
use trimtab::ports::kubelet::{KubeletSettings, KubeletSource, KubeletState};
use trimtab::ports::machine::{Hardware, MachineSource, TopologyError};
use trimtab::ports::names::{Names, PodNames};
use trimtab::ports::threads::{ThreadMasks, Threads};
use trimtab::ports::{FileError, Ledger, LedgerError};
use trimtab::reconcile::Subsystem;
use trimtab::subsystems::pinning::{Pinning, PinningPorts};
use trimtab_domain::cgroup::tree::PodTree;
use trimtab_domain::record::{LedgerChange, Record};
use trimtab_domain::roster::{ContainerState, Sandbox, SandboxContainer, SandboxId, ToldResources};
use trimtab_domain::spec::ResourceManagersSpec;
use trimtab_domain::topology::{CpuInfo, NumaNode};
use trimtab_domain::workload::{ContainerId, PodUid};

/// A node without cgroups: only what the desk answers counts.
struct Bare;

impl CgroupTree for Bare {
    fn evidence(&self) -> Result<TreeEvidence, CgroupError> {
        Ok(TreeEvidence::default())
    }
    fn pods(&self) -> Result<Option<PodTree>, CgroupError> {
        Ok(None)
    }
    fn read(&self, _: &str, _: &str) -> Result<Option<String>, CgroupError> {
        Ok(None)
    }
    fn is_populated(&self, _: &str) -> Result<bool, CgroupError> {
        Ok(false)
    }
    fn write(&self, _: &str, _: &str, _: &str) -> Result<Written, CgroupError> {
        Ok(Written::Vanished)
    }
}

impl MachineSource for Bare {
    fn read(&self) -> Result<Hardware, TopologyError> {
        let cpu = |cpu: u32| CpuInfo {
            cpu,
            core: cpu % 128,
            socket: cpu % 128 / 64,
            numa: cpu % 128 / 16,
            uncore_cache: None,
        };
        let distances = |id: u32| (0..8).map(|other| if other == id { 10 } else { 20 }).collect();
        let node = |id| NumaNode { id, memory_bytes: 64 << 30, hugepages: Vec::new(), distances: distances(id) };
        Ok(Hardware {
            cpus: (0..256).map(cpu).collect(),
            nodes: (0..8).map(node).collect(),
            sockets: Some(2),
            memory_bytes: 512 << 30,
            ..Hardware::default()
        })
    }
}

impl KubeletSource for Bare {
    fn settings(&self) -> KubeletSettings {
        KubeletSettings::default()
    }
    fn state(&self) -> KubeletState {
        KubeletState::default()
    }
}

impl PodNames for Bare {
    fn read(&self) -> Result<Names, FileError> {
        Ok(Names::default())
    }
}

impl Ledger for Bare {
    fn records(&self, _: &str) -> Vec<Record> {
        Vec::new()
    }
    fn commit(&self, _: &str, _: &[LedgerChange]) -> Result<(), LedgerError> {
        Ok(())
    }
}

impl Threads for Bare {
    fn masks(&self, _: &[&ContainerId]) -> BTreeMap<ContainerId, ThreadMasks> {
        BTreeMap::new()
    }
}

fn id(number: u32, what: u32) -> String {
    format!("{what:08x}{:056x}", u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

fn sandbox(number: u32, class: &str) -> Sandbox {
    let uid = format!("{:08x}-aaaa-bbbb-cccc-{number:012x}", number.wrapping_mul(0x9e37_79b9));
    Sandbox {
        id: SandboxId(id(number, 0)),
        cgroup_parent: format!("/kubepods.slice/kubepods-{class}pod{uid}.slice"),
        uid: PodUid(uid),
        namespace: "shop".into(),
        name: format!("pod-{number}"),
        labels: (0..8).map(|label| (format!("example.com/label-{label}"), "some value".to_owned())).collect(),
        annotations: (0..4).map(|key| (format!("example.com/annotation-{key}"), "some value".to_owned())).collect(),
        runtime_handler: String::new(),
        ready: true,
        created_at_ns: 0,
        pod_resources: None,
    }
}

fn container(number: u32, sandbox: &Sandbox, milli: u64, guaranteed: bool) -> SandboxContainer {
    SandboxContainer {
        id: ContainerId(id(number, 1)),
        sandbox: sandbox.id.clone(),
        name: "main".into(),
        state: ContainerState::Created,
        created_at_ns: 0,
        pid: None,
        cgroups_path: String::new(),
        labels: sandbox.labels.clone(),
        annotations: sandbox.annotations.clone(),
        resources: Some(ToldResources {
            cpu_shares: Some(milli * 1024 / 1000),
            cpu_quota_us: guaranteed.then(|| i64::try_from(milli * 100).unwrap()),
            cpu_period_us: Some(100_000),
            memory_limit_bytes: guaranteed.then_some(1 << 28),
            ..ToldResources::default()
        }),
    }
}

fn report(name: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |share: usize| times[(times.len() * share / 1000).min(times.len() - 1)];
    println!("{name}: {} answers, p50 {:?}, p99 {:?}, longest {:?}", times.len(), at(500), at(990), at(1000));
}

fn main() {
    for (policy, memory) in [("none", false), ("restricted", false), ("restricted", true)] {
        println!("topology policy {policy}, memory {}:", if memory { "Static" } else { "None" });
        measure(&settings(policy, memory));
    }
}

fn settings(policy: &str, memory: bool) -> Option<ResourceManagersSpec> {
    let mut spec = ResourceManagersSpec {
        cpu_manager_policy: "static".into(),
        reserved_system_cpus: "0-1".into(),
        topology_manager_policy: policy.into(),
        ..ResourceManagersSpec::default()
    };
    if memory {
        spec.memory_manager_policy = "Static".into();
        spec.system_reserved.insert("memory".into(), "924Mi".into());
        let limits = BTreeMap::from([("memory".to_owned(), "1Gi".to_owned())]);
        spec.reserved_memory = vec![trimtab_domain::spec::resource_managers::ReservedMemory { numa_node: 0, limits }];
    }
    Some(spec)
}

/// A desk that a first pass has informed, in front of 1,000 containers on the shared CPUs.
fn busy_node(
    spec: &Option<ResourceManagersSpec>,
    runtime: &tokio::runtime::Runtime,
) -> (Pinning, Arc<trimtab::subsystems::pinning::desk::Desk>) {
    let (agent, _view) = Pinning::new(PinningPorts {
        tree: Arc::new(Bare),
        machine: Arc::new(Bare),
        kubelet: Arc::new(Bare),
        names: Arc::new(Bare),
        ledger: Arc::new(Bare),
        threads: Arc::new(Bare),
        runtime: None,
        units: None,
    });
    let desk = agent.desk();
    runtime.block_on(agent.observe(spec)).unwrap();
    desk.connected(&RuntimePeer {
        name: "containerd".into(),
        version: "2.1".into(),
        nri: None,
        safe_unsolicited_updates: false,
    });
    for number in 0..1000 {
        let pod = sandbox(number, "burstable-");
        desk.event(Lifecycle::SandboxStarted, &pod, None);
        desk.create(&pod, &container(number, &pod, 100, false)).unwrap();
    }
    (agent, desk)
}

fn measure(spec: &Option<ResourceManagersSpec>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (agent, desk) = busy_node(spec, &runtime);
    let (mut exclusive, mut shared, mut views) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..40_u32 {
        let numbers = 1000 + round * 60..1060 + round * 60;
        for number in numbers.clone() {
            let is_exclusive = number % 2 == 0;
            let pod = sandbox(number, if is_exclusive { "" } else { "burstable-" });
            desk.event(Lifecycle::SandboxStarted, &pod, None);
            let made = container(number, &pod, if is_exclusive { 4000 } else { 100 }, is_exclusive);
            let start = Instant::now();
            desk.create(&pod, &made).unwrap();
            if is_exclusive { exclusive.push(start.elapsed()) } else { shared.push(start.elapsed()) }
        }
        let start = Instant::now();
        std::hint::black_box(desk.view());
        views.push(start.elapsed());
        runtime.block_on(agent.observe(spec)).unwrap();
        for number in numbers {
            let pod = sandbox(number, if number % 2 == 0 { "" } else { "burstable-" });
            desk.event(Lifecycle::SandboxRemoved, &Sandbox { ready: false, ..pod }, None);
        }
    }
    report("  create with 4 exclusive CPUs, up to 1000 others narrowed", exclusive);
    report("  create on the shared CPUs", shared);
    report("  what a pass takes along (the lock is held)", views);
}
