//! What the kernel lists, as rules of ours.

use std::net::IpAddr;

use trimtab_domain::masquerade::{Exception, Family, Masquerading, Pool, PortProtocol, Share};

use super::super::family_number;
use super::super::wire::Received;
use super::{
    ADDRESSES_GIVEN, AT_LEAST, AT_MOST, DATA, EQUAL, FIB_ADDRESS_TYPE, FIB_DESTINATION, INVERTED, JUMP, LESS, LOCAL,
    MASQ, META_L4PROTO, META_MARK, META_OUT_NAME, NAME, NAME_BYTES, NETWORK_HEADER, NOT_EQUAL, PORTS_GIVEN, RANDOM,
    RANDOM_FULLY, REGISTER_1, REGISTER_2, REGISTER_3, REGISTER_4, REGISTER_VERDICT, RETURN, Rule, SET, SOURCE_NAT,
    SOURCES, TRANSPORT_HEADER, VALUE, VERDICT, VERDICT_CHAIN, VERDICT_CODE, destination, protocol_number, source,
};

/// Name and data of an expression.
pub(super) type Expression<'a> = (&'a str, Received<'a>);

/// The expressions of a rule but for counters, which change nothing of what is done; `None`: not to be read.
pub(super) fn expressions_of(expressions: Received<'_>) -> Option<Vec<Expression<'_>>> {
    let mut list = Vec::new();
    for (_, element) in expressions.each() {
        let element = Received(element);
        let (name, data) = (element.text(NAME)?, element.nested(DATA)?);
        if name != "counter" {
            list.push((name, data));
        }
    }
    Some(list)
}

pub(super) fn is_comparison(data: Received<'_>, operation: u32, with: &[u8]) -> bool {
    data.number(1) == Some(REGISTER_1) && data.number(2) == Some(operation) && compared(data) == Some(with)
}

fn compared(data: Received<'_>) -> Option<&[u8]> {
    data.nested(3)?.find(VALUE)
}

pub(super) fn is_verdict(data: Received<'_>, code: u32, chain: Option<&str>) -> bool {
    let verdict = data.nested(2).and_then(|data| data.nested(VERDICT));
    data.number(1) == Some(REGISTER_VERDICT)
        && verdict
            .is_some_and(|verdict| verdict.number(VERDICT_CODE) == Some(code) && verdict.text(VERDICT_CHAIN) == chain)
}

pub(super) fn parse_jump(list: &[Expression<'_>]) -> Option<Rule> {
    let [("fib", fib), ("cmp", compare), ("immediate", verdict)] = list else { return None };
    let asks = [fib.number(1), fib.number(2), fib.number(3)];
    let asks = asks == [Some(REGISTER_1), Some(FIB_ADDRESS_TYPE), Some(FIB_DESTINATION)];
    let is_ours = asks && is_comparison(*compare, NOT_EQUAL, &LOCAL.to_ne_bytes());
    (is_ours && is_verdict(*verdict, JUMP, Some(MASQ))).then_some(Rule::Jump)
}

/// A packet's destination in the set, or its source outside of the other.
pub(super) fn parse_lookup(list: &[Expression<'_>], family: Family) -> Option<Rule> {
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

pub(super) fn loads(payload: Received<'_>, header: u32, (offset, length): (u32, u32)) -> bool {
    [payload.number(1), payload.number(2), payload.number(3), payload.number(4)]
        == [Some(REGISTER_1), Some(header), Some(offset), Some(length)]
}

fn is_meta(meta: Received<'_>, key: u32) -> bool {
    (meta.number(1), meta.number(2)) == (Some(REGISTER_1), Some(key))
}

/// The interface that a rule compares with.
pub(super) fn interface_of(meta: Received<'_>, key: u32, compare: Received<'_>) -> Option<String> {
    let bytes = compared(compare)?;
    let name = std::str::from_utf8(bytes).ok()?.trim_end_matches('\0').to_owned();
    let is_ours = is_meta(meta, key) && bytes.len() == NAME_BYTES && is_comparison(compare, EQUAL, bytes);
    is_ours.then_some(name)
}

pub(super) fn parse_exception(list: &[Expression<'_>]) -> Option<Exception> {
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
        [("meta", meta), ("cmp", compare)] => interface_of(*meta, META_OUT_NAME, *compare).map(Exception::Interface),
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

pub(super) fn parse_masquerade(list: &[Expression<'_>], family: Family) -> Option<Rule> {
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
            let family = u32::from(family_number(family));
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

fn read_address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}
