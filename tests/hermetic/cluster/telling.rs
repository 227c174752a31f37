//! What the API server is told of a node: conditions, its state, events, extended resources; and how seldom.

use std::time::SystemTime;

use serde_json::json;
use trimtab::reconcile::report::{StepReport, Trigger};
use trimtab_domain::plan::{Cause, Refusal};

use super::*;
use crate::support::api_server::Fault;

const STATE: &str = "/apis/trimtab.dev/v1alpha1/nodestates/n1";

fn conditions(server: &Double) -> Vec<Value> {
    server.object(NODE).unwrap()["status"]["conditions"].as_array().cloned().unwrap_or_default()
}

fn condition(server: &Double, kind: &str) -> Option<Value> {
    conditions(server).into_iter().find(|condition| condition["type"] == kind)
}

fn settled(server: &Double) -> Scene {
    let scene = Scene::new(server);
    scene.engine.hold(1, NodeSpec { name: "web".into(), ..NodeSpec::default() });
    scene.engine.converge();
    scene
}

fn refusal(object: &str) -> Refusal {
    let (wish, detail) = ("1".to_owned(), "this kernel has no such key".to_owned());
    Refusal { object: object.into(), wish, cause: Cause::Absent, detail }
}

#[tokio::test(start_paused = true)]
async fn conditions_stand_beside_the_kubelets_own_and_change_with_the_node() {
    let server = Scene::server();
    server.edit(NODE, |node| node["status"]["conditions"] = json!([{"type": "Ready", "status": "True"}]));
    let scene = settled(&server);
    pass(Duration::from_secs(30)).await;
    assert_eq!(conditions(&server).len(), 6);
    assert!(conditions(&server).iter().all(|condition| condition["status"] == "True"), "{:?}", conditions(&server));
    scene.engine.publish("sysctl", |report| report.refusals.push(refusal("net.core.nothing")));
    pass(Duration::from_secs(30)).await;
    let tuned = condition(&server, "KernelTuned").unwrap();
    assert_eq!((&tuned["status"], &tuned["reason"]), (&json!("False"), &json!("Refused")));
    assert_eq!(tuned["message"], "net.core.nothing: this kernel has no such key");
    assert_eq!(condition(&server, "Ready").unwrap(), json!({"type": "Ready", "status": "True"}));
}

#[tokio::test(start_paused = true)]
async fn a_restarted_agent_changes_no_condition_that_is_as_it_was() {
    let server = Scene::server();
    let long_ago = "2020-01-01T00:00:00Z";
    let known = json!([{
        "type": "TrimtabReady", "status": "True", "reason": "ProfileInForce", "message": "m",
        "lastHeartbeatTime": long_ago, "lastTransitionTime": long_ago,
    }]);
    server.edit(NODE, |node| node["status"]["conditions"] = known);
    let scene = Scene::new(&server);
    pass(Duration::from_secs(20)).await;
    assert_eq!(conditions(&server).len(), 1, "nothing is told before the first pass has ended");
    scene.engine.hold(1, NodeSpec { name: "web".into(), ..NodeSpec::default() });
    scene.engine.converge();
    pass(Duration::from_secs(30)).await;
    let ready = condition(&server, "TrimtabReady").unwrap();
    assert_eq!((&ready["status"], &ready["lastTransitionTime"]), (&json!("True"), &json!(long_ago)));
    assert_ne!(ready["lastHeartbeatTime"], long_ago);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_cannot_get_ready_says_so_after_a_while() {
    let server = Scene::server();
    let _scene = Scene::new(&server);
    pass(Duration::from_secs(60)).await;
    let ready = condition(&server, "TrimtabReady").unwrap();
    assert_eq!((&ready["status"], &ready["reason"]), (&json!("False"), &json!("NoProfile")));
}

#[tokio::test(start_paused = true)]
async fn the_state_of_the_node_belongs_to_it_and_says_which_profile_won_and_why() {
    let server = Scene::server();
    server.put(&profile("web"), for_pool("web", 10, 1));
    server.put(&profile("all"), json!({"spec": {}}));
    let scene = settled(&server);
    scene.engine.publish("kernel", |report| report.refusals.push(refusal("hugepages")));
    pass(Duration::from_secs(60)).await;
    let state = server.object(STATE).unwrap();
    let owner = &state["metadata"]["ownerReferences"][0];
    assert_eq!((&owner["kind"], &owner["uid"]), (&json!("Node"), &server.object(NODE).unwrap()["metadata"]["uid"]));
    assert_eq!((&state["state"], &state["refusals"]), (&json!("Refusing"), &json!(1)));
    assert_eq!(state["profile"]["name"], "web");
    assert_eq!(state["profile"]["why"], "web goes before all (weight 0, web has 10)");
    assert_eq!(state["profile"]["generation"], 1);
    let outcomes: Vec<&Value> =
        state["profile"]["verdicts"].as_array().unwrap().iter().map(|v| &v["outcome"]).collect();
    assert_eq!(outcomes, ["Won", "Outweighed"]);
    let root = trimtab::cluster::crd::definitions().remove(1).object;
    let schema = &root["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let mut bare = state.clone();
    bare["metadata"] = json!({});
    assert_eq!(super::crd::problems(schema, &bare, ""), Vec::<String>::new(), "as its definition says");
}

#[tokio::test(start_paused = true)]
async fn what_flaps_is_told_ever_more_seldom() {
    let server = Scene::server();
    let scene = settled(&server);
    pass(Duration::from_secs(60)).await;
    server.forget_calls();
    for second in 0..3600 {
        scene.engine.publish("sysctl", |report| {
            report.state = if second % 2 == 0 { State::Failing } else { State::Converged };
        });
        pass(Duration::from_secs(1)).await;
    }
    for resource in ["nodes/status", "nodestates"] {
        let told = server.count("apply", resource);
        assert!((5..=25).contains(&told), "{resource}: {told} times in an hour");
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_made_anew_is_told_of_anew() {
    let server = Scene::server();
    let _scene = settled(&server);
    pass(Duration::from_secs(60)).await;
    server.remove(NODE);
    server.forget_calls();
    pass(Duration::from_secs(3600)).await;
    assert_eq!(server.count("apply", "nodes/status"), 0, "there is nobody to tell it of");
    server.put(NODE, json!({}));
    pass(Duration::from_secs(60)).await;
    assert_eq!(conditions(&server).len(), 5);
    let owner = server.object(STATE).unwrap()["metadata"]["ownerReferences"].clone();
    let uid = server.object(NODE).unwrap()["metadata"]["uid"].clone();
    assert!(owner.as_array().unwrap().iter().any(|owner| owner["uid"] == uid), "{owner}");
}

pub(super) fn drift(engine: &Engine, count: u64, key: &str) {
    engine.publish("sysctl", |report| {
        report.trigger = Some(Trigger::Drift);
        (report.totals.drift_found, report.totals.drift_healed) = (count, count);
        report.last_change = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(count));
        report.steps = vec![StepReport { step: format!("{key}: 128 -> 1024"), error: None }];
    });
}

fn events(server: &Double) -> Vec<Value> {
    server.objects("/apis/events.k8s.io/v1/namespaces/default/events")
}

#[tokio::test(start_paused = true)]
async fn drift_is_an_event_and_drift_again_a_count() {
    let server = Scene::server();
    let scene = settled(&server);
    pass(Duration::from_secs(30)).await;
    for count in 1..=700 {
        drift(&scene.engine, count, "net.core.somaxconn");
        pass(Duration::from_secs(1)).await;
    }
    let of_drift: Vec<Value> = events(&server).into_iter().filter(|event| event["reason"] == "DriftRepaired").collect();
    assert_eq!(of_drift.len(), 1, "{of_drift:?}");
    let event = &of_drift[0];
    assert_eq!((&event["type"], &event["note"]), (&json!("Warning"), &json!("net.core.somaxconn: 128 -> 1024")));
    assert_eq!(event["regarding"]["name"], "n1");
    let count = event["series"]["count"].as_u64().unwrap();
    assert!((600..=602).contains(&count), "{count} in ten minutes");
    assert!(event["metadata"]["name"].as_str().unwrap().starts_with("n1."), "{event}");
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_happenings_is_a_trickle_of_events() {
    let server = Scene::server();
    let scene = settled(&server);
    pass(Duration::from_secs(30)).await;
    server.forget_calls();
    for count in 1..=3600 {
        drift(&scene.engine, count, &format!("net.ipv4.conf.eth{count}.rp_filter"));
        pass(Duration::from_secs(1)).await;
    }
    let written = server.calls().iter().filter(|call| call.resource == "events").count();
    assert!(written <= 25 + 61, "{written} events in an hour");
}

#[tokio::test(start_paused = true)]
async fn a_fight_a_refusal_and_a_bad_profile_are_warnings() {
    let server = Scene::server();
    let scene = settled(&server);
    pass(Duration::from_secs(30)).await;
    scene.engine.publish("sysctl", |report| {
        report.refusals.push(refusal("net.core.nothing"));
        report.fights.push(trimtab::reconcile::report::Fight {
            object: "net.core.somaxconn".into(),
            rewrites: 5,
            likely_writer: Some("tuned".into()),
            held_until: SystemTime::UNIX_EPOCH,
        });
    });
    scene.engine.board.publish_profile(ProfileReport {
        name: "web".into(),
        generation: 1,
        source: "nodeprofiles/web".into(),
        valid: false,
        errors: vec!["spec.sysctls: wrong type".into()],
    });
    pass(Duration::from_secs(30)).await;
    let mut reasons: Vec<String> = events(&server)
        .iter()
        .filter(|e| e["type"] == "Warning")
        .map(|e| e["reason"].as_str().unwrap().to_owned())
        .collect();
    reasons.sort();
    assert_eq!(reasons, ["Fight", "ProfileRefused", "Refused"]);
}

fn with_resources(resources: &[(&str, u64)]) -> NodeSpec {
    let mut spec = NodeSpec { name: "web".into(), ..NodeSpec::default() };
    spec.kubernetes.extended_resources = resources.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
    spec
}

#[tokio::test(start_paused = true)]
async fn extended_resources_come_and_go_with_the_profile_over_restarts_too() {
    let server = Scene::server();
    server.edit(NODE, |node| node["status"]["capacity"] = json!({"cpu": "8", "example.com/other": "1"}));
    let scene = Scene::new(&server);
    scene.engine.hold(1, with_resources(&[("example.com/dongle", 4), ("example.com/bank", 2)]));
    pass(Duration::from_secs(30)).await;
    let capacity = |server: &Double| server.object(NODE).unwrap()["status"]["capacity"].clone();
    let whole = json!({"cpu": "8", "example.com/other": "1", "example.com/bank": "2", "example.com/dongle": "4"});
    assert_eq!(capacity(&server), whole);
    // A kubelet that starts sets every extended resource to zero.
    server.edit(NODE, |node| node["status"]["capacity"]["example.com/dongle"] = "0".into());
    pass(Duration::from_secs(400)).await;
    assert_eq!(capacity(&server), whole);
    drop(scene);
    let again = Scene::new(&server);
    again.engine.hold(1, with_resources(&[("example.com/bank", 2)]));
    pass(Duration::from_secs(30)).await;
    assert_eq!(capacity(&server), json!({"cpu": "8", "example.com/other": "1", "example.com/bank": "2"}));
    again.engine.hold(2, with_resources(&[]));
    pass(Duration::from_secs(30)).await;
    assert_eq!(capacity(&server), json!({"cpu": "8", "example.com/other": "1"}));
    assert_eq!(server.object(NODE).unwrap()["metadata"]["labels"]["pool"], "web");
}

#[tokio::test(start_paused = true)]
async fn a_node_without_extended_resources_is_never_asked_about_them() {
    let server = Scene::server();
    let scene = settled(&server);
    pass(Duration::from_secs(24 * 3600)).await;
    drop(scene);
    let theirs = |call: &crate::support::api_server::Call| call.parameter("fieldManager") == "trimtab-resources";
    assert!(!server.calls().iter().any(theirs));
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_told_is_told_later_and_without_hurry() {
    let server = Scene::server();
    for fault in [Fault::status(500).on("apply"), Fault::hang().on("apply"), Fault::status(403).on("apply")] {
        server.fault(fault.clone());
        server.forget_calls();
        let scene = settled(&server);
        pass(Duration::from_secs(3600)).await;
        let tries = server.count("apply", "nodes/status");
        assert!((10..=130).contains(&tries), "{fault:?}: {tries} tries in an hour");
        server.heal();
        pass(Duration::from_secs(180)).await;
        assert_eq!(conditions(&server).len(), 5, "{fault:?}");
        drop(scene);
        server.edit(NODE, |node| node["status"] = json!({}));
    }
}
