//! The guard of the cloud's metadata service: forwarded packets, which are those of pods, do not reach its addresses.
//!
//! What the node sends itself, and so every pod with `hostNetwork`, never passes the forward hook and is not touched.

mod chain;
mod native;
mod plan;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

pub use self::chain::{FORWARD, FilterView, GUARD_CHAIN};
pub use self::native::{GUARD_TABLE, GuardView, NativeGuard};
pub use self::plan::guards_of_interest;
pub(super) use self::plan::{chains_in_place, hold_all, is_object, reports};

use super::policy::{PortProtocol, without_contained};
use super::{Family, TableId};
use crate::plan::Cause;
use crate::spec::IpMasqSpec;

/// The wish, for both families.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataBlock {
    /// Addresses of the service.
    pub addresses: Vec<IpAddr>,
    /// Sources that may reach it all the same.
    pub except_sources: Vec<IpNet>,
    /// Ports of the service that everybody may reach: some clouds answer DNS on the same address.
    pub except_ports: Vec<Ports>,
    /// Whatever comes in through these interfaces may reach it.
    pub except_interfaces: Vec<String>,
    /// What becomes of the packets.
    pub answer: Answer,
}

/// Destination ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ports {
    /// Of this protocol.
    pub protocol: PortProtocol,
    /// Lowest.
    pub first: u16,
    /// Highest.
    pub last: u16,
}

/// What becomes of a packet that may not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Answer {
    /// The sender is told at once (ICMP "administratively prohibited").
    #[default]
    Reject,
    /// Nobody is told, and the sender waits for its own timeout.
    Drop,
}

impl Answer {
    /// The word in a profile.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reject => "reject",
            Self::Drop => "drop",
        }
    }
}

impl MetadataBlock {
    /// Where most clouds answer: link-local for IPv4, EC2's address for IPv6.
    pub const ADDRESSES: [IpAddr; 2] =
        [IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)), IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254))];
}

/// The wish for one family, without repetitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    /// Ascending, at least one.
    pub addresses: Vec<IpAddr>,
    /// None of which holds another.
    pub sources: Vec<IpNet>,
    /// In the order of the profile.
    pub ports: Vec<Ports>,
    /// In the order of the profile.
    pub interfaces: Vec<String>,
    /// What becomes of the packets.
    pub answer: Answer,
}

impl Guard {
    /// What the profile asks for in one family; `None`: nothing.
    #[must_use]
    pub fn of(spec: &IpMasqSpec, family: Family) -> Option<Self> {
        let block = spec.beyond.metadata.as_ref()?;
        let mut addresses: Vec<IpAddr> = block.addresses.clone();
        addresses.retain(|address| address.is_ipv4() == (family == Family::V4));
        addresses.sort_unstable();
        addresses.dedup();
        let sources = block.except_sources.iter().filter(|network| Family::of(network) == family);
        let sources = without_contained(&sources.map(IpNet::trunc).collect::<Vec<_>>());
        let (ports, interfaces) = (block.except_ports.clone(), block.except_interfaces.clone());
        (!addresses.is_empty()).then_some(Self { addresses, sources, ports, interfaces, answer: block.answer })
    }

    /// `1 address, 2 exceptions, reject`.
    #[must_use]
    pub fn summary(&self) -> String {
        let count = |number: usize, one: &str, more: &str| format!("{number} {}", if number == 1 { one } else { more });
        let exceptions = self.sources.len() + self.ports.len() + self.interfaces.len();
        format!(
            "{}, {}, {}",
            count(self.addresses.len(), "address", "addresses"),
            count(exceptions, "exception", "exceptions"),
            self.answer.as_str()
        )
    }
}

/// What the node shows of a guard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuardTable {
    /// iptables' table `filter`, read.
    Filter(FilterView),
    /// A table of our own, read.
    Native(GuardView),
    /// This node does not have it, or does not let it be read.
    Unavailable {
        /// Why.
        cause: Cause,
        /// The facts and the remedy.
        detail: String,
    },
    /// Reading failed in a way that may pass.
    Unreadable(String),
}

/// The name under which the guard of a table is reported and recorded: `ipv4/nft/filter/TRIMTAB-METADATA`.
#[must_use]
pub fn guard_object(table: TableId) -> String {
    match table.backend {
        super::Backend::Native => table.object(GUARD_TABLE),
        _ => table.object(&format!("filter/{GUARD_CHAIN}")),
    }
}
