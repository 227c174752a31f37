//! Our own table: read, written in transactions, removed.
//!
//! A change of contents keeps table, chains and set, and flushes and refills them in one transaction: deleting and
//! re-creating the table was measured to masquerade exempt flows. For the same reason a table that is made gets its
//! set before its chain is hooked in, and one that goes is unhooked before its set goes.

use std::io;

use trimtab_domain::masquerade::{Family, NATIVE_TABLE, Native, NativeView};

use super::family_number;
use super::objects::{
    BaseChain, add_chain, add_table, append_rule, empty_chain, read_rules, remove_table, rules_of, table_is_awake,
};
use super::rules::{MASQ, Rule, SET, SOURCES};
use super::sets::{RangeSet, ranges_of};
use super::wire::{Batch, Received, collect};

/// At `NF_INET_POST_ROUTING`, `srcnat + 10`: `NF_IP_PRI_NAT_SRC` is 100.
const BASE: BaseChain = BaseChain { table: NATIVE_TABLE, name: "postrouting", kind: "nat", hook: 4, priority: 110 };
const EXEMPT: RangeSet = RangeSet { table: NATIVE_TABLE, name: SET, number: 1 };
const BY_SOURCE: RangeSet = RangeSet { table: NATIVE_TABLE, name: SOURCES, number: 2 };

/// What the node shows.
///
/// # Errors
/// The kernel's; `PermissionDenied` without `CAP_NET_ADMIN` in the namespace.
pub fn read(family: Family) -> io::Result<NativeView> {
    let odd = |why: &str| Ok(NativeView::Odd(why.to_owned()));
    match table_is_awake(family, NATIVE_TABLE)? {
        None => return Ok(NativeView::Absent),
        Some(false) => return odd("a dormant table"),
        Some(true) => {}
    }
    match BASE.is_right(family)? {
        Some(true) => {}
        Some(false) => return odd("a chain with another hook"),
        None => return odd("no chain with a hook"),
    }
    if !EXEMPT.is_there(family)? {
        return odd("no set of exempt ranges");
    }
    let rules = read_rules(family, NATIVE_TABLE, |list| parse(list, family))?;
    let Some((mut native, by_source)) = understood(&rules) else { return odd("other rules") };
    let Some(exempt) = EXEMPT.read(family)? else { return odd("elements that are no ranges") };
    native.exempt = exempt;
    if by_source {
        native.sources = BY_SOURCE.read(family)?;
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
    // What cannot be kept is made anew, and filled before it is hooked in.
    if BASE.is_right(family)? != Some(true) || !EXEMPT.is_right(family)? {
        remove(family)?;
        let mut batch = Batch::new(family_number(family));
        add_sets(&mut batch, family);
        add_all_ranges(&mut batch, family, native);
        batch.commit()?;
    }
    let mut batch = Batch::new(family_number(family));
    add_sets(&mut batch, family);
    add_chain(&mut batch, "add the chain for masquerading", NATIVE_TABLE, MASQ);
    BASE.add(&mut batch, "hook the chain in (nft_chain_nat)");
    for chain in [BASE.name, MASQ] {
        empty_chain(&mut batch, NATIVE_TABLE, chain);
    }
    for set in [EXEMPT, BY_SOURCE] {
        set.empty(&mut batch);
    }
    add_all_ranges(&mut batch, family, native);
    add_rules(&mut batch, family, native);
    batch.commit()
}

/// Removes the table; none is fine.
///
/// # Errors
/// The kernel's.
pub fn remove(family: Family) -> io::Result<()> {
    BASE.remove(family)?;
    remove_table(family, NATIVE_TABLE)
}

fn add_sets(batch: &mut Batch, family: Family) {
    add_table(batch, NATIVE_TABLE);
    for set in [EXEMPT, BY_SOURCE] {
        set.add(batch, family);
    }
}

fn add_rules(batch: &mut Batch, family: Family, native: &Native) {
    let mut add_rule = |deed, chain, rule: Rule| {
        append_rule(batch, deed, (NATIVE_TABLE, chain), &rule.expressions(family));
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
    add_rule("add the rule for other nodes' addresses (nft_fib)", BASE.name, Rule::Jump);
}

fn add_all_ranges(batch: &mut Batch, family: Family, native: &Native) {
    EXEMPT.add_ranges(batch, family, &native.exempt);
    BY_SOURCE.add_ranges(batch, family, native.sources.as_deref().unwrap_or_default());
}

fn parse(list: Option<Received<'_>>, family: Family) -> Rule {
    list.map_or(Rule::Other, |list| Rule::parse(list, family))
}

/// What the kernel's answers to the questions for rules and for exempt ranges say; `None` if that is nothing that we
/// write. [`read`] asks the kernel; this takes the bytes of anybody.
#[must_use]
pub fn understand(rules: &[u8], ranges: &[u8], family: Family) -> Option<Native> {
    let (mut listed, mut elements) = (Vec::new(), Vec::new());
    collect(rules, &mut listed).ok()?;
    collect(ranges, &mut elements).ok()?;
    let rules = rules_of(&listed, NATIVE_TABLE, |list| parse(list, family));
    let (native, _) = understood(&rules)?;
    Some(Native { exempt: ranges_of(&elements, family)?, ..native })
}

/// What the kernel would answer if it held this.
#[must_use]
pub fn answers(native: &Native, family: Family) -> (Vec<u8>, Vec<u8>) {
    let mut rules = Batch::new(family_number(family));
    add_rules(&mut rules, family, native);
    let mut ranges = Batch::new(family_number(family));
    EXEMPT.add_ranges(&mut ranges, family, &native.exempt);
    (rules.into_bytes(), ranges.into_bytes())
}

/// What the rules do, but for the sets, and whether they ask for sources; `None` if not all rules are those that we write.
fn understood(rules: &[(String, Rule)]) -> Option<(Native, bool)> {
    let of = |name: &str| rules.iter().filter(|(chain, _)| chain == name).map(|(_, rule)| rule).collect::<Vec<_>>();
    let (base, masq) = (of(BASE.name), of(MASQ));
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
