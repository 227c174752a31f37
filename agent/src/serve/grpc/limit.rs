//! A token bucket per peer, so that one eager client starves nobody else, and one for all of them together.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

use crate::serve::peer::{Identity, Peer};

/// Peers that are remembered; beyond, those with a full bucket are forgotten, which changes nothing for them.
const MAX_PEERS: usize = 1024;

/// How much more all peers together may do than one of them.
const ALL_PEERS: f64 = 10.0;

/// How many calls one process or one client certificate may make, or one connection where the process is not known; all together ten times that.
/// The kubelet has one bucket, 100 and 10, for all clients together.
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

impl RateLimit {
    fn full(self) -> f64 {
        f64::from(self.burst.max(1))
    }
}

/// Whose bucket it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Process { uid: u32, pid: i32 },
    Certificate(Arc<[String]>),
    Connection(u64),
}

impl Key {
    fn of(peer: &Peer) -> Self {
        match &peer.identity {
            Identity::Process { uid, pid, .. } if *pid > 0 => Self::Process { uid: *uid, pid: *pid },
            Identity::Process { .. } => Self::Connection(peer.connection),
            Identity::Certificate { names, .. } => Self::Certificate(Arc::clone(names)),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    /// Tokens that are in it now, if it gains so many per second and holds so many.
    fn level(&self, per_second: f64, full: f64, now: Instant) -> f64 {
        let gained = now.saturating_duration_since(self.filled).as_secs_f64() * per_second;
        (self.tokens + gained).min(full)
    }

    /// Takes a token; false if there is none.
    fn take(&mut self, per_second: f64, full: f64, now: Instant) -> bool {
        self.tokens = self.level(per_second, full, now);
        self.filled = now;
        let enough = self.tokens >= 1.0;
        if enough {
            self.tokens -= 1.0;
        }
        enough
    }
}

#[derive(Debug, Default)]
struct Buckets {
    peers: BTreeMap<Key, Bucket>,
    /// `None` before the first call.
    all: Option<Bucket>,
}

/// The buckets.
#[derive(Debug)]
pub(crate) struct PeerLimiter {
    limit: Option<RateLimit>,
    buckets: Mutex<Buckets>,
}

impl PeerLimiter {
    /// `None` lets every call through.
    pub(crate) fn new(limit: Option<RateLimit>) -> Self {
        Self { limit, buckets: Mutex::default() }
    }

    /// Takes a token of the peer and one of the common bucket; false if either is empty.
    pub(crate) fn admits(&self, peer: &Peer, now: Instant) -> bool {
        let Some(limit) = self.limit else { return true };
        let (per_second, full) = (f64::from(limit.per_second), limit.full());
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let key = Key::of(peer);
        if buckets.peers.len() >= MAX_PEERS && !buckets.peers.contains_key(&key) {
            buckets.peers.retain(|_, bucket| bucket.level(per_second, full, now) < full);
            if buckets.peers.len() >= MAX_PEERS {
                return false;
            }
        }
        let of_peer = buckets.peers.entry(key).or_insert(Bucket { tokens: full, filled: now });
        if !of_peer.take(per_second, full, now) {
            return false;
        }
        let of_all = buckets.all.get_or_insert(Bucket { tokens: full * ALL_PEERS, filled: now });
        of_all.take(per_second * ALL_PEERS, full * ALL_PEERS, now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::serve::peer::{Access, Rights};

    fn peer(uid: u32, pid: i32) -> Peer {
        let identity = Identity::Process { uid, gid: 0, pid };
        Peer { identity, connection: 0, access: Access::Allowed, rights: Rights::Read }
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
    fn peer_of_unknown_process_has_the_bucket_of_its_connection() {
        let limiter = PeerLimiter::new(Some(RateLimit { per_second: 1, burst: 1 }));
        let now = Instant::now();
        let connection = |connection| Peer { connection, ..peer(0, 0) };
        assert!(limiter.admits(&connection(1), now));
        assert!(!limiter.admits(&connection(1), now));
        assert!(limiter.admits(&connection(2), now));
    }

    #[test]
    fn all_peers_together_have_a_limit_too() {
        let limiter = PeerLimiter::new(Some(RateLimit { per_second: 1, burst: 3 }));
        let start = Instant::now();
        let admitted = (1..=100).filter(|pid| limiter.admits(&peer(0, *pid), start)).count();
        assert_eq!(admitted, 30, "ten times the burst of one");
        let later = start + Duration::from_secs(1);
        let admitted = (101..=200).filter(|pid| limiter.admits(&peer(0, *pid), later)).count();
        assert_eq!(admitted, 10, "ten times the rate of one");
    }

    #[test]
    fn number_of_remembered_peers_is_bounded() {
        let limiter = PeerLimiter::new(Some(RateLimit { per_second: 1, burst: 1 }));
        let now = Instant::now();
        for pid in 1..=2000 {
            limiter.admits(&peer(0, pid), now);
        }
        assert_eq!(limiter.buckets.lock().expect("not poisoned").peers.len(), MAX_PEERS);
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
