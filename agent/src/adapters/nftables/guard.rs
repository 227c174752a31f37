//! The table of our own that guards the metadata service: read, written in one transaction, removed.

use std::io;

use trimtab_domain::masquerade::{Family, GUARD_TABLE, GuardView, NativeGuard};

use super::family_number;
use super::objects::{
    BaseChain, add_chain, add_table, append_rule, empty_chain, read_rules, remove_table, table_is_awake,
};
use super::rules::guard::{ADDRESSES, GUARD, GuardRule, TRUSTED};
use super::sets::RangeSet;
use super::wire::{Batch, Received};

/// At `NF_INET_FORWARD`, `filter - 10`: `NF_IP_PRI_FILTER` is 0.
const BASE: BaseChain = BaseChain { table: GUARD_TABLE, name: "forward", kind: "filter", hook: 2, priority: -10 };
const GUARDED: RangeSet = RangeSet { table: GUARD_TABLE, name: ADDRESSES, number: 1 };
const EXCEPTED: RangeSet = RangeSet { table: GUARD_TABLE, name: TRUSTED, number: 2 };

/// What the node shows.
///
/// # Errors
/// The kernel's; `PermissionDenied` without `CAP_NET_ADMIN` in the namespace.
pub fn read(family: Family) -> io::Result<GuardView> {
    let odd = |why: &str| Ok(GuardView::Odd(why.to_owned()));
    match table_is_awake(family, GUARD_TABLE)? {
        None => return Ok(GuardView::Absent),
        Some(false) => return odd("a dormant table"),
        Some(true) => {}
    }
    if BASE.is_right(family)? != Some(true) {
        return odd("no chain with that hook");
    }
    if !GUARDED.is_there(family)? {
        return odd("no set of addresses");
    }
    let parse = |list: Option<Received<'_>>| list.map_or(GuardRule::Other, |list| GuardRule::parse(list, family));
    let rules = read_rules(family, GUARD_TABLE, parse)?;
    let Some((mut guard, by_source)) = understood(&rules) else { return odd("other rules") };
    let Some(addresses) = GUARDED.read(family)? else { return odd("elements that are no ranges") };
    guard.addresses = addresses;
    if by_source {
        let Some(trusted) = EXCEPTED.read(family)? else { return odd("sources that are no ranges") };
        guard.trusted = trusted;
    }
    Ok(GuardView::Holds(guard))
}

/// Makes the table do this; what of ours is there is kept and refilled, so that no packet passes meanwhile.
///
/// # Errors
/// The kernel's, with the message of the transaction that it refused; the table is then as before, or gone where it was
/// not as it should be.
pub fn write(family: Family, guard: &NativeGuard) -> io::Result<()> {
    let keeps = BASE.is_right(family)? == Some(true) && GUARDED.is_right(family)? && EXCEPTED.is_right(family)?;
    if !keeps {
        remove(family)?;
    }
    let mut batch = Batch::new(family_number(family));
    add_table(&mut batch, GUARD_TABLE);
    for set in [GUARDED, EXCEPTED] {
        set.add(&mut batch, family);
    }
    add_chain(&mut batch, "add the chain that guards", GUARD_TABLE, GUARD);
    BASE.add(&mut batch, "hook the chain in");
    for chain in [BASE.name, GUARD] {
        empty_chain(&mut batch, GUARD_TABLE, chain);
    }
    for (set, ranges) in [(GUARDED, &guard.addresses), (EXCEPTED, &guard.trusted)] {
        set.empty(&mut batch);
        set.add_ranges(&mut batch, family, ranges);
    }
    let mut add_rule = |deed, chain, rule: GuardRule| {
        append_rule(&mut batch, deed, (GUARD_TABLE, chain), &rule.expressions(family));
    };
    if !guard.trusted.is_empty() {
        add_rule("add the rule for trusted sources", GUARD, GuardRule::Trusted);
    }
    for ports in &guard.ports {
        add_rule("add the rule for ports", GUARD, GuardRule::Ports(*ports));
    }
    for name in &guard.interfaces {
        add_rule("add the rule for an interface", GUARD, GuardRule::Interface(name.clone()));
    }
    add_rule("add the rule that blocks (nft_reject)", GUARD, GuardRule::Last(guard.answer));
    add_rule("add the rule for the addresses", BASE.name, GuardRule::Jump);
    batch.commit()
}

/// Removes the table; none is fine.
///
/// # Errors
/// The kernel's.
pub fn remove(family: Family) -> io::Result<()> {
    remove_table(family, GUARD_TABLE)
}

/// What the rules do, but for the sets, and whether they ask for sources; `None` if not all rules are those that we
/// write.
fn understood(rules: &[(String, GuardRule)]) -> Option<(NativeGuard, bool)> {
    let of = |name: &str| rules.iter().filter(|(chain, _)| chain == name).map(|(_, rule)| rule).collect::<Vec<_>>();
    let (base, list) = (of(BASE.name), of(GUARD));
    if base != [&GuardRule::Jump] || base.len() + list.len() != rules.len() {
        return None;
    }
    let (GuardRule::Last(answer), rest) = list.split_last()? else { return None };
    let (addresses, trusted) = (Vec::new(), Vec::new());
    let mut guard = NativeGuard { addresses, trusted, ports: Vec::new(), interfaces: Vec::new(), answer: *answer };
    let mut rest = rest.iter().peekable();
    let by_source = rest.next_if(|rule| ***rule == GuardRule::Trusted).is_some();
    while let Some(GuardRule::Ports(ports)) = rest.next_if(|rule| matches!(rule, GuardRule::Ports(_))) {
        guard.ports.push(*ports);
    }
    while let Some(GuardRule::Interface(name)) = rest.next_if(|rule| matches!(rule, GuardRule::Interface(_))) {
        guard.interfaces.push(name.clone());
    }
    rest.next().is_none().then_some((guard, by_source))
}
