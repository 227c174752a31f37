//! Chains of others in nftables that translate sources before ours are asked.
//!
//! Rules that iptables-legacy holds cannot be seen here; those of iptables-nft stand in tables of nf_tables' own.

use ipnet::IpNet;

use super::decide::chain_in;
use super::{Backend, TableId};
use crate::plan::{Finding, Severity};
use crate::spec::IpMasqSpec;

/// A chain that the kernel asks about new connections that leave, and that is none of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignChain {
    /// `ip`, `ip6` or `inet`.
    pub family: &'static str,
    /// Its table.
    pub table: String,
    /// Its name.
    pub chain: String,
    /// Lower ones are asked first.
    pub priority: i32,
    /// The rules that translate sources, also of chains that it leads to, but for those about marked packets.
    pub rules: Vec<ForeignRule>,
}

/// A rule of others that translates sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignRule {
    /// The chain that holds it.
    pub chain: String,
    /// The one prefix that the source must be in; `None`: any, or another kind of condition.
    pub source: Option<IpNet>,
    /// Every packet matches.
    pub is_unconditional: bool,
}

/// iptables hooks in at 100 (`NF_IP_PRI_NAT_SRC`), our table ten later.
const fn priority(backend: Backend) -> i32 {
    match backend {
        Backend::Nft | Backend::Legacy => 100,
        Backend::Native => 110,
    }
}

/// What decides ahead of our chain of one table.
pub(super) fn findings(table: TableId, foreign: &[ForeignChain], spec: &IpMasqSpec) -> Vec<Finding> {
    let ours = priority(table.backend);
    // Rules in iptables' own table are seen in their order, jump and all.
    let is_own = |chain: &ForeignChain| table.backend == Backend::Nft && chain.table == "nat" && chain.family != "inet";
    let ahead = foreign.iter().filter(|chain| chain.priority <= ours && !is_own(chain));
    ahead.filter_map(|chain| finding(table, chain, spec)).collect()
}

fn finding(table: TableId, chain: &ForeignChain, spec: &IpMasqSpec) -> Option<Finding> {
    let of_pods = |rule: &&ForeignRule| {
        let pods = &spec.cluster.pods;
        rule.source.is_some_and(|source| pods.iter().any(|pods| pods.contains(&source) || source.contains(pods)))
    };
    let first = chain.rules.first()?;
    let unconditional = chain.rules.iter().find(|rule| rule.is_unconditional);
    let worst = unconditional.or_else(|| chain.rules.iter().find(of_pods)).unwrap_or(first);
    let (severity, effect) = if worst.is_unconditional {
        (Severity::Warning, "decides for every packet that reaches it")
    } else if of_pods(&worst) {
        (Severity::Warning, "decides for packets of pods")
    } else {
        (Severity::Info, "decides for the packets that it matches")
    };
    let ForeignChain { family, table: theirs, chain: name, priority: at, rules } = chain;
    let ours = priority(table.backend);
    let order = if *at < ours {
        format!("priority {at} comes before ours, {ours}")
    } else {
        format!("priority {at} is ours too, and of two equal ones the one hooked in last comes first")
    };
    let source = worst.source.map(|source| format!(" for sources in {source}")).unwrap_or_default();
    let more = if rules.len() > 1 { format!(" and {} more", rules.len() - 1) } else { String::new() };
    Some(Finding {
        severity,
        code: "masquerade-decided-earlier",
        object: table.object(chain_in(table, spec)),
        message: format!(
            "a rule in chain {}{source}{more}, reached from {family} {theirs} {name} of nftables ({order}), {effect}, \
             whatever is exempt here",
            worst.chain
        ),
        remedy: format!(
            "if that is not meant, turn it off where it comes from (often the CNI plug-in's own masquerading, libvirt or a \
             firewall); it is shown by: nft list table {family} {theirs}"
        ),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::masquerade::Family;
    use crate::spec::ip_masq::ClusterNetworks;

    #[test]
    fn what_comes_before_ours_is_told_by_what_it_takes() {
        let rule = |source: Option<&str>, is_unconditional| ForeignRule {
            chain: "c".into(),
            source: source.map(|source| source.parse().unwrap()),
            is_unconditional,
        };
        let chain = |family, table: &str, priority, rules| ForeignChain {
            family,
            table: table.into(),
            chain: "post".into(),
            priority,
            rules,
        };
        let pods = || rule(Some("10.244.0.0/16"), false);
        let other = || rule(Some("192.168.122.0/24"), false);
        let rows = [
            ("pods", Backend::Native, chain("inet", "cni", 100, vec![other(), pods()]), Some(Severity::Warning)),
            ("others", Backend::Native, chain("ip", "libvirt", 100, vec![other()]), Some(Severity::Info)),
            ("everything", Backend::Native, chain("ip", "fw", 110, vec![rule(None, true)]), Some(Severity::Warning)),
            ("some condition", Backend::Native, chain("ip", "fw", 0, vec![rule(None, false)]), Some(Severity::Info)),
            ("later", Backend::Native, chain("ip", "fw", 111, vec![rule(None, true)]), None),
            ("nothing", Backend::Native, chain("ip", "fw", 0, vec![]), None),
            ("iptables beside ours", Backend::Native, chain("ip", "nat", 100, vec![pods()]), Some(Severity::Warning)),
            ("iptables' own", Backend::Nft, chain("ip", "nat", 100, vec![pods()]), None),
            ("of the same name", Backend::Nft, chain("inet", "nat", 100, vec![pods()]), Some(Severity::Warning)),
            ("behind iptables", Backend::Legacy, chain("ip", "fw", 101, vec![pods()]), None),
        ];
        let cluster = ClusterNetworks { pods: vec!["10.244.0.0/16".parse().unwrap()], ..ClusterNetworks::default() };
        let spec = IpMasqSpec { cluster, ..IpMasqSpec::default() };
        for (name, backend, chain, expected) in rows {
            let table = TableId { family: Family::V4, backend };
            let found = findings(table, &[chain], &spec);
            assert_eq!(found.first().map(|finding| finding.severity), expected, "{name}: {found:?}");
        }
    }
}
