//! Who besides the agent writes a key: known before it becomes a fight.
//!
//! Sources: kubelet `pkg/kubelet/cm/container_manager_linux.go` (`setupKernelTunables`) and `pkg/util/sysctl`,
//! kube-proxy `cmd/kube-proxy/app/conntrack.go` and `pkg/proxy/{iptables,ipvs}`, the file that AKS puts on its nodes.

use super::SysctlKey;

/// A program that writes sysctls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// At its start; with `protectKernelDefaults` it refuses to start instead.
    Kubelet,
    /// At its start.
    KubeProxy,
    /// At their start and for each interface that they make.
    ContainerNetwork,
    /// `/etc/sysctl.d/999-sysctl-aks.conf`, at boot and whenever `sysctl --system` runs.
    AksFile,
}

impl Owner {
    /// The name that reports show.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kubelet => "kubelet",
            Self::KubeProxy => "kube-proxy",
            Self::ContainerNetwork => "CNI plugin or container runtime",
            Self::AksFile => "/etc/sysctl.d/999-sysctl-aks.conf",
        }
    }

    /// The stable name of the finding.
    #[must_use]
    pub const fn finding_code(self) -> &'static str {
        match self {
            Self::Kubelet => "sysctl-owned-by-kubelet",
            Self::KubeProxy => "sysctl-owned-by-kube-proxy",
            Self::ContainerNetwork => "sysctl-owned-by-container-network",
            Self::AksFile => "sysctl-set-by-file",
        }
    }

    /// What a person can do so that two programs do not write the same key.
    #[must_use]
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Kubelet => "ask for the kubelet's value or take the key out of the profile",
            Self::KubeProxy => {
                "set the matching field of kube-proxy's configuration to 0 (`conntrack.maxPerCore`, `conntrack.tcp*Timeout` \
                 ...) so that it leaves the key alone, or take the key out of the profile"
            }
            Self::ContainerNetwork => "make sure that the pod network works with this value",
            Self::AksFile => {
                "set the value through `linuxOSConfig` of the node pool, or expect it to come back at boot"
            }
        }
    }
}

/// One writer of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ownership {
    /// Who.
    pub owner: Owner,
    /// What it writes; `None`: computed on the node or configured.
    pub value: Option<&'static str>,
}

/// Key (with `*` for one component) and what its owner writes.
type Row = (&'static str, Owner, Option<&'static str>);

const ROWS: &[Row] = &[
    ("vm.overcommit_memory", Owner::Kubelet, Some("1")),
    ("vm.panic_on_oom", Owner::Kubelet, Some("0")),
    ("kernel.panic", Owner::Kubelet, Some("10")),
    ("kernel.panic_on_oops", Owner::Kubelet, Some("1")),
    ("kernel.keys.root_maxkeys", Owner::Kubelet, Some("1000000")),
    ("kernel.keys.root_maxbytes", Owner::Kubelet, Some("25000000")),
    ("net.netfilter.nf_conntrack_max", Owner::KubeProxy, None),
    ("net.nf_conntrack_max", Owner::KubeProxy, None),
    ("net.netfilter.nf_conntrack_buckets", Owner::KubeProxy, None),
    ("net.netfilter.nf_conntrack_tcp_timeout_established", Owner::KubeProxy, Some("86400")),
    ("net.netfilter.nf_conntrack_tcp_timeout_close_wait", Owner::KubeProxy, Some("3600")),
    ("net.netfilter.nf_conntrack_tcp_be_liberal", Owner::KubeProxy, Some("1")),
    ("net.netfilter.nf_conntrack_udp_timeout", Owner::KubeProxy, None),
    ("net.netfilter.nf_conntrack_udp_timeout_stream", Owner::KubeProxy, None),
    ("net.ipv4.conf.all.route_localnet", Owner::KubeProxy, Some("1")),
    ("net.ipv4.conf.all.arp_ignore", Owner::KubeProxy, Some("1")),
    ("net.ipv4.conf.all.arp_announce", Owner::KubeProxy, Some("2")),
    ("net.ipv4.vs.conntrack", Owner::KubeProxy, Some("1")),
    ("net.ipv4.vs.conn_reuse_mode", Owner::KubeProxy, Some("0")),
    ("net.ipv4.vs.expire_nodest_conn", Owner::KubeProxy, Some("1")),
    ("net.ipv4.vs.expire_quiescent_template", Owner::KubeProxy, Some("1")),
    ("net.ipv4.ip_forward", Owner::ContainerNetwork, Some("1")),
    ("net.ipv4.conf.all.forwarding", Owner::ContainerNetwork, Some("1")),
    ("net.ipv6.conf.all.forwarding", Owner::ContainerNetwork, Some("1")),
    ("net.bridge.bridge-nf-call-iptables", Owner::ContainerNetwork, Some("1")),
    ("net.bridge.bridge-nf-call-ip6tables", Owner::ContainerNetwork, Some("1")),
    ("net.bridge.bridge-nf-call-arptables", Owner::ContainerNetwork, None),
    ("net.ipv4.conf.*.rp_filter", Owner::ContainerNetwork, None),
    ("net.ipv4.conf.*.route_localnet", Owner::ContainerNetwork, Some("1")),
    ("net.ipv4.conf.*.forwarding", Owner::ContainerNetwork, Some("1")),
    ("net.ipv6.conf.*.forwarding", Owner::ContainerNetwork, Some("1")),
];

/// Lines of the file that AKS writes, beyond those that the kubelet requires anyway.
const AKS_FILE: &[(&str, &str)] = &[
    ("net.ipv4.ip_forward", "1"),
    ("net.ipv4.conf.all.forwarding", "1"),
    ("net.ipv6.conf.all.forwarding", "1"),
    ("net.bridge.bridge-nf-call-iptables", "1"),
    ("kernel.pid_max", "4194304"),
    ("fs.inotify.max_user_watches", "1048576"),
    ("fs.inotify.max_user_instances", "1024"),
    ("net.ipv4.tcp_retries2", "8"),
    ("net.core.message_burst", "80"),
    ("net.core.message_cost", "40"),
    ("net.core.somaxconn", "16384"),
    ("net.ipv4.tcp_max_syn_backlog", "16384"),
    ("net.ipv4.neigh.default.gc_thresh1", "4096"),
    ("net.ipv4.neigh.default.gc_thresh2", "8192"),
    ("net.ipv4.neigh.default.gc_thresh3", "16384"),
];

/// The program that writes the key on any Kubernetes node; `None`: none is known.
#[must_use]
pub fn owner_of(key: &SysctlKey) -> Option<Ownership> {
    let row = ROWS.iter().find(|(pattern, ..)| names(pattern, key));
    row.map(|&(_, owner, value)| Ownership { owner, value })
}

/// What the file of AKS sets the key to; `None`: it does not name the key.
#[must_use]
pub fn aks_file_value(key: &SysctlKey) -> Option<&'static str> {
    AKS_FILE.iter().find(|(name, _)| *name == key.as_str()).map(|&(_, value)| value)
}

/// Who may be at work when the key keeps changing back.
#[must_use]
pub fn likely_writer(object: &str) -> Option<&'static str> {
    let key = SysctlKey::parse(object).ok()?;
    let file = || aks_file_value(&key).map(|_| "a sysctl.d file, applied by `sysctl --system` or systemd-sysctl");
    owner_of(&key).map(|ownership| ownership.owner.as_str()).or_else(file)
}

/// True if a name, in which `*` stands for one component, means the key.
pub(super) fn names(pattern: &str, key: &SysctlKey) -> bool {
    let (mut parts, mut components) = (pattern.split('.'), key.as_str().split('.'));
    loop {
        match (parts.next(), components.next()) {
            (None, None) => return true,
            (Some(part), Some(component)) if part == "*" || part == component => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn writers_are_known_by_key() {
        let rows = [
            ("kernel.panic", Some((Owner::Kubelet, Some("10")))),
            ("kernel.keys.root_maxbytes", Some((Owner::Kubelet, Some("25000000")))),
            ("net.netfilter.nf_conntrack_max", Some((Owner::KubeProxy, None))),
            ("net.ipv4.conf.all.route_localnet", Some((Owner::KubeProxy, Some("1")))),
            ("net.ipv4.conf.cali1234.route_localnet", Some((Owner::ContainerNetwork, Some("1")))),
            ("net.ipv4.conf.eno2/100.rp_filter", Some((Owner::ContainerNetwork, None))),
            ("net.core.somaxconn", None),
        ];
        for (key, expected) in rows {
            let found = owner_of(&SysctlKey::parse(key).unwrap());
            assert_eq!(found.map(|ownership| (ownership.owner, ownership.value)), expected, "{key}");
        }
        assert_eq!(likely_writer("kernel.panic"), Some("kubelet"));
        assert!(likely_writer("net.core.somaxconn").is_some_and(|writer| writer.contains("sysctl --system")));
        assert_eq!(likely_writer("vm.swappiness"), None);
        assert_eq!(likely_writer("not a key"), None);
    }

    #[test]
    fn every_row_names_a_key() {
        for (pattern, ..) in ROWS {
            assert!(SysctlKey::parse(&pattern.replace('*', "eth0")).is_ok(), "{pattern}");
        }
        for (name, _) in AKS_FILE {
            assert!(SysctlKey::parse(name).is_ok(), "{name}");
        }
    }
}
