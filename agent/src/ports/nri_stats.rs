//! What the conversation with the runtime counts: written by the adapter, read whenever metrics are asked for.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;

/// Kinds of requests of the runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NriMethod {
    /// Who the runtime is.
    Configure,
    /// Everything that exists.
    Synchronize,
    /// A container is about to be created.
    CreateContainer,
    /// Resources of a container are about to change.
    UpdateContainer,
    /// A container is being stopped.
    StopContainer,
    /// Anything that is told and not asked.
    Event,
    /// Anything else.
    Other,
}

impl NriMethod {
    /// Every kind, in the order of declaration.
    pub const ALL: [Self; 7] = [
        Self::Configure,
        Self::Synchronize,
        Self::CreateContainer,
        Self::UpdateContainer,
        Self::StopContainer,
        Self::Event,
        Self::Other,
    ];

    /// As in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Configure => "Configure",
            Self::Synchronize => "Synchronize",
            Self::CreateContainer => "CreateContainer",
            Self::UpdateContainer => "UpdateContainer",
            Self::StopContainer => "StopContainer",
            Self::Event => "Event",
            Self::Other => "other",
        }
    }
}

/// How a request was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NriResult {
    /// With what was asked for.
    Ok,
    /// With a refusal that was decided.
    Refused,
    /// With an error, because no answer was there in time.
    Timeout,
    /// With an error, for any other reason.
    Failed,
}

impl NriResult {
    /// Every result, in the order of declaration.
    pub const ALL: [Self; 4] = [Self::Ok, Self::Refused, Self::Timeout, Self::Failed];

    /// As in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::Failed => "failed",
        }
    }
}

/// Why a registration had to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegistrationWait {
    /// A container with much time left is being stopped, and a registration behind it would stop the node.
    Terminating,
    /// There were too many registrations before.
    Rate,
}

impl RegistrationWait {
    /// Every reason, in the order of declaration.
    pub const ALL: [Self; 2] = [Self::Terminating, Self::Rate];

    /// As in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Terminating => "terminating",
            Self::Rate => "rate",
        }
    }
}

/// Upper bounds of an answer in microseconds: answers come from memory, and half a second is the limit.
pub const ANSWER_BUCKETS_MICROS: [u64; 11] = [50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 50_000, 250_000, 500_000];

/// How long answers of one kind took.
#[derive(Debug, Default)]
struct Answered {
    /// One more than there are bounds: the last holds what took longer.
    buckets: [AtomicU64; ANSWER_BUCKETS_MICROS.len() + 1],
    nanos: AtomicU64,
    results: [AtomicU64; NriResult::ALL.len()],
}

/// One creation, as an example of those that took as long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerExemplar {
    /// The container.
    pub container_id: String,
    /// Its pod.
    pub pod_uid: String,
    /// How long the answer took.
    pub time: Duration,
    /// When it was given.
    pub at: SystemTime,
}

/// The last creation of each bucket, as [`AnswerTimes`] has them.
pub type AnswerExemplars = [Option<AnswerExemplar>; ANSWER_BUCKETS_MICROS.len() + 1];

/// Whether the runtime asks the agent.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum NriLink {
    /// It was not tried yet, or is being tried for the first time.
    #[default]
    Untried,
    /// It does.
    Asks,
    /// It does not, at the moment or at all.
    Away,
}

/// The counts since the agent started.
#[derive(Debug, Default)]
pub struct NriStats {
    link: watch::Sender<NriLink>,
    registrations: AtomicU64,
    wait_nanos: [AtomicU64; RegistrationWait::ALL.len()],
    answered: [Answered; NriMethod::ALL.len()],
    undone: AtomicU64,
    updates: [AtomicU64; 2],
    /// Absent: nobody wants to see them.
    exemplars: Option<Mutex<AnswerExemplars>>,
}

/// Distribution of how long answers took.
#[derive(Debug, Clone, PartialEq)]
pub struct AnswerTimes {
    /// Number of answers within each of [`ANSWER_BUCKETS_MICROS`] and above the one before; the last took longer.
    pub buckets: [u64; ANSWER_BUCKETS_MICROS.len() + 1],
    /// All of them together.
    pub sum: Duration,
}

impl NriStats {
    /// Counts that remember, or do not, which container an answer was about.
    #[must_use]
    pub fn keeping_exemplars(keep: bool) -> Self {
        Self { exemplars: keep.then(Mutex::default), ..Self::default() }
    }

    /// True if [`record_exemplar`](Self::record_exemplar) does anything.
    #[must_use]
    pub const fn keeps_exemplars(&self) -> bool {
        self.exemplars.is_some()
    }

    /// A creation was answered. `exemplar.time` is what was recorded for it.
    pub fn record_exemplar(&self, exemplar: AnswerExemplar) {
        let Some(exemplars) = &self.exemplars else { return };
        let mut exemplars = exemplars.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = exemplars.get_mut(bucket(exemplar.time)) {
            *last = Some(exemplar);
        }
    }

    /// What was recorded last in each bucket.
    #[must_use]
    pub fn exemplars(&self) -> AnswerExemplars {
        let exemplars = self.exemplars.as_ref().map(|kept| kept.lock().unwrap_or_else(PoisonError::into_inner));
        exemplars.map(|kept| kept.clone()).unwrap_or_default()
    }

    /// A session is in use, or is over.
    pub fn record_connected(&self, connected: bool) {
        self.link.send_replace(if connected { NriLink::Asks } else { NriLink::Away });
    }

    /// The runtime is being asked to take the agent on.
    pub fn record_registration(&self) {
        self.registrations.fetch_add(1, Relaxed);
    }

    /// A registration has waited.
    pub fn record_wait(&self, reason: RegistrationWait, time: Duration) {
        add_nanos(self.wait_nanos.get(reason as usize), time);
    }

    /// A request was answered.
    pub fn record_answer(&self, method: NriMethod, result: NriResult, time: Duration) {
        let Some(answered) = self.answered.get(method as usize) else { return };
        increment(answered.buckets.get(bucket(time)));
        add_nanos(Some(&answered.nanos), time);
        increment(answered.results.get(result as usize));
    }

    /// A container's creation that was granted too late was taken back.
    pub fn record_undone(&self) {
        self.undone.fetch_add(1, Relaxed);
    }

    /// Containers were to be changed outside of an answer: how many were, and how many not.
    pub fn record_updates(&self, done: u64, failed: u64) {
        let [all_done, all_failed] = &self.updates;
        all_done.fetch_add(done, Relaxed);
        all_failed.fetch_add(failed, Relaxed);
    }

    /// True while the runtime asks the agent.
    #[must_use]
    pub fn connected(&self) -> bool {
        *self.link.borrow() == NriLink::Asks
    }

    /// Whether the runtime asks the agent, and every change of that.
    #[must_use]
    pub fn link(&self) -> watch::Receiver<NriLink> {
        self.link.subscribe()
    }

    /// Registrations that were tried.
    #[must_use]
    pub fn registrations(&self) -> u64 {
        self.registrations.load(Relaxed)
    }

    /// How long registrations have waited.
    #[must_use]
    pub fn waited(&self, reason: RegistrationWait) -> Duration {
        Duration::from_nanos(load(self.wait_nanos.get(reason as usize)))
    }

    /// Requests by how they were answered.
    #[must_use]
    pub fn answered(&self, method: NriMethod, result: NriResult) -> u64 {
        load(self.answered.get(method as usize).and_then(|answered| answered.results.get(result as usize)))
    }

    /// How long answers took.
    #[must_use]
    pub fn answer_times(&self, method: NriMethod) -> AnswerTimes {
        let mut times = AnswerTimes { buckets: [0; ANSWER_BUCKETS_MICROS.len() + 1], sum: Duration::ZERO };
        if let Some(answered) = self.answered.get(method as usize) {
            for (count, bucket) in times.buckets.iter_mut().zip(&answered.buckets) {
                *count = bucket.load(Relaxed);
            }
            times.sum = Duration::from_nanos(answered.nanos.load(Relaxed));
        }
        times
    }

    /// Creations that were taken back.
    #[must_use]
    pub fn undone(&self) -> u64 {
        self.undone.load(Relaxed)
    }

    /// Containers that were changed outside of an answer, and those that were not though asked for.
    #[must_use]
    pub fn updates(&self) -> (u64, u64) {
        let [done, failed] = &self.updates;
        (done.load(Relaxed), failed.load(Relaxed))
    }
}

fn bucket(time: Duration) -> usize {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    ANSWER_BUCKETS_MICROS.partition_point(|bound| *bound < micros)
}

fn increment(count: Option<&AtomicU64>) {
    if let Some(count) = count {
        count.fetch_add(1, Relaxed);
    }
}

/// Wraps after 584 years.
fn add_nanos(sum: Option<&AtomicU64>, time: Duration) {
    if let Some(sum) = sum {
        sum.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }
}

fn load(count: Option<&AtomicU64>) -> u64 {
    count.map_or(0, |count| count.load(Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_counted_in_the_bucket_that_bounds_it() {
        let stats = NriStats::default();
        for micros in [0, 50, 51, 1_000, 500_000, 500_001, 9_000_000] {
            stats.record_answer(NriMethod::CreateContainer, NriResult::Ok, Duration::from_micros(micros));
        }
        let times = stats.answer_times(NriMethod::CreateContainer);
        assert_eq!(times.buckets, [2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(times.sum, Duration::from_micros(10_001_102));
        assert_eq!(stats.answered(NriMethod::CreateContainer, NriResult::Ok), 7);
        assert_eq!(stats.answer_times(NriMethod::Event).buckets, [0; 12]);
    }

    #[test]
    fn every_kind_has_its_place() {
        let stats = NriStats::default();
        for (index, method) in NriMethod::ALL.into_iter().enumerate() {
            for (other, result) in NriResult::ALL.into_iter().enumerate() {
                assert_eq!((method as usize, result as usize), (index, other));
                stats.record_answer(method, result, Duration::ZERO);
                assert_eq!(stats.answered(method, result), 1, "{method:?} {result:?}");
            }
        }
        for reason in RegistrationWait::ALL {
            stats.record_wait(reason, Duration::from_secs(1));
            assert_eq!(stats.waited(reason), Duration::from_secs(1), "{reason:?}");
        }
    }
}
