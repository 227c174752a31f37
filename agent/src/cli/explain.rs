//! What `explain` prints: who holds a CPU, what a pod has, what became of a wish, and why. Pure: from answers to facts.

mod machine;
mod objects;
mod workload;

use std::fmt::Write;

use anstyle::Style;
use serde::Serialize;
use trimtab_proto::node::v1alpha1 as wire;

use super::history::Change;
use super::output::printable;
use super::status::word;
use crate::picture::Topology;

/// What the agent knows, as it was asked.
#[derive(Debug)]
pub struct Snapshot {
    /// The report.
    pub report: wire::NodeReport,
    /// Who holds what.
    pub placements: wire::ListPlacementsResponse,
    /// The machine.
    pub topology: Topology,
    /// The last changes, the newest first.
    pub changes: Vec<wire::Change>,
}

/// The story of one thing.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// `cpu`, `container` or the name of a subsystem.
    pub kind: String,
    /// Its name.
    pub subject: String,
    /// The answer in one sentence.
    pub answer: String,
    /// What it rests on.
    pub facts: Vec<Fact>,
}

/// A fact.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Fact {
    /// What it is.
    pub name: String,
    /// What it says.
    pub value: String,
}

/// The facts of an explanation, as they are put together.
#[derive(Debug, Default)]
struct Facts(Vec<Fact>);

impl Facts {
    /// Adds a fact, unless it says nothing.
    fn add(&mut self, name: &str, value: impl Into<String>) {
        let value = value.into();
        if !value.is_empty() {
            self.0.push(Fact { name: name.to_owned(), value });
        }
    }

    fn add_some(&mut self, name: &str, value: Option<impl Into<String>>) {
        if let Some(value) = value {
            self.add(name, value);
        }
    }

    /// The last changes of an object, the newest first.
    fn add_changes(&mut self, snapshot: &Snapshot, object: &str) {
        /// More is for `history`.
        const SHOWN: usize = 3;
        for change in snapshot.changes.iter().filter(|change| change.object == object).take(SHOWN) {
            let change = Change::from(change.clone());
            let when = change.time.clone().unwrap_or_default();
            self.add("changed", format!("{when} {}", change.line()));
        }
    }
}

/// Everything that a word may mean: a number is a CPU, else the name of an object, of a pod, of a container, or the
/// beginning of a uid or an id.
#[must_use]
pub fn explain(what: &str, snapshot: &Snapshot) -> Vec<Explanation> {
    if let Some(number) = machine::number(what) {
        return vec![machine::cpu(number, snapshot)];
    }
    let mut found = objects::named(what, snapshot);
    found.extend(workload::named(what, snapshot));
    found
}

const NAME: Style = Style::new().bold();

/// Renders for people: the answer, then the facts below one another.
#[must_use]
pub fn render(explanations: &[Explanation]) -> String {
    let mut text = String::new();
    for (number, explanation) in explanations.iter().enumerate() {
        if number > 0 {
            text.push('\n');
        }
        let (kind, subject) = (printable(&explanation.kind), printable(&explanation.subject));
        let _ = writeln!(text, "{NAME}{kind} {subject}{NAME:#}: {}", printable(&explanation.answer));
        let width = explanation.facts.iter().map(|fact| fact.name.chars().count()).max().unwrap_or_default();
        for fact in &explanation.facts {
            let _ = writeln!(text, "  {:width$}  {}", printable(&fact.name), printable(&fact.value));
        }
    }
    text
}

/// The word of a refusal's cause.
fn cause(refusal: &wire::Refusal) -> String {
    word(refusal.cause().as_str_name(), "CAUSE_")
}

#[cfg(test)]
mod tests;
