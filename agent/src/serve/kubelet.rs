//! The kubelet's own answers: asked in the background when somebody wants to know, kept when the kubelet goes away.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::metrics::KubeletMetrics;
use crate::ports::kubelet_answers::{KubeletAnswers, KubeletAway, KubeletPodResources};
use crate::reconcile::node_view::NodeView;

mod normal;

/// Shortest pause between two questions; the kubelet admits 100 calls a second from all its clients, and this makes 40.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
/// Longest one. Between these a question may take a tenth of the time, so that a slow kubelet is asked less often.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How long a call waits for an answer that is newer than the one at hand.
const PATIENCE: Duration = Duration::from_millis(300);
/// The same for a call about a pod that nobody knows yet; clients that create containers give up after a second.
const PATIENCE_FOR_NEW: Duration = Duration::from_millis(700);
/// Pause after a question without an answer, when somebody wants to know.
const RETRY: Duration = Duration::from_secs(1);
/// Pause after a question without an answer, when nobody does.
const IDLE_RETRY: Duration = Duration::from_secs(30);
/// Pause between questions that only changes of pods give rise to: they keep the last good answer from growing old.
const CHANGES_PAUSE: Duration = Duration::from_secs(10);

/// What is known of the kubelet.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    /// The last good answer and when it was asked for; `None`: there was none yet.
    pub(crate) good: Option<(Arc<KubeletAnswers>, Instant)>,
    /// Why the last question had no answer; `None`: it had, or none was asked yet.
    pub(crate) away: Option<KubeletAway>,
    /// How long an answer is as good as a new one.
    fresh_for: Duration,
}

impl Known {
    /// The last good answer.
    pub(crate) fn answers(&self) -> Option<&Arc<KubeletAnswers>> {
        self.good.as_ref().map(|(answers, _)| answers)
    }

    /// Age of the last good answer.
    pub(crate) fn age(&self, now: Instant) -> Option<Duration> {
        self.good.as_ref().map(|(_, asked)| now.saturating_duration_since(*asked))
    }
}

/// How new an answer must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    /// As new as one that was asked for a moment ago.
    Recent,
    /// Asked for after this call came.
    New,
}

/// Where the answers are had.
#[derive(Debug, Clone)]
pub(crate) struct KubeletSide {
    known: watch::Receiver<Known>,
    demand: Arc<Demand>,
}

/// Somebody wants to know.
#[derive(Debug, Default)]
struct Demand {
    /// What is new.
    recent: Notify,
    /// Something that nobody knows yet.
    new: Notify,
}

impl KubeletSide {
    /// What is known, after a short wait for something newer if need be; at once while the kubelet is away.
    pub(crate) async fn known(&self, want: Want) -> Known {
        let now = Instant::now();
        let known = self.known.borrow().clone();
        let age = known.age(now);
        // Half-way an answer is asked for that nobody has to wait for.
        if want == Want::New {
            self.demand.new.notify_one();
        } else if age.is_none_or(|age| age * 2 >= known.fresh_for) {
            self.demand.recent.notify_one();
        }
        if known.away.is_some() {
            return known;
        }
        let is_new = |known: &Known| {
            let oldest = if want == Want::New { Duration::ZERO } else { known.fresh_for };
            known.away.is_some() || known.good.as_ref().is_some_and(|(_, at)| *at + oldest >= now)
        };
        if is_new(&known) {
            return known;
        }
        let mut changes = self.known.clone();
        let patience = if want == Want::New { PATIENCE_FOR_NEW } else { PATIENCE };
        let newer = timeout(patience, changes.wait_for(is_new)).await;
        match newer {
            Ok(Ok(newer)) => newer.clone(),
            // Too slow, or the agent stops: what is known is better than nothing.
            Ok(Err(_)) | Err(_) => known,
        }
    }
}

/// The one who asks.
pub(crate) struct Follower {
    kubelet: Arc<dyn KubeletPodResources>,
    known: watch::Sender<Known>,
    demand: Arc<Demand>,
    metrics: KubeletMetrics,
}

impl Follower {
    /// Nothing is asked before [`Self::follow`].
    pub(crate) fn new(kubelet: Arc<dyn KubeletPodResources>, metrics: KubeletMetrics) -> (Self, KubeletSide) {
        let (known, seen) = watch::channel(Known::default());
        let demand = Arc::<Demand>::default();
        let side = KubeletSide { known: seen, demand: Arc::clone(&demand) };
        (Self { kubelet, known, demand, metrics }, side)
    }

    /// Asks at the start, when somebody wants to know, and now and then while pods change; one question at a time.
    pub(crate) async fn follow(self, mut pods: watch::Receiver<Arc<NodeView>>, stop: CancellationToken) {
        let mut pods_known = true;
        loop {
            let begun = Instant::now();
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.ask(begun) => {}
            }
            // Who wanted to know meanwhile has been told.
            tokio::select! {
                biased;
                () = self.demand.recent.notified() => {}
                () = std::future::ready(()) => {}
            }
            let away = self.known.borrow().away.is_some();
            let (pause, short) = if away { (RETRY, RETRY) } else { (pause_after(begun.elapsed()), SHORTEST_PAUSE) };
            let idle = if away { IDLE_RETRY } else { CHANGES_PAUSE };
            tokio::select! {
                () = stop.cancelled() => return,
                () = async { sleep(pause).await; self.demand.recent.notified().await } => {}
                () = async { sleep(short).await; self.demand.new.notified().await } => {}
                changed = async { sleep_until(begun + idle).await; if away { Ok(()) } else { pods.changed().await } },
                    if pods_known || away => pods_known = changed.is_ok(),
            }
        }
    }

    async fn ask(&self, begun: Instant) {
        let asked = self.kubelet.ask().await;
        let took = begun.elapsed();
        self.metrics.asked(asked.as_ref().map_or_else(KubeletAway::as_str, |_| "answered"), took);
        self.known.send_modify(|known| {
            known.fresh_for = pause_after(took) * 2;
            match asked {
                Ok(mut answers) => {
                    normal::sort(&mut answers);
                    // What has not changed stays the same object, so that nothing is encoded anew.
                    let same = known.good.take().map(|(before, _)| before).filter(|before| **before == answers);
                    known.good = Some((same.unwrap_or_else(|| Arc::new(answers)), begun));
                    if let Some(away) = known.away.take() {
                        tracing::info!(before = %away, "the kubelet answers; devices come from it");
                    }
                }
                Err(away) => {
                    if known.away.as_ref() != Some(&away) && known.good.is_some() {
                        tracing::warn!(error = %away, "the kubelet's last answer about devices is served");
                    }
                    known.away = Some(away);
                }
            }
        });
    }
}

/// Pause after a question that took so long.
fn pause_after(took: Duration) -> Duration {
    (took * 10).clamp(SHORTEST_PAUSE, LONGEST_PAUSE)
}

#[cfg(test)]
mod tests;
