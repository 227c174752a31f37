//! The guard in nftables: a table of our own, apart from the one that masquerades.
//!
//! ```text
//! table ip trimtab-metadata {
//!     set addresses { type ipv4_addr; flags interval; elements = { 169.254.169.254 } }
//!     set trusted { type ipv4_addr; flags interval; elements = { … } }
//!     chain forward {
//!         type filter hook forward priority filter - 10; policy accept;
//!         ip daddr @addresses jump guard
//!     }
//!     chain guard {
//!         ip saddr @trusted counter return
//!         udp dport 53-53 counter return
//!         iifname "wg0" counter return
//!         counter reject with icmp type admin-prohibited
//!     }
//! }
//! ```
//!
//! The priority does not matter for what passes: a packet that one chain of a hook accepts, the next may still drop.

use std::fmt::Write as _;

use super::{Answer, Guard, Ports};
use crate::masquerade::Family;
use crate::masquerade::native::{AddressRange, address, joined, range};

/// Name of the table, one per family; whatever bears it is ours.
pub const GUARD_TABLE: &str = "trimtab-metadata";

/// What the table of one family does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NativeGuard {
    /// Addresses of the service: ascending, neither overlapping nor touching.
    pub addresses: Vec<AddressRange>,
    /// Sources that may reach it, in the same form.
    pub trusted: Vec<AddressRange>,
    /// Ports that everybody may reach.
    pub ports: Vec<Ports>,
    /// Interfaces from which everything may reach it.
    pub interfaces: Vec<String>,
    /// What becomes of the packets.
    pub answer: Answer,
}

/// What the node shows of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuardView {
    /// There is none.
    Absent,
    /// It does this, and nothing else.
    Holds(NativeGuard),
    /// It bears our name and is not what we write; what differs, for a person.
    Odd(String),
}

impl NativeGuard {
    /// A guard, normalised.
    #[must_use]
    pub fn of(guard: &Guard) -> Self {
        let single = |address: &std::net::IpAddr| range(&(*address).into());
        Self {
            addresses: joined(guard.addresses.iter().map(single).collect()),
            trusted: joined(guard.sources.iter().map(range).collect()),
            ports: guard.ports.clone(),
            interfaces: guard.interfaces.clone(),
            answer: guard.answer,
        }
    }

    /// `1 address, 2 exceptions, reject`; ranges count as one.
    #[must_use]
    pub fn summary(&self) -> String {
        let count = |number: usize, one: &str, more: &str| format!("{number} {}", if number == 1 { one } else { more });
        let exceptions = self.trusted.len() + self.ports.len() + self.interfaces.len();
        format!(
            "{}, {}, {}",
            count(self.addresses.len(), "address", "addresses"),
            count(exceptions, "exception", "exceptions"),
            self.answer.as_str()
        )
    }

    /// The form in which the ledger keeps it.
    #[must_use]
    pub fn to_text(&self, family: Family) -> String {
        let mut text = String::new();
        for (word, ranges) in [("guard", &self.addresses), ("from", &self.trusted)] {
            for range in ranges {
                let (first, last) = (address(family, range.first), address(family, range.last));
                // Writing to a String cannot fail.
                let _ = writeln!(text, "{word} {first}-{last}");
            }
        }
        for Ports { protocol, first, last } in &self.ports {
            let _ = writeln!(text, "except {}/{first}-{last}", protocol.as_str());
        }
        for name in &self.interfaces {
            let _ = writeln!(text, "except interface {name}");
        }
        let _ = writeln!(text, "{}", self.answer.as_str());
        text
    }
}

impl GuardView {
    /// The table in few words; `None`: there is none.
    #[must_use]
    pub fn summary(&self) -> Option<String> {
        match self {
            Self::Absent => None,
            Self::Holds(held) => Some(held.summary()),
            Self::Odd(why) => Some(why.clone()),
        }
    }
}
