//! Counters of the rules of one chain: ours, or one of iptables-nft, whose tables are nf_tables' as well.

use std::io;

use trimtab_domain::masquerade::{Backend, CountedChain, Family, GUARD_TABLE, Hook, NATIVE_TABLE, RuleCount};

use super::family_number;
use super::objects::{GET_RULE, RULE_CHAIN as CHAIN, RULE_EXPRESSIONS as EXPRESSIONS, TABLE};
use super::rules::MASQ;
use super::rules::guard::GUARD;
use super::wire::{Attributes, Received, dump};
use crate::ports::traffic::RuleCounters;

/// `NFTA_RULE_HANDLE`.
const HANDLE: u16 = 3;
/// `NFTA_EXPR_NAME`, `NFTA_EXPR_DATA`; `NFTA_COUNTER_PACKETS`.
const NAME: u16 = 1;
const DATA: u16 = 2;
const PACKETS: u16 = 2;

/// The kernel's counters, in the network namespace of whoever asks; one small dump for each chain.
pub struct KernelCounters;

impl RuleCounters for KernelCounters {
    fn read(&self, chain: &CountedChain) -> Option<Vec<RuleCount>> {
        let (table, name) = match (chain.table.backend, chain.hook) {
            (Backend::Nft, Hook::Postrouting) => ("nat", chain.chain.as_str()),
            (Backend::Nft, Hook::Forward) => ("filter", chain.chain.as_str()),
            (Backend::Native, Hook::Postrouting) => (NATIVE_TABLE, MASQ),
            (Backend::Native, Hook::Forward) => (GUARD_TABLE, GUARD),
            (Backend::Legacy, _) => return None,
        };
        counts(chain.table.family, table, name).ok()
    }
}

/// In the order of the rules; none for a chain that does not exist, and none of a rule that does not count.
fn counts(family: Family, table: &str, chain: &str) -> io::Result<Vec<RuleCount>> {
    let wanted = Attributes::default().text(TABLE, table).text(CHAIN, chain);
    let listed = dump(GET_RULE, family_number(family), &wanted)?;
    let count = |bytes: &Vec<u8>| {
        let rule = Received(bytes);
        // Not every kernel filters.
        let is_wanted = rule.text(TABLE) == Some(table) && rule.text(CHAIN) == Some(chain);
        let number = |bytes: &[u8]| bytes.try_into().ok().map(u64::from_be_bytes);
        let handle = rule.find(HANDLE).filter(|_| is_wanted).and_then(number)?;
        let mut expressions = rule.nested(EXPRESSIONS)?.each().map(|(_, element)| Received(element));
        let counter = expressions.find(|expression| expression.text(NAME) == Some("counter"))?;
        Some(RuleCount { rule: handle, packets: counter.nested(DATA)?.find(PACKETS).and_then(number)? })
    };
    Ok(listed.iter().filter_map(count).collect())
}
