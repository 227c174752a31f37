//! The adapter of CRI on a real containerd: what it reads is what the runtime means, what it changes is what the kernel
//! has.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::runtime::{Builder, Runtime};
use trimtab::adapters::cri::{CriRuntime, Patience, SocketSearch};
use trimtab::config::CriSocket;
use trimtab::ports::kubelet::{KubeletSettings, KubeletSource, KubeletState};
use trimtab::ports::runtime::{Answer, ContainerRuntime, ResourceChange, RuntimeError, RuntimeListing};
use trimtab_domain::cpuset::CpuSet;
use trimtab_domain::roster::join::{Joined, Sources, join};
use trimtab_domain::roster::names::Names;
use trimtab_domain::roster::told::Told;
use trimtab_domain::roster::{ContainerState, Roster};
use trimtab_domain::spec::cgroup::CgroupDriver;
use trimtab_domain::workload::{ContainerId, MilliCpu, QosClass};

use crate::cluster::containerd::{Containerd, Release, SOCKET, fetch};
use crate::cluster::pods::{Driver, Kubelet, Pod};
use crate::cluster::truth;
use crate::support::namespace::{cannot_run, in_pid_namespace};
use crate::support::node::Node;

/// No kubelet is known, so known places are probed.
struct NoKubelet;

impl KubeletSource for NoKubelet {
    fn settings(&self) -> KubeletSettings {
        KubeletSettings::default()
    }

    fn state(&self) -> KubeletState {
        KubeletState::default()
    }
}

struct Bench {
    kubelet: Kubelet,
    containerd: Containerd,
    runtime: CriRuntime,
    tokio: Runtime,
    node: Node,
}

fn kubelet(node: &Node) -> Kubelet {
    let root = format!("/{}", node.pods.path().file_name().unwrap().display());
    Kubelet::new(Path::new(SOCKET), Driver::Cgroupfs { root })
}

fn with_containerd(release: Release, name: &str, test: impl FnOnce(Bench)) {
    in_pid_namespace(name, || {
        if truth::online().len() < 2 {
            cannot_run("two CPUs are needed");
            return;
        }
        let Some(node) = Node::new() else { return };
        let files = match fetch(release, &node.path("")) {
            Ok(files) => files,
            Err(why) => return cannot_run(&format!("no containerd of {release:?} can be had: {why}")),
        };
        node.share_run();
        let containerd = Containerd::start(files, &node.path(""));
        let kubelet = kubelet(&node);
        let search = SocketSearch { socket: CriSocket::Auto, host_root: node.host(), kubelet: Arc::new(NoKubelet) };
        let runtime = CriRuntime::new(search, Patience::default());
        let tokio = Builder::new_current_thread().enable_all().build().unwrap();
        test(Bench { kubelet, containerd, runtime, tokio, node });
    });
}

impl Bench {
    fn wait<T>(&self, answer: Answer<'_, T>) -> Result<T, RuntimeError> {
        self.tokio.block_on(answer)
    }

    /// A pod of one container, which is started; sandbox and container.
    fn run(&self, pod: &Pod) -> (String, ContainerId) {
        let sandbox = self.kubelet.sandbox(pod).unwrap();
        let id = self.kubelet.create(pod, &sandbox, "app", 0).unwrap();
        self.kubelet.start(&id).unwrap();
        (sandbox, ContainerId(id))
    }

    /// Text of a file of a container's cpuset cgroup.
    fn cpuset(&self, id: &ContainerId, file: &str) -> String {
        let pods = fs::read_dir(self.node.pods.path().join("kubepods")).unwrap().flatten().map(|entry| entry.path());
        let leaf: PathBuf = pods.map(|pod| pod.join(&id.0)).find(|leaf| leaf.exists()).unwrap();
        fs::read_to_string(leaf.join(file)).unwrap().trim().to_owned()
    }
}

fn joined(listing: RuntimeListing) -> Joined {
    let mut roster = Roster::default();
    let handlers = listing.handlers.clone();
    roster.refresh(listing.sandboxes, listing.containers);
    join(&Sources { roster: &roster, tree: None, names: &Names::default(), handlers: &handlers, memory_capacity: None })
}

/// What every release must do alike; NRI is not spoken here.
fn reads_and_changes(bench: &Bench, version: &str) {
    let guaranteed = Pod::guaranteed(1, 1000);
    let (_, id) = bench.run(&guaranteed);
    let (_, burstable) = bench.run(&Pod::burstable(2, 100));
    let about = bench.wait(bench.runtime.about()).unwrap();
    assert_eq!((about.name.as_str(), about.socket.as_str()), ("containerd", SOCKET));
    assert!(about.version.contains(version), "{about:?}");
    let drivers = bench.wait(bench.runtime.cgroup_drivers()).unwrap();
    assert_eq!(drivers.iter().map(|told| told.driver).collect::<Vec<_>>(), [CgroupDriver::Cgroupfs], "{drivers:?}");

    let listing = bench.wait(bench.runtime.list()).unwrap();
    assert_eq!(listing.handlers.0.get("").map(String::as_str), Some("io.containerd.runc.v2"));
    let told = listing.containers.iter().find(|container| container.id == id).unwrap();
    assert!(told.pid.is_some() && told.cgroups_path.ends_with(&id.0), "{told:?}");
    assert_eq!(told.state, ContainerState::Running);
    let joined = joined(listing);
    assert_eq!(joined.findings, []);
    let pod = joined.pods.iter().find(|pod| pod.uid.0 == guaranteed.uid).unwrap();
    assert_eq!((pod.qos, pod.name.as_str()), (Told::Exact(QosClass::Guaranteed), "pod-1"));
    let asked = &pod.container(&id).unwrap().asked;
    assert_eq!(asked.cpu_request, Told::Exact(MilliCpu(1000)));
    assert_eq!(asked.memory_request, Told::Exact(32 << 20));
    let other = joined.pods.iter().find(|pod| pod.uid.0 != guaranteed.uid).unwrap();
    assert_eq!(other.qos, Told::Exact(QosClass::Burstable));
    assert_eq!(other.container(&burstable).unwrap().asked.cpu_request, Told::Exact(MilliCpu(100)));

    let last = truth::online().iter().last().unwrap();
    let change =
        ResourceChange { cpus: Some(CpuSet::from_iter([last])), cpu_quota_us: Some(-1), ..ResourceChange::default() };
    bench.wait(bench.runtime.update(&id, &change)).unwrap();
    assert_eq!(bench.cpuset(&id, "cpuset.cpus"), last.to_string());
    assert_eq!(truth::containers()[&id.0].cpus, CpuSet::from_iter([last]), "of every thread");
    bench.runtime.forget(std::slice::from_ref(&id));
    let listing = bench.wait(bench.runtime.list()).unwrap();
    let told = listing.containers.iter().find(|container| container.id == id).unwrap().resources.clone().unwrap();
    assert_eq!((told.cpus.as_str(), told.cpu_quota_us, told.cpu_shares), (&*last.to_string(), Some(-1), Some(1024)));

    let nobody = bench.wait(bench.runtime.update(&ContainerId("0".repeat(64)), &change));
    assert!(matches!(nobody, Err(RuntimeError::Gone(_))), "{nobody:?}");
}

#[test]
fn a_runtime_without_nri_is_read_and_changed() {
    with_containerd(Release::Bookworm, "cri::a_runtime_without_nri_is_read_and_changed", |bench| {
        reads_and_changes(&bench, "1.6.");
    });
}

#[test]
fn a_runtime_with_nri_is_read_and_changed() {
    with_containerd(Release::Trixie, "cri::a_runtime_with_nri_is_read_and_changed", |bench| {
        reads_and_changes(&bench, "1.7.");
    });
}

#[test]
fn a_change_before_the_start_and_one_before_a_restart_of_the_runtime_are_kept() {
    let name = "cri::a_change_before_the_start_and_one_before_a_restart_of_the_runtime_are_kept";
    with_containerd(Release::Trixie, name, |mut bench| {
        let pod = Pod::guaranteed(1, 1000);
        let sandbox = bench.kubelet.sandbox(&pod).unwrap();
        let id = ContainerId(bench.kubelet.create(&pod, &sandbox, "app", 0).unwrap());
        let listing = bench.wait(bench.runtime.list()).unwrap();
        assert_eq!(listing.containers[0].state, ContainerState::Created);
        let last = CpuSet::from_iter(truth::online().iter().last());
        let change = ResourceChange { cpus: Some(last.clone()), ..ResourceChange::default() };
        bench.wait(bench.runtime.update(&id, &change)).unwrap();
        bench.kubelet.start(&id.0).unwrap();
        assert_eq!(truth::containers()[&id.0].cpus, last, "from its first moment on");

        bench.containerd.restart();
        // The first call may meet the connection of before.
        let listing = match bench.wait(bench.runtime.list()) {
            Err(RuntimeError::Away { .. }) => bench.wait(bench.runtime.list()).unwrap(),
            answer => answer.unwrap(),
        };
        assert_eq!(listing.containers[0].resources.as_ref().unwrap().cpus, last.to_string());

        bench.kubelet = kubelet(&bench.node);
        bench.kubelet.remove_sandbox(&sandbox).unwrap();
        let listing = bench.wait(bench.runtime.list()).unwrap();
        assert_eq!((listing.sandboxes, listing.containers), (Vec::new(), Vec::new()));
    });
}
