//! Tables, chains and rules: what our tables have in common.

use std::io;

use trimtab_domain::masquerade::Family;

use super::wire::{APPEND, Attributes, Batch, CREATE, Received, Refused, dump};
use super::{ENOENT, Message, ask, family_number};

/// Lower byte of message types, `enum nf_tables_msg_types`.
const NEW_TABLE: u8 = 0;
const DELETE_TABLE: u8 = 2;
const NEW_CHAIN: u8 = 3;
const DELETE_CHAIN: u8 = 5;
const NEW_RULE: u8 = 6;
pub(super) const GET_CHAIN: u8 = 4;
pub(super) const GET_RULE: u8 = 7;
const DELETE_RULE: u8 = 8;
pub(super) const NEW_SET: u8 = 9;
pub(super) const NEW_ELEMENTS: u8 = 12;
pub(super) const GET_ELEMENTS: u8 = 13;
pub(super) const DELETE_ELEMENTS: u8 = 14;

/// `NF_ACCEPT`.
const ACCEPT: u32 = 1;
/// `NFT_TABLE_F_DORMANT`: a table that does nothing.
const DORMANT: u32 = 1;
/// Attributes, `enum nft_*_attributes`.
pub(super) const TABLE: u16 = 1;
const TABLE_FLAGS: u16 = 2;
pub(super) const CHAIN_NAME: u16 = 3;
pub(super) const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
pub(super) const CHAIN_TYPE: u16 = 7;
pub(super) const HOOK_NUMBER: u16 = 1;
pub(super) const HOOK_PRIORITY: u16 = 2;
pub(super) const RULE_CHAIN: u16 = 2;
pub(super) const RULE_EXPRESSIONS: u16 = 4;

/// A chain that the kernel calls.
#[derive(Debug, Clone, Copy)]
pub(super) struct BaseChain {
    pub(super) table: &'static str,
    pub(super) name: &'static str,
    /// `nat` or `filter`.
    pub(super) kind: &'static str,
    /// `NF_INET_*`.
    pub(super) hook: u32,
    pub(super) priority: i32,
}

impl BaseChain {
    /// Hooks it in; one that is there as it should be stays.
    pub(super) fn add(self, batch: &mut Batch, deed: &'static str) {
        let hook = Attributes::default().number(HOOK_NUMBER, self.hook);
        let hook = hook.number(HOOK_PRIORITY, self.priority.cast_unsigned());
        let base = named(self.table, CHAIN_NAME, self.name).nested(CHAIN_HOOK, &hook);
        batch.add(deed, NEW_CHAIN, CREATE, &base.number(CHAIN_POLICY, ACCEPT).text(CHAIN_TYPE, self.kind));
    }

    /// Unhooks it, and removes it; none is fine.
    pub(super) fn remove(self, family: Family) -> io::Result<()> {
        if ask_for(Message::GetChain, family, &named(self.table, CHAIN_NAME, self.name))?.is_none() {
            return Ok(());
        }
        let mut batch = Batch::new(family_number(family));
        empty_chain(&mut batch, self.table, self.name);
        batch.add("unhook the chain", DELETE_CHAIN, 0, &named(self.table, CHAIN_NAME, self.name));
        unless_gone(batch.commit())
    }

    /// Whether it is there as [`Self::add`] makes it; `None`: there is none.
    pub(super) fn is_right(self, family: Family) -> io::Result<Option<bool>> {
        let found = ask_for(Message::GetChain, family, &named(self.table, CHAIN_NAME, self.name))?;
        Ok(found.map(|chain| self.is(Received(&chain))))
    }

    fn is(self, chain: Received<'_>) -> bool {
        let hook = chain.nested(CHAIN_HOOK);
        let hook = hook.map(|hook| (hook.number(HOOK_NUMBER), hook.number(HOOK_PRIORITY)));
        hook == Some((Some(self.hook), Some(self.priority.cast_unsigned())))
            && chain.text(CHAIN_TYPE) == Some(self.kind)
            && chain.number(CHAIN_POLICY) == Some(ACCEPT)
    }
}

/// Adds a table, and wakes one that does nothing.
pub(super) fn add_table(batch: &mut Batch, table: &str) {
    let table = Attributes::default().text(TABLE, table).number(TABLE_FLAGS, 0);
    batch.add("add the table", NEW_TABLE, CREATE, &table);
}

/// Adds a chain that rules jump to.
pub(super) fn add_chain(batch: &mut Batch, deed: &'static str, table: &str, chain: &str) {
    batch.add(deed, NEW_CHAIN, CREATE, &named(table, CHAIN_NAME, chain));
}

pub(super) fn empty_chain(batch: &mut Batch, table: &str, chain: &str) {
    batch.add("empty the chain", DELETE_RULE, 0, &named(table, RULE_CHAIN, chain));
}

pub(super) fn append_rule(
    batch: &mut Batch,
    deed: &'static str,
    (table, chain): (&str, &str),
    expressions: &Attributes,
) {
    let rule = named(table, RULE_CHAIN, chain).nested(RULE_EXPRESSIONS, expressions);
    batch.add(deed, NEW_RULE, CREATE | APPEND, &rule);
}

/// Whether the table does anything; `None`: there is none.
pub(super) fn table_is_awake(family: Family, table: &str) -> io::Result<Option<bool>> {
    let found = ask_for(Message::GetTable, family, &Attributes::default().text(TABLE, table))?;
    Ok(found.map(|flags| Received(&flags).number(TABLE_FLAGS).unwrap_or(0) & DORMANT == 0))
}

/// Removes the table with all that is in it; none is fine.
pub(super) fn remove_table(family: Family, table: &str) -> io::Result<()> {
    let mut batch = Batch::new(family_number(family));
    batch.add("delete the table", DELETE_TABLE, 0, &Attributes::default().text(TABLE, table));
    unless_gone(batch.commit())
}

/// Rules of all chains of a table, in order; each with its chain.
pub(super) fn read_rules<R>(
    family: Family,
    table: &str,
    parse: impl Fn(Option<Received<'_>>) -> R,
) -> io::Result<Vec<(String, R)>> {
    let wanted = Attributes::default().text(TABLE, table);
    Ok(rules_of(&dump(GET_RULE, family_number(family), &wanted)?, table, parse))
}

/// The same from the objects that the kernel listed.
pub(super) fn rules_of<R>(
    listed: &[Vec<u8>],
    table: &str,
    parse: impl Fn(Option<Received<'_>>) -> R,
) -> Vec<(String, R)> {
    let rule = |bytes: &Vec<u8>| {
        let rule = Received(bytes);
        // Kernels before 4.15 do not filter.
        let ours = rule.text(TABLE) == Some(table);
        let chain = rule.text(RULE_CHAIN).filter(|_| ours)?.to_owned();
        Some((chain, parse(rule.nested(RULE_EXPRESSIONS))))
    };
    listed.iter().filter_map(rule).collect()
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

/// What the kernel knows of one object; `None`: there is none.
pub(super) fn ask_for(message: Message, family: Family, attributes: &Attributes) -> io::Result<Option<Vec<u8>>> {
    match ask(message, family_number(family), attributes.as_bytes()) {
        Ok(reply) => Ok(Some(reply.into_attributes())),
        Err(error) if error.raw_os_error() == Some(ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Attributes that name a table and something in it.
pub(super) fn named(table: &str, kind: u16, name: &str) -> Attributes {
    Attributes::default().text(TABLE, table).text(kind, name)
}
