//! Table `nat` as `iptables-save` prints it, borrowed from that text: a node may have a hundred thousand rules, of
//! which a handful matter here.

use std::collections::{BTreeMap, BTreeSet};

use super::rule::{Rule, RuleError};

/// The printed table makes no sense, or is not to be had in this form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// nft rules that iptables cannot express were put into the table.
    #[error("table {0} holds rules that iptables cannot express; list them with: nft list table ip {0}")]
    Incompatible(&'static str),
    /// A line that is neither chain nor rule.
    #[error("line {line}: {text:?} is neither a chain nor a rule")]
    Line {
        /// Counted from 1.
        line: usize,
        /// The line, cut after 200 characters.
        text: String,
    },
    /// A rule of a chain that was not listed.
    #[error("line {line}: chain {chain:?} was not listed")]
    UnknownChain {
        /// Counted from 1.
        line: usize,
        /// Its name.
        chain: String,
    },
    /// The text ended before `COMMIT`.
    #[error("the text ends without COMMIT")]
    Truncated,
    /// A rule that matters here cannot be read.
    #[error(transparent)]
    Rule(#[from] RuleError),
}

/// Chains and rules of one table, as text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SavedTable<'a> {
    chains: BTreeMap<&'a str, SavedChain<'a>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct SavedChain<'a> {
    /// True for a chain that a kernel hook calls.
    built_in: bool,
    rules: Vec<&'a str>,
}

impl<'a> SavedTable<'a> {
    /// Reads the output of `iptables-save`, with or without counters. Other tables are skipped; without any table
    /// `nat` the result is empty.
    ///
    /// # Errors
    /// [`TableError`] with the line.
    pub fn parse(text: &'a str) -> Result<Self, TableError> {
        Self::parse_named(text, "nat")
    }

    /// The same of another table.
    ///
    /// # Errors
    /// [`TableError`] with the line.
    pub fn parse_named(text: &'a str, wanted: &'static str) -> Result<Self, TableError> {
        let incompatible = format!("`{wanted}' is incompatible");
        let mut table = Self::default();
        let mut section: Option<bool> = None;
        for (index, line) in text.lines().enumerate() {
            let number = index + 1;
            let line = line.trim();
            if line.starts_with('#') {
                if line.contains(&incompatible) {
                    return Err(TableError::Incompatible(wanted));
                }
            } else if let Some(name) = line.strip_prefix('*') {
                section = Some(name == wanted);
            } else if line == "COMMIT" {
                section = None;
            } else if !line.is_empty() {
                match section {
                    Some(true) => table.read_line(number, line)?,
                    Some(false) => {}
                    None => return Err(bad_line(number, line)),
                }
            }
        }
        if section.is_some() { Err(TableError::Truncated) } else { Ok(table) }
    }

    fn read_line(&mut self, number: usize, line: &'a str) -> Result<(), TableError> {
        if let Some(declaration) = line.strip_prefix(':') {
            let mut words = declaration.split_ascii_whitespace();
            let (Some(name), Some(policy)) = (words.next(), words.next()) else {
                return Err(bad_line(number, line));
            };
            self.chains.insert(name, SavedChain { built_in: policy != "-", rules: Vec::new() });
            return Ok(());
        }
        let rule = line.strip_prefix('[').map_or(Some(line), |rest| rest.split_once("] ").map(|(_, rule)| rule));
        let Some(appended) = rule.and_then(|rule| rule.strip_prefix("-A ")) else {
            return Err(bad_line(number, line));
        };
        let (chain, spec) = appended.split_once(' ').unwrap_or((appended, ""));
        let Some(found) = self.chains.get_mut(chain) else {
            return Err(TableError::UnknownChain { line: number, chain: chain.to_owned() });
        };
        found.rules.push(spec);
        Ok(())
    }

    /// Whether the chain exists.
    #[must_use]
    pub fn has_chain(&self, chain: &str) -> bool {
        self.chains.contains_key(chain)
    }

    /// Rules of a chain in order; none for a chain that does not exist.
    ///
    /// # Errors
    /// [`TableError::Rule`] if one of them cannot be read.
    pub fn rules(&self, chain: &str) -> Result<Vec<Rule>, TableError> {
        let rules = self.chains.get(chain).map(|found| found.rules.as_slice()).unwrap_or_default();
        rules.iter().map(|text| Rule::parse(text).map_err(TableError::from)).collect()
    }

    /// Rules anywhere whose target is this chain, with the chain that they stand in.
    ///
    /// # Errors
    /// [`TableError::Rule`] if a rule that names the chain cannot be read.
    pub fn references(&self, target: &str) -> Result<Vec<(&'a str, Rule)>, TableError> {
        let mut found = Vec::new();
        for (name, chain) in &self.chains {
            // The cheap test first: most rules of a node do not even contain the name.
            for text in chain.rules.iter().filter(|text| text.contains(target)) {
                let rule = Rule::parse(text)?;
                if rule.target() == Some(target) {
                    found.push((*name, rule));
                }
            }
        }
        Ok(found)
    }

    /// Built-in chains from which packets can get into this chain by rules that count.
    ///
    /// # Errors
    /// [`TableError::Rule`] if a rule on the way cannot be read.
    pub fn hooks_of(&self, chain: &str, counts: impl Fn(&Rule) -> bool) -> Result<BTreeSet<&'a str>, TableError> {
        let mut hooks = BTreeSet::new();
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        let mut open = vec![chain];
        while let Some(target) = open.pop() {
            for (name, _) in self.references(target)?.into_iter().filter(|(_, rule)| counts(rule)) {
                if self.chains.get(name).is_some_and(|found| found.built_in) {
                    hooks.insert(name);
                } else if seen.insert(name) {
                    open.push(name);
                }
            }
        }
        Ok(hooks)
    }
}

fn bad_line(line: usize, text: &str) -> TableError {
    TableError::Line { line, text: text.chars().take(200).collect() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use super::*;

    const TABLE: &str = "# Generated by iptables-save v1.8.9\n*mangle\n:X - [0:0]\nnonsense of another table\nCOMMIT\n\
        *nat\n:OUTPUT ACCEPT [1:60]\n:POSTROUTING ACCEPT [0:0]\n:A - [0:0]\n:B - [0:0]\n:C - [0:0]\n\
        [3:180] -A OUTPUT -d 9.9.9.9/32 -j B\n-A POSTROUTING -j C\n-A B -g A\n-A C -m comment --comment \"-j A\" -j B\nCOMMIT\n";

    #[test]
    fn chains_rules_references_and_hooks_are_found() {
        let table = SavedTable::parse(TABLE).unwrap();
        assert!(table.has_chain("A") && !table.has_chain("X"));
        assert_eq!(table.rules("OUTPUT").unwrap()[0].as_str(), "-d 9.9.9.9/32 -j B");
        let names = |chain| table.references(chain).unwrap().iter().map(|(name, _)| *name).collect::<Vec<_>>();
        assert_eq!(names("A"), ["B"]);
        assert_eq!(names("B"), ["C", "OUTPUT"]);
        assert_eq!(Vec::from_iter(table.hooks_of("A", |_| true).unwrap()), ["OUTPUT", "POSTROUTING"]);
        assert_eq!(Vec::from_iter(table.hooks_of("C", |_| true).unwrap()), ["POSTROUTING"]);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let line = |line, text: &str| TableError::Line { line, text: text.into() };
        let rows = [
            ("no table", "-A X -j Y\n", line(1, "-A X -j Y")),
            ("no command", "*nat\n:X - [0:0]\n-I X -j Y\nCOMMIT\n", line(3, "-I X -j Y")),
            ("no policy", "*nat\n:X\nCOMMIT\n", line(2, ":X")),
            ("counter without end", "*nat\n:X - [0:0]\n[1:2 -A X\nCOMMIT\n", line(3, "[1:2 -A X")),
            ("chain not listed", "*nat\n-A X -j Y\nCOMMIT\n", TableError::UnknownChain { line: 2, chain: "X".into() }),
            ("cut off", "*nat\n:X - [0:0]\n", TableError::Truncated),
            ("nft only", "# Table `nat' is incompatible, use 'nft' tool.\n", TableError::Incompatible("nat")),
        ];
        for (name, text, expected) in rows {
            assert_eq!(SavedTable::parse(text), Err(expected), "{name}");
        }
        assert_eq!(SavedTable::parse(""), Ok(SavedTable::default()));
    }

    #[test]
    fn a_ring_of_chains_ends() {
        let table = SavedTable::parse("*nat\n:A - [0:0]\n:B - [0:0]\n-A A -j B\n-A B -j A\nCOMMIT\n").unwrap();
        assert!(table.hooks_of("A", |_| true).unwrap().is_empty());
    }
}
