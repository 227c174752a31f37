//! How near one destination is to having used up the source ports of an address that connections are translated to.
//!
//! Connections through one translated address to one destination (address, port and protocol) differ by their source
//! port alone (`nf_nat_used_tuple`, `net/netfilter/nf_nat_core.c`). When all of a range are taken, the next connection's
//! first packet is dropped, and nothing but a count of failures tells. Few destinations get there, and none while the
//! kernel tracks fewer connections than a range has ports: only then is the table worth reading.

use std::fmt;
use std::net::IpAddr;

use super::PortProtocol;
use crate::plan::{Finding, Severity};

/// Where rules name no ports, the kernel chooses from these for a connection that came from one of them
/// (`nf_nat_l4proto_unique_tuple`).
const ANY_PORT: (u32, u32) = (1024, 65_535);

/// From so many hundredths of a range on the table is read.
const LOOK_PERCENT: u64 = 50;

/// Time to act. The kernel tries a bounded number of ports at random, so the first failures come before the last port.
const NEARLY_USED_UP_PERCENT: u64 = 80;

/// Connections fail, or are about to.
const USED_UP_PERCENT: u64 = 95;

/// Destinations that are told of at once; the busiest come first.
const MOST_TOLD: usize = 5;

/// A connection as its answers travel: to a source address and port, which no other connection to the same
/// destination may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    /// What the connection is to.
    pub route: Route,
    /// The source port that the destination sees.
    pub port: u16,
    /// True if the source was translated on this node.
    pub is_translated: bool,
}

/// All that connections which compete for source ports have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// The protocol.
    pub protocol: PortProtocol,
    /// The source address that the destination sees.
    pub source: IpAddr,
    /// Where the packets go after all translation.
    pub destination: IpAddr,
    /// The port there.
    pub destination_port: u16,
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { protocol, source, destination, destination_port } = self;
        let protocol = protocol.as_str();
        match destination {
            IpAddr::V4(to) => write!(f, "{protocol} {to}:{destination_port} from {source}"),
            IpAddr::V6(to) => write!(f, "{protocol} [{to}]:{destination_port} from {source}"),
        }
    }
}

/// What a look at the table of connections found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sample {
    /// Those of the connections read that use a source port.
    pub flows: Vec<Flow>,
    /// Connections read, of whatever protocol.
    pub read: u64,
    /// True if there were no more.
    pub is_whole: bool,
}

/// Source ports in use on one route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortUse {
    /// The route.
    pub route: Route,
    /// Ports in use; an estimate where the table was too long to be read whole.
    pub used: u64,
}

/// The source ports that connections may be given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortRanges(Vec<(u32, u32)>);

impl PortRanges {
    /// Those that the rules name (first, last), or the kernel's where they name none.
    #[must_use]
    pub fn new(named: &[(u32, u32)]) -> Self {
        Self(if named.is_empty() { vec![ANY_PORT] } else { named.to_vec() })
    }

    /// How many there are.
    #[must_use]
    pub fn available(&self) -> u64 {
        self.0.iter().map(|(first, last)| u64::from(last.saturating_sub(*first)) + 1).sum()
    }

    fn holds(&self, port: u16) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&u32::from(port)))
    }

    fn is_filled(&self, used: u64, percent: u64) -> bool {
        used.saturating_mul(100) >= self.available().saturating_mul(percent)
    }

    /// Whether any destination can have used up half of them while the kernel tracks so many connections.
    #[must_use]
    pub fn are_worth_a_look(&self, entries: u64) -> bool {
        self.is_filled(entries, LOOK_PERCENT)
    }

    /// The busiest routes with a translated source, at most five, the busiest first. `entries` is how many connections the
    /// table held: of a part of it, which the kernel's hash makes a fair sample, the whole is told.
    #[must_use]
    pub fn busiest(&self, sample: &Sample, entries: u64) -> Vec<PortUse> {
        // The untranslated ones on a route count too: a node's own connection from the address holds its port as well.
        let mut flows: Vec<&Flow> = sample.flows.iter().filter(|flow| self.holds(flow.port)).collect();
        flows.sort_unstable();
        let whole = if sample.is_whole { sample.read } else { entries.max(sample.read) };
        let scale = |count: usize| {
            let count = u64::try_from(count).unwrap_or(u64::MAX);
            (count.saturating_mul(whole) / sample.read.max(1)).min(self.available())
        };
        let routes = flows.chunk_by(|one, next| one.route == next.route);
        let translated = routes.filter(|route| route.iter().any(|flow| flow.is_translated));
        let used = |route: &[&Flow]| route.first().map(|flow| PortUse { route: flow.route, used: scale(route.len()) });
        let mut busiest: Vec<PortUse> = translated.filter_map(used).collect();
        busiest.sort_by_key(|found| std::cmp::Reverse(found.used));
        busiest.truncate(MOST_TOLD);
        busiest
    }

    /// What a person should do before connections fail. The texts hold still while the numbers move.
    #[must_use]
    pub fn findings(&self, busiest: &[PortUse]) -> Vec<Finding> {
        busiest.iter().filter_map(|found| self.finding(found)).collect()
    }

    fn finding(&self, PortUse { route, used }: &PortUse) -> Option<Finding> {
        let (severity, code, percent) = if self.is_filled(*used, USED_UP_PERCENT) {
            (Severity::Error, "source-ports-used-up", USED_UP_PERCENT)
        } else if self.is_filled(*used, NEARLY_USED_UP_PERCENT) {
            (Severity::Warning, "source-ports-nearly-used-up", NEARLY_USED_UP_PERCENT)
        } else {
            return None;
        };
        let message = format!(
            "{percent} % or more of the {} source ports for connections to this destination are in use; when all are, new \
             connections to it are dropped",
            self.available()
        );
        let remedy =
            "give it more source addresses (ipMasq.extensions.snat), widen ipMasq.toPorts, or let what connects keep \
                      its connections open and use them again (conntrack -L -d ADDRESS shows whose they are)"
                .to_owned();
        Some(Finding { severity, code, object: route.to_string(), message, remedy })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use super::*;

    fn route(destination: &str) -> Route {
        Route {
            protocol: PortProtocol::Tcp,
            source: "198.51.100.1".parse().unwrap(),
            destination: destination.parse().unwrap(),
            destination_port: 443,
        }
    }

    fn flows(destination: &str, ports: std::ops::Range<u16>, is_translated: bool) -> Vec<Flow> {
        ports.map(|port| Flow { route: route(destination), port, is_translated }).collect()
    }

    fn whole(flows: Vec<Flow>) -> Sample {
        Sample { read: flows.len() as u64, flows, is_whole: true }
    }

    #[test]
    fn the_table_is_read_only_where_a_range_can_be_half_used() {
        type Row<'a> = (&'a [(u32, u32)], u64, u64);
        let rows: [Row<'_>; 4] = [
            (&[], 64_512, 32_256),
            (&[(40_000, 40_099)], 100, 50),
            (&[(1024, 29_999), (32_768, 65_535)], 61_744, 30_872),
            (&[(5, 5)], 1, 1),
        ];
        for (named, available, from) in rows {
            let ports = PortRanges::new(named);
            assert_eq!(ports.available(), available, "{named:?}");
            assert!(ports.are_worth_a_look(from) && !ports.are_worth_a_look(from - 1), "{named:?}");
        }
    }

    #[test]
    fn a_warning_comes_before_the_last_port() {
        let ports = PortRanges::new(&[(40_000, 40_099)]);
        let rows = [
            (79, None),
            (80, Some((Severity::Warning, "source-ports-nearly-used-up"))),
            (94, Some((Severity::Warning, "source-ports-nearly-used-up"))),
            (95, Some((Severity::Error, "source-ports-used-up"))),
            (100, Some((Severity::Error, "source-ports-used-up"))),
        ];
        for (used, expected) in rows {
            let busiest = ports.busiest(&whole(flows("8.8.8.8", 40_000..40_000 + used, true)), u64::from(used));
            assert_eq!((busiest.len(), busiest[0].used), (1, u64::from(used)));
            let found = ports.findings(&busiest);
            let told: Vec<_> = found.iter().map(|finding| (finding.severity, finding.code)).collect();
            assert_eq!(told, Vec::from_iter(expected), "{used} of 100");
            assert!(found.iter().all(|finding| finding.object == "tcp 8.8.8.8:443 from 198.51.100.1"));
        }
    }

    #[test]
    fn only_what_competes_for_the_ports_is_counted() {
        let ports = PortRanges::new(&[(40_000, 40_099)]);
        let mut all = flows("8.8.8.8", 40_000..40_030, true);
        // The node's own connections from the address that others are translated to.
        all.extend(flows("8.8.8.8", 40_030..40_040, false));
        // Ports that the rules do not hand out, another destination, and a client's connections to this node.
        all.extend(flows("8.8.8.8", 50_000..50_080, true));
        all.extend(flows("9.9.9.9", 40_000..40_020, true));
        all.extend(flows("10.0.0.1", 40_000..40_100, false));
        let found = ports.busiest(&whole(all), 0);
        let found: Vec<_> = found.iter().map(|found| (found.route, found.used)).collect();
        assert_eq!(found, [(route("8.8.8.8"), 40), (route("9.9.9.9"), 20)]);
        let v6 = Route { destination: "2001:db8::1".parse().unwrap(), ..route("8.8.8.8") };
        assert_eq!(v6.to_string(), "tcp [2001:db8::1]:443 from 198.51.100.1");
    }

    #[test]
    fn of_a_part_the_whole_is_told_and_the_busiest_come_first() {
        let ports = PortRanges::new(&[]);
        let mut sample = whole(flows("8.8.8.8", 2000..12_000, true));
        for other in 0..8_u16 {
            sample.flows.extend(flows(&format!("9.9.9.{other}"), 2000..2000 + other, true));
        }
        (sample.read, sample.is_whole) = (100_000, false);
        let found = ports.busiest(&sample, 520_000);
        assert_eq!(found.iter().map(|found| found.used).collect::<Vec<_>>(), [52_000, 36, 31, 26, 20]);
        assert_eq!(ports.findings(&found).len(), 1);
        // Connections may end while the table is read, and no estimate goes beyond what there is.
        assert_eq!(ports.busiest(&sample, 10)[0].used, 10_000);
        assert_eq!(ports.busiest(&sample, u64::MAX)[0].used, 64_512);
        assert_eq!(ports.busiest(&Sample::default(), 5), []);
    }
}
