//! The guard in iptables: a chain of our own in table `filter`, and one jump in FORWARD for each address.

use std::fmt::Write as _;

use super::{Answer, Guard, Ports};
use crate::masquerade::Family;
use crate::masquerade::change::Change;
use crate::masquerade::rule::Rule;
use crate::masquerade::saved::{SavedTable, TableError};

/// The built-in chain that forwarded packets pass.
pub const FORWARD: &str = "FORWARD";
/// Name of the chain; whatever bears it is ours.
pub const GUARD_CHAIN: &str = "TRIMTAB-METADATA";
/// Comment of each jump, which makes it ours.
const GUARDED: &str = "trimtab: metadata service";
/// Comment of each exception.
const EXCEPTED: &str = "trimtab: may reach the metadata service";
/// Comment of the last rule.
const BLOCKED: &str = "trimtab: pods may not reach the metadata service (must be last in chain)";

/// The part of table `filter` that matters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FilterView {
    /// Rules of the chain; `None`: there is none.
    pub rules: Option<Vec<Rule>>,
    /// Our jumps in FORWARD with their places, counted from 1.
    pub jumps: Vec<(usize, Rule)>,
    /// Rules of others that lead to the chain, as `-A CHAIN …`.
    pub references: Vec<String>,
    /// Rules ahead of our first jump that let packets pass, as `-A CHAIN …`.
    pub passes_ahead: Vec<String>,
}

impl FilterView {
    /// Picks what matters from the output of `iptables-save -t filter`.
    ///
    /// # Errors
    /// [`TableError`] if it cannot be understood.
    pub fn parse(text: &str) -> Result<Self, TableError> {
        let table = SavedTable::parse_named(text, "filter")?;
        let forward = table.rules(FORWARD)?;
        let is_ours = |rule: &Rule| rule.target() == Some(GUARD_CHAIN) && rule.comment() == Some(GUARDED);
        let places = (1..).zip(&forward).filter(|(_, rule)| is_ours(rule));
        let jumps: Vec<(usize, Rule)> = places.map(|(place, rule)| (place, rule.clone())).collect();
        let references = table.references(GUARD_CHAIN)?;
        let foreign = references.iter().filter(|(chain, rule)| *chain != FORWARD || !is_ours(rule));
        let ahead = jumps.first().map_or(0, |(place, _)| place - 1);
        let mut passes_ahead = Vec::new();
        for rule in forward.iter().take(ahead) {
            passes_ahead.extend(passes(&table, FORWARD, rule)?);
        }
        Ok(Self {
            rules: table.has_chain(GUARD_CHAIN).then(|| table.rules(GUARD_CHAIN)).transpose()?,
            references: foreign.map(|(chain, rule)| crate::masquerade::chain::append(chain, rule)).collect(),
            jumps,
            passes_ahead,
        })
    }

    /// `3 rules, 1 jump`; `None`: nothing is there.
    #[must_use]
    pub fn summary(&self) -> Option<String> {
        let count = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
        let rules = self.rules.as_ref()?;
        Some(format!("{}, {}", count(rules.len(), "rule"), count(self.jumps.len(), "jump")))
    }

    pub(super) fn holds(&self, wanted: &GuardChain) -> bool {
        self.holds_rules(wanted) && self.holds_jumps(wanted)
    }

    fn holds_rules(&self, wanted: &GuardChain) -> bool {
        let same = |rules: &Vec<Rule>| {
            rules.len() == wanted.rules.len() && rules.iter().zip(&wanted.rules).all(|(left, right)| left.same(right))
        };
        self.rules.as_ref().is_some_and(same)
    }

    fn holds_jumps(&self, wanted: &GuardChain) -> bool {
        self.jumps.len() == wanted.jumps.len()
            && wanted.jumps.iter().all(|jump| self.jumps.iter().any(|(_, found)| found.same(jump)))
    }
}

/// The rule if it lets packets of new connections pass, or one that does in the chain that it leads to.
fn passes(table: &SavedTable<'_>, chain: &str, rule: &Rule) -> Result<Option<String>, TableError> {
    // Established connections, and what kube-proxy marked, are not what a pod begins by itself.
    if rule.tests_connection() || rule.tests_mark() {
        return Ok(None);
    }
    match rule.target() {
        Some("ACCEPT") => Ok(Some(crate::masquerade::chain::append(chain, rule))),
        Some(target) if table.has_chain(target) && chain == FORWARD => {
            for inner in table.rules(target)? {
                if let Some(found) = passes(table, target, &inner)? {
                    return Ok(Some(found));
                }
            }
            Ok(None)
        }
        _ => Ok(None),
    }
}

/// The guard in the words of iptables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GuardChain {
    pub(super) jumps: Vec<Rule>,
    pub(super) rules: Vec<Rule>,
}

impl GuardChain {
    pub(super) fn render(guard: &Guard, family: Family) -> Self {
        let except = |matched: String| format!("{matched} -m comment --comment \"{EXCEPTED}\" -j RETURN");
        let sources = guard.sources.iter().map(|source| format!("-s {source}"));
        let ports = guard.ports.iter().map(Ports::iptables_match);
        let interfaces = guard.interfaces.iter().map(|name| format!("-i {name}"));
        let target = match (guard.answer, family) {
            (Answer::Drop, _) => "DROP",
            (Answer::Reject, Family::V4) => "REJECT --reject-with icmp-admin-prohibited",
            (Answer::Reject, Family::V6) => "REJECT --reject-with icmp6-adm-prohibited",
        };
        let last = format!("-m comment --comment \"{BLOCKED}\" -j {target}");
        let rules = sources.chain(ports).chain(interfaces).map(except).chain(std::iter::once(last));
        let jump = |address| {
            let length = if family == Family::V4 { 32 } else { 128 };
            format!("-d {address}/{length} -m comment --comment \"{GUARDED}\" -j {GUARD_CHAIN}")
        };
        // Quotes are balanced: names of interfaces were checked where they were read.
        let parse = |text: String| Rule::parse(&text).ok();
        Self {
            jumps: guard.addresses.iter().map(jump).filter_map(parse).collect(),
            rules: rules.filter_map(parse).collect(),
        }
    }

    /// The form in which the ledger keeps it.
    pub(super) fn to_text(&self) -> String {
        let jumps = self.jumps.iter().map(|rule| format!("-A {FORWARD} {}\n", rule.as_str()));
        jumps.chain(self.rules.iter().map(|rule| format!("-A {GUARD_CHAIN} {}\n", rule.as_str()))).collect()
    }

    fn summary(&self) -> String {
        let jumps = self.jumps.iter().map(|rule| (1, rule.clone())).collect();
        FilterView { rules: Some(self.rules.clone()), jumps, ..FilterView::default() }.summary().unwrap_or_default()
    }
}

impl Ports {
    /// The match of iptables, as `iptables-save` prints it.
    fn iptables_match(&self) -> String {
        let Self { protocol, first, last } = self;
        let protocol = protocol.as_str();
        let ports = if first == last { first.to_string() } else { format!("{first}:{last}") };
        format!("-p {protocol} -m {protocol} --dport {ports}")
    }
}

/// Makes the chain and its jumps as they should be, in one transaction; `None` if nothing differs. A missing jump is put
/// first, ahead of what others let pass; where the first of ours is found, all stay.
pub(super) fn write(view: &FilterView, wanted: &GuardChain) -> Option<Change> {
    if view.holds(wanted) {
        return None;
    }
    let mut text = String::from("*filter\n");
    // Writing to a String cannot fail.
    if !view.holds_rules(wanted) {
        let _ = writeln!(text, ":{GUARD_CHAIN} - [0:0]");
        for rule in &wanted.rules {
            let _ = writeln!(text, "-A {GUARD_CHAIN} {}", rule.as_str());
        }
    }
    if !view.holds_jumps(wanted) {
        delete_jumps(&mut text, view);
        let place = view.jumps.first().map_or(1, |(place, _)| *place);
        // Each is put ahead of the one before.
        for jump in wanted.jumps.iter().rev() {
            let _ = writeln!(text, "-I {FORWARD} {place} {}", jump.as_str());
        }
    }
    text.push_str("COMMIT\n");
    let new = wanted.summary();
    let old = match view.summary() {
        Some(old) if old == new => format!("{old} (other contents)"),
        old => old.unwrap_or_else(|| "absent".to_owned()),
    };
    Some(Change { text, old, new })
}

/// Removes the chain and our jumps to it; call it only if nothing else leads there.
pub(super) fn remove(view: &FilterView) -> Option<Change> {
    let old = view.summary()?;
    let mut text = format!("*filter\n:{GUARD_CHAIN} - [0:0]\n");
    delete_jumps(&mut text, view);
    let _ = writeln!(text, "-X {GUARD_CHAIN}");
    text.push_str("COMMIT\n");
    Some(Change { text, old, new: "absent".to_owned() })
}

/// By the rule as saved, not by its number: a number may mean a foreign rule by the time this is run.
fn delete_jumps(text: &mut String, view: &FilterView) {
    for (_, jump) in &view.jumps {
        let _ = writeln!(text, "-D {FORWARD} {}", jump.as_str());
    }
}
