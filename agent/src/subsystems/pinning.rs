//! CPUs of their own and memory of their own NUMA nodes for the containers that are entitled to them.
//!
//! The pods are read from the live cgroup tree, so neither a runtime nor an API server is asked. Decisions come from the
//! resource managers of the domain; every pass makes them anew from what runs, what the ledger remembers, and the
//! profile. Containers are taken in the order in which their cgroups were made (inode numbers of kernfs rise), so two
//! agents would decide alike.

mod apply;
mod decide;
pub mod desk;
mod facts;
mod lateness;
mod lookout;
mod placement_record;
mod planning;
mod preflight;
mod readback;
mod sandboxes;
mod step;
mod survey;
mod transition;
mod view;
mod writers;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use trimtab_domain::cgroup::Version;
use trimtab_domain::cgroup::tree::PodTree;
use trimtab_domain::plan::Plan;
use trimtab_domain::record::Record;
use trimtab_domain::roster::join::{Joined, Sources, join};
use trimtab_domain::spec::{NodeSpec, ResourceManagersSpec};
use trimtab_domain::workload::QosClass;

use self::decide::Decision;
use self::desk::{Desk, DeskView};
pub use self::facts::Observed;
use self::lookout::Lookout;
use self::planning::Limits;
use self::preflight::Preflight;
pub use self::step::{Expected, FileWrite, FirstPin, PinStep};
use self::writers::{QUOTA, quota_file};
pub use self::writers::{Via, Writers};
use crate::ports::cgroups::{CgroupError, CgroupTree};
use crate::ports::kubelet::{KubeletAllocatable, KubeletSource};
use crate::ports::machine::MachineSource;
use crate::ports::names::{Names, PodNames};
use crate::ports::runtime::ContainerRuntime;
use crate::ports::threads::Threads;
use crate::ports::units::Units;
use crate::ports::{Ledger, Watch};
use crate::reconcile::node_view::NodeView;
use crate::reconcile::report::ObjectReport;
use crate::reconcile::{Error, Subsystem};

/// Where the kubelet links the logs of containers; a new link is a container that runs.
const CONTAINER_LOGS: &str = "/var/log/containers";

/// Time between two looks at a runtime that does not announce what it does: it forgets a pod a moment after the last cgroup of
/// the pod is gone, and nothing tells of that.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// What the subsystem asks of the node.
#[derive(Clone)]
pub struct PinningPorts {
    /// The cgroups.
    pub tree: Arc<dyn CgroupTree>,
    /// The hardware.
    pub machine: Arc<dyn MachineSource>,
    /// The kubelet.
    pub kubelet: Arc<dyn KubeletSource>,
    /// The names.
    pub names: Arc<dyn PodNames>,
    /// The ledger.
    pub ledger: Arc<dyn Ledger>,
    /// The threads of containers.
    pub threads: Arc<dyn Threads>,
    /// The container runtime; absent: none is asked.
    pub runtime: Option<Arc<dyn ContainerRuntime>>,
    /// systemd; absent: it is not asked.
    pub units: Option<Arc<dyn Units>>,
}

/// The subsystem.
pub struct Pinning {
    ports: PinningPorts,
    view: watch::Sender<Arc<NodeView>>,
    desk: Arc<Desk>,
    lookout: Lookout,
    preflight: Preflight,
}

impl Pinning {
    /// Pins through these ports; the receiver shows who holds what after each look at the node.
    #[must_use]
    pub fn new(ports: PinningPorts) -> (Self, watch::Receiver<Arc<NodeView>>) {
        let (view, receiver) = watch::channel(Arc::new(NodeView::default()));
        (
            Self { ports, view, desk: Arc::default(), lookout: Lookout::default(), preflight: Preflight::default() },
            receiver,
        )
    }

    /// Asks the kubelet, too, whether it gives CPUs out itself.
    #[must_use]
    pub fn beside_kubelet(mut self, kubelet: Arc<dyn KubeletAllocatable>) -> Self {
        self.preflight = Preflight::asking(kubelet);
        self
    }

    /// What answers a container runtime in the name of this subsystem.
    #[must_use]
    pub fn desk(&self) -> Arc<Desk> {
        Arc::clone(&self.desk)
    }

    /// Decides together with the desk: if somebody comes or goes meanwhile, the decision is made again. The desk answers by
    /// it from then on, if it `is_told`.
    fn settle(
        &self,
        desired: Option<&ResourceManagersSpec>,
        observed: &mut Observed,
        names: &Names,
        is_told: bool,
    ) -> Decision {
        /// More than one change is rare, as a decision takes milliseconds.
        const TRIES: u32 = 5;
        let mut tries = 0;
        loop {
            observed.desk = self.desk.view();
            observed.names = facts::names_with(names.clone(), &observed.desk.roster);
            sandboxes::set_apart(observed);
            observed.joined = join(&Sources {
                roster: &observed.desk.roster,
                tree: observed.tree.as_ref(),
                names: &observed.names,
                handlers: &observed.desk.handlers,
                memory_capacity: Some(observed.hardware.memory_bytes).filter(|bytes| *bytes > 0),
            });
            let decision = decide::decide(desired, observed);
            tries += 1;
            // What is not taken is decided again by the next pass, which the change has woken; steps that must not be
            // made on an old decision are refused by the version that they bear.
            if !is_told
                || self.desk.publish(observed.desk.version, decision.for_desk(desired, observed))
                || tries == TRIES
            {
                return decision;
            }
        }
    }

    /// Reads the node, and decides; the desk answers by that if it `is_told`.
    async fn read(&self, desired: Option<&ResourceManagersSpec>, is_told: bool) -> Result<Observed, Error> {
        let ports = &self.ports;
        let mut tree = match ports.tree.pods() {
            Ok(tree) => tree,
            // Without the controller there is nothing to pin; that matters only if somebody wants it.
            Err(CgroupError::NoCpuset) if desired.is_none() => None,
            Err(error) => return Err(Error::transient("cannot read the cgroups of pods", error)),
        };
        let hardware = ports.machine.read().map_err(|error| Error::transient("cannot read the topology", error))?;
        let names = ports.names.read().map_err(|error| Error::transient("cannot read the names of pods", error))?;
        let records = self.records();
        let strays = match &tree {
            None if records.is_empty() => BTreeMap::new(),
            _ => self
                .read_strays(tree.as_ref(), &records)
                .map_err(|error| Error::transient("cannot look after recorded cgroups", error))?,
        };
        let lifted = tree.as_mut().map(|tree| survey::remember_bounds(tree, &records)).unwrap_or_default();
        let wanted = tree.is_some() && (desired.is_some() || !records.is_empty());
        let listing = if wanted { self.ask_runtime().await } else { None };
        let writers = if wanted { self.find_writers(listing.as_ref()).await } else { Writers::default() };
        let newcomers = self.find_newcomers(tree.as_ref(), listing.as_ref(), !records.is_empty());
        if is_told {
            self.desk.follow_settings(desired);
        }
        let listed = listing.is_some();
        self.tell_desk(listing, tree.as_ref());
        let mut observed = Observed {
            tree,
            hardware,
            kubelet: ports.kubelet.settings(),
            kubelet_state: ports.kubelet.state(),
            kubelet_cpus: self.preflight.kubelet_cpus(desired).await,
            names: Names::default(),
            desk: DeskView::default(),
            listed,
            joined: Joined::default(),
            records,
            strays,
            writers,
            lifted,
            threads: BTreeMap::new(),
            newcomers,
            late: self.lookout.late(),
        };
        let mut decision = self.settle(desired, &mut observed, &names, is_told);
        if self.ask_again(&observed).await {
            decision = self.settle(desired, &mut observed, &names, is_told);
        }
        observed.threads = self.look_at_threads(&decision, &observed);
        let view = view::view(&decision, &observed);
        self.view.send_if_modified(|last| {
            let changed = **last != view;
            if changed {
                *last = Arc::new(view);
            }
            changed
        });
        Ok(observed)
    }

    /// The ledger by object.
    fn records(&self) -> BTreeMap<String, Record> {
        let records = self.ports.ledger.records(Self::NAME);
        records.into_iter().map(|record| (record.object.clone(), record)).collect()
    }

    /// Recorded files that are not in the tree, with their texts.
    fn read_strays(
        &self,
        tree: Option<&PodTree>,
        records: &BTreeMap<String, Record>,
    ) -> Result<BTreeMap<String, Option<String>>, CgroupError> {
        let known = tree.map(known_paths).unwrap_or_default();
        let mut strays = BTreeMap::new();
        for object in records.keys() {
            if let Some(path) = placement_record::path_of(object) {
                if !known.contains(path) {
                    strays.insert(object.clone(), None);
                }
            } else if let Some((path, file)) = object.rsplit_once('/')
                && !known.contains(path)
            {
                strays.insert(object.clone(), self.ports.tree.read(path, file)?);
            }
        }
        Ok(strays)
    }
}

/// Paths of all cgroups of the tree whose files may be recorded.
fn known_paths(tree: &PodTree) -> BTreeSet<&str> {
    let directories = std::iter::once(&tree.root).chain(&tree.classes).chain(tree.pods.iter().map(|pod| &pod.cpuset));
    let containers = tree.pods.iter().flat_map(|pod| &pod.containers);
    let containers = containers.flat_map(|container| std::iter::once(&container.cpuset).chain(&container.inner));
    directories.chain(containers).map(|cpuset| cpuset.path.as_str()).collect()
}

impl Subsystem for Pinning {
    const NAME: &'static str = "pinning";
    type Desired = Option<ResourceManagersSpec>;
    type Observed = Observed;
    type Step = PinStep;

    fn desired(spec: &NodeSpec) -> &Self::Desired {
        &spec.resource_managers
    }

    async fn observe(&self, desired: &Self::Desired) -> Result<Observed, Error> {
        self.read(desired.as_ref(), true).await
    }

    /// A new profile that waits for the end of a pause is not answered by either.
    async fn look(&self, desired: &Self::Desired) -> Result<Observed, Error> {
        self.read(desired.as_ref(), self.desk.stands_by(desired.as_ref())).await
    }

    fn plan(desired: &Self::Desired, observed: &Observed) -> Plan<PinStep> {
        planning::plan(&decide::decide(desired.as_ref(), observed), observed, Limits::of(desired.as_ref()))
    }

    async fn apply(&self, step: &PinStep) -> Result<(), Error> {
        match step {
            PinStep::Ledger(changes) => self
                .ports
                .ledger
                .commit(Self::NAME, changes)
                .map_err(|error| Error::transient("cannot remember the cgroups", error)),
            PinStep::Write(write) => self.write(write).await,
            PinStep::Verify(expected) => self.verify(expected),
        }
    }

    fn forget_rejections(&self) {
        self.lookout.forget();
        self.preflight.ask_again();
    }

    fn objects(desired: &Self::Desired, observed: &Observed) -> Vec<ObjectReport> {
        view::objects(&decide::decide(desired.as_ref(), observed), observed)
    }

    fn watches(desired: &Self::Desired, observed: &Observed) -> Vec<Watch> {
        let mut watches = vec![Watch::Hardware, Watch::Directory(PathBuf::from(CONTAINER_LOGS))];
        // A kubelet that begins to pin replaces its state files there before it gives the first CPU away.
        if desired.is_some() && !observed.kubelet.root_dir.is_empty() {
            watches.push(Watch::Directory(PathBuf::from(&observed.kubelet.root_dir)));
        }
        let Some(tree) = &observed.tree else { return watches };
        let mount = Path::new(&tree.mount);
        let directories =
            std::iter::once(&tree.root).chain(&tree.classes).chain(tree.pods.iter().map(|pod| &pod.cpuset));
        watches.extend(directories.map(|cpuset| Watch::Directory(mount.join(&cpuset.path))));
        for pod in &tree.pods {
            // The kubelet bounds a pod when it resizes one of its containers.
            let recorded = |file| observed.records.contains_key(&facts::file_object(&pod.cpuset.path, file));
            if let Some(cpu) = tree.cpu.as_ref().filter(|cpu| recorded(quota_file(cpu.version))) {
                watches.push(Watch::File(Path::new(&cpu.mount).join(&pod.cpuset.path).join(quota_file(cpu.version))));
            }
            for container in observed.containers(pod) {
                let path = &container.cpuset.path;
                watches.push(Watch::File(mount.join(path).join(facts::CPUS)));
                watches.push(Watch::File(mount.join(path).join(facts::MEMS)));
                // A runtime sets the limits a moment after it has made the cgroup.
                if let Some(cpu) = tree.cpu.as_ref().filter(|_| pod.qos == QosClass::Guaranteed) {
                    let directory = Path::new(&cpu.mount).join(path);
                    let shares = (cpu.version == Version::V1).then_some("cpu.shares");
                    let files = shares.into_iter().chain([quota_file(cpu.version)]);
                    watches.extend(files.map(|file| Watch::File(directory.join(file))));
                }
            }
        }
        watches
    }

    fn wake(&self) -> Option<Arc<Notify>> {
        Some(self.desk.wake())
    }

    fn resync(desired: &Self::Desired, observed: &Observed) -> Option<Duration> {
        let asked_only = !observed.desk.connected && observed.desk.roster.sandboxes().next().is_some();
        (desired.is_some() && asked_only).then_some(ASK_AGAIN)
    }

    fn likely_writer(object: &str) -> Option<&'static str> {
        if QUOTA.iter().any(|file| object.ends_with(file)) {
            return Some("the kubelet, which resizes the pod, the container runtime, or systemd (daemon-reload)");
        }
        if object.contains(".slice/") {
            Some("systemd, which applies the properties of its units again (daemon-reload), or the container runtime")
        } else {
            Some("the container runtime, an NRI plugin, or a kubelet with a static CPU manager")
        }
    }
}
