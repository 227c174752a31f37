//! The chain that a profile asks for, and the value of a chain as the ledger keeps it.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::rule::{Rule, RuleError};
use super::{Family, POSTROUTING};
use crate::spec::IpMasqSpec;

/// Comment of each exempt prefix; ip-masq-agent's own words.
const EXEMPT: &str = "ip-masq-agent: local traffic is not subject to MASQUERADE";
/// Comment of each rule that masquerades.
const MASQUERADED: &str = "ip-masq-agent: outbound traffic is subject to MASQUERADE (must be last in chain)";
/// Protocols that have ports which MASQUERADE can choose.
const PORT_PROTOCOLS: [&str; 3] = ["tcp", "udp", "sctp"];
/// Longest name that iptables takes (`XT_EXTENSION_MAXNAMELEN` less the closing zero).
const MAX_CHAIN_NAME: usize = 28;

/// A name that iptables would not take for a chain, or that would name something else.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainNameError {
    /// No name at all.
    #[error("the chain name is empty")]
    Empty,
    /// More than 28 characters.
    #[error("chain name {0:?} is longer than {MAX_CHAIN_NAME} characters")]
    TooLong(String),
    /// A character that would have to be quoted, or that starts an option.
    #[error("chain name {0:?} may hold letters, digits and any of - _ . : + @ only, and not start with - or :")]
    Character(String),
    /// A built-in chain or a target.
    #[error("chain name {0:?} is the name of a built-in chain or of a target")]
    Taken(String),
}

/// Checks the name of a chain before it gets into a text for `iptables-restore`.
///
/// # Errors
/// [`ChainNameError`] with the name.
pub fn check_chain_name(name: &str) -> Result<(), ChainNameError> {
    const TAKEN: [&str; 15] = [
        "PREROUTING",
        "INPUT",
        "FORWARD",
        "OUTPUT",
        "POSTROUTING",
        "ACCEPT",
        "DROP",
        "QUEUE",
        "RETURN",
        "MASQUERADE",
        "SNAT",
        "DNAT",
        "REDIRECT",
        "NETMAP",
        "LOG",
    ];
    if name.is_empty() {
        Err(ChainNameError::Empty)
    } else if name.len() > MAX_CHAIN_NAME {
        Err(ChainNameError::TooLong(name.chars().take(64).collect()))
    } else if name.starts_with(['-', ':'])
        || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:+@".contains(&byte))
    {
        Err(ChainNameError::Character(name.to_owned()))
    } else if TAKEN.contains(&name) {
        Err(ChainNameError::Taken(name.to_owned()))
    } else {
        Ok(())
    }
}

/// Contents of a chain and the jumps that lead to it from POSTROUTING.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChainValue {
    /// Jumps in POSTROUTING with their place, counted from 1.
    pub jumps: Vec<(usize, Rule)>,
    /// Rules in order.
    pub rules: Vec<Rule>,
}

impl ChainValue {
    /// What the profile asks for in one family. The place of the jump says nothing: it is appended, and where it is
    /// found it stays.
    ///
    /// # Errors
    /// [`RuleError`] never for a chain name that [`check_chain_name`] accepts.
    pub fn desired(spec: &IpMasqSpec, family: Family) -> Result<Self, RuleError> {
        let rules = exempt_networks(spec, family).map(|network| exempt_rule(&network)).chain(port_rules(spec));
        let rules = rules.chain(std::iter::once(masquerade_rule("", "", spec.random_fully)));
        Ok(Self {
            jumps: vec![(1, Rule::parse(&jump_text(&spec.masq_chain))?)],
            rules: rules.map(|text| Rule::parse(&text)).collect::<Result<_, _>>()?,
        })
    }

    /// The one jump that should be there; `None` only for a name that [`check_chain_name`] refuses.
    #[must_use]
    pub fn jump(chain: &str) -> Option<Rule> {
        Rule::parse(&jump_text(chain)).ok()
    }

    /// The form in which the ledger keeps it: one `-I POSTROUTING PLACE …` per jump, one `-A CHAIN …` per rule.
    #[must_use]
    pub fn to_text(&self, chain: &str) -> String {
        let jumps = self.jumps.iter().map(|(place, rule)| format!("-I {POSTROUTING} {place} {}\n", rule.as_str()));
        let rules = self.rules.iter().map(|rule| format!("{}\n", append(chain, rule)));
        jumps.chain(rules).collect()
    }

    /// Reads that form back; `None` if it is not one.
    #[must_use]
    pub fn parse(text: &str, chain: &str) -> Option<Self> {
        let mut value = Self::default();
        for line in text.lines() {
            let (command, rest) = line.split_once(' ')?;
            let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
            match command {
                "-I" if name == POSTROUTING => {
                    let (place, rule) = rest.split_once(' ')?;
                    value.jumps.push((place.parse().ok()?, Rule::parse(rule).ok()?));
                }
                "-A" if name == chain => value.rules.push(Rule::parse(rest).ok()?),
                _ => return None,
            }
        }
        Some(value)
    }

    /// Whether both hold the same rules in the same order and the same jumps, wherever these are.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        self.same_rules(&other.rules)
            && self.jumps.len() == other.jumps.len()
            && self.jumps.iter().zip(&other.jumps).all(|((_, mine), (_, theirs))| mine.same(theirs))
    }

    /// Whether the rules are these.
    #[must_use]
    pub fn same_rules(&self, rules: &[Rule]) -> bool {
        self.rules.len() == rules.len() && self.rules.iter().zip(rules).all(|(mine, theirs)| mine.same(theirs))
    }

    /// `5 rules, 1 jump`.
    #[must_use]
    pub fn summary(&self) -> String {
        let count = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
        format!("{}, {}", count(self.rules.len(), "rule"), count(self.jumps.len(), "jump"))
    }
}

/// The line that appends a rule to a chain.
pub(super) fn append(chain: &str, rule: &Rule) -> String {
    format!("-A {chain} {}", rule.as_str()).trim_end().to_owned()
}

/// The jump; the match on the address type stands here once and not in each rule.
fn jump_text(chain: &str) -> String {
    format!(
        "-m comment --comment \"ip-masq-agent: ensure nat POSTROUTING directs all non-LOCAL destination traffic to our \
         custom {chain} chain\" -m addrtype ! --dst-type LOCAL -j {chain}"
    )
}

/// Link-local first, then the list in its order, both families apart.
fn exempt_networks(spec: &IpMasqSpec, family: Family) -> impl Iterator<Item = IpNet> + '_ {
    let (link_local, masqueraded) = match family {
        Family::V4 => (Ipv4Net::new(Ipv4Addr::new(169, 254, 0, 0), 16).map(IpNet::from), spec.masq_link_local),
        Family::V6 => {
            (Ipv6Net::new(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10).map(IpNet::from), spec.masq_link_local_ipv6)
        }
    };
    let listed = spec.non_masquerade_cidrs.iter().copied();
    let listed = listed.filter(move |network| matches!(network, IpNet::V4(_)) == (family == Family::V4));
    link_local.ok().filter(|_| !masqueraded).into_iter().chain(listed.map(|network| network.trunc()))
}

/// `iptables-save` prints no prefix that holds every address.
fn exempt_rule(network: &IpNet) -> String {
    let destination = if network.prefix_len() == 0 { String::new() } else { format!("-d {network} ") };
    format!("{destination}-m comment --comment \"{EXEMPT}\" -j RETURN")
}

fn masquerade_rule(protocol: &str, options: &str, random_fully: bool) -> String {
    let (match_options, target_options) = options.split_once('|').unwrap_or(("", ""));
    let random = if random_fully { " --random-fully" } else { "" };
    format!("{protocol}-m comment --comment \"{MASQUERADED}\"{match_options} -j MASQUERADE{target_options}{random}")
}

/// One rule per protocol and range. A range is chosen with the probability of its size over the sizes of itself and
/// all later ones; the last takes what is left.
fn port_rules(spec: &IpMasqSpec) -> impl Iterator<Item = String> + '_ {
    let size = |(first, last): (u16, u16)| f64::from(last.saturating_sub(first)) + 1.0;
    PORT_PROTOCOLS.into_iter().flat_map(move |protocol| {
        spec.to_ports.iter().enumerate().map(move |(index, &(first, last))| {
            let later: f64 = spec.to_ports.iter().skip(index).map(|range| size(*range)).sum();
            let split = if index + 1 < spec.to_ports.len() {
                format!(" -m statistic --mode random --probability {}", size((first, last)) / later)
            } else {
                String::new()
            };
            let ports = if first == last { first.to_string() } else { format!("{first}-{last}") };
            masquerade_rule(&format!("-p {protocol} "), &format!("{split}| --to-ports {ports}"), spec.random_fully)
        })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn chain_names_are_checked() {
        let long = "A".repeat(29);
        let rows = [
            ("IP-MASQ-AGENT", Ok(())),
            ("ABCDEFGHIJKLMNOPQRSTUVWXYZ12", Ok(())),
            ("", Err(ChainNameError::Empty)),
            (long.as_str(), Err(ChainNameError::TooLong(long.clone()))),
            ("POSTROUTING", Err(ChainNameError::Taken("POSTROUTING".into()))),
            ("A B", Err(ChainNameError::Character("A B".into()))),
            ("A\nCOMMIT", Err(ChainNameError::Character("A\nCOMMIT".into()))),
            ("-A", Err(ChainNameError::Character("-A".into()))),
            ("A\"", Err(ChainNameError::Character("A\"".into()))),
        ];
        for (name, expected) in rows {
            assert_eq!(check_chain_name(name), expected, "{name:?}");
        }
    }

    #[test]
    fn the_value_of_a_chain_is_read_back() {
        let jump = Rule::parse("-m comment --comment \"\\\"a b\\\"\" -j X").unwrap();
        let value = ChainValue {
            jumps: vec![(2, jump.clone()), (5, jump)],
            rules: vec![Rule::parse("-d 10.0.0.0/8 -j RETURN").unwrap(), Rule::parse("").unwrap()],
        };
        assert_eq!(ChainValue::parse(&value.to_text("X"), "X"), Some(value.clone()));
        assert_eq!(value.summary(), "2 rules, 2 jumps");
        assert_eq!(ChainValue::parse("", "X"), Some(ChainValue::default()));
        for bad in ["-A Y -j RETURN", "-I POSTROUTING -j X", "-I OUTPUT 1 -j X", "-A", "-A X -m comment --comment \""] {
            assert_eq!(ChainValue::parse(bad, "X"), None, "{bad}");
        }
    }
}
