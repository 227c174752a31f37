//! Section `ipMasq` of a profile, with ip-masq-agent's own key names.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};

use crate::masquerade::Beyond;

/// Masquerade rules to keep in table `nat`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpMasqSpec {
    /// Destinations that keep their source address, in the order of the profile.
    pub non_masquerade_cidrs: Vec<IpNet>,
    /// True: 169.254.0.0/16 is masqueraded too.
    pub masq_link_local: bool,
    /// True: fe80::/10 is masqueraded too.
    pub masq_link_local_ipv6: bool,
    /// Also keep IPv6 rules.
    pub enable_ipv6: bool,
    /// Name of the chain, at most 28 characters.
    pub masq_chain: String,
    /// `--random-fully` on the MASQUERADE rule.
    pub random_fully: bool,
    /// Port ranges for MASQUERADE of TCP, UDP and SCTP (first, last); empty: the kernel chooses. Above 65535 only with
    /// [`Compat::KubernetesSigs`], whose agent does not look: the rules are then refused.
    pub to_ports: Vec<(u32, u32)>,
    /// Longest time between two looks at the table, at least one second; `None`: the agent's own resync.
    pub resync_interval: Option<Duration>,
    /// Whose rules are kept to the letter; `None`: Trimtab's own, which leave out what changes nothing.
    pub compat: Option<Compat>,
    /// Where the rules live.
    pub backend: BackendWish,
    /// What becomes of the rules when the agent stops.
    pub on_exit: OnExit,
    /// An agent's configuration that is read in place; list, link-local and interval are then the file's, and the list
    /// here is the one for when there is no file.
    pub config: Option<ConfigSource>,
    /// What no masquerade agent has.
    pub beyond: Beyond,
    /// What is known of the cluster's networks, for checks before anything is applied.
    pub cluster: ClusterNetworks,
}

/// The agent that is stood in for: its chain name, comments, order and file rules to the letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Compat {
    /// kubernetes-sigs/ip-masq-agent (2.12).
    KubernetesSigs,
    /// Azure/ip-masq-agent-v2 (0.1.15).
    Azure,
}

impl Compat {
    /// The word in a profile.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::KubernetesSigs => "kubernetes-sigs",
            Self::Azure => "azure",
        }
    }
}

/// Which back end a profile asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BackendWish {
    /// The implementation of iptables that the node's kubelet uses; nftables where neither works, or where kube-proxy's
    /// rules are there and no agent's words are kept.
    #[default]
    Auto,
    /// iptables-nft.
    IptablesNft,
    /// iptables-legacy.
    IptablesLegacy,
    /// A table of our own in nftables.
    Nftables,
}

/// What becomes of the rules when the agent stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnExit {
    /// They stay and go on working (both originals).
    #[default]
    Keep,
    /// What was there before comes back.
    Remove,
}

/// Where an agent's configuration lies, as this process sees it; a relative path is one below the state directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConfigSource {
    /// One file (kubernetes-sigs: `/etc/config/ip-masq-agent`).
    File(PathBuf),
    /// Every entry of a directory whose name begins with `ip-masq` (Azure: `/etc/config`).
    Directory(PathBuf),
}

impl ConfigSource {
    /// The files that stand for the ConfigMaps of that agent, which are read from the API server by name.
    #[must_use]
    pub fn of_config_maps(agent: Compat) -> Self {
        match agent {
            Compat::KubernetesSigs => Self::File("config-maps/kubernetes-sigs/ip-masq-agent".into()),
            Compat::Azure => Self::Directory("config-maps/azure".into()),
        }
    }

    /// Whose ConfigMaps these files stand for; `None`: they are files of their own.
    #[must_use]
    pub fn config_maps(&self) -> Option<Compat> {
        [Compat::KubernetesSigs, Compat::Azure].into_iter().find(|agent| *self == Self::of_config_maps(*agent))
    }

    /// The path of the file or directory.
    #[must_use]
    pub const fn path(&self) -> &PathBuf {
        match self {
            Self::File(path) | Self::Directory(path) => path,
        }
    }
}

/// Networks of the cluster; an empty list is one that is not known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClusterNetworks {
    /// Addresses of pods.
    pub pods: Vec<IpNet>,
    /// Addresses of services.
    pub services: Vec<IpNet>,
    /// Addresses of nodes.
    pub nodes: Vec<IpNet>,
    /// True: pod addresses mean nothing outside the cluster, so that whatever leaves it must be masqueraded.
    pub overlay: bool,
}

impl IpMasqSpec {
    /// Name of the chain where a profile names none (ip-masq-agent, `--masq-chain`).
    pub const DEFAULT_CHAIN: &str = "IP-MASQ-AGENT";
    /// Number of prefixes allowed where a profile sets no `cidrLimit` (ip-masq-agent).
    pub const DEFAULT_CIDR_LIMIT: usize = 64;

    /// Prefixes that keep their source address where a profile lists none: the private ranges of RFC 1918, or with
    /// `nomasqAllReservedRanges` all reserved ranges of RFC 5735 and RFC 6598, in ip-masq-agent's order.
    #[must_use]
    pub fn default_cidrs(all_reserved_ranges: bool) -> Vec<IpNet> {
        const RANGES: [(Ipv4Addr, u8); 11] = [
            (Ipv4Addr::new(10, 0, 0, 0), 8),
            (Ipv4Addr::new(172, 16, 0, 0), 12),
            (Ipv4Addr::new(192, 168, 0, 0), 16),
            (Ipv4Addr::new(100, 64, 0, 0), 10),
            (Ipv4Addr::new(192, 0, 0, 0), 24),
            (Ipv4Addr::new(192, 0, 2, 0), 24),
            (Ipv4Addr::new(192, 88, 99, 0), 24),
            (Ipv4Addr::new(198, 18, 0, 0), 15),
            (Ipv4Addr::new(198, 51, 100, 0), 24),
            (Ipv4Addr::new(203, 0, 113, 0), 24),
            (Ipv4Addr::new(240, 0, 0, 0), 4),
        ];
        let count = if all_reserved_ranges { RANGES.len() } else { 3 };
        let ranges = RANGES.iter().take(count);
        ranges.filter_map(|(address, length)| Ipv4Net::new(*address, *length).ok()).map(IpNet::V4).collect()
    }
}

impl Default for IpMasqSpec {
    fn default() -> Self {
        Self {
            non_masquerade_cidrs: Self::default_cidrs(false),
            masq_link_local: false,
            masq_link_local_ipv6: false,
            enable_ipv6: false,
            masq_chain: Self::DEFAULT_CHAIN.to_owned(),
            random_fully: true,
            to_ports: Vec::new(),
            resync_interval: None,
            compat: None,
            backend: BackendWish::Auto,
            on_exit: OnExit::Keep,
            config: None,
            beyond: Beyond::default(),
            cluster: ClusterNetworks::default(),
        }
    }
}
