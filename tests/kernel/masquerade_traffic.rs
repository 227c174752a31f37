//! What the rules count, on the real kernel with real flows: each connection once, by the kind of rule that decided, and
//! nothing of it is lost when rules are rewritten, flushed by others, or moved to another back end.

use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use trimtab::adapters::iptables::{Iptables, SEARCH_PATH};
use trimtab::adapters::nftables::counters::KernelCounters;
use trimtab::ports::traffic::Traffic;
use trimtab::reconcile::pass;
use trimtab::subsystems::masquerade::Masquerade;
use trimtab_domain::masquerade::{Counted, Exception, Family, PortProtocol};
use trimtab_domain::spec::IpMasqSpec;
use trimtab_domain::spec::ip_masq::BackendWish;

use crate::support::fake_ledger::FakeLedger;
use crate::support::fake_masq_config::FakeMasqConfig;
use crate::support::namespace::cannot_run;
use crate::support::world::{PORT, Protocol, World};

/// Masqueraded with the default list, and exempt.
const OUTSIDE: &str = "8.8.8.8";
const OUTSIDE_V6: &str = "2001:4860:4860::8888";
const EXEMPT: &str = "10.50.0.1";

/// Non-zero sums in the order of the kinds.
type Sums = Vec<(Family, Counted, u64)>;

/// A node with an agent that counts, and flows that were never seen before.
struct Node {
    world: World,
    subsystem: Arc<Masquerade<Iptables, FakeLedger>>,
    traffic: Arc<Traffic>,
    ports: Range<u16>,
}

impl Node {
    fn new(world: World) -> Self {
        let traffic = Arc::new(Traffic::new(Arc::new(KernelCounters)).looking_every(Duration::ZERO));
        let (nat, files) = (Arc::new(Iptables::new(SEARCH_PATH)), Arc::new(FakeMasqConfig::new()));
        let subsystem = Masquerade::new(nat, Arc::new(FakeLedger::new()), files).counting(Arc::clone(&traffic));
        Self { world, subsystem: Arc::new(subsystem), traffic, ports: 34_000..35_000 }
    }

    /// One pass, which must leave nothing to do.
    fn hold(&self, spec: &IpMasqSpec) {
        let (subsystem, wish) = (Arc::clone(&self.subsystem), Some(spec.clone()));
        self.world.node.run(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let outcome = runtime.block_on(pass::run(&*subsystem, &wish, |_| false, &CancellationToken::new()));
            assert!(outcome.failures.is_empty() && !outcome.again, "{:?}", outcome.failures);
            assert!(outcome.refusals.is_empty(), "{:?}", outcome.refusals);
        });
    }

    fn flows(&mut self, protocol: Protocol, to: &str, count: usize) {
        for port in self.ports.by_ref().take(count) {
            let to: IpAddr = to.parse().unwrap();
            self.world.ask(&self.world.pod, protocol, to, (None, port)).unwrap();
        }
    }

    /// With iptables-legacy the sums are those of the last pass.
    fn sums(&self, spec: &IpMasqSpec) -> Sums {
        if spec.backend == BackendWish::IptablesLegacy {
            self.hold(spec);
        }
        let traffic = Arc::clone(&self.traffic);
        let sums = self.world.node.run(move || traffic.sums(&Counted::CONNECTIONS));
        sums.into_iter().filter(|(_, _, sum)| *sum > 0).collect()
    }
}

fn spec(backend: BackendWish) -> IpMasqSpec {
    let mut spec = IpMasqSpec { backend, enable_ipv6: true, ..IpMasqSpec::default() };
    spec.beyond.exceptions.push(Exception::Ports { protocol: PortProtocol::Tcp, first: PORT, last: PORT });
    spec
}

#[test]
fn each_connection_is_counted_once_and_no_rewriting_loses_one() {
    let flushes = [
        (BackendWish::IptablesNft, "iptables-nft -t nat -F IP-MASQ-AGENT"),
        (BackendWish::IptablesLegacy, "iptables-legacy -t nat -F IP-MASQ-AGENT"),
        (BackendWish::Nftables, "nft flush chain ip trimtab-masq masq"),
    ];
    for (backend, flush) in flushes {
        let world = match World::new() {
            Ok(world) => world,
            Err(errno) => return cannot_run(&format!("no fresh network namespaces: {errno}")),
        };
        let mut node = Node::new(world);
        let mut wish = spec(backend);
        node.hold(&wish);
        assert_eq!(node.sums(&wish), [], "{backend:?}: nothing was sent");

        node.flows(Protocol::Udp, OUTSIDE, 5);
        node.flows(Protocol::Udp, EXEMPT, 3);
        node.flows(Protocol::Udp, OUTSIDE_V6, 4);
        node.flows(Protocol::Tcp, OUTSIDE, 2);
        let shown = |exempt, ports, masqueraded| {
            vec![
                (Family::V4, Counted::NonMasquerade, exempt),
                (Family::V4, Counted::ExemptPort, ports),
                (Family::V4, Counted::Masquerade, masqueraded),
                (Family::V6, Counted::Masquerade, 4),
            ]
        };
        assert_eq!(node.sums(&wish), shown(3, 2, 5), "{backend:?}");
        assert_eq!(node.sums(&wish), shown(3, 2, 5), "{backend:?}: asking changes nothing");

        // Not looked at between the flows and the rewriting.
        node.flows(Protocol::Udp, OUTSIDE, 2);
        wish.non_masquerade_cidrs.push("9.9.9.9/32".parse().unwrap());
        node.hold(&wish);
        node.flows(Protocol::Udp, EXEMPT, 9);
        node.flows(Protocol::Udp, "9.9.9.9", 1);
        assert_eq!(node.sums(&wish), shown(13, 2, 7), "{backend:?}: rewritten");

        node.world.node.shell(flush);
        assert_eq!(
            node.world
                .node
                .run({
                    let traffic = Arc::clone(&node.traffic);
                    move || traffic.sums(&Counted::CONNECTIONS)
                })
                .iter()
                .map(|(_, _, sum)| sum)
                .sum::<u64>(),
            26,
            "{backend:?}: flushed by others"
        );
        node.hold(&wish);
        node.flows(Protocol::Tcp, OUTSIDE, 1);
        assert_eq!(node.sums(&wish), shown(13, 3, 7), "{backend:?}: healed");

        // A new list that counts more than the old one had: what was seen before must not be taken off.
        wish.random_fully = false;
        node.hold(&wish);
        node.flows(Protocol::Udp, OUTSIDE, 12);
        assert_eq!(node.sums(&wish), shown(13, 3, 19), "{backend:?}: more than ever before");
    }
}

#[test]
fn a_change_of_back_end_keeps_the_sums() {
    let world = match World::new() {
        Ok(world) => world,
        Err(errno) => return cannot_run(&format!("no fresh network namespaces: {errno}")),
    };
    let mut node = Node::new(world);
    let mut expected = 0;
    for backend in [BackendWish::Nftables, BackendWish::IptablesNft, BackendWish::IptablesLegacy, BackendWish::Nftables]
    {
        let wish = spec(backend);
        node.hold(&wish);
        node.flows(Protocol::Udp, OUTSIDE, 3);
        expected += 3;
        assert_eq!(node.sums(&wish), [(Family::V4, Counted::Masquerade, expected)], "{backend:?}");
    }
}
