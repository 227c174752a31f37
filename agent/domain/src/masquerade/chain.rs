//! The chain that a profile asks for, and the value of a chain as the ledger keeps it.

use ipnet::IpNet;

use super::POSTROUTING;
use super::beyond::{Exception, Pool};
use super::policy::{Masquerading, Policy};
use super::rule::{Rule, RuleError};
use crate::spec::ip_masq::Compat;

/// Comment of each exempt prefix; ip-masq-agent's own words.
const EXEMPT: &str = "ip-masq-agent: local traffic is not subject to MASQUERADE";
/// Comment of each rule that masquerades.
const MASQUERADED: &str = "ip-masq-agent: outbound traffic is subject to MASQUERADE (must be last in chain)";
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
    /// A policy in the words of iptables. The place of the jump says nothing: it is appended, and where it is found it
    /// stays.
    ///
    /// # Errors
    /// [`RuleError`] never for a chain name that [`check_chain_name`] accepts.
    pub fn render(policy: &Policy) -> Result<Self, RuleError> {
        let exceptions = policy.exceptions.iter().map(exception_rule);
        let rules = policy.exempt.iter().map(exempt_rule).chain(exceptions).chain(masquerade_rules(policy));
        Ok(Self {
            jumps: vec![(1, Rule::parse(&jump_text(&policy.chain, policy.compat))?)],
            rules: rules.map(|text| Rule::parse(&text)).collect::<Result<_, _>>()?,
        })
    }

    /// The one jump that should be there; `None` only for a name that [`check_chain_name`] refuses.
    #[must_use]
    pub fn jump(chain: &str, compat: Option<Compat>) -> Option<Rule> {
        Rule::parse(&jump_text(chain, compat)).ok()
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

/// The jump; the match on the address type stands here once and not in each rule. Azure's agent passes the comment with
/// quotes of its own, which iptables keeps as part of it.
fn jump_text(chain: &str, compat: Option<Compat>) -> String {
    let quote = if compat == Some(Compat::Azure) { "\\\"" } else { "" };
    format!(
        "-m comment --comment \"{quote}ip-masq-agent: ensure nat POSTROUTING directs all non-LOCAL destination traffic to \
         our custom {chain} chain{quote}\" -m addrtype ! --dst-type LOCAL -j {chain}"
    )
}

/// `iptables-save` prints no prefix that holds every address.
fn exempt_rule(network: &IpNet) -> String {
    let destination = if network.prefix_len() == 0 { String::new() } else { format!("-d {network} ") };
    format!("{destination}-m comment --comment \"{EXEMPT}\" -j RETURN")
}

fn exception_rule(exception: &Exception) -> String {
    format!("{} -m comment --comment \"{EXEMPT}\" -j RETURN", exception.iptables_match())
}

/// Each rule once per source, because a match takes one prefix; the sources are apart, so their order does not matter.
fn masquerade_rules(policy: &Policy) -> Vec<String> {
    let sources = match &policy.sources {
        None => vec![String::new()],
        Some(sources) => sources.iter().map(|source| format!("-s {source} ")).collect(),
    };
    let of = |source: &String| {
        let rules = policy.masquerade.iter().map(|rule| format!("{source}{}", masquerade_rule(rule, policy.pool)));
        rules.collect::<Vec<_>>()
    };
    sources.iter().flat_map(of).collect()
}

fn masquerade_rule(rule: &Masquerading, pool: Option<Pool>) -> String {
    let protocol = rule.protocol.map(|protocol| format!("-p {} ", protocol.as_str())).unwrap_or_default();
    let share = rule.share.map(|share| format!(" -m statistic --mode random --probability {}", share.probability()));
    let ports = rule.ports.map(|(first, last)| {
        if first == last { format!(" --to-ports {first}") } else { format!(" --to-ports {first}-{last}") }
    });
    let (share, ports) = (share.unwrap_or_default(), ports.unwrap_or_default());
    let random = if rule.random_fully { " --random-fully" } else { "" };
    let target = match pool {
        None => format!("MASQUERADE{ports}"),
        Some(pool) => format!("SNAT --to-source {}", pool.to_source(rule.ports)),
    };
    format!("{protocol}-m comment --comment \"{MASQUERADED}\"{share} -j {target}{random}")
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
