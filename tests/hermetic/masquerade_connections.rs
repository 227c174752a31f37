//! The subsystem `masquerade` warns before connections fail.

use std::sync::Arc;

use nix::errno::Errno;
use trimtab::metrics::Metrics;
use trimtab::reconcile::Subsystem;
use trimtab::reconcile::pass;
use trimtab::reconcile::report::SubsystemReport;
use trimtab::subsystems::masquerade::Masquerade;
use trimtab_domain::masquerade::Backend;
use trimtab_domain::plan::Severity;
use trimtab_domain::spec::IpMasqSpec;

use crate::support::fake_host::FakeHost;
use crate::support::fake_ledger::FakeLedger;
use crate::support::fake_masq_config::FakeMasqConfig;
use crate::support::fake_nat::FakeNat;
use crate::support::server::{SUBSYSTEMS, metric_in, ready_report};

const COUNT: &str = "net.netfilter.nf_conntrack_count";
const MAX: &str = "net.netfilter.nf_conntrack_max";
const STAT: &str = "/proc/thread-self/net/stat/nf_conntrack";

type Found = (Severity, &'static str);
type Sub = Masquerade<FakeNat, FakeLedger>;

fn subsystem(host: &FakeHost) -> Sub {
    let nat = Arc::new(FakeNat::new(Backend::Nft));
    let config = Arc::new(FakeMasqConfig::new());
    Masquerade::new(nat, Arc::new(FakeLedger::new()), config).watching(Arc::new(host.clone()))
}

fn ip_masq() -> Option<IpMasqSpec> {
    Some(IpMasqSpec { masq_chain: "IP-MASQ-AGENT".into(), ..IpMasqSpec::default() })
}

/// One pass: what is found about connections, and its report.
async fn look(subsystem: &Sub, desired: &Option<IpMasqSpec>) -> (Vec<Found>, SubsystemReport) {
    let outcome = pass::run(subsystem, desired, |_| false, &Default::default()).await;
    assert!(outcome.failures.is_empty(), "{:?}", outcome.failures);
    let about = |code: &str| code.starts_with("conntrack-") || code.starts_with("source-ports-");
    let found = outcome.findings.iter().filter(|finding| about(finding.code));
    let found = found.map(|finding| (finding.severity, finding.code)).collect();
    (found, SubsystemReport { measures: outcome.measures, ..SubsystemReport::pending(Sub::NAME) })
}

fn stat(insert_failed: u32) -> String {
    format!("entries insert_failed drop\n00000009 {insert_failed:08x} 00000003\n00000009 00000000 00000001\n")
}

#[tokio::test]
async fn a_table_that_fills_and_connections_that_are_lost_are_told_and_shown() {
    let host = FakeHost::new();
    let subsystem = subsystem(&host);
    let rows: [(&str, u32, &[Found]); 5] = [
        ("79", 40, &[]),
        ("80", 139, &[(Severity::Warning, "conntrack-nearly-full")]),
        ("95", 139, &[(Severity::Error, "conntrack-full")]),
        ("95", 140, &[(Severity::Error, "conntrack-full"), (Severity::Warning, "source-ports-exhausted")]),
        ("10", 141, &[(Severity::Warning, "source-ports-exhausted")]),
    ];
    let metrics = Metrics::new("1.2.3", &SUBSYSTEMS);
    for (count, insert_failed, expected) in rows {
        host.sysctl(COUNT, count).sysctl(MAX, "100").file(STAT, stat(insert_failed));
        let (found, report) = look(&subsystem, &ip_masq()).await;
        assert_eq!(found, expected, "{count} {insert_failed}");
        let mut node = ready_report();
        node.subsystems = vec![Arc::new(report)];
        metrics.record_report(&node);
        let text = metrics.to_text().unwrap();
        let shown = ["entries", "entries_limit", "insert_failures_total", "drops_total"]
            .map(|name| metric_in(&text, &format!("trimtab_conntrack_{name}")));
        assert_eq!(shown, [count.parse().unwrap(), 100.0, f64::from(insert_failed), 4.0]);
    }
}

#[tokio::test]
async fn where_nothing_is_tracked_or_wished_for_nothing_is_said() {
    let host = FakeHost::new();
    let subsystem = subsystem(&host);
    let (found, report) = look(&subsystem, &ip_masq()).await;
    assert_eq!((found, report.measures.conntrack), (vec![], None), "no such files");

    host.sysctl(COUNT, "100").sysctl(MAX, "100");
    let (found, report) = look(&subsystem, &None).await;
    assert_eq!((found, report.measures.conntrack), (vec![], None), "no wish");
    let (found, report) = look(&subsystem, &ip_masq()).await;
    assert_eq!((found.len(), report.measures.conntrack.unwrap().entries), (1, 100), "the totals may be absent");

    host.fail_reads("/proc/sys/net/netfilter/nf_conntrack_max", Errno::EIO, 9);
    let (found, report) = look(&subsystem, &ip_masq()).await;
    assert_eq!((found, report.measures.conntrack), (vec![], None), "unreadable");
}
