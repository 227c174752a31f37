//! `ipMasq.extensions`: what no masquerade agent has.

use std::net::IpAddr;

use trimtab_domain::masquerade::{Beyond, Exception, Pool, PortProtocol};
use trimtab_domain::spec::ip_masq::Compat;

use super::ip_masq::read_cidrs;
use super::ip_masq_metadata;
use super::reader::{Cursor, Problems};

/// Reads one exception.
type Parse = fn(&str) -> Option<Exception>;

/// Longest name of an interface (`IFNAMSIZ` of `linux/if.h`, less the closing zero).
const MAX_INTERFACE_NAME: usize = 15;

/// Fields, all absent by default:
///
/// - `sources`: only packets from these prefixes are masqueraded;
/// - `exemptPorts`: `tcp/443`, `udp/8000-8999`: packets to these ports keep their source;
/// - `exemptInterfaces`: so do packets that leave through these;
/// - `exemptMarks`: and packets with these marks, `0x4000` or `0x4000/0x4000`;
/// - `blockMetadata`: see [`ip_masq_metadata`];
/// - `snat`: addresses `192.0.2.1` or `192.0.2.1-192.0.2.9` instead of the outgoing interface's, one range per family.
pub(super) fn read(
    cursor: &Cursor<'_>,
    (enable_ipv6, compat): (bool, Option<Compat>),
    problems: &mut Problems,
) -> Beyond {
    if compat.is_some() {
        problems.refuse(cursor.problem("not with compat").allowed("nothing: no masquerade agent has such rules"));
    }
    const FIELDS: [&str; 6] = ["sources", "exemptPorts", "exemptInterfaces", "exemptMarks", "snat", "blockMetadata"];
    let mut beyond = Beyond::default();
    let Some(section) = cursor.object(&FIELDS, problems) else { return beyond };
    if let Some(list) = section.field("sources") {
        beyond.sources = read_cidrs(&list, enable_ipv6, problems);
        if beyond.sources.is_empty() {
            problems
                .refuse(list.problem("no source at all").allowed("prefixes; leave it out to masquerade all sources"));
        }
    }
    let kinds: [(&str, &str, Parse); 3] = [
        ("exemptPorts", "tcp/443, udp/8000-8999 or sctp/7", parse_ports),
        ("exemptInterfaces", "the whole name of an interface", parse_interface),
        ("exemptMarks", "0x4000 or 0x4000/0x4000, the value within the mask", parse_mark),
    ];
    for (field, allowed, parse) in kinds {
        let items = section.field(field).and_then(|cursor| cursor.list(&format!("a list of {allowed}"), problems));
        for item in items.unwrap_or_default() {
            let Some(text) = item.text(allowed, problems) else { continue };
            match parse(text) {
                Some(exception) => beyond.exceptions.push(exception),
                None => problems.refuse(item.problem("not understood").allowed(allowed)),
            }
        }
    }
    beyond.metadata =
        section.field("blockMetadata").and_then(|cursor| ip_masq_metadata::read(&cursor, enable_ipv6, problems));
    let items = section.field("snat").and_then(|cursor| cursor.list("a list of address ranges", problems));
    for item in items.unwrap_or_default() {
        let allowed = "192.0.2.1 or 192.0.2.1-192.0.2.9, one range per family";
        let Some(text) = item.text(allowed, problems) else { continue };
        let pool = parse_pool(text)
            .filter(|pool| beyond.pools.iter().all(|known| known.first.is_ipv4() != pool.first.is_ipv4()));
        match pool {
            Some(pool) => beyond.pools.push(pool),
            None => problems.refuse(item.problem("not such a range").allowed(allowed)),
        }
    }
    beyond
}

pub(super) fn parse_ports(text: &str) -> Option<Exception> {
    let (protocol, ports) = text.split_once('/')?;
    let protocol = PortProtocol::ALL.into_iter().find(|known| known.as_str() == protocol)?;
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0 && !text.starts_with(['+', '0']));
    let (first, last) = (port(first)?, port(last)?);
    (first <= last).then_some(Exception::Ports { protocol, first, last })
}

pub(super) fn parse_interface(text: &str) -> Option<Exception> {
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | '"' | '\\' | '+' | '*' | '!');
    let is_name = !text.is_empty() && text.len() <= MAX_INTERFACE_NAME && text.chars().all(plain);
    (is_name && !text.starts_with('-')).then(|| Exception::Interface(text.to_owned()))
}

fn parse_mark(text: &str) -> Option<Exception> {
    let number = |text: &str| u32::from_str_radix(text.strip_prefix("0x")?, 16).ok();
    let (value, mask) = match text.split_once('/') {
        Some((value, mask)) => (number(value)?, number(mask)?),
        None => (number(text)?, u32::MAX),
    };
    (mask != 0 && value & !mask == 0).then_some(Exception::Mark { value, mask })
}

fn parse_pool(text: &str) -> Option<Pool> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last): (IpAddr, IpAddr) = (first.parse().ok()?, last.parse().ok()?);
    (first.is_ipv4() == last.is_ipv4() && first <= last).then_some(Pool { first, last })
}
