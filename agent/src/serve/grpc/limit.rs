//! A token bucket per peer, so that one eager client starves nobody else.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

use crate::serve::peer::Peer;

/// Peers that are remembered; beyond, those with a full bucket are forgotten, which changes nothing for them.
const MAX_PEERS: usize = 1024;

/// How many calls one process may make. The kubelet has one such bucket, 100 and 10, for all clients together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// Calls per second in the long run.
    pub per_second: u32,
    /// Calls that may come at once after a pause.
    pub burst: u32,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self { per_second: 100, burst: 10 }
    }
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    filled: Instant,
}

/// The buckets of all peers.
#[derive(Debug)]
pub(crate) struct PeerLimiter {
    limit: Option<RateLimit>,
    buckets: Mutex<BTreeMap<(u32, i32), Bucket>>,
}

impl PeerLimiter {
    /// `None` lets every call through.
    pub(crate) fn new(limit: Option<RateLimit>) -> Self {
        Self { limit, buckets: Mutex::default() }
    }

    /// Takes a token of the peer; false if there is none.
    pub(crate) fn admits(&self, peer: &Peer, now: Instant) -> bool {
        let Some(limit) = self.limit else { return true };
        let full = f64::from(limit.burst.max(1));
        let refilled = |bucket: &Bucket| {
            let gained = now.duration_since(bucket.filled).as_secs_f64() * f64::from(limit.per_second);
            (bucket.tokens + gained).min(full)
        };
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (peer.uid, peer.pid);
        if buckets.len() >= MAX_PEERS && !buckets.contains_key(&key) {
            buckets.retain(|_, bucket| refilled(bucket) < full);
            if buckets.len() >= MAX_PEERS {
                return false;
            }
        }
        let bucket = buckets.entry(key).or_insert(Bucket { tokens: full, filled: now });
        bucket.tokens = refilled(bucket);
        bucket.filled = now;
        if bucket.tokens < 1.0 {
            return false;
        }
        bucket.tokens -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::serve::peer::Access;

    fn peer(uid: u32, pid: i32) -> Peer {
        Peer { uid, gid: 0, pid, access: Access::Allowed }
    }

    #[test]
    fn burst_then_the_steady_rate() {
        let limiter = PeerLimiter::new(Some(RateLimit { per_second: 100, burst: 10 }));
        let start = Instant::now();
        let at_once = (0..11).filter(|_| limiter.admits(&peer(0, 1), start)).count();
        assert_eq!(at_once, 10, "the eleventh call at once is rejected");
        assert!(!limiter.admits(&peer(0, 1), start + Duration::from_millis(9)));
        assert!(limiter.admits(&peer(0, 1), start + Duration::from_millis(11)));
        let later = start + Duration::from_secs(60);
        let after_a_pause = (0..100).filter(|_| limiter.admits(&peer(0, 1), later)).count();
        assert_eq!(after_a_pause, 10, "a pause saves up no more than the burst");
    }

    #[test]
    fn one_peer_does_not_spend_the_tokens_of_another() {
        let limiter = PeerLimiter::new(Some(RateLimit { per_second: 1, burst: 1 }));
        let now = Instant::now();
        assert!(limiter.admits(&peer(0, 1), now));
        assert!(!limiter.admits(&peer(0, 1), now));
        assert!(limiter.admits(&peer(0, 2), now), "another process");
        assert!(limiter.admits(&peer(7, 1), now), "another user");
    }

    #[test]
    fn number_of_remembered_peers_is_bounded() {
        let limiter = PeerLimiter::new(Some(RateLimit { per_second: 1, burst: 1 }));
        let now = Instant::now();
        for pid in 1..=2000 {
            limiter.admits(&peer(0, pid), now);
        }
        assert_eq!(limiter.buckets.lock().expect("not poisoned").len(), MAX_PEERS);
        assert!(!limiter.admits(&peer(0, 5000), now), "no room while all buckets are in use");
        assert!(limiter.admits(&peer(0, 5000), now + Duration::from_secs(2)), "full buckets make room");
    }

    #[test]
    fn no_limit_admits_everything() {
        let limiter = PeerLimiter::new(None);
        let now = Instant::now();
        assert!((0..10_000).all(|_| limiter.admits(&peer(0, 1), now)));
    }
}
