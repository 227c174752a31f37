//! The sysctls that every pod may set, because each pod has its own and none can harm its neighbours.

/// One safe sysctl.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SafeSysctl {
    /// Name in dot form.
    pub name: &'static str,
    /// First kernel that gives each network namespace its own; absent for every kernel.
    pub since: Option<KernelVersion>,
}

/// Version of a kernel as far as it decides about sysctls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KernelVersion {
    /// For instance 6.
    pub major: u32,
    /// For instance 8.
    pub minor: u32,
    /// For instance 0.
    pub patch: u32,
}

impl KernelVersion {
    const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor, patch: 0 }
    }

    /// Reads the leading numbers of a release text, as in `6.8.0-31-generic` or `4.18`; what follows the numbers is
    /// ignored. Absent if there are not at least two numbers, if one has a leading zero, or is too large.
    #[must_use]
    pub fn parse(release: &str) -> Option<Self> {
        let release = release.trim_start();
        let release = release.strip_prefix('v').unwrap_or(release);
        let end = release.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(release.len());
        let mut numbers = release.split_at_checked(end)?.0.trim_end_matches('.').split('.').map(number);
        let (major, minor) = (numbers.next()??, numbers.next()??);
        let patch = numbers.next().unwrap_or(Some(0))?;
        numbers.all(|n| n.is_some()).then_some(Self { major, minor, patch })
    }
}

fn number(text: &str) -> Option<u32> {
    if text.len() > 1 && text.starts_with('0') { None } else { text.parse().ok() }
}

/// The safe list of kubelet 1.36, in its order.
pub const SAFE_SYSCTLS: [SafeSysctl; 12] = [
    always("kernel.shm_rmid_forced"),
    always("net.ipv4.ip_local_port_range"),
    always("net.ipv4.tcp_syncookies"),
    always("net.ipv4.ping_group_range"),
    always("net.ipv4.ip_unprivileged_port_start"),
    since("net.ipv4.ip_local_reserved_ports", 3, 16),
    since("net.ipv4.tcp_keepalive_time", 4, 5),
    since("net.ipv4.tcp_fin_timeout", 4, 6),
    since("net.ipv4.tcp_keepalive_intvl", 4, 5),
    since("net.ipv4.tcp_keepalive_probes", 4, 5),
    since("net.ipv4.tcp_rmem", 4, 15),
    since("net.ipv4.tcp_wmem", 4, 15),
];

const fn always(name: &'static str) -> SafeSysctl {
    SafeSysctl { name, since: None }
}

const fn since(name: &'static str, major: u32, minor: u32) -> SafeSysctl {
    SafeSysctl { name, since: Some(KernelVersion::new(major, minor)) }
}

/// The safe sysctls of a kernel; of an unknown one only those that are safe on all.
pub fn safe_sysctls(kernel: Option<KernelVersion>) -> impl Iterator<Item = &'static str> {
    let old_enough = move |s: &&SafeSysctl| s.since.is_none_or(|since| kernel.is_some_and(|k| k >= since));
    SAFE_SYSCTLS.iter().filter(old_enough).map(|s| s.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_grows_with_the_kernel() {
        let rows = [
            (None, 5),
            (Some("3.10.0-1160.el7"), 5),
            (Some("4.4.0-210-generic"), 6),
            (Some("4.5"), 9),
            (Some("4.6.0-rc1"), 10),
            (Some("4.15.0"), 12),
            (Some("10.0"), 12),
            (Some("six"), 5),
            (Some("6"), 5),
            (Some("6.08"), 5),
            (Some(" v6.8"), 12),
        ];
        for (release, count) in rows {
            assert_eq!(safe_sysctls(release.and_then(KernelVersion::parse)).count(), count, "{release:?}");
        }
    }
}
