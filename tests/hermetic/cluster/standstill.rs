//! A pause by an annotation of the Node: in force, over, mended, in an outage, beside a person's.

use std::time::SystemTime;

use serde_json::json;
use trimtab::cluster::standstill::{BY, PAUSED_UNTIL};
use trimtab::reconcile::hold::{Hold, Source, Stand};
use trimtab::reconcile::orders::Order;
use trimtab::reconcile::report::{State, SubsystemReport};
use trimtab_domain::spec::PauseSpec;

use super::*;
use crate::support::api_server::Fault;
use crate::support::toy::ToyNode;

/// A node with a part that is held, beside its room.
struct Paused {
    server: Double,
    bench: Bench,
    _scene: Scene,
}

impl Paused {
    async fn new() -> Self {
        let server = Scene::server();
        let mut bench = Bench::start(ToyNode::default());
        bench.wish(1, &[("a", "1")]);
        bench.until("held", |report| report.state == State::Converged).await;
        let engine = Engine::beside(&bench);
        let scene = Scene::with(&server, engine);
        Self { server, bench, _scene: scene }
    }

    fn annotate(&self, text: Option<&str>) {
        self.server.edit(NODE, |node| match text {
            Some(text) => node["metadata"]["annotations"] = json!({PAUSED_UNTIL: text}),
            None => node["metadata"]["annotations"] = json!({}),
        });
    }

    async fn until_paused(&mut self) -> SystemTime {
        let report = self.bench.until("paused", |report| report.hold.as_ref().is_some_and(|hold| hold.by == BY)).await;
        let hold = report.hold.unwrap();
        assert_eq!(hold.stand, Stand::Pause);
        hold.until
    }

    async fn until_held_again(&mut self) {
        self.bench.until("held again", |report| report.hold.is_none() && report.state == State::Converged).await;
    }

    async fn until_finding(&mut self, expected: Option<&str>) {
        let codes = |report: &trimtab::reconcile::report::NodeReport| -> Vec<&'static str> {
            report.findings.iter().map(|finding| finding.code).collect()
        };
        let mut reports = self.bench.board.subscribe();
        let wait = reports.wait_for(|report| codes(report).first().copied() == expected);
        tokio::time::timeout(LIMIT, wait).await.unwrap().unwrap();
    }
}

fn written(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

fn in_an_hour() -> String {
    written(SystemTime::now() + Duration::from_secs(3600))
}

#[tokio::test(start_paused = true)]
async fn an_annotation_pauses_until_its_time_and_its_end_resumes_at_once() {
    let mut node = Paused::new().await;
    let text = in_an_hour();
    node.annotate(Some(&text));
    assert_eq!(written(node.until_paused().await), text);
    node.bench.set("a", "7");
    pass(Duration::from_secs(600)).await;
    assert_eq!(node.bench.value("a").as_deref(), Some("7"), "nothing is written");
    node.annotate(None);
    node.until_held_again().await;
    assert_eq!(node.bench.value("a").as_deref(), Some("1"));

    node.annotate(Some(&in_an_hour()));
    node.until_paused().await;
    // The annotation stays, its time comes.
    pass(Duration::from_secs(3700)).await;
    node.until_held_again().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_no_pause_is_a_finding_until_it_is_mended() {
    let mut node = Paused::new().await;
    for text in ["tomorrow", "9999-12-31T23:59:59Z"] {
        node.annotate(Some(text));
        node.until_finding(Some("pause-not-understood")).await;
        pass(Duration::from_secs(60)).await;
        assert!(node.bench.report().hold.is_none(), "{text}");
    }
    node.annotate(Some(&in_an_hour()));
    node.until_paused().await;
    node.until_finding(None).await;
}

#[tokio::test(start_paused = true)]
async fn a_pause_ends_in_time_while_the_api_server_is_away() {
    let mut node = Paused::new().await;
    node.annotate(Some(&in_an_hour()));
    node.until_paused().await;
    node.server.fault(Fault::down());
    node.server.cut_watches();
    pass(Duration::from_secs(3700)).await;
    node.until_held_again().await;
}

#[tokio::test(start_paused = true)]
async fn a_longer_pause_of_somebody_else_is_left_alone_and_never_ended() {
    let mut node = Paused::new().await;
    let until = SystemTime::now() + Duration::from_secs(4 * 3600);
    let hold = Hold { source: Source::Call, stand: Stand::Pause, until, by: "uid 0".into(), reason: String::new() };
    let (answer, told) = tokio::sync::oneshot::channel();
    node.bench.switchboard.send("toy", Order::Hold { hold, answer }).unwrap();
    told.await.unwrap();
    node.bench.until("paused", |report| report.hold.is_some()).await;
    node.annotate(Some(&in_an_hour()));
    pass(Duration::from_secs(60)).await;
    node.annotate(None);
    pass(Duration::from_secs(60)).await;
    let hold = node.bench.report().hold.unwrap();
    assert_eq!((hold.by.as_str(), hold.until), ("uid 0", until));
}

#[tokio::test(start_paused = true)]
async fn an_annotation_goes_on_after_a_longer_pause_of_the_profile_was_taken_out() {
    let mut node = Paused::new().await;
    node.annotate(Some(&in_an_hour()));
    node.until_paused().await;
    let mut spec = NodeSpec { name: "web".into(), ..NodeSpec::default() };
    let until = SystemTime::now() + Duration::from_secs(4 * 3600);
    let until = until.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    spec.pause = Some(PauseSpec { until, reason: String::new() });
    spec.sysctls.values.insert("a".into(), "2".into());
    node.bench.wish_for(2, spec.clone());
    let by_profile = |report: &SubsystemReport| report.hold.as_ref().is_some_and(|hold| hold.by == "profile web");
    node.bench.until("the longer one", by_profile).await;
    spec.pause = None;
    node.bench.wish_for(3, spec);
    node.until_paused().await;
    pass(Duration::from_secs(60)).await;
    assert_eq!(node.bench.value("a").as_deref(), Some("1"));
    node.annotate(None);
    node.until_held_again().await;
    assert_eq!(node.bench.value("a").as_deref(), Some("2"));
}
