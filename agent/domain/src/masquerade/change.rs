//! From what is there to what should be there: one text for `iptables-restore --noflush`, or nothing.

use std::fmt::Write as _;

use super::POSTROUTING;
use super::chain::{ChainValue, append};
use super::rule::Rule;
use super::view::{ChainView, Jump, TableView};
use crate::spec::ip_masq::Compat;

/// One transaction on one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The text for `iptables-restore --noflush`.
    pub text: String,
    /// What is there, for a person.
    pub old: String,
    /// What will be there.
    pub new: String,
}

impl Change {
    /// True if rules are made anew and count from zero, false if only what leads to them changes.
    #[must_use]
    pub fn remakes_rules(&self) -> bool {
        self.text.lines().any(|line| line.starts_with(':'))
    }
}

/// Brings the chain and its jump to the desired value; `None` if nothing differs. Chain, contents and jump change
/// together, so that a packet meets the old rules or the new ones. Where a jump is found, it stays; a missing one is
/// appended. Other forms and repetitions of the jump, and jumps in chains where it has no business, go; with `compat`
/// the very same jump may be there more than once, as the originals let it.
#[must_use]
pub fn write_chain(view: &TableView, chain: &str, desired: &ChainValue, compat: Option<Compat>) -> Option<Change> {
    let current = view.chains.get(chain);
    let rules_differ = current.is_none_or(|found| !desired.same_rules(&found.rules));
    change(view, chain, desired, (rules_differ, compat))
}

/// Makes chain and jump as they should be and leaves the contents: all that the originals get done where the kernel
/// refuses the contents. `None` if nothing differs.
pub(super) fn attach_chain(
    view: &TableView,
    chain: &str,
    desired: &ChainValue,
    compat: Option<Compat>,
) -> Option<Change> {
    let rules = view.chains.get(chain).map(|found| found.rules.clone()).unwrap_or_default();
    let kept = ChainValue { jumps: desired.jumps.clone(), rules };
    change(view, chain, &kept, (!view.chains.contains_key(chain), compat))
}

fn change(
    view: &TableView,
    chain: &str,
    desired: &ChainValue,
    (rules_differ, compat): (bool, Option<Compat>),
) -> Option<Change> {
    let current = view.chains.get(chain);
    let jumps = current.map(|found| found.jumps.as_slice()).unwrap_or_default();
    let misplaced = current.map(|found| found.misplaced.as_slice()).unwrap_or_default();
    let number_is_right = jumps.len() == 1 || (compat.is_some() && !jumps.is_empty());
    let is_wanted = |jump: &Jump| desired.jumps.iter().any(|(_, wanted)| wanted.same(&jump.rule));
    let jump_is_right = number_is_right && jumps.iter().all(is_wanted);
    if !rules_differ && jump_is_right && misplaced.is_empty() {
        return None;
    }
    let mut text = Transaction::default();
    for (other, rule) in misplaced {
        text.line(&format!("-D {other} {}", rule.as_str()));
    }
    if rules_differ {
        text.empty_chain(chain);
        text.append_all(chain, &desired.rules);
    }
    if !jump_is_right {
        text.delete_jumps(jumps);
        let rest = view.postrouting.len().saturating_sub(jumps.len());
        // The rules ahead of the first jump are none of ours, so its place is the same once all jumps are deleted.
        let place = jumps.first().map_or(rest + 1, |first| first.place);
        for (_, jump) in &desired.jumps {
            text.insert_jump(place, rest, jump);
        }
    }
    Some(text.into_change(describe(current, Some(desired)), desired.summary()))
}

/// Removes the chain and every known jump to it. Call it only if nothing else refers to the chain.
#[must_use]
pub fn remove_chain(view: &TableView, chain: &str) -> Option<Change> {
    let current = view.chains.get(chain)?;
    let mut text = Transaction::default();
    text.empty_chain(chain);
    text.delete_jumps(&current.jumps);
    text.line(&format!("-X {chain}"));
    Some(text.into_change(describe(Some(current), None), "absent".to_owned()))
}

/// Puts back what was there before the first write. The jumps come back to their places, counted from the place where
/// the present jump is found, so that rules which others added since do not matter.
#[must_use]
pub fn restore_original(view: &TableView, chain: &str, original: &ChainValue) -> Change {
    let current = view.chains.get(chain);
    let jumps = current.map(|found| found.jumps.as_slice()).unwrap_or_default();
    let mut text = Transaction::default();
    text.empty_chain(chain);
    text.append_all(chain, &original.rules);
    text.delete_jumps(jumps);
    let foreign = view.postrouting.len().saturating_sub(jumps.len());
    let was_first = original.jumps.first().map_or(1, |(place, _)| *place);
    let is_first = jumps.first().map_or(was_first, |jump| jump.place);
    for (inserted, (place, jump)) in original.jumps.iter().enumerate() {
        text.insert_jump((place + is_first).saturating_sub(was_first), foreign + inserted, jump);
    }
    text.into_change(describe(current, Some(original)), original.summary())
}

/// `absent`, or the summary of the chain; where that would not tell it from the new one, what differs.
fn describe(current: Option<&ChainView>, new: Option<&ChainValue>) -> String {
    let Some(current) = current else { return "absent".to_owned() };
    let value = current.value();
    let summary = value.summary();
    match new {
        Some(new) if new.summary() == summary => {
            let place = if !new.same_rules(&value.rules) {
                "other contents"
            } else if current.misplaced.is_empty() {
                "jump in another form"
            } else {
                "a jump in a wrong chain"
            };
            format!("{summary} ({place})")
        }
        _ => summary,
    }
}

/// A text for `iptables-restore`.
struct Transaction(String);

impl Default for Transaction {
    fn default() -> Self {
        Self("*nat\n".to_owned())
    }
}

impl Transaction {
    fn line(&mut self, line: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "{line}");
    }

    /// With `--noflush`, naming a chain creates it, or empties it.
    fn empty_chain(&mut self, chain: &str) {
        self.line(&format!(":{chain} - [0:0]"));
    }

    fn append_all(&mut self, chain: &str, rules: &[Rule]) {
        for rule in rules {
            self.line(&append(chain, rule));
        }
    }

    /// By the rule as saved, not by its number: a number may mean a foreign rule by the time this is run.
    fn delete_jumps(&mut self, jumps: &[Jump]) {
        for jump in jumps {
            self.line(&format!("-D {POSTROUTING} {}", jump.rule.as_str()));
        }
    }

    fn insert_jump(&mut self, place: usize, rules_there: usize, jump: &Rule) {
        if place > rules_there {
            self.line(&format!("-A {POSTROUTING} {}", jump.as_str()));
        } else {
            self.line(&format!("-I {POSTROUTING} {} {}", place.max(1), jump.as_str()));
        }
    }

    fn into_change(mut self, old: String, new: String) -> Change {
        self.line("COMMIT");
        Change { text: self.0, old, new }
    }
}

#[cfg(test)]
mod tests;
