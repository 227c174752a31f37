//! Networks compared before anything is written: what the wish would do to the connections of this cluster.
//!
//! What a cluster's networks are, only the profile can say; what this node is connected to, its routes do.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::{Family, Policy};
use crate::plan::{Finding, Severity};
use crate::spec::IpMasqSpec;

/// `RTF_UP`, `RTF_GATEWAY`, `RTF_LOCAL` (`linux/route.h`, `linux/ipv6_route.h`).
const UP: u32 = 0x1;
const GATEWAY: u32 = 0x2;
const LOCAL: u32 = 0x8000_0000;

/// A network that this node reaches without a gateway.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Connected {
    /// The interface behind which it is.
    pub interface: String,
    /// The network.
    pub network: IpNet,
}

impl Connected {
    /// Reads `/proc/net/route`; lines that make no sense are left out.
    #[must_use]
    pub fn parse_v4(text: &str) -> Vec<Self> {
        let line = |line: &str| {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            let number = |at: usize| words.get(at).and_then(|word| u32::from_str_radix(word, 16).ok());
            let flags = number(3).filter(|flags| flags & UP != 0 && flags & GATEWAY == 0)?;
            // Addresses are printed as the number that lies in memory.
            let [destination, mask] = [number(1)?, number(7)?].map(|word| Ipv4Addr::from(word.to_ne_bytes()));
            let length = ipnet::ipv4_mask_to_prefix(mask).ok().filter(|length| *length > 0)?;
            let network = IpNet::new(destination.into(), length).ok().filter(|_| flags & LOCAL == 0)?;
            Some(Self { interface: (*words.first()?).to_owned(), network: network.trunc() })
        };
        text.lines().skip(1).filter_map(line).collect()
    }

    /// Reads `/proc/net/ipv6_route`, link-local and multicast left out; lines that make no sense too.
    #[must_use]
    pub fn parse_v6(text: &str) -> Vec<Self> {
        let line = |line: &str| {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            let flags = u32::from_str_radix(words.get(8)?, 16).ok()?;
            let address = Ipv6Addr::from(u128::from_str_radix(words.first()?, 16).ok()?);
            let length = u8::from_str_radix(words.get(1)?, 16).ok().filter(|length| *length > 0)?;
            let usable = flags & UP != 0 && flags & (GATEWAY | LOCAL) == 0;
            let global = !address.is_unicast_link_local() && !address.is_multicast() && !address.is_loopback();
            let network = IpNet::new(address.into(), length).ok().filter(|_| usable && global)?;
            Some(Self { interface: (*words.get(9)?).to_owned(), network: network.trunc() })
        };
        text.lines().filter_map(line).filter(|route| route.interface != "lo").collect()
    }
}

/// What a person should know before the rules of these families are written.
pub(super) fn preflight(spec: &IpMasqSpec, connected: &[Connected]) -> Vec<Finding> {
    let families = Family::ALL.into_iter().filter(|family| *family == Family::V4 || spec.enable_ipv6);
    families.flat_map(|family| Preflight::new(spec, connected, family).findings()).collect()
}

struct Preflight<'a> {
    spec: &'a IpMasqSpec,
    connected: Vec<&'a Connected>,
    family: Family,
    exempt: Vec<IpNet>,
}

impl<'a> Preflight<'a> {
    fn new(spec: &'a IpMasqSpec, connected: &'a [Connected], family: Family) -> Self {
        let connected = connected.iter().filter(|route| Family::of(&route.network) == family).collect();
        Self { spec, connected, family, exempt: Policy::of(spec, family).exempt }
    }

    fn findings(&self) -> Vec<Finding> {
        let cluster = &self.spec.cluster;
        let mut found: Vec<Finding> = self.of(&cluster.pods).flat_map(|pods| self.about_pods(pods)).collect();
        found.extend(self.of(&cluster.nodes).filter(|nodes| !self.is_exempt(nodes)).map(nodes_masqueraded));
        found.extend(self.of(&cluster.services).filter(|services| !self.is_exempt(services)).map(services_masqueraded));
        if cluster.overlay {
            found.extend(self.leaves_the_overlay());
        }
        found
    }

    fn of<'b>(&self, networks: &'b [IpNet]) -> impl Iterator<Item = &'b IpNet> + use<'b> {
        let family = self.family;
        networks.iter().filter(move |network| Family::of(network) == family)
    }

    fn is_exempt(&self, network: &IpNet) -> bool {
        self.exempt.iter().any(|exempt| exempt.contains(network))
    }

    fn about_pods(&self, pods: &IpNet) -> Vec<Finding> {
        let around = self.connected.iter().filter(|route| route.network.contains(pods));
        let mut found: Vec<Finding> = around.map(|route| self.inside_connected(pods, route)).collect();
        if !self.is_exempt(pods) {
            let message = format!(
                "pod range {pods} is masqueraded: pods of other nodes and clients from outside are seen with this node's address"
            );
            found.push(finding(
                Severity::Warning,
                "masquerade-pods-masqueraded",
                pods,
                message,
                format!("add {pods} to nonMasqueradeCIDRs"),
            ));
        }
        found
    }

    /// With a flat network that is how it is meant; in an overlay somebody else has these addresses.
    fn inside_connected(&self, pods: &IpNet, route: &Connected) -> Finding {
        let Connected { interface, network } = route;
        let message = format!("pod range {pods} lies inside {network}, to which this node is connected by {interface}");
        let (severity, remedy) = if self.spec.cluster.overlay {
            (Severity::Error, "choose another pod range: hosts of that network and pods have the same addresses")
        } else {
            (Severity::Warning, "right for a flat network (set no overlay); otherwise choose another pod range")
        };
        finding(severity, "masquerade-pod-range-connected", pods, message, remedy.to_owned())
    }

    /// What is exempt and no part of the cluster is sent the pods' own addresses, to which nobody there can answer.
    fn leaves_the_overlay(&self) -> Vec<Finding> {
        let cluster = &self.spec.cluster;
        let known: Vec<&IpNet> =
            [&cluster.pods, &cluster.nodes, &cluster.services].into_iter().flat_map(|list| self.of(list)).collect();
        let listed = self.of(&self.spec.non_masquerade_cidrs).filter(|_| !known.is_empty());
        let outside = listed.filter(|exempt| !known.iter().any(|network| network.contains(*exempt)));
        outside
            .map(|exempt| {
                let message = format!(
                    "{exempt} is exempt and reaches beyond the cluster's networks: in an overlay, packets of pods leave for it \
                     with addresses that nobody out there can answer"
                );
                let remedy = "list the cluster's own ranges in nonMasqueradeCIDRs instead of wider ones".to_owned();
                finding(Severity::Warning, "masquerade-leaves-overlay", exempt, message, remedy)
            })
            .collect()
    }
}

fn nodes_masqueraded(nodes: &IpNet) -> Finding {
    let message = format!("node range {nodes} is masqueraded: other nodes see this node where a pod calls them");
    let remedy = format!("add {nodes} to nonMasqueradeCIDRs if pods are to be told apart there");
    finding(Severity::Info, "masquerade-nodes-masqueraded", nodes, message, remedy)
}

fn services_masqueraded(services: &IpNet) -> Finding {
    let message = format!(
        "service range {services} is masqueraded; that matters only where nothing has turned a service's address into a pod's"
    );
    let remedy = format!("add {services} to nonMasqueradeCIDRs if a service mesh or proxy gets these addresses");
    finding(Severity::Info, "masquerade-services-masqueraded", services, message, remedy)
}

fn finding(severity: Severity, code: &'static str, network: &IpNet, message: String, remedy: String) -> Finding {
    Finding { severity, code, object: network.to_string(), message, remedy }
}

#[cfg(test)]
mod tests;
