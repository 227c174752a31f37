//! When the kubelet is asked, and how long a call waits for it; on a clock that runs only when everybody waits.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use trimtab_proto::podresources::v1;

use super::*;
use crate::metrics::Metrics;
use crate::ports::kubelet_answers::Asking;

/// A kubelet that takes its time.
struct Slow {
    takes: Mutex<Duration>,
    away: Mutex<bool>,
    asked: AtomicUsize,
    at_once: AtomicUsize,
}

impl Slow {
    fn new(takes_ms: u64) -> Arc<Self> {
        Arc::new(Self {
            takes: Mutex::new(Duration::from_millis(takes_ms)),
            away: Mutex::default(),
            asked: AtomicUsize::new(0),
            at_once: AtomicUsize::new(0),
        })
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl KubeletPodResources for Slow {
    fn ask(&self) -> Asking<'_> {
        Box::pin(async {
            assert_eq!(self.at_once.fetch_add(1, Ordering::Relaxed), 0, "one question at a time");
            let number = self.asked.fetch_add(1, Ordering::Relaxed) + 1;
            let takes = *self.takes.lock().unwrap();
            sleep(takes).await;
            self.at_once.fetch_sub(1, Ordering::Relaxed);
            if *self.away.lock().unwrap() {
                return Err(KubeletAway::NoSocket { path: "/p".into() });
            }
            let pod = v1::PodResources { name: format!("pod-{number}"), ..Default::default() };
            let list = v1::ListPodResourcesResponse { pod_resources: vec![pod] };
            Ok(KubeletAnswers { list, ..Default::default() })
        })
    }
}

struct Beside {
    side: KubeletSide,
    view: watch::Sender<Arc<NodeView>>,
    stop: CancellationToken,
}

fn beside(kubelet: &Arc<Slow>) -> Beside {
    let metrics = Metrics::new("1", &[]).kubelet().clone();
    let (follower, side) = Follower::new(Arc::<Slow>::clone(kubelet), metrics);
    let (view, seen) = watch::channel(Arc::default());
    let stop = CancellationToken::new();
    tokio::spawn(follower.follow(seen, stop.clone()));
    Beside { side, view, stop }
}

impl Beside {
    /// Number of the question that brought what a call is told, and how long the call waited.
    async fn told(&self, want: Want) -> (Option<usize>, Duration) {
        let from = Instant::now();
        let known = self.side.known(want).await;
        let name = known.answers().and_then(|answers| answers.list.pod_resources.first()).map(|pod| pod.name.clone());
        (name.and_then(|name| name.strip_prefix("pod-")?.parse().ok()), from.elapsed())
    }
}

const MS: fn(u64) -> Duration = Duration::from_millis;

#[tokio::test(start_paused = true)]
async fn first_call_waits_for_the_first_answer_and_no_longer_than_patience() {
    for (takes, number, waited) in [(20, Some(1), 20), (5000, None, 300)] {
        let kubelet = Slow::new(takes);
        let beside = beside(&kubelet);
        let (told, time) = beside.told(Want::Recent).await;
        assert_eq!(told, number, "{takes} ms");
        assert!((MS(waited)..MS(waited + 5)).contains(&time), "{takes} ms: {time:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn recent_answer_is_told_at_once_and_an_old_one_is_renewed() {
    let kubelet = Slow::new(4);
    let beside = beside(&kubelet);
    beside.told(Want::Recent).await;
    assert_eq!(beside.told(Want::Recent).await, (Some(1), Duration::ZERO));
    sleep(MS(60)).await;
    assert_eq!(beside.told(Want::Recent).await, (Some(1), Duration::ZERO), "half-way nobody waits");
    sleep(MS(10)).await;
    assert_eq!(beside.told(Want::Recent).await, (Some(2), Duration::ZERO), "but it was asked for");
    sleep(MS(5000)).await;
    assert_eq!(kubelet.asked(), 2, "nobody wants to know");
    let (told, time) = beside.told(Want::Recent).await;
    assert_eq!(told, Some(3));
    assert!(time < MS(10), "{time:?}");
}

#[tokio::test(start_paused = true)]
async fn call_about_something_new_is_told_what_was_asked_for_after_it_came() {
    let kubelet = Slow::new(40);
    let beside = beside(&kubelet);
    beside.told(Want::Recent).await;
    for number in 2..10 {
        let (told, time) = beside.told(Want::New).await;
        assert_eq!(told, Some(number));
        assert!(time <= MS(40) + SHORTEST_PAUSE + MS(5), "{time:?}: a slow kubelet is asked for it all the same");
    }
}

#[tokio::test(start_paused = true)]
async fn many_callers_share_one_question() {
    let kubelet = Slow::new(10);
    let beside = Arc::new(beside(&kubelet));
    beside.told(Want::Recent).await;
    sleep(MS(1000)).await;
    let calls: Vec<_> = (0..100)
        .map(|_| {
            let beside = Arc::clone(&beside);
            tokio::spawn(async move { beside.told(Want::Recent).await })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap().0, Some(2));
    }
    assert_eq!(kubelet.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn question_takes_at_most_a_tenth_of_the_kubelets_time() {
    let kubelet = Slow::new(30);
    let beside = beside(&kubelet);
    for _ in 0..10_000 {
        beside.told(Want::Recent).await;
        sleep(MS(1)).await;
    }
    assert!((20..=34).contains(&kubelet.asked()), "{} questions of 30 ms in ten seconds", kubelet.asked());
}

#[tokio::test(start_paused = true)]
async fn while_the_kubelet_is_away_nobody_waits_and_it_is_seldom_asked() {
    let kubelet = Slow::new(1);
    let beside = beside(&kubelet);
    beside.told(Want::Recent).await;
    *kubelet.away.lock().unwrap() = true;
    *kubelet.takes.lock().unwrap() = MS(2000);
    sleep(MS(200)).await;
    assert_eq!(beside.told(Want::Recent).await, (Some(1), PATIENCE), "the call that finds out");
    sleep(MS(2000)).await;
    assert_eq!(beside.side.known(Want::New).await.away.map(|away| away.as_str()), Some("no-socket"));
    let before = kubelet.asked();
    for _ in 0..6000 {
        for want in [Want::Recent, Want::New] {
            assert_eq!(beside.told(want).await, (Some(1), Duration::ZERO));
        }
        sleep(MS(1)).await;
    }
    assert_eq!(kubelet.asked() - before, 2, "each two seconds long, with a second between them");
    *kubelet.away.lock().unwrap() = false;
    sleep(IDLE_RETRY + MS(5000)).await;
    let (told, time) = beside.told(Want::Recent).await;
    assert!(told > Some(1), "it is found to be back, though nobody asked meanwhile");
    assert!(time <= PATIENCE, "{time:?}");
}

#[tokio::test(start_paused = true)]
async fn changes_of_pods_keep_the_last_good_answer_young_without_haste() {
    let kubelet = Slow::new(1);
    let beside = beside(&kubelet);
    beside.told(Want::Recent).await;
    for _ in 0..1000 {
        beside.view.send_replace(Arc::default());
        sleep(MS(100)).await;
    }
    assert!((10..=11).contains(&kubelet.asked()), "{} questions in 100 seconds", kubelet.asked());
    sleep(Duration::from_secs(3600)).await;
    assert!(kubelet.asked() <= 12, "and none while nothing changes");
}

#[tokio::test(start_paused = true)]
async fn end_of_the_agent_ends_the_questions() {
    let kubelet = Slow::new(1_000_000);
    let beside = beside(&kubelet);
    sleep(MS(1)).await;
    beside.stop.cancel();
    // The channel is closed: nobody will ever answer.
    assert_eq!(beside.told(Want::Recent).await, (None, Duration::ZERO));
}
