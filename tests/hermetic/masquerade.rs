//! The subsystem `masquerade` on a table in memory.

use std::sync::Arc;

use trimtab::reconcile::Subsystem;
use trimtab::subsystems::masquerade::Masquerade;
use trimtab_domain::masquerade::{Backend, Family, NATIVE_TABLE, NativeView, Network, TableId};
use trimtab_domain::plan::{Cause, Severity};
use trimtab_domain::record::{Original, Record};
use trimtab_domain::spec::ip_masq::ClusterNetworks;
use trimtab_domain::spec::{IpMasqSpec, NodeSpec};

use crate::laws::{self, Fixture, Pass, dry_run, texts};
use crate::support::fake_ledger::FakeLedger;
use crate::support::fake_masq_config::FakeMasqConfig;
use crate::support::fake_nat::FakeNat;

const V4: TableId = TableId { family: Family::V4, backend: Backend::Nft };
const V6: TableId = TableId { family: Family::V6, backend: Backend::Nft };
const JUMP: &str = "-A POSTROUTING -m comment --comment \"ip-masq-agent: ensure nat POSTROUTING directs all non-LOCAL \
                    destination traffic to our custom IP-MASQ-AGENT chain\" -m addrtype ! --dst-type LOCAL -j IP-MASQ-AGENT";
const FOREIGN: &str = "-A POSTROUTING -s 10.9.0.0/16 ! -o cni0 -j MASQUERADE";

struct Node {
    nat: FakeNat,
    ledger: FakeLedger,
    config: FakeMasqConfig,
    subsystem: Masquerade<FakeNat, FakeLedger>,
}

impl Node {
    fn new(backend: Backend) -> Self {
        let (nat, ledger, config) = (FakeNat::new(backend), FakeLedger::new(), FakeMasqConfig::new());
        let subsystem = Masquerade::new(Arc::new(nat.clone()), Arc::new(ledger.clone()), Arc::new(config.clone()));
        Self { nat, ledger, config, subsystem }
    }

    fn load(&self, table: TableId, lines: &[&str]) {
        self.nat.other(table, &format!("*nat\n{}\nCOMMIT\n", lines.join("\n")));
    }

    async fn pass(&self, spec: &NodeSpec) -> Pass<trimtab_domain::masquerade::Step> {
        laws::pass(&self.subsystem, spec).await
    }

    async fn converge(&self, spec: &NodeSpec) {
        let pass = self.pass(spec).await;
        assert!(pass.failures.is_empty(), "{:?}", pass.failures);
        assert!(pass.left.is_empty(), "{:?}", texts(&pass.left));
    }

    /// Rules of one chain as printed.
    fn rules(&self, table: TableId, chain: &str) -> Vec<String> {
        let start = format!("-A {chain} ");
        self.nat.print(table).lines().filter(|line| line.starts_with(&start)).map(str::to_owned).collect()
    }
}

fn ip_masq() -> IpMasqSpec {
    IpMasqSpec {
        non_masquerade_cidrs: ["10.0.0.0/8", "8.8.8.8/32", "fd00::/8"].map(|net| net.parse().unwrap()).into(),
        masq_link_local: false,
        masq_link_local_ipv6: false,
        enable_ipv6: true,
        masq_chain: "IP-MASQ-AGENT".into(),
        random_fully: true,
        to_ports: vec![(1024, 29999), (32768, 32768)],
        ..IpMasqSpec::default()
    }
}

fn spec(ip_masq: IpMasqSpec) -> NodeSpec {
    NodeSpec { ip_masq: Some(ip_masq), ..NodeSpec::default() }
}

impl Fixture for Node {
    type Sub = Masquerade<FakeNat, FakeLedger>;
    type State = (String, String, Vec<Record>);

    fn subsystem(&self) -> &Self::Sub {
        &self.subsystem
    }

    fn spec(&self) -> NodeSpec {
        spec(ip_masq())
    }

    fn state(&self) -> Self::State {
        let backend = self.nat.backend_in_use();
        let print = |family| self.nat.print(TableId { family, backend });
        (print(Family::V4), print(Family::V6), self.ledger.snapshot().into_values().collect())
    }

    fn attempts(&self) -> Option<usize> {
        Some(self.nat.counts().1)
    }

    fn drift(&self) {
        let backend = self.nat.backend_in_use();
        if backend == Backend::Native {
            self.nat.other_native(Family::V4, NativeView::Absent);
            return self.nat.other_native(Family::V6, NativeView::Odd("other rules".into()));
        }
        for family in Family::ALL {
            self.load(TableId { family, backend }, &[":IP-MASQ-AGENT - [0:0]", &JUMP.replacen("-A", "-D", 1)]);
        }
    }

    fn break_one(&self) -> Option<String> {
        self.nat.lock(Some(Family::V4));
        let backend = self.nat.backend_in_use();
        let chain = if backend == Backend::Native { NATIVE_TABLE } else { "IP-MASQ-AGENT" };
        Some(TableId { family: Family::V4, backend }.object(chain))
    }

    fn repair(&self) {
        self.nat.lock(None);
    }
}

#[tokio::test]
async fn the_five_laws_hold() {
    for backend in [Backend::Nft, Backend::Legacy, Backend::Native] {
        laws::prove_five_laws(|| {
            let node = Node::new(backend);
            for family in Family::ALL.into_iter().filter(|_| backend != Backend::Native) {
                node.load(TableId { family, backend }, &["-A POSTROUTING -o cni0 -j ACCEPT"]);
            }
            node
        })
        .await;
    }
}

#[tokio::test]
async fn an_idle_pass_starts_no_process_until_something_changes() {
    let node = Node::new(Backend::Nft);
    node.converge(&spec(ip_masq())).await;
    let after_first = node.nat.counts();
    for _ in 0..3 {
        node.converge(&spec(ip_masq())).await;
    }
    assert_eq!(node.nat.counts(), after_first);
    node.load(V4, &[FOREIGN]);
    node.converge(&spec(ip_masq())).await;
    assert_eq!(node.nat.counts(), (after_first.0 + 2, after_first.1), "both tables share the kernel's count");
}

#[tokio::test]
async fn a_change_while_reading_is_not_missed() {
    let node = Node::new(Backend::Nft);
    node.converge(&spec(ip_masq())).await;
    node.load(V4, &[FOREIGN]);
    node.nat.change_during_save(V4, "*nat\n:IP-MASQ-AGENT - [0:0]\nCOMMIT\n");
    let blind = dry_run(&node.subsystem, &spec(ip_masq())).await;
    assert!(blind.is_empty(), "{:?}", texts(&blind));
    let seen = dry_run(&node.subsystem, &spec(ip_masq())).await;
    assert_eq!(texts(&seen), ["ipv4/nft/IP-MASQ-AGENT: 0 rules, 1 jump -> 10 rules, 1 jump"]);
}

#[tokio::test]
async fn foreign_rules_stay_as_they_are_and_the_jump_stays_where_it_is() {
    let node = Node::new(Backend::Nft);
    let quoted = JUMP.replace("\"ip", "\"\\\"ip").replace("chain\"", "chain\\\"\"");
    let (first, last) = ("-A POSTROUTING -o a -j ACCEPT", "-A POSTROUTING -o b -j ACCEPT");
    node.load(V4, &[":IP-MASQ-AGENT - [0:0]", first, &quoted, last, JUMP, JUMP]);
    node.converge(&spec(ip_masq())).await;
    assert_eq!(node.rules(V4, "POSTROUTING"), [first, JUMP, last]);
    node.load(V4, &["-I POSTROUTING 1 -o c -j ACCEPT", last, JUMP]);
    node.converge(&spec(ip_masq())).await;
    assert_eq!(node.rules(V4, "POSTROUTING"), ["-A POSTROUTING -o c -j ACCEPT", first, JUMP, last, last]);
}

#[tokio::test]
async fn what_an_older_agent_left_comes_back_on_rollback() {
    let gce = JUMP.replace("ip-masq-agent:", "ip-masq:");
    let quoted = JUMP.replace("\"ip", "\"\\\"ip").replace("chain\"", "chain\\\"\"");
    let old = "-A IP-MASQ-AGENT -d 10.0.0.0/8 -m comment --comment \"ip-masq-agent: cluster-local\" -m addrtype ! --dst-type LOCAL -j RETURN";
    let other = "-A POSTROUTING -o a -j ACCEPT";
    let rows: [(&str, Vec<&str>); 5] = [
        ("plain jump", vec![JUMP, old, other]),
        ("quoted jump between others", vec![other, &quoted, other, old]),
        ("two forms", vec![other, &gce, other, &quoted, other, old]),
        ("no jump", vec![other, old]),
        ("empty chain", vec![other, JUMP]),
    ];
    for (name, rules) in rows {
        let node = Node::new(Backend::Nft);
        node.load(V4, &[vec![":IP-MASQ-AGENT - [0:0]"], rules].concat());
        let before = node.nat.print(V4);
        node.converge(&spec(ip_masq())).await;
        assert_ne!(node.nat.print(V4), before, "{name}");
        // Neither drift nor a changed profile in between may lose the original.
        node.load(V4, &[":IP-MASQ-AGENT - [0:0]"]);
        node.converge(&spec(IpMasqSpec { random_fully: false, ..ip_masq() })).await;
        node.converge(&NodeSpec::default()).await;
        assert_eq!(node.nat.print(V4), before, "{name}");
        assert!(node.ledger.snapshot().is_empty(), "{name}");
    }
}

#[tokio::test]
async fn a_chain_that_is_already_right_is_neither_written_nor_ever_removed() {
    let node = Node::new(Backend::Nft);
    node.converge(&spec(ip_masq())).await;
    let right = node.nat.print(V4);
    let agent = Node {
        ledger: FakeLedger::new(),
        subsystem: Masquerade::new(
            Arc::new(node.nat.clone()),
            Arc::new(FakeLedger::new()),
            Arc::new(node.config.clone()),
        ),
        config: node.config,
        nat: node.nat,
    };
    let restores = agent.nat.counts().1;
    agent.converge(&spec(ip_masq())).await;
    agent.converge(&NodeSpec::default()).await;
    assert_eq!(agent.nat.print(V4), right);
    assert_eq!(agent.nat.counts().1, restores);
}

#[tokio::test]
async fn a_flush_before_the_rollback_leaves_nothing_behind() {
    let node = Node::new(Backend::Nft);
    let before = node.nat.print(V4);
    for drift in [":IP-MASQ-AGENT - [0:0]", &JUMP.replacen("-A", "-D", 1), JUMP] {
        node.converge(&spec(ip_masq())).await;
        node.load(V4, &[drift]);
        node.converge(&NodeSpec::default()).await;
        assert_eq!(node.nat.print(V4), before, "{drift}");
    }
}

#[tokio::test]
async fn a_renamed_chain_replaces_the_old_one() {
    let node = Node::new(Backend::Nft);
    node.converge(&spec(ip_masq())).await;
    node.converge(&spec(IpMasqSpec { masq_chain: "OTHER".into(), ..ip_masq() })).await;
    for table in [V4, V6] {
        let text = node.nat.print(table);
        assert!(text.contains(":OTHER -") && !text.contains("IP-MASQ-AGENT"), "{text}");
    }
}

#[tokio::test]
async fn ipv6_switched_off_is_given_back() {
    let node = Node::new(Backend::Nft);
    let before = node.nat.print(V6);
    node.converge(&spec(ip_masq())).await;
    assert_ne!(node.nat.print(V6), before);
    node.converge(&spec(IpMasqSpec { enable_ipv6: false, ..ip_masq() })).await;
    assert_eq!(node.nat.print(V6), before);
    assert_eq!(node.rules(V4, "IP-MASQ-AGENT").len(), 10);
}

#[tokio::test]
async fn another_backend_takes_the_rules_over() {
    let node = Node::new(Backend::Nft);
    let before = node.nat.print(V4);
    node.converge(&spec(ip_masq())).await;
    let rules = node.nat.print(V4);
    node.nat.use_backend(Backend::Legacy);
    node.converge(&spec(ip_masq())).await;
    assert_eq!(node.nat.print(V4), before);
    assert_eq!(node.nat.print(TableId { backend: Backend::Legacy, ..V4 }), rules);
}

#[tokio::test]
async fn a_back_end_that_cannot_be_written_leaves_the_old_rules() {
    let node = Node::new(Backend::Nft);
    let wish = spec(IpMasqSpec { enable_ipv6: false, ..ip_masq() });
    node.converge(&wish).await;
    let rules = node.nat.print(V4);
    node.nat.use_backend(Backend::Native);
    node.nat.lock(Some(Family::V4));
    let pass = node.pass(&wish).await;
    assert_eq!(pass.failures.len(), 1, "{:?}", pass.failures);
    assert_eq!(node.nat.print(V4), rules);
    node.nat.lock(None);
    node.converge(&wish).await;
    assert!(!node.nat.print(V4).contains("IP-MASQ-AGENT"));
    assert_ne!(node.nat.print(TableId { backend: Backend::Native, ..V4 }), "");
}

#[tokio::test]
async fn trouble_of_one_family_leaves_the_other_alone() {
    let node = Node::new(Backend::Nft);
    node.nat.remove_tools(Some(Family::V4));
    let pass = node.pass(&spec(ip_masq())).await;
    let [refusal] = pass.left.refusals.as_slice() else { panic!("{:?}", pass.left.refusals) };
    assert_eq!((refusal.object.as_str(), refusal.cause), ("ipv4/nft/IP-MASQ-AGENT", Cause::Unsupported));
    assert!(refusal.detail.contains("install the package"));
    assert_eq!(node.rules(V6, "IP-MASQ-AGENT").len(), 9);

    node.nat.remove_tools(None);
    node.nat.fail_reads(Some(Family::V6));
    node.load(V6, &[":IP-MASQ-AGENT - [0:0]"]);
    let pass = node.pass(&spec(ip_masq())).await;
    let [(_, cause)] = pass.failures.as_slice() else { panic!("{:?}", pass.failures) };
    assert_eq!(
        cause,
        "cannot read table nat for ipv6/nft/IP-MASQ-AGENT: iptables-save failed (exit status: 4): no memory"
    );
    assert_eq!(node.rules(V4, "IP-MASQ-AGENT").len(), 10);
    node.nat.fail_reads(None);
    node.converge(&spec(ip_masq())).await;
    assert_eq!(node.rules(V6, "IP-MASQ-AGENT").len(), 9);
}

#[tokio::test]
async fn what_cannot_be_done_is_refused_and_changes_nothing() {
    let chain = ":IP-MASQ-AGENT - [0:0]";
    let rows: [(&str, &[&str], IpMasqSpec, Cause, &str); 3] = [
        (
            "reached from OUTPUT",
            &[chain, "-A OUTPUT -d 9.9.9.9/32 -j IP-MASQ-AGENT"],
            ip_masq(),
            Cause::OwnedByOther,
            "from OUTPUT too",
        ),
        (
            "reached through another chain",
            &[chain, ":X - [0:0]", "-A OUTPUT -j X", "-A X -j IP-MASQ-AGENT"],
            ip_masq(),
            Cause::OwnedByOther,
            "-A X -j IP-MASQ-AGENT",
        ),
        (
            "name of a built-in chain",
            &["-A OUTPUT -j ACCEPT"],
            IpMasqSpec { masq_chain: "OUTPUT".into(), ..ip_masq() },
            Cause::InvalidValue,
            "built-in chain",
        ),
    ];
    for (name, rules, wish, cause, detail) in rows {
        let node = Node::new(Backend::Nft);
        node.load(V4, rules);
        let before = node.nat.print(V4);
        let wish = IpMasqSpec { enable_ipv6: false, ..wish };
        let pass = node.pass(&spec(wish)).await;
        assert!(pass.plan.is_empty(), "{name}: {:?}", texts(&pass.plan));
        let [refusal] = pass.plan.refusals.as_slice() else { panic!("{name}: {:?}", pass.plan.refusals) };
        assert_eq!(refusal.cause, cause, "{name}");
        assert!(refusal.detail.contains(detail), "{name}: {}", refusal.detail);
        assert_eq!(node.nat.print(V4), before, "{name}");
    }
}

#[tokio::test]
async fn a_network_that_is_not_the_nodes_is_told_and_in_a_container_nothing_is_done_there() {
    let node = Node::new(Backend::Nft);
    node.converge(&spec(ip_masq())).await;
    assert!(dry_run(&node.subsystem, &spec(ip_masq())).await.findings.is_empty());
    let (records, empty) = (node.ledger.snapshot(), ":IP-MASQ-AGENT - [0:0]");
    node.load(V4, &[empty]);

    // The same agent in a pod that has lost hostNetwork; nor does a rollback there forget what the node still has.
    node.nat.network(Network::OfContainer);
    let reads_and_writes = node.nat.counts();
    for (spec, findings) in [(spec(ip_masq()), 1), (NodeSpec::default(), 0)] {
        let pass = node.pass(&spec).await;
        assert!(pass.plan.is_empty() && pass.failures.is_empty(), "{:?}", texts(&pass.plan));
        assert_eq!(pass.plan.findings.len(), findings, "{:?}", pass.plan.findings);
        let causes: Vec<_> = pass.plan.refusals.iter().map(|refusal| refusal.cause).collect();
        assert_eq!(causes, [Cause::NotPermitted; 2], "one per family");
        assert!(pass.plan.refusals[0].detail.contains("set hostNetwork: true"));
    }
    assert_eq!((node.nat.counts(), node.ledger.snapshot()), (reads_and_writes, records));

    // Who puts it into another network himself may have his reasons.
    node.nat.network(Network::Apart);
    node.converge(&spec(ip_masq())).await;
    assert_eq!(node.rules(V4, "IP-MASQ-AGENT").len(), 10);
    let found = dry_run(&node.subsystem, &spec(ip_masq())).await.findings;
    let [finding] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((finding.code, finding.severity), ("masquerade-other-network", Severity::Warning));
}

#[tokio::test]
async fn a_chain_in_use_by_others_is_not_removed_until_they_let_go() {
    let node = Node::new(Backend::Nft);
    let before = node.nat.print(V4);
    let rows = [
        ("-A POSTROUTING -s 1.2.3.4/32 -j IP-MASQ-AGENT", Cause::OwnedByOther, "still used by"),
        ("-A IP-MASQ-AGENT -s 1.2.3.4/32 -j ACCEPT", Cause::ChangedByOther, "somebody else changed it"),
    ];
    for (rule, cause, detail) in rows {
        node.converge(&spec(ip_masq())).await;
        node.load(V4, &[rule]);
        let pass = node.pass(&NodeSpec::default()).await;
        let [refusal] = pass.left.refusals.as_slice() else { panic!("{rule}: {:?}", pass.left.refusals) };
        assert_eq!(refusal.cause, cause, "{rule}");
        assert!(refusal.detail.contains(detail), "{rule}: {}", refusal.detail);
        assert!(node.rules(V4, "IP-MASQ-AGENT").len() >= 10, "{rule}");
        node.load(V4, &[&rule.replacen("-A", "-D", 1)]);
        node.converge(&NodeSpec::default()).await;
        assert_eq!(node.nat.print(V4), before, "{rule}");
    }
}

#[tokio::test]
async fn a_lost_original_is_left_and_said() {
    let node = Node::new(Backend::Nft);
    node.converge(&spec(ip_masq())).await;
    let kept = node.ledger.record("masquerade", "ipv4/nft/IP-MASQ-AGENT").unwrap();
    node.ledger.insert("masquerade", Record { original: Original::Unknown, ..kept });
    let pass = node.pass(&NodeSpec::default()).await;
    assert_eq!(pass.left.refusals.len(), 1);
    assert!(pass.left.refusals[0].detail.contains("the ledger that knew the original was lost"));
}

#[tokio::test]
async fn what_defeats_the_chain_is_found() {
    let node = Node::new(Backend::Nft);
    let second = JUMP.replace("IP-MASQ-AGENT", "IP-MASQ").replace("ip-masq-agent", "ip-masq");
    let marked = "-A POSTROUTING -m mark --mark 0x4000/0x4000 -j MASQUERADE";
    let all = "-A POSTROUTING -m comment --comment all -j MASQUERADE";
    node.load(V4, &[":IP-MASQ - [0:0]", &second, marked, FOREIGN, all, "-A IP-MASQ -j RETURN"]);
    node.converge(&spec(ip_masq())).await;
    node.load(V4, &["-A POSTROUTING -s 1.2.3.4/32 -j IP-MASQ-AGENT", all]);
    let plan = dry_run(&node.subsystem, &spec(ip_masq())).await;
    assert!(plan.is_empty());
    let found: Vec<_> = plan.findings.iter().map(|finding| (finding.code, finding.severity)).collect();
    assert_eq!(
        found,
        [
            ("masquerade-decided-earlier", Severity::Info),
            ("masquerade-decided-earlier", Severity::Warning),
            ("masquerade-chain-referenced", Severity::Info),
            ("masquerade-second-chain", Severity::Warning),
        ]
    );
    node.load(V4, &[&JUMP.replace("ip-masq-agent:", "ip-masq:")]);
    let plan = dry_run(&node.subsystem, &spec(ip_masq())).await;
    assert!(plan.findings.iter().any(|finding| finding.code == "masquerade-other-agent"));
}

#[tokio::test]
async fn what_the_chains_of_others_decide_ahead_of_the_jump_is_found() {
    let kube = ["-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN", "-A KUBE-POSTROUTING -j MASQUERADE"];
    let flannel =
        ["-A FLANNEL -d 10.244.0.0/16 -j RETURN", "-A FLANNEL -s 10.244.0.0/16 ! -d 224.0.0.0/4 -j MASQUERADE"];
    let pods = ClusterNetworks { pods: vec!["10.244.0.0/16".parse().unwrap()], ..ClusterNetworks::default() };
    let rows = [
        ("kube-proxy decides for marked packets alone", "KUBE-POSTROUTING", kube, pods.clone(), None),
        ("flannel, pods known", "FLANNEL", flannel, pods.clone(), Some(Severity::Warning)),
        ("flannel, pods not known", "FLANNEL", flannel, ClusterNetworks::default(), Some(Severity::Info)),
        ("two levels", "CNI", ["-A CNI -j FLANNEL", flannel[1]], pods.clone(), Some(Severity::Warning)),
        ("nothing sets a source", "CNI", ["-A CNI -o a -j ACCEPT", "-A CNI -j ACCEPT"], pods, None),
    ];
    for (name, first, rules, cluster, expected) in rows {
        let node = Node::new(Backend::Nft);
        let chains = [":KUBE-POSTROUTING - [0:0]", ":FLANNEL - [0:0]", ":CNI - [0:0]"];
        let jump = format!("-A POSTROUTING -j {first}");
        node.load(V4, &[&chains[..], &[jump.as_str()], &rules].concat());
        let wish = spec(IpMasqSpec { enable_ipv6: false, cluster, ..ip_masq() });
        let plan = dry_run(&node.subsystem, &wish).await;
        let found = plan.findings.iter().find(|finding| finding.code == "masquerade-decided-earlier");
        assert_eq!(found.map(|finding| finding.severity), expected, "{name}: {:?}", plan.findings);
    }
}

#[tokio::test]
async fn the_report_tells_where_the_jump_is() {
    let node = Node::new(Backend::Nft);
    node.load(V4, &[FOREIGN]);
    let wish = Some(ip_masq());
    node.converge(&spec(ip_masq())).await;
    node.load(V4, &[FOREIGN]);
    let observed = node.subsystem.observe(&wish).await.unwrap();
    let objects = Masquerade::<FakeNat, FakeLedger>::objects(&wish, &observed);
    assert_eq!(objects[0].object, "ipv4/nft/IP-MASQ-AGENT");
    assert_eq!(objects[0].observed.as_deref(), Some("10 rules, 1 jump"));
    assert!(objects[0].attributes.contains(&("jump", "rule 2 of 3 in POSTROUTING".to_owned())), "{objects:?}");
}
