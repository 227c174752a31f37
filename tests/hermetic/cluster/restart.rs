//! The agent starts again while the API server is away, and the clock is set: what was in force goes on.

use std::fs;
use std::path::Path;

use trimtab::adapters::profile_file::LoadedProfile;
use trimtab::adapters::profile_object::{self, OfferedProfile};

use super::*;
use crate::support::api_server::Fault;

/// An agent as far as its profile goes: what is offered, and what becomes of it and is kept.
struct Agent {
    _scene: Scene,
    profile: watch::Receiver<OfferedProfile>,
    _end: DropGuard,
}

impl Agent {
    fn start(server: &Double, state: &Path) -> Self {
        let scene = Scene::new(server);
        let cancel = CancellationToken::new();
        let profile = profile_object::follow(scene.offers.clone(), state, cancel.clone());
        Self { _scene: scene, profile, _end: cancel.drop_guard() }
    }

    fn now(&self) -> LoadedProfile {
        self.profile.borrow().loaded.clone()
    }

    fn value(&self) -> Option<String> {
        let spec = self.now().spec?;
        spec.sysctls.values.values().next().map(ToString::to_string)
    }

    async fn until(&mut self, what: &str, fits: impl Fn(&OfferedProfile) -> bool) {
        let seen = tokio::time::timeout(LIMIT, self.profile.wait_for(|now| fits(now))).await;
        assert!(seen.is_ok_and(|seen| seen.is_ok()), "{what}");
    }
}

fn kept(state: &Path) -> String {
    fs::read_to_string(state.join("node-profile.last-good")).unwrap_or_default()
}

/// A server with one object, and what an agent that held it has left behind.
async fn left_by_an_agent() -> (Double, tempfile::TempDir) {
    let (server, state) = (Scene::server(), tempfile::tempdir().unwrap());
    server.put(&profile("web"), for_pool("web", 0, 1));
    let mut agent = Agent::start(&server, state.path());
    agent.until("the object is in force", |now| now.loaded.spec.is_some()).await;
    while !kept(state.path()).contains("somaxconn") {
        pass(Duration::from_secs(1)).await;
    }
    (server, state)
}

#[tokio::test(start_paused = true)]
async fn a_restart_in_an_outage_holds_what_was_in_force_and_follows_when_the_server_is_back() {
    let (server, state) = left_by_an_agent().await;
    for fault in [Fault::down(), Fault::status(401), Fault::hang()] {
        server.fault(fault.clone());
        let agent = Agent::start(&server, state.path());
        assert_eq!(agent.value().as_deref(), Some("1"), "{fault:?}: at once, without asking anybody");
        pass(Duration::from_secs(3600)).await;
        assert_eq!(agent.value().as_deref(), Some("1"), "{fault:?}: and an hour later");
        assert!(agent.now().report.source.contains("last-good"), "{fault:?}: {}", agent.now().report.source);
        server.heal();
    }
    server.put(&profile("web"), for_pool("web", 0, 2));
    let mut agent = Agent::start(&server, state.path());
    agent.until("the new object", |now| matches!(&now.offer, Offer::Object { text, .. } if text.contains(":2"))).await;
    assert_eq!(agent.value().as_deref(), Some("2"));
}

#[tokio::test(start_paused = true)]
async fn a_profile_that_was_deleted_during_an_outage_is_given_back_when_the_server_says_so_and_not_before() {
    let (server, state) = left_by_an_agent().await;
    server.fault(Fault::down());
    server.remove(&profile("web"));
    let mut agent = Agent::start(&server, state.path());
    pass(Duration::from_secs(3600)).await;
    assert_eq!(agent.value().as_deref(), Some("1"));
    server.heal();
    agent.until("nothing is for this node", |now| matches!(now.offer, Offer::Nothing { .. })).await;
    drop(agent);
    server.fault(Fault::down());
    let agent = Agent::start(&server, state.path());
    pass(Duration::from_secs(60)).await;
    assert_eq!(agent.value(), None, "a restart does not bring it back");
}

#[tokio::test(start_paused = true)]
async fn a_node_made_anew_while_nobody_looked_is_told_of_anew() {
    let server = Scene::server();
    let scene = Scene::new(&server);
    scene.engine.hold(1, NodeSpec { name: "web".into(), ..NodeSpec::default() });
    scene.engine.converge();
    pass(Duration::from_secs(60)).await;
    let before = server.object(NODE).unwrap()["metadata"]["uid"].clone();
    // The history is gone with the watch: only a list tells of the new one, and its name is the same.
    server.remove(NODE);
    server.put(NODE, json!({"metadata": {"labels": {"pool": "web"}}}));
    server.compact();
    pass(Duration::from_secs(60)).await;
    let node = server.object(NODE).unwrap();
    assert_ne!(node["metadata"]["uid"], before);
    assert_eq!(node["status"]["conditions"].as_array().map_or(0, Vec::len), 5);
    let state = server.object("/apis/trimtab.dev/v1alpha1/nodestates/n1").unwrap();
    let owners = state["metadata"]["ownerReferences"].as_array().unwrap().clone();
    assert!(owners.iter().any(|owner| owner["uid"] == node["metadata"]["uid"]), "{owners:?}");
}

#[tokio::test(start_paused = true)]
async fn times_of_a_clock_that_was_wrong_delay_nothing() {
    for written in ["2099-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "no time at all"] {
        let server = Scene::server();
        let known = json!([{
            "type": "TrimtabReady", "status": "True", "reason": "ProfileInForce", "message": "m",
            "lastHeartbeatTime": written, "lastTransitionTime": written,
        }]);
        server.edit(NODE, |node| node["status"]["conditions"] = known);
        let scene = Scene::new(&server);
        scene.engine.hold(1, NodeSpec { name: "web".into(), ..NodeSpec::default() });
        scene.engine.converge();
        pass(Duration::from_secs(30)).await;
        let told = server.count("apply", "nodes/status");
        assert_eq!(told, 1, "{written}: told at once");
        // The wall clock stands still in this test: heartbeats go by how long the agent runs.
        pass(Duration::from_secs(2 * 3600)).await;
        let heartbeats = server.count("apply", "nodes/status") - told;
        assert!((9..=12).contains(&heartbeats), "{written}: {heartbeats} in two hours");
    }
}

/// Pauses that went by the wall clock would be as long as the jump of a clock that is set.
#[test]
fn the_wall_clock_is_read_only_for_what_is_written_down_and_for_what_people_say_in_its_time() {
    let room = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cluster");
    let mut files: Vec<_> = fs::read_dir(room).unwrap().map(|entry| entry.unwrap().path()).collect();
    let (mut read, mut reading) = (0, Vec::new());
    while let Some(file) = files.pop() {
        if file.is_dir() {
            files.extend(fs::read_dir(file).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        read += 1;
        if fs::read_to_string(&file).unwrap().contains("SystemTime::now") {
            reading.push(file.file_name().unwrap().to_string_lossy().into_owned());
        }
    }
    reading.sort();
    assert!(read > 10, "{read} files were looked at");
    // Events are named by the moment of its start; roll-outs begin and pauses end at a time that an object tells.
    assert_eq!(reading, ["clock.rs", "events.rs", "rollout.rs", "standstill.rs"]);
}
