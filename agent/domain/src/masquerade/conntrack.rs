//! How near the kernel is to having no room or no source port left for a new connection.
//!
//! Files and their meaning: Documentation/networking/nf_conntrack-sysctl.rst, `net/netfilter/nf_conntrack_standalone.c`.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::plan::{Finding, Severity};

/// Full to so many hundredths: time to raise the limit.
const NEARLY_FULL_PERCENT: u64 = 80;

/// Full to so many hundredths: a burst of connections fills the rest.
const FULL_PERCENT: u64 = 95;

/// So many connections that could not be entered within the window are more than the rare clash of two that began at
/// once.
const MANY_INSERT_FAILURES: u64 = 100;

/// For how long a failure counts at least; twice as long at most, or until the next look.
const WINDOW: Duration = Duration::from_mins(5);

/// The table of tracked connections of one network namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Conntrack {
    /// Connections that it holds.
    pub entries: u64,
    /// Connections that it may hold; 0: as many as memory allows.
    pub max: u64,
    /// Connections that could not be entered since the namespace began, mostly because their source address and port
    /// were in use; 0 where the kernel does not say.
    pub insert_failed: u64,
    /// Packets that were dropped for want of an entry since then; 0 where the kernel does not say.
    pub dropped: u64,
    /// The part of `insert_failed` that happened lately, as [`Window::look`] tells.
    pub insert_failed_lately: u64,
    /// Source ports in use towards the destination that uses most of them; 0 while too few connections are tracked for
    /// any to run short.
    pub source_ports: u64,
    /// Source ports that connections to one destination may be given.
    pub source_ports_available: u64,
}

impl Conntrack {
    /// From the texts of `nf_conntrack_count`, `nf_conntrack_max` and, where the kernel has it,
    /// `/proc/net/stat/nf_conntrack`. `None` if one of the first two is no number.
    #[must_use]
    pub fn parse(count: &str, max: &str, stat: Option<&str>) -> Option<Self> {
        let (entries, max) = (count.trim().parse().ok()?, max.trim().parse().ok()?);
        let totals = stat.map(totals).unwrap_or_default();
        let total = |name| totals.get(name).copied().unwrap_or_default();
        let (insert_failed, dropped) = (total("insert_failed"), total("drop"));
        Some(Self { entries, max, insert_failed, dropped, ..Self::default() })
    }

    /// What a person should do before connections fail. The texts hold still while the numbers move.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        self.fullness().into_iter().chain(self.ports()).collect()
    }

    fn fullness(&self) -> Option<Finding> {
        let is_above = |percent| self.max > 0 && self.entries.saturating_mul(100) >= self.max.saturating_mul(percent);
        let (severity, code, percent) = if is_above(FULL_PERCENT) {
            (Severity::Error, "conntrack-full", FULL_PERCENT)
        } else if is_above(NEARLY_FULL_PERCENT) {
            (Severity::Warning, "conntrack-nearly-full", NEARLY_FULL_PERCENT)
        } else {
            return None;
        };
        Some(Finding {
            severity,
            code,
            object: "net.netfilter.nf_conntrack_max".to_owned(),
            message: format!(
                "{percent} % or more of the {} connections that the kernel may track are in use; when all are, packets of \
                 new connections are dropped, masqueraded or not",
                self.max
            ),
            remedy: "raise net.netfilter.nf_conntrack_max (where kube-proxy sets it, its conntrack.maxPerCore and \
                     conntrack.min), or find who holds so many: conntrack -L"
                .to_owned(),
        })
    }

    fn ports(&self) -> Option<Finding> {
        (self.insert_failed_lately >= MANY_INSERT_FAILURES).then(|| Finding {
            severity: Severity::Warning,
            code: "source-ports-exhausted",
            object: "conntrack".to_owned(),
            message: format!(
                "{MANY_INSERT_FAILURES} or more new connections were lost in the last minutes, because the source address \
                 and port that they were given were in use"
            ),
            remedy: "set ipMasq.randomFully: true, widen ipMasq.toPorts, or give more source addresses to what connects \
                     to one destination so often"
                .to_owned(),
        })
    }
}

/// Sums of the columns over all CPUs: a line of names, then one line per CPU in hexadecimal.
fn totals(stat: &str) -> BTreeMap<&str, u64> {
    let mut lines = stat.lines();
    let names: Vec<&str> = lines.next().unwrap_or_default().split_whitespace().collect();
    let mut totals = BTreeMap::new();
    for line in lines {
        for (name, number) in names.iter().zip(line.split_whitespace()) {
            let total: &mut u64 = totals.entry(*name).or_default();
            *total = total.saturating_add(u64::from_str_radix(number, 16).unwrap_or_default());
        }
    }
    totals
}

/// Tells what a growing number grew by lately, from looks at any times.
#[derive(Debug, Clone, Default)]
pub struct Window {
    /// The look that growth is counted from.
    base: Option<u64>,
    /// When a later look was made and what it saw: the next base.
    next: Option<(Duration, u64)>,
}

impl Window {
    /// Growth within the last five to ten minutes, or since the look before if that is longer ago; `now` is the time
    /// since any fixed moment. What was there at the first look does not count.
    pub fn look(&mut self, now: Duration, number: u64) -> u64 {
        match self.next {
            Some((since, seen)) if now.saturating_sub(since) >= WINDOW => {
                self.base = Some(seen);
                self.next = Some((now, number));
            }
            Some(_) => {}
            None => self.next = Some((now, number)),
        }
        number.saturating_sub(*self.base.get_or_insert(number))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// As Linux 6.18 prints it, on two CPUs.
    const STAT: &str = "entries  clashres found new invalid ignore delete chainlength insert insert_failed drop early_drop icmp_error  expect_new expect_create expect_delete search_restart\n\
        00000003  00000001 00000002 00000000 00000004 00000000 00000000 00000000 00000000 000000ff 00000010 00000000 00000000  00000000 00000000 00000000 00000000\n\
        00000003  00000000 00000002 00000000 00000004 00000000 00000000 00000000 00000000 00000001 00000002 00000000 00000000  00000000 00000000 00000000 00000000\n";

    #[test]
    fn the_files_are_read_as_the_kernel_writes_them() {
        let read = Conntrack::parse("7\n", "262144\n", Some(STAT)).unwrap();
        assert_eq!((read.entries, read.max, read.insert_failed, read.dropped), (7, 262_144, 256, 18));
        let silent = Conntrack::parse("7\n", "0\n", None).unwrap();
        assert_eq!((silent.insert_failed, silent.dropped), (0, 0));
        for (count, max) in [("", "1"), ("1", ""), ("x", "1"), ("-1", "1")] {
            assert_eq!(Conntrack::parse(count, max, Some(STAT)), None, "{count} {max}");
        }
        assert_eq!(Conntrack::parse("1", "2", Some("insert_failed\nzz\n")).unwrap().insert_failed, 0);
    }

    #[test]
    fn a_warning_comes_before_the_table_is_full() {
        let rows = [
            (0, 1000, None),
            (799, 1000, None),
            (800, 1000, Some((Severity::Warning, "conntrack-nearly-full"))),
            (949, 1000, Some((Severity::Warning, "conntrack-nearly-full"))),
            (950, 1000, Some((Severity::Error, "conntrack-full"))),
            (1001, 1000, Some((Severity::Error, "conntrack-full"))),
            (5, 0, None),
            (u64::MAX, u64::MAX, Some((Severity::Error, "conntrack-full"))),
        ];
        for (entries, max, expected) in rows {
            let found = Conntrack { entries, max, ..Conntrack::default() }.findings();
            let found: Vec<_> = found.iter().map(|finding| (finding.severity, finding.code)).collect();
            assert_eq!(found, Vec::from_iter(expected), "{entries} of {max}");
        }
    }

    #[test]
    fn lost_connections_are_told_for_as_long_as_they_are_lost() {
        let minutes = Duration::from_mins;
        let mut window = Window::default();
        let looks = [
            (minutes(0), 5000, 0),
            (minutes(0), 5050, 50),
            (minutes(4), 5120, 120),
            (minutes(5), 5120, 120),
            (minutes(9), 5130, 130),
            (minutes(10), 5130, 10),
            (minutes(15), 5130, 0),
        ];
        for (now, number, expected) in looks {
            let lately = window.look(now, number);
            assert_eq!(lately, expected, "{now:?}");
            let conntrack = Conntrack { insert_failed_lately: lately, ..Conntrack::default() };
            assert_eq!(conntrack.findings().len(), usize::from(expected >= MANY_INSERT_FAILURES), "{now:?}");
        }
    }
}
