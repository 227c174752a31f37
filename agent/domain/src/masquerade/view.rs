//! What matters of a table `nat`: POSTROUTING, the chains that are held, and everything that leads to them.

use std::collections::{BTreeMap, BTreeSet};

use super::POSTROUTING;
use super::chain::ChainValue;
use super::rule::Rule;
use super::saved::{SavedTable, TableError};

/// The part of a table that a pass looks at; the rest of a large table is not kept in memory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TableView {
    /// Rules of POSTROUTING in order.
    pub postrouting: Vec<Rule>,
    /// The chains that were asked for; one that does not exist has no entry.
    pub chains: BTreeMap<String, ChainView>,
    /// What the chains of others, reached from POSTROUTING, decide by themselves; in the order of POSTROUTING.
    pub nested: Vec<Nested>,
    /// Other chains that a masquerade agent's jump leads to.
    pub other_agents_chains: BTreeSet<String>,
}

/// Rules in a chain of others that set the source of packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nested {
    /// Place in POSTROUTING of the rule that leads there, counted from 1.
    pub place: usize,
    /// The chain of the first of them.
    pub chain: String,
    /// The first of them.
    pub rule: Rule,
    /// How many.
    pub count: usize,
}

/// One chain and what leads to it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChainView {
    /// Its rules in order.
    pub rules: Vec<Rule>,
    /// Known jumps to it in POSTROUTING.
    pub jumps: Vec<Jump>,
    /// Jumps with an agent's words in other chains than POSTROUTING, each with its chain: nobody else writes them.
    pub misplaced: Vec<(String, Rule)>,
    /// Other rules that lead to it, as `-A CHAIN …`.
    pub references: Vec<String>,
    /// Built-in chains other than POSTROUTING from which packets can get here; MASQUERADE is not allowed there.
    pub wrong_hooks: Vec<String>,
}

/// A jump of this or another masquerade agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jump {
    /// Its place in POSTROUTING, counted from 1.
    pub place: usize,
    /// The rule.
    pub rule: Rule,
    /// Who writes it like this.
    pub form: JumpForm,
}

/// The forms that the jump has had over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JumpForm {
    /// kubernetes-sigs/ip-masq-agent up to 2.9.3 and from 2.12.2; the form that is written here but for Azure.
    Plain,
    /// The same with literal quotes in the comment: Azure/ip-masq-agent-v2, kubernetes-sigs 2.10.0 to 2.12.1.
    Quoted,
    /// `ip-masq: …`, as the boot script of GCE nodes writes it.
    Gce,
    /// The words of an agent, but other matches.
    Altered,
}

impl JumpForm {
    /// Who writes it, for a person.
    #[must_use]
    pub const fn writer(self) -> &'static str {
        match self {
            Self::Plain => "ip-masq-agent",
            Self::Quoted => "azure-ip-masq-agent, or ip-masq-agent 2.10.0 to 2.12.1",
            Self::Gce => "the node boot script of GCE",
            Self::Altered => "another release of ip-masq-agent",
        }
    }
}

impl TableView {
    /// Picks what matters for the named chains.
    ///
    /// # Errors
    /// [`TableError::Rule`] if a rule that matters cannot be read.
    pub fn new(table: &SavedTable<'_>, names: &BTreeSet<String>) -> Result<Self, TableError> {
        let postrouting = table.rules(POSTROUTING)?;
        let mut chains = BTreeMap::new();
        for name in names.iter().filter(|name| table.has_chain(name)) {
            chains.insert(name.clone(), ChainView::new(table, &postrouting, name)?);
        }
        let other_agents_chains = postrouting
            .iter()
            .filter(|rule| known_comment(rule).is_some())
            .filter_map(|rule| rule.target())
            .filter(|target| table.has_chain(target) && !names.contains(*target))
            .map(str::to_owned)
            .collect();
        let mut nested = Vec::new();
        let foreign = (1..).zip(&postrouting).filter(|(_, rule)| known_comment(rule).is_none() && !rule.tests_mark());
        for (place, rule) in foreign {
            let target = rule.target().filter(|target| table.has_chain(target) && !names.contains(*target));
            let Some(target) = target else { continue };
            let found = decisive(table, target, &mut BTreeSet::new())?;
            let count = found.len();
            nested.extend(found.into_iter().next().map(|(chain, rule)| Nested { place, chain, rule, count }));
        }
        Ok(Self { postrouting, chains, nested, other_agents_chains })
    }
}

impl ChainView {
    fn new(table: &SavedTable<'_>, postrouting: &[Rule], name: &str) -> Result<Self, TableError> {
        let form = |rule: &Rule| jump_form(rule, name);
        let places = (1..).zip(postrouting);
        let jumps = places.filter_map(|(place, rule)| form(rule).map(|form| Jump { place, rule: rule.clone(), form }));
        let references = table.references(name)?;
        let (known, foreign): (Vec<_>, Vec<_>) = references.into_iter().partition(|(_, rule)| form(rule).is_some());
        let misplaced = known.into_iter().filter(|(chain, _)| *chain != POSTROUTING);
        Ok(Self {
            rules: table.rules(name)?,
            jumps: jumps.collect(),
            misplaced: misplaced.map(|(chain, rule)| (chain.to_owned(), rule)).collect(),
            references: foreign.iter().map(|(chain, rule)| super::chain::append(chain, rule)).collect(),
            wrong_hooks: table
                .hooks_of(name, |rule| form(rule).is_none())?
                .into_iter()
                .filter(|hook| *hook != POSTROUTING)
                .map(str::to_owned)
                .collect(),
        })
    }

    /// The chain and its jumps as the ledger keeps them.
    #[must_use]
    pub fn value(&self) -> ChainValue {
        ChainValue {
            jumps: self.jumps.iter().map(|jump| (jump.place, jump.rule.clone())).collect(),
            rules: self.rules.clone(),
        }
    }

    /// Whether all rules bear our words and all jumps are the ordered one; an empty chain does too. Then nobody put a
    /// rule of their own into it.
    #[must_use]
    pub fn bears_our_mark(&self, ordered: &ChainValue) -> bool {
        let is_ours = |jump: &Jump| ordered.jumps.iter().any(|(_, rule)| rule.same(&jump.rule));
        self.rules.iter().all(|rule| known_comment(rule).is_some_and(|form| form == JumpForm::Plain))
            && self.jumps.iter().all(|jump| jump.form == JumpForm::Plain || is_ours(jump))
    }
}

/// Rules of a chain, and of those that it leads to, that set the source of packets which bear no mark. kube-proxy's
/// chain sends back what is not marked first; the rest of it is about marked packets then.
fn decisive(
    table: &SavedTable<'_>,
    chain: &str,
    seen: &mut BTreeSet<String>,
) -> Result<Vec<(String, Rule)>, TableError> {
    let mut found = Vec::new();
    if !seen.insert(chain.to_owned()) {
        return Ok(found);
    }
    for rule in table.rules(chain)? {
        if rule.tests_mark() {
            if rule.target() == Some("RETURN") {
                break;
            }
        } else if rule.sets_source() {
            found.push((chain.to_owned(), rule));
        } else if let Some(target) = rule.target().filter(|target| table.has_chain(target)) {
            found.extend(decisive(table, target, seen)?);
        }
    }
    Ok(found)
}

/// Recognises a jump by its words: a rule that merely leads to the chain belongs to whoever wrote it.
fn jump_form(rule: &Rule, chain: &str) -> Option<JumpForm> {
    let form = known_comment(rule).filter(|_| rule.target() == Some(chain))?;
    let is = |compat| ChainValue::jump(chain, compat).is_some_and(|jump| jump.same(rule));
    match form {
        JumpForm::Plain if is(None) => Some(JumpForm::Plain),
        JumpForm::Plain => Some(JumpForm::Altered),
        other if rule.tests_only_non_local() => Some(other),
        _ => Some(JumpForm::Altered),
    }
}

/// Whose words the comment uses.
fn known_comment(rule: &Rule) -> Option<JumpForm> {
    let comment = rule.comment()?;
    if comment.starts_with("ip-masq-agent: ") {
        Some(JumpForm::Plain)
    } else if comment.starts_with("\"ip-masq-agent: ") {
        Some(JumpForm::Quoted)
    } else if comment.starts_with("ip-masq: ") {
        Some(JumpForm::Gce)
    } else {
        None
    }
}
