//! Risky changes with paused time: confirmed, taken back, over a restart, beside a pause.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::advance;
use trimtab::ports::reach::{Answers, Reach};
use trimtab::reconcile::confirm::{Confirmer, TrialBook, TrialError, Wish};
use trimtab::reconcile::history::ChangeKind;
use trimtab::reconcile::hold::{Hold, NoBook, Source, Stand};
use trimtab::reconcile::orders::Order;
use trimtab::reconcile::report::{State, SubsystemReport};
use trimtab_domain::confirmation::trial::{Pending, Stage, Trials};
use trimtab_domain::spec::confirm::Target;
use trimtab_domain::spec::{NodeSpec, PauseSpec};

use crate::engine::Bench;
use crate::support::toy::ToyNode;

/// What is written down, in memory; shared by an agent and the one after it.
#[derive(Debug, Default)]
struct Book {
    trials: Mutex<BTreeMap<String, Trials<Wish>>>,
    full: Mutex<bool>,
}

impl TrialBook for Book {
    fn read(&self, subsystem: &str) -> Trials<Wish> {
        self.trials.lock().unwrap().get(subsystem).cloned().unwrap_or_default()
    }

    fn write(&self, subsystem: &str, trials: &Trials<Wish>) -> Result<(), TrialError> {
        if *self.full.lock().unwrap() {
            return Err(TrialError("no space left".into()));
        }
        self.trials.lock().unwrap().insert(subsystem.into(), trials.clone());
        Ok(())
    }
}

/// The network of a toy: `net.cut` of 1 cuts it off from the API server, which may be away by itself.
#[derive(Debug)]
struct ToyNetwork {
    node: Arc<ToyNode>,
    away: Mutex<bool>,
}

impl Reach for ToyNetwork {
    fn always(&self) -> Vec<Target> {
        vec![Target::Tcp("api:443".into())]
    }

    fn try_all<'a>(&'a self, targets: &'a [Target]) -> Answers<'a> {
        let cut = self.node.values.lock().unwrap().get("net.cut").is_some_and(|value| value == "1");
        let reached = !cut && !*self.away.lock().unwrap();
        Box::pin(async move { targets.iter().map(|_| reached).collect() })
    }
}

struct Scene {
    node: Arc<ToyNode>,
    network: Arc<ToyNetwork>,
    book: Arc<Book>,
}

impl Scene {
    fn new() -> Self {
        let node = Arc::new(ToyNode::default());
        let network = Arc::new(ToyNetwork { node: Arc::clone(&node), away: Mutex::new(false) });
        Self { node, network, book: Arc::default() }
    }

    /// An agent on this node; the next one finds what this one wrote down.
    fn agent(&self) -> Bench {
        let confirmer = Confirmer { book: Arc::clone(&self.book) as _, reach: Arc::clone(&self.network) as _ };
        Bench::start_on(Arc::clone(&self.node), Arc::new(NoBook), Some(confirmer))
    }

    /// One whose first profile has been confirmed.
    async fn with_confirmed_profile() -> (Self, Bench) {
        let scene = Self::new();
        let mut agent = scene.agent();
        agent.wish_for(1, spec(GOOD));
        agent.until("confirmed", is_confirmed(1)).await;
        (scene, agent)
    }

    fn stage(&self) -> Stage {
        self.book.read("toy").newest.unwrap().stage
    }
}

fn spec(values: &[(&str, &str)]) -> NodeSpec {
    let mut spec = NodeSpec { name: "p".into(), ..NodeSpec::default() };
    spec.sysctls.values = values.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
    spec.confirm.subsystems = ["toy".to_owned()].into();
    spec
}

const GOOD: &[(&str, &str)] = &[("a", "1"), ("net.cut", "0"), ("net.b", "1")];
const BAD: &[(&str, &str)] = &[("a", "2"), ("net.cut", "1"), ("net.b", "2")];
const MENDED: &[(&str, &str)] = &[("a", "2"), ("net.cut", "0"), ("net.b", "2")];

fn is_confirmed(times: u64) -> impl Fn(&SubsystemReport) -> bool {
    move |report| {
        report.totals.confirmed == times && report.state == State::Converged && report.on_trial_until.is_none()
    }
}

/// The second profile cuts the node off, and is on trial.
async fn cut_off(agent: &mut Bench) -> SubsystemReport {
    agent.wish_for(2, spec(BAD));
    agent.until("on trial", |report| report.on_trial_until.is_some() && report.generation == 2).await
}

#[tokio::test(start_paused = true)]
async fn a_change_that_cuts_the_node_off_is_taken_back_and_not_tried_again_until_the_profile_changes() {
    let (_scene, mut agent) = Scene::with_confirmed_profile().await;
    let report = cut_off(&mut agent).await;
    assert_eq!((report.state, agent.value("net.cut").as_deref()), (State::Converged, Some("1")));
    let report = agent.until("taken back", |report| report.state == State::Failing).await;
    let held = ["a", "net.cut", "net.b"].map(|key| agent.value(key).unwrap());
    assert_eq!(held, ["1", "0", "1"], "all of the profile before");
    assert_eq!((report.totals.taken_back, report.on_trial_until), (1, None));
    let error = report.last_error.unwrap();
    assert!(error.contains("tcp api:443 could be reached before and not within 60 s"), "{error}");
    assert!(report.findings.iter().any(|finding| finding.code == "change-not-confirmed"), "{:?}", report.findings);
    let told = agent.history.entries().iter().any(|entry| entry.change.kind == ChangeKind::Failed);
    assert!(told, "the history tells");

    let writes = agent.writes();
    advance(Duration::from_secs(3600)).await;
    agent.set("net.b", "7");
    agent.events.waker.notify_one();
    agent.until("drift is healed", |report| report.totals.drift_found > 0).await;
    assert_eq!((agent.value("net.b").as_deref(), agent.writes()), (Some("1"), writes + 1), "to what was confirmed");

    agent.wish_for(3, spec(MENDED));
    let report = agent.until("mended", is_confirmed(2)).await;
    assert_eq!((agent.value("net.b").as_deref(), report.totals.taken_back), (Some("2"), 1));
    assert_eq!(report.findings, []);
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_was_away_before_is_no_sign_against_a_change() {
    let scene = Scene::new();
    *scene.network.away.lock().unwrap() = true;
    let mut agent = scene.agent();
    agent.wish_for(1, spec(GOOD));
    agent.until("held", |report| report.state == State::Converged).await;
    advance(Duration::from_secs(600)).await;
    let report = agent.until("still held", |report| report.state == State::Converged).await;
    assert_eq!((report.totals.taken_back, report.totals.confirmed, report.on_trial_until), (0, 0, None));
    assert_eq!(agent.value("net.b").as_deref(), Some("1"));
}

#[tokio::test(start_paused = true)]
async fn drift_of_what_was_confirmed_is_healed_without_a_trial_and_what_cannot_cut_off_needs_none() {
    let (scene, mut agent) = Scene::with_confirmed_profile().await;
    agent.set("net.b", "7");
    agent.events.waker.notify_one();
    agent.until("healed", |report| report.totals.drift_found == 1).await;
    agent.wish_for(2, spec(&[("a", "5"), ("net.cut", "0"), ("net.b", "1")]));
    let report = agent.until("held", |report| report.generation == 2 && report.state == State::Converged).await;
    assert_eq!((report.totals.confirmed, report.on_trial_until), (1, None));
    assert_eq!(scene.stage(), Stage::Settled);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_died_after_the_change_is_followed_by_one_that_takes_it_back() {
    for over in [false, true] {
        let (scene, mut agent) = Scene::with_confirmed_profile().await;
        cut_off(&mut agent).await;
        agent.task.abort();
        let Stage::Pending(pending) = scene.stage() else { panic!("{:?}", scene.stage()) };
        assert_eq!(pending.reached_before, [("tcp api:443".to_owned(), true)].into());
        if over {
            // It died an hour ago.
            let mut trials = scene.book.read("toy");
            let stage = Stage::Pending(Pending { since: pending.since - 3600, ..pending });
            trials.newest.as_mut().unwrap().stage = stage;
            scene.book.write("toy", &trials).unwrap();
        }
        let mut next = scene.agent();
        next.wish_for(1, spec(BAD));
        let report = next.until("taken back", |report| report.state == State::Failing).await;
        assert_eq!((next.value("net.cut").as_deref(), report.totals.taken_back), (Some("0"), 1), "over: {over}");
        // And the one after that holds what was confirmed, and writes nothing.
        next.task.abort();
        let writes = next.writes();
        let mut third = scene.agent();
        third.wish_for(1, spec(BAD));
        let report = third.until("still refused", |report| report.state == State::Failing).await;
        assert_eq!((third.writes(), report.totals.taken_back), (writes, 0), "over: {over}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_that_cannot_be_written_down_is_not_made() {
    let scene = Scene::new();
    *scene.book.full.lock().unwrap() = true;
    let mut agent = scene.agent();
    agent.wish_for(1, spec(GOOD));
    let report = agent.until("failed", |report| report.state == State::Failing).await;
    assert_eq!(agent.writes(), 0);
    let error = report.last_error.unwrap();
    assert!(error.contains("is not made") && error.contains("no space left"), "{error}");
    *scene.book.full.lock().unwrap() = false;
    agent.until("made good", is_confirmed(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_change_is_taken_back_although_the_subsystem_was_paused_meanwhile() {
    let (_scene, mut agent) = Scene::with_confirmed_profile().await;
    cut_off(&mut agent).await;
    let until = SystemTime::now() + Duration::from_secs(7200);
    let hold = Hold { source: Source::Call, stand: Stand::Pause, until, by: "a test".into(), reason: String::new() };
    let (answer, told) = tokio::sync::oneshot::channel();
    agent.switchboard.send("toy", Order::Hold { hold, answer }).unwrap();
    told.await.unwrap();
    agent.until("taken back", |report| report.totals.taken_back == 1 && report.state == State::Failing).await;
    assert_eq!(agent.value("net.cut").as_deref(), Some("0"));
}

#[tokio::test(start_paused = true)]
async fn a_profile_that_follows_an_unconfirmed_one_is_judged_by_what_was_reached_before_both() {
    let (_scene, mut agent) = Scene::with_confirmed_profile().await;
    cut_off(&mut agent).await;
    agent.wish_for(3, spec(&[("a", "3"), ("net.cut", "1"), ("net.b", "3")]));
    agent.until("taken back", |report| report.generation == 3 && report.state == State::Failing).await;
    let held = ["a", "net.cut", "net.b"].map(|key| agent.value(key).unwrap());
    assert_eq!(held, ["1", "0", "1"]);
}

#[tokio::test(start_paused = true)]
async fn a_pause_in_the_profile_neither_tries_a_change_again_nor_counts_as_confirmed_before_another() {
    let scene = Scene::new();
    let mut agent = scene.agent();
    let paused = |values: &[(&str, &str)]| {
        let until = (SystemTime::now() + Duration::from_secs(7200)).duration_since(UNIX_EPOCH).unwrap().as_secs();
        NodeSpec { pause: Some(PauseSpec { until, reason: String::new() }), ..spec(values) }
    };
    agent.wish_for(1, spec(GOOD));
    agent.until("confirmed", is_confirmed(1)).await;
    agent.wish_for(2, paused(BAD));
    agent.until("paused", |report| report.generation == 2 && report.state == State::Paused).await;
    agent.wish_for(3, spec(BAD));
    agent.until("taken back", |report| report.generation == 3 && report.state == State::Failing).await;
    assert_eq!(agent.value("net.cut").as_deref(), Some("0"), "not what was only paused before");
    for (generation, wish) in [(4, paused(BAD)), (5, spec(BAD))] {
        agent.wish_for(generation, wish);
        agent.until("refused still", |report| report.generation == generation && report.state == State::Failing).await;
    }
    advance(Duration::from_secs(600)).await;
    assert_eq!((agent.value("net.cut").as_deref(), agent.report().totals.taken_back), (Some("0"), 1));
}
