//! `ipMasq.extensions.blockMetadata`: pods kept away from the cloud's metadata service.

use std::net::IpAddr;

use trimtab_domain::masquerade::{Answer, Exception, MetadataBlock, Ports};

use super::ip_masq::read_cidrs;
use super::ip_masq_beyond::{parse_interface, parse_ports};
use super::reader::{Cursor, Problems};

/// Most entries of each list: every one of them may be a rule that packets walk through.
const MAX_ENTRIES: usize = 64;

/// Fields, all optional; an empty mapping blocks for everybody:
///
/// - `addresses`: of the service, default `169.254.169.254` and, with `enableIPv6`, `fd00:ec2::254`;
/// - `exceptSources`: prefixes whose packets pass;
/// - `exceptPorts`: `udp/53`: ports of the service that everybody may reach;
/// - `exceptInterfaces`: what comes in through these passes;
/// - `answer`: `reject` (default: ICMP "administratively prohibited") or `drop`.
pub(super) fn read(cursor: &Cursor<'_>, enable_ipv6: bool, problems: &mut Problems) -> Option<MetadataBlock> {
    const FIELDS: [&str; 5] = ["addresses", "exceptSources", "exceptPorts", "exceptInterfaces", "answer"];
    let section = cursor.object(&FIELDS, problems)?;
    let addresses = match section.field("addresses") {
        Some(list) => read_addresses(&list, enable_ipv6, problems),
        None => MetadataBlock::ADDRESSES.into_iter().filter(|address| enable_ipv6 || address.is_ipv4()).collect(),
    };
    let except_sources =
        section.field("exceptSources").map(|list| read_cidrs(&list, enable_ipv6, problems)).unwrap_or_default();
    for list in FIELDS.into_iter().filter_map(|name| section.field(name)).filter(Cursor::is_list) {
        let count = list.list("", problems).map_or(0, |items| items.len());
        if count > MAX_ENTRIES {
            let allowed = format!("at most {MAX_ENTRIES}");
            problems.refuse(list.problem("too many entries").found(count.to_string()).allowed(allowed));
        }
    }
    let mut except_ports = Vec::new();
    let items = section.field("exceptPorts").and_then(|list| list.list("a list of ports such as udp/53", problems));
    for item in items.unwrap_or_default() {
        let allowed = "udp/53 or tcp/80-89";
        let Some(text) = item.text(allowed, problems) else { continue };
        match parse_ports(text) {
            Some(Exception::Ports { protocol, first, last }) => except_ports.push(Ports { protocol, first, last }),
            _ => problems.refuse(item.problem("not understood").allowed(allowed)),
        }
    }
    let mut except_interfaces = Vec::new();
    let items = section.field("exceptInterfaces").and_then(|list| list.list("a list of interfaces", problems));
    for item in items.unwrap_or_default() {
        let allowed = "the whole name of an interface";
        let Some(text) = item.text(allowed, problems) else { continue };
        match parse_interface(text) {
            Some(Exception::Interface(name)) => except_interfaces.push(name),
            _ => problems.refuse(item.problem("not understood").allowed(allowed)),
        }
    }
    let word = section.field("answer").and_then(|cursor| cursor.choice(&["reject", "drop"], problems));
    let answer = if word == Some("drop") { Answer::Drop } else { Answer::Reject };
    Some(MetadataBlock { addresses, except_sources, except_ports, except_interfaces, answer })
}

fn read_addresses(list: &Cursor<'_>, enable_ipv6: bool, problems: &mut Problems) -> Vec<IpAddr> {
    let allowed =
        if enable_ipv6 { "169.254.169.254 or fd00:ec2::254" } else { "169.254.169.254; IPv6 with enableIPv6" };
    let items = list.list("a list of addresses", problems);
    if items.as_ref().is_some_and(Vec::is_empty) {
        problems.refuse(list.problem("no address at all").allowed("addresses; leave it out for the usual ones"));
    }
    let mut addresses = Vec::new();
    for item in items.unwrap_or_default() {
        let Some(text) = item.text(allowed, problems) else { continue };
        let address = text.parse().ok().filter(|address: &IpAddr| {
            let is_mapped = matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
            let is_host = !address.is_unspecified() && !address.is_multicast() && !address.is_loopback();
            is_host && !is_mapped && (enable_ipv6 || address.is_ipv4())
        });
        match address {
            Some(address) => addresses.push(address),
            None => problems.refuse(item.problem("not the address of a service").allowed(allowed)),
        }
    }
    addresses
}
