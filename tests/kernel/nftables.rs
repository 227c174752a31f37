//! The table of our own in nftables on the real kernel, over netlink alone, in fresh network namespaces. The program `nft`
//! only plays others: it lists what we wrote, and damages it.

use std::net::IpAddr;
use std::process::Command;
use std::sync::Arc;

use trimtab::adapters::iptables::{Iptables, SEARCH_PATH};
use trimtab::adapters::nftables::table;
use trimtab::subsystems::masquerade::Masquerade;
use trimtab_domain::masquerade::{
    AddressRange, Backend, Exception, Family, Masquerading, NATIVE_TABLE, Native, NativeView, Pool, PortProtocol,
    Share, TableId,
};
use trimtab_domain::spec::ip_masq::BackendWish;
use trimtab_domain::spec::{IpMasqSpec, NodeSpec};

use crate::laws::{self, Fixture, prove_five_laws, texts};
use crate::support::fake_ledger::FakeLedger;
use crate::support::fake_masq_config::FakeMasqConfig;
use crate::support::namespace::{Mounts, cannot_run, in_fresh_namespaces};
use crate::support::tables::{load, print, run};

/// Runs the test in namespaces of its own, on kernels that have nftables.
fn with_nftables(test: impl FnOnce() + Send) {
    in_fresh_namespaces(Mounts::Inherited, || {
        if Command::new("nft").arg("--version").output().is_err() {
            return cannot_run("there is no program nft to look at what was written");
        }
        test();
    });
}

fn number(text: &str) -> u128 {
    match text.parse::<IpAddr>().unwrap() {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

fn range(first: &str, last: &str) -> AddressRange {
    AddressRange { first: number(first), last: number(last) }
}

const PLAIN: Masquerading = Masquerading { protocol: None, share: None, ports: None, random_fully: true };

/// One with everything that a policy can ask for.
fn rich(family: Family) -> Native {
    let exempt = match family {
        Family::V4 => vec![
            range("10.0.0.0", "11.255.255.255"),
            range("192.168.1.1", "192.168.1.1"),
            range("240.0.0.0", "255.255.255.255"),
        ],
        Family::V6 => vec![
            range("fd00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            range("fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ],
    };
    let share = Some(Share { part: 28_976, whole: 61_744 });
    let tcp =
        Masquerading { protocol: Some(PortProtocol::Tcp), share, ports: Some((1024, 29_999)), random_fully: true };
    let udp = Masquerading { protocol: Some(PortProtocol::Udp), ports: Some((4000, 4000)), ..PLAIN };
    let masquerade = vec![tcp, udp, Masquerading { random_fully: false, ..PLAIN }];
    Native { exempt, masquerade, ..Native::default() }
}

/// One with everything beyond the agents'.
fn beyond(family: Family) -> Native {
    let pool = |first: &str, last: &str| Some(Pool { first: first.parse().unwrap(), last: last.parse().unwrap() });
    let (source, pool) = match family {
        Family::V4 => (range("10.244.0.0", "10.244.255.255"), pool("192.0.2.1", "192.0.2.9")),
        Family::V6 => (range("fd00:10::", "fd00:10::ffff"), pool("2001:db8::1", "2001:db8::1")),
    };
    let exceptions = vec![
        Exception::Ports { protocol: PortProtocol::Tcp, first: 443, last: 443 },
        Exception::Ports { protocol: PortProtocol::Udp, first: 8000, last: 8999 },
        Exception::Interface("wg0".into()),
        Exception::Mark { value: 0x4000, mask: 0x4000 },
        Exception::Mark { value: 7, mask: u32::MAX },
    ];
    Native { exceptions, sources: Some(vec![source]), pool, ..rich(family) }
}

fn holds(family: Family, native: &Native) {
    assert_eq!(table::read(family).unwrap(), NativeView::Holds(native.clone()), "{family}");
}

#[test]
fn what_is_written_is_read_back_and_the_program_agrees() {
    with_nftables(|| {
        for family in Family::ALL {
            assert_eq!(table::read(family).unwrap(), NativeView::Absent);
            for native in
                [rich(family), Native { masquerade: vec![PLAIN], ..Native::default() }, beyond(family), rich(family)]
            {
                table::write(family, &native).unwrap();
                holds(family, &native);
            }
        }
        let listed = nft(&["list", "table", "ip", NATIVE_TABLE]);
        for part in [
            "type nat hook postrouting priority 110; policy accept;",
            "fib daddr type != local jump masq",
            "ip daddr @exempt counter packets 0 bytes 0 return",
            "meta l4proto tcp numgen random mod 61744 < 28976 counter packets 0 bytes 0 masquerade to :1024-29999 fully-random",
            "meta l4proto udp counter packets 0 bytes 0 masquerade to :4000 fully-random",
            "counter packets 0 bytes 0 masquerade\n",
            "elements = { 10.0.0.0-11.255.255.255, 192.168.1.1,",
        ] {
            let listed = listed.replace("10.0.0.0/7", "10.0.0.0-11.255.255.255");
            assert!(
                listed.contains(part) || listed.contains(&part.replace("110", "srcnat + 10")),
                "{part:?} is not in\n{listed}"
            );
        }
        let listed = nft(&["list", "table", "ip6", NATIVE_TABLE]);
        assert!(listed.contains("ip6 daddr @exempt counter packets 0 bytes 0 return"), "{listed}");
        assert!(listed.contains("fd00::/8") && listed.contains("fe80::/10"), "{listed}");
        for family in Family::ALL {
            table::remove(family).unwrap();
            table::remove(family).unwrap();
            assert_eq!(table::read(family).unwrap(), NativeView::Absent);
        }
        assert_eq!(nft(&["list", "ruleset"]).trim(), "");
    });
}

#[test]
fn the_program_shows_what_goes_beyond() {
    with_nftables(|| {
        table::write(Family::V4, &beyond(Family::V4)).unwrap();
        let listed = nft(&["list", "table", "ip", NATIVE_TABLE]);
        for part in [
            "elements = { 10.244.0.0/16 }",
            "tcp dport 443-443 counter packets 0 bytes 0 return",
            "udp dport 8000-8999 counter packets 0 bytes 0 return",
            "oifname \"wg0\" counter packets 0 bytes 0 return",
            "meta mark & 0x00004000 == 0x00004000 counter packets 0 bytes 0 return",
            "ip saddr != @sources counter packets 0 bytes 0 return",
            "counter packets 0 bytes 0 snat to 192.0.2.1-192.0.2.9",
        ] {
            assert!(listed.contains(part), "{part:?} is not in\n{listed}");
        }
    });
}

#[test]
fn a_table_that_the_program_made_is_understood() {
    with_nftables(|| {
        let text = format!(
            "table ip {NATIVE_TABLE} {{
                set exempt {{ type ipv4_addr; flags interval; elements = {{ 10.0.0.0/8, 172.16.0.0/12 }} }}
                chain masq {{
                    ip daddr @exempt counter return
                    meta l4proto udp numgen random mod 10 < 3 counter masquerade to :1-9 fully-random
                    counter masquerade fully-random
                }}
                chain postrouting {{
                    type nat hook postrouting priority srcnat + 10; policy accept;
                    fib daddr type != local jump masq
                }}
            }}"
        );
        feed(&text);
        let share = Some(Share { part: 3, whole: 10 });
        let udp = Masquerading { protocol: Some(PortProtocol::Udp), share, ports: Some((1, 9)), random_fully: true };
        let exempt = vec![range("10.0.0.0", "10.255.255.255"), range("172.16.0.0", "172.31.255.255")];
        holds(Family::V4, &Native { exempt, masquerade: vec![udp, PLAIN], ..Native::default() });
    });
}

#[test]
fn damage_is_seen_and_repaired() {
    let damages = [
        "delete table ip trimtab-masq",
        "flush ruleset",
        "flush chain ip trimtab-masq masq",
        "flush set ip trimtab-masq exempt",
        "delete element ip trimtab-masq exempt { 192.168.1.1 }",
        "add element ip trimtab-masq exempt { 1.2.3.4 }",
        "insert rule ip trimtab-masq masq accept",
        "add rule ip trimtab-masq masq accept",
        "insert rule ip trimtab-masq postrouting ip daddr 8.8.8.8 return",
        "add table ip trimtab-masq { flags dormant; }",
        "flush chain ip trimtab-masq postrouting\ndelete chain ip trimtab-masq postrouting",
        "flush chain ip trimtab-masq postrouting\ndelete chain ip trimtab-masq postrouting\nadd chain ip trimtab-masq \
         postrouting { type nat hook postrouting priority 90; policy accept; }",
        "flush chain ip trimtab-masq masq\ndelete set ip trimtab-masq exempt\nadd set ip trimtab-masq exempt { type \
         ipv4_addr; }",
        "add chain ip trimtab-masq postrouting { policy drop; }",
    ];
    with_nftables(|| {
        let native = rich(Family::V4);
        for damage in damages {
            table::write(Family::V4, &native).unwrap();
            holds(Family::V4, &native);
            feed(damage);
            assert_ne!(table::read(Family::V4).unwrap(), NativeView::Holds(native.clone()), "{damage}");
            table::write(Family::V4, &native).unwrap_or_else(|error| panic!("{damage}: {error:?}"));
            holds(Family::V4, &native);
        }
    });
}

#[test]
fn thousands_of_ranges_are_one_transaction() {
    with_nftables(|| {
        for (family, count) in [(Family::V4, 20_000_u128), (Family::V6, 20_000)] {
            let base = number(if family == Family::V4 { "20.0.0.0" } else { "fd00::" });
            let exempt =
                (0..count).map(|index| AddressRange { first: base + index * 256, last: base + index * 256 + 127 });
            let native = Native { exempt: exempt.collect(), masquerade: vec![PLAIN], ..Native::default() };
            table::write(family, &native).unwrap();
            let generation = trimtab::adapters::nftables::generation().unwrap();
            table::write(family, &native).unwrap();
            assert_eq!(trimtab::adapters::nftables::generation().unwrap(), generation + 1, "one transaction");
            holds(family, &native);
        }
    });
}

/// Loads a text as another program would.
fn feed(text: &str) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    run("nft", &["-f", file.path().to_str().unwrap()]);
}

struct Node {
    ledger: FakeLedger,
    subsystem: Masquerade<Iptables, FakeLedger>,
}

impl Node {
    fn new() -> Self {
        feed("flush ruleset");
        let ledger = FakeLedger::new();
        let iptables = Arc::new(Iptables::new(SEARCH_PATH));
        let subsystem = Masquerade::new(iptables, Arc::new(ledger.clone()), Arc::new(FakeMasqConfig::new()));
        Self { ledger, subsystem }
    }
}

fn wish(backend: BackendWish) -> NodeSpec {
    let spec = IpMasqSpec { backend, enable_ipv6: true, ..IpMasqSpec::default() };
    NodeSpec { ip_masq: Some(spec), ..NodeSpec::default() }
}

impl Fixture for Node {
    type Sub = Masquerade<Iptables, FakeLedger>;
    type State = (String, std::collections::BTreeMap<(String, String), trimtab_domain::record::Record>);

    fn subsystem(&self) -> &Self::Sub {
        &self.subsystem
    }

    fn spec(&self) -> NodeSpec {
        wish(BackendWish::Nftables)
    }

    fn state(&self) -> Self::State {
        (nft(&["-s", "list", "ruleset"]), self.ledger.snapshot())
    }

    fn attempts(&self) -> Option<usize> {
        trimtab::adapters::nftables::generation().ok().and_then(|generation| usize::try_from(generation).ok())
    }

    fn drift(&self) {
        feed("flush chain ip6 trimtab-masq masq");
    }

    /// Nothing here can be made to fail on purpose; the hermetic tests do.
    fn break_one(&self) -> Option<String> {
        None
    }

    fn repair(&self) {}
}

#[test]
fn the_laws_hold() {
    with_nftables(|| block_on(prove_five_laws(Node::new)));
}

#[test]
fn another_back_end_takes_over_and_the_old_rules_go_last() {
    let wishes = [BackendWish::IptablesNft, BackendWish::Nftables, BackendWish::IptablesLegacy, BackendWish::Nftables];
    with_nftables(|| {
        block_on(async {
            let node = Node::new();
            let mut before: Option<BackendWish> = None;
            for backend in wishes {
                let spec = wish(backend);
                let pass = laws::pass(&node.subsystem, &spec).await;
                assert!(
                    pass.failures.is_empty() && pass.left.is_empty(),
                    "{:?} {:?}",
                    pass.failures,
                    texts(&pass.left)
                );
                let steps = texts(&pass.plan);
                if before.is_some() {
                    for family in ["ipv4", "ipv6"] {
                        let of =
                            |part: &str| steps.iter().position(|step| step.starts_with(family) && step.contains(part));
                        let (made, gone) = (of("absent -> ").unwrap(), of(" -> absent").unwrap());
                        assert!(made < gone, "{backend:?}: {steps:?}");
                    }
                }
                before = Some(backend);
                let there = |family| {
                    let iptables = |backend| print(TableId { family, backend }).contains("IP-MASQ-AGENT");
                    (
                        iptables(Backend::Nft),
                        iptables(Backend::Legacy),
                        table::read(family).unwrap() != NativeView::Absent,
                    )
                };
                let expected = match backend {
                    BackendWish::IptablesNft => (true, false, false),
                    BackendWish::IptablesLegacy => (false, true, false),
                    _ => (false, false, true),
                };
                for family in Family::ALL {
                    assert_eq!(there(family), expected, "{backend:?} {family}");
                }
            }
            // Coexistence: iptables' own tables and ours are blind to one another.
            load(
                TableId { family: Family::V4, backend: Backend::Nft },
                "*nat\n-A POSTROUTING -s 10.9.0.0/16 -j MASQUERADE\nCOMMIT\n",
            );
            run("iptables-nft", &["-t", "nat", "-F"]);
            assert!(
                laws::dry_run(&node.subsystem, &wish(BackendWish::Nftables)).await.is_empty(),
                "iptables -F leaves it alone"
            );
        });
    });
}

fn block_on(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future);
}

/// What the program prints.
fn nft(arguments: &[&str]) -> String {
    let output = Command::new("nft").args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
