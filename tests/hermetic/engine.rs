//! The engine on a toy subsystem, with paused time: triggers, backoff, fights, shutdown.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{advance, timeout};
use tokio_util::sync::CancellationToken;
use trimtab::reconcile::Class;
use trimtab::reconcile::board::Board;
use trimtab::reconcile::confirm::Confirmer;
use trimtab::reconcile::engine::{Context, SpecInForce, held};
use trimtab::reconcile::history::History;
use trimtab::reconcile::hold::{HoldBook, NoBook};
use trimtab::reconcile::orders::Switchboard;
use trimtab::reconcile::report::{NodeReport, ProfileReport, State, SubsystemReport};
use trimtab_domain::spec::NodeSpec;

use crate::support::toy::{BOOK, HandEvents, Toy, ToyNode};

const LIMIT: Duration = Duration::from_secs(3600);

pub(crate) struct Bench {
    pub(crate) node: Arc<ToyNode>,
    pub(crate) events: Arc<HandEvents>,
    spec: watch::Sender<Option<SpecInForce>>,
    pub(crate) board: Arc<Board>,
    reports: watch::Receiver<Arc<NodeReport>>,
    pub(crate) switchboard: Arc<Switchboard>,
    pub(crate) history: Arc<History>,
    pub(crate) cancel: CancellationToken,
    pub(crate) task: tokio::task::JoinHandle<()>,
}

impl Bench {
    pub(crate) fn start(node: ToyNode) -> Self {
        Self::start_with(node, Arc::new(NoBook))
    }

    pub(crate) fn start_with(node: ToyNode, holds: Arc<dyn HoldBook>) -> Self {
        Self::start_on(Arc::new(node), holds, None)
    }

    pub(crate) fn start_on(node: Arc<ToyNode>, holds: Arc<dyn HoldBook>, confirmer: Option<Confirmer>) -> Self {
        let events = Arc::new(HandEvents::default());
        let (spec, follow) = watch::channel(None);
        let board = Arc::new(Board::new("node".into(), &["toy"]));
        let cancel = CancellationToken::new();
        let (switchboard, history) = (Arc::new(Switchboard::new(&["toy"])), Arc::<History>::default());
        let context = Context {
            spec: follow,
            board: Arc::clone(&board),
            drift: Arc::clone(&events) as Arc<_>,
            resync: Duration::from_secs(60),
            cancel: cancel.clone(),
            switchboard: Arc::clone(&switchboard),
            holds,
            history: Arc::clone(&history),
            confirmer,
        };
        let task = tokio::spawn(held(Toy(Arc::clone(&node))).run(context));
        let reports = board.subscribe();
        Self { node, events, spec, board, reports, switchboard, history, cancel, task }
    }

    pub(crate) fn wish(&self, generation: u64, values: &[(&str, &str)]) {
        let mut spec = NodeSpec::default();
        spec.sysctls.values = values.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        self.wish_for(generation, spec);
    }

    pub(crate) fn wish_for(&self, generation: u64, spec: NodeSpec) {
        self.board.publish_profile(ProfileReport { generation, valid: true, ..ProfileReport::default() });
        self.spec.send_replace(Some(SpecInForce { generation, spec: Arc::new(spec), text: None }));
    }

    pub(crate) async fn until(&mut self, what: &str, holds: impl Fn(&SubsystemReport) -> bool) -> SubsystemReport {
        let wait = self.reports.wait_for(|node| holds(&node.subsystems[0]));
        let node = timeout(LIMIT, wait).await.unwrap_or_else(|_| panic!("never: {what}")).unwrap();
        SubsystemReport::clone(&node.subsystems[0])
    }

    pub(crate) fn report(&self) -> SubsystemReport {
        SubsystemReport::clone(&self.reports.borrow().subsystems[0])
    }

    pub(crate) fn value(&self, key: &str) -> Option<String> {
        self.node.values.lock().unwrap().get(key).cloned()
    }

    pub(crate) fn set(&self, key: &str, value: &str) {
        self.node.values.lock().unwrap().insert(key.into(), value.into());
    }

    pub(crate) fn writes(&self) -> usize {
        self.node.writes.lock().unwrap().len()
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_touched_before_a_profile_is_known() {
    let mut bench = Bench::start(ToyNode::default());
    advance(Duration::from_secs(300)).await;
    assert_eq!(*bench.node.observations.lock().unwrap(), 0);
    assert!(!bench.reports.borrow().ready);
    bench.wish(1, &[("a", "1")]);
    let report = bench.until("converged", |report| report.state == State::Converged).await;
    assert_eq!(bench.value("a").as_deref(), Some("1"));
    assert_eq!((report.generation, report.totals.steps_done), (1, 1));
    assert!(bench.reports.borrow().ready);
    assert_eq!(bench.events.watched.lock().unwrap().len(), 1, "what is held is watched");
}

#[tokio::test(start_paused = true)]
async fn drift_is_healed_by_the_event_and_otherwise_by_the_resync() {
    let mut bench = Bench::start(ToyNode::default());
    bench.wish(1, &[("a", "1")]);
    bench.until("converged", |report| report.state == State::Converged).await;
    bench.set("a", "7");
    bench.events.waker.notify_one();
    bench.until("healed", |report| report.totals.drift_found == 1).await;
    assert_eq!(bench.value("a").as_deref(), Some("1"));
    bench.set("a", "8");
    let before = tokio::time::Instant::now();
    bench.until("healed without an event", |report| report.totals.drift_found == 2).await;
    let waited = before.elapsed();
    assert!(waited >= Duration::from_secs(53) && waited <= Duration::from_secs(67), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn the_interval_of_a_profile_is_the_longest_time_to_the_next_pass_and_another_follows_at_once() {
    let mut bench = Bench::start(ToyNode::default());
    let rows = [("600", 480..=600), ("20", 16..=20), ("1", 0..=1), ("none", 53..=67)];
    for (turn, (interval, expected)) in (1..).zip(rows) {
        // A new profile is held at once, however long the interval was until now.
        let key = format!("of {interval}");
        bench.wish(turn, &[(&key, "1"), ("resync", interval)]);
        bench.until("in force", |report| report.generation == turn && report.state == State::Converged).await;
        let found = bench.reports.borrow().subsystems[0].totals.drift_found;
        bench.set(&key, "7");
        let before = tokio::time::Instant::now();
        bench.until("healed without an event", |report| report.totals.drift_found > found).await;
        let waited = before.elapsed().as_secs();
        assert!(expected.contains(&waited), "{interval}: {waited} s");
    }
}

#[tokio::test(start_paused = true)]
async fn a_broken_step_leaves_the_others_done_and_is_made_good_later() {
    let node = ToyNode::default();
    node.broken.lock().unwrap().insert("b".into(), Class::Transient);
    let mut bench = Bench::start(node);
    bench.wish(1, &[("a", "1"), ("b", "2"), ("c", "3")]);
    let report = bench.until("failing", |report| report.state == State::Failing).await;
    assert_eq!((bench.value("a").as_deref(), bench.value("c").as_deref()), (Some("1"), Some("3")));
    assert!(report.last_error.is_some_and(|error| error.contains("cannot write b")));
    bench.until("tried again", |report| report.totals.failed_passes >= 6).await;
    bench.node.broken.lock().unwrap().clear();
    bench.until("made good", |report| report.state == State::Converged).await;
    assert_eq!(bench.value("b").as_deref(), Some("2"));
}

#[tokio::test(start_paused = true)]
async fn a_terminal_failure_waits_for_the_resync() {
    let node = ToyNode::default();
    node.broken.lock().unwrap().insert("b".into(), Class::Terminal);
    let mut bench = Bench::start(node);
    let before = tokio::time::Instant::now();
    bench.wish(1, &[("b", "2")]);
    bench.until("second failure", |report| report.totals.failed_passes == 2).await;
    assert!(before.elapsed() >= Duration::from_secs(53), "{:?}", before.elapsed());
    bench.wish(2, &[("a", "1")]);
    let report = bench.until("the new wish", |report| report.generation == 2).await;
    assert_eq!(report.state, State::Converged);
}

#[tokio::test(start_paused = true)]
async fn an_entry_of_the_book_that_reads_like_the_one_before_is_no_failure() {
    let node = ToyNode::default();
    // There is something to remember after each entry.
    node.contested.lock().unwrap().insert(BOOK.into());
    let mut bench = Bench::start(node);
    bench.wish(1, &[("a", "1"), (BOOK, "1")]);
    bench.until("another pass", |report| report.totals.passes > 1).await;
    bench.node.contested.lock().unwrap().clear();
    let report = bench.until("converged", |report| report.state == State::Converged).await;
    assert_eq!((report.totals.failed_passes, report.last_error), (0, None));
}

#[tokio::test(start_paused = true)]
async fn a_fight_slows_the_agent_down_and_is_named() {
    let mut bench = Bench::start(ToyNode::default());
    bench.wish(1, &[("contested", "1"), ("calm", "1")]);
    bench.until("converged", |report| report.state == State::Converged).await;
    let mut report = bench.until("converged", |_| true).await;
    for _ in 0..500 {
        if !report.fights.is_empty() {
            break;
        }
        let drift = report.totals.drift_found;
        bench.set("contested", "7");
        bench.events.waker.notify_one();
        report = bench.until("repaired", |report| report.totals.drift_found > drift).await;
    }
    assert_eq!(report.state, State::Fighting);
    let fight = &report.fights[0];
    assert_eq!((fight.object.as_str(), fight.likely_writer.as_deref()), ("contested", Some("the other program")));
    let (writes, started) = (bench.writes(), tokio::time::Instant::now());
    // An hour of a program that changes it back a hundred times a second is met by a handful of writes.
    while started.elapsed() < Duration::from_secs(3600) {
        bench.set("contested", "7");
        bench.events.waker.notify_one();
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let met = bench.writes() - writes;
    assert!((2..=12).contains(&met), "{met} writes in an hour");
    bench.set("calm", "9");
    bench.events.waker.notify_one();
    bench.until("others are held all the same", |report| report.objects[0].observed.as_deref() == Some("1")).await;
}

#[tokio::test(start_paused = true)]
async fn a_fight_is_recognised_while_another_step_keeps_failing() {
    let node = ToyNode::default();
    node.broken.lock().unwrap().insert("broken".into(), Class::Transient);
    let mut bench = Bench::start(node);
    bench.wish(1, &[("broken", "1"), ("contested", "1")]);
    bench.until("failing", |report| report.state == State::Failing).await;
    let started = tokio::time::Instant::now();
    while started.elapsed() < Duration::from_secs(60) {
        bench.set("contested", "7");
        bench.events.waker.notify_one();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let report = bench.until("named", |report| !report.fights.is_empty()).await;
    assert_eq!((report.state, report.fights[0].object.as_str()), (State::Failing, "contested"));
    assert!(bench.writes() <= 10, "{} writes in a minute", bench.writes());
    assert!(report.totals.passes <= 150, "{} passes in a minute", report.totals.passes);
}

#[tokio::test(start_paused = true)]
async fn a_program_that_undoes_each_write_at_once_is_met_by_a_handful_of_writes() {
    let node = ToyNode::default();
    node.contested.lock().unwrap().insert("a".into());
    let mut bench = Bench::start(node);
    bench.wish(1, &[("a", "1")]);
    let started = tokio::time::Instant::now();
    while started.elapsed() < Duration::from_secs(3600) {
        bench.events.waker.notify_one();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bench.until("named", |report| report.fights.len() == 1).await;
    assert!((6..=20).contains(&bench.writes()), "{} writes in an hour", bench.writes());
}

#[tokio::test(start_paused = true)]
async fn a_write_that_does_not_take_effect_is_an_error_not_a_success() {
    let node = ToyNode::default();
    node.contested.lock().unwrap().insert("a".into());
    let mut bench = Bench::start(node);
    bench.wish(1, &[("a", "1")]);
    let report = bench.until("failing", |report| report.state == State::Failing).await;
    assert!(report.last_error.is_some_and(|error| error.contains("does not show")));
}

#[tokio::test(start_paused = true)]
async fn what_comes_up_during_a_pass_is_no_failure_and_is_done_at_once() {
    let mut bench = Bench::start(ToyNode::default());
    bench.wish(1, &[("a", "1"), ("b", "2")]);
    bench.until("converged", |report| report.state == State::Converged).await;
    *bench.node.meddling.lock().unwrap() = Some(("a".into(), "b".into(), "7".into()));
    let before = tokio::time::Instant::now();
    bench.wish(2, &[("a", "3"), ("b", "2")]);
    let report = bench.until("both", |report| report.generation == 2 && report.totals.steps_done == 4).await;
    assert_eq!((report.state, report.totals.failed_passes), (State::Converged, 0));
    assert_eq!(bench.value("b").as_deref(), Some("2"));
    assert!(before.elapsed() < Duration::from_secs(1), "{:?}", before.elapsed());
}

#[tokio::test(start_paused = true)]
async fn events_without_drift_are_met_at_a_bounded_rate() {
    let mut bench = Bench::start(ToyNode::default());
    bench.wish(1, &[("a", "1")]);
    bench.until("converged", |report| report.state == State::Converged).await;
    let before = *bench.node.observations.lock().unwrap();
    for _ in 0..60_000 {
        bench.events.waker.notify_one();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let passes = *bench.node.observations.lock().unwrap() - before;
    assert!(passes <= 80, "{passes} passes in a minute of noise");
}

#[tokio::test(start_paused = true)]
async fn after_a_signal_no_further_step_is_begun() {
    let node = ToyNode::default();
    let mut bench = Bench::start(node);
    *bench.node.on_write.lock().unwrap() = Some(("b".into(), bench.cancel.clone()));
    bench.wish(1, &[("a", "1"), ("b", "2"), ("c", "3")]);
    timeout(LIMIT, &mut bench.task).await.unwrap().unwrap();
    assert_eq!(*bench.node.writes.lock().unwrap(), ["a", "b"]);
    assert!(bench.events.watched.lock().unwrap().is_empty());
}
