//! A node is moved to another cgroup driver: the executor against doubles of the API server, systemd and the runtime.

mod crio;
mod failing;
mod leaving;
mod refusing;

use tempfile::TempDir;
use trimtab::adapters::driver_files::DriverFiles;
use trimtab::adapters::kubelet_config::KubeletFiles;
use trimtab::adapters::migration_file::MigrationFile;
use trimtab::adapters::process_table::ProcessTable;
use trimtab::adapters::runtime_config::RuntimeFiles;
use trimtab::cluster::migration::OwnPod;
use trimtab::ports::HostFiles;
use trimtab::ports::names::Processes;
use trimtab_domain::migration::{Outcome, Phase};
use trimtab_domain::spec::CgroupSpec;
use trimtab_domain::spec::cgroup::{CgroupDriver, MigrationSpec};

use super::*;
use crate::support::api_server::Fault;
use crate::support::fake_services::{Death, FakeServices, KUBELET, KUBELET_CONFIG, RUNTIME, RUNTIME_CONFIG};

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/trimtab-system/leases";
const PODS: &str = "/api/v1/pods";
const BOTH_SYSTEMD: (Option<CgroupDriver>, Option<CgroupDriver>) =
    (Some(CgroupDriver::Systemd), Some(CgroupDriver::Systemd));
const BOTH_CGROUPFS: (Option<CgroupDriver>, Option<CgroupDriver>) =
    (Some(CgroupDriver::Cgroupfs), Some(CgroupDriver::Cgroupfs));

/// A node, its cluster and its disk; agents come and go.
struct World {
    server: Double,
    name: &'static str,
    services: FakeServices,
    disk: TempDir,
    target: CgroupDriver,
    spec: MigrationSpec,
    own: OwnPod,
}

impl World {
    fn new() -> Self {
        Self::on(Double::new(), "n1")
    }

    /// A node of a cluster, with a pod of a ReplicaSet, one of a DaemonSet, a static one and the agent's own.
    fn on(server: Double, name: &'static str) -> Self {
        let services = FakeServices::new(name, &server);
        Self::with(services, server, name)
    }

    fn with(services: FakeServices, server: Double, name: &'static str) -> Self {
        let own = OwnPod::Named { namespace: "trimtab-system".into(), name: format!("agent-{name}") };
        services.rename("agent", &format!("agent-{name}"));
        let disk = tempfile::tempdir().unwrap();
        let (target, spec) = (CgroupDriver::Systemd, MigrationSpec::default());
        let world = Self { server, name, services, disk, target, spec, own };
        world.pod("shop", &format!("web-{name}"), owned("ReplicaSet"));
        world.pod("kube-system", &format!("daemon-{name}"), owned("DaemonSet"));
        world.pod("trimtab-system", &format!("agent-{name}"), owned("DaemonSet"));
        world.pod(
            "kube-system",
            &format!("static-{name}"),
            json!({"annotations": {"kubernetes.io/config.mirror": "h"}}),
        );
        world
    }

    fn pod(&self, namespace: &str, name: &str, mut metadata: Value) {
        metadata["uid"] = format!("uid-{name}").into();
        metadata["labels"] = json!({"app": name});
        let pod = json!({"metadata": metadata, "spec": {"nodeName": self.name}, "status": {"phase": "Running"}});
        self.server.put(&format!("/api/v1/namespaces/{namespace}/pods/{name}"), pod);
    }

    fn node(&self) -> Value {
        self.server.object(&format!("/api/v1/nodes/{}", self.name)).unwrap()
    }

    fn is_cordoned(&self) -> bool {
        self.node()["spec"]["unschedulable"] == true
    }

    fn pods(&self) -> Vec<String> {
        let names = self.server.objects(PODS).into_iter().filter(|pod| pod["spec"]["nodeName"] == self.name);
        names.map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    }

    fn holders(&self) -> Vec<String> {
        let of = |lease: &Value| lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned();
        self.server.objects(LEASES).iter().map(of).filter(|holder| !holder.is_empty()).collect()
    }

    fn journal(&self) -> MigrationFile {
        MigrationFile::of(self.disk.path())
    }

    fn outcome(&self) -> Option<Outcome> {
        self.journal().read().unwrap()?.journal.outcome
    }

    fn ports(&self) -> MigrationPorts {
        let host: Arc<dyn HostFiles> = Arc::new(self.services.host.clone());
        let processes: Arc<dyn Processes> = Arc::new(ProcessTable::new(Arc::clone(&host)));
        let kubelet = Arc::new(KubeletFiles::new(Arc::clone(&host), Arc::clone(&processes)));
        let runtimes = Arc::new(RuntimeFiles::new(Arc::clone(&host), processes));
        MigrationPorts {
            files: Arc::new(DriverFiles::new(host, kubelet, runtimes)),
            services: Arc::new(self.services.clone()),
            runtime: Arc::new(self.services.clone()),
            sandboxes: Arc::new(self.services.clone()),
            journal: self.journal(),
            own: self.own.clone(),
            namespace: "trimtab-system".into(),
        }
    }

    /// An agent; it dies with what is returned.
    fn agent(&self) -> Scene {
        let mut engine = Engine::new(Arc::default());
        engine.migration = Some(self.ports());
        self.ask(&engine, 1, Some(self.spec.clone()));
        engine.converge();
        Scene::named(&self.server, self.name, engine)
    }

    /// Puts a profile in force that asks for this migration.
    fn ask(&self, engine: &Engine, generation: u64, migration: Option<MigrationSpec>) {
        let cgroup = CgroupSpec { driver: Some(self.target), migration };
        engine.hold(generation, NodeSpec { name: "p".into(), cgroup, ..NodeSpec::default() });
    }

    async fn until(&self, what: &str, fits: impl Fn(&Self) -> bool) {
        for _ in 0..50_000 {
            if fits(self) {
                return;
            }
            pass(Duration::from_millis(400)).await;
        }
        panic!("never: {what}; {:?} {:?}", self.services.log(), self.journal().read());
    }

    async fn until_ended(&self) -> Outcome {
        self.until("the end", |world| world.outcome().is_some()).await;
        self.outcome().unwrap()
    }

    fn text(&self, path: &str) -> String {
        self.services.host.text(path).unwrap()
    }

    /// As it was before, but for pods that are away.
    fn assert_as_before(&self, about: &str) {
        let fresh = FakeServices::new("fresh", &Double::new());
        for path in [KUBELET_CONFIG, RUNTIME_CONFIG] {
            assert_eq!(Some(self.text(path)), fresh.host.text(path), "{about}");
        }
        assert_eq!(self.services.running(), BOTH_CGROUPFS, "{about}");
        self.assert_open(about);
    }

    fn assert_moved(&self, about: &str) {
        assert_eq!(self.services.running(), BOTH_SYSTEMD, "{about}");
        assert_eq!(
            self.text(KUBELET_CONFIG),
            "kind: KubeletConfiguration\ncgroupDriver: systemd # by hand\nmaxPods: 7",
            "{about}"
        );
        let runtime = self.text(RUNTIME_CONFIG);
        assert!(runtime.contains("# by hand") && runtime.contains("SystemdCgroup = true"), "{about}: {runtime}");
        let kept = self.text(&format!("{KUBELET_CONFIG}.trimtab-before"));
        assert!(kept.contains("cgroupfs # by hand"), "{about}: {kept}");
        self.assert_open(about);
    }

    /// Open for pods, and the next node may go.
    fn assert_open(&self, about: &str) {
        assert!(!self.is_cordoned(), "{about}");
        assert_eq!(self.holders(), Vec::<String>::new(), "{about}");
        assert_eq!(self.services.timers(), Vec::<String>::new(), "{about}");
        let own = format!("agent-{}", self.name);
        assert!(self.services.sandboxes().contains(&own), "{about}: the agent has stopped itself");
    }
}

fn owned(kind: &str) -> Value {
    json!({"ownerReferences": [{"kind": kind, "name": "o", "controller": true}]})
}

#[tokio::test(start_paused = true)]
async fn a_node_is_drained_moved_and_opened_again_and_the_agents_pod_is_the_last_to_go() {
    let world = World::new();
    world.server.put("/api/v1/nodes/n2", json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}}));
    let scene = world.agent();
    world.until("drained", |world| !world.pods().contains(&"web-n1".to_owned())).await;
    assert!(world.is_cordoned() && world.holders() == ["n1"], "in its turn");
    assert_eq!(world.until_ended().await, Outcome::Migrated);
    world.assert_moved("moved");
    assert_eq!(
        world.services.log(),
        [
            "stop kubelet.service",
            "end s-daemon",
            "stop containerd.service",
            "start containerd.service",
            "start kubelet.service"
        ]
    );
    world.until("the own pod is replaced", |world| world.pods() == ["daemon-n1", "static-n1"]).await;
    pass(Duration::from_secs(60)).await;
    let node = world.node();
    let of_driver =
        node["status"]["conditions"].as_array().unwrap().iter().find(|one| one["type"] == "CgroupDriverMatched");
    assert_eq!(of_driver.unwrap()["status"], "True");
    assert_eq!(node["metadata"]["annotations"]["trimtab.dev/cordoned-for"], Value::Null);
    let reasons: Vec<Value> =
        world.server.objects("/apis/events.k8s.io/v1/events").iter().map(|e| e["reason"].clone()).collect();
    assert!(reasons.contains(&json!("MigrationBegun")) && reasons.contains(&json!("Migrated")), "{reasons:?}");
    assert_eq!(scene.engine.progress.borrow().phase, Phase::Idle);
}

/// Changes to die at until a node has arrived, at least.
const FORWARD: usize = 5;
/// The same for one that is brought back from its last step.
const FORWARD_AND_BACK: usize = 9;

/// An agent dies before or after each change of a new node, and `ended` looks at what the next one has made of it.
async fn after_each_death(world: impl Fn() -> World, changes: usize, ended: impl Fn(&World, Outcome, &str)) {
    for death in [Death::Before, Death::After] {
        for number in 0.. {
            let world = world();
            world.services.die_at(number, death);
            let scene = world.agent();
            world.until("death or the end", |world| world.services.has_died() || world.outcome().is_some()).await;
            if !world.services.has_died() {
                assert!(number >= changes, "there are at least {changes} changes to die at");
                break;
            }
            drop(scene);
            world.services.live();
            let _next = world.agent();
            ended(&world, world.until_ended().await, &format!("{death:?} {number}"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_dies_at_any_change_is_followed_by_one_that_ends_the_same() {
    after_each_death(World::new, FORWARD, |world, outcome, about| {
        assert_eq!(outcome, Outcome::Migrated, "{about}");
        world.assert_moved(about);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_dies_at_any_moment_is_followed_by_one_that_ends_the_same() {
    for moment in 0..20 {
        let world = World::new();
        let scene = world.agent();
        pass(Duration::from_millis(moment * 1700)).await;
        drop(scene);
        let _next = world.agent();
        assert_eq!(world.until_ended().await, Outcome::Migrated, "{moment}");
        world.assert_moved(&format!("{moment}"));
    }
}

#[tokio::test(start_paused = true)]
async fn systemd_brings_the_node_back_if_no_agent_does() {
    let world = World::new();
    world.services.die_at(1, Death::Before);
    let scene = world.agent();
    world.until("death", |world| world.services.has_died()).await;
    drop(scene);
    assert_eq!(world.services.running().0, None, "the kubelet was stopped");
    assert_eq!(world.services.timers(), [RUNTIME, KUBELET]);
    world.services.live();
    world.services.strike_timers();
    assert_eq!(world.services.running(), BOTH_CGROUPFS);
    let _next = world.agent();
    assert_eq!(world.until_ended().await, Outcome::Migrated);
    world.assert_moved("after all");
}

#[tokio::test(start_paused = true)]
async fn nodes_have_their_turn_one_after_the_other() {
    let server = Double::new();
    let worlds = ["n1", "n2", "n3"].map(|name| World::on(server.clone(), name));
    let scenes = worlds.each_ref().map(World::agent);
    for _ in 0..100_000 {
        let away = worlds.iter().filter(|world| world.is_cordoned() || world.services.running().0.is_none()).count();
        assert!(away <= 1, "{away} nodes are away");
        if worlds.iter().all(|world| world.outcome().is_some()) {
            break;
        }
        pass(Duration::from_millis(500)).await;
    }
    for world in &worlds {
        assert_eq!(world.outcome(), Some(Outcome::Migrated), "{}", world.name);
        world.assert_moved(world.name);
    }
    drop(scenes);
}

#[tokio::test(start_paused = true)]
async fn without_the_api_server_nothing_is_stopped_and_what_is_stopped_goes_on() {
    let world = World::new();
    let _scene = world.agent();
    world.server.put("/apis/policy/v1/namespaces/shop/poddisruptionbudgets/b", budget("web-n1"));
    world.until("cordoned", World::is_cordoned).await;
    world.server.fault(Fault::down());
    pass(Duration::from_secs(300)).await;
    assert_eq!(world.services.log(), Vec::<String>::new(), "before it is prepared nothing is stopped");
    world.server.remove("/apis/policy/v1/namespaces/shop/poddisruptionbudgets/b");
    world.server.heal();
    world.until("stopping", |world| !world.services.log().is_empty()).await;
    world.server.fault(Fault::down());
    world.until("moved", |world| world.services.running() == BOTH_SYSTEMD).await;
    pass(Duration::from_secs(3600)).await;
    assert_eq!((world.outcome(), world.is_cordoned()), (None, true), "nobody can be told");
    world.server.heal();
    assert_eq!(world.until_ended().await, Outcome::Migrated);
    world.assert_moved("healed");
}

fn budget(app: &str) -> Value {
    json!({"spec": {"selector": {"matchLabels": {"app": app}}}, "status": {"disruptionsAllowed": 0}})
}
