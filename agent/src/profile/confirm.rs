//! Section `confirm`: what must still be reached after a risky change.

use std::collections::BTreeSet;
use std::time::Duration;

use trimtab_domain::spec::confirm::{ConfirmSpec, RISKY_SUBSYSTEMS, Target};

use super::reader::{Cursor, Problems};

/// Bounds of the deadline in seconds: probes take a few seconds, and an hour cut off is no protection.
pub(super) const DEADLINE: (u64, u64) = (5, 3600);
/// Most probes; all are tried at once.
pub(super) const MAX_PROBES: usize = 16;

/// Fields:
/// - `deadlineSeconds` (default 60): how long a change has to be confirmed;
/// - `probes`: what must be reached beside the API server and the agent's own port, each `tcp: HOST:PORT` or `http: URL`;
/// - `subsystems` (default `[kernel, masquerade, sysctl]`): whose risky changes are watched over; `[]`: nobody's.
pub(super) fn read(section: &Cursor<'_>, problems: &mut Problems) -> Option<ConfirmSpec> {
    let section = section.object(&["deadlineSeconds", "probes", "subsystems"], problems)?;
    let mut confirm = ConfirmSpec::default();
    let (least, most) = DEADLINE;
    let deadline = section.field("deadlineSeconds").and_then(|cursor| cursor.integer(least, most, problems));
    if let Some(seconds) = deadline {
        confirm.deadline = Duration::from_secs(seconds);
    }
    if let Some(list) = section.field("probes") {
        confirm.probes = read_probes(&list, problems);
    }
    if let Some(list) = section.field("subsystems") {
        let names = list.list("a list of subsystems", problems).unwrap_or_default();
        let chosen = names.iter().filter_map(|name| name.choice(&RISKY_SUBSYSTEMS, problems));
        confirm.subsystems = chosen.map(str::to_owned).collect::<BTreeSet<_>>();
    }
    Some(confirm)
}

fn read_probes(list: &Cursor<'_>, problems: &mut Problems) -> Vec<Target> {
    let items = list.list("a list of probes", problems).unwrap_or_default();
    if items.len() > MAX_PROBES {
        problems.refuse(list.problem("too many probes").allowed(format!("at most {MAX_PROBES}")));
    }
    items.iter().take(MAX_PROBES).filter_map(|item| read_probe(item, problems)).collect()
}

fn read_probe(item: &Cursor<'_>, problems: &mut Problems) -> Option<Target> {
    let probe = item.object(&["http", "tcp"], problems)?;
    match (probe.field("tcp"), probe.field("http")) {
        (Some(tcp), None) => {
            let allowed = "HOST:PORT such as 10.0.0.10:53, [fd00::10]:53 or example.com:443";
            let address = tcp.text(allowed, problems)?;
            if is_address(address) {
                return Some(Target::Tcp(address.to_owned()));
            }
            problems.refuse(tcp.problem("not an address").allowed(allowed));
        }
        (None, Some(http)) => {
            let allowed = "http://HOST[:PORT][/PATH]";
            let url = http.text(allowed, problems)?;
            if is_url(url) {
                return Some(Target::Http(url.to_owned()));
            }
            let problem = http.problem("not an address").allowed(allowed);
            let hint = "https is tried as tcp: HOST:443";
            problems.refuse(if url.starts_with("https:") { problem.hint(hint) } else { problem });
        }
        _ => problems.refuse(item.problem("not a probe").allowed("one of tcp, http")),
    }
    None
}

/// `HOST:PORT`, an IPv6 address in brackets.
fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let is_port = port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
    is_port && is_host(host)
}

fn is_host(host: &str) -> bool {
    match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
            (1..=253).contains(&host.len()) && host.bytes().all(is_letter)
        }
    }
}

fn is_url(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("http://") else { return false };
    let (authority, path) = rest.split_at_checked(rest.find('/').unwrap_or(rest.len())).unwrap_or((rest, ""));
    (is_address(authority) || is_host(authority)) && path.bytes().all(|byte| byte.is_ascii_graphic())
}
