//! How much an agent may ask of the API server, whatever goes wrong in it: the last word after all pauses.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Requests that may go at once: three times what a start needs.
pub const BURST: u32 = 30;
/// Time per request after that, which is 5 a second, as much as a client of Go's library may make.
pub const APART: Duration = Duration::from_millis(200);

/// The budget; whoever asks is told how long to wait and waits in the order of asking.
#[derive(Debug, Default)]
pub(super) struct Budget {
    /// When all that was asked for will have been paid for (the generic cell rate algorithm).
    paid: Mutex<Option<Instant>>,
}

impl Budget {
    /// Takes one request; it may be made after this time.
    pub(super) fn take(&self) -> Duration {
        let now = Instant::now();
        let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
        let from = paid.map_or(now, |paid| paid.max(now));
        *paid = Some(from + APART);
        (from - now).saturating_sub(APART * (BURST - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_free_and_what_follows_is_spread_out() {
        let budget = Budget::default();
        for number in 0..BURST {
            assert_eq!(budget.take(), Duration::ZERO, "{number}");
        }
        assert_eq!([budget.take(), budget.take()], [APART, APART * 2]);
        tokio::time::advance(APART * 4).await;
        assert_eq!([budget.take(), budget.take(), budget.take()], [Duration::ZERO, Duration::ZERO, APART]);
        tokio::time::advance(Duration::from_secs(3600)).await;
        let free = (0..2 * BURST).filter(|_| budget.take().is_zero()).count();
        assert_eq!(free, BURST as usize, "what was not used does not add up");
    }
}
