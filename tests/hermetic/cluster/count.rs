//! What a profile is told of all its nodes: by whom, how soon, and that nobody has to.

use super::*;
use crate::support::api_server::Fault;

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases/trimtab-status";

/// Longest time until somebody counts for a new profile, and a little more.
const SOON: Duration = Duration::from_secs(180 + 120 + 30);
/// Until the next count that is written.
const NEXT: Duration = Duration::from_secs(3 * 60);

fn state(name: &str, held: (&str, i64), state: &str) -> (String, Value) {
    let (profile, generation) = held;
    let object = json!({
        "profile": {"name": profile, "selected": profile, "generation": generation}, "state": state, "drifts": 0,
    });
    (format!("/apis/trimtab.dev/v1alpha1/nodestates/{name}"), object)
}

fn status(server: &Double, name: &str) -> Value {
    server.object(&profile(name)).unwrap()["status"].clone()
}

fn numbers(status: &Value) -> [i64; 6] {
    ["nodes", "inSync", "failing", "refusing", "drifted", "outdated"].map(|field| status[field].as_i64().unwrap_or(-1))
}

fn holder(server: &Double) -> Value {
    server.object(LEASE).map(|lease| lease["spec"]["holderIdentity"].clone()).unwrap_or_default()
}

fn settle(scene: &Scene) {
    scene.engine.hold(1, NodeSpec { name: "web".into(), ..NodeSpec::default() });
    scene.engine.converge();
}

#[tokio::test(start_paused = true)]
async fn one_agent_counts_the_nodes_of_every_profile() {
    let server = Scene::server();
    server.put(&profile("web"), for_pool("web", 10, 1));
    server.put(&profile("none"), for_pool("nobody", 10, 1));
    for (path, object) in [
        state("n2", ("web", 1), "Refusing"),
        state("n3", ("web", 1), "Fighting"),
        state("n4", ("web", 7), "InSync"),
        state("n5", ("gone", 1), "InSync"),
    ] {
        server.put(&path, object);
    }
    // More than one page.
    for number in 0..700 {
        let (path, object) = state(&format!("m{number}"), ("web", 1), "InSync");
        server.put(&path, object);
    }
    let scene = Scene::new(&server);
    settle(&scene);
    pass(SOON).await;
    let web = status(&server, "web");
    assert_eq!(numbers(&web), [704, 701, 1, 1, 0, 1], "{web}");
    assert_eq!((&web["observedGeneration"], &web["countedBy"]), (&json!(1), &json!("n1")));
    let condition = |status: &Value, kind: &str| {
        let all = status["conditions"].as_array().unwrap().clone();
        all.into_iter().find(|condition| condition["type"] == kind).unwrap()
    };
    let in_sync = condition(&web, "InSync");
    assert_eq!((&in_sync["status"], &in_sync["reason"]), (&json!("False"), &json!("Failing")));
    assert_eq!(condition(&web, "RolledOut")["message"], "1 of 704 nodes do not hold generation 1");
    assert_eq!(numbers(&status(&server, "none")), [0; 6]);
    let lists: Vec<_> =
        server.calls().into_iter().filter(|call| call.resource == "nodestates" && call.verb == "list").collect();
    assert!(lists.iter().all(|call| call.accept.contains("as=Table") && call.parameter("includeObject") == "None"));
    let root = trimtab::cluster::crd::definitions().remove(0).object;
    let schema = &root["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"];
    assert_eq!(super::crd::problems(schema, &web, ""), Vec::<String>::new(), "as its definition says");
}

#[tokio::test(start_paused = true)]
async fn a_changed_profile_and_a_changed_node_are_counted_again_and_standstill_costs_little() {
    let server = Scene::server();
    server.put(&profile("web"), for_pool("web", 10, 1));
    let scene = Scene::new(&server);
    settle(&scene);
    pass(SOON).await;
    assert_eq!(numbers(&status(&server, "web")), [1, 1, 0, 0, 0, 0]);
    server.put(&profile("web"), {
        let mut object = for_pool("web", 10, 2);
        object["status"] = status(&server, "web");
        object
    });
    let (path, object) = state("n2", ("web", 1), "InSync");
    server.put(&path, object);
    scene.engine.hold(2, NodeSpec { name: "web".into(), ..NodeSpec::default() });
    scene.engine.converge();
    pass(NEXT).await;
    let web = status(&server, "web");
    assert_eq!((numbers(&web), &web["observedGeneration"]), ([2, 1, 0, 0, 0, 1], &json!(2)), "{web}");
    pass(NEXT).await;
    server.forget_calls();
    pass(Duration::from_secs(3600)).await;
    let (written, listed) = (server.count("apply", "nodeprofiles/status"), server.count("list", "nodestates"));
    assert!((11..=13).contains(&written), "{written} heartbeats in an hour");
    assert!((59..=61).contains(&listed), "{listed} lists in an hour");
}

#[tokio::test(start_paused = true)]
async fn of_many_agents_one_counts_and_another_takes_over_when_it_is_gone() {
    let server = Double::new();
    server.put(&profile("web"), for_pool("web", 10, 1));
    let mut agents: Vec<(String, Scene)> = (0..20)
        .map(|number| {
            let name = format!("n{number}");
            server.put(&format!("/api/v1/nodes/{name}"), json!({"metadata": {"labels": {"pool": "web"}}}));
            let scene = Scene::named(&server, &name, Engine::new(Arc::default()));
            settle(&scene);
            (name, scene)
        })
        .collect();
    pass(SOON).await;
    let first = holder(&server).as_str().unwrap().to_owned();
    let asked =
        |server: &Double| server.calls().iter().filter(|call| call.resource == "leases" && call.verb == "get").count();
    assert_eq!(numbers(&status(&server, "web"))[0], 20);
    server.forget_calls();
    pass(Duration::from_secs(2 * 3600)).await;
    assert_eq!((holder(&server), asked(&server)), (json!(first), 0), "nobody else even asks while it is counted");
    agents.retain(|(name, _)| *name != first);
    pass(Duration::from_secs(2 * 3600)).await;
    let second = holder(&server).as_str().unwrap().to_owned();
    assert_ne!(second, first);
    assert_eq!(status(&server, "web")["countedBy"], second.as_str());
    assert_eq!(server.object(LEASE).unwrap()["spec"]["leaseTransitions"], 1);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_counted_before_its_restart_goes_on_at_once() {
    let server = Scene::server();
    server.put(&profile("web"), for_pool("web", 10, 1));
    let scene = Scene::new(&server);
    settle(&scene);
    pass(SOON).await;
    drop(scene);
    pass(Duration::from_secs(5)).await;
    server.forget_calls();
    let scene = Scene::new(&server);
    settle(&scene);
    pass(Duration::from_secs(30)).await;
    assert_eq!(server.count("list", "nodestates"), 1);
    assert_eq!(server.object(LEASE).unwrap()["spec"]["leaseTransitions"], 0);
}

#[tokio::test(start_paused = true)]
async fn whoever_may_not_count_or_cannot_rests_long_and_leaves_it_to_others() {
    let forbidden = |server: &Double| server.permit(|call| call.resource != "leases");
    let broken = |server: &Double| server.fault(Fault::status(500).on("list").of_resource("nodestates"));
    let older = |server: &Double| server.without_kind("trimtab.dev", "nodestates");
    type Harm<'a> = (&'a str, &'a dyn Fn(&Double), usize);
    let harms: [Harm<'_>; 3] = [("forbidden", &forbidden, 10), ("broken", &broken, 130), ("no kind", &older, 40)];
    for (name, harm, most) in harms {
        let server = Scene::server();
        server.put(&profile("web"), for_pool("web", 10, 1));
        harm(&server);
        let scene = Scene::new(&server);
        settle(&scene);
        pass(Duration::from_secs(4 * 3600)).await;
        let calls = server.calls();
        let tries = calls
            .iter()
            .filter(|call| call.resource == "leases" || call.verb == "list" && call.resource == "nodestates");
        let tries = tries.count();
        assert!((1..=most).contains(&tries), "{name}: {tries} requests in four hours");
        assert!(status(&server, "web").is_null(), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cluster_without_profiles_has_nobody_who_counts() {
    let server = Scene::server();
    let scene = Scene::new(&server);
    settle(&scene);
    pass(Duration::from_secs(3600)).await;
    assert_eq!(server.calls().iter().filter(|call| call.resource == "leases").count(), 0);
    server.put(&profile("web"), for_pool("web", 10, 1));
    pass(SOON).await;
    assert_eq!(holder(&server), json!("n1"));
    server.remove(&profile("web"));
    pass(Duration::from_secs(600)).await;
    server.forget_calls();
    pass(Duration::from_secs(3600)).await;
    assert_eq!(server.calls().iter().filter(|call| call.resource == "leases").count(), 0, "and nobody goes on");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_somebody_else_takes_ends_the_counting() {
    let server = Scene::server();
    server.put(&profile("web"), for_pool("web", 10, 1));
    let scene = Scene::new(&server);
    settle(&scene);
    pass(SOON).await;
    server.edit(LEASE, |lease| lease["spec"]["holderIdentity"] = "n9".into());
    pass(Duration::from_secs(120)).await;
    server.forget_calls();
    pass(Duration::from_secs(180)).await;
    assert_eq!((server.count("list", "nodestates"), holder(&server)), (0, json!("n9")));
}
