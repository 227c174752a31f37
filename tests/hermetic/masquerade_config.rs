//! The files of the masquerade agents under the subsystem: what is in force, what stays in force, what is said.

mod bad;
mod instead;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use trimtab::reconcile::pass::{self, Outcome};
use trimtab::subsystems::masquerade::Masquerade;
use trimtab_domain::masquerade::{Backend, Family, TableId};
use trimtab_domain::spec::ip_masq::{Compat, ConfigSource};
use trimtab_domain::spec::{IpMasqSpec, NodeSpec};

use crate::laws;
use crate::support::fake_ledger::FakeLedger;
use crate::support::fake_masq_config::FakeMasqConfig;
use crate::support::fake_nat::FakeNat;

const V4: TableId = TableId { family: Family::V4, backend: Backend::Nft };
const V6: TableId = TableId { family: Family::V6, backend: Backend::Nft };
/// Where the files would lie.
const FILE: &str = "/etc/config/ip-masq-agent";
const DIRECTORY: &str = "/etc/config";

/// An agent on a node, whose state outlives it.
struct Node {
    nat: FakeNat,
    ledger: FakeLedger,
    config: FakeMasqConfig,
    subsystem: Masquerade<FakeNat, FakeLedger>,
}

impl Node {
    fn new() -> Self {
        Self::on(FakeNat::new(Backend::Nft), FakeLedger::new(), FakeMasqConfig::new())
    }

    fn on(nat: FakeNat, ledger: FakeLedger, config: FakeMasqConfig) -> Self {
        let subsystem = Masquerade::new(Arc::new(nat.clone()), Arc::new(ledger.clone()), Arc::new(config.clone()));
        Self { nat, ledger, config, subsystem }
    }

    /// The agent ends, another one starts.
    fn restarted(self) -> Self {
        Self::on(self.nat, self.ledger, self.config)
    }

    async fn pass(&self, spec: &IpMasqSpec) -> Outcome {
        pass::run(&self.subsystem, &Some(spec.clone()), |_| false, &CancellationToken::new()).await
    }

    async fn converge(&self, spec: &IpMasqSpec) -> Outcome {
        let outcome = self.pass(spec).await;
        assert!(outcome.failures.is_empty() && outcome.refusals.is_empty() && !outcome.again, "{outcome:?}");
        outcome
    }

    /// Destinations of the chain's rules that exempt.
    fn exempt(&self, table: TableId) -> Vec<String> {
        let text = self.nat.print(table);
        let rules = text.lines().filter(|line| line.starts_with("-A IP-MASQ-AGENT") && line.ends_with("RETURN"));
        rules
            .map(|line| line.split_once("-d ").map_or("all", |(_, rest)| rest.split(' ').next().unwrap()).into())
            .collect()
    }
}

fn sigs() -> IpMasqSpec {
    IpMasqSpec {
        compat: Some(Compat::KubernetesSigs),
        config: Some(ConfigSource::File(FILE.into())),
        ..IpMasqSpec::default()
    }
}

fn azure() -> IpMasqSpec {
    IpMasqSpec {
        compat: Some(Compat::Azure),
        config: Some(ConfigSource::Directory(DIRECTORY.into())),
        random_fully: false,
        ..IpMasqSpec::default()
    }
}

#[tokio::test]
async fn a_file_that_changes_is_followed_and_one_that_goes_leaves_the_defaults() {
    let node = Node::new();
    node.converge(&sigs()).await;
    assert_eq!(node.exempt(V4), ["169.254.0.0/16", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]);
    node.config.file(Some("nonMasqueradeCIDRs: [9.0.0.0/8]\nmasqLinkLocal: true\n"));
    node.converge(&sigs()).await;
    assert_eq!(node.exempt(V4), ["9.0.0.0/8"]);
    node.config.file(None);
    node.converge(&sigs()).await;
    assert_eq!(node.exempt(V4).len(), 4);
}

#[tokio::test]
async fn the_interval_of_the_file_is_the_longest_time_to_the_next_pass() {
    let node = Node::new();
    assert_eq!(node.converge(&sigs()).await.resync, None);
    node.config.file(Some("resyncInterval: 1m30s\n"));
    assert_eq!(node.converge(&sigs()).await.resync.unwrap().as_secs(), 90);
    node.config.file(Some("resyncInterval: 0s\n"));
    let outcome = node.converge(&sigs()).await;
    assert_eq!(outcome.resync.unwrap().as_secs(), 1);
    assert!(outcome.findings.iter().any(|finding| finding.code == "masquerade-config-interval"));
}

#[tokio::test]
async fn a_bad_file_at_a_restart_falls_back_to_the_good_one_that_was_kept() {
    let node = Node::new();
    node.config.file(Some("nonMasqueradeCIDRs: [9.0.0.0/8]\n"));
    let steps = node.converge(&sigs()).await.steps;
    assert!(steps.iter().any(|step| step.step == format!("{FILE}: remember as the last good configuration")));
    node.config.file(Some("nonMasqueradeCIDRs: [9.0.0.1/8]\n"));
    let node = node.restarted();
    node.nat.other(V4, "*nat\n:IP-MASQ-AGENT - [0:0]\nCOMMIT\n");
    let outcome = node.pass(&sigs()).await;
    assert_eq!(node.exempt(V4), ["169.254.0.0/16", "9.0.0.0/8"]);
    assert_eq!((outcome.unready, outcome.refusals.len()), (None, 1));
    // The other agent's rules of files are no substitute.
    let outcome = node.restarted().pass(&IpMasqSpec { config: azure().config, ..sigs() }).await;
    assert!(outcome.refusals.is_empty(), "an empty directory is no error: {:?}", outcome.refusals);
}

#[tokio::test]
async fn a_full_disk_does_not_keep_good_files_from_being_used() {
    let node = Node::new();
    node.config.full(true);
    node.config.file(Some("nonMasqueradeCIDRs: [9.0.0.0/8]\n"));
    let outcome = node.pass(&sigs()).await;
    assert_eq!(node.exempt(V4), ["169.254.0.0/16", "9.0.0.0/8"]);
    assert!(outcome.failures[0].text.contains("cannot remember the masquerade configuration"), "{outcome:?}");
    node.config.full(false);
    node.converge(&sigs()).await;
    assert!(node.config.kept().is_some());
}

#[tokio::test]
async fn without_a_good_configuration_ever_the_node_is_left_as_it_is_and_the_agent_is_not_ready() {
    for bad in ["*", "nonMasqueradeCIDRs: [x]\n"] {
        let node = Node::new();
        node.nat.other(V4, "*nat\n:IP-MASQ-AGENT - [0:0]\n-A IP-MASQ-AGENT -j RETURN\nCOMMIT\n");
        let before = (node.nat.print(V4), node.ledger.snapshot());
        node.config.file(Some(bad));
        let outcome = node.pass(&sigs()).await;
        assert!(outcome.steps.is_empty() && outcome.refusals.len() == 1, "{outcome:?}");
        assert!(outcome.unready.unwrap().contains("no good configuration is known"));
        assert_eq!((node.nat.print(V4), node.ledger.snapshot()), before);
    }
    // What an earlier agent wrote is not given back either.
    let node = Node::new();
    node.converge(&IpMasqSpec { config: None, ..sigs() }).await;
    let before = node.nat.print(V4);
    node.config.unreadable("open /etc/config/ip-masq-agent: permission denied");
    let outcome = node.pass(&sigs()).await;
    assert!(outcome.steps.is_empty() && outcome.unready.is_some(), "{outcome:?}");
    assert_eq!(node.nat.print(V4), before);
}

#[tokio::test]
async fn a_leftover_beside_the_providers_file_and_what_is_passed_over_are_findings() {
    let rows: [(&[(&str, &str)], &str); 6] = [
        (
            &[("ip-masq-agent", "nonMasqueradeCIDRs: [10.244.0.0/16]"), ("ip-masq-agent-reconciled", "{}")],
            "masquerade-legacy-config",
        ),
        (&[("ip-masq-agent", "nonMasqueradeCIDR: [10.0.0.0/8]")], "masquerade-config-unknown-key"),
        (&[("ip-masq-agent", "masqLinkLocal: true")], "masquerade-config-empty"),
        (&[("ip-masq-agent", "nonMasqueradeCIDRs: [10.0.0.0/8]\nresyncInterval: 5s")], "masquerade-config-idle-key"),
        (
            &[("ip-masq-agent", "NonMasqueradeCIDRs: [10.0.0.0/8]\nnonMasqueradeCIDRs: [9.0.0.0/8]")],
            "masquerade-config-repeated-key",
        ),
        (&[("ip-masq-agent", "nonMasqueradeCIDRs: [10.0.0.0/8]")], "masquerade-hides-ipv6-clients"),
    ];
    for (files, code) in rows {
        let node = Node::new();
        node.config.directory(files);
        let outcome = node.converge(&IpMasqSpec { enable_ipv6: true, ..azure() }).await;
        assert!(outcome.findings.iter().any(|finding| finding.code == code), "{code}: {:?}", outcome.findings);
    }
}

#[tokio::test]
async fn a_dry_run_remembers_nothing() {
    let node = Node::new();
    node.config.file(Some("{}"));
    let spec = NodeSpec { ip_masq: Some(sigs()), ..NodeSpec::default() };
    let plan = laws::dry_run(&node.subsystem, &spec).await;
    assert!(!plan.is_empty() && node.config.kept().is_none());
}
