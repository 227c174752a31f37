//! Pauses between requests that fail: long enough that thousands of agents together are no load.

use std::time::Duration;

use crate::adapters::api_server::ApiError;
use crate::reconcile::backoff::spread;

/// First pause after a failure, and the longest.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// Pause where nothing changes by itself: the kind is not served, the role does not permit it.
const SETTLED: Duration = Duration::from_secs(120);

/// The pause before the next try; doubles with every failure.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    failures: u32,
}

impl Pauses {
    /// A failure more; how long to wait, between one half and the whole of the nominal pause.
    pub(super) fn failed(&mut self, error: &ApiError) -> Duration {
        let grown = FIRST.saturating_mul(1 << self.failures.min(8)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        let nominal = match error {
            ApiError::Absent { .. } | ApiError::Forbidden { .. } => SETTLED,
            ApiError::Throttled { after, .. } => grown.max(*after * 2),
            _ => grown,
        };
        nominal / 2 + spread(nominal / 2)
    }

    /// True if the last try was a success, or there was none.
    pub(super) fn is_first(&self) -> bool {
        self.failures == 0
    }

    /// Success: the next failure starts with the first pause.
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn away() -> ApiError {
        ApiError::Away { detail: String::new() }
    }

    #[test]
    fn pauses_grow_to_a_minute_and_start_anew_after_success() {
        let mut pauses = Pauses::default();
        for nominal in [1, 2, 4, 8, 16, 32, 60, 60].map(Duration::from_secs) {
            let pause = pauses.failed(&away());
            assert!(pause >= nominal / 2 && pause <= nominal, "{pause:?} of {nominal:?}");
        }
        pauses.succeeded();
        assert!(pauses.failed(&away()) <= FIRST);
    }

    #[test]
    fn a_server_that_says_when_is_never_asked_before() {
        for seconds in [1, 30, 300] {
            let after = Duration::from_secs(seconds);
            let throttled = ApiError::Throttled { after, detail: String::new() };
            assert!(Pauses::default().failed(&throttled) >= after);
        }
    }
}
