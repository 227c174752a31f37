//! What the rules have counted, kept over rewrites of the rules.
//!
//! The kernel asks a NAT chain about the first packet of a connection only, so the rules of masquerading count
//! connections; the chain that guards the metadata service sees every packet.

use std::collections::BTreeMap;

use super::beyond::Exception;
use super::decide::{Nat, Observed, chain_in, desired_tables};
use super::guard;
use super::native::{Native, NativeView};
use super::policy::Policy;
use super::{Backend, Family, TableId};
use crate::spec::IpMasqSpec;

/// What a rule is about, as the label of a metric: as many as there are kinds of rules, however many prefixes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Counted {
    /// To a prefix of `nonMasqueradeCIDRs`, or link-local.
    NonMasquerade,
    /// To a port of `exemptPorts`.
    ExemptPort,
    /// Through an interface of `exemptInterfaces`.
    ExemptInterface,
    /// With a mark of `exemptMarks`.
    ExemptMark,
    /// From elsewhere than `sources`; in iptables there is no such rule, and nothing is counted.
    OtherSource,
    /// Masqueraded, or translated to an address of `snat`.
    Masquerade,
    /// Pods' packets to the metadata service that an exception let pass.
    MetadataExcepted,
    /// Pods' packets to the metadata service that did not pass.
    MetadataBlocked,
}

/// Where the kernel asks a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// About the first packet of each connection that leaves.
    Postrouting,
    /// About each forwarded packet.
    Forward,
}

impl Counted {
    /// What counts connections, in the order in which the rules stand.
    pub const CONNECTIONS: [Self; 6] = [
        Self::NonMasquerade,
        Self::ExemptPort,
        Self::ExemptInterface,
        Self::ExemptMark,
        Self::OtherSource,
        Self::Masquerade,
    ];

    /// What counts packets.
    pub const PACKETS: [Self; 2] = [Self::MetadataExcepted, Self::MetadataBlocked];

    /// As in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NonMasquerade => "non-masquerade",
            Self::ExemptPort => "exempt-port",
            Self::ExemptInterface => "exempt-interface",
            Self::ExemptMark => "exempt-mark",
            Self::OtherSource => "other-source",
            Self::Masquerade => "masquerade",
            Self::MetadataExcepted => "excepted",
            Self::MetadataBlocked => "blocked",
        }
    }

    const fn of(exception: &Exception) -> Self {
        match exception {
            Exception::Ports { .. } => Self::ExemptPort,
            Exception::Interface(_) => Self::ExemptInterface,
            Exception::Mark { .. } => Self::ExemptMark,
        }
    }
}

/// A chain that is in place, and what each of its rules is about, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountedChain {
    /// The table that holds it.
    pub table: TableId,
    /// What calls it.
    pub hook: Hook,
    /// Its name in iptables, or that of the table of our own.
    pub chain: String,
    /// One for each rule.
    pub rules: Vec<Counted>,
}

/// What one rule has counted since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleCount {
    /// Tells the rule from others of its chain: the kernel's handle, never given twice in a table, or where the kernel has
    /// none its place.
    pub rule: u64,
    /// Packets, in a NAT chain the first of each connection.
    pub packets: u64,
}

/// Sums since the agent started; none of them ever falls.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Totals {
    sums: BTreeMap<(Family, Counted), u64>,
    seen: BTreeMap<(TableId, Hook), BTreeMap<u64, u64>>,
}

impl Totals {
    /// Adds what the rules of a chain counted since the last look. A rule that was not seen before, or that has counted
    /// less than then, began at zero. Rules that are not those of the chain as it should be are not understood, and
    /// left out.
    pub fn add(&mut self, chain: &CountedChain, counts: &[RuleCount]) {
        if counts.len() != chain.rules.len() {
            return;
        }
        let seen = self.seen.entry((chain.table, chain.hook)).or_default();
        for (kind, count) in chain.rules.iter().zip(counts) {
            let before = seen.get(&count.rule).copied().filter(|before| *before <= count.packets).unwrap_or(0);
            let sum = self.sums.entry((chain.table.family, *kind)).or_default();
            *sum = sum.saturating_add(count.packets - before);
        }
        *seen = counts.iter().map(|count| (count.rule, count.packets)).collect();
    }

    /// The rules of a table were made anew, and count from zero.
    pub fn begin_anew(&mut self, table: TableId, hook: Hook) {
        self.seen.remove(&(table, hook));
    }

    /// The sum of one kind.
    #[must_use]
    pub fn of(&self, family: Family, kind: Counted) -> u64 {
        self.sums.get(&(family, kind)).copied().unwrap_or(0)
    }
}

/// The chains that are in place as the profile wishes for them.
#[must_use]
pub fn counted_chains(desired: Option<&IpMasqSpec>, observed: &Observed) -> Vec<CountedChain> {
    let in_place = |(table, spec): (TableId, &IpMasqSpec)| {
        let policy = Policy::of(spec, table.family);
        let rules = match observed.tables.get(&table)? {
            Nat::Native(NativeView::Holds(held)) if *held == Native::of(&policy) => native_rules(&policy),
            Nat::Table(view) => {
                let found = view.chains.get(&spec.masq_chain)?;
                let value = observed.desired(spec, table).ok()?;
                value.same_rules(&found.rules).then(|| iptables_rules(&policy))?
            }
            _ => return None,
        };
        let chain = chain_in(table, spec).to_owned();
        Some(CountedChain { table, hook: Hook::Postrouting, chain, rules })
    };
    let masquerading = desired_tables(desired, observed.backend).filter_map(in_place);
    masquerading.chain(guard::chains_in_place(desired, observed)).collect()
}

/// As [`super::ChainValue::render`] orders them.
fn iptables_rules(policy: &Policy) -> Vec<Counted> {
    let exempt = policy.exempt.iter().map(|_| Counted::NonMasquerade);
    let exceptions = policy.exceptions.iter().map(Counted::of);
    let sources = policy.sources.as_ref().map_or(1, Vec::len);
    let masquerade = std::iter::repeat_n(Counted::Masquerade, policy.masquerade.len() * sources);
    exempt.chain(exceptions).chain(masquerade).collect()
}

/// As the table of our own has them: one rule for all prefixes.
fn native_rules(policy: &Policy) -> Vec<Counted> {
    let exceptions = policy.exceptions.iter().map(Counted::of);
    let sources = policy.sources.iter().map(|_| Counted::OtherSource);
    let masquerade = policy.masquerade.iter().map(|_| Counted::Masquerade);
    std::iter::once(Counted::NonMasquerade).chain(exceptions).chain(sources).chain(masquerade).collect()
}

/// What `iptables-save -c -t TABLE` tells of a chain: `[PACKETS:BYTES] -A CHAIN …`.
#[must_use]
pub fn saved_counts(text: &str, chain: &str) -> Vec<RuleCount> {
    let packets = text.lines().filter_map(|line| {
        let (counts, rule) = line.trim().strip_prefix('[')?.split_once("] -A ")?;
        let name = rule.split_once(' ').map_or(rule, |(name, _)| name);
        counts.split_once(':').filter(|_| name == chain)?.0.parse().ok()
    });
    (0..).zip(packets).map(|(rule, packets)| RuleCount { rule, packets }).collect()
}

/// True for a back end whose counts come with its rules, and in no other way.
#[must_use]
pub const fn counts_come_with_rules(backend: Backend) -> bool {
    matches!(backend, Backend::Legacy)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: TableId = TableId { family: Family::V4, backend: Backend::Nft };

    fn chain() -> CountedChain {
        let rules = vec![Counted::NonMasquerade, Counted::NonMasquerade, Counted::Masquerade];
        CountedChain { table: TABLE, hook: Hook::Postrouting, chain: "X".into(), rules }
    }

    fn counts(rows: &[(u64, u64)]) -> Vec<RuleCount> {
        rows.iter().map(|(rule, packets)| RuleCount { rule: *rule, packets: *packets }).collect()
    }

    #[test]
    fn sums_grow_by_what_was_counted_and_never_fall() {
        type Row = (&'static str, &'static [(u64, u64)], (u64, u64));
        let rows: [Row; 7] = [
            ("what the kernel has counted already", &[(1, 5), (2, 1), (3, 7)], (6, 7)),
            ("nothing new", &[(1, 5), (2, 1), (3, 7)], (6, 7)),
            ("more", &[(1, 6), (2, 3), (3, 7)], (9, 7)),
            ("rewritten by whomever", &[(4, 2), (5, 0), (6, 9)], (11, 16)),
            ("not the rules that should be there", &[(4, 9)], (11, 16)),
            ("counters set to zero", &[(4, 1), (5, 0), (6, 1)], (12, 17)),
            ("a place of its own for each", &[(6, 1), (5, 1), (4, 1)], (13, 17)),
        ];
        let mut totals = Totals::default();
        for (name, read, (exempt, masqueraded)) in rows {
            totals.add(&chain(), &counts(read));
            let sums = (totals.of(Family::V4, Counted::NonMasquerade), totals.of(Family::V4, Counted::Masquerade));
            assert_eq!(sums, (exempt, masqueraded), "{name}");
        }
        assert_eq!(totals.of(Family::V6, Counted::Masquerade), 0);
        // Places begin at zero once their rules are made anew, even where more is counted by now.
        totals.begin_anew(TABLE, Hook::Postrouting);
        totals.add(&chain(), &counts(&[(6, 1), (5, 1), (4, 1)]));
        assert_eq!(totals.of(Family::V4, Counted::Masquerade), 18);
    }

    #[test]
    fn the_counts_of_a_saved_chain_are_read() {
        let text = "*nat\n:X - [0:0]\n:XY - [0:0]\n[1:60] -A POSTROUTING -j X\n[7:420] -A X -j RETURN\n[9:1] -A XY\n\
                    [2:1] -A X\nCOMMIT\n";
        assert_eq!(saved_counts(text, "X"), counts(&[(0, 7), (1, 2)]));
        assert_eq!(saved_counts("-A X -j RETURN\n[a:1] -A X\n[1] -A X\n", "X"), []);
    }
}
