//! Section `ipMasq`, with ip-masq-agent's own key names; its flags are fields too.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;
use trimtab_domain::masquerade::check_chain_name;
use trimtab_domain::spec::ip_masq::{BackendWish, ClusterNetworks, Compat, ConfigSource, IpMasqSpec, OnExit};

use super::reader::{Cursor, Object, Problems};
use super::{go_duration, ip_masq_beyond};

/// Highest `cidrLimit`; ip-masq-agent has no bound.
const MAX_CIDR_LIMIT: u64 = 4096;
/// Shorter intervals keep a node busy; ip-masq-agent takes even zero, and spins.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);
/// How a prefix looks.
const CIDR: &str = "a prefix such as 10.0.0.0/8";

/// Fields of the section.
const FIELDS: [&str; 18] = [
    "nonMasqueradeCIDRs",
    "masqLinkLocal",
    "masqLinkLocalIPv6",
    "cidrLimit",
    "resyncInterval",
    "enableIPv6",
    "masqChain",
    "randomFully",
    "toPorts",
    "nomasqAllReservedRanges",
    "compat",
    "backend",
    "onExit",
    "configFile",
    "configDir",
    "configMaps",
    "cluster",
    "extensions",
];

/// Fields, all optional:
/// - `nonMasqueradeCIDRs`: prefixes that keep their source address; absent: 10.0.0.0/8, 172.16.0.0/12,
///   192.168.0.0/16 (`nomasqAllReservedRanges: true`: eleven ranges); an empty list: link-local alone;
/// - `cidrLimit`: most prefixes allowed, default 64;
/// - `masqLinkLocal`, `masqLinkLocalIPv6`: masquerade link-local destinations too, default false;
/// - `resyncInterval`: longest time between two looks as a Go duration, default: that of `--resync`;
/// - `enableIPv6`: keep IPv6 rules, and allow IPv6 prefixes, default false;
/// - `masqChain`: name of the chain, default `IP-MASQ-AGENT`;
/// - `randomFully`: random source ports, default true;
/// - `toPorts`: source ports such as `1024-2047,4000`, default: the kernel chooses;
/// - `compat`: `kubernetes-sigs` or `azure`: rules to the letter of that agent (no prefix is left out; with `azure` no
///   random ports), and so not with `backend: nftables`;
/// - `backend`: `auto` (default), `iptables-nft`, `iptables-legacy` or `nftables`;
/// - `onExit`: `keep` (default) or `remove`: what becomes of the rules when the agent stops;
/// - `configMaps`: `kubernetes-sigs` or `azure`: the ConfigMaps of that agent in kube-system, read from the API server by name;
/// - `configFile`, `configDir`: the configuration of kubernetes-sigs' or Azure's agent, read in place and followed; it
///   has the list, link-local, limit and interval, which may then not stand here;
/// - `cluster`: `podCIDRs`, `serviceCIDRs`, `nodeCIDRs`, and `overlay` if pod addresses mean nothing outside: what the
///   checks before the first write compare with;
/// - `extensions`: see [`ip_masq_beyond`].
pub(super) fn read(section: &Cursor<'_>, problems: &mut Problems) -> Option<IpMasqSpec> {
    let section = section.object(&FIELDS, problems)?;
    let mut flag = |name: &str| section.field(name).and_then(|cursor| cursor.boolean(problems)).unwrap_or(false);
    let enable_ipv6 = flag("enableIPv6");
    let all_reserved = flag("nomasqAllReservedRanges");
    let masq_link_local = flag("masqLinkLocal");
    let masq_link_local_ipv6 = flag("masqLinkLocalIPv6");
    let compat = read_compat(&section, problems);
    let random_fully = section.field("randomFully").and_then(|cursor| cursor.boolean(problems));
    let config = read_config(&section, problems);
    let listed = section.field("nonMasqueradeCIDRs");
    if let (Some(list), true) = (&listed, all_reserved) {
        let idle = list.problem("nomasqAllReservedRanges has no effect where prefixes are listed");
        problems.warn(idle.allowed("one of the two"));
    }
    let cidrs = match &listed {
        Some(cursor) => read_cidrs(cursor, enable_ipv6, problems),
        None => IpMasqSpec::default_cidrs(all_reserved),
    };
    check_limit(&section, listed.as_ref(), cidrs.len(), problems);
    let chain = section.field("masqChain").and_then(|cursor| read_chain(&cursor, problems));
    let interval = section.field("resyncInterval").and_then(|cursor| {
        let allowed = "a duration of at least 1s, such as 60s or 1m30s";
        go_duration::read(&cursor, SHORTEST_INTERVAL, allowed, problems)
    });
    let extensions = section.field("extensions");
    let beyond = extensions.map(|cursor| ip_masq_beyond::read(&cursor, (enable_ipv6, compat), problems));
    Some(IpMasqSpec {
        non_masquerade_cidrs: cidrs,
        masq_link_local,
        masq_link_local_ipv6,
        enable_ipv6,
        masq_chain: chain.unwrap_or(IpMasqSpec::DEFAULT_CHAIN).to_owned(),
        random_fully: random_fully.unwrap_or(compat != Some(Compat::Azure)),
        to_ports: section.field("toPorts").map(|cursor| read_ports(&cursor, compat, problems)).unwrap_or_default(),
        resync_interval: interval,
        compat,
        backend: read_backend(&section, problems),
        on_exit: read_on_exit(&section, problems),
        config,
        beyond: beyond.unwrap_or_default(),
        cluster: section.field("cluster").and_then(|cursor| read_cluster(&cursor, problems)).unwrap_or_default(),
    })
}

/// To the letter means to iptables' letter, which a table in nftables cannot keep. Azure's agent knows neither flag.
fn read_compat(section: &Object<'_>, problems: &mut Problems) -> Option<Compat> {
    let word = section.field("compat")?.choice(&["kubernetes-sigs", "azure"], problems)?;
    if let Some(cursor) = section.field("backend").filter(|cursor| cursor.raw() == "nftables") {
        let not_so = cursor.problem(format!("not with compat: {word}"));
        let allowed = "auto, iptables-nft or iptables-legacy: that agent's rules are iptables rules";
        problems
            .refuse(not_so.allowed(allowed).hint("leave compat out: nftables treats the same packets the same way"));
    }
    if word != "azure" {
        return Some(Compat::KubernetesSigs);
    }
    for cursor in ["randomFully", "toPorts"].into_iter().filter_map(|name| section.field(name)) {
        if cursor.raw() != "false" {
            problems.refuse(cursor.problem("not with compat: azure").allowed("nothing: that agent has no such rules"));
        }
    }
    Some(Compat::Azure)
}

fn read_backend(section: &Object<'_>, problems: &mut Problems) -> BackendWish {
    let word = section
        .field("backend")
        .and_then(|cursor| cursor.choice(&["auto", "iptables-nft", "iptables-legacy", "nftables"], problems));
    match word {
        Some("iptables-nft") => BackendWish::IptablesNft,
        Some("iptables-legacy") => BackendWish::IptablesLegacy,
        Some("nftables") => BackendWish::Nftables,
        _ => BackendWish::Auto,
    }
}

fn read_on_exit(section: &Object<'_>, problems: &mut Problems) -> OnExit {
    let word = section.field("onExit").and_then(|cursor| cursor.choice(&["keep", "remove"], problems));
    if word == Some("remove") { OnExit::Remove } else { OnExit::Keep }
}

/// One of the three, and nothing beside it that the file has.
fn read_config(section: &Object<'_>, problems: &mut Problems) -> Option<ConfigSource> {
    const IN_THE_FILE: [&str; 5] =
        ["nonMasqueradeCIDRs", "masqLinkLocal", "masqLinkLocalIPv6", "cidrLimit", "resyncInterval"];
    let allowed = "an absolute path such as /etc/config/ip-masq-agent";
    let mut path = |name: &str| {
        let cursor = section.field(name)?;
        let path = Path::new(cursor.text(allowed, problems)?);
        if !path.is_absolute() {
            problems.refuse(cursor.problem("not an absolute path").allowed(allowed));
        }
        Some(path.to_owned())
    };
    let (file, directory) = (path("configFile"), path("configDir"));
    if let (Some(_), Some(cursor)) = (&file, section.field("configDir")) {
        problems.refuse(cursor.problem("configFile is there too").allowed("one of the two"));
    }
    let maps = section.field("configMaps");
    if let (true, Some(cursor)) = (file.is_some() || directory.is_some(), &maps) {
        problems.refuse(cursor.problem("configFile or configDir is there too").allowed("one of the three"));
    }
    let maps = maps.and_then(|cursor| cursor.choice(&["kubernetes-sigs", "azure"], problems));
    let maps = maps.map(|word| if word == "azure" { Compat::Azure } else { Compat::KubernetesSigs });
    let source = file
        .map(ConfigSource::File)
        .or(directory.map(ConfigSource::Directory))
        .or(maps.map(ConfigSource::of_config_maps))?;
    for cursor in IN_THE_FILE.into_iter().filter_map(|name| section.field(name)) {
        problems.refuse(
            cursor.problem("set in two places").allowed("only in the file of configFile, configDir or configMaps"),
        );
    }
    Some(source)
}

fn read_cluster(cursor: &Cursor<'_>, problems: &mut Problems) -> Option<ClusterNetworks> {
    let cluster = cursor.object(&["podCIDRs", "serviceCIDRs", "nodeCIDRs", "overlay"], problems)?;
    let mut networks = |name| cluster.field(name).map(|list| read_cidrs(&list, true, problems)).unwrap_or_default();
    let (pods, services, nodes) = (networks("podCIDRs"), networks("serviceCIDRs"), networks("nodeCIDRs"));
    let overlay = cluster.field("overlay").and_then(|cursor| cursor.boolean(problems)).unwrap_or(false);
    Some(ClusterNetworks { pods, services, nodes, overlay })
}

/// ip-masq-agent counts the entries of the list, duplicates included, and the default list too.
fn check_limit(section: &Object<'_>, listed: Option<&Cursor<'_>>, defaults: usize, problems: &mut Problems) {
    let field = section.field("cidrLimit");
    let limit = match &field {
        Some(cursor) => cursor.integer(0, MAX_CIDR_LIMIT, problems),
        None => u64::try_from(IpMasqSpec::DEFAULT_CIDR_LIMIT).ok(),
    };
    let Some(limit) = limit else { return };
    let (count, place) = match listed {
        Some(list) if list.is_list() => (list.list("", problems).map_or(0, |items| items.len()), Some(list)),
        Some(_) => return,
        None => (defaults, field.as_ref()),
    };
    if let (true, Some(place)) = (u64::try_from(count).is_ok_and(|count| count > limit), place) {
        problems.refuse(
            place.problem("too many CIDRs").found(count.to_string()).allowed(format!("at most {limit} (cidrLimit)")),
        );
    }
}

pub(super) fn read_cidrs(list: &Cursor<'_>, enable_ipv6: bool, problems: &mut Problems) -> Vec<IpNet> {
    let items = list.list("a list of prefixes", problems).unwrap_or_default();
    items.iter().filter_map(|item| read_cidr(item, enable_ipv6, problems)).collect()
}

fn read_cidr(item: &Cursor<'_>, enable_ipv6: bool, problems: &mut Problems) -> Option<IpNet> {
    let text = item.text(CIDR, problems)?;
    let Some(net) = parse_cidr(text) else {
        let bare = match text.parse::<IpAddr>() {
            Ok(IpAddr::V4(_)) => format!("did you mean \"{text}/32\"?"),
            Ok(IpAddr::V6(_)) => format!("did you mean \"{text}/128\"?"),
            Err(_) => String::new(),
        };
        problems.refuse(item.problem("not a CIDR").allowed(CIDR).hint(bare));
        return None;
    };
    if net.addr() != net.network() {
        let aligned = format!("did you mean \"{}\"?", net.trunc());
        problems.refuse(item.problem("host bits are set").allowed("a prefix whose host bits are zero").hint(aligned));
        return None;
    }
    if matches!(net, IpNet::V6(_)) && !enable_ipv6 {
        let refused = item.problem("IPv6 is not enabled").allowed("IPv4 prefixes, unless enableIPv6 is true");
        problems.refuse(refused);
        return None;
    }
    Some(net)
}

/// A prefix as Go's `ParseCIDR` takes it, without its leading zeros in the length. IPv4 addresses written as IPv6 are
/// refused: programs disagree on which of the two they are.
fn parse_cidr(text: &str) -> Option<IpNet> {
    let (address, length) = text.split_once('/')?;
    let leading_zero = length.len() > 1 && length.starts_with('0');
    if leading_zero || !length.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let address: IpAddr = address.parse().ok()?;
    if matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) {
        return None;
    }
    IpNet::new(address, length.parse().ok()?).ok()
}

fn read_chain<'a>(cursor: &Cursor<'a>, problems: &mut Problems) -> Option<&'a str> {
    let allowed = "1 to 28 letters, digits or any of - _ . : + @, not a name that iptables keeps for itself";
    let name = cursor.text(allowed, problems)?;
    if check_chain_name(name).is_err() {
        problems.refuse(cursor.problem("not a chain name").allowed(allowed));
        return None;
    }
    Some(name)
}

/// `N` or `N-M`, comma-separated, as text; a single port may be a number. kubernetes-sigs' agent has no upper bound.
fn read_ports(cursor: &Cursor<'_>, compat: Option<Compat>, problems: &mut Problems) -> Vec<(u32, u32)> {
    let highest = if compat == Some(Compat::KubernetesSigs) { u32::MAX } else { u32::from(u16::MAX) };
    let allowed = "ports from 1 to 65535, such as 1024-2047,4000, without blanks";
    let Some(text) = cursor.quantity_text(allowed, problems) else { return Vec::new() };
    let mut ranges = Vec::new();
    for part in text.split(',') {
        match read_range(part, highest) {
            Some((first, last)) if first > last => {
                let turned = cursor.problem(format!("first is greater than last in {part:?}"));
                problems.refuse(turned.allowed(allowed).hint(format!("did you mean \"{last}-{first}\"?")));
            }
            Some(range) => ranges.push(range),
            None => problems.refuse(cursor.problem(format!("invalid interval {part:?}")).allowed(allowed)),
        }
    }
    ranges
}

fn read_range(part: &str, highest: u32) -> Option<(u32, u32)> {
    let port = |text: &str| {
        let digits = !text.starts_with('+');
        text.parse::<u32>().ok().filter(|port| digits && *port > 0 && *port <= highest)
    };
    match part.split_once('-') {
        Some((first, last)) => Some((port(first)?, port(last)?)),
        None => port(part).map(|port| (port, port)),
    }
}
