//! The subsystems on a real node, wired to their adapters.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use tokio::sync::watch;
use tracing::warn;
use trimtab_domain::plan::Finding;

use crate::adapters::cgroup_fs::CgroupFs;
use crate::adapters::conntrack::Conntrack;
use crate::adapters::cri::{CriRuntime, Patience, SocketSearch};
use crate::adapters::driver_files::DriverFiles;
use crate::adapters::host_fs::HostFs;
use crate::adapters::instance_lock::InstanceLock;
use crate::adapters::iptables::{Iptables, SEARCH_PATH};
use crate::adapters::kubelet_config::KubeletFiles;
use crate::adapters::ledger::DiskLedger;
use crate::adapters::masq_files::MasqFiles;
use crate::adapters::migration_file::MigrationFile;
use crate::adapters::modprobe::Modprobe;
use crate::adapters::nat_writers::NatWriters;
use crate::adapters::nftables::counters::KernelCounters;
use crate::adapters::pod_names::LogNames;
use crate::adapters::pod_resources::PodResourcesApi;
use crate::adapters::process_table::ProcessTable;
use crate::adapters::runtime_config::RuntimeFiles;
use crate::adapters::systemd::Systemd;
use crate::adapters::thread_masks::ProcThreads;
use crate::adapters::topology_sysfs::SysfsTopology;
use crate::cluster::migration::{MigrationPorts, OwnPod};
use crate::config::{CriSocket, NodeArgs, PodResourcesSocket};
use crate::ports::HostFiles;
use crate::ports::cgroups::CgroupTree;
use crate::ports::kubelet::{KubeletSource, RuntimeSource};
use crate::ports::machine::MachineSource;
use crate::ports::names::Processes;
use crate::ports::runtime::ContainerRuntime;
use crate::ports::traffic::Traffic;
use crate::ports::units::Units;
use crate::reconcile::engine::{Held, held};
use crate::reconcile::node_view::NodeView;
use crate::subsystems::allocatable::{Allocatable, AllocatablePorts};
use crate::subsystems::cgroup::Cgroup;
use crate::subsystems::kernel::Kernel;
use crate::subsystems::masquerade::Masquerade;
use crate::subsystems::pinning::desk::Desk;
use crate::subsystems::pinning::{Pinning, PinningPorts};
use crate::subsystems::sysctl::Sysctl;

/// Namespace of the agent's own objects where nobody says another.
const DEFAULT_NAMESPACE: &str = "trimtab-system";
/// `--root-dir` of a kubelet that is not told another one.
const DEFAULT_KUBELET_ROOT: &str = "/var/lib/kubelet";

/// Everything that is held on this node.
pub(super) struct Node {
    /// In the order in which they are reported and, by the commands that act once, settled.
    pub(super) subsystems: Vec<Box<dyn Held>>,
    /// Who holds which CPUs and memory.
    pub(super) view: watch::Receiver<Arc<NodeView>>,
    /// Answers the container runtime.
    pub(super) desk: Arc<Desk>,
    /// The container runtime, for the thread that answers it.
    pub(super) answered_runtime: Option<Arc<dyn ContainerRuntime>>,
    /// The kubelet's own PodResources API; `None`: it is not asked.
    pub(super) pod_resources: Option<Arc<PodResourcesApi>>,
    /// Who else writes the NAT table; to be told of what the kernel announces.
    pub(super) nat_writers: Arc<NatWriters>,
    /// What the masquerade rules count.
    pub(super) traffic: Arc<Traffic>,
    /// How the node is moved to another cgroup driver; absent without a runtime.
    pub(super) migration: Option<MigrationPorts>,
}

/// Wires the subsystems to the node.
pub(super) fn compose(args: &NodeArgs, ledger: DiskLedger) -> anyhow::Result<Node> {
    let ledger = Arc::new(ledger);
    let files = Arc::new(HostFs::new(&args.host_root)?);
    let host: Arc<dyn HostFiles> = Arc::<HostFs>::clone(&files);
    let processes: Arc<dyn Processes> = Arc::new(ProcessTable::new(Arc::clone(&host)));
    let hierarchies = Arc::new(CgroupFs::new(Arc::clone(&host), &args.cgroup_root)?);
    let tree: Arc<dyn CgroupTree> = Arc::<CgroupFs>::clone(&hierarchies);
    let kubelet: Arc<dyn KubeletSource> = Arc::new(KubeletFiles::new(Arc::clone(&host), Arc::clone(&processes)));
    let runtimes = Arc::new(RuntimeFiles::new(Arc::clone(&host), Arc::clone(&processes)));
    let machine: Arc<dyn MachineSource> = Arc::new(SysfsTopology::new(Arc::clone(&host)));
    let nat_writers = Arc::new(NatWriters::new(Arc::clone(&host), Arc::clone(&processes)));
    let nat = Arc::new(Iptables::new(SEARCH_PATH).beside(Arc::clone(&nat_writers)).of_host(&args.host_root));
    let traffic = Arc::new(Traffic::new(Arc::new(KernelCounters)));
    let units: Arc<dyn Units> = Arc::new(Systemd::new(&args.host_root));
    let migration = migration(args, (&host, &kubelet, &runtimes));
    let answered_runtime = runtime(args, &kubelet, Arc::<RuntimeFiles>::clone(&runtimes));
    let runtime = runtime(args, &kubelet, Arc::<RuntimeFiles>::clone(&runtimes));
    let (mut pinning, view) = Pinning::new(PinningPorts {
        tree: Arc::clone(&tree),
        machine: Arc::clone(&machine),
        kubelet: Arc::clone(&kubelet),
        names: Arc::new(LogNames::new(Arc::clone(&host))),
        threads: Arc::new(ProcThreads::new(Arc::clone(&host))),
        runtime: runtime.clone(),
        units: Some(Arc::clone(&units)),
        ledger: Arc::<DiskLedger>::clone(&ledger),
    });
    let pod_resources = pod_resources(args, &kubelet.settings().root_dir).map(Arc::new);
    if let Some(api) = &pod_resources {
        pinning = pinning.beside_kubelet(Arc::<PodResourcesApi>::clone(api));
    }
    let allocatable = Allocatable::new(AllocatablePorts {
        files: Arc::clone(&host),
        hierarchies,
        tree: Arc::clone(&tree),
        machine,
        kubelet: Arc::clone(&kubelet),
        processes,
        units,
        ledger: Arc::<DiskLedger>::clone(&ledger),
    });
    let desk = pinning.desk();
    let modules = Arc::new(Modprobe::new("modprobe", &args.host_root));
    let masquerade = Masquerade::new(nat, Arc::clone(&ledger), Arc::new(MasqFiles::new(&args.state_dir)));
    let masquerade = masquerade.watching(host, Some(Arc::new(Conntrack))).counting(Arc::clone(&traffic));
    let subsystems = vec![
        held(Sysctl::new(Arc::clone(&files), Arc::clone(&ledger))),
        held(Kernel::new(files, modules, Arc::clone(&ledger))),
        held(Cgroup::new(tree, kubelet, runtimes).with_runtime(runtime)),
        held(pinning),
        held(allocatable),
        held(masquerade),
    ];
    Ok(Node { subsystems, view, desk, answered_runtime, nat_writers, traffic, pod_resources, migration })
}

/// The node's side of a migration, with connections of its own for its thread. The agent's own pod is told by the API
/// server's thread, which knows whether there is one.
fn migration(
    args: &NodeArgs,
    (host, kubelet, runtimes): (&Arc<dyn HostFiles>, &Arc<dyn KubeletSource>, &Arc<RuntimeFiles>),
) -> Option<MigrationPorts> {
    if args.cri_socket == CriSocket::Off {
        return None;
    }
    let search = SocketSearch {
        socket: args.cri_socket.clone(),
        host_root: args.host_root.clone(),
        kubelet: Arc::clone(kubelet),
    };
    let runtime = Arc::new(CriRuntime::new(search, Patience::default()));
    let sources: Arc<dyn RuntimeSource> = Arc::<RuntimeFiles>::clone(runtimes);
    Some(MigrationPorts {
        files: Arc::new(DriverFiles::new(Arc::clone(host), Arc::clone(kubelet), sources)),
        services: Arc::new(Systemd::new(&args.host_root)),
        runtime: Arc::<CriRuntime>::clone(&runtime),
        sandboxes: runtime,
        journal: MigrationFile::of(&args.state_dir),
        own: if args.host_root == Path::new("/") { OwnPod::None } else { OwnPod::Unknown },
        namespace: DEFAULT_NAMESPACE.to_owned(),
    })
}

/// The kubelet's API, below its root directory or where the flag says.
fn pod_resources(args: &NodeArgs, kubelet_root: &str) -> Option<PodResourcesApi> {
    let on_host = |path: &Path| args.host_root.join(path.strip_prefix("/").unwrap_or(path));
    let kubelet_root = if kubelet_root.is_empty() { DEFAULT_KUBELET_ROOT } else { kubelet_root };
    match &args.pod_resources_socket {
        PodResourcesSocket::Off => None,
        PodResourcesSocket::Path(socket) => Some(PodResourcesApi::at(on_host(socket))),
        PodResourcesSocket::Auto => Some(PodResourcesApi::new(on_host(Path::new(kubelet_root)))),
    }
}

/// The container runtime, for the thread that holds the node; each other thread needs its own.
fn runtime(
    args: &NodeArgs,
    kubelet: &Arc<dyn KubeletSource>,
    files: Arc<RuntimeFiles>,
) -> Option<Arc<dyn ContainerRuntime>> {
    let (socket, host_root) = (args.cri_socket.clone(), args.host_root.clone());
    if socket == CriSocket::Off {
        return None;
    }
    let search = SocketSearch { socket, host_root, kubelet: Arc::clone(kubelet) };
    Some(Arc::new(CriRuntime::new(search, Patience::default()).with_configuration(files)))
}

/// Takes the locks of the node and of the state directory: two agents on one node would fight.
pub(super) fn lock(args: &NodeArgs) -> anyhow::Result<[InstanceLock; 2]> {
    let host = args.host_root.join("run/trimtab/lock");
    let state = args.state_dir.join("lock");
    Ok([InstanceLock::acquire(&host)?, InstanceLock::acquire(&state)?])
}

/// Name of this node: the flag, or the host name.
pub(super) fn name(args: &NodeArgs) -> anyhow::Result<String> {
    if let Some(name) = &args.node_name {
        return Ok(name.clone());
    }
    let name = nix::unistd::gethostname().context("cannot read the host name; give --node-name")?;
    Ok(name.to_string_lossy().into_owned())
}

/// Says on the log what had to be set aside.
pub(super) fn warn_of(findings: &[Finding]) {
    for finding in findings {
        warn!(code = finding.code, object = finding.object, remedy = finding.remedy, "{}", finding.message);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::cli::SUBSYSTEMS;

    #[test]
    fn the_command_line_knows_every_subsystem_by_its_name() {
        let state = tempfile::tempdir().unwrap();
        let args = args(state.path());
        let node = compose(&args, DiskLedger::peek(state.path()).unwrap().0).unwrap();
        let names: Vec<&str> = node.subsystems.iter().map(|subsystem| subsystem.name()).collect();
        assert_eq!(names, SUBSYSTEMS);
    }

    fn args(state: &Path) -> NodeArgs {
        NodeArgs {
            profile: "profile.yaml".into(),
            state_dir: state.into(),
            host_root: "/".into(),
            cgroup_root: "/".into(),
            cri_socket: CriSocket::Off,
            pod_resources_socket: PodResourcesSocket::Off,
            node_name: None,
        }
    }

    #[test]
    fn the_kubelet_is_asked_below_its_root_directory_or_where_the_flag_says() {
        let rows = [
            ("auto", "", Some("/host/var/lib/kubelet/pod-resources/kubelet.sock")),
            ("auto", "/var/lib/k0s/kubelet", Some("/host/var/lib/k0s/kubelet/pod-resources/kubelet.sock")),
            ("unix:///run/other.sock", "/var/lib/kubelet", Some("/host/run/other.sock")),
            ("/run/other.sock", "", Some("/host/run/other.sock")),
            ("off", "/var/lib/kubelet", None),
        ];
        for (flag, kubelet_root, expected) in rows {
            let pod_resources_socket = flag.parse().unwrap();
            let args = NodeArgs { host_root: "/host".into(), pod_resources_socket, ..args(Path::new("/state")) };
            let api = pod_resources(&args, kubelet_root);
            assert_eq!(api.map(|api| api.path()).as_deref(), expected, "{flag} with {kubelet_root:?}");
        }
        for bad in ["", "run/kubelet.sock", "/run/../kubelet.sock"] {
            assert!(bad.parse::<PodResourcesSocket>().is_err(), "{bad:?}");
        }
    }
}
