//! The list of prefixes, judged as Go's `net.ParseCIDR` and the agents judge it, in their order of checks.

use std::net::IpAddr;

use ipnet::IpNet;
use trimtab_domain::plan::{Finding, Severity};

use super::doubt;
use super::error::Cause;

/// Bits ahead of an IPv4 address that is written as IPv6.
const MAPPED_BITS: u8 = 96;

/// Compares the number of entries with the limit.
pub(super) fn check_count(count: usize, limit: i64) -> Result<(), Cause> {
    let over = usize::try_from(limit).map_or(true, |limit| count > limit);
    if over { Err(Cause::TooMany { limit, count }) } else { Ok(()) }
}

/// Parses every entry; the first that is wrong gives the error.
pub(super) fn parse_all(
    list: &[String],
    enable_ipv6: bool,
    file: &str,
    findings: &mut Vec<Finding>,
) -> Result<Vec<IpNet>, Cause> {
    list.iter().map(|text| parse(text, enable_ipv6, file, findings)).collect()
}

fn parse(text: &str, enable_ipv6: bool, file: &str, findings: &mut Vec<Finding>) -> Result<IpNet, Cause> {
    let wrong = || Cause::NotCidr(text.to_owned());
    let (address, length) = text.split_once('/').ok_or_else(wrong)?;
    let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
    let bits: u8 = length.parse().ok().filter(|_| digits).ok_or_else(wrong)?;
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let network = IpNet::new(address, bits).map_err(|_| wrong())?;
    if network.network() != network.addr() {
        return Err(Cause::NotAligned { text: text.to_owned(), address, network: network.trunc() });
    }
    let (canonical, unusual) = match address {
        IpAddr::V6(v6) => match v6.to_ipv4_mapped().zip(bits.checked_sub(MAPPED_BITS)) {
            Some((v4, bits)) => (IpNet::new(IpAddr::V4(v4), bits).map_err(|_| wrong())?, true),
            None => (network, false),
        },
        IpAddr::V4(_) => (network, false),
    };
    if matches!(canonical, IpNet::V6(_)) && !enable_ipv6 {
        return Err(Cause::Ipv6Off(text.to_owned()));
    }
    if unusual || (length.len() > 1 && length.starts_with('0')) {
        let message = format!(
            "CIDR {text:?} is taken for {canonical}; the original agent passes it on, and iptables reads something else or refuses it"
        );
        let remedy = format!("write {canonical}");
        findings.push(doubt(Severity::Warning, "masquerade-config-spelling", file, message, &remedy));
    }
    Ok(canonical)
}
