//! The subsystem `masquerade` on the real kernel, with both backends of iptables, in fresh network namespaces.

use std::future::Future;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use trimtab::adapters::iptables::{Iptables, SEARCH_PATH};
use trimtab::adapters::nftables::{self, Changes};
use trimtab::ports::{BackendChoice, NatError, NatTable, Saved};
use trimtab::subsystems::masquerade::Masquerade;
use trimtab_domain::masquerade::{Backend, Family, Step, TableId};
use trimtab_domain::record::Record;
use trimtab_domain::spec::{IpMasqSpec, NodeSpec};

use crate::laws::{self, Fixture, Pass, texts};
use crate::support::fake_ledger::FakeLedger;
use crate::support::fake_masq_config::FakeMasqConfig;
use crate::support::namespace::{Mounts, cannot_run, in_fresh_namespaces};
use crate::support::recorded_masquerade::{self, Case};
use crate::support::tables::{load, print, run};

const BACKENDS: [Backend; 2] = [Backend::Nft, Backend::Legacy];
const DEADLINE: Duration = Duration::from_secs(10);
const JUMP: &str = "POSTROUTING -m comment --comment \"ip-masq-agent: ensure nat POSTROUTING directs all non-LOCAL \
                    destination traffic to our custom IP-MASQ-AGENT chain\" -m addrtype ! --dst-type LOCAL -j IP-MASQ-AGENT";
/// Rules of others that are easily damaged: quotes, backslashes, negations, marks.
const FOREIGN: &str = "*nat\n:KUBE-POSTROUTING - [0:0]\n\
    -A POSTROUTING -m comment --comment \"it's \\\"quoted\\\" and \\\\ slashed\" -j KUBE-POSTROUTING\n\
    -A POSTROUTING -s 10.9.0.0/16 ! -o cni0 -j MASQUERADE\n\
    -A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN\n\
    -A KUBE-POSTROUTING -j MASQUERADE --random-fully\nCOMMIT\n";

/// iptables, and how often its programs were started.
struct Counting {
    iptables: Iptables,
    saves: AtomicUsize,
    restores: AtomicUsize,
}

impl NatTable for Counting {
    async fn backend(&self) -> BackendChoice {
        self.iptables.backend().await
    }

    fn generation(&self, table: TableId) -> Option<u64> {
        self.iptables.generation(table)
    }

    async fn save(&self, table: TableId) -> Result<Saved, NatError> {
        self.saves.fetch_add(1, Ordering::SeqCst);
        self.iptables.save(table).await
    }

    async fn restore(&self, table: TableId, text: &str) -> Result<(), NatError> {
        self.restores.fetch_add(1, Ordering::SeqCst);
        self.iptables.restore(table, text).await
    }
}

struct Node {
    backend: Backend,
    nat: Arc<Counting>,
    ledger: FakeLedger,
    subsystem: Masquerade<Counting, FakeLedger>,
}

impl Node {
    /// On the namespace as it is. A kubelet's hint makes the backend the one that is asked for.
    fn new(backend: Backend) -> Self {
        run(&format!("iptables-{backend}"), &["-t", "mangle", "-N", "KUBE-IPTABLES-HINT"]);
        let iptables = Iptables::new(SEARCH_PATH);
        let nat = Arc::new(Counting { iptables, saves: AtomicUsize::new(0), restores: AtomicUsize::new(0) });
        let ledger = FakeLedger::new();
        let subsystem = Masquerade::new(Arc::clone(&nat), Arc::new(ledger.clone()), Arc::new(FakeMasqConfig::new()));
        Self { backend, nat, ledger, subsystem }
    }

    fn load(&self, family: Family, text: &str) {
        load(TableId { family, backend: self.backend }, text);
    }

    fn print(&self, family: Family) -> String {
        print(TableId { family, backend: self.backend })
    }

    async fn pass(&self, spec: &NodeSpec) -> Pass<Step> {
        laws::pass(&self.subsystem, spec).await
    }

    async fn converge(&self, spec: &NodeSpec) {
        let pass = self.pass(spec).await;
        assert!(pass.failures.is_empty(), "{:?}", pass.failures);
        assert!(pass.left.is_empty(), "{:?}", texts(&pass.left));
    }

    fn processes(&self) -> usize {
        self.nat.saves.load(Ordering::SeqCst) + self.nat.restores.load(Ordering::SeqCst)
    }
}

fn load_foreign(table: TableId) {
    let text =
        if table.family == Family::V4 { FOREIGN.to_owned() } else { FOREIGN.replace("10.9.0.0/16", "fd00:9::/64") };
    load(table, &text);
}

/// Runs the test once per backend, each time on a namespace of its own.
fn on_both_backends<F: Future<Output = ()>>(test: impl Fn(Backend) -> F + Sync) {
    for backend in BACKENDS {
        on(backend, &test);
    }
}

fn on<F: Future<Output = ()>>(backend: Backend, test: impl Fn(Backend) -> F + Sync) {
    let tool = format!("iptables-{backend}-save");
    if let Err(error) = Command::new(&tool).arg("--version").output() {
        cannot_run(&format!("{tool}: {error}"));
        return;
    }
    in_fresh_namespaces(Mounts::Inherited, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test(backend));
    });
}

fn ip_masq() -> IpMasqSpec {
    IpMasqSpec {
        non_masquerade_cidrs: ["10.0.0.0/8", "8.8.8.8/32", "0.0.0.0/0", "fd00::/8"]
            .map(|net| net.parse().unwrap())
            .into(),
        enable_ipv6: true,
        to_ports: vec![(1024, 29999), (32768, 65535)],
        ..IpMasqSpec::default()
    }
}

fn spec() -> NodeSpec {
    NodeSpec { ip_masq: Some(ip_masq()), ..NodeSpec::default() }
}

impl Fixture for Node {
    type Sub = Masquerade<Counting, FakeLedger>;
    type State = (String, String, Vec<Record>);

    fn subsystem(&self) -> &Self::Sub {
        &self.subsystem
    }

    fn spec(&self) -> NodeSpec {
        spec()
    }

    fn state(&self) -> Self::State {
        (self.print(Family::V4), self.print(Family::V6), self.ledger.snapshot().into_values().collect())
    }

    fn attempts(&self) -> Option<usize> {
        Some(self.nat.restores.load(Ordering::SeqCst))
    }

    fn drift(&self) {
        self.load(Family::V4, "*nat\n:IP-MASQ-AGENT - [0:0]\nCOMMIT\n");
        self.load(Family::V6, &format!("*nat\n-D {JUMP}\nCOMMIT\n"));
    }

    fn break_one(&self) -> Option<String> {
        // A write can only be made to fail by the lock, which is a test of its own: it takes five seconds.
        None
    }

    fn repair(&self) {}
}

#[test]
fn the_five_laws_hold() {
    on_both_backends(|backend| async move {
        laws::prove_five_laws(|| {
            for family in Family::ALL {
                let table = TableId { family, backend };
                run(&format!("{}-restore", table.tool()), &["-w", "5", "/dev/null"]);
                run(table.tool(), &["-w", "5", "-t", "nat", "-F"]);
                run(table.tool(), &["-w", "5", "-t", "nat", "-X"]);
                load_foreign(table);
            }
            run(&format!("iptables-{backend}"), &["-w", "5", "-t", "mangle", "-X"]);
            Node::new(backend)
        })
        .await;
    });
}

#[test]
fn the_same_configuration_leaves_the_same_rules_as_the_original_agent() {
    on_both_backends(|backend| async move {
        let node = Node::new(backend);
        let cases = recorded_masquerade::cases();
        assert!(cases.len() >= 60, "only {} recorded cases were understood", cases.len());
        for case in cases {
            for (family, text) in &case.before {
                node.load(*family, text);
            }
            let wish = NodeSpec { ip_masq: Some(case.spec.clone()), ..NodeSpec::default() };
            node.converge(&wish).await;
            for family in Family::ALL {
                assert_eq!(
                    Case::by_chain(&node.print(family)),
                    case.expected(family),
                    "{} {backend} {family}",
                    case.id
                );
            }
            node.converge(&NodeSpec::default()).await;
            if !case.before.is_empty() {
                for family in Family::ALL {
                    run(TableId { family, backend }.tool(), &["-t", "nat", "-F"]);
                    run(TableId { family, backend }.tool(), &["-t", "nat", "-X"]);
                }
            }
        }
    });
}

#[test]
fn foreign_rules_stay_byte_for_byte_and_rollback_leaves_the_table_as_it_was() {
    let quoted = JUMP.replace("\"ip", "\"\\\"ip").replace("chain\"", "chain\\\"\"");
    let gce = JUMP.replace("ip-masq-agent:", "ip-masq:");
    let left_behind = format!(
        "*nat\n:IP-MASQ-AGENT - [0:0]\n-I {gce}\n-A {quoted}\n-A POSTROUTING -o lo -j ACCEPT\n-A {JUMP}\n-A {JUMP}\n\
         -A IP-MASQ-AGENT -d 10.0.0.0/8 -m comment --comment \"ip-masq: it's old\" -m addrtype ! --dst-type LOCAL -j RETURN\nCOMMIT\n"
    );
    on_both_backends(|backend| {
        let left_behind = left_behind.clone();
        async move {
            let node = Node::new(backend);
            for family in Family::ALL {
                load_foreign(TableId { family, backend });
            }
            node.load(Family::V4, &left_behind.replace("-I POSTROUTING", "-I POSTROUTING 2"));
            let before = (node.print(Family::V4), node.print(Family::V6));
            node.converge(&spec()).await;
            let held = node.print(Family::V4);
            let is_foreign = |line: &&str| !line.contains("IP-MASQ-AGENT");
            assert_eq!(
                held.lines().filter(is_foreign).collect::<Vec<_>>(),
                before.0.lines().filter(is_foreign).collect::<Vec<_>>()
            );
            let postrouting: Vec<&str> = held.lines().filter(|line| line.starts_with("-A POSTROUTING")).collect();
            assert_eq!(postrouting.len(), 4, "{held}");
            assert_eq!(postrouting[1], format!("-A {JUMP}"), "the jump stays where the first one was");
            node.converge(&NodeSpec::default()).await;
            assert_eq!((node.print(Family::V4), node.print(Family::V6)), before);
            assert!(node.ledger.snapshot().is_empty());
        }
    });
}

#[test]
fn an_idle_pass_starts_no_process_and_leaves_the_generation() {
    on(Backend::Nft, |backend| async move {
        let node = Node::new(backend);
        node.converge(&spec()).await;
        let (processes, generation) = (node.processes(), nftables::generation().unwrap());
        for _ in 0..5 {
            node.converge(&spec()).await;
        }
        assert_eq!((node.processes(), nftables::generation().unwrap()), (processes, generation));
        // What is right is not written even when it has to be read again.
        run("iptables-nft", &["-A", "INPUT", "-s", "192.0.2.1", "-j", "DROP"]);
        node.converge(&spec()).await;
        assert_eq!((node.processes(), nftables::generation().unwrap()), (processes + 2, generation + 1));
    });
}

#[test]
fn without_a_legacy_table_no_process_is_started_and_none_is_created() {
    on(Backend::Legacy, |backend| async move {
        let node = Node::new(backend);
        let table = TableId { family: Family::V4, backend };
        assert_eq!(node.nat.generation(table), Some(0));
        let Ok(Saved::Text(text)) = node.nat.iptables.save(table).await else { panic!("no text") };
        assert!(text.starts_with("*nat\n"));
        let names = std::fs::read_to_string("/proc/thread-self/net/ip_tables_names").unwrap();
        assert_eq!(names, "mangle\n", "looking must not create the table");
        node.converge(&spec()).await;
        assert_eq!(node.nat.generation(table), None);
    });
}

#[test]
fn the_backend_follows_the_kubelets_hint_as_soon_as_there_is_one() {
    on(Backend::Legacy, |_| async move {
        let iptables = Iptables::new(SEARCH_PATH);
        let choice = iptables.backend().await;
        assert_eq!((choice.backend, choice.reason.as_str()), (Backend::Nft, "no hint of a kubelet"));
        run("ip6tables-legacy", &["-t", "mangle", "-N", "KUBE-KUBELET-CANARY"]);
        let choice = iptables.backend().await;
        assert_eq!(
            (choice.backend, choice.reason.as_str()),
            (Backend::Legacy, "chain KUBE-KUBELET-CANARY of the kubelet")
        );
        // Settled: what comes later does not move the rules of a running node.
        run("iptables-nft", &["-t", "mangle", "-N", "KUBE-IPTABLES-HINT"]);
        assert_eq!(iptables.backend().await, choice);
        let restarted = Iptables::new(SEARCH_PATH).backend().await;
        assert_eq!(
            (restarted.backend, restarted.reason.as_str()),
            (Backend::Nft, "chain KUBE-IPTABLES-HINT of the kubelet")
        );
    });
}

#[test]
fn beside_a_kube_proxy_in_nftables_mode_the_rules_go_to_nftables_and_stay_there() {
    on(Backend::Nft, |_| async move {
        if let Err(error) = Command::new("nft").arg("--version").output() {
            cannot_run(&format!("nft: {error}"));
            return;
        }
        run("iptables-nft", &["-t", "mangle", "-N", "KUBE-IPTABLES-HINT"]);
        let iptables = Iptables::new(SEARCH_PATH);
        assert_eq!(iptables.backend().await.backend, Backend::Nft);
        // It comes up after the kubelet, and perhaps after the agent.
        run("nft", &["add", "table", "ip6", "kube-proxy"]);
        let choice = iptables.backend().await;
        assert_eq!(choice.backend, Backend::Native);
        assert_eq!(choice.reason, "table kube-proxy of a kube-proxy in nftables mode");
        assert_eq!(iptables.iptables_backend().await.backend, Backend::Nft, "another agent's rules are iptables'");
        run("nft", &["delete", "table", "ip6", "kube-proxy"]);
        assert_eq!(iptables.backend().await, choice, "a restart of kube-proxy moves nothing");
        let without_programs = Iptables::new("/nowhere").backend().await;
        assert_eq!(without_programs.backend, Backend::Native, "{}", without_programs.reason);
    });
}

#[test]
fn a_held_lock_is_named_and_worth_another_try() {
    on(Backend::Legacy, |backend| async move {
        // A lock file of its own, so that nobody else on this machine waits.
        let none: Option<&str> = None;
        mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), none).unwrap();
        let node = Node::new(backend);
        let mut holder = Command::new("flock").args(["/run/xtables.lock", "sleep", "60"]).spawn().unwrap();
        tokio::time::timeout(DEADLINE, async {
            while Command::new("flock").args(["-n", "/run/xtables.lock", "true"]).status().unwrap().success() {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
        let table = TableId { family: Family::V4, backend };
        let error = node.nat.restore(table, "*nat\n:X - [0:0]\nCOMMIT\n").await.unwrap_err();
        holder.kill().unwrap();
        holder.wait().unwrap();
        assert!(error.transient, "{error}");
        assert!(error.to_string().contains("another program holds /run/xtables.lock"), "{error}");
    });
}

#[test]
fn a_flush_is_announced_and_healed_and_our_own_writes_end_the_chain_of_events() {
    on(Backend::Nft, |backend| async move {
        let node = Node::new(backend);
        node.converge(&spec()).await;
        let mut changes = Changes::open().unwrap();
        for flush in [&["-t", "nat", "-F", "IP-MASQ-AGENT"][..], &["-t", "nat", "-F"]] {
            let held = node.print(Family::V4);
            run("iptables-nft", flush);
            tokio::time::timeout(DEADLINE, changes.next()).await.unwrap().unwrap();
            node.converge(&spec()).await;
            assert_eq!(node.print(Family::V4), held);
            // Our own transaction wakes once more; that pass writes nothing, so nothing is announced after it.
            tokio::time::timeout(DEADLINE, changes.next()).await.unwrap().unwrap();
            let generation = nftables::generation().unwrap();
            node.converge(&spec()).await;
            assert_eq!(nftables::generation().unwrap(), generation);
        }
        // Rules elsewhere do not wake; the one that follows does.
        run("iptables-nft", &["-A", "INPUT", "-j", "ACCEPT"]);
        let next = changes.next();
        tokio::pin!(next);
        assert!(matches!(
            std::future::poll_fn(|context| std::task::Poll::Ready(next.as_mut().poll(context))).await,
            std::task::Poll::Pending
        ));
        run("ip6tables-nft", &["-t", "nat", "-F"]);
        tokio::time::timeout(DEADLINE, next).await.unwrap().unwrap();
    });
}

#[test]
fn rules_that_iptables_cannot_express_are_refused_and_left() {
    on(Backend::Nft, |backend| async move {
        let node = Node::new(backend);
        run(
            "nft",
            &["add table ip nat; add chain ip nat POSTROUTING { type nat hook postrouting priority srcnat; }; \
                      add rule ip nat POSTROUTING numgen random mod 2 < 1 counter masquerade"],
        );
        let before = Command::new("nft").args(["list", "table", "ip", "nat"]).output().unwrap().stdout;
        let pass = node.pass(&spec()).await;
        let after = Command::new("nft").args(["list", "table", "ip", "nat"]).output().unwrap().stdout;
        if pass.plan.refusals.is_empty() {
            // Newer iptables print and keep such rules; then the chain is simply there.
            assert!(pass.failures.is_empty() && pass.left.is_empty());
            return;
        }
        assert!(pass.plan.refusals[0].detail.contains("iptables cannot express"), "{:?}", pass.plan.refusals);
        assert_eq!(String::from_utf8_lossy(&after), String::from_utf8_lossy(&before));
        assert!(node.print(Family::V6).contains("IP-MASQ-AGENT"), "the other family is served");
    });
}
