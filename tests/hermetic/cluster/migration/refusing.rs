//! What is in the way before the beginning: it is said, and nothing is touched.

use std::time::SystemTime;

use trimtab::cluster::standstill::PAUSED_UNTIL;
use trimtab::reconcile::hold::{Hold, Source, Stand};
use trimtab_domain::spec::PauseSpec;

use super::*;

/// Breaks something of a node.
type Break = fn(&mut World);

/// The agent says this of the node, and touches nothing for an hour.
pub(super) async fn refused(world: &World, name: &str, why: &str) -> Scene {
    let files = world.services.host.snapshot();
    let scene = world.agent();
    world.until(name, |_| scene.engine.progress.borrow().phase == Phase::Refused).await;
    let message = scene.engine.progress.borrow().message.clone();
    assert!(message.contains(why), "{name}: {message}");
    pass(Duration::from_secs(3600)).await;
    assert_eq!(world.services.log(), Vec::<String>::new(), "{name}");
    assert_eq!(world.services.host.snapshot(), files, "{name}");
    scene
}

#[tokio::test(start_paused = true)]
async fn what_is_missing_is_said_before_anything_is_touched() {
    let cases: [(&str, &str, Break); 9] = [
        ("a mount", "deploy/components/migration", |world| {
            world.services.host.not_permitted("/etc/containerd");
        }),
        ("a right", "may not create pods/eviction", |world| {
            world.server.permit(|call| call.resource != "pods/eviction");
        }),
        ("timers of systemd", "SYS_ADMIN", |world| world.services.refuse("timer")),
        ("its own pod", "POD_NAME", |world| world.own = OwnPod::Unknown),
        ("the runtime's unit", "runtimeUnit", |world| world.services.forget_unit(RUNTIME)),
        ("the kubelet's unit", "kubeletUnit", |world| world.services.forget_unit(KUBELET)),
        ("a file that can be edited", "block mapping", |world| {
            world.services.host.file(KUBELET_CONFIG, "{kind: KubeletConfiguration, cgroupDriver: cgroupfs}\n");
        }),
        ("a pod that nobody makes again", "cgroup.migration.force", |world| {
            world.pod("shop", "bare", json!({}));
        }),
        ("a driver in a flag of the kubelet", "command line", |world| {
            let arguments = format!("kubelet\0--config={KUBELET_CONFIG}\0--cgroup-driver=cgroupfs\0");
            world.services.host.file("/proc/9/comm", "kubelet\n").file("/proc/9/cmdline", arguments);
        }),
    ];
    for (name, why, broken) in cases {
        let mut world = World::new();
        broken(&mut world);
        let _agent = refused(&world, name, why).await;
        assert_eq!(world.journal().read().unwrap(), None, "{name}");
        world.assert_open(name);
        let node = world.node();
        let told =
            node["status"]["conditions"].as_array().unwrap().iter().find(|one| one["type"] == "CgroupDriverMatched");
        assert_eq!(told.unwrap()["reason"], "MigrationRefused", "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_waits_while_others_are_not_ready_and_goes_when_they_are() {
    let world = World::new();
    let ready = |status: &str| json!({"status": {"conditions": [{"type": "Ready", "status": status}]}});
    world.server.put("/api/v1/nodes/n2", ready("Unknown"));
    let scene = world.agent();
    pass(Duration::from_secs(3600)).await;
    assert_eq!(scene.engine.progress.borrow().phase, Phase::Waiting);
    assert_eq!((world.services.log(), world.holders()), (Vec::new(), Vec::new()));
    world.server.put("/api/v1/nodes/n2", ready("True"));
    assert_eq!(world.until_ended().await, Outcome::Migrated);
    world.assert_moved("well again");
}

#[tokio::test(start_paused = true)]
async fn a_drain_is_given_up_when_another_node_gets_ill() {
    let world = World::new();
    world.server.put("/apis/policy/v1/namespaces/shop/poddisruptionbudgets/b", budget("web-n1"));
    let _scene = world.agent();
    world.until("cordoned", World::is_cordoned).await;
    world.server.put("/api/v1/nodes/n2", json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}}));
    let outcome = world.until_ended().await;
    assert!(matches!(&outcome, Outcome::TurnedBack { reason } if reason.contains("not ready")), "{outcome:?}");
    world.assert_as_before("another node is ill");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_uses_the_driver_already_costs_the_api_server_nothing() {
    let world = World::new();
    world.services.host.file(KUBELET_CONFIG, "kind: KubeletConfiguration\ncgroupDriver: systemd\n");
    let plugin = "plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc";
    world.services.host.file(
        RUNTIME_CONFIG,
        format!("version = 2\n[{plugin}]\nruntime_type = \"io.containerd.runc.v2\"\n[{plugin}.options]\nSystemdCgroup = true\n"),
    );
    world.services.restart();
    let _scene = world.agent();
    pass(Duration::from_secs(6 * 3600)).await;
    let asked = |resource: &str| world.server.calls().iter().filter(|call| call.resource == resource).count();
    assert_eq!((asked("leases"), asked("pods"), asked("selfsubjectaccessreviews")), (0, 0, 0));
    assert_eq!(world.outcome(), None);
}

#[tokio::test(start_paused = true)]
async fn a_damaged_journal_stops_everything_until_a_person_has_looked() {
    let world = World::new();
    std::fs::write(world.disk.path().join("migration"), "trimtab-migration 1 2 3\n{}").unwrap();
    let scene = world.agent();
    pass(Duration::from_secs(3600)).await;
    assert_eq!(scene.engine.progress.borrow().phase, Phase::Refused);
    assert_eq!(world.services.log(), Vec::<String>::new());
    std::fs::remove_file(world.disk.path().join("migration")).unwrap();
    assert_eq!(world.until_ended().await, Outcome::Migrated);
}

#[tokio::test(start_paused = true)]
async fn the_role_of_the_component_is_enough_and_not_too_much() {
    use super::super::rights::{Right, needed, rights_of};
    // Of Leases there are as many as places, so the component's role names none.
    let any = |(group, resource, verb, _): Right| (group, resource, verb, String::new());
    let (base, more) = (rights_of("objects/role.yaml"), rights_of("migration/role.yaml"));
    let world = World::new();
    let allowed: std::collections::BTreeSet<Right> = base.union(&more).cloned().collect();
    world.server.permit(move |call| {
        // Everybody who is known may ask what he may (system:basic-user).
        let is_granted = |right: Right| allowed.contains(&right) || allowed.contains(&any(right));
        call.resource == "selfsubjectaccessreviews" || needed(call).into_iter().all(is_granted)
    });
    let _scene = world.agent();
    assert_eq!(world.until_ended().await, Outcome::Migrated);
    world.until("the own pod is replaced", |world| !world.pods().contains(&"agent-n1".to_owned())).await;
    let used: std::collections::BTreeSet<Right> = world.server.calls().iter().flat_map(needed).map(any).collect();
    let unused: Vec<&Right> = more.iter().filter(|right| !used.contains(*right)).collect();
    assert_eq!(unused, Vec::<&Right>::new(), "granted and not used");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_paused_is_not_begun_with_whoever_pauses_it() {
    let world = World::new();
    let soon = SystemTime::now() + Duration::from_secs(3600);
    let annotate = |text: Option<String>| {
        world.server.edit("/api/v1/nodes/n1", |node| node["metadata"]["annotations"] = json!({PAUSED_UNTIL: text}));
    };
    annotate(Some(humantime::format_rfc3339_seconds(soon).to_string()));
    let scene = world.agent();
    let is_left_alone = || !world.is_cordoned() && world.journal().read().unwrap().is_none();
    let waits = |by: &str| {
        let now = scene.engine.progress.borrow();
        now.phase == Phase::Waiting && now.message.contains(by)
    };
    world.until("the annotation", |_| waits(PAUSED_UNTIL)).await;
    pass(Duration::from_secs(600)).await;
    assert!(is_left_alone());

    let hold =
        Hold { source: Source::Call, stand: Stand::Pause, until: soon, by: "uid 0".into(), reason: String::new() };
    scene.engine.publish("cgroup", |report| report.hold = Some(hold));
    annotate(None);
    world.until("a call", |_| waits("uid 0")).await;
    pass(Duration::from_secs(600)).await;
    assert!(is_left_alone());

    let cgroup = CgroupSpec { driver: Some(CgroupDriver::Systemd), migration: Some(world.spec.clone()) };
    let until = soon.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let pause = Some(PauseSpec { until, reason: String::new() });
    scene.engine.hold(2, NodeSpec { name: "p".into(), cgroup, pause, ..NodeSpec::default() });
    scene.engine.publish("cgroup", |report| report.hold = None);
    world.until("the profile", |_| waits("profile p")).await;
    pass(Duration::from_secs(600)).await;
    assert!(is_left_alone());

    world.ask(&scene.engine, 3, Some(world.spec.clone()));
    assert_eq!(world.until_ended().await, Outcome::Migrated);
}
