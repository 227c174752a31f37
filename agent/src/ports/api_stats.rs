//! What the conversation with the API server counts: written by the adapter, read whenever metrics are asked for.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// What is asked of an object or a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ApiVerb {
    /// One object.
    Get,
    /// A collection.
    List,
    /// What changes in a collection.
    Watch,
    /// A new object, an event or an eviction.
    Create,
    /// A whole object in the place of another.
    Update,
    /// Fields that are to be ours (server-side apply).
    Apply,
    /// Any other change.
    Patch,
    /// The end of an object.
    Delete,
}

impl ApiVerb {
    /// Every verb, in the order of declaration.
    pub const ALL: [Self; 8] =
        [Self::Get, Self::List, Self::Watch, Self::Create, Self::Update, Self::Apply, Self::Patch, Self::Delete];

    /// As in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Apply => "apply",
            Self::Patch => "patch",
            Self::Delete => "delete",
        }
    }
}

/// Upper bounds of an answer in milliseconds; the agent waits 15 s.
pub const API_BUCKETS_MILLIS: [u64; 10] = [5, 10, 25, 50, 100, 250, 500, 1_000, 5_000, 15_000];

/// How long answers took.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ApiTimes {
    /// Number of answers within each of [`API_BUCKETS_MILLIS`] and above the one before; the last took longer.
    pub buckets: [u64; API_BUCKETS_MILLIS.len() + 1],
    /// All of them together.
    pub sum: Duration,
}

/// Verb, resource with its subresource (`nodes/status`), and status code; `None`: no answer came.
pub type ApiRequest = (ApiVerb, &'static str, Option<u16>);

#[derive(Debug, Default)]
struct Counts {
    requests: BTreeMap<ApiRequest, u64>,
    times: [ApiTimes; ApiVerb::ALL.len()],
    waited: Duration,
    last_success: Option<SystemTime>,
    restarts: u64,
}

/// The counts since the agent started.
#[derive(Debug, Default)]
pub struct ApiStats(Mutex<Counts>);

impl ApiStats {
    /// A request has ended: with this answer, or with none, after this time.
    pub fn record_request(&self, request: ApiRequest, time: Duration, now: SystemTime) {
        let mut counts = self.counts();
        let count = counts.requests.entry(request).or_default();
        *count = count.saturating_add(1);
        if request.2.is_some_and(|code| code < 400) {
            counts.last_success = Some(now);
        }
        let Some(times) = counts.times.get_mut(request.0 as usize) else { return };
        times.sum = times.sum.saturating_add(time);
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let bucket = API_BUCKETS_MILLIS.partition_point(|bound| *bound < millis);
        if let Some(bucket) = times.buckets.get_mut(bucket) {
            *bucket = bucket.saturating_add(1);
        }
    }

    /// A request has waited because too many went before it.
    pub fn record_wait(&self, time: Duration) {
        let mut counts = self.counts();
        counts.waited = counts.waited.saturating_add(time);
    }

    /// A fault in the agent has ended the conversation, and it is begun anew.
    pub fn record_restart(&self) {
        let mut counts = self.counts();
        counts.restarts = counts.restarts.saturating_add(1);
    }

    /// Requests so far.
    #[must_use]
    pub fn requests(&self) -> Vec<(ApiRequest, u64)> {
        self.counts().requests.iter().map(|(request, count)| (*request, *count)).collect()
    }

    /// How long answers took; of a watch, until it was open.
    #[must_use]
    pub fn times(&self, verb: ApiVerb) -> ApiTimes {
        self.counts().times.get(verb as usize).copied().unwrap_or_default()
    }

    /// How long requests have waited for their turn.
    #[must_use]
    pub fn waited(&self) -> Duration {
        self.counts().waited
    }

    /// When the API server last did as asked; `None`: never yet.
    #[must_use]
    pub fn last_success(&self) -> Option<SystemTime> {
        self.counts().last_success
    }

    /// How often the conversation was begun anew.
    #[must_use]
    pub fn restarts(&self) -> u64 {
        self.counts().restarts
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_by_what_was_asked_and_by_their_time() {
        let stats = ApiStats::default();
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let rows = [(Some(200), 3, 10), (Some(200), 5, 20), (Some(503), 6, 30), (None, 15_001, 40)];
        for (code, millis, now) in rows {
            stats.record_request((ApiVerb::Get, "nodes", code), Duration::from_millis(millis), at(now));
        }
        let expected: [(ApiRequest, u64); 3] = [
            ((ApiVerb::Get, "nodes", None), 1),
            ((ApiVerb::Get, "nodes", Some(200)), 2),
            ((ApiVerb::Get, "nodes", Some(503)), 1),
        ];
        assert_eq!(stats.requests(), expected);
        assert_eq!(stats.times(ApiVerb::Get).buckets, [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(stats.times(ApiVerb::Get).sum, Duration::from_millis(15_015));
        assert_eq!(stats.times(ApiVerb::List), ApiTimes::default());
        assert_eq!(stats.last_success(), Some(at(20)), "an error is no success");
        for (index, verb) in ApiVerb::ALL.into_iter().enumerate() {
            assert_eq!(verb as usize, index, "{verb:?}");
        }
    }
}
