//! Built-in allow-lists that a profile may choose: which keys may be set, and within which ranges.
//!
//! Sources, both of June 2026: AKS "Customize node configuration" (`linuxOSConfig`), GKE "Customizing node system
//! configuration" (`linuxNodeConfig.sysctls`). AKS publishes ranges, GKE names only.

use std::fmt;

use crate::spec::sysctls::SysctlPolicy;

/// Which values a policy allows for one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowed {
    /// Any value.
    Any,
    /// One whole number from the first to the second, both included.
    Between(u64, u64),
    /// Two whole numbers, the first not above the second, each within its own range.
    Pair((u64, u64), (u64, u64)),
}

/// One line of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Key in dotted form.
    pub key: &'static str,
    /// Its values.
    pub allowed: Allowed,
}

/// A policy does not allow an assignment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The key is not on the list; a glob never is.
    #[error("policy {policy} does not allow {key}")]
    Key {
        /// The policy.
        policy: SysctlPolicy,
        /// The key that was refused.
        key: String,
    },
    /// The value is outside the range.
    #[error("policy {policy} allows for {key} {allowed}")]
    Value {
        /// The policy.
        policy: SysctlPolicy,
        /// The key.
        key: &'static str,
        /// What it allows.
        allowed: Allowed,
    },
}

impl SysctlPolicy {
    /// The keys that the policy allows, in the order of its source.
    #[must_use]
    pub const fn rules(self) -> &'static [Rule] {
        match self {
            Self::Aks => AKS,
            Self::Gke => GKE,
        }
    }

    /// Checks one assignment; the key in dotted form, the value as a profile spells it.
    ///
    /// # Errors
    /// [`Violation`] with the policy and what it allows.
    pub fn check(self, key: &str, value: &str) -> Result<(), Violation> {
        let Some(rule) = self.rules().iter().find(|rule| rule.key == key) else {
            return Err(Violation::Key { policy: self, key: key.to_owned() });
        };
        if rule.allowed.accepts(value) {
            return Ok(());
        }
        Err(Violation::Value { policy: self, key: rule.key, allowed: rule.allowed })
    }
}

impl Allowed {
    /// True if the value, numbers apart by white space, is within the range.
    #[must_use]
    pub fn accepts(&self, value: &str) -> bool {
        let numbers: Option<Vec<u64>> = value.split_ascii_whitespace().map(decimal).collect();
        match (*self, numbers.as_deref()) {
            (Self::Any, _) => true,
            (Self::Between(least, most), Some([number])) => (least..=most).contains(number),
            (Self::Pair(first, last), Some([low, high])) => {
                low <= high && (first.0..=first.1).contains(low) && (last.0..=last.1).contains(high)
            }
            _ => false,
        }
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any value"),
            Self::Between(least, most) => write!(f, "{least} to {most}"),
            Self::Pair(first, last) => {
                write!(f, "two numbers, {} to {} and {} to {}", first.0, first.1, last.0, last.1)
            }
        }
    }
}

/// Digits only: `u64::from_str` would also take a plus sign.
fn decimal(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

const fn between(key: &'static str, least: u64, most: u64) -> Rule {
    Rule { key, allowed: Allowed::Between(least, most) }
}

const fn any(key: &'static str) -> Rule {
    Rule { key, allowed: Allowed::Any }
}

/// AKS `linuxOSConfig`. `netIpv4TcpTwReuse` is a boolean there; `kernelThreadsMax` and `vmMaxMapCount` lost their
/// ranges in 2025.
const AKS: &[Rule] = &[
    between("fs.file-max", 8192, 9_223_372_036_854_775_807),
    between("fs.inotify.max_user_watches", 781_250, 2_097_152),
    between("fs.aio-max-nr", 65_536, 6_553_500),
    between("fs.nr_open", 8192, 20_000_500),
    between("net.core.somaxconn", 4096, 3_240_000),
    between("net.core.netdev_max_backlog", 1000, 3_240_000),
    between("net.core.rmem_max", 212_992, 134_217_728),
    between("net.core.wmem_max", 212_992, 134_217_728),
    between("net.core.optmem_max", 20_480, 4_194_304),
    between("net.ipv4.tcp_max_syn_backlog", 128, 3_240_000),
    between("net.ipv4.tcp_max_tw_buckets", 8000, 1_440_000),
    between("net.ipv4.tcp_fin_timeout", 5, 120),
    between("net.ipv4.tcp_keepalive_time", 30, 432_000),
    between("net.ipv4.tcp_keepalive_probes", 1, 15),
    between("net.ipv4.tcp_keepalive_intvl", 10, 90),
    between("net.ipv4.tcp_tw_reuse", 0, 1),
    Rule { key: "net.ipv4.ip_local_port_range", allowed: Allowed::Pair((1024, 60_999), (32_768, 65_535)) },
    between("net.ipv4.neigh.default.gc_thresh1", 128, 80_000),
    between("net.ipv4.neigh.default.gc_thresh2", 512, 90_000),
    between("net.ipv4.neigh.default.gc_thresh3", 1024, 100_000),
    between("net.netfilter.nf_conntrack_max", 131_072, 2_097_152),
    between("net.netfilter.nf_conntrack_buckets", 65_536, 524_288),
    any("kernel.threads-max"),
    any("vm.max_map_count"),
    between("vm.vfs_cache_pressure", 1, 100),
    between("vm.swappiness", 0, 100),
    // In the SDK, not in the documentation's table.
    any("net.core.rmem_default"),
    any("net.core.wmem_default"),
];

/// GKE `linuxNodeConfig.sysctls`: names without ranges.
const GKE: &[Rule] = &[
    any("net.core.busy_poll"),
    any("net.core.busy_read"),
    any("net.core.netdev_max_backlog"),
    any("net.core.rmem_max"),
    any("net.core.rmem_default"),
    any("net.core.wmem_default"),
    any("net.core.wmem_max"),
    any("net.core.optmem_max"),
    any("net.core.somaxconn"),
    any("net.ipv4.neigh.default.gc_thresh1"),
    any("net.ipv4.neigh.default.gc_thresh2"),
    any("net.ipv4.neigh.default.gc_thresh3"),
    any("net.ipv4.tcp_rmem"),
    any("net.ipv4.tcp_wmem"),
    any("net.ipv4.tcp_tw_reuse"),
    any("net.ipv4.tcp_mtu_probing"),
    any("net.ipv4.tcp_max_orphans"),
    any("net.ipv4.tcp_max_tw_buckets"),
    any("net.ipv4.tcp_syn_retries"),
    any("net.ipv4.tcp_ecn"),
    any("net.ipv4.tcp_congestion_control"),
    any("net.netfilter.nf_conntrack_max"),
    any("net.netfilter.nf_conntrack_buckets"),
    any("net.netfilter.nf_conntrack_acct"),
    any("net.netfilter.nf_conntrack_tcp_timeout_close_wait"),
    any("net.netfilter.nf_conntrack_tcp_timeout_time_wait"),
    any("net.netfilter.nf_conntrack_tcp_timeout_established"),
    any("kernel.keys.maxkeys"),
    any("kernel.keys.maxbytes"),
    any("kernel.shmmni"),
    any("kernel.shmmax"),
    any("kernel.shmall"),
    any("kernel.perf_event_paranoid"),
    any("kernel.sched_rt_runtime_us"),
    any("kernel.softlockup_panic"),
    any("kernel.yama.ptrace_scope"),
    any("kernel.kptr_restrict"),
    any("kernel.dmesg_restrict"),
    any("kernel.sysrq"),
    any("fs.aio-max-nr"),
    any("fs.file-max"),
    any("fs.inotify.max_user_instances"),
    any("fs.inotify.max_user_watches"),
    any("fs.nr_open"),
    any("vm.dirty_background_ratio"),
    any("vm.dirty_background_bytes"),
    any("vm.dirty_expire_centisecs"),
    any("vm.dirty_ratio"),
    any("vm.dirty_bytes"),
    any("vm.dirty_writeback_centisecs"),
    any("vm.max_map_count"),
    any("vm.overcommit_memory"),
    any("vm.overcommit_ratio"),
    any("vm.vfs_cache_pressure"),
    any("vm.swappiness"),
    any("vm.watermark_scale_factor"),
    any("vm.min_free_kbytes"),
];

#[cfg(test)]
mod tests {
    use super::{AKS, GKE, Violation};
    use crate::spec::sysctls::SysctlPolicy::{Aks, Gke};

    #[test]
    fn ranges_include_their_ends_and_nothing_beyond() {
        let rows = [
            ("fs.file-max", "9223372036854775807", true),
            ("fs.file-max", "9223372036854775808", false),
            ("net.core.somaxconn", "4096", true),
            ("net.core.somaxconn", "4095", false),
            ("net.core.somaxconn", "3240000", true),
            ("net.core.somaxconn", "3240001", false),
            ("net.core.somaxconn", "-1", false),
            ("net.core.somaxconn", "+5000", false),
            ("net.core.somaxconn", "5000 5000", false),
            ("net.core.somaxconn", "", false),
            ("net.ipv4.tcp_tw_reuse", "1", true),
            ("net.ipv4.tcp_tw_reuse", "2", false),
            ("net.ipv4.ip_local_port_range", "32000 60000", true),
            ("net.ipv4.ip_local_port_range", "32000\t60000", true),
            ("net.ipv4.ip_local_port_range", "1023 60000", false),
            ("net.ipv4.ip_local_port_range", "60000 32768", false),
            ("net.ipv4.ip_local_port_range", "32000", false),
            ("vm.max_map_count", "7", true),
            ("vm.swappiness", "101", false),
        ];
        for (key, value, accepted) in rows {
            let found = Aks.check(key, value);
            assert_eq!(found.is_ok(), accepted, "{key} = {value:?}: {found:?}");
        }
    }

    #[test]
    fn keys_outside_the_list_and_globs_are_refused() {
        for key in ["kernel.panic", "net.ipv4.conf.*.rp_filter", "net.core.*", ""] {
            for policy in [Aks, Gke] {
                assert!(matches!(policy.check(key, "1"), Err(Violation::Key { .. })), "{policy} {key}");
            }
        }
        assert!(Gke.check("net.ipv4.tcp_congestion_control", "bbr").is_ok());
        assert!(Aks.check("net.ipv4.tcp_congestion_control", "bbr").is_err());
    }

    #[test]
    fn no_key_is_listed_twice() {
        for table in [AKS, GKE] {
            let mut keys: Vec<&str> = table.iter().map(|rule| rule.key).collect();
            keys.sort_unstable();
            keys.dedup();
            assert_eq!(keys.len(), table.len());
        }
        assert_eq!((AKS.len(), GKE.len()), (28, 57));
    }
}
