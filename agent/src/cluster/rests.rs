//! Rests after faults of the agent itself: one that comes back at once on every node must be no load.

use std::time::Duration;

use crate::reconcile::backoff::spread;

/// First rest, and the longest: a start is about ten requests.
const FIRST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(600);
/// What has gone well for so long is forgiven.
const WELL: Duration = Duration::from_secs(3600);

/// How long to rest after the next fault.
#[derive(Debug, Default)]
pub(super) struct Rests {
    faults: u32,
}

impl Rests {
    /// A fault after this time; how long to rest, between one half and the whole of the nominal rest.
    pub(super) fn after(&mut self, lived: Duration) -> Duration {
        if lived >= WELL {
            self.faults = 0;
        }
        let nominal = FIRST.saturating_mul(1 << self.faults.min(8)).min(LONGEST);
        self.faults = self.faults.saturating_add(1);
        nominal / 2 + spread(nominal / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_grow_to_ten_minutes_and_an_hour_without_fault_is_a_new_beginning() {
        let mut rests = Rests::default();
        for nominal in [5, 10, 20, 40, 80, 160, 320, 600, 600].map(Duration::from_secs) {
            let rest = rests.after(Duration::from_secs(3599));
            assert!(rest >= nominal / 2 && rest <= nominal, "{rest:?} of {nominal:?}");
        }
        assert!(rests.after(WELL) <= FIRST);
    }
}
