//! Our own table: read, written in transactions, removed.
//!
//! A change of contents keeps table, chains and set, and flushes and refills them in one transaction: deleting and
//! re-creating the table was measured to masquerade exempt flows. For the same reason a table that is made gets its
//! set before its chain is hooked in, and one that goes is unhooked before its set goes.

use std::io;

use trimtab_domain::masquerade::{AddressRange, Family, NATIVE_TABLE, Native, NativeView, last_address};

use super::rules::{MASQ, Rule, SET, SOURCES};
use super::wire::{APPEND, Attributes, Batch, CREATE, Received, Refused, dump};
use super::{ENOENT, Message, ask, family_number};

/// Lower byte of message types, `enum nf_tables_msg_types`.
const NEW_TABLE: u8 = 0;
const DELETE_TABLE: u8 = 2;
const NEW_CHAIN: u8 = 3;
const DELETE_CHAIN: u8 = 5;
const NEW_RULE: u8 = 6;
const GET_RULE: u8 = 7;
const DELETE_RULE: u8 = 8;
const NEW_SET: u8 = 9;
const NEW_ELEMENTS: u8 = 12;
const GET_ELEMENTS: u8 = 13;
const DELETE_ELEMENTS: u8 = 14;

/// Name of the base chain.
const BASE: &str = "postrouting";
/// `NF_INET_POST_ROUTING`.
const HOOK: u32 = 4;
/// `srcnat + 10`: `NF_IP_PRI_NAT_SRC` is 100.
const PRIORITY: u32 = 110;
/// `NF_ACCEPT`.
const ACCEPT: u32 = 1;
/// `NFT_TABLE_F_DORMANT`: a table that does nothing.
const DORMANT: u32 = 1;
/// `NFT_SET_INTERVAL`, `NFT_SET_ELEM_INTERVAL_END`.
const INTERVAL: u32 = 4;
const INTERVAL_END: u32 = 1;
/// Ranges in one message: two elements of at most 44 bytes each; an attribute holds less than 64 KiB.
const RANGES_AT_ONCE: usize = 500;
/// Attributes, `enum nft_*_attributes`.
const TABLE: u16 = 1;
const TABLE_FLAGS: u16 = 2;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
const SET_NAME: u16 = 2;
const SET_FLAGS: u16 = 3;
const SET_KEY_TYPE: u16 = 4;
const SET_KEY_LENGTH: u16 = 5;
const SET_ID: u16 = 10;
const LIST_SET: u16 = 2;
const LIST_ELEMENTS: u16 = 3;
const ELEMENT: u16 = 1;
const KEY: u16 = 1;
const FLAGS: u16 = 3;
const VALUE: u16 = 1;

/// What the node shows.
///
/// # Errors
/// The kernel's; `PermissionDenied` without `CAP_NET_ADMIN` in the namespace.
pub fn read(family: Family) -> io::Result<NativeView> {
    let Some(flags) = ask_for(Message::GetTable, family, &Attributes::default().text(TABLE, NATIVE_TABLE))? else {
        return Ok(NativeView::Absent);
    };
    let odd = |why: &str| Ok(NativeView::Odd(why.to_owned()));
    if Received(&flags).number(TABLE_FLAGS).unwrap_or(0) & DORMANT != 0 {
        return odd("a dormant table");
    }
    match ask_for(Message::GetChain, family, &named(CHAIN_NAME, BASE))? {
        Some(chain) if is_base(Received(&chain)) => {}
        Some(_) => return odd("a chain with another hook"),
        None => return odd("no chain with a hook"),
    }
    if ask_for(Message::GetSet, family, &named(SET_NAME, SET))?.is_none() {
        return odd("no set of exempt ranges");
    }
    let Some((mut native, by_source)) = understood(&read_rules(family)?) else { return odd("other rules") };
    let Some(exempt) = read_ranges(family, SET)? else { return odd("elements that are no ranges") };
    native.exempt = exempt;
    if by_source {
        native.sources = read_ranges(family, SOURCES)?;
        if native.sources.is_none() {
            return odd("sources that are no ranges");
        }
    }
    Ok(NativeView::Holds(native))
}

/// Makes the table do this; what of ours is there is kept and refilled.
///
/// # Errors
/// The kernel's, with the message of the transaction that it refused; the table is then as before, or made without
/// being hooked in.
pub fn write(family: Family, native: &Native) -> io::Result<()> {
    if !has_structure(family)? {
        remove(family)?;
        let mut batch = Batch::new(family_number(family));
        add_sets(&mut batch, family);
        add_all_ranges(&mut batch, family, native);
        batch.commit()?;
    }
    let mut batch = Batch::new(family_number(family));
    add_sets(&mut batch, family);
    let hook = Attributes::default().number(HOOK_NUMBER, HOOK).number(HOOK_PRIORITY, PRIORITY);
    let base = named(CHAIN_NAME, BASE).nested(CHAIN_HOOK, &hook).number(CHAIN_POLICY, ACCEPT).text(CHAIN_TYPE, "nat");
    batch.add("add the chain for masquerading", NEW_CHAIN, CREATE, &named(CHAIN_NAME, MASQ));
    batch.add("hook the chain in (nft_chain_nat)", NEW_CHAIN, CREATE, &base);
    for chain in [BASE, MASQ] {
        batch.add("empty the chain", DELETE_RULE, 0, &named(RULE_CHAIN, chain));
    }
    for set in [SET, SOURCES] {
        batch.add("empty the set of ranges", DELETE_ELEMENTS, 0, &named(LIST_SET, set));
    }
    add_all_ranges(&mut batch, family, native);
    let mut add_rule = |deed, chain, rule: Rule| {
        let rule = named(RULE_CHAIN, chain).nested(RULE_EXPRESSIONS, &rule.expressions(family));
        batch.add(deed, NEW_RULE, CREATE | APPEND, &rule);
    };
    add_rule("add the rule for exempt ranges", MASQ, Rule::Exempt);
    for exception in &native.exceptions {
        add_rule("add the rule for an exception", MASQ, Rule::Except(exception.clone()));
    }
    if native.sources.is_some() {
        add_rule("add the rule for sources", MASQ, Rule::NotFrom);
    }
    for rule in &native.masquerade {
        let rule = Rule::Masquerade(*rule, native.pool);
        add_rule("add a rule that masquerades (nft_masq, nft_nat, nft_numgen)", MASQ, rule);
    }
    add_rule("add the rule for other nodes' addresses (nft_fib)", BASE, Rule::Jump);
    batch.commit()
}

/// Removes the table; none is fine.
///
/// # Errors
/// The kernel's.
pub fn remove(family: Family) -> io::Result<()> {
    if ask_for(Message::GetChain, family, &named(CHAIN_NAME, BASE))?.is_some() {
        let mut batch = Batch::new(family_number(family));
        batch.add("empty the chain", DELETE_RULE, 0, &named(RULE_CHAIN, BASE));
        batch.add("unhook the chain", DELETE_CHAIN, 0, &named(CHAIN_NAME, BASE));
        unless_gone(batch.commit())?;
    }
    let mut batch = Batch::new(family_number(family));
    batch.add("delete the table", DELETE_TABLE, 0, &Attributes::default().text(TABLE, NATIVE_TABLE));
    unless_gone(batch.commit())
}

fn unless_gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if errno_of(&error) == Some(ENOENT) => Ok(()),
        other => other,
    }
}

/// The kernel's number of an error, also where it refused a message of a transaction.
pub(super) fn errno_of(error: &io::Error) -> Option<i32> {
    let refused = error.get_ref().and_then(|inner| inner.downcast_ref::<Refused>());
    refused.map(|refused| refused.errno).or_else(|| error.raw_os_error())
}

/// Whether table, base chain and set are there as we make them, so that they can be kept.
fn has_structure(family: Family) -> io::Result<bool> {
    let base = ask_for(Message::GetChain, family, &named(CHAIN_NAME, BASE))?;
    let set = ask_for(Message::GetSet, family, &named(SET_NAME, SET))?;
    let (_, length) = key(family);
    let is_set =
        |set: Received<'_>| set.number(SET_FLAGS) == Some(INTERVAL) && set.number(SET_KEY_LENGTH) == Some(length);
    Ok(base.is_some_and(|chain| is_base(Received(&chain))) && set.is_some_and(|set| is_set(Received(&set))))
}

fn is_base(chain: Received<'_>) -> bool {
    let hook = chain.nested(CHAIN_HOOK);
    let hook = hook.map(|hook| (hook.number(HOOK_NUMBER), hook.number(HOOK_PRIORITY)));
    hook == Some((Some(HOOK), Some(PRIORITY)))
        && chain.text(CHAIN_TYPE) == Some("nat")
        && chain.number(CHAIN_POLICY) == Some(ACCEPT)
}

fn ask_for(message: Message, family: Family, attributes: &Attributes) -> io::Result<Option<Vec<u8>>> {
    match ask(message, family_number(family), attributes.as_bytes()) {
        Ok(reply) => Ok(Some(reply.into_attributes())),
        Err(error) if error.raw_os_error() == Some(ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Attributes that name our table and something in it.
fn named(kind: u16, name: &str) -> Attributes {
    Attributes::default().text(TABLE, NATIVE_TABLE).text(kind, name)
}

fn add_sets(batch: &mut Batch, family: Family) {
    let table = Attributes::default().text(TABLE, NATIVE_TABLE).number(TABLE_FLAGS, 0);
    batch.add("add the table", NEW_TABLE, CREATE, &table);
    let (kind, length) = key(family);
    for (number, name) in [(1, SET), (2, SOURCES)] {
        let set = named(SET_NAME, name).number(SET_FLAGS, INTERVAL).number(SET_KEY_TYPE, kind);
        let set = set.number(SET_KEY_LENGTH, length).number(SET_ID, number);
        batch.add("add a set of ranges", NEW_SET, CREATE, &set);
    }
}

fn add_all_ranges(batch: &mut Batch, family: Family, native: &Native) {
    add_ranges(batch, family, SET, &native.exempt);
    add_ranges(batch, family, SOURCES, native.sources.as_deref().unwrap_or_default());
}

/// nft's own number of the type (`ipv4_addr`, `ipv6_addr`), so that its listings are readable, and bytes of an address.
const fn key(family: Family) -> (u32, u32) {
    match family {
        Family::V4 => (7, 4),
        Family::V6 => (8, 16),
    }
}

/// A range is an element where it starts and one where it has ended; one up to the highest address never ends.
fn add_ranges(batch: &mut Batch, family: Family, set: &str, ranges: &[AddressRange]) {
    let element = |number: u128, flags: u32| {
        let key = Attributes::default().bytes(VALUE, &key_bytes(family, number));
        let element = Attributes::default().nested(KEY, &key);
        if flags == 0 { element } else { element.number(FLAGS, flags) }
    };
    for some in ranges.chunks(RANGES_AT_ONCE) {
        let mut elements = Attributes::default();
        for range in some {
            elements = elements.nested(ELEMENT, &element(range.first, 0));
            if range.last < last_address(family) {
                elements = elements.nested(ELEMENT, &element(range.last + 1, INTERVAL_END));
            }
        }
        let list = named(LIST_SET, set).nested(LIST_ELEMENTS, &elements);
        batch.add("add ranges", NEW_ELEMENTS, CREATE, &list);
    }
}

fn key_bytes(family: Family, number: u128) -> Vec<u8> {
    let bytes = number.to_be_bytes();
    let (_, length) = key(family);
    let skip = usize::try_from(length).map_or(0, |length| bytes.len().saturating_sub(length));
    bytes.get(skip..).unwrap_or_default().to_vec()
}

/// Rules of both chains, in order.
fn read_rules(family: Family) -> io::Result<Vec<(String, Rule)>> {
    let wanted = Attributes::default().text(TABLE, NATIVE_TABLE);
    let listed = dump(GET_RULE, family_number(family), &wanted)?;
    let rule = |bytes: &Vec<u8>| {
        let rule = Received(bytes);
        // Kernels before 4.15 do not filter.
        let ours = rule.text(TABLE) == Some(NATIVE_TABLE);
        let chain = rule.text(RULE_CHAIN).filter(|_| ours)?.to_owned();
        Some((chain, rule.nested(RULE_EXPRESSIONS).map_or(Rule::Other, |list| Rule::parse(list, family))))
    };
    Ok(listed.iter().filter_map(rule).collect())
}

/// What the rules do, but for the sets, and whether they ask for sources; `None` if not all rules are those that we write.
fn understood(rules: &[(String, Rule)]) -> Option<(Native, bool)> {
    let of = |name: &str| rules.iter().filter(|(chain, _)| chain == name).map(|(_, rule)| rule).collect::<Vec<_>>();
    let (base, masq) = (of(BASE), of(MASQ));
    if base != [&Rule::Jump] || base.len() + masq.len() != rules.len() {
        return None;
    }
    let (first, rest) = masq.split_first()?;
    if **first != Rule::Exempt {
        return None;
    }
    let mut native = Native::default();
    let mut rest = rest.iter().peekable();
    while let Some(Rule::Except(exception)) = rest.next_if(|rule| matches!(rule, Rule::Except(_))) {
        native.exceptions.push(exception.clone());
    }
    let by_source = rest.next_if(|rule| ***rule == Rule::NotFrom).is_some();
    for rule in rest {
        let Rule::Masquerade(rule, pool) = rule else { return None };
        if !native.masquerade.is_empty() && native.pool != *pool {
            return None;
        }
        native.pool = *pool;
        native.masquerade.push(*rule);
    }
    Some((native, by_source))
}

/// The ranges of the set, joined; `None` if its elements make none.
fn read_ranges(family: Family, set: &str) -> io::Result<Option<Vec<AddressRange>>> {
    let mut bounds = Vec::new();
    for list in dump(GET_ELEMENTS, family_number(family), &named(LIST_SET, set))? {
        let Some(elements) = Received(&list).nested(LIST_ELEMENTS) else { continue };
        for (_, element) in elements.each() {
            let element = Received(element);
            let Some(key) = element.nested(KEY).and_then(|key| key.find(VALUE)) else { return Ok(None) };
            let number = key.iter().fold(0_u128, |number, byte| number << 8 | u128::from(*byte));
            bounds.push((number, element.number(FLAGS).unwrap_or(0) & INTERVAL_END == 0));
        }
    }
    Ok(pair_up(bounds, family))
}

/// Starts and ends to ranges; at the same address an end comes before a start. `nft` writes an end at the lowest address,
/// which ends nothing.
fn pair_up(mut bounds: Vec<(u128, bool)>, family: Family) -> Option<Vec<AddressRange>> {
    bounds.sort_unstable();
    let mut ranges: Vec<AddressRange> = Vec::new();
    let mut open = None;
    for (number, is_start) in bounds {
        match (is_start, open.take()) {
            (true, None) => open = Some(number),
            (true, Some(_)) => return None,
            (false, Some(first)) => push_joined(&mut ranges, AddressRange { first, last: number.checked_sub(1)? }),
            (false, None) if number == 0 => {}
            (false, None) => return None,
        }
    }
    if let Some(first) = open {
        push_joined(&mut ranges, AddressRange { first, last: last_address(family) });
    }
    Some(ranges)
}

fn push_joined(ranges: &mut Vec<AddressRange>, range: AddressRange) {
    match ranges.last_mut() {
        Some(before) if before.last.checked_add(1) == Some(range.first) => before.last = range.last,
        _ => ranges.push(range),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn starts_and_ends_make_ranges() {
        let range = |first, last| AddressRange { first, last };
        let last = last_address(Family::V4);
        let rows = [
            ("none", vec![], Some(vec![])),
            ("one", vec![(20, false), (10, true)], Some(vec![range(10, 19)])),
            ("nft's first end", vec![(0, false), (10, true), (20, false)], Some(vec![range(10, 19)])),
            ("touching", vec![(10, true), (20, false), (20, true), (30, false)], Some(vec![range(10, 29)])),
            ("to the last address", vec![(10, true)], Some(vec![range(10, last)])),
            ("two starts", vec![(10, true), (20, true)], None),
            ("an end of nothing", vec![(10, false)], None),
        ];
        for (name, bounds, expected) in rows {
            assert_eq!(pair_up(bounds, Family::V4), expected, "{name}");
        }
    }
}
