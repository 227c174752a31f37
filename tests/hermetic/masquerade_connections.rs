//! The subsystem `masquerade` warns before connections fail.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::errno::Errno;
use trimtab::metrics::Metrics;
use trimtab::ports::connections::{ConnectionsError, TrackedConnections};
use trimtab::reconcile::Subsystem;
use trimtab::reconcile::pass;
use trimtab::reconcile::report::SubsystemReport;
use trimtab::subsystems::masquerade::Masquerade;
use trimtab_domain::masquerade::{Backend, Flow, PortProtocol, Route, Sample};
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
    Masquerade::new(nat, Arc::new(FakeLedger::new()), config).watching(Arc::new(host.clone()), None)
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

/// A table in which so many connections through one address go to one destination; `None`: it cannot be read.
#[derive(Clone, Default)]
struct FakeTable {
    ports: Arc<Mutex<Option<u16>>>,
    reads: Arc<AtomicUsize>,
}

impl TrackedConnections for FakeTable {
    fn sample(&self, at_most: usize) -> Result<Sample, ConnectionsError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let ports = self.ports.lock().unwrap().ok_or_else(|| ConnectionsError(io::Error::from(Errno::EOPNOTSUPP)))?;
        let route = Route {
            protocol: PortProtocol::Tcp,
            source: "198.51.100.1".parse().unwrap(),
            destination: "8.8.8.8".parse().unwrap(),
            destination_port: 443,
        };
        let flows: Vec<Flow> =
            (40_000..40_000 + ports).map(|port| Flow { route, port, is_translated: true }).take(at_most).collect();
        Ok(Sample { read: flows.len() as u64, flows, is_whole: true })
    }
}

#[tokio::test(start_paused = true)]
async fn ports_that_run_short_are_told_before_the_first_failure_and_the_table_is_read_only_then() {
    let (host, table) = (FakeHost::new(), FakeTable::default());
    let nat = Arc::new(FakeNat::new(Backend::Nft));
    let subsystem = Masquerade::new(nat, Arc::new(FakeLedger::new()), Arc::new(FakeMasqConfig::new()))
        .watching(Arc::new(host.clone()), Some(Arc::new(table.clone())));
    let to_ports = vec![(40_000, 40_099)];
    let wish = Some(IpMasqSpec { masq_chain: "IP-MASQ-AGENT".into(), to_ports, ..IpMasqSpec::default() });
    // Connections, ports in use, what is found, and how often the table was read by then.
    let (nearly, up) = ("source-ports-nearly-used-up", "source-ports-used-up");
    type Row<'a> = (&'a str, Option<u16>, &'a [Found], u64, usize);
    let rows: [Row<'_>; 6] = [
        ("49", Some(49), &[], 0, 0),
        ("50", Some(50), &[], 50, 1),
        ("5000", Some(80), &[(Severity::Warning, nearly)], 80, 2),
        ("5000", Some(95), &[(Severity::Error, up)], 95, 3),
        ("5000", None, &[(Severity::Info, "source-ports-unwatched")], 0, 4),
        ("20", Some(20), &[], 0, 4),
    ];
    let metrics = Metrics::new("1.2.3", &SUBSYSTEMS);
    for (count, ports, expected, used, reads) in rows {
        host.sysctl(COUNT, count).sysctl(MAX, "262144");
        *table.ports.lock().unwrap() = ports;
        // Passes may follow one another at once; the table is read with the first of them.
        for _ in 0..3 {
            let (found, report) = look(&subsystem, &wish).await;
            assert_eq!(found, expected, "{count} {ports:?}");
            assert_eq!(table.reads.load(Ordering::SeqCst), reads, "{count} {ports:?}");
            let mut node = ready_report();
            node.subsystems = vec![Arc::new(report)];
            metrics.record_report(&node);
            let text = metrics.to_text().unwrap();
            let shown = ["used", "limit"].map(|name| metric_in(&text, &format!("trimtab_source_ports_{name}")));
            assert_eq!(shown, [used as f64, 100.0], "{count} {ports:?}");
        }
        tokio::time::advance(Duration::from_secs(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn while_ports_may_run_short_the_next_look_comes_sooner() {
    let (host, table) = (FakeHost::new(), FakeTable::default());
    *table.ports.lock().unwrap() = Some(0);
    let nat = Arc::new(FakeNat::new(Backend::Nft));
    let subsystem = Masquerade::new(nat, Arc::new(FakeLedger::new()), Arc::new(FakeMasqConfig::new()))
        .watching(Arc::new(host.clone()), Some(Arc::new(table)));
    let wish = |interval| Some(IpMasqSpec { resync_interval: interval, ..ip_masq().unwrap() });
    let (short, long) = (Some(Duration::from_secs(5)), Some(Duration::from_secs(300)));
    // Half of the 64,512 ports that the kernel chooses from.
    let rows = [
        ("32255", None, None),
        ("32255", long, long),
        ("32256", None, Some(Duration::from_secs(30))),
        ("32256", long, Some(Duration::from_secs(30))),
        ("32256", short, short),
    ];
    for (count, interval, expected) in rows {
        host.sysctl(COUNT, count).sysctl(MAX, "262144");
        let outcome = pass::run(&subsystem, &wish(interval), |_| false, &Default::default()).await;
        assert_eq!(outcome.resync, expected, "{count} {interval:?}");
    }
}
