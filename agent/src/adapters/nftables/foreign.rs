//! Chains of others that translate the sources of connections that leave.

use std::collections::BTreeSet;
use std::io;

use ipnet::IpNet;
use trimtab_domain::masquerade::{Family, ForeignChain, ForeignRule, NATIVE_TABLE};

use super::family_number;
use super::objects::{
    CHAIN_HOOK, CHAIN_NAME, CHAIN_TYPE, GET_CHAIN, GET_RULE, HOOK_NUMBER, HOOK_PRIORITY, RULE_CHAIN, RULE_EXPRESSIONS,
    TABLE,
};
use super::rules::foreign::{Reading, Verdict};
use super::wire::{Attributes, Received, dump};

/// `NFPROTO_INET`: tables for both families.
const INET: u8 = 1;
/// `NF_INET_POST_ROUTING`.
const POSTROUTING: u32 = 4;
/// Chains that one chain may lead to, here; more are not looked at.
const MAX_CHAINS: usize = 64;

/// The chains at the NAT hook for packets that leave, with their rules that translate; but for those of our own table.
///
/// # Errors
/// The kernel's.
pub fn chains(family: Family) -> io::Result<Vec<ForeignChain>> {
    let name = match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    };
    let mut found = Vec::new();
    for (number, name) in [(family_number(family), name), (INET, "inet")] {
        for listed in dump(GET_CHAIN, number, &Attributes::default())? {
            let Some((table, chain, priority)) = nat_chain(Received(&listed)) else { continue };
            let mut rules = Vec::new();
            collect((number, family), &table, &chain, (&mut BTreeSet::new(), &mut rules))?;
            found.push(ForeignChain { family: name, table, chain, priority, rules });
        }
    }
    Ok(found)
}

fn nat_chain(chain: Received<'_>) -> Option<(String, String, i32)> {
    let hook = chain.nested(CHAIN_HOOK)?;
    let is_wanted = chain.text(CHAIN_TYPE) == Some("nat") && hook.number(HOOK_NUMBER) == Some(POSTROUTING);
    let table = chain.text(TABLE).filter(|table| is_wanted && *table != NATIVE_TABLE)?;
    Some((table.to_owned(), chain.text(CHAIN_NAME)?.to_owned(), hook.number(HOOK_PRIORITY)?.cast_signed()))
}

/// Rules about marked packets are left out; behind "what is not marked returns" all are about marked ones.
fn collect(
    (number, family): (u8, Family),
    table: &str,
    chain: &str,
    (seen, rules): (&mut BTreeSet<String>, &mut Vec<ForeignRule>),
) -> io::Result<()> {
    if seen.len() >= MAX_CHAINS || !seen.insert(chain.to_owned()) {
        return Ok(());
    }
    for listed in dump(GET_RULE, number, &Attributes::default().text(TABLE, table).text(RULE_CHAIN, chain))? {
        let rule = Received(&listed);
        if rule.text(TABLE) != Some(table) || rule.text(RULE_CHAIN) != Some(chain) {
            continue;
        }
        let Some(reading) = rule.nested(RULE_EXPRESSIONS).and_then(|list| Reading::of(list, family)) else { continue };
        if reading.is_of_other_family {
            continue;
        }
        if reading.tests_mark {
            if reading.verdict == Some(Verdict::Return) {
                break;
            }
        } else if reading.translates {
            let source: Option<IpNet> = reading.source;
            let is_unconditional = reading.is_unconditional;
            rules.push(ForeignRule { chain: chain.to_owned(), source, is_unconditional });
        } else if let Some(Verdict::Leads(target)) = reading.verdict {
            collect((number, family), table, &target, (seen, rules))?;
        }
    }
    Ok(())
}
