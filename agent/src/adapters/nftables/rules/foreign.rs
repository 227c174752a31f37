//! As much of a rule of others as tells whose sources it translates.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use trimtab_domain::masquerade::Family;

use super::super::family_number;
use super::super::wire::Received;
use super::read::{Expression, expressions_of, is_comparison};
use super::{
    EQUAL, JUMP, META_MARK, NETWORK_HEADER, REGISTER_VERDICT, RETURN, SOURCE_NAT, VALUE, VERDICT, VERDICT_CHAIN,
    VERDICT_CODE, source,
};

/// `NFT_GOTO`.
const GOTO: u32 = (-4_i32).cast_unsigned();
/// `NFTA_META_KEY`, `NFTA_META_SREG`: a rule that sets something.
const META_KEY: u16 = 2;
const META_SETS: u16 = 3;
/// `NFT_META_NFPROTO`.
const META_NFPROTO: u32 = 15;
/// `NFTA_TARGET_NAME`, `NFTA_MATCH_NAME`: extensions of iptables.
const EXTENSION: u16 = 1;

/// What a rule tests and does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in super::super) struct Reading {
    /// It is about packets of the other family.
    pub(in super::super) is_of_other_family: bool,
    /// It sets the source.
    pub(in super::super) translates: bool,
    /// It asks for a mark, as kube-proxy's do.
    pub(in super::super) tests_mark: bool,
    /// The one prefix that the source must be in, if it tests nothing that could not be read.
    pub(in super::super) source: Option<IpNet>,
    /// It tests nothing.
    pub(in super::super) is_unconditional: bool,
    /// Where it ends or leads.
    pub(in super::super) verdict: Option<Verdict>,
}

/// Where a rule leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Verdict {
    /// Back to the chain before.
    Return,
    /// Into another chain.
    Leads(String),
}

impl Reading {
    /// Reads `NFTA_RULE_EXPRESSIONS`; `None`: they cannot be read.
    pub(in super::super) fn of(expressions: Received<'_>, family: Family) -> Option<Self> {
        let list = expressions_of(expressions)?;
        let (source, is_of_other_family) = (prefix(&list, family), asks_for_other_family(&list, family));
        let mut reading = Self { is_unconditional: true, is_of_other_family, source, ..Self::default() };
        for (name, data) in &list {
            let extension = || data.text(EXTENSION).unwrap_or_default();
            match *name {
                "masq" => reading.translates = true,
                "nat" => reading.translates |= data.number(1) == Some(SOURCE_NAT),
                "target" => reading.translates |= matches!(extension(), "MASQUERADE" | "SNAT"),
                "immediate" => reading.verdict = verdict(*data).or(reading.verdict),
                "match" if extension() == "comment" => {}
                "meta" if data.find(META_SETS).is_some() => {}
                "meta" if data.number(META_KEY) == Some(META_MARK) => reading.tests_mark = true,
                "match" if extension() == "mark" => reading.tests_mark = true,
                _ => reading.is_unconditional = false,
            }
        }
        Some(reading)
    }
}

/// In a table for both families nft asks for the one before it looks at addresses.
fn asks_for_other_family(list: &[Expression<'_>], family: Family) -> bool {
    list.windows(2).any(|pair| {
        let [("meta", meta), ("cmp", compare)] = pair else { return false };
        meta.number(META_KEY) == Some(META_NFPROTO) && !is_comparison(*compare, EQUAL, &[family_number(family)])
    })
}

fn verdict(data: Received<'_>) -> Option<Verdict> {
    let verdict = data.nested(2).filter(|_| data.number(1) == Some(REGISTER_VERDICT))?.nested(VERDICT)?;
    match verdict.number(VERDICT_CODE)? {
        RETURN => Some(Verdict::Return),
        JUMP | GOTO => verdict.text(VERDICT_CHAIN).map(|chain| Verdict::Leads(chain.to_owned())),
        _ => None,
    }
}

/// The prefix that a packet's source is compared with: whole bytes are loaded, or a mask is laid over all.
fn prefix(list: &[Expression<'_>], family: Family) -> Option<IpNet> {
    let (offset, whole) = source(family);
    let at = list.iter().position(|(name, data)| {
        *name == "payload" && data.number(2) == Some(NETWORK_HEADER) && data.number(3) == Some(offset)
    })?;
    let loaded = list.get(at)?.1.number(4).filter(|loaded| *loaded <= whole)?;
    let (mask, compare) = match list.get(at + 1..)? {
        [("bitwise", bits), ("cmp", compare), ..] => (Some(bits.nested(4)?.find(VALUE)?), compare),
        [("cmp", compare), ..] => (None, compare),
        _ => return None,
    };
    let value = compare.nested(3)?.find(VALUE)?;
    let ones = |bytes: &[u8]| bytes.iter().map(|byte| byte.count_ones()).sum::<u32>();
    let length = u8::try_from(mask.map_or(loaded * 8, ones)).ok().filter(|_| is_comparison(*compare, EQUAL, value))?;
    let mut bytes = value.to_vec();
    bytes.resize(usize::try_from(whole).ok()?, 0);
    match family {
        Family::V4 => Ipv4Net::new(<[u8; 4]>::try_from(bytes).ok()?.into(), length).ok().map(IpNet::from),
        Family::V6 => Ipv6Net::new(<[u8; 16]>::try_from(bytes).ok()?.into(), length).ok().map(IpNet::from),
    }
}
