//! The rules of the table that guards the metadata service, as expressions and back.

use trimtab_domain::masquerade::{Answer, Exception, Family, Ports};

use super::super::wire::{Attributes, Received};
use super::read::{Expression, expressions_of, interface_of, is_comparison, is_verdict, loads, parse_exception};
use super::write::{Expressions, except};
use super::{EQUAL, JUMP, META_IN_NAME, NETWORK_HEADER, REGISTER_1, RETURN, destination, interface_bytes, source};

/// Names of what is in the table.
pub(in super::super) const ADDRESSES: &str = "addresses";
pub(in super::super) const TRUSTED: &str = "trusted";
pub(in super::super) const GUARD: &str = "guard";

/// `NF_DROP`.
const DROP: u32 = 0;
/// `NFT_REJECT_ICMP_UNREACH`; `ICMP_PKT_FILTERED`, `ICMPV6_ADM_PROHIBITED`.
const UNREACHABLE: u32 = 0;
const PROHIBITED_V4: u8 = 13;
const PROHIBITED_V6: u8 = 1;

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum GuardRule {
    /// `ip daddr @addresses jump guard`.
    Jump,
    /// `ip saddr @trusted counter return`.
    Trusted,
    /// `udp dport 53-53 counter return`.
    Ports(Ports),
    /// `iifname "wg0" counter return`.
    Interface(String),
    /// `counter reject …`, or `counter drop`.
    Last(Answer),
    /// None of ours.
    Other,
}

impl GuardRule {
    /// `NFTA_RULE_EXPRESSIONS`; nothing for [`Self::Other`].
    pub(in super::super) fn expressions(&self, family: Family) -> Attributes {
        let list = Expressions::default();
        match self {
            Self::Jump => list
                .load(NETWORK_HEADER, destination(family))
                .add("lookup", |data| data.text(1, ADDRESSES).number(2, REGISTER_1))
                .verdict(JUMP, Some(GUARD)),
            Self::Trusted => list
                .load(NETWORK_HEADER, source(family))
                .add("lookup", |data| data.text(1, TRUSTED).number(2, REGISTER_1))
                .counter()
                .verdict(RETURN, None),
            Self::Ports(Ports { protocol, first, last }) => {
                let exception = Exception::Ports { protocol: *protocol, first: *first, last: *last };
                except(&exception).counter().verdict(RETURN, None)
            }
            Self::Interface(name) => {
                list.meta(META_IN_NAME).compare(EQUAL, &interface_bytes(name)).counter().verdict(RETURN, None)
            }
            Self::Last(Answer::Drop) => list.counter().verdict(DROP, None),
            Self::Last(Answer::Reject) => {
                list.counter().add("reject", |data| data.number(1, UNREACHABLE).bytes(2, &[prohibited(family)]))
            }
            Self::Other => list,
        }
        .0
    }

    /// Reads `NFTA_RULE_EXPRESSIONS`.
    pub(in super::super) fn parse(expressions: Received<'_>, family: Family) -> Self {
        let list = expressions_of(expressions).unwrap_or_default();
        parse_lookup(&list, family).or_else(|| parse_rest(&list, family)).unwrap_or(Self::Other)
    }
}

const fn prohibited(family: Family) -> u8 {
    match family {
        Family::V4 => PROHIBITED_V4,
        Family::V6 => PROHIBITED_V6,
    }
}

fn parse_lookup(list: &[Expression<'_>], family: Family) -> Option<GuardRule> {
    let [("payload", payload), ("lookup", lookup), ("immediate", verdict)] = list else { return None };
    let (field, rule, is_right) = match lookup.text(1)? {
        ADDRESSES => (destination(family), GuardRule::Jump, is_verdict(*verdict, JUMP, Some(GUARD))),
        TRUSTED => (source(family), GuardRule::Trusted, is_verdict(*verdict, RETURN, None)),
        _ => return None,
    };
    let plain = lookup.number(2) == Some(REGISTER_1) && lookup.number(5).unwrap_or(0) == 0;
    (plain && is_right && loads(*payload, NETWORK_HEADER, field)).then_some(rule)
}

fn parse_rest(list: &[Expression<'_>], family: Family) -> Option<GuardRule> {
    match list {
        [("immediate", verdict)] => is_verdict(*verdict, DROP, None).then_some(GuardRule::Last(Answer::Drop)),
        [("reject", reject)] => {
            let is_ours = reject.number(1) == Some(UNREACHABLE) && reject.find(2) == Some(&[prohibited(family)]);
            is_ours.then_some(GuardRule::Last(Answer::Reject))
        }
        [("meta", meta), ("cmp", compare), ("immediate", verdict)] => {
            let name = interface_of(*meta, META_IN_NAME, *compare)?;
            let is_ours = is_comparison(*compare, EQUAL, &interface_bytes(&name)) && is_verdict(*verdict, RETURN, None);
            is_ours.then_some(GuardRule::Interface(name))
        }
        _ => match parse_exception(list)? {
            Exception::Ports { protocol, first, last } => Some(GuardRule::Ports(Ports { protocol, first, last })),
            Exception::Interface(_) | Exception::Mark { .. } => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use trimtab_domain::masquerade::PortProtocol;

    use super::*;

    #[test]
    fn every_rule_is_read_back_and_of_another_family_it_is_none_of_ours() {
        let ports = Ports { protocol: PortProtocol::Udp, first: 53, last: 53 };
        let rules = [
            (GuardRule::Jump, false),
            (GuardRule::Trusted, false),
            (GuardRule::Ports(ports), true),
            (GuardRule::Interface("wg0".into()), true),
            (GuardRule::Last(Answer::Drop), true),
            (GuardRule::Last(Answer::Reject), false),
        ];
        for (rule, in_both) in rules {
            let bytes = rule.expressions(Family::V4);
            assert_eq!(GuardRule::parse(Received(bytes.as_bytes()), Family::V4), rule);
            let other = GuardRule::parse(Received(bytes.as_bytes()), Family::V6);
            assert_eq!(other == rule, in_both, "{rule:?}");
            for cut in 0..bytes.as_bytes().len() {
                let cut = bytes.as_bytes().get(..cut).unwrap_or_default();
                let _ = GuardRule::parse(Received(cut), Family::V4);
            }
        }
        assert_eq!(GuardRule::parse(Received(&[]), Family::V4), GuardRule::Other);
    }
}
