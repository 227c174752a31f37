//! The subsystem `sysctl` on a node in memory.

mod giving_back;
mod refusing;
mod writing;

use std::collections::BTreeMap;
use std::sync::Arc;

use nix::errno::Errno;
use trimtab::subsystems::sysctl::Sysctl;
use trimtab_domain::plan::{Plan, Refusal};
use trimtab_domain::record::Record;
use trimtab_domain::spec::{NodeSpec, SysctlsSpec};
use trimtab_domain::sysctl::step::SysctlStep;

use crate::laws::{Fixture, Pass, dry_run, pass, prove_five_laws, texts};
use crate::support::fake_host::{Contents, FakeHost, sysctl_path};
use crate::support::fake_ledger::FakeLedger;

/// A node with the subsystem on it.
struct Node {
    host: FakeHost,
    ledger: FakeLedger,
    subsystem: Sysctl<FakeHost, FakeLedger>,
}

impl Node {
    fn new() -> Self {
        let (host, ledger) = (FakeHost::new(), FakeLedger::new());
        host.file("/proc/sys/kernel/osrelease", "6.8.0-31-generic\n");
        let subsystem = Sysctl::new(Arc::new(host.clone()), Arc::new(ledger.clone()));
        Self { host, ledger, subsystem }
    }

    /// A node with these keys.
    fn with(keys: &[(&str, &str)]) -> Self {
        let node = Self::new();
        for (key, value) in keys {
            node.host.sysctl(key, value);
        }
        node
    }

    /// The agent starts anew: only the node and the ledger remember.
    fn restart(&mut self) {
        self.subsystem = Sysctl::new(Arc::new(self.host.clone()), Arc::new(self.ledger.clone()));
    }

    async fn pass(&self, values: &[(&str, &str)]) -> Pass<SysctlStep> {
        pass(&self.subsystem, &spec(values)).await
    }

    async fn plan(&self, values: &[(&str, &str)]) -> Plan<SysctlStep> {
        dry_run(&self.subsystem, &spec(values)).await
    }

    /// A pass after which nothing is left to do.
    async fn settle(&self, values: &[(&str, &str)]) -> Pass<SysctlStep> {
        let pass = self.pass(values).await;
        let failures: Vec<&String> = pass.failures.iter().map(|(_, cause)| cause).collect();
        assert!(failures.is_empty(), "{failures:?}");
        assert!(pass.left.is_empty(), "left: {:?}", texts(&pass.left));
        pass
    }

    fn shows(&self, key: &str) -> String {
        self.host.text(sysctl_path(key)).unwrap_or_else(|| panic!("{key} is absent"))
    }

    fn record(&self, key: &str) -> Option<Record> {
        self.ledger.record("sysctl", key)
    }
}

fn spec(values: &[(&str, &str)]) -> NodeSpec {
    let values = values.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
    NodeSpec { sysctls: SysctlsSpec { values, policy: None }, ..NodeSpec::default() }
}

/// The steps that write to the node.
fn writes(plan: &Plan<SysctlStep>) -> Vec<String> {
    texts(plan).into_iter().filter(|text| !text.starts_with("ledger")).collect()
}

fn causes(refusals: &[Refusal]) -> Vec<(&str, &str)> {
    refusals.iter().map(|refusal| (refusal.object.as_str(), refusal.cause.as_str())).collect()
}

/// Independent keys, a vector, a clamped value, a group in order, a glob.
struct Lawful(Node);

const LAWFUL: &[(&str, &str)] = &[
    ("net.core.somaxconn", "16384"),
    ("net.ipv4.conf.*.rp_filter", "2"),
    ("net.ipv4.tcp_rmem", "4096 131072 16777216"),
    ("net.core.rmem_max", "16777216"),
    ("vm.max_map_count", "99999999999"),
    ("vm.dirty_bytes", "400000000"),
];

fn lawful() -> Lawful {
    let node = Node::with(&[
        ("net.core.somaxconn", "4096"),
        ("net.ipv4.conf.all.rp_filter", "0"),
        ("net.ipv4.conf.eth0.rp_filter", "1"),
        ("net.ipv4.conf.eno2/100.rp_filter", "2"),
        ("net.ipv4.tcp_rmem", "4096\t131072\t6291456"),
        ("net.core.rmem_max", "212992"),
        ("vm.max_map_count", "65530"),
        ("vm.dirty_bytes", "0"),
        ("vm.dirty_ratio", "20"),
    ]);
    node.host.shows_tabs(sysctl_path("net.ipv4.tcp_rmem"));
    node.host.clamps(sysctl_path("vm.max_map_count"), 0, 2_147_483_647);
    zeroing_pair(&node.host, "vm.dirty_bytes", "vm.dirty_ratio");
    Lawful(node)
}

/// As mm/page-writeback.c has it: a write to one sets the other to 0, and bytes must be two pages at least.
fn zeroing_pair(host: &FakeHost, bytes: &str, ratio: &str) {
    let zero = |other: &str| {
        let other = sysctl_path(other);
        move |contents: &mut Contents| contents.insert(other.clone(), "0\n".into())
    };
    let (zero_ratio, zero_bytes) = (zero(ratio), zero(bytes));
    host.on_write(sysctl_path(bytes), move |text, contents| {
        let number: u64 = text.trim().parse().map_err(|_| Errno::EINVAL)?;
        if number < 8192 {
            return Err(Errno::EINVAL);
        }
        zero_ratio(contents);
        Ok(number.to_string())
    });
    host.on_write(sysctl_path(ratio), move |text, contents| {
        zero_bytes(contents);
        Ok(text.trim().to_owned())
    });
}

impl Fixture for Lawful {
    type Sub = Sysctl<FakeHost, FakeLedger>;
    type State = (Contents, BTreeMap<(String, String), Record>);

    fn subsystem(&self) -> &Self::Sub {
        &self.0.subsystem
    }

    fn spec(&self) -> NodeSpec {
        spec(LAWFUL)
    }

    fn state(&self) -> Self::State {
        (self.0.host.snapshot(), self.0.ledger.snapshot())
    }

    fn attempts(&self) -> Option<usize> {
        Some(self.0.host.attempts())
    }

    fn drift(&self) {
        self.0.host.write_by_other(sysctl_path("net.core.somaxconn"), "128");
        self.0.host.write_by_other(sysctl_path("vm.max_map_count"), "70000");
        self.0.host.write_by_other(sysctl_path("vm.dirty_ratio"), "10");
    }

    fn break_one(&self) -> Option<String> {
        self.0.host.fail_writes(sysctl_path("net.core.somaxconn"), Errno::EIO, usize::MAX);
        Some("net.core.somaxconn".into())
    }

    fn repair(&self) {
        self.0.host.repair();
    }
}

#[tokio::test]
async fn the_five_laws_hold() {
    prove_five_laws(lawful).await;
}

#[tokio::test]
async fn every_report_classifies_as_the_kubelet_does() {
    use trimtab::reconcile::Subsystem;
    let keys = [
        ("net.ipv4.tcp_syncookies", "1", "safe", "network namespace"),
        ("net.ipv4.tcp_rmem", "1 2 3", "safe", "network namespace"),
        ("net.core.somaxconn", "1", "unsafe", "network namespace"),
        ("kernel.shmmax", "1", "unsafe", "IPC namespace"),
        ("kernel.shm_rmid_forced", "1", "safe", "IPC namespace"),
        ("vm.swappiness", "1", "not settable by pods", "node"),
        ("kernel.hostname", "a", "not settable by pods", "node"),
    ];
    let wished: Vec<(&str, &str)> = keys.iter().map(|&(key, value, ..)| (key, value)).collect();
    let node = Node::with(&wished);
    let spec = spec(&wished);
    let seen = node.subsystem.observe(&spec.sysctls).await.unwrap();
    let objects = Sysctl::<FakeHost, FakeLedger>::objects(&spec.sysctls, &seen);
    for (key, _, class, scope) in keys {
        let object = objects.iter().find(|object| object.object == key).unwrap();
        assert_eq!(object.attributes, [("class", class.to_owned()), ("scope", scope.to_owned())], "{key}");
    }
}

#[tokio::test]
async fn held_files_and_interfaces_are_watched() {
    use trimtab::ports::Watch;
    use trimtab::reconcile::Subsystem;
    let node = Node::with(&[("net.core.somaxconn", "1"), ("net.ipv4.conf.eth0.rp_filter", "1")]);
    let spec = spec(&[("net.core.somaxconn", "1"), ("net.ipv4.conf.*.rp_filter", "1"), ("net.core.absent", "1")]);
    let seen = node.subsystem.observe(&spec.sysctls).await.unwrap();
    let watches = Sysctl::<FakeHost, FakeLedger>::watches(&spec.sysctls, &seen);
    assert_eq!(
        watches,
        [
            Watch::File("/proc/sys/net/core/somaxconn".into()),
            Watch::File("/proc/sys/net/ipv4/conf/eth0/rp_filter".into()),
            Watch::Interfaces,
        ]
    );
}
