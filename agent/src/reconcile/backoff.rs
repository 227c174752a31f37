//! Growing, jittered pauses after failures.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// First pause after a failure.
const FIRST: Duration = Duration::from_millis(100);
/// Longest pause between two tries.
const LONGEST: Duration = Duration::from_secs(60);

/// The pause before the next try; doubles with every failure.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// A failure more; returns how long to wait, between one half and the whole of the nominal pause.
    pub fn failed(&mut self) -> Duration {
        let nominal = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        nominal / 2 + spread(nominal / 2)
    }

    /// Success: the next failure starts with the first pause.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }
}

/// A random part of `most`, so that thousands of nodes do not act in step.
#[must_use]
pub fn spread(most: Duration) -> Duration {
    // The standard library seeds each RandomState from the system's randomness.
    let random = RandomState::new().build_hasher().finish();
    let permille = u32::try_from(random % 1001).unwrap_or(0);
    most * permille / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_minute_and_start_anew_after_success() {
        let mut backoff = Backoff::default();
        let mut nominal = FIRST;
        for failure in 0..20 {
            let pause = backoff.failed();
            assert!(pause >= nominal / 2 && pause <= nominal, "failure {failure}: {pause:?}");
            nominal = (nominal * 2).min(LONGEST);
        }
        backoff.succeeded();
        assert!(backoff.failed() <= FIRST);
    }
}
