//! Registrations are few, waits are bounded; time is paused.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use std::pin::Pin;
use std::sync::Mutex;

use super::*;
use crate::adapters::host_fs::HostFs;
use crate::ports::HostFiles;

struct Stopping(Mutex<VecDeque<Option<Duration>>>, Option<Duration>);

impl Terminations for Stopping {
    fn longest_remaining(&self) -> Pin<Box<dyn Future<Output = Option<Duration>> + Send + '_>> {
        let next = self.0.lock().ok().and_then(|mut answers| answers.pop_front());
        Box::pin(std::future::ready(next.unwrap_or(self.1)))
    }
}

#[tokio::test(start_paused = true)]
async fn first_registration_is_free_and_then_three_within_ten_minutes() {
    let mut registrations = Registrations::default();
    let start = Instant::now();
    let mut made = Vec::new();
    for _ in 0..9 {
        let now = registrations.next_at(Instant::now());
        tokio::time::sleep_until(now).await;
        registrations.record(now);
        made.push((now - start).as_secs());
        tokio::time::advance(Duration::from_secs(10)).await;
    }
    assert_eq!(made, [0, 10, 20, 30, 610, 620, 630, 1210, 1220]);
}

#[tokio::test(start_paused = true)]
async fn a_restarted_agent_counts_the_registrations_of_the_one_before() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("run")).unwrap();
    let files: Arc<dyn HostFiles> = Arc::new(HostFs::new(root.path()).unwrap());
    let book = || Some(RegistrationBook::new(Arc::clone(&files), "/run/registrations"));
    // The clock of the process may be younger than the registrations.
    tokio::time::advance(2 * WINDOW).await;
    for made in 0..MOST {
        let mut registrations = Registrations::resume(book());
        assert_eq!(registrations.next_at(Instant::now()), Instant::now(), "after {made}");
        registrations.record(Instant::now());
    }
    let wait = Registrations::resume(book()).next_at(Instant::now()) - Instant::now();
    assert!(wait > WINDOW - Duration::from_secs(60) && wait <= WINDOW, "{wait:?}");

    for damaged in ["", "rubbish\n-5\n", "99999999999\n99999999999\n99999999999\n", "1\n2\n3\n4\n"] {
        files.replace("/run/registrations".as_ref(), damaged).unwrap();
        let registrations = Registrations::resume(book());
        assert_eq!(registrations.next_at(Instant::now()), Instant::now(), "{damaged:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_wait_for_the_rate_is_counted_and_ends_with_the_agent() {
    let (stats, cancel) = (NriStats::default(), CancellationToken::new());
    let mut registrations = Registrations::default();
    for _ in 0..4 {
        registrations.wait(&stats, &cancel).await;
        registrations.record(Instant::now());
    }
    assert_eq!(stats.waited(RegistrationWait::Rate), Duration::ZERO);
    registrations.wait(&stats, &cancel).await;
    assert_eq!(stats.waited(RegistrationWait::Rate).as_secs(), 600);
    registrations.record(Instant::now());
    cancel.cancel();
    registrations.wait(&stats, &cancel).await;
}

#[tokio::test(start_paused = true)]
async fn long_terminations_are_waited_for_within_bounds() {
    let seconds = |count| Some(Duration::from_secs(count));
    let rows = [
        ("none", vec![], None, 0..=0),
        ("short", vec![], seconds(2), 0..=0),
        ("ends after three looks", vec![seconds(9); 4], None, 4_000..=4_010),
        ("becomes short", vec![seconds(3); 2], seconds(1), 2_000..=2_010),
        ("does not end", vec![], seconds(3600), 30_000..=30_050),
    ];
    for (name, answers, then, millis) in rows {
        let stopping: Arc<dyn Terminations> = Arc::new(Stopping(Mutex::new(answers.into()), then));
        let (stats, began) = (NriStats::default(), Instant::now());
        wait_for_terminations(&stopping, &stats, &CancellationToken::new()).await;
        assert!(millis.contains(&began.elapsed().as_millis()), "{name}: {:?}", began.elapsed());
        assert_eq!(stats.waited(RegistrationWait::Terminating), began.elapsed(), "{name}");
    }
}

#[test]
fn pauses_double_up_to_two_seconds_and_begin_anew() {
    let mut pauses = Pauses::default();
    let millis: Vec<_> = (0..8).map(|_| pauses.next().as_millis()).collect();
    assert_eq!(millis, [50, 100, 200, 400, 800, 1600, 2000, 2000]);
    pauses.reset();
    assert_eq!(pauses.next().as_millis(), 50);
}
