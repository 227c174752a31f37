//! A change of a profile that comes to some nodes first: two hundred agents, paused time, no coordinator.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;
use std::time::SystemTime;

use serde_json::json;
use trimtab::adapters::profile_object::{self, OfferedProfile};
use trimtab::cluster::rollout::{IN_FORCE, UNWELL};
use trimtab_domain::rollout::position;

use super::*;
use crate::support::api_server::Fault;

const NODES: usize = 200;

/// A profile for every node, with a roll-out of these steps (percent, soak).
fn spreading(somaxconn: u32, steps: &[(u32, u32)]) -> Value {
    let steps: Vec<Value> =
        steps.iter().map(|(percent, soak)| json!({"percent": percent, "soakSeconds": soak})).collect();
    json!({"spec": {
        "sysctls": {"values": {"net.core.somaxconn": somaxconn}},
        "rollout": {"steps": steps, "maxUnhealthyPercent": 10},
    }})
}

/// The value that an offer asks for.
fn asked(offer: &Offer) -> Option<u32> {
    let Offer::Object { text, .. } = offer else { return None };
    let spec = trimtab::profile::parse("p", text.as_bytes()).unwrap().spec;
    spec.sysctls.values.get("net.core.somaxconn")?.parse().ok()
}

/// Puts every offer in force at once; a node fails under the value that makes it sick.
fn hold_what_is_offered(scene: &Scene, sick: Arc<Mutex<Option<u32>>>) {
    let (mut offers, board) = (scene.offers.clone(), Arc::clone(&scene.engine.board));
    tokio::spawn(async move {
        let mut generation = 0;
        loop {
            let offer = offers.borrow_and_update().clone();
            if let (Offer::Object { origin, .. }, Some(value)) = (&offer, asked(&offer)) {
                generation += 1;
                board.publish_profile(ProfileReport {
                    name: origin.trim_start_matches("nodeprofiles/").to_owned(),
                    generation,
                    source: origin.clone(),
                    valid: true,
                    ..ProfileReport::default()
                });
                let fails = *sick.lock().unwrap() == Some(value);
                for name in PARTS {
                    let state = if fails && name == "sysctl" { State::Failing } else { State::Converged };
                    board.publish(SubsystemReport { state, generation, ..SubsystemReport::pending(name) });
                }
            }
            if offers.changed().await.is_err() {
                return;
            }
        }
    });
}

struct Fleet {
    server: Double,
    nodes: BTreeMap<String, Scene>,
    sick: Arc<Mutex<Option<u32>>>,
}

impl Fleet {
    async fn holding(somaxconn: u32, steps: &[(u32, u32)]) -> Self {
        let (server, sick) = (Double::new(), Arc::<Mutex<Option<u32>>>::default());
        server.put(&profile("web"), spreading(somaxconn, steps));
        let node = |number: usize| {
            let name = format!("n{number}");
            server.put(&format!("/api/v1/nodes/{name}"), json!({}));
            let scene = Scene::named(&server, &name, Engine::new(Arc::default()));
            hold_what_is_offered(&scene, Arc::clone(&sick));
            (name, scene)
        };
        let nodes = (0..NODES).map(node).collect();
        let fleet = Self { server, nodes, sick };
        pass(Duration::from_secs(60)).await;
        fleet
    }

    /// The nodes that are offered this value.
    fn with(&self, somaxconn: u32) -> BTreeSet<&str> {
        let has = |scene: &Scene| asked(&scene.offers.borrow()) == Some(somaxconn);
        self.nodes.iter().filter(|(_, scene)| has(scene)).map(|(name, _)| name.as_str()).collect()
    }

    /// The nodes that are to have the newest change once a step of so many percent has begun.
    fn first(&self, percent: u16) -> BTreeSet<&str> {
        let metadata = &self.server.object(&profile("web")).unwrap()["metadata"];
        let change = format!("{}.{}", metadata["uid"].as_str().unwrap(), metadata["generation"]);
        self.nodes.keys().map(String::as_str).filter(|name| position(name, &change) < percent * 100).collect()
    }
}

const STEPS: &[(u32, u32)] = &[(5, 120), (25, 120), (50, 120)];

#[tokio::test(start_paused = true)]
async fn a_change_spreads_as_its_steps_say_stops_when_nodes_get_unwell_and_goes_on_when_it_is_mended() {
    let fleet = Fleet::holding(1, STEPS).await;
    assert_eq!(fleet.with(1).len(), NODES, "nodes that hold nothing take the newest at once");

    fleet.server.forget_calls();
    fleet.server.put(&profile("web"), spreading(2, STEPS));
    for percent in [5, 25, 50, 100] {
        // A minute in which the nodes of a step ask one after the other.
        pass(Duration::from_secs(90)).await;
        assert_eq!(fleet.with(2), fleet.first(percent), "{percent} %");
        pass(Duration::from_secs(29)).await;
        assert_eq!(fleet.with(2), fleet.first(percent), "{percent} % until the soak is over");
        pass(Duration::from_secs(1)).await;
    }
    let lists = fleet.server.count("list", "nodestates");
    assert!(lists <= NODES, "each node asks once at most: {lists}");

    *fleet.sick.lock().unwrap() = Some(3);
    fleet.server.put(&profile("web"), spreading(3, STEPS));
    pass(Duration::from_secs(900)).await;
    assert_eq!(fleet.with(3), fleet.first(5), "it has stopped after the first step");
    let selected = |key: &str| {
        let states = fleet.server.objects("/apis/trimtab.dev/v1alpha1/nodestates");
        let change =
            |state: &Value| state["metadata"]["labels"][IN_FORCE].as_str().is_some_and(|is| is.ends_with(".3"));
        states.iter().filter(|state| change(state) && state["metadata"]["labels"].get(key).is_some()).count()
    };
    assert_eq!((selected(UNWELL), selected(IN_FORCE)), (fleet.first(5).len(), fleet.first(5).len()));
    let waiting = fleet.nodes.values().filter_map(|scene| match &*scene.offers.borrow() {
        Offer::Object { waiting, .. } => waiting.clone(),
        _ => None,
    });
    let waiting: Vec<_> = waiting.collect();
    let stopped = waiting.iter().filter(|waiting| waiting.stopped).count();
    assert_eq!((waiting.len(), stopped), (NODES - fleet.first(5).len(), NODES - fleet.first(5).len()));
    assert!(waiting[0].why.contains("are unwell, more than 10 %"), "{:?}", waiting[0]);

    fleet.server.put(&profile("web"), spreading(4, STEPS));
    pass(Duration::from_secs(90)).await;
    assert_eq!(fleet.with(4), fleet.first(5), "another order, from its beginning");
    // The time stands still, answers of the server do not: on a busy machine the last nodes ask later.
    for _ in 0..30 {
        pass(Duration::from_secs(30)).await;
        if fleet.with(4).len() == NODES {
            return;
        }
    }
    panic!("{} of {NODES} nodes have it", fleet.with(4).len());
}

/// A server with a profile, and a node that is not among the first of a hundred for its next change.
fn late_node(steps: &[(u32, u32)]) -> (Double, String) {
    let server = Double::new();
    server.put(&profile("web"), spreading(1, steps));
    let uid = server.object(&profile("web")).unwrap()["metadata"]["uid"].as_str().unwrap().to_owned();
    let late = |name: &String| (2..6).all(|generation| position(name, &format!("{uid}.{generation}")) >= 2000);
    let name = (0..1000).map(|number| format!("n{number}")).find(late).unwrap();
    server.put(&format!("/api/v1/nodes/{name}"), json!({"metadata": {"labels": {"pool": "web"}}}));
    (server, name)
}

/// What an agent with this state directory has in force.
fn in_force(scene: &Scene, state_dir: &Path) -> watch::Receiver<OfferedProfile> {
    profile_object::follow(scene.offers.clone(), state_dir, CancellationToken::new())
}

fn value(loaded: &OfferedProfile) -> Option<String> {
    loaded.loaded.spec.as_ref()?.sysctls.values.get("net.core.somaxconn").cloned()
}

fn is_waiting(offer: &Offer) -> bool {
    matches!(offer, Offer::Object { waiting: Some(_), .. })
}

#[tokio::test(start_paused = true)]
async fn a_restart_does_not_let_in_what_has_not_come_to_the_node() {
    let state = tempfile::tempdir().unwrap();
    let (server, name) = late_node(&[(20, 3600)]);
    let mut scene = Scene::named(&server, &name, Engine::new(Arc::default()));
    let mut profile_in_force = in_force(&scene, state.path());
    scene.until_value(1).await;
    profile_in_force.wait_for(|now| value(now).as_deref() == Some("1")).await.unwrap();
    server.put(&profile("web"), spreading(2, &[(20, 3600)]));
    scene.until("waits", is_waiting).await;
    let told = |now: &OfferedProfile| now.loaded.findings.iter().any(|finding| finding.code == "rollout-waiting");
    let now = profile_in_force.wait_for(told).await.unwrap().clone();
    assert_eq!(value(&now).as_deref(), Some("1"));
    drop(scene);

    for outage in [true, false] {
        let kept = profile_object::kept(state.path()).and_then(Taken::of_kept);
        assert_eq!(kept.as_ref().map(|kept| kept.generation), Some(1));
        let mut scene = Scene::holding(&server, &name, Engine::new(Arc::default()), kept);
        let mut again = in_force(&scene, state.path());
        assert_eq!(value(&again.borrow()).as_deref(), Some("1"), "before anything is heard of the API server");
        if outage {
            server.fault(Fault::down());
            pass(Duration::from_secs(600)).await;
            server.heal();
            assert_eq!(value(&again.borrow()).as_deref(), Some("1"));
        }
        scene.until("waits still", is_waiting).await;
        pass(Duration::from_secs(60)).await;
        assert_eq!(value(&again.borrow_and_update()).as_deref(), Some("1"));
        if !outage {
            pass(Duration::from_secs(3700)).await;
            assert_eq!(value(&again.borrow_and_update()).as_deref(), Some("2"), "its turn");
        }
    }
}

/// The same with a pause that ends so many seconds from now.
fn paused(mut profile: Value, seconds: u64) -> Value {
    let until = humantime::format_rfc3339_seconds(SystemTime::now() + Duration::from_secs(seconds)).to_string();
    profile["spec"]["pause"] = json!({"until": until, "reason": "a test"});
    profile
}

fn is_paused(now: &OfferedProfile) -> bool {
    now.loaded.spec.as_ref().is_some_and(|spec| spec.pause.is_some())
}

#[tokio::test(start_paused = true)]
async fn a_pause_comes_to_every_node_at_once_and_goes_at_once_while_the_change_waits() {
    let state = tempfile::tempdir().unwrap();
    let (server, name) = late_node(&[(20, 600)]);
    let mut scene = Scene::named(&server, &name, Engine::new(Arc::default()));
    let mut now = in_force(&scene, state.path());
    scene.until_value(1).await;
    server.put(&profile("web"), paused(spreading(2, &[(20, 600)]), 7200));
    scene.until("waits", is_waiting).await;
    let held = now.wait_for(is_paused).await.unwrap().clone();
    assert_eq!(value(&held).as_deref(), Some("1"), "what waits is not held");
    pass(Duration::from_secs(60)).await;
    drop((scene, now));

    // The next agent, while nothing answers.
    server.fault(Fault::down());
    let kept = profile_object::kept(state.path()).and_then(Taken::of_kept);
    let mut scene = Scene::holding(&server, &name, Engine::new(Arc::default()), kept);
    let mut now = in_force(&scene, state.path());
    let held = now.borrow().clone();
    assert_eq!((is_paused(&held), value(&held).as_deref()), (true, Some("1")), "it is on the disk");
    server.heal();
    scene.until("waits", is_waiting).await;
    assert!(is_paused(&now.borrow()));

    server.put(&profile("web"), spreading(2, &[(20, 600)]));
    let held = now.wait_for(|now| !is_paused(now)).await.unwrap().clone();
    assert_eq!(value(&held).as_deref(), Some("1"), "its turn is later");
    scene.until_value(2).await;
}

#[tokio::test(start_paused = true)]
async fn while_a_pause_lasts_no_soak_begins() {
    let (server, name) = late_node(&[(20, 600)]);
    let mut scene = Scene::named(&server, &name, Engine::new(Arc::default()));
    scene.until_value(1).await;
    server.put(&profile("web"), paused(spreading(2, &[(20, 600)]), 3600));
    pass(Duration::from_secs(3600 + 590)).await;
    assert_eq!(asked(&scene.offers.borrow()), Some(1));
    pass(Duration::from_secs(90)).await;
    assert_eq!(asked(&scene.offers.borrow()), Some(2));
}

#[tokio::test(start_paused = true)]
async fn another_weight_is_a_change_and_a_node_that_a_person_moves_is_not() {
    let (server, name) = late_node(&[(20, 3600)]);
    let mut scene = Scene::named(&server, &name, Engine::new(Arc::default()));
    scene.until_value(1).await;
    let mut moved = spreading(7, &[(1, 36_000)]);
    moved["spec"]["nodeSelector"] = json!({"matchLabels": {"pool": "db"}});
    moved["spec"]["weight"] = 100.into();
    server.put(&profile("db"), moved);
    let mut heavier = spreading(5, &[(1, 36_000)]);
    heavier["spec"]["weight"] = 10.into();
    server.put(&profile("heavier"), heavier);
    let offer = scene.until("waits", is_waiting).await;
    assert_eq!(asked(&offer), Some(1), "another profile for all its nodes");
    server.edit(&format!("/api/v1/nodes/{name}"), |node| node["metadata"]["labels"]["pool"] = "db".into());
    scene.until_value(7).await;
}

#[tokio::test(start_paused = true)]
async fn what_asks_for_the_same_is_taken_at_once() {
    let (server, name) = late_node(&[(20, 3600)]);
    let mut scene = Scene::named(&server, &name, Engine::new(Arc::default()));
    scene.until_value(1).await;
    server.put(&profile("web"), spreading(1, &[(20, 7200)]));
    scene
        .until("taken", |offer| matches!(offer, Offer::Object { text, waiting: None, .. } if text.contains("7200")))
        .await;
    let taken = scene.views.taken.borrow().clone().unwrap();
    assert_eq!(taken.generation, 2);
}

#[tokio::test(start_paused = true)]
async fn a_turn_is_not_taken_while_nobody_can_say_how_the_others_fare() {
    let (server, name) = late_node(&[(20, 600)]);
    let mut scene = Scene::named(&server, &name, Engine::new(Arc::default()));
    scene.until_value(1).await;
    server.fault(Fault::status(500).on("list").of_resource("nodestates"));
    server.put(&profile("web"), spreading(2, &[(20, 600)]));
    pass(Duration::from_secs(3600)).await;
    let offer = scene.offers.borrow().clone();
    assert_eq!(asked(&offer), Some(1));
    let Offer::Object { waiting: Some(waiting), .. } = &offer else { panic!("{offer:?}") };
    assert!(waiting.why.contains("how the others fare is not known"), "{waiting:?}");
    server.heal();
    scene.until_value(2).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_waits_says_so_in_its_state_and_its_condition() {
    let (server, name) = late_node(&[(20, 3600)]);
    let mut scene = Scene::named(&server, &name, Engine::new(Arc::default()));
    hold_what_is_offered(&scene, Arc::default());
    scene.until_value(1).await;
    let state = tempfile::tempdir().unwrap();
    let mut loaded = in_force(&scene, state.path());
    let board = Arc::clone(&scene.engine.board);
    tokio::spawn(async move {
        while loaded.changed().await.is_ok() {
            let findings = loaded.borrow_and_update().loaded.findings.clone();
            board.publish_findings("profile", findings);
        }
    });
    server.put(&profile("web"), spreading(2, &[(20, 3600)]));
    pass(Duration::from_secs(120)).await;
    let told = server.object(&format!("/apis/trimtab.dev/v1alpha1/nodestates/{name}")).unwrap();
    assert_eq!(told["profile"]["generation"], 1);
    assert!(told["profile"]["waiting"].as_str().unwrap().starts_with("generation 2 of web waits: "), "{told}");
    let node = server.object(&format!("/api/v1/nodes/{name}")).unwrap();
    let ready = &node["status"]["conditions"].as_array().unwrap().iter().find(|c| c["type"] == "TrimtabReady").unwrap();
    assert_eq!(ready["reason"], "RolloutWaiting");
    assert!(
        ready["message"].as_str().unwrap().contains("stays in force as it was: generation 2 of web waits"),
        "{ready}"
    );
}
