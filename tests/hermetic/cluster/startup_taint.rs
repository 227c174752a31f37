//! The start-up taint: taken off once the node is as its profile says, with nothing else touched.

use super::*;
use crate::support::api_server::Fault;

const TAINT: &str = "trimtab.dev/not-ready";

fn ours(effect: &str) -> Value {
    json!({"key": TAINT, "effect": effect})
}

fn other() -> Value {
    json!({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule", "timeAdded": "2026-01-01T00:00:00Z"})
}

fn tainted(taints: &[Value]) -> Double {
    let server = Scene::server();
    server.edit(NODE, |node| node["spec"] = json!({"providerID": "x://1", "taints": taints}));
    server
}

fn taints(server: &Double) -> Vec<Value> {
    server.object(NODE).unwrap()["spec"]["taints"].as_array().cloned().unwrap_or_default()
}

/// A profile's name is that of an object if the scene has one.
fn converge(scene: &Scene) {
    scene.engine.hold(1, NodeSpec { name: "web".into(), ..NodeSpec::default() });
    scene.engine.converge();
}

fn writes(server: &Double) -> usize {
    server.count("patch", "nodes")
}

#[tokio::test(start_paused = true)]
async fn it_goes_in_all_its_effects_and_the_taints_of_others_stay() {
    let server = tainted(&[ours("NoSchedule"), other(), ours("NoExecute")]);
    server.put(&profile("web"), for_pool("web", 1, 1));
    let scene = Scene::new(&server);
    pass(Duration::from_secs(300)).await;
    assert_eq!(taints(&server).len(), 3, "no pass has ended");
    converge(&scene);
    pass(Duration::from_secs(5)).await;
    assert_eq!(taints(&server), [other()]);
    assert_eq!(server.object(NODE).unwrap()["spec"]["providerID"], "x://1");
    pass(Duration::from_secs(7200)).await;
    assert_eq!(writes(&server), 1);
}

#[tokio::test(start_paused = true)]
async fn a_node_without_it_is_read_once_and_not_written() {
    let server = tainted(&[other()]);
    server.put(&profile("web"), for_pool("web", 1, 1));
    let scene = Scene::new(&server);
    converge(&scene);
    pass(Duration::from_secs(7200)).await;
    assert_eq!((writes(&server), server.count("get", "nodes")), (0, 2), "one for the conditions");
}

#[tokio::test(start_paused = true)]
async fn one_that_fails_or_holds_another_profile_keeps_it() {
    let server = tainted(&[ours("NoSchedule")]);
    server.put(&profile("web"), for_pool("web", 1, 1));
    let scene = Scene::new(&server);
    let file = ProfileReport {
        name: "web".into(),
        generation: 1,
        source: "/etc/trimtab/profile.yaml".into(),
        valid: true,
        errors: Vec::new(),
    };
    scene.engine.board.publish_profile(file);
    scene.engine.converge();
    pass(Duration::from_secs(300)).await;
    assert_eq!(writes(&server), 0, "the object is for this node, and the file is still in force");

    let server = tainted(&[ours("NoSchedule")]);
    server.put(&profile("web"), for_pool("web", 1, 1));
    let scene = Scene::new(&server);
    scene.engine.publish("sysctl", |report| report.state = State::Failing);
    scene.engine.hold(1, NodeSpec { name: "web".into(), ..NodeSpec::default() });
    pass(Duration::from_secs(300)).await;
    assert_eq!(writes(&server), 0);
    scene.engine.converge();
    pass(Duration::from_secs(5)).await;
    assert_eq!(taints(&server), Vec::<Value>::new());
}

#[tokio::test(start_paused = true)]
async fn a_node_that_no_profile_selects_is_freed_too_and_one_without_the_kind() {
    for with_kind in [true, false] {
        let server = tainted(&[ours("NoSchedule")]);
        server.put(&profile("db"), for_pool("db", 1, 1));
        if !with_kind {
            server.without_kind("trimtab.dev", "nodeprofiles");
        }
        let scene = Scene::new(&server);
        converge(&scene);
        pass(Duration::from_secs(60)).await;
        assert_eq!(taints(&server), Vec::<Value>::new(), "with the kind: {with_kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_changes_the_taints_in_between_loses_nothing() {
    let server = tainted(&[ours("NoSchedule")]);
    server.put(&profile("web"), for_pool("web", 1, 1));
    // Between the reading and the writing of the agent, three times.
    let (racing, count) = (server.clone(), std::sync::atomic::AtomicUsize::new(0));
    server.on_call(move |call| {
        if call.verb == "patch" && call.resource == "nodes" {
            let number = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            if number < 3 {
                racing.edit(NODE, |node| {
                    let list = node["spec"]["taints"].as_array_mut().unwrap();
                    list.insert(0, json!({"key": format!("example.com/{number}"), "effect": "NoSchedule"}));
                });
            }
        }
    });
    let scene = Scene::new(&server);
    converge(&scene);
    pass(Duration::from_secs(120)).await;
    let keys: Vec<Value> = taints(&server).iter().map(|taint| taint["key"].clone()).collect();
    assert_eq!(keys, ["example.com/2", "example.com/1", "example.com/0"]);
}

#[tokio::test(start_paused = true)]
async fn a_node_made_anew_is_freed_anew_and_a_taint_put_back_by_a_person_is_left() {
    let server = tainted(&[ours("NoSchedule")]);
    server.put(&profile("web"), for_pool("web", 1, 1));
    let scene = Scene::new(&server);
    converge(&scene);
    pass(Duration::from_secs(60)).await;
    assert_eq!(writes(&server), 1);
    server.edit(NODE, |node| node["spec"]["taints"] = json!([ours("NoExecute")]));
    pass(Duration::from_secs(3600)).await;
    assert_eq!(taints(&server), [ours("NoExecute")]);
    server.remove(NODE);
    server.put(NODE, json!({"metadata": {"labels": {"pool": "web"}}, "spec": {"taints": [ours("NoSchedule")]}}));
    pass(Duration::from_secs(60)).await;
    assert_eq!(taints(&server), Vec::<Value>::new());
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_fails_is_asked_again_and_one_that_forbids_it_rarely() {
    let server = tainted(&[ours("NoSchedule")]);
    server.put(&profile("web"), for_pool("web", 1, 1));
    server.fault(Fault::status(500).on("patch").of_resource("nodes").times(3));
    let scene = Scene::new(&server);
    converge(&scene);
    pass(Duration::from_secs(120)).await;
    assert_eq!((taints(&server), writes(&server)), (Vec::new(), 4));

    let server = tainted(&[ours("NoSchedule")]);
    server.put(&profile("web"), for_pool("web", 1, 1));
    server.permit(|call| call.verb != "patch");
    let scene = Scene::new(&server);
    converge(&scene);
    pass(Duration::from_secs(3600)).await;
    assert!((1..=61).contains(&writes(&server)), "{} tries in an hour", writes(&server));
}

/// A profile that has containers pinned.
fn converge_pinning(scene: &Scene) {
    let resource_managers = Some(trimtab_domain::spec::ResourceManagersSpec::default());
    scene.engine.hold(1, NodeSpec { name: "web".into(), resource_managers, ..NodeSpec::default() });
    scene.engine.converge();
}

#[tokio::test(start_paused = true)]
async fn a_node_that_pins_keeps_it_until_the_runtime_asks_or_is_known_not_to() {
    for (name, link) in [("asks", NriLink::Asks), ("is away", NriLink::Away)] {
        let server = tainted(&[ours("NoSchedule")]);
        server.put(&profile("web"), for_pool("web", 1, 1));
        let engine = Engine { link: Some(watch::Sender::default()), ..Engine::new(Arc::default()) };
        let scene = Scene::with(&server, engine);
        pass(Duration::from_secs(60)).await;
        converge_pinning(&scene);
        pass(Duration::from_secs(20)).await;
        assert_eq!(writes(&server), 0, "a pod would start unpinned");
        scene.engine.link.as_ref().unwrap().send_replace(link);
        pass(Duration::from_secs(5)).await;
        assert_eq!(taints(&server), Vec::<Value>::new(), "the runtime {name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_runtime_that_does_not_take_the_agent_on_keeps_it_for_half_a_minute() {
    let server = tainted(&[ours("NoSchedule")]);
    server.put(&profile("web"), for_pool("web", 1, 1));
    let engine = Engine { link: Some(watch::Sender::default()), ..Engine::new(Arc::default()) };
    let scene = Scene::with(&server, engine);
    converge_pinning(&scene);
    pass(Duration::from_secs(60)).await;
    assert_eq!(taints(&server), Vec::<Value>::new());
}

#[tokio::test(start_paused = true)]
async fn a_node_that_does_not_pin_waits_for_no_runtime() {
    let server = tainted(&[ours("NoSchedule")]);
    server.put(&profile("web"), for_pool("web", 1, 1));
    let engine = Engine { link: Some(watch::Sender::default()), ..Engine::new(Arc::default()) };
    let scene = Scene::with(&server, engine);
    pass(Duration::from_secs(60)).await;
    converge(&scene);
    pass(Duration::from_secs(5)).await;
    assert_eq!(taints(&server), Vec::<Value>::new());
}
