//! Looks at the kernel's table of connections, with each pass and not in between.
//!
//! Its counts are read each time. The table itself is read only while it holds so many connections that the source ports
//! of one destination can run short, not more often than every ten seconds, and never beyond a number of entries.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use trimtab_domain::masquerade::{Conntrack, PortRanges, PortUse, Window};
use trimtab_domain::plan::{Finding, Severity};
use trimtab_domain::spec::IpMasqSpec;

use crate::ports::HostFiles;
use crate::ports::connections::TrackedConnections;

/// Of the network namespace of the thread that reads it.
const COUNT: &str = "/proc/sys/net/netfilter/nf_conntrack_count";
const MAX: &str = "/proc/sys/net/netfilter/nf_conntrack_max";
/// Absent in a kernel without `CONFIG_NF_CONNTRACK_PROCFS`.
const STAT: &str = "/proc/thread-self/net/stat/nf_conntrack";

/// Entries that one look reads at most: about a tenth of a second, twice what it takes to use up all ports once.
const MOST_ENTRIES: usize = 1 << 17;
/// Shortest time between two looks, so that they cost a hundredth of one CPU at most.
const BETWEEN_LOOKS: Duration = Duration::from_secs(10);
/// Longest time between two passes while ports may run short.
pub(super) const WHILE_CLOSE: Duration = Duration::from_secs(30);

pub(super) struct Connections {
    files: Arc<dyn HostFiles>,
    table: Option<Arc<dyn TrackedConnections>>,
    begun: Instant,
    window: Mutex<Window>,
    looked: Mutex<Option<(Instant, Ports)>>,
}

/// What a pass saw.
#[derive(Debug, Clone, Default)]
pub(super) struct Look {
    /// The numbers.
    pub(super) conntrack: Conntrack,
    /// True if the source ports of one destination can run short.
    pub(super) is_close: bool,
    ports: Ports,
}

/// What the table showed when it was last read.
#[derive(Debug, Clone, Default)]
struct Ports {
    busiest: Vec<PortUse>,
    findings: Vec<Finding>,
}

impl Look {
    pub(super) fn findings(&self) -> Vec<Finding> {
        let mut found = self.conntrack.findings();
        found.extend(self.ports.findings.iter().cloned());
        found
    }
}

impl Connections {
    pub(super) fn new(files: Arc<dyn HostFiles>, table: Option<Arc<dyn TrackedConnections>>) -> Self {
        Self { files, table, begun: Instant::now(), window: Mutex::default(), looked: Mutex::default() }
    }

    /// `None` where connections are not tracked, or it cannot be told: what only warns fails no pass.
    pub(super) fn look(&self, spec: &IpMasqSpec) -> Option<Look> {
        let read = |path| self.files.read(Path::new(path)).ok().flatten();
        let mut conntrack = Conntrack::parse(&read(COUNT)?, &read(MAX)?, read(STAT).as_deref())?;
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        conntrack.insert_failed_lately = window.look(self.begun.elapsed(), conntrack.insert_failed);
        let ranges = PortRanges::new(&spec.to_ports);
        let is_close = ranges.are_worth_a_look(conntrack.entries);
        let ports = self.ports(&ranges, conntrack.entries, is_close);
        conntrack.source_ports = ports.busiest.first().map_or(0, |found| found.used);
        conntrack.source_ports_available = ranges.available();
        Some(Look { conntrack, is_close, ports })
    }

    fn ports(&self, ranges: &PortRanges, entries: u64, is_close: bool) -> Ports {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(table) = self.table.as_ref().filter(|_| is_close) else {
            *looked = None;
            return Ports::default();
        };
        let now = Instant::now();
        if let Some((_, ports)) = looked.as_ref().filter(|(when, _)| now.duration_since(*when) < BETWEEN_LOOKS) {
            return ports.clone();
        }
        let ports = match table.sample(MOST_ENTRIES) {
            Ok(sample) => {
                let busiest = ranges.busiest(&sample, entries);
                Ports { findings: ranges.findings(&busiest), busiest }
            }
            Err(error) => Ports { findings: vec![unwatched(&error)], busiest: Vec::new() },
        };
        *looked = Some((now, ports.clone()));
        ports
    }
}

fn unwatched(error: &dyn std::error::Error) -> Finding {
    let cause = error.source().map(|source| format!(": {source}")).unwrap_or_default();
    Finding {
        severity: Severity::Info,
        code: "source-ports-unwatched",
        object: "conntrack".to_owned(),
        message: format!("there are connections enough to use up the source ports to one destination; {error}{cause}"),
        remedy: "load the kernel module nf_conntrack_netlink".to_owned(),
    }
}
