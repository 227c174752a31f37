//! The engine on a toy subsystem, with paused time: pauses, roll-backs, passes and plans on demand, and the history.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::oneshot;
use tokio::time::Instant;
use trimtab::reconcile::Class;
use trimtab::reconcile::history::{Change, ChangeKind};
use trimtab::reconcile::hold::{Hold, HoldBook, HoldError, Source, Stand};
use trimtab::reconcile::orders::{Done, Durability, Order, Resumed};
use trimtab::reconcile::report::{State, SubsystemReport};
use trimtab_domain::spec::{NodeSpec, PauseSpec};

use crate::engine::Bench;
use crate::support::toy::ToyNode;

const MINUTES: Duration = Duration::from_secs(600);

fn hold(stand: Stand, length: Duration) -> Hold {
    let until = SystemTime::now() + length;
    Hold { source: Source::Call, stand, until, by: "uid 7".into(), reason: "a test".into() }
}

/// A book in memory.
#[derive(Debug, Default)]
struct FakeBook(Mutex<BTreeMap<Source, Hold>>);

impl HoldBook for FakeBook {
    fn read(&self, _subsystem: &str) -> Vec<Hold> {
        self.0.lock().unwrap().values().cloned().collect()
    }

    fn write(&self, _subsystem: &'static str, source: Source, hold: Option<&Hold>) -> Result<(), HoldError> {
        let mut holds = self.0.lock().unwrap();
        holds.remove(&source);
        holds.extend(hold.map(|hold| (source, hold.clone())));
        Ok(())
    }
}

impl Bench {
    async fn held_at(values: &[(&str, &str)]) -> Self {
        let mut bench = Self::start(ToyNode::default());
        bench.wish(1, values);
        bench.until("converged", |report| report.state == State::Converged).await;
        bench
    }

    async fn order<T>(&self, order: impl FnOnce(oneshot::Sender<T>) -> Order) -> T {
        let (answer, told) = oneshot::channel();
        self.switchboard.send("toy", order(answer)).unwrap();
        told.await.unwrap()
    }

    async fn hold(&self, hold: Hold) -> (Done, Durability) {
        self.order(|answer| Order::Hold { hold, answer }).await
    }

    fn changes(&self, kind: ChangeKind) -> Vec<Change> {
        let entries = self.history.entries();
        entries.iter().map(|entry| entry.change.clone()).filter(|change| change.kind == kind).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_holds_back_healing_until_its_deadline() {
    let mut bench = Bench::held_at(&[("a", "1")]).await;
    let (began, written) = (Instant::now(), bench.writes());
    bench.hold(hold(Stand::Pause, MINUTES)).await;
    bench.set("a", "7");
    bench.events.waker.notify_one();
    let report = bench.until("drift is seen", |report| !report.withheld.is_empty()).await;
    assert_eq!((report.state, report.withheld), (State::Paused, vec!["a: 7 -> 1".to_owned()]));
    assert_eq!(report.hold.map(|hold| (hold.by, hold.reason)), Some(("uid 7".into(), "a test".into())));
    assert_eq!(report.objects[0].observed.as_deref(), Some("7"), "it is observed");
    let report = bench.until("held again", |report| report.state == State::Converged).await;
    let waited = began.elapsed();
    assert!(waited >= MINUTES - Duration::from_secs(5) && waited < MINUTES + Duration::from_secs(5), "{waited:?}");
    assert_eq!((bench.value("a").as_deref(), bench.writes()), (Some("1"), written + 1));
    assert!(report.hold.is_none() && report.withheld.is_empty());
    let drifted = bench.changes(ChangeKind::Drifted);
    assert_eq!(drifted.len(), 1, "told once, however many passes saw it: {drifted:?}");
    assert_eq!((drifted[0].old.as_deref(), drifted[0].new.as_deref()), (Some("1"), Some("7")));
    assert!(bench.changes(ChangeKind::Call)[0].reason.contains("the deadline of the pause that uid 7"));
    assert_eq!(bench.changes(ChangeKind::Healed).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_resume_ends_a_pause_at_once() {
    let mut bench = Bench::held_at(&[("a", "1")]).await;
    let resume = |answer| Order::Resume { of: Source::Call, answer };
    assert!(!bench.order(resume).await.was_paused, "it was not paused");
    bench.hold(hold(Stand::Pause, MINUTES)).await;
    bench.until("paused", |report| report.state == State::Paused).await;
    bench.set("a", "7");
    let began = Instant::now();
    assert_eq!(bench.order(resume).await, Resumed { was_paused: true, still: None });
    bench.until("held again", |report| report.state == State::Converged).await;
    assert_eq!(bench.value("a").as_deref(), Some("1"));
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_new_profile_waits_for_the_end_of_the_pause() {
    let mut bench = Bench::held_at(&[("a", "1")]).await;
    bench.hold(hold(Stand::Pause, MINUTES)).await;
    bench.wish(2, &[("a", "2")]);
    let report = bench.until("planned", |report| report.generation == 2).await;
    assert_eq!((report.state, report.withheld), (State::Paused, vec!["a: 1 -> 2".to_owned()]));
    assert_eq!(bench.value("a").as_deref(), Some("1"));
    assert!(bench.changes(ChangeKind::Drifted).is_empty(), "what was never ordered is no drift");
    bench.until("applied", |report| report.state == State::Converged).await;
    assert_eq!(bench.value("a").as_deref(), Some("2"));
}

/// A profile that asks for `a` to have this value, and for a pause of this length.
fn pausing(value: &str, length: Option<Duration>) -> NodeSpec {
    let mut spec = NodeSpec { name: "web".into(), ..NodeSpec::default() };
    spec.sysctls.values.insert("a".into(), value.into());
    let until = length.map(|length| SystemTime::now() + length);
    let seconds = |until: SystemTime| until.duration_since(UNIX_EPOCH).unwrap().as_secs();
    spec.pause = until.map(|until| PauseSpec { until: seconds(until), reason: "a test".into() });
    spec
}

#[tokio::test(start_paused = true)]
async fn a_profile_that_pauses_holds_its_own_changes_back_until_its_time() {
    let mut bench = Bench::held_at(&[("a", "1")]).await;
    let (began, writes) = (Instant::now(), bench.writes());
    bench.wish_for(2, pausing("2", Some(MINUTES)));
    let report = bench.until("planned", |report| report.generation == 2).await;
    assert_eq!((report.state, report.withheld), (State::Paused, vec!["a: 1 -> 2".to_owned()]));
    let hold = report.hold.unwrap();
    assert_eq!((hold.source, hold.by.as_str(), hold.reason.as_str()), (Source::Profile, "profile web", "a test"));
    bench.set("a", "7");
    tokio::time::sleep(MINUTES - Duration::from_secs(60)).await;
    assert_eq!((bench.value("a").as_deref(), bench.writes()), (Some("7"), writes), "nothing is written");
    bench.until("held", |report| report.state == State::Converged).await;
    assert_eq!(bench.value("a").as_deref(), Some("2"));
    let waited = began.elapsed();
    assert!(waited >= MINUTES - Duration::from_secs(5) && waited < MINUTES + Duration::from_secs(5), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_starts_with_a_profile_that_pauses_is_not_touched() {
    let mut bench = Bench::start(ToyNode::default());
    bench.wish_for(1, pausing("1", Some(MINUTES)));
    let report = bench.until("looked", |report| report.generation == 1).await;
    assert_eq!((report.state, bench.writes()), (State::Paused, 0));
    let began = Instant::now();
    bench.wish_for(2, pausing("1", None));
    bench.until("held", |report| report.state == State::Converged).await;
    assert_eq!(bench.value("a").as_deref(), Some("1"));
    assert!(began.elapsed() < Duration::from_secs(1), "taken out, it ends at once: {:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_pause_of_the_profile_that_is_too_long_or_over_is_none() {
    let mut bench = Bench::held_at(&[("a", "1")]).await;
    bench.wish_for(2, pausing("2", Some(Duration::from_secs(25 * 3600))));
    bench.until("held", |report| report.generation == 2 && report.state == State::Converged).await;
    bench.wish_for(3, pausing("3", Some(Duration::ZERO)));
    bench.until("held", |report| report.generation == 3 && report.state == State::Converged).await;
    assert_eq!(bench.value("a").as_deref(), Some("3"));
}

#[tokio::test(start_paused = true)]
async fn of_several_pauses_the_longest_counts_and_none_ends_another() {
    let mut bench = Bench::held_at(&[("a", "1")]).await;
    let by = |report: &SubsystemReport| report.hold.as_ref().map(|hold| hold.source);
    bench.hold(hold(Stand::Pause, MINUTES * 2)).await;
    let annotated = Hold { source: Source::Annotation, by: "annotation".into(), ..hold(Stand::Pause, MINUTES) };
    bench.hold(annotated.clone()).await;
    bench.wish_for(2, pausing("2", Some(MINUTES * 3)));
    bench.until("the longest", |report| by(report) == Some(Source::Profile)).await;
    bench.wish_for(3, pausing("3", None));
    bench.until("a person's", |report| by(report) == Some(Source::Call)).await;
    let resumed = bench.order(|answer| Order::Resume { of: Source::Call, answer }).await;
    assert_eq!(resumed, Resumed { was_paused: true, still: Some(annotated) });
    let report = bench.until("the annotation's", |report| by(report) == Some(Source::Annotation)).await;
    assert_eq!((report.state, bench.value("a").as_deref()), (State::Paused, Some("1")));
    let resumed = bench.order(|answer| Order::Resume { of: Source::Call, answer }).await;
    assert!(!resumed.was_paused && resumed.still.is_some(), "{resumed:?}");
    bench.order(|answer| Order::Resume { of: Source::Annotation, answer }).await;
    bench.until("held", |report| report.state == State::Converged).await;
    assert_eq!(bench.value("a").as_deref(), Some("3"));
}

#[tokio::test(start_paused = true)]
async fn a_subsystem_that_was_rolled_back_is_held_again_after_the_deadline() {
    let mut bench = Bench::held_at(&[("a", "1")]).await;
    let (done, durability) = bench.hold(hold(Stand::GiveBack, MINUTES)).await;
    assert_eq!((done.error, durability), (None, Durability::Fleeting));
    bench.until("stands still", |report| report.state == State::Paused && report.objects.is_empty()).await;
    bench.set("a", "7");
    bench.events.waker.notify_one();
    let before = *bench.node.observations.lock().unwrap();
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(*bench.node.observations.lock().unwrap() > before, "passes go on");
    assert_eq!(bench.value("a").as_deref(), Some("7"), "nothing is asked of the node");
    bench.until("held again", |report| report.state == State::Converged).await;
    assert_eq!(bench.value("a").as_deref(), Some("1"));
}

#[tokio::test(start_paused = true)]
async fn a_pause_is_in_force_from_the_start_after_a_restart() {
    let book = Arc::new(FakeBook::default());
    book.write("toy", Source::Call, Some(&hold(Stand::Pause, MINUTES))).unwrap();
    let mut bench = Bench::start_with(ToyNode::default(), Arc::clone(&book) as Arc<_>);
    bench.wish(1, &[("a", "1")]);
    let report = bench.until("paused", |report| report.state == State::Paused).await;
    assert_eq!((report.withheld.len(), bench.writes()), (1, 0), "nothing was written");
    bench.until("held", |report| report.state == State::Converged).await;
    assert_eq!((book.read("toy"), bench.value("a").as_deref()), (vec![], Some("1")));
    let (_, durability) = bench.hold(hold(Stand::Pause, MINUTES)).await;
    assert_eq!(durability, Durability::Durable);
    assert_eq!(book.read("toy").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_resync_answers_when_its_pass_has_ended_and_a_plan_writes_nothing() {
    let bench = Bench::held_at(&[("a", "1")]).await;
    bench.set("a", "7");
    let writes = bench.writes();
    let plan = bench.order(|answer| Order::Preview { answer }).await;
    assert_eq!(plan.steps.iter().map(|step| step.step.as_str()).collect::<Vec<_>>(), ["a: 7 -> 1"]);
    assert_eq!((bench.writes(), bench.value("a").as_deref()), (writes, Some("7")));
    let done = bench.order(|answer| Order::Resync { answer }).await;
    assert_eq!(done.steps.iter().map(|step| step.step.as_str()).collect::<Vec<_>>(), ["a: 7 -> 1"]);
    assert_eq!(bench.value("a").as_deref(), Some("1"));
    let again = bench.order(|answer| Order::Resync { answer }).await;
    assert!(again.steps.is_empty() && again.error.is_none());
}

#[tokio::test(start_paused = true)]
async fn without_a_profile_orders_are_answered_too() {
    let mut bench = Bench::start(ToyNode::default());
    for order in
        [bench.order(|answer| Order::Resync { answer }).await, bench.order(|answer| Order::Preview { answer }).await]
    {
        assert!(order.error.is_some_and(|error| error.contains("no profile is in force")));
    }
    bench.hold(hold(Stand::Pause, MINUTES)).await;
    bench.wish(1, &[("a", "1")]);
    bench.until("paused", |report| report.state == State::Paused).await;
    assert_eq!(bench.writes(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_history_names_what_was_applied_healed_and_refused_to_work() {
    let node = ToyNode::default();
    node.broken.lock().unwrap().insert("b".into(), Class::Transient);
    let mut bench = Bench::start(node);
    bench.wish(1, &[("contested", "1"), ("b", "2")]);
    bench.until("failing", |report| report.totals.failed_passes >= 4).await;
    let applied = bench.changes(ChangeKind::Applied);
    assert_eq!(applied.len(), 1, "{applied:?}");
    assert_eq!((applied[0].object.as_str(), applied[0].new.as_deref()), ("contested", Some("1")));
    assert!(applied[0].reason.starts_with("profile generation 1, pass for "), "{applied:?}");
    let failed = bench.changes(ChangeKind::Failed);
    assert_eq!(failed.len(), 1, "a failure that goes on is told once: {failed:?}");
    assert!(failed[0].error.as_ref().is_some_and(|error| error.contains("cannot write b")));
    bench.node.broken.lock().unwrap().clear();
    bench.until("made good", |report| report.state == State::Converged).await;
    for round in 1..20 {
        bench.set("contested", "9");
        bench.events.waker.notify_one();
        bench.until("healed", |report| report.totals.drift_found >= round || !report.fights.is_empty()).await;
        if !bench.changes(ChangeKind::Fight).is_empty() {
            break;
        }
    }
    let healed = bench.changes(ChangeKind::Healed);
    assert_eq!((healed[0].old.as_deref(), healed[0].new.as_deref()), (Some("9"), Some("1")));
    assert_eq!(healed[0].reason, "changed by the other program; found by drift");
    let fights = bench.changes(ChangeKind::Fight);
    assert_eq!((fights.len(), fights[0].actor.as_str()), (1, "the other program"));
}
