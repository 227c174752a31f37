//! What the masquerade rules count is read when somebody asks for metrics, and then not too often.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use trimtab::metrics::Metrics;
use trimtab::ports::traffic::{RuleCounters, Traffic};
use trimtab::subsystems::masquerade::Masquerade;
use trimtab_domain::masquerade::{Backend, CountedChain, RuleCount};
use trimtab_domain::spec::{IpMasqSpec, NodeSpec};

use crate::laws;
use crate::support::fake_ledger::FakeLedger;
use crate::support::fake_masq_config::FakeMasqConfig;
use crate::support::fake_nat::FakeNat;
use crate::support::server::{SUBSYSTEMS, metric_in};

/// Every rule has counted as many packets as the test says.
#[derive(Default)]
struct FakeCounters {
    reads: AtomicUsize,
    packets: AtomicU64,
}

impl RuleCounters for FakeCounters {
    fn read(&self, chain: &CountedChain) -> Option<Vec<RuleCount>> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let packets = self.packets.load(Ordering::SeqCst);
        Some((0..).zip(&chain.rules).map(|(rule, _)| RuleCount { rule, packets }).collect())
    }
}

#[tokio::test(start_paused = true)]
async fn the_kernel_is_asked_by_scrapes_alone_and_at_most_every_few_seconds() {
    for backend in [Backend::Nft, Backend::Native] {
        let counters = Arc::new(FakeCounters::default());
        let traffic = Arc::new(Traffic::new(Arc::clone(&counters) as Arc<dyn RuleCounters>));
        let metrics = Metrics::new("1.2.3", &SUBSYSTEMS);
        metrics.show_traffic(Arc::clone(&traffic));
        let (nat, files) = (Arc::new(FakeNat::new(backend)), Arc::new(FakeMasqConfig::new()));
        let subsystem = Masquerade::new(nat, Arc::new(FakeLedger::new()), files).counting(traffic);
        let wish = NodeSpec { ip_masq: Some(IpMasqSpec::default()), ..NodeSpec::default() };
        let shown = || {
            let text = metrics.to_text().unwrap();
            let masqueraded = "trimtab_masquerade_connections_total{family=\"ipv4\",rule=\"masquerade\"}";
            let other_family = "trimtab_masquerade_connections_total{family=\"ipv6\",rule=\"masquerade\"}";
            assert!(metric_in(&text, other_family).abs() < f64::EPSILON, "{text}");
            metric_in(&text, masqueraded)
        };
        assert!(shown().abs() < f64::EPSILON, "nothing is held yet");
        let pass = laws::pass(&subsystem, &wish).await;
        assert!(pass.failures.is_empty() && pass.left.is_empty());
        counters.packets.store(7, Ordering::SeqCst);
        for _ in 0..3 {
            laws::pass(&subsystem, &wish).await;
        }
        assert_eq!(counters.reads.load(Ordering::SeqCst), 0, "{backend:?}: idle passes read nothing");

        tokio::time::advance(Duration::from_secs(5)).await;
        for _ in 0..3 {
            assert!((shown() - 7.0).abs() < f64::EPSILON, "{backend:?}");
        }
        assert_eq!(counters.reads.load(Ordering::SeqCst), 1, "{backend:?}: one look for all of them");
        counters.packets.store(9, Ordering::SeqCst);
        tokio::time::advance(Duration::from_secs(5)).await;
        assert!((shown() - 9.0).abs() < f64::EPSILON, "{backend:?}");

        // Whatever was counted until the rules go is kept.
        counters.packets.store(11, Ordering::SeqCst);
        let pass = laws::pass(&subsystem, &NodeSpec::default()).await;
        assert!(pass.failures.is_empty() && pass.left.is_empty());
        assert!((shown() - 11.0).abs() < f64::EPSILON, "{backend:?}");
    }
}
