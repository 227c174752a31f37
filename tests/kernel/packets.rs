//! Packets through the real kernel while the rules change: three hosts, each back end, flows that the rules must not
//! mis-source and packets that they must not lose.

use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use tokio_util::sync::CancellationToken;
use trimtab::adapters::conntrack::Conntrack;
use trimtab::adapters::host_fs::HostFs;
use trimtab::adapters::iptables::{Iptables, SEARCH_PATH};
use trimtab::reconcile::pass;
use trimtab::subsystems::masquerade::Masquerade;
use trimtab_domain::masquerade::{Beyond, Exception, Pool, PortProtocol};
use trimtab_domain::spec::IpMasqSpec;
use trimtab_domain::spec::ip_masq::BackendWish;

use crate::support::fake_ledger::FakeLedger;
use crate::support::fake_masq_config::FakeMasqConfig;
use crate::support::namespace::cannot_run;
use crate::support::world::{Host, Protocol, World};

const BACKENDS: [BackendWish; 3] = [BackendWish::IptablesNft, BackendWish::IptablesLegacy, BackendWish::Nftables];
/// As the outside sees the node and the pod.
const NODE: &str = "198.51.100.1";
const POD: &str = "10.244.1.2";
/// Exempt by default, and not.
const EXEMPT: &str = "10.50.0.1";
const OUTSIDE: &str = "8.8.8.8";

fn world() -> Option<World> {
    match World::new() {
        Ok(world) => Some(world),
        Err(errno) => {
            cannot_run(&format!("no fresh network namespaces: {errno}"));
            None
        }
    }
}

/// An agent on the node; its memory outlives a pass.
struct Agent {
    subsystem: Arc<Masquerade<Iptables, FakeLedger>>,
}

impl Agent {
    fn new() -> Self {
        let (nat, files) = (Arc::new(Iptables::new(SEARCH_PATH)), Arc::new(FakeMasqConfig::new()));
        Self { subsystem: Arc::new(Masquerade::new(nat, Arc::new(FakeLedger::new()), files)) }
    }

    /// One that watches the kernel's table of connections.
    fn watching() -> Self {
        let (nat, files) = (Arc::new(Iptables::new(SEARCH_PATH)), Arc::new(FakeMasqConfig::new()));
        let subsystem = Masquerade::new(nat, Arc::new(FakeLedger::new()), files);
        let host = Arc::new(HostFs::new(Path::new("/")).unwrap());
        Self { subsystem: Arc::new(subsystem.watching(host, Some(Arc::new(Conntrack)))) }
    }

    /// One pass on the node, which must leave nothing to do.
    fn hold(&self, node: &Host, spec: IpMasqSpec) {
        self.hold_and_find(node, spec, "none");
    }

    /// The same; code and object of the findings whose code begins like this.
    fn hold_and_find(&self, node: &Host, spec: IpMasqSpec, beginning: &'static str) -> Vec<(String, String)> {
        let subsystem = Arc::clone(&self.subsystem);
        node.run(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let (wish, go_on) = (Some(spec), CancellationToken::new());
            let pass = pass::run(&*subsystem, &wish, |_| false, &go_on);
            let outcome = runtime.block_on(pass);
            assert!(outcome.failures.is_empty() && !outcome.again, "{:?}", outcome.failures);
            assert!(outcome.refusals.is_empty(), "{:?}", outcome.refusals);
            let found = outcome.findings.iter().filter(|finding| finding.code.starts_with(beginning));
            found.map(|finding| (finding.code.to_owned(), finding.object.clone())).collect()
        })
    }
}

/// Four times `count` prefixes of each family beside the default ones; `turn` makes them others.
fn spec(backend: BackendWish, count: u8, turn: u8) -> IpMasqSpec {
    let mut spec = IpMasqSpec { backend, enable_ipv6: true, ..IpMasqSpec::default() };
    for (high, low) in (0..count).flat_map(|high| (0..4).map(move |low| (high, low))) {
        let network = format!("{}.{high}.{}.0/24", 20 + turn, low * 2);
        spec.non_masquerade_cidrs.push(network.parse().unwrap());
        spec.non_masquerade_cidrs.push(format!("fd{:02x}:{high:x}:{low:x}::/48", 20 + turn).parse().unwrap());
    }
    spec
}

fn seen(world: &World, from: &Host, to: &str, port: u16) -> IpAddr {
    world.ask(from, Protocol::Udp, to.parse().unwrap(), (None, port)).unwrap().ip()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn a_swap_of_a_thousand_prefixes_under_new_flows_loses_and_mis_sources_none() {
    let _alone = GENERATING.lock().unwrap_or_else(PoisonError::into_inner);
    for backend in BACKENDS {
        let Some(world) = world() else { return };
        let agent = Agent::new();
        agent.hold(&world.node, spec(backend, 125, 0));
        forget_flows_soon(&world.node);
        // Three generators side by side: as many new flows as the kernel takes, while the list is swapped again and again.
        let stop = Arc::new(AtomicBool::new(false));
        let rows = [(OUTSIDE, NODE), (EXEMPT, POD), ("2001:4860:4860::8888", "2001:db8:ff::1")];
        let generators: Vec<_> =
            rows.into_iter().map(|(to, expected)| generate(&world.pod, (to, expected), &stop)).collect();
        let swaps = 10;
        for turn in 1..=swaps {
            agent.hold(&world.node, spec(backend, 125, turn % 2));
        }
        stop.store(true, Ordering::SeqCst);
        for (generator, (to, _)) in generators.into_iter().zip(rows) {
            let tally = generator.join().unwrap();
            assert!(tally.flows > 100, "{backend:?} to {to}: {tally:?}");
            assert_eq!((tally.wrong, tally.lost), (0, 0), "{backend:?} to {to}: {tally:?}");
            eprintln!("{backend:?}: {} flows to {to} during {swaps} swaps of 1000 prefixes, none wrong", tally.flows);
        }
    }
}

#[test]
fn a_change_of_back_end_under_new_flows_loses_and_mis_sources_none() {
    let _alone = GENERATING.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(world) = world() else { return };
    let agent = Agent::new();
    agent.hold(&world.node, spec(BackendWish::IptablesNft, 125, 0));
    forget_flows_soon(&world.node);
    let stop = Arc::new(AtomicBool::new(false));
    let rows = [(OUTSIDE, NODE), (EXEMPT, POD), ("2001:4860:4860::8888", "2001:db8:ff::1")];
    let generators: Vec<_> =
        rows.into_iter().map(|(to, expected)| generate(&world.pod, (to, expected), &stop)).collect();
    // Each of the three to each of the others; a thousand prefixes, half of each family.
    for turn in [1, 2, 0, 2, 1, 0] {
        agent.hold(&world.node, spec(BACKENDS[turn], 125, 0));
    }
    stop.store(true, Ordering::SeqCst);
    for (generator, (to, _)) in generators.into_iter().zip(rows) {
        let tally = generator.join().unwrap();
        assert!(tally.flows > 100, "to {to}: {tally:?}");
        assert_eq!((tally.wrong, tally.lost), (0, 0), "to {to}: {tally:?}");
    }
}

/// Source ports that the rules hand out below.
const FEW_PORTS: (u32, u32) = (40_000, 40_099);

#[test]
fn a_destination_that_nearly_uses_up_the_source_ports_is_told_before_the_first_failure() {
    for backend in BACKENDS {
        let Some(world) = world() else { return };
        let spec = IpMasqSpec { backend, to_ports: vec![FEW_PORTS], ..IpMasqSpec::default() };
        Agent::new().hold(&world.node, spec.clone());
        // Flows that stay for longer than this test takes, as connections do.
        world.node.shell("sysctl -q -w net.netfilter.nf_conntrack_udp_timeout=3600");
        let (mut used, mut told) = (0, Vec::new());
        for wanted in [40, 79, 85, 96] {
            for port in 5000 + used..5000 + wanted {
                let shown = world.ask(&world.pod, Protocol::Udp, ip(OUTSIDE), (None, port)).unwrap();
                assert_eq!(shown.ip(), ip(NODE));
                assert!((FEW_PORTS.0..=FEW_PORTS.1).contains(&u32::from(shown.port())), "{backend:?}: {shown}");
            }
            used = wanted;
            // Other destinations have the same ports once more.
            assert_eq!(seen(&world, &world.pod, "100.64.0.1", 5000 + wanted), ip(NODE));
            let agent = Agent::watching();
            told.push(agent.hold_and_find(&world.node, spec.clone(), "source-ports-"));
        }
        let about = |code: &str| vec![(code.to_owned(), format!("udp {OUTSIDE}:7777 from {NODE}"))];
        let expected = [vec![], vec![], about("source-ports-nearly-used-up"), about("source-ports-used-up")];
        assert_eq!(told, expected, "{backend:?}");
        // What was foretold: when the last ports are gone the next flow is lost.
        let lost = (5096..5101).find(|port| world.ask(&world.pod, Protocol::Udp, ip(OUTSIDE), (None, *port)).is_err());
        assert_eq!(lost, Some(5100), "{backend:?}");
    }
}

#[derive(Debug, Default)]
struct Tally {
    flows: u32,
    wrong: u32,
    lost: u32,
}

/// Generators take what CPU there is: one test with them at a time.
static GENERATING: Mutex<()> = Mutex::new(());

/// With the default of 30 s a fast machine uses up all source ports towards one destination, and loses flows for that.
fn forget_flows_soon(node: &Host) {
    node.shell("sysctl -q -w net.netfilter.nf_conntrack_udp_timeout=1");
}

/// Asks from ever new ports until it is told to stop, from a thread on the host.
fn generate(
    host: &Host,
    (to, expected): (&'static str, &'static str),
    stop: &Arc<AtomicBool>,
) -> thread::JoinHandle<Tally> {
    let stop = Arc::clone(stop);
    host.run(move || {
        thread::spawn(move || {
            let mut tally = Tally::default();
            let to = std::net::SocketAddr::new(ip(to), crate::support::world::PORT);
            let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
            let mut buffer = [0; 128];
            while !stop.load(Ordering::SeqCst) {
                // A port of the kernel's choice: a new flow each time.
                let socket = std::net::UdpSocket::bind((any, 0)).unwrap();
                socket.connect(to).unwrap();
                socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                tally.flows += 1;
                match socket.send(b"?").and_then(|_| socket.recv(&mut buffer)) {
                    Ok(length) => {
                        let seen: std::net::SocketAddr =
                            std::str::from_utf8(&buffer[..length]).unwrap().parse().unwrap();
                        tally.wrong += u32::from(seen.ip() != ip(expected));
                    }
                    Err(_) => tally.lost += 1,
                }
            }
            tally
        })
    })
}

#[test]
fn established_flows_keep_what_they_got() {
    for backend in BACKENDS {
        let Some(world) = world() else { return };
        let agent = Agent::new();
        agent.hold(&world.node, spec(backend, 0, 0));
        assert_eq!(seen(&world, &world.pod, OUTSIDE, 31_000), ip(NODE), "{backend:?}");
        assert_eq!(seen(&world, &world.pod, EXEMPT, 31_001), ip(POD), "{backend:?}");
        let mut other = spec(backend, 0, 0);
        other.non_masquerade_cidrs = vec!["8.8.8.0/24".parse().unwrap()];
        agent.hold(&world.node, other);
        // The same ports are the same flows; other ports follow the new list.
        assert_eq!(seen(&world, &world.pod, OUTSIDE, 31_000), ip(NODE), "{backend:?}");
        assert_eq!(seen(&world, &world.pod, EXEMPT, 31_001), ip(POD), "{backend:?}");
        assert_eq!(seen(&world, &world.pod, OUTSIDE, 31_002), ip(POD), "{backend:?}");
        assert_eq!(seen(&world, &world.pod, EXEMPT, 31_003), ip(NODE), "{backend:?}");
    }
}

#[test]
fn what_goes_beyond_the_agents_is_the_same_with_each_back_end() {
    for backend in BACKENDS {
        let Some(world) = world() else { return };
        world.node.shell("ip addr add 198.51.100.77/32 dev lo");
        world.ext.shell("ip route add 198.51.100.77/32 via 198.51.100.1");
        let agent = Agent::new();
        let beyond = |change: fn(&mut Beyond)| {
            let mut spec = spec(backend, 0, 0);
            change(&mut spec.beyond);
            spec
        };
        let ports = |first, last| Exception::Ports { protocol: PortProtocol::Udp, first, last };
        let port = crate::support::world::PORT;
        let rows: Vec<(&str, IpMasqSpec, &str)> = vec![
            ("nothing", beyond(|_| {}), NODE),
            ("the pod's network", beyond(|b| b.sources = vec!["10.244.1.0/24".parse().unwrap()]), NODE),
            ("another network", beyond(|b| b.sources = vec!["10.9.0.0/16".parse().unwrap()]), POD),
            ("no source of this family", beyond(|b| b.sources = vec!["fd00::/8".parse().unwrap()]), POD),
            ("the interface", beyond(|b| b.exceptions = vec![Exception::Interface("to-ext".into())]), POD),
            ("another interface", beyond(|b| b.exceptions = vec![Exception::Interface("to-ex".into())]), NODE),
            ("another mark", beyond(|b| b.exceptions = vec![Exception::Mark { value: 1, mask: 1 }]), NODE),
            ("no mark", beyond(|b| b.exceptions = vec![Exception::Mark { value: 0, mask: 1 }]), POD),
            ("a chosen address", beyond(|b| b.pools = vec![pool("198.51.100.77")]), "198.51.100.77"),
        ];
        let mut rows = rows;
        for (name, exception, expected) in [
            ("the port", ports(port, port), POD),
            ("ports around it", ports(port - 1, port + 1), POD),
            ("ports beside it", ports(port + 1, port + 9), NODE),
        ] {
            let mut spec = spec(backend, 0, 0);
            spec.beyond.exceptions.push(exception);
            rows.push((name, spec, expected));
        }
        let mut chosen = spec(backend, 0, 0);
        chosen.beyond.pools = vec![pool("198.51.100.77")];
        chosen.to_ports = vec![(20_000, 20_009)];
        rows.push(("a chosen address and ports", chosen, "198.51.100.77"));
        for (number, (name, spec, expected)) in (33_000..).zip(rows) {
            let in_range = !spec.to_ports.is_empty();
            agent.hold(&world.node, spec);
            let shown = world.ask(&world.pod, Protocol::Udp, ip(OUTSIDE), (None, number)).unwrap();
            assert_eq!(shown.ip(), ip(expected), "{backend:?}, {name}");
            assert!(!in_range || (20_000..=20_009).contains(&shown.port()), "{backend:?}, {name}: {shown}");
        }
    }
}

fn pool(address: &str) -> Pool {
    Pool { first: ip(address), last: ip(address) }
}

#[test]
fn echo_requests_are_treated_like_everything_else() {
    for backend in BACKENDS {
        let Some(world) = world() else { return };
        Agent::new().hold(&world.node, spec(backend, 0, 0));
        for (to, expected) in
            [(OUTSIDE, NODE), (EXEMPT, POD), ("169.254.169.254", POD), ("2001:4860:4860::8888", "2001:db8:ff::1")]
        {
            assert_eq!(echo(&world, to), ip(expected), "{backend:?} to {to}");
        }
    }
}

/// Sends an echo request from the pod and tells from whom it came to the outside.
fn echo(world: &World, to: &'static str) -> IpAddr {
    let to = ip(to);
    let (family, protocol) = match to {
        IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp),
        IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6),
    };
    // Echo request: type 8, of version 6 128.
    let kind = if to.is_ipv4() { 8 } else { 128 };
    let listener = world.ext.run(move || {
        let raw = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol).unwrap();
        std::net::UdpSocket::from(raw)
    });
    listener.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    world.pod.run(move || {
        let raw = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol).unwrap();
        let raw = std::net::UdpSocket::from(raw);
        let mut packet = [kind, 0, 0, 0, 0x12, 0x34, 0, 1];
        if kind == 8 {
            let sum = packet.chunks(2).fold(0_u32, |sum, pair| sum + u32::from(u16::from_be_bytes([pair[0], pair[1]])));
            let sum = (sum & 0xffff) + (sum >> 16);
            packet[2..4].copy_from_slice(&(!u16::try_from(sum).unwrap()).to_be_bytes());
        }
        raw.send_to(&packet, (to, 0)).unwrap();
    });
    let mut buffer = [0; 256];
    loop {
        let (length, from) = listener.recv_from(&mut buffer).unwrap();
        // Version 4 comes with its header; neighbours talk on version 6 as well.
        let body = if to.is_ipv4() { &buffer[20..length] } else { &buffer[..length] };
        if body.first() == Some(&kind) {
            return from.ip();
        }
    }
}
