//! The rules of our table as nf_tables' expressions, and back.
//!
//! What is read back is compared as meaning: expressions that are none of ours make the rule [`Rule::Other`].
//! Layout: `linux/netfilter/nf_tables.h`; the expressions are those that `nft --debug=netlink` prints.

use std::net::IpAddr;

use trimtab_domain::masquerade::{Exception, Family, Masquerading, Pool, PortProtocol, Share};

use super::wire::{Attributes, Received};

/// Names of what is in our table.
pub(super) const SET: &str = "exempt";
pub(super) const SOURCES: &str = "sources";
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
/// `NFT_REG_3`, `NFT_REG_4`: ports where the first two hold addresses.
const REGISTER_3: u32 = 3;
const REGISTER_4: u32 = 4;
/// `NFT_CMP_EQ`, `NFT_CMP_NEQ`, `NFT_CMP_LT`, `NFT_CMP_LTE`, `NFT_CMP_GTE`.
const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;
const LESS: u32 = 2;
const AT_MOST: u32 = 3;
const AT_LEAST: u32 = 5;
/// `NFT_PAYLOAD_NETWORK_HEADER`, `NFT_PAYLOAD_TRANSPORT_HEADER`.
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
/// `NFT_META_MARK`, `NFT_META_OIFNAME`, `NFT_META_L4PROTO`.
const META_MARK: u32 = 3;
const META_OUT_NAME: u32 = 7;
const META_L4PROTO: u32 = 16;
/// `IFNAMSIZ` of `linux/if.h`: a name fills its register, with zeros behind it.
const NAME_BYTES: usize = 16;
/// `NFT_LOOKUP_F_INV`: the rule matches what the set does not hold.
const INVERTED: u32 = 1;
/// `NFT_NAT_SNAT`; `NF_NAT_RANGE_MAP_IPS`, which the kernel adds.
const SOURCE_NAT: u32 = 0;
const ADDRESSES_GIVEN: u32 = 1;
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Rule {
    /// `fib daddr type != local jump masq`.
    Jump,
    /// `ip daddr @exempt counter return`.
    Exempt,
    /// `… counter return`.
    Except(Exception),
    /// `ip saddr != @sources counter return`.
    NotFrom,
    /// `… counter masquerade …`, or `… counter snat to …`.
    Masquerade(Masquerading, Option<Pool>),
    /// None of ours.
    Other,
}

impl Rule {
    /// `NFTA_RULE_EXPRESSIONS`; nothing for [`Self::Other`].
    pub(super) fn expressions(&self, family: Family) -> Attributes {
        match self {
            Self::Jump => Expressions::default()
                .add("fib", |data| data.number(1, REGISTER_1).number(2, FIB_ADDRESS_TYPE).number(3, FIB_DESTINATION))
                .compare(NOT_EQUAL, &LOCAL.to_ne_bytes())
                .verdict(JUMP, Some(MASQ)),
            Self::Exempt => Expressions::default()
                .load(NETWORK_HEADER, destination(family))
                .add("lookup", |data| data.text(1, SET).number(2, REGISTER_1))
                .counter()
                .verdict(RETURN, None),
            Self::NotFrom => Expressions::default()
                .load(NETWORK_HEADER, source(family))
                .add("lookup", |data| data.text(1, SOURCES).number(2, REGISTER_1).number(5, INVERTED))
                .counter()
                .verdict(RETURN, None),
            Self::Except(exception) => except(exception).counter().verdict(RETURN, None),
            Self::Masquerade(rule, pool) => masquerade(*rule, *pool, family),
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
            .or_else(|| parse_lookup(&list, family))
            .or_else(|| parse_exception(&list).map(Self::Except))
            .or_else(|| parse_masquerade(&list, family))
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

    /// Loads a field of a header into register 1.
    fn load(self, header: u32, (offset, length): (u32, u32)) -> Self {
        self.add("payload", |data| data.number(1, REGISTER_1).number(2, header).number(3, offset).number(4, length))
    }

    /// Loads what the packet is about into register 1.
    fn meta(self, key: u32) -> Self {
        self.add("meta", |data| data.number(1, REGISTER_1).number(2, key))
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

    fn immediate(self, register: u32, value: &[u8]) -> Self {
        let data = Attributes::default().bytes(VALUE, value);
        self.add("immediate", |attributes| attributes.number(1, register).nested(2, &data))
    }

    /// A single port is one register, as nft has it.
    fn ports(self, (first, last): (u32, u32), registers: (u32, u32)) -> Self {
        // Checked before it gets here (Policy::check).
        let bytes = |port: u32| u16::try_from(port).unwrap_or(u16::MAX).to_be_bytes();
        let list = self.immediate(registers.0, &bytes(first));
        if first == last { list } else { list.immediate(registers.1, &bytes(last)) }
    }
}

fn except(exception: &Exception) -> Expressions {
    let list = Expressions::default();
    match exception {
        Exception::Ports { protocol, first, last } => {
            let list = list.meta(META_L4PROTO).compare(EQUAL, &[protocol_number(*protocol)]);
            // Destination port of TCP, UDP and SCTP alike.
            let list = list.load(TRANSPORT_HEADER, (2, 2));
            list.compare(AT_LEAST, &first.to_be_bytes()).compare(AT_MOST, &last.to_be_bytes())
        }
        Exception::Interface(name) => {
            let mut bytes = name.as_bytes().to_vec();
            bytes.resize(NAME_BYTES, 0);
            list.meta(META_OUT_NAME).compare(EQUAL, &bytes)
        }
        Exception::Mark { value, mask } => {
            let value_of = |number: u32| Attributes::default().bytes(VALUE, &number.to_ne_bytes());
            let bits = |data: Attributes| {
                let data = data.number(1, REGISTER_1).number(2, REGISTER_1).number(3, 4);
                data.nested(4, &value_of(*mask)).nested(5, &value_of(0))
            };
            list.meta(META_MARK).add("bitwise", bits).compare(EQUAL, &value.to_ne_bytes())
        }
    }
}

fn masquerade(rule: Masquerading, pool: Option<Pool>, family: Family) -> Expressions {
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
    let random = if rule.random_fully { RANDOM_FULLY } else { 0 };
    // Without the flag the kernel keeps the registers and looks at neither.
    let flags = random | if rule.ports.is_some() { PORTS_GIVEN } else { 0 };
    let is_one = rule.ports.is_some_and(|(first, last)| first == last);
    let with_ports = |data: Attributes, kinds: (u16, u16), registers: (u32, u32)| match rule.ports {
        None => data,
        Some(_) if is_one => data.number(kinds.0, registers.0),
        Some(_) => data.number(kinds.0, registers.0).number(kinds.1, registers.1),
    };
    let Some(pool) = pool else {
        let registers = (REGISTER_1, REGISTER_2);
        if let Some(ports) = rule.ports {
            list = list.ports(ports, registers);
        }
        return list.add("masq", |data| {
            let data = if flags == 0 { data } else { data.number(1, flags) };
            with_ports(data, (2, 3), registers)
        });
    };
    list = list.immediate(REGISTER_1, &address_bytes(pool.first)).immediate(REGISTER_2, &address_bytes(pool.last));
    let registers = (REGISTER_3, REGISTER_4);
    if let Some(ports) = rule.ports {
        list = list.ports(ports, registers);
    }
    list.add("nat", |data| {
        let data = data.number(1, SOURCE_NAT).number(2, u32::from(super::family_number(family)));
        let data = with_ports(data.number(3, REGISTER_1).number(4, REGISTER_2), (5, 6), registers);
        if flags == 0 { data } else { data.number(7, flags) }
    })
}

fn address_bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn read_address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// Offset and length of the source in the header.
const fn source(family: Family) -> (u32, u32) {
    match family {
        Family::V4 => (12, 4),
        Family::V6 => (8, 16),
    }
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

/// A packet's destination in the set, or its source outside of the other.
fn parse_lookup(list: &[Expression<'_>], family: Family) -> Option<Rule> {
    let [("payload", payload), ("lookup", lookup), ("immediate", verdict)] = list else { return None };
    let looks_up = (lookup.text(1)?, lookup.number(5).unwrap_or(0));
    let (field, rule) = match looks_up {
        (SET, 0) => (destination(family), Rule::Exempt),
        (SOURCES, INVERTED) => (source(family), Rule::NotFrom),
        _ => return None,
    };
    let is_ours = loads(*payload, NETWORK_HEADER, field) && lookup.number(2) == Some(REGISTER_1);
    (is_ours && is_verdict(*verdict, RETURN, None)).then_some(rule)
}

fn loads(payload: Received<'_>, header: u32, (offset, length): (u32, u32)) -> bool {
    [payload.number(1), payload.number(2), payload.number(3), payload.number(4)]
        == [Some(REGISTER_1), Some(header), Some(offset), Some(length)]
}

fn is_meta(meta: Received<'_>, key: u32) -> bool {
    (meta.number(1), meta.number(2)) == (Some(REGISTER_1), Some(key))
}

fn parse_exception(list: &[Expression<'_>]) -> Option<Exception> {
    let (("immediate", verdict), rest) = list.split_last()? else { return None };
    if !is_verdict(*verdict, RETURN, None) {
        return None;
    }
    match rest {
        [("meta", meta), ("cmp", protocol), ("payload", payload), ("cmp", low), ("cmp", high)] => {
            let mut protocols = PortProtocol::ALL.into_iter();
            let protocol = protocols.find(|known| is_comparison(*protocol, EQUAL, &[protocol_number(*known)]))?;
            let port = |data: Received<'_>| Some(u16::from_be_bytes(compared(data)?.try_into().ok()?));
            let (first, last) = (port(*low)?, port(*high)?);
            let bounds = is_comparison(*low, AT_LEAST, &first.to_be_bytes())
                && is_comparison(*high, AT_MOST, &last.to_be_bytes());
            let is_ours = is_meta(*meta, META_L4PROTO) && loads(*payload, TRANSPORT_HEADER, (2, 2)) && bounds;
            is_ours.then_some(Exception::Ports { protocol, first, last })
        }
        [("meta", meta), ("cmp", compare)] => {
            let bytes = compared(*compare)?;
            let name = std::str::from_utf8(bytes).ok()?.trim_end_matches('\0').to_owned();
            let is_ours =
                is_meta(*meta, META_OUT_NAME) && bytes.len() == NAME_BYTES && is_comparison(*compare, EQUAL, bytes);
            is_ours.then_some(Exception::Interface(name))
        }
        [("meta", meta), ("bitwise", bits), ("cmp", compare)] => {
            let number = |bytes: &[u8]| bytes.try_into().ok().map(u32::from_ne_bytes);
            let mask = number(bits.nested(4)?.find(VALUE)?)?;
            let value = number(compared(*compare)?)?;
            let registers = [bits.number(1), bits.number(2)] == [Some(REGISTER_1), Some(REGISTER_1)];
            let plain = registers && bits.nested(5)?.find(VALUE)? == [0; 4] && bits.number(6).unwrap_or(0) == 0;
            let is_ours = is_meta(*meta, META_MARK) && plain && is_comparison(*compare, EQUAL, &value.to_ne_bytes());
            is_ours.then_some(Exception::Mark { value, mask })
        }
        _ => None,
    }
}

fn parse_masquerade(list: &[Expression<'_>], family: Family) -> Option<Rule> {
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
    match rest.split_last()? {
        (("masq", masq), values) => {
            rule.ports = ports(values, (REGISTER_1, REGISTER_2))?;
            take_flags(&mut rule, masq.number(1), 0)?;
            registers(*masq, (2, 3), rule.ports, (REGISTER_1, REGISTER_2)).then_some(Rule::Masquerade(rule, None))
        }
        (("nat", nat), [("immediate", first), ("immediate", last), values @ ..]) => {
            let pool = Pool {
                first: read_address(value(*first, REGISTER_1)?)?,
                last: read_address(value(*last, REGISTER_2)?)?,
            };
            rule.ports = ports(values, (REGISTER_3, REGISTER_4))?;
            take_flags(&mut rule, nat.number(7), ADDRESSES_GIVEN)?;
            let kind = [nat.number(1), nat.number(2), nat.number(3), nat.number(4)];
            let family = u32::from(super::family_number(family));
            let is_ours = kind == [Some(SOURCE_NAT), Some(family), Some(REGISTER_1), Some(REGISTER_2)]
                && registers(*nat, (5, 6), rule.ports, (REGISTER_3, REGISTER_4));
            is_ours.then_some(Rule::Masquerade(rule, Some(pool)))
        }
        _ => None,
    }
}

/// The ports in these registers; the outer `None`: the expressions are none of ours.
#[expect(clippy::option_option, reason = "no ports is an answer, too")]
fn ports(values: &[Expression<'_>], registers: (u32, u32)) -> Option<Option<(u32, u32)>> {
    let port = |data: Received<'_>, register| {
        let bytes = value(data, register)?;
        Some(u32::from(u16::from_be_bytes(bytes.try_into().ok()?)))
    };
    match values {
        [] => Some(None),
        [("immediate", only)] => port(*only, registers.0).map(|only| Some((only, only))),
        [("immediate", first), ("immediate", last)] => {
            Some(Some((port(*first, registers.0)?, port(*last, registers.1)?)))
        }
        _ => None,
    }
}

/// Flags of a translation; `more` are those that the kernel may add.
fn take_flags(rule: &mut Masquerading, flags: Option<u32>, more: u32) -> Option<()> {
    let flags = flags.unwrap_or(0);
    rule.random_fully = flags & RANDOM_FULLY != 0;
    let given = if rule.ports.is_some() { PORTS_GIVEN } else { 0 };
    (flags & !(RANDOM_FULLY | more) == given).then_some(())
}

/// Whether a translation takes its ports from the registers that were loaded.
fn registers(data: Received<'_>, kinds: (u16, u16), ports: Option<(u32, u32)>, registers: (u32, u32)) -> bool {
    let given = (data.number(kinds.0), data.number(kinds.1));
    match ports {
        None => given == (None, None),
        // The kernel shows the first register for both.
        Some((first, last)) if first == last => {
            given.0 == Some(registers.0) && given.1.is_none_or(|last| last == registers.0)
        }
        Some(_) => given == (Some(registers.0), Some(registers.1)),
    }
}

fn value<'a>(data: Received<'a>, register: u32) -> Option<&'a [u8]> {
    let value = data.nested(2)?.find(VALUE)?;
    (data.number(1) == Some(register)).then_some(value)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn rules() -> Vec<Rule> {
        let plain = Masquerading { protocol: None, share: None, ports: None, random_fully: false };
        let share = Some(Share { part: 28_976, whole: 61_744 });
        let pool = |first: &str, last: &str| Some(Pool { first: first.parse().unwrap(), last: last.parse().unwrap() });
        let mut rules = vec![Rule::Jump, Rule::Exempt, Rule::NotFrom, Rule::Masquerade(plain, None)];
        rules.push(Rule::Except(Exception::Interface("eth0".into())));
        rules.push(Rule::Except(Exception::Mark { value: 0x4000, mask: 0xffff }));
        rules.push(Rule::Masquerade(plain, pool("192.0.2.1", "192.0.2.9")));
        rules.push(Rule::Masquerade(plain, pool("2001:db8::1", "2001:db8::1")));
        for protocol in PortProtocol::ALL {
            let rule = Masquerading { protocol: Some(protocol), ports: Some((1024, 65_535)), ..plain };
            rules.push(Rule::Masquerade(rule, None));
            rules.push(Rule::Masquerade(rule, pool("192.0.2.1", "192.0.2.1")));
            rules.push(Rule::Except(Exception::Ports { protocol, first: 80, last: 90 }));
            let single = Masquerading { ports: Some((4000, 4000)), ..rule };
            rules.push(Rule::Masquerade(single, None));
            rules.push(Rule::Masquerade(single, pool("192.0.2.1", "192.0.2.1")));
            rules.push(Rule::Masquerade(Masquerading { share, random_fully: true, ..rule }, None));
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
