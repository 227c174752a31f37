//! The rules of our table as nf_tables' expressions, and back.
//!
//! What is read back is compared as meaning: expressions that are none of ours make the rule [`Rule::Other`].
//! Layout: `linux/netfilter/nf_tables.h`; the expressions are those that `nft --debug=netlink` prints.

use trimtab_domain::masquerade::{Family, Masquerading, PortProtocol, Share};

use super::wire::{Attributes, Received};

/// Names of what is in our table.
pub(super) const SET: &str = "exempt";
pub(super) const MASQ: &str = "masq";

/// `NFTA_LIST_ELEM`, `NFTA_EXPR_NAME`, `NFTA_EXPR_DATA`.
const ELEMENT: u16 = 1;
const NAME: u16 = 1;
const DATA: u16 = 2;
/// `NFTA_DATA_VALUE`, `NFTA_DATA_VERDICT`, `NFTA_VERDICT_CODE`, `NFTA_VERDICT_CHAIN`.
const VALUE: u16 = 1;
const VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const VERDICT_CHAIN: u16 = 2;
/// `NFT_JUMP`, `NFT_RETURN`, as the unsigned numbers that travel.
const JUMP: u32 = (-3_i32).cast_unsigned();
const RETURN: u32 = (-5_i32).cast_unsigned();
/// `NFT_REG_VERDICT`, `NFT_REG_1`, `NFT_REG_2`.
const REGISTER_VERDICT: u32 = 0;
const REGISTER_1: u32 = 1;
const REGISTER_2: u32 = 2;
/// `NFT_CMP_EQ`, `NFT_CMP_NEQ`, `NFT_CMP_LT`.
const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;
const LESS: u32 = 2;
/// `NFT_PAYLOAD_NETWORK_HEADER`.
const NETWORK_HEADER: u32 = 1;
/// `NFT_META_L4PROTO`.
const META_L4PROTO: u32 = 16;
/// `NFT_FIB_RESULT_ADDRTYPE`, `NFTA_FIB_F_DADDR`; `RTN_LOCAL` of `linux/rtnetlink.h`.
const FIB_ADDRESS_TYPE: u32 = 3;
const FIB_DESTINATION: u32 = 2;
const LOCAL: u32 = 2;
/// `NFT_NG_RANDOM`, `NFT_BYTEORDER_HTON`.
const RANDOM: u32 = 1;
const TO_NETWORK_ORDER: u32 = 1;
/// `NF_NAT_RANGE_PROTO_SPECIFIED`, `NF_NAT_RANGE_PROTO_RANDOM_FULLY`.
const PORTS_GIVEN: u32 = 1 << 1;
const RANDOM_FULLY: u32 = 1 << 4;

/// One rule of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// `fib daddr type != local jump masq`.
    Jump,
    /// `ip daddr @exempt counter return`.
    Exempt,
    /// `… counter masquerade …`.
    Masquerade(Masquerading),
    /// None of ours.
    Other,
}

impl Rule {
    /// `NFTA_RULE_EXPRESSIONS`; nothing for [`Self::Other`].
    pub(super) fn expressions(self, family: Family) -> Attributes {
        match self {
            Self::Jump => Expressions::default()
                .add("fib", |data| data.number(1, REGISTER_1).number(2, FIB_ADDRESS_TYPE).number(3, FIB_DESTINATION))
                .compare(NOT_EQUAL, &LOCAL.to_ne_bytes())
                .verdict(JUMP, Some(MASQ)),
            Self::Exempt => {
                let (offset, length) = destination(family);
                Expressions::default()
                    .add("payload", |data| {
                        data.number(1, REGISTER_1).number(2, NETWORK_HEADER).number(3, offset).number(4, length)
                    })
                    .add("lookup", |data| data.text(1, SET).number(2, REGISTER_1))
                    .counter()
                    .verdict(RETURN, None)
            }
            Self::Masquerade(rule) => masquerade(rule),
            Self::Other => Expressions::default(),
        }
        .0
    }

    /// Reads `NFTA_RULE_EXPRESSIONS`.
    pub(super) fn parse(expressions: Received<'_>, family: Family) -> Self {
        let mut list = Vec::new();
        for (_, element) in expressions.each() {
            let element = Received(element);
            let (Some(name), Some(data)) = (element.text(NAME), element.nested(DATA)) else { return Self::Other };
            // Counting changes nothing of what is done.
            if name != "counter" {
                list.push((name, data));
            }
        }
        parse_jump(&list)
            .or_else(|| parse_exempt(&list, family))
            .or_else(|| parse_masquerade(&list))
            .unwrap_or(Self::Other)
    }
}

/// Expressions of a rule, in order.
#[derive(Default)]
struct Expressions(Attributes);

impl Expressions {
    fn add(self, name: &str, data: impl FnOnce(Attributes) -> Attributes) -> Self {
        let expression = Attributes::default().text(NAME, name).nested(DATA, &data(Attributes::default()));
        Self(self.0.nested(ELEMENT, &expression))
    }

    /// Compares register 1.
    fn compare(self, operation: u32, with: &[u8]) -> Self {
        let value = Attributes::default().bytes(VALUE, with);
        self.add("cmp", |data| data.number(1, REGISTER_1).number(2, operation).nested(3, &value))
    }

    fn counter(self) -> Self {
        self.add("counter", |data| data.bytes(1, &[0; 8]).bytes(2, &[0; 8]))
    }

    fn verdict(self, code: u32, chain: Option<&str>) -> Self {
        let verdict = Attributes::default().number(VERDICT_CODE, code);
        let verdict = match chain {
            Some(chain) => verdict.text(VERDICT_CHAIN, chain),
            None => verdict,
        };
        let data = Attributes::default().nested(VERDICT, &verdict);
        self.add("immediate", |attributes| attributes.number(1, REGISTER_VERDICT).nested(2, &data))
    }

    fn port(self, register: u32, port: u32) -> Self {
        // Checked before it gets here (Policy::check).
        let port = u16::try_from(port).unwrap_or(u16::MAX);
        let data = Attributes::default().bytes(VALUE, &port.to_be_bytes());
        self.add("immediate", |attributes| attributes.number(1, register).nested(2, &data))
    }
}

fn masquerade(rule: Masquerading) -> Expressions {
    let mut list = Expressions::default();
    if let Some(protocol) = rule.protocol {
        list = list
            .add("meta", |data| data.number(1, REGISTER_1).number(2, META_L4PROTO))
            .compare(EQUAL, &[protocol_number(protocol)]);
    }
    if let Some(share) = rule.share {
        list = list
            .add("numgen", |data| data.number(1, REGISTER_1).number(2, share.whole).number(3, RANDOM))
            // The comparison reads the register from its first byte on, so the number must be big-endian.
            .add("byteorder", |data| {
                data.number(1, REGISTER_1).number(2, REGISTER_1).number(3, TO_NETWORK_ORDER).number(4, 4).number(5, 4)
            })
            .compare(LESS, &share.part.to_be_bytes());
    }
    list = list.counter();
    if let Some((first, last)) = rule.ports {
        // A single port is one register, as nft has it.
        list = list.port(REGISTER_1, first);
        list = if first == last { list } else { list.port(REGISTER_2, last) };
    }
    list.add("masq", |data| {
        // Without the flag the kernel keeps the registers and looks at neither.
        let given = if rule.ports.is_some() { PORTS_GIVEN } else { 0 };
        let flags = given | if rule.random_fully { RANDOM_FULLY } else { 0 };
        let data = if flags == 0 { data } else { data.number(1, flags) };
        match rule.ports {
            None => data,
            Some((first, last)) if first == last => data.number(2, REGISTER_1),
            Some(_) => data.number(2, REGISTER_1).number(3, REGISTER_2),
        }
    })
}

/// Offset and length of the destination in the header.
const fn destination(family: Family) -> (u32, u32) {
    match family {
        Family::V4 => (16, 4),
        Family::V6 => (24, 16),
    }
}

/// IANA's numbers.
const fn protocol_number(protocol: PortProtocol) -> u8 {
    match protocol {
        PortProtocol::Tcp => 6,
        PortProtocol::Udp => 17,
        PortProtocol::Sctp => 132,
    }
}

type Expression<'a> = (&'a str, Received<'a>);

fn is_comparison(data: Received<'_>, operation: u32, with: &[u8]) -> bool {
    data.number(1) == Some(REGISTER_1) && data.number(2) == Some(operation) && compared(data) == Some(with)
}

fn compared(data: Received<'_>) -> Option<&[u8]> {
    data.nested(3)?.find(VALUE)
}

fn is_verdict(data: Received<'_>, code: u32, chain: Option<&str>) -> bool {
    let verdict = data.nested(2).and_then(|data| data.nested(VERDICT));
    data.number(1) == Some(REGISTER_VERDICT)
        && verdict
            .is_some_and(|verdict| verdict.number(VERDICT_CODE) == Some(code) && verdict.text(VERDICT_CHAIN) == chain)
}

fn parse_jump(list: &[Expression<'_>]) -> Option<Rule> {
    let [("fib", fib), ("cmp", compare), ("immediate", verdict)] = list else { return None };
    let asks = [fib.number(1), fib.number(2), fib.number(3)];
    let asks = asks == [Some(REGISTER_1), Some(FIB_ADDRESS_TYPE), Some(FIB_DESTINATION)];
    let is_ours = asks && is_comparison(*compare, NOT_EQUAL, &LOCAL.to_ne_bytes());
    (is_ours && is_verdict(*verdict, JUMP, Some(MASQ))).then_some(Rule::Jump)
}

fn parse_exempt(list: &[Expression<'_>], family: Family) -> Option<Rule> {
    let [("payload", payload), ("lookup", lookup), ("immediate", verdict)] = list else { return None };
    let (offset, length) = destination(family);
    let loads = [payload.number(1), payload.number(2), payload.number(3), payload.number(4)];
    let loads = loads == [Some(REGISTER_1), Some(NETWORK_HEADER), Some(offset), Some(length)];
    let plain = lookup.number(5).unwrap_or(0) == 0;
    let looks_up = plain && lookup.text(1) == Some(SET) && lookup.number(2) == Some(REGISTER_1);
    (loads && looks_up && is_verdict(*verdict, RETURN, None)).then_some(Rule::Exempt)
}

fn parse_masquerade(list: &[Expression<'_>]) -> Option<Rule> {
    let mut rest = list;
    let mut rule = Masquerading { protocol: None, share: None, ports: None, random_fully: false };
    if let [("meta", meta), ("cmp", compare), after @ ..] = rest {
        let loads = (meta.number(1), meta.number(2)) == (Some(REGISTER_1), Some(META_L4PROTO));
        let mut protocols = PortProtocol::ALL.into_iter();
        let protocol = protocols.find(|protocol| is_comparison(*compare, EQUAL, &[protocol_number(*protocol)]));
        rule.protocol = Some(protocol.filter(|_| loads)?);
        rest = after;
    }
    if let [("numgen", number), ("byteorder", _), ("cmp", compare), after @ ..] = rest {
        let part = u32::from_be_bytes(compared(*compare)?.try_into().ok()?);
        let draws = number.number(3) == Some(RANDOM) && number.number(4).unwrap_or(0) == 0;
        let compares = is_comparison(*compare, LESS, &part.to_be_bytes());
        rule.share = Some(Share { part, whole: number.number(2).filter(|_| draws && compares)? });
        rest = after;
    }
    if let [("immediate", first), ("immediate", last), after @ ..] = rest {
        rule.ports = Some((port(*first, REGISTER_1)?, port(*last, REGISTER_2)?));
        rest = after;
    } else if let [("immediate", only), after @ ..] = rest {
        let only = port(*only, REGISTER_1)?;
        rule.ports = Some((only, only));
        rest = after;
    }
    let [("masq", masq)] = rest else { return None };
    let flags = masq.number(1).unwrap_or(0);
    rule.random_fully = flags & RANDOM_FULLY != 0;
    let given = (masq.number(2), masq.number(3));
    let expected = match rule.ports {
        None => (None, None),
        // The kernel shows the first register for both.
        Some((first, last)) if first == last => (Some(REGISTER_1), given.1.filter(|last| *last == REGISTER_1)),
        Some(_) => (Some(REGISTER_1), Some(REGISTER_2)),
    };
    let ports_given = if rule.ports.is_some() { PORTS_GIVEN } else { 0 };
    (flags & !RANDOM_FULLY == ports_given && given == expected).then_some(Rule::Masquerade(rule))
}

fn port(data: Received<'_>, register: u32) -> Option<u32> {
    let value = data.nested(2)?.find(VALUE)?;
    let port = u16::from_be_bytes(value.try_into().ok()?);
    (data.number(1) == Some(register)).then_some(u32::from(port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Vec<Rule> {
        let plain = Masquerading { protocol: None, share: None, ports: None, random_fully: false };
        let share = Some(Share { part: 28_976, whole: 61_744 });
        let mut rules = vec![Rule::Jump, Rule::Exempt, Rule::Masquerade(plain)];
        for protocol in PortProtocol::ALL {
            let rule = Masquerading { protocol: Some(protocol), ports: Some((1024, 65_535)), ..plain };
            rules.push(Rule::Masquerade(rule));
            rules.push(Rule::Masquerade(Masquerading { ports: Some((4000, 4000)), ..rule }));
            rules.push(Rule::Masquerade(Masquerading { share, random_fully: true, ..rule }));
        }
        rules
    }

    #[test]
    fn every_rule_is_read_back() {
        for family in Family::ALL {
            for rule in rules() {
                let bytes = rule.expressions(family);
                assert_eq!(Rule::parse(Received(bytes.as_bytes()), family), rule, "{family}");
            }
        }
    }

    #[test]
    fn any_other_byte_is_another_rule_or_none_of_ours() {
        for rule in rules() {
            let whole = rule.expressions(Family::V4);
            for at in 0..whole.as_bytes().len() {
                let mut bytes = whole.as_bytes().to_vec();
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 0x55;
                }
                // Padding, counters and the flags of attribute types carry no meaning; nothing may panic.
                let _ = Rule::parse(Received(&bytes), Family::V4);
                let cut = bytes.get(..at).unwrap_or_default();
                let parsed = Rule::parse(Received(cut), Family::V4);
                assert!(parsed == Rule::Other || parsed != rule || at + 4 > bytes.len(), "{rule:?} cut at {at}");
            }
        }
        assert_eq!(Rule::parse(Received(&[]), Family::V4), Rule::Other);
        assert_eq!(Rule::parse(Received(Rule::Exempt.expressions(Family::V6).as_bytes()), Family::V4), Rule::Other);
    }
}
