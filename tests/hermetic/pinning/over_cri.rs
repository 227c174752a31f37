//! Pinning with a runtime that has no NRI: pods are learnt and changed over CRI alone.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use trimtab::adapters::cri::{CriRuntime, Patience, SocketSearch};
use trimtab::adapters::kubelet_config::KubeletFiles;
use trimtab::adapters::process_table::ProcessTable;
use trimtab::config::CriSocket;
use trimtab::ports::HostFiles;
use trimtab::reconcile::Subsystem;
use trimtab::reconcile::pass::run;
use trimtab::subsystems::pinning::{Pinning, PinningPorts};
use trimtab_domain::cgroup::Version;
use trimtab_domain::cpuset::CpuSet;
use trimtab_domain::spec::NodeSpec;
use trimtab_domain::spec::cgroup::CgroupDriver::Cgroupfs;
use trimtab_domain::workload::QosClass::Guaranteed;
use trimtab_proto::runtime::v1 as cri;

use super::{converge, static_cpus};
use crate::laws::pass;
use crate::support::fake_cgroups::{Ask, FakeCgroups, Shape};
use crate::support::fake_cri::FakeCri;

const SMALL: Shape = Shape { nodes: 1, cores_per_node: 8, threads: 1 };
const SOCKET: &str = "/run/containerd/containerd.sock";

/// A Guaranteed pod with a container of two CPUs, in the cgroup tree and at the runtime.
struct Fixture {
    node: FakeCgroups,
    root: tempfile::TempDir,
    double: FakeCri,
    /// Path of the container's cgroup, and its id.
    path: String,
    id: String,
}

impl Fixture {
    fn new() -> Self {
        let node = FakeCgroups::new(Version::V1, Cgroupfs, SMALL);
        let path = node.simple(Guaranteed, "aaaa", Ask::cpus(2));
        let id = path.rsplit('/').next().unwrap().to_owned();
        let root = tempfile::tempdir().unwrap();
        let double = FakeCri::start(&root.path().join(SOCKET.trim_start_matches('/')));
        double.add_sandbox("s1", "aaaa");
        double.add_container(&id, "s1", "main", 2);
        let (kernel, pods) = (node.clone(), path.rsplit_once("/pod").unwrap().0.to_owned());
        let cgroup = path.clone();
        double.table().apply = Some(Arc::new(move |id, told| {
            let cgroup = if cgroup.ends_with(id) { cgroup.clone() } else { format!("{pods}/podbbbb/{id}") };
            for (file, text) in [
                ("cpuset.cpus", told.cpuset_cpus.clone()),
                ("cpuset.mems", told.cpuset_mems.clone()),
                ("cpu.shares", told.cpu_shares.to_string()),
                ("cpu.cfs_quota_us", told.cpu_quota.to_string()),
            ] {
                if !text.is_empty() {
                    kernel.drift(&cgroup, file, &text);
                }
            }
        }));
        Self { node, root, double, path, id }
    }

    /// One more Guaranteed pod; its cgroup and the id of its container.
    fn another(&self, uid: &str, cpus: u64) -> (String, String) {
        let path = self.node.simple(Guaranteed, uid, Ask::cpus(cpus));
        let id = path.rsplit('/').next().unwrap().to_owned();
        self.double.add_sandbox(uid, uid);
        self.double.add_container(&id, uid, "main", i64::try_from(cpus).unwrap());
        (path, id)
    }

    fn agent(&self) -> Pinning {
        let host: Arc<dyn HostFiles> = Arc::new(self.node.host.clone());
        let processes = Arc::new(ProcessTable::new(Arc::clone(&host)));
        let kubelet = Arc::new(KubeletFiles::new(host, processes));
        let search =
            SocketSearch { socket: CriSocket::Path(SOCKET.into()), host_root: self.root.path().into(), kubelet };
        let runtime = Arc::new(CriRuntime::new(search, Patience::default()));
        Pinning::new(PinningPorts { runtime: Some(runtime), ..self.node.ports() }).0
    }

    /// The kubelet resizes the container in place, as the runtime would do it: no sets.
    fn resize(&self, cpus: i64) {
        let mut table = self.double.table();
        let apply = table.apply.clone().unwrap();
        let resources = &mut table.containers.get_mut(&self.id).unwrap().resources;
        (resources.cpu_shares, resources.cpu_quota) = (cpus * 1024, cpus * 100_000);
        apply(&self.id, resources);
    }
}

fn spec() -> NodeSpec {
    static_cpus("0")
}

#[tokio::test]
async fn a_container_is_known_by_name_and_written_through_the_runtime() {
    let fixture = Fixture::new();
    let agent = fixture.agent();
    converge(&agent, &spec()).await;
    assert_eq!(fixture.node.effective(&fixture.path).to_string(), "1-2");
    assert_eq!(fixture.double.table().containers[&fixture.id].resources.cpuset_cpus, "1-2");
    let observed = agent.observe(&spec().resource_managers).await.unwrap();
    let objects = Pinning::objects(&spec().resource_managers, &observed);
    assert_eq!(objects.iter().map(|object| object.object.as_str()).collect::<Vec<_>>(), ["default/pod-aaaa/main"]);
}

#[tokio::test]
async fn a_resize_is_seen_by_the_pass_that_its_files_wake() {
    let fixture = Fixture::new();
    let agent = fixture.agent();
    converge(&agent, &spec()).await;
    let asked = fixture.double.count("ContainerStatus");
    pass(&agent, &spec()).await;
    assert_eq!(fixture.double.count("ContainerStatus"), asked, "nothing is asked twice without a cause");
    fixture.resize(3);
    pass(&agent, &spec()).await;
    assert_eq!(fixture.node.effective(&fixture.path).len(), 3);
}

#[tokio::test]
async fn a_pod_of_another_kernel_is_left_alone_and_that_is_said() {
    let fixture = Fixture::new();
    fixture.double.table().handler_types.insert("safe".into(), "io.containerd.kata.v2".into());
    fixture.double.table().sandboxes.get_mut("s1").unwrap().runtime_handler = "safe".into();
    let agent = fixture.agent();
    let done = converge(&agent, &spec()).await;
    assert_eq!(fixture.node.effective(&fixture.path).len(), 8, "it keeps what it had");
    assert!(fixture.double.table().changes.is_empty());
    let said: Vec<_> = done.left.findings.iter().filter(|finding| finding.code == "pod-sandboxed").collect();
    assert_eq!(said.len(), 1, "{:?}", done.left.findings);
}

#[tokio::test]
async fn pods_that_cri_o_pins_itself_end_pinning_without_nri_too() {
    for (name, pinned) in [("containerd", true), ("cri-o", false)] {
        let fixture = Fixture::new();
        fixture.double.table().name = name.into();
        let annotation = ("cpu-load-balancing.crio.io".to_owned(), "disable".to_owned());
        fixture.double.table().sandboxes.get_mut("s1").unwrap().annotations.extend([annotation]);
        let agent = fixture.agent();
        let done = converge(&agent, &spec()).await;
        assert_eq!(fixture.node.effective(&fixture.path).len() == 2, pinned, "{name}");
        assert_eq!(fixture.double.table().changes.is_empty(), !pinned, "{name}");
        let said = done.plan.findings.iter().any(|finding| finding.code == "pinning-observe-only");
        assert_eq!(said, !pinned, "{name}: {:?}", done.plan.findings);
        converge(&agent, &static_cpus("0,7")).await;
        assert_eq!(fixture.double.table().changes.is_empty(), !pinned, "{name}: not under other settings either");
        assert_eq!(fixture.double.count("Version"), 1, "asked once");
    }
}

#[tokio::test]
async fn while_the_runtime_is_away_the_tree_tells_what_is_over() {
    let mut fixture = Fixture::new();
    let agent = fixture.agent();
    converge(&agent, &spec()).await;
    fixture.double.stop();
    converge(&agent, &spec()).await;
    assert_eq!(fixture.node.effective(&fixture.path).to_string(), "1-2", "what runs keeps its CPUs");
    fixture.node.vanish(fixture.path.rsplit_once('/').unwrap().0);
    let next = fixture.node.simple(Guaranteed, "bbbb", Ask::cpus(7));
    converge(&agent, &spec()).await;
    assert_eq!(fixture.node.effective(&next).to_string(), "1-7");
}

/// The runtime was restarted, or the process of a sandbox has died: what runs there keeps its CPUs for as long as it runs.
#[tokio::test]
async fn cpus_of_what_runs_in_a_sandbox_that_is_not_ready_are_given_to_nobody() {
    for (ledger_is_lost, again) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut fixture = Fixture::new();
        let mut agent = fixture.agent();
        converge(&agent, &spec()).await;
        assert_eq!(fixture.node.effective(&fixture.path).to_string(), "1-2");
        fixture.double.stop();
        let dead = cri::PodSandboxState::SandboxNotready.into();
        fixture.double.table().sandboxes.get_mut("s1").unwrap().state = dead;
        fixture.double.serve();
        if ledger_is_lost {
            fixture.node.ledger.lose();
        }
        if again {
            agent = fixture.agent();
        }
        let (next, id) = fixture.another("bbbb", 6);
        converge(&agent, &spec()).await;
        assert_eq!(fixture.node.effective(&fixture.path).to_string(), "1-2", "it runs on where it was");
        let theirs = fixture.node.effective(&next);
        assert!(theirs.is_disjoint(&CpuSet::range(1, 2)), "{theirs}: six do not fit beside two");
        // It is really over.
        fixture.double.table().containers.remove(&fixture.id);
        fixture.node.vanish(fixture.path.rsplit_once('/').unwrap().0);
        converge(&agent, &spec()).await;
        assert_eq!(fixture.node.effective(&next).len(), 6, "{id}");
    }
}

/// Somebody writes one container's set again and again, and the agent has stopped to fight: the others get their CPUs.
#[tokio::test]
async fn a_fight_over_one_container_keeps_no_other_from_its_cpus() {
    let fixture = Fixture::new();
    let (next, _) = fixture.another("bbbb", 3);
    let agent = fixture.agent();
    converge(&agent, &spec()).await;
    assert_eq!([&fixture.path, &next].map(|path| fixture.node.effective(path).to_string()), ["1-2", "3-5"]);
    // Both have to leave something and to get something else.
    let other = static_cpus("0-1,3");
    let fought_over = format!("{}/cpuset.cpus", fixture.path);
    let holds = |object: &str| object == fought_over;
    let outcome = run(&agent, &other.resource_managers, holds, &CancellationToken::new()).await;
    assert_eq!(outcome.error(), None);
    assert_eq!(outcome.held, [fought_over.as_str(), fought_over.as_str()]);
    assert_eq!(fixture.node.effective(&fixture.path).to_string(), "1-2", "it is left alone");
    let theirs = fixture.node.effective(&next);
    assert!(theirs.len() == 3 && theirs.is_disjoint(&CpuSet::parse("0-1,3").unwrap()), "{theirs}");
}

/// A runtime that was restarted under load may not find all of its containers again.
#[tokio::test]
async fn what_runs_is_held_although_the_runtime_has_forgotten_it() {
    let fixture = Fixture::new();
    let agent = fixture.agent();
    converge(&agent, &spec()).await;
    let pinned = || fixture.node.effective(&fixture.path).to_string();
    assert_eq!(pinned(), "1-2");
    let forgotten = fixture.double.table().containers.remove(&fixture.id).unwrap();
    let (next, _) = fixture.another("bbbb", 6);
    converge(&agent, &spec()).await;
    assert_eq!(pinned(), "1-2", "it runs on where it was");
    let theirs = fixture.node.effective(&next);
    assert!(theirs.is_disjoint(&CpuSet::range(1, 2)), "{theirs}: six do not fit beside two");
    fixture.node.drift(&fixture.path, "cpuset.cpus", "0-7");
    converge(&agent, &spec()).await;
    assert_eq!(pinned(), "1-2", "a hand is undone");
    // The runtime is restarted once more and finds it.
    fixture.double.table().containers.insert(fixture.id.clone(), forgotten);
    converge(&agent, &spec()).await;
    fixture.node.drift(&fixture.path, "cpuset.cpus", "0-7");
    converge(&agent, &spec()).await;
    assert_eq!(pinned(), "1-2", "it is held as before");
    // It ends, and its cgroup stays a moment longer: what it had is kept for its next start.
    fixture.double.table().containers.remove(&fixture.id);
    fixture.node.stop_processes();
    converge(&agent, &spec()).await;
    assert_eq!(pinned(), "1-2", "nothing is let onto more CPUs for it");
    assert!(fixture.node.effective(&next).is_disjoint(&CpuSet::range(1, 2)), "the pod is not over");
    fixture.double.table().sandboxes.remove("s1");
    fixture.node.vanish(fixture.path.rsplit_once('/').unwrap().0);
    converge(&agent, &spec()).await;
    assert_eq!(fixture.node.effective(&next).to_string(), "1-6");
}

/// Between its creation and its start a runtime only remembers what it is told of a container, however long that takes.
#[tokio::test]
async fn a_container_that_takes_long_to_start_holds_nobody_up_and_gets_its_cpus_when_there_is_room() {
    let fixture = Fixture::new();
    let agent = fixture.agent();
    converge(&agent, &spec()).await;
    fixture.double.table().apply = None;
    let (next, id) = fixture.another("bbbb", 6);
    fixture.double.table().containers.get_mut(&id).unwrap().state = cri::ContainerState::ContainerCreated;
    for _ in 0..4 {
        converge(&agent, &spec()).await;
        assert_eq!(fixture.node.effective(&next).to_string(), "0,3-7", "six do not fit beside two");
    }
    fixture.double.table().sandboxes.remove("s1");
    fixture.double.table().containers.remove(&fixture.id);
    fixture.node.vanish(fixture.path.rsplit_once('/').unwrap().0);
    converge(&agent, &spec()).await;
    assert_eq!(fixture.node.effective(&next).to_string(), "1-6");
    let told = fixture.double.table().containers[&id].resources.cpuset_cpus.clone();
    assert_eq!(told, fixture.node.effective(&next).to_string(), "the runtime knows it for the start");
}

#[tokio::test]
async fn a_bound_comes_back_although_the_ledger_is_lost() {
    let fixture = Fixture::new();
    fixture.double.table().sums.insert("s1".into(), 2);
    let pod = fixture.path.rsplit_once('/').unwrap().0.to_owned();
    fixture.node.bound_pod(&pod, 2000);
    let bounds = || [&fixture.path, &pod].map(|path| fixture.node.bound(path));
    converge(&fixture.agent(), &spec()).await;
    assert_eq!(bounds(), ["-1", "-1"]);
    assert_eq!(fixture.double.table().containers[&fixture.id].resources.cpu_quota, -1, "the runtime was told");
    fixture.node.ledger.lose();
    // There is one CPU to give away, so it loses its own.
    let agent = fixture.agent();
    pass(&agent, &static_cpus("0-6")).await;
    assert_eq!(bounds(), ["200000", "200000"]);
    converge(&agent, &static_cpus("0-6")).await;
    converge(&fixture.agent(), &spec()).await;
    assert_eq!(bounds(), ["-1", "-1"]);
    // Nothing is pinned any more.
    fixture.node.ledger.lose();
    converge(&fixture.agent(), &spec()).await;
    converge(&fixture.agent(), &NodeSpec::default()).await;
    assert_eq!(bounds(), ["200000", "200000"]);
    assert!(fixture.node.ledger.snapshot().is_empty());
}
