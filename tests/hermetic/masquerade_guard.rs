//! The guard of the metadata service on tables in memory: the five laws with each back end, and whose chains it touches.

use std::sync::Arc;

use trimtab::reconcile::Subsystem;
use trimtab::subsystems::masquerade::Masquerade;
use trimtab_domain::masquerade::{
    Answer, Backend, Family, GuardView, MetadataBlock, PortProtocol, Ports, TableId, guard_object,
};
use trimtab_domain::plan::Cause;
use trimtab_domain::record::Record;
use trimtab_domain::spec::{IpMasqSpec, NodeSpec};

use crate::laws::{self, Fixture, texts};
use crate::support::fake_ledger::FakeLedger;
use crate::support::fake_masq_config::FakeMasqConfig;
use crate::support::fake_nat::FakeNat;

const V4: TableId = TableId { family: Family::V4, backend: Backend::Nft };
const JUMP: &str =
    "-A FORWARD -d 169.254.169.254/32 -m comment --comment \"trimtab: metadata service\" -j TRIMTAB-METADATA";

struct Node {
    nat: FakeNat,
    ledger: FakeLedger,
    subsystem: Masquerade<FakeNat, FakeLedger>,
}

impl Node {
    fn new(backend: Backend) -> Self {
        let (nat, ledger) = (FakeNat::new(backend), FakeLedger::new());
        let files = Arc::new(FakeMasqConfig::new());
        let subsystem = Masquerade::new(Arc::new(nat.clone()), Arc::new(ledger.clone()), files);
        Self { nat, ledger, subsystem }
    }

    fn load(&self, table: TableId, lines: &[&str]) {
        self.nat.other(table, &format!("*filter\n{}\nCOMMIT\n", lines.join("\n")));
    }

    async fn converge(&self, spec: &NodeSpec) {
        let pass = laws::pass(&self.subsystem, spec).await;
        assert!(pass.failures.is_empty(), "{:?}", pass.failures);
        assert!(pass.left.is_empty(), "{:?}", texts(&pass.left));
    }

    fn forward(&self, table: TableId) -> Vec<String> {
        let text = self.nat.print_filter(table);
        text.lines().filter(|line| line.starts_with("-A FORWARD")).map(str::to_owned).collect()
    }
}

fn wish(metadata: Option<MetadataBlock>) -> NodeSpec {
    let mut spec = IpMasqSpec { enable_ipv6: true, ..IpMasqSpec::default() };
    spec.beyond.metadata = metadata;
    NodeSpec { ip_masq: Some(spec), ..NodeSpec::default() }
}

fn block() -> Option<MetadataBlock> {
    Some(MetadataBlock {
        addresses: MetadataBlock::ADDRESSES.to_vec(),
        except_sources: vec!["10.9.0.0/16".parse().unwrap(), "10.9.1.0/24".parse().unwrap()],
        except_ports: vec![Ports { protocol: PortProtocol::Udp, first: 53, last: 53 }],
        except_interfaces: vec!["wg0".into()],
        answer: Answer::Reject,
    })
}

impl Fixture for Node {
    type Sub = Masquerade<FakeNat, FakeLedger>;
    type State = (Vec<String>, Vec<Record>);

    fn subsystem(&self) -> &Self::Sub {
        &self.subsystem
    }

    fn spec(&self) -> NodeSpec {
        wish(block())
    }

    fn state(&self) -> Self::State {
        let backend = self.nat.backend_in_use();
        let tables = Family::ALL.map(|family| TableId { family, backend });
        let texts = tables.map(|table| self.nat.print(table) + &self.nat.print_filter(table));
        (texts.into(), self.ledger.snapshot().into_values().collect())
    }

    fn attempts(&self) -> Option<usize> {
        Some(self.nat.counts().1)
    }

    fn drift(&self) {
        let backend = self.nat.backend_in_use();
        if backend == Backend::Native {
            self.nat.other_guard(Family::V4, GuardView::Absent);
            return self.nat.other_guard(Family::V6, GuardView::Odd("other rules".into()));
        }
        self.load(TableId { family: Family::V4, backend }, &[&JUMP.replacen("-A", "-D", 1)]);
        self.load(TableId { family: Family::V6, backend }, &[":TRIMTAB-METADATA - [0:0]"]);
    }

    fn break_one(&self) -> Option<String> {
        self.nat.lock_filter(Some(Family::V4));
        Some(guard_object(TableId { family: Family::V4, backend: self.nat.backend_in_use() }))
    }

    fn repair(&self) {
        self.nat.lock_filter(None);
    }
}

#[tokio::test]
async fn the_five_laws_hold() {
    for backend in [Backend::Nft, Backend::Legacy, Backend::Native] {
        laws::prove_five_laws(|| Node::new(backend)).await;
    }
}

#[tokio::test]
async fn the_jump_comes_first_and_the_chain_has_its_exceptions_in_order() {
    let node = Node::new(Backend::Nft);
    let foreign = "-A FORWARD -o cni0 -j ACCEPT";
    node.load(V4, &[foreign]);
    node.converge(&wish(block())).await;
    assert_eq!(node.forward(V4), [JUMP, foreign]);
    let text = node.nat.print_filter(V4);
    let rules: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("-A TRIMTAB-METADATA ")).collect();
    let starts = ["-s 10.9.0.0/16 ", "-p udp -m udp --dport 53 ", "-i wg0 ", "-m comment "];
    assert_eq!(rules.len(), starts.len(), "{rules:?}");
    assert!(rules.iter().zip(starts).all(|(rule, start)| rule.starts_with(start)), "{rules:?}");
    assert!(rules[3].ends_with("-j REJECT --reject-with icmp-admin-prohibited"), "{rules:?}");
    // Where somebody puts a rule ahead of it, it stays, and what passes is told.
    node.load(V4, &["-I FORWARD 1 -s 10.0.0.0/8 -j ACCEPT"]);
    let plan = laws::dry_run(&node.subsystem, &wish(block())).await;
    assert!(plan.is_empty(), "{:?}", texts(&plan));
    let codes: Vec<_> = plan.findings.iter().map(|finding| finding.code).collect();
    assert!(codes.contains(&"metadata-block-passed-by"), "{codes:?}");
    node.load(V4, &["-D FORWARD -s 10.0.0.0/8 -j ACCEPT", "-I FORWARD 1 -m conntrack --ctstate ESTABLISHED -j ACCEPT"]);
    let plan = laws::dry_run(&node.subsystem, &wish(block())).await;
    assert!(!plan.findings.iter().any(|finding| finding.code == "metadata-block-passed-by"), "{:?}", plan.findings);
}

#[tokio::test]
async fn a_chain_that_others_use_stays_until_they_let_go() {
    let node = Node::new(Backend::Nft);
    let before = node.nat.print_filter(V4);
    node.converge(&wish(block())).await;
    let theirs = "-A FORWARD -d 9.9.9.9/32 -j TRIMTAB-METADATA";
    node.load(V4, &[theirs]);
    let pass = laws::pass(&node.subsystem, &wish(None)).await;
    let [refusal] = pass.left.refusals.as_slice() else { panic!("{:?}", pass.left.refusals) };
    assert_eq!((refusal.cause, refusal.object.as_str()), (Cause::OwnedByOther, "ipv4/nft/filter/TRIMTAB-METADATA"));
    node.load(V4, &[&theirs.replacen("-A", "-D", 1)]);
    node.converge(&wish(None)).await;
    assert_eq!(node.nat.print_filter(V4), before);
    assert!(!node.ledger.snapshot().keys().any(|(_, object)| object.contains("METADATA")));
}

#[tokio::test]
async fn without_the_wish_table_filter_is_not_even_read() {
    let node = Node::new(Backend::Legacy);
    let before = node.nat.counts();
    let spec = wish(None);
    node.subsystem.observe(&spec.ip_masq).await.unwrap();
    assert_eq!(node.nat.counts().0 - before.0, 2, "table nat of both families");
}

#[tokio::test]
async fn the_report_shows_what_is_blocked() {
    for backend in [Backend::Nft, Backend::Native] {
        let node = Node::new(backend);
        let spec = wish(block());
        node.converge(&spec).await;
        let observed = node.subsystem.observe(&spec.ip_masq).await.unwrap();
        let objects = Masquerade::<FakeNat, FakeLedger>::objects(&spec.ip_masq, &observed);
        let guard = objects.iter().find(|found| found.object == guard_object(TableId { backend, ..V4 })).unwrap();
        assert_eq!(guard.desired.as_deref(), Some("1 address, 3 exceptions, reject"));
        assert!(guard.observed.as_ref().is_some_and(|shown| !shown.contains("differs")), "{guard:?}");
        assert!(guard.attributes.contains(&("blocked", "169.254.169.254".to_owned())));
    }
}
