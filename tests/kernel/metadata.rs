//! Pods kept away from the metadata service, with real packets between three hosts and each back end.

use std::net::IpAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use trimtab::adapters::iptables::{Iptables, SEARCH_PATH};
use trimtab::adapters::nftables::counters::KernelCounters;
use trimtab::ports::traffic::Traffic;
use trimtab::reconcile::pass;
use trimtab::subsystems::masquerade::Masquerade;
use trimtab_domain::masquerade::{Answer, Counted, Family, MetadataBlock, PortProtocol, Ports};
use trimtab_domain::spec::IpMasqSpec;
use trimtab_domain::spec::ip_masq::BackendWish;

use crate::support::fake_ledger::FakeLedger;
use crate::support::fake_masq_config::FakeMasqConfig;
use crate::support::namespace::cannot_run;
use crate::support::world::{Host, PORT, Protocol, World};

const BACKENDS: [BackendWish; 3] = [BackendWish::IptablesNft, BackendWish::IptablesLegacy, BackendWish::Nftables];
/// The service, and addresses beside it.
const SERVICE: [&str; 2] = ["169.254.169.254", "fd99::1"];
const OTHERS: [&str; 3] = ["8.8.8.8", "10.50.0.1", "fd00:77::1"];
/// A rule of others in each table that is touched.
const FOREIGN: [&str; 8] = [
    "iptables-nft -A FORWARD -s 192.0.2.7/32 -j ACCEPT",
    "ip6tables-nft -A FORWARD -s 2001:db8::7/128 -j ACCEPT",
    "iptables-legacy -A FORWARD -s 192.0.2.7/32 -j ACCEPT",
    "ip6tables-legacy -A FORWARD -s 2001:db8::7/128 -j ACCEPT",
    "iptables-nft -t nat -A POSTROUTING -s 192.0.2.7/32 -j ACCEPT",
    "ip6tables-nft -t nat -A POSTROUTING -s 2001:db8::7/128 -j ACCEPT",
    "iptables-legacy -t nat -A POSTROUTING -s 192.0.2.7/32 -j ACCEPT",
    "ip6tables-legacy -t nat -A POSTROUTING -s 2001:db8::7/128 -j ACCEPT",
];

/// A node with an agent.
struct Node {
    world: World,
    subsystem: Arc<Masquerade<Iptables, FakeLedger>>,
    traffic: Arc<Traffic>,
    port: AtomicU16,
}

impl Node {
    fn new() -> Option<Self> {
        let world = match World::new() {
            Ok(world) => world,
            Err(errno) => {
                cannot_run(&format!("no fresh network namespaces: {errno}"));
                return None;
            }
        };
        for rule in FOREIGN {
            world.node.shell(rule);
        }
        let traffic = Arc::new(Traffic::new(Arc::new(KernelCounters)).looking_every(Duration::ZERO));
        let (nat, files) = (Arc::new(Iptables::new(SEARCH_PATH)), Arc::new(FakeMasqConfig::new()));
        let subsystem = Masquerade::new(nat, Arc::new(FakeLedger::new()), files).counting(Arc::clone(&traffic));
        Some(Self { world, subsystem: Arc::new(subsystem), traffic, port: AtomicU16::new(36_000) })
    }

    /// One pass, which must leave nothing to do; tells the codes of what was found.
    fn hold(&self, wish: Option<IpMasqSpec>) -> Vec<&'static str> {
        let subsystem = Arc::clone(&self.subsystem);
        self.world.node.run(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let outcome = runtime.block_on(pass::run(&*subsystem, &wish, |_| false, &CancellationToken::new()));
            assert!(outcome.failures.is_empty() && !outcome.again, "{:?}", outcome.failures);
            assert!(outcome.refusals.is_empty(), "{:?}", outcome.refusals);
            outcome.findings.iter().map(|finding| finding.code).collect()
        })
    }

    /// Whether an answer comes, from a port that was never used before.
    fn reaches(&self, from: &Host, protocol: Protocol, to: &str) -> bool {
        let port = self.port.fetch_add(1, Ordering::SeqCst);
        self.world.ask(from, protocol, to.parse::<IpAddr>().unwrap(), (None, port)).is_ok()
    }

    /// All rules of the node, without counters.
    fn rules(&self) -> String {
        self.world.node.run(|| {
            let print = |program: &str| {
                let output = Command::new(program).output().unwrap();
                assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
                let text = String::from_utf8(output.stdout).unwrap();
                let lines = text.lines().filter(|line| !line.starts_with('#'));
                lines.map(|line| line.split(" [").next().unwrap_or(line).to_owned() + "\n").collect::<String>()
            };
            let tables: String = ["iptables-nft", "ip6tables-nft", "iptables-legacy", "ip6tables-legacy"]
                .map(|tool| print(&format!("{tool}-save")))
                .concat();
            let own = Command::new("nft").args(["-s", "list", "tables"]).output().unwrap();
            let own = String::from_utf8(own.stdout).unwrap();
            let mut own: Vec<&str> = own.lines().collect();
            own.sort_unstable();
            tables + &own.join("\n")
        })
    }
}

fn block() -> MetadataBlock {
    MetadataBlock {
        addresses: SERVICE.map(|address| address.parse().unwrap()).into(),
        except_sources: Vec::new(),
        except_ports: Vec::new(),
        except_interfaces: Vec::new(),
        answer: Answer::Reject,
    }
}

fn spec(backend: BackendWish, block: MetadataBlock) -> Option<IpMasqSpec> {
    let mut spec = IpMasqSpec { backend, enable_ipv6: true, ..IpMasqSpec::default() };
    spec.beyond.metadata = Some(block);
    Some(spec)
}

#[test]
fn pods_are_kept_away_and_nobody_else_and_nothing_else() {
    for backend in BACKENDS {
        let Some(node) = Node::new() else { return };
        let (pod, host) = (&node.world.pod, &node.world.node);
        for address in SERVICE {
            assert!(node.reaches(pod, Protocol::Udp, address), "{backend:?}: {address} before");
        }
        node.hold(spec(backend, block()));
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            for address in SERVICE {
                assert!(!node.reaches(pod, protocol, address), "{backend:?}: pod to {address} {protocol:?}");
                assert!(node.reaches(host, protocol, address), "{backend:?}: node to {address} {protocol:?}");
            }
            for address in OTHERS {
                assert!(node.reaches(pod, protocol, address), "{backend:?}: pod to {address} {protocol:?}");
            }
        }
    }
}

#[test]
fn exceptions_pass_and_no_others() {
    let source = |text: &str| vec![text.parse().unwrap()];
    let port = |protocol, first, last| vec![Ports { protocol, first, last }];
    let rows: [(&str, MetadataBlock, bool, bool); 8] = [
        ("nothing", block(), false, false),
        ("the pod", MetadataBlock { except_sources: source("10.244.1.2/32"), ..block() }, true, true),
        ("another pod", MetadataBlock { except_sources: source("10.244.1.3/32"), ..block() }, false, false),
        ("its port", MetadataBlock { except_ports: port(PortProtocol::Udp, PORT, PORT), ..block() }, true, false),
        ("more ports", MetadataBlock { except_ports: port(PortProtocol::Tcp, 1, PORT), ..block() }, false, true),
        ("its link", MetadataBlock { except_interfaces: vec!["to-pod".into()], ..block() }, true, true),
        ("another link", MetadataBlock { except_interfaces: vec!["to-po".into()], ..block() }, false, false),
        (
            "another address",
            MetadataBlock { addresses: vec!["169.254.169.253".parse().unwrap()], ..block() },
            true,
            true,
        ),
    ];
    for backend in BACKENDS {
        let Some(node) = Node::new() else { return };
        for (name, block, by_datagram, by_connection) in rows.clone() {
            node.hold(spec(backend, block));
            let pod = &node.world.pod;
            assert_eq!(node.reaches(pod, Protocol::Udp, SERVICE[0]), by_datagram, "{backend:?}, {name}: datagrams");
            assert_eq!(node.reaches(pod, Protocol::Tcp, SERVICE[0]), by_connection, "{backend:?}, {name}: connections");
        }
        let trusted = MetadataBlock { except_sources: source("fd00:10::/64"), ..block() };
        node.hold(spec(backend, trusted));
        assert!(node.reaches(&node.world.pod, Protocol::Tcp, SERVICE[1]), "{backend:?}: IPv6");
        assert!(!node.reaches(&node.world.pod, Protocol::Tcp, SERVICE[0]), "{backend:?}: the families are apart");
    }
}

#[test]
fn packets_that_are_dropped_are_not_answered_and_both_kinds_are_counted() {
    for backend in BACKENDS {
        let Some(node) = Node::new() else { return };
        let sums = || {
            if backend == BackendWish::IptablesLegacy {
                // Its counters come with the rules.
                node.hold(spec(backend, MetadataBlock { answer: Answer::Drop, ..block() }));
            }
            let traffic = Arc::clone(&node.traffic);
            let sums = node.world.node.run(move || traffic.sums(&Counted::PACKETS));
            sums.into_iter().filter(|(family, _, _)| *family == Family::V4).map(|(_, _, sum)| sum).collect::<Vec<_>>()
        };
        let port = vec![Ports { protocol: PortProtocol::Udp, first: PORT, last: PORT }];
        node.hold(spec(backend, MetadataBlock { except_ports: port, ..block() }));
        assert!(node.reaches(&node.world.pod, Protocol::Udp, SERVICE[0]));
        node.hold(spec(backend, MetadataBlock { answer: Answer::Drop, ..block() }));
        // On a busy machine it may have asked twice; the answer is none of the service's.
        let before = sums();
        assert!(before[0] >= 1 && before[1] == 0, "{backend:?}: {before:?}");
        let port = node.port.fetch_add(1, Ordering::SeqCst);
        let asked = node.world.ask(&node.world.pod, Protocol::Udp, SERVICE[0].parse().unwrap(), (None, port));
        assert_eq!(sums(), [before[0], 3], "{backend:?}: three attempts, {asked:?}");
        assert!(asked.is_err(), "{backend:?}: {asked:?}");
    }
}

#[test]
fn drift_is_healed_and_nothing_is_left_after_a_rollback() {
    let damages: [(BackendWish, &[&str]); 3] = [
        (
            BackendWish::IptablesNft,
            &[
                "iptables-nft -F TRIMTAB-METADATA",
                "iptables-nft -F FORWARD",
                "iptables-nft -D TRIMTAB-METADATA 1",
                "iptables-nft -I TRIMTAB-METADATA 1 -j ACCEPT",
            ],
        ),
        (BackendWish::IptablesLegacy, &["iptables-legacy -F TRIMTAB-METADATA", "iptables-legacy -F FORWARD"]),
        (
            BackendWish::Nftables,
            &[
                "nft delete table ip trimtab-metadata",
                "nft flush chain ip trimtab-metadata forward",
                "nft flush set ip trimtab-metadata addresses",
                "nft insert rule ip trimtab-metadata guard accept",
                "nft add element ip trimtab-metadata addresses { 8.8.8.8 }",
                "nft add table ip trimtab-metadata { flags dormant; }",
            ],
        ),
    ];
    for (backend, damages) in damages {
        let Some(node) = Node::new() else { return };
        let before = node.rules();
        node.hold(spec(backend, block()));
        let held = node.rules();
        for damage in damages {
            node.world.node.shell(damage);
            node.hold(spec(backend, block()));
            assert!(!node.reaches(&node.world.pod, Protocol::Tcp, SERVICE[0]), "{backend:?}: {damage}");
            assert!(node.reaches(&node.world.pod, Protocol::Tcp, OTHERS[0]), "{backend:?}: {damage}");
            // Others' rules go with a flush of others.
            if damage.ends_with("FORWARD") {
                node.world.node.shell(FOREIGN[if backend == BackendWish::IptablesNft { 0 } else { 2 }]);
            }
            assert_eq!(node.rules(), held, "{backend:?}: {damage}");
        }
        // Without the wish for it the guard goes and masquerading stays.
        node.hold(Some(IpMasqSpec { backend, enable_ipv6: true, ..IpMasqSpec::default() }));
        assert!(node.reaches(&node.world.pod, Protocol::Tcp, SERVICE[0]), "{backend:?}");
        node.hold(spec(backend, block()));
        node.hold(None);
        assert_eq!(node.rules(), before, "{backend:?}: nothing is left");
    }
}

#[test]
fn another_back_end_takes_over() {
    let Some(node) = Node::new() else { return };
    for backend in [BACKENDS[0], BACKENDS[2], BACKENDS[1], BACKENDS[2], BACKENDS[0]] {
        node.hold(spec(backend, block()));
        assert!(!node.reaches(&node.world.pod, Protocol::Tcp, SERVICE[0]), "{backend:?}");
        let rules = node.rules();
        let places = [
            rules.matches("-A FORWARD -d 169.254.169.254").count(),
            rules.matches("table ip trimtab-metadata").count(),
        ];
        assert_eq!(places.iter().sum::<usize>(), 1, "{backend:?}: {rules}");
    }
}

#[test]
fn what_lets_packets_pass_ahead_of_the_jump_is_told() {
    for (backend, insert) in [
        (BACKENDS[0], Some("iptables-nft -I FORWARD 1 -s 10.244.0.0/16 -j ACCEPT")),
        (BACKENDS[2], Some("iptables-nft -I FORWARD 1 -j ACCEPT")),
    ] {
        let Some(node) = Node::new() else { return };
        node.hold(spec(backend, block()));
        insert.into_iter().for_each(|rule| drop(node.world.node.shell(rule)));
        let found = node.hold(spec(backend, block()));
        let told = found.contains(&"metadata-block-passed-by");
        assert_eq!(told, backend == BACKENDS[0], "{backend:?}: {found:?}");
        assert_eq!(node.reaches(&node.world.pod, Protocol::Tcp, SERVICE[0]), told, "{backend:?}");
    }
}
