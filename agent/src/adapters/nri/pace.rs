//! When a registration may be made: each one can hold up the node (containerd issue 14083), so they are few.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::registration_book::RegistrationBook;
use crate::ports::admission::Terminations;
use crate::ports::nri_stats::{NriStats, RegistrationWait};

/// Registrations within [`WINDOW`], besides the first of all.
const MOST: usize = 3;
const WINDOW: Duration = Duration::from_secs(600);
/// A container that ends within this time is not waited for.
const SHORT: Duration = Duration::from_secs(2);
/// Longest wait for containers that are being stopped: after it new containers running unpinned are the worse evil.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Pause between two looks at the containers that are being stopped.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Pauses between attempts to connect.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Registrations that were made.
#[derive(Default)]
pub(super) struct Registrations {
    book: Option<RegistrationBook>,
    first_made: bool,
    recent: VecDeque<Instant>,
}

impl Registrations {
    /// Goes on where the agent before this one ended, as far as its book tells.
    pub(super) fn resume(book: Option<RegistrationBook>) -> Self {
        let now = Instant::now();
        let ages = book.as_ref().map(|book| book.ages(SystemTime::now())).unwrap_or_default();
        let known = ages.into_iter().filter(|age| *age < WINDOW).filter_map(|age| now.checked_sub(age));
        let mut recent: VecDeque<Instant> = known.collect();
        let first_made = !recent.is_empty();
        while recent.len() > MOST {
            recent.pop_front();
        }
        Self { book, first_made, recent }
    }

    /// When the next one may be made.
    pub(super) fn next_at(&self, now: Instant) -> Instant {
        match self.recent.front() {
            Some(oldest) if self.recent.len() >= MOST => now.max(*oldest + WINDOW),
            _ => now,
        }
    }

    /// One is being made.
    pub(super) fn record(&mut self, now: Instant) {
        let counts = std::mem::replace(&mut self.first_made, true);
        if let Some(book) = &self.book {
            let ages = self.recent.iter().map(|made| now.saturating_duration_since(*made));
            book.keep(SystemTime::now(), ages.chain([Duration::ZERO]));
        }
        if counts {
            self.recent.push_back(now);
        }
        if self.recent.len() > MOST {
            self.recent.pop_front();
        }
    }

    /// Waits until the next one may be made.
    pub(super) async fn wait(&self, stats: &NriStats, cancel: &CancellationToken) {
        let now = Instant::now();
        let at = self.next_at(now);
        if at > now {
            warn!(
                seconds = (at - now).as_secs(),
                "registered with the container runtime {MOST} times within {} min; new containers are pinned after \
                 their start until the next time",
                WINDOW.as_secs() / 60,
            );
            tokio::select! { () = tokio::time::sleep_until(at) => {}, () = cancel.cancelled() => {} }
            stats.record_wait(RegistrationWait::Rate, now.elapsed());
        }
    }
}

/// Waits, bounded, while a container with much time left is being stopped.
pub(super) async fn wait_for_terminations(
    terminations: &Arc<dyn Terminations>,
    stats: &NriStats,
    cancel: &CancellationToken,
) {
    let began = Instant::now();
    let long = async || terminations.longest_remaining().await.filter(|left| *left > SHORT);
    let Some(left) = long().await else { return };
    info!(seconds = left.as_secs(), "a container is being stopped; registering with the runtime waits for it");
    loop {
        tokio::select! { () = tokio::time::sleep(LOOK_AGAIN) => {}, () = cancel.cancelled() => break }
        if long().await.is_none() {
            break;
        }
        if began.elapsed() >= LONGEST_WAIT {
            warn!(
                seconds = LONGEST_WAIT.as_secs(),
                "registering with the container runtime although a container is still being stopped: other containers \
                 may start late, which is better than unpinned"
            );
            break;
        }
    }
    stats.record_wait(RegistrationWait::Terminating, began.elapsed());
}

/// Growing pauses.
#[derive(Debug)]
pub(super) struct Pauses {
    next: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        Self { next: FIRST_PAUSE }
    }
}

impl Pauses {
    /// The next pause; the one after is twice as long.
    pub(super) fn next(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(LONGEST_PAUSE);
        pause
    }

    /// Begins anew.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests;
