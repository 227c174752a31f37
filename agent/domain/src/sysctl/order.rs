//! The order of writes that depend on one another.
//!
//! In a group with ceilings a key of a lower level must not (or should not) exceed one of a higher level: what is
//! raised goes from the highest level down, then what is lowered from the lowest level up, so that the relation holds
//! at every moment if it held before and will hold afterwards. Keys that reach others go before those.

use super::owner::names;
use super::value::number_at;
use super::{SysctlKey, side_effect};

/// A key (with `*` for one component), its level, and which of its numbers counts.
type Member = (&'static str, u8, usize);

/// Groups with ceilings. Kernel sources: net/ipv4/sysctl_net_ipv4.c (`ipv4_local_port_range`), net/core/neighbour.c,
/// net/ipv4/ip_fragment.c, kernel/sched/rt.c; the others are rejected by no kernel, but a larger limit without the room
/// above it has no effect, or a harmful one.
const CEILINGS: &[&[Member]] = &[
    &[
        ("net.ipv4.tcp_rmem", 0, 2),
        ("net.core.rmem_default", 0, 0),
        ("net.ipv4.udp_rmem_min", 0, 0),
        ("net.core.rmem_max", 1, 0),
    ],
    &[
        ("net.ipv4.tcp_wmem", 0, 2),
        ("net.core.wmem_default", 0, 0),
        ("net.ipv4.udp_wmem_min", 0, 0),
        ("net.core.wmem_max", 1, 0),
    ],
    &[
        ("net.ipv4.neigh.default.gc_thresh1", 0, 0),
        ("net.ipv4.neigh.default.gc_thresh2", 1, 0),
        ("net.ipv4.neigh.default.gc_thresh3", 2, 0),
    ],
    &[
        ("net.ipv6.neigh.default.gc_thresh1", 0, 0),
        ("net.ipv6.neigh.default.gc_thresh2", 1, 0),
        ("net.ipv6.neigh.default.gc_thresh3", 2, 0),
    ],
    &[("net.ipv4.ip_unprivileged_port_start", 0, 0), ("net.ipv4.ip_local_port_range", 1, 0)],
    &[("net.ipv4.ipfrag_low_thresh", 0, 0), ("net.ipv4.ipfrag_high_thresh", 1, 0)],
    &[("net.ipv6.ip6frag_low_thresh", 0, 0), ("net.ipv6.ip6frag_high_thresh", 1, 0)],
    &[("net.netfilter.nf_conntrack_frag6_low_thresh", 0, 0), ("net.netfilter.nf_conntrack_frag6_high_thresh", 1, 0)],
    // More connections than buckets make long chains: grow the table first, shrink it last.
    &[
        ("net.netfilter.nf_conntrack_max", 0, 0),
        ("net.nf_conntrack_max", 0, 0),
        ("net.netfilter.nf_conntrack_expect_max", 0, 0),
        ("net.netfilter.nf_conntrack_buckets", 1, 0),
    ],
    &[
        ("vm.dirty_background_ratio", 0, 0),
        ("vm.dirty_background_bytes", 0, 0),
        ("vm.dirty_ratio", 1, 0),
        ("vm.dirty_bytes", 1, 0),
    ],
    &[("vm.overcommit_ratio", 0, 0), ("vm.overcommit_kbytes", 0, 0)],
    &[("kernel.sched_rt_runtime_us", 0, 0), ("kernel.sched_rt_period_us", 1, 0)],
    &[("kernel.threads-max", 0, 0), ("kernel.pid_max", 1, 0)],
    &[("kernel.msgmax", 0, 0), ("kernel.msgmnb", 1, 0)],
    &[("fs.nr_open", 0, 0), ("fs.file-max", 1, 0)],
];

/// Groups in which one key reaches the others; the causes go first in the order of [`side_effect::rank`].
const REACHING: &[&[&str]] = &[
    &["net.ipv4.ip_forward", "net.ipv4.conf.*.forwarding", "net.ipv4.conf.all.accept_redirects"],
    &["net.ipv6.conf.*.forwarding"],
    &["net.ipv6.conf.*.disable_ipv6"],
];

/// A group of keys whose writes go in a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group(usize);

/// The group of a key; `None`: its writes depend on no other.
#[must_use]
pub fn group_of(key: &SysctlKey) -> Option<Group> {
    let ceiling = CEILINGS.iter().position(|members| members.iter().any(|(name, ..)| *name == key.as_str()));
    let reaching = || REACHING.iter().position(|members| members.iter().any(|name| names(name, key)));
    ceiling.map(Group).or_else(|| reaching().map(|at| Group(CEILINGS.len() + at)))
}

/// Where a write belongs within its group's chain: sort by it.
#[must_use]
pub fn place(key: &SysctlKey, from: &str, to: &str) -> (u8, usize) {
    if let Some((level, index)) = member(key) {
        let lowers = matches!((number_at(from, index), number_at(to, index)), (Some(from), Some(to)) if to < from);
        // An exclusive pair may have one key of 0, which is no limit; its partner is written anyway.
        return if lowers { (1, usize::from(level)) } else { (0, usize::from(u8::MAX - level)) };
    }
    (0, side_effect::rank(key).unwrap_or(usize::MAX))
}

fn member(key: &SysctlKey) -> Option<(u8, usize)> {
    let mut members = CEILINGS.iter().copied().flatten();
    members.find(|(name, ..)| *name == key.as_str()).map(|&(_, level, index)| (level, index))
}

/// Pairs of wishes of which the first exceeds its ceiling, the second. Buckets count something else than connections,
/// and a value of 0 or less is no limit in any of the groups.
pub fn above_ceiling<'a>(
    wishes: impl Iterator<Item = (&'a SysctlKey, &'a str)>,
) -> Vec<(&'a SysctlKey, &'a SysctlKey)> {
    let ranked: Vec<_> = wishes
        .filter_map(|(key, value)| {
            let (level, index) = member(key)?;
            let comparable = !key.as_str().contains("conntrack_") || key.as_str().contains("frag6");
            let number = number_at(value, index).filter(|number| comparable && *number > 0)?;
            Some((key, group_of(key)?, level, number, is_bytes(key)))
        })
        .collect();
    let mut pairs = Vec::new();
    for &(low, group, level, number, unit) in &ranked {
        let above = ranked.iter().filter(|(_, g, l, n, u)| *g == group && *l > level && *n < number && *u == unit);
        pairs.extend(above.map(|&(high, ..)| (low, high)));
    }
    pairs
}

/// Ratios and bytes of dirty pages share a group, yet cannot be compared.
fn is_bytes(key: &SysctlKey) -> bool {
    key.as_str().ends_with("bytes")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use super::*;

    fn sorted<'a>(changes: &[(&'a str, &str, &str)]) -> Vec<&'a str> {
        let mut changes = changes.to_vec();
        let groups: Vec<_> = changes.iter().map(|(key, ..)| group_of(&SysctlKey::parse(key).unwrap())).collect();
        assert!(groups[0].is_some() && groups.iter().all(|group| *group == groups[0]), "not one group: {changes:?}");
        changes.sort_by_key(|(key, from, to)| place(&SysctlKey::parse(key).unwrap(), from, to));
        changes.into_iter().map(|(key, ..)| key.rsplit('.').next().unwrap()).collect()
    }

    #[test]
    fn ceilings_are_raised_first_and_lowered_last() {
        const NEIGH: [&str; 3] = [
            "net.ipv4.neigh.default.gc_thresh1",
            "net.ipv4.neigh.default.gc_thresh2",
            "net.ipv4.neigh.default.gc_thresh3",
        ];
        let thresholds = |from: [&'static str; 3], to: [&'static str; 3]| {
            let changes: Vec<_> = (0..3).map(|at| (NEIGH[at], from[at], to[at])).collect();
            sorted(&changes)
        };
        let up = thresholds(["128", "512", "1024"], ["4096", "8192", "16384"]);
        assert_eq!(up, ["gc_thresh3", "gc_thresh2", "gc_thresh1"]);
        let down = thresholds(["4096", "8192", "16384"], ["128", "512", "1024"]);
        assert_eq!(down, ["gc_thresh1", "gc_thresh2", "gc_thresh3"]);
        let mixed = thresholds(["1", "100", "200"], ["50", "60", "70"]);
        assert_eq!(mixed, ["gc_thresh1", "gc_thresh2", "gc_thresh3"]);
    }

    #[test]
    fn each_group_has_its_order() {
        let rows = [
            (
                vec![
                    ("net.ipv4.tcp_rmem", "4096 131072 6291456", "4096 131072 16777216"),
                    ("net.core.rmem_max", "212992", "16777216"),
                ],
                ["rmem_max", "tcp_rmem"],
            ),
            (
                vec![("net.core.wmem_max", "16777216", "212992"), ("net.ipv4.tcp_wmem", "1 2 16777216", "1 2 212992")],
                ["tcp_wmem", "wmem_max"],
            ),
            (
                vec![
                    ("net.netfilter.nf_conntrack_max", "65536", "262144"),
                    ("net.netfilter.nf_conntrack_buckets", "16384", "65536"),
                ],
                ["nf_conntrack_buckets", "nf_conntrack_max"],
            ),
            (
                vec![
                    ("net.netfilter.nf_conntrack_buckets", "65536", "16384"),
                    ("net.netfilter.nf_conntrack_max", "262144", "65536"),
                ],
                ["nf_conntrack_max", "nf_conntrack_buckets"],
            ),
            (
                vec![
                    ("net.ipv4.ip_local_port_range", "32768 60999", "1024 60999"),
                    ("net.ipv4.ip_unprivileged_port_start", "32000", "0"),
                ],
                ["ip_unprivileged_port_start", "ip_local_port_range"],
            ),
            (
                vec![("kernel.threads-max", "100", "4000000"), ("kernel.pid_max", "32768", "4194304")],
                ["pid_max", "threads-max"],
            ),
            (vec![("fs.nr_open", "1048576", "2000000"), ("fs.file-max", "100", "200")], ["file-max", "nr_open"]),
            (
                vec![("net.ipv4.conf.eth0.forwarding", "0", "0"), ("net.ipv4.ip_forward", "0", "1")],
                ["ip_forward", "forwarding"],
            ),
        ];
        for (changes, expected) in rows {
            assert_eq!(sorted(&changes), expected, "{changes:?}");
        }
    }

    #[test]
    fn the_relation_holds_at_every_moment() {
        // Every way from three ordered numbers to three others.
        let triples: Vec<[i128; 3]> =
            (1..5i128).flat_map(|a| (a..5).flat_map(move |b| (b..5).map(move |c| [a, b, c]))).collect();
        let keys: Vec<SysctlKey> =
            (1..=3).map(|n| SysctlKey::parse(&format!("net.ipv4.neigh.default.gc_thresh{n}")).unwrap()).collect();
        for from in &triples {
            for to in &triples {
                let mut order: Vec<usize> = (0..3).filter(|&at| from[at] != to[at]).collect();
                order.sort_by_key(|&at| place(&keys[at], &from[at].to_string(), &to[at].to_string()));
                let mut now = *from;
                for at in order {
                    now[at] = to[at];
                    assert!(now[0] <= now[1] && now[1] <= now[2], "{from:?} to {to:?} passes {now:?}");
                }
            }
        }
    }

    #[test]
    fn wishes_above_their_ceiling_are_seen() {
        let key = |text: &str| SysctlKey::parse(text).unwrap();
        let wishes = [
            (key("net.ipv4.tcp_rmem"), "4096 87380 16777216"),
            (key("net.core.rmem_max"), "212992"),
            (key("net.netfilter.nf_conntrack_max"), "262144"),
            (key("net.netfilter.nf_conntrack_buckets"), "65536"),
            (key("vm.dirty_background_bytes"), "100000"),
            (key("vm.dirty_ratio"), "20"),
            (key("kernel.sched_rt_runtime_us"), "-1"),
            (key("kernel.sched_rt_period_us"), "1000000"),
        ];
        let pairs = above_ceiling(wishes.iter().map(|(key, value)| (key, *value)));
        assert_eq!(pairs, [(&wishes[0].0, &wishes[1].0)]);
    }
}
