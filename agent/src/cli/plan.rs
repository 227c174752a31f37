//! What `plan`, `apply` and `rollback` print.

use std::fmt::Write;

use anstyle::{AnsiColor, Style};
use serde::Serialize;
use trimtab_domain::plan::{Finding, Refusal};
use trimtab_proto::node::v1alpha1 as wire;

use super::output::printable;
use super::status::word;
use crate::reconcile::pass::{Outcome, Preview};

/// One subsystem's part of a plan, or of what was done.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SubsystemPlan {
    /// Its name.
    pub subsystem: String,
    /// The steps, in order.
    pub steps: Vec<PlannedStep>,
    /// Wishes that are not granted.
    pub refusals: Vec<PlannedRefusal>,
    /// What a person should know.
    pub findings: Vec<PlannedFinding>,
    /// Why the node could not be read or what was ordered did not take effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// One step.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedStep {
    /// Object, old and new value.
    pub step: String,
    /// Why it failed, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// One refusal.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedRefusal {
    /// The object.
    pub object: String,
    /// What was asked for.
    pub wish: String,
    /// One of a closed set of causes.
    pub cause: String,
    /// Facts and remedy.
    pub detail: String,
}

/// One finding.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedFinding {
    /// `info`, `warning` or `error`.
    pub severity: String,
    /// Kind of finding.
    pub code: String,
    /// The object.
    pub object: String,
    /// The facts.
    pub message: String,
    /// What to do.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remedy: String,
}

impl SubsystemPlan {
    /// From a dry run.
    #[must_use]
    pub fn planned(subsystem: &'static str, preview: Preview) -> Self {
        let steps = preview.steps.into_iter().map(|step| PlannedStep { step, error: None }).collect();
        Self {
            subsystem: subsystem.to_owned(),
            steps,
            refusals: preview.refusals.into_iter().map(PlannedRefusal::from).collect(),
            findings: preview.findings.into_iter().map(PlannedFinding::from).collect(),
            error: None,
        }
    }

    /// From a pass that was made.
    #[must_use]
    pub fn done(subsystem: &'static str, outcome: Outcome) -> Self {
        let error = outcome.error();
        let steps = outcome.steps.into_iter().map(|step| PlannedStep { step: step.step, error: step.error }).collect();
        Self {
            subsystem: subsystem.to_owned(),
            steps,
            refusals: outcome.refusals.into_iter().map(PlannedRefusal::from).collect(),
            findings: outcome.findings.into_iter().map(PlannedFinding::from).collect(),
            error,
        }
    }

    /// What the API server was told of the node; `trouble`: why it stays.
    #[must_use]
    pub fn of_objects(steps: Vec<String>, trouble: Option<String>) -> Self {
        let finding = |message| PlannedFinding {
            severity: "warning".to_owned(),
            code: "objects-stay".to_owned(),
            object: "API server".to_owned(),
            message,
            remedy: "what was told of the node goes with its Node object; or roll back again".to_owned(),
        };
        Self {
            subsystem: "objects".to_owned(),
            steps: steps.into_iter().map(|step| PlannedStep { step, error: None }).collect(),
            refusals: Vec::new(),
            findings: trouble.map(finding).into_iter().collect(),
            error: None,
        }
    }

    /// From a node that could not be read.
    #[must_use]
    pub fn failed(subsystem: &'static str, error: String) -> Self {
        Self {
            subsystem: subsystem.to_owned(),
            steps: Vec::new(),
            refusals: Vec::new(),
            findings: Vec::new(),
            error: Some(error),
        }
    }
}

impl From<wire::SubsystemPlan> for SubsystemPlan {
    fn from(plan: wire::SubsystemPlan) -> Self {
        let refusal = |refusal: wire::Refusal| PlannedRefusal {
            cause: word(refusal.cause().as_str_name(), "CAUSE_"),
            object: refusal.object,
            wish: refusal.wish,
            detail: refusal.detail,
        };
        let finding = |finding: wire::Finding| PlannedFinding {
            severity: word(finding.severity().as_str_name(), "SEVERITY_"),
            code: finding.code,
            object: finding.object,
            message: finding.message,
            remedy: finding.remedy,
        };
        let steps = plan.steps.into_iter().map(|step| PlannedStep { step: step.step, error: step.error });
        Self {
            subsystem: plan.subsystem,
            steps: steps.collect(),
            refusals: plan.refusals.into_iter().map(refusal).collect(),
            findings: plan.findings.into_iter().map(finding).collect(),
            error: plan.error,
        }
    }
}

impl From<Refusal> for PlannedRefusal {
    fn from(refusal: Refusal) -> Self {
        Self {
            object: refusal.object,
            wish: refusal.wish,
            cause: refusal.cause.as_str().to_owned(),
            detail: refusal.detail,
        }
    }
}

impl From<Finding> for PlannedFinding {
    fn from(finding: Finding) -> Self {
        Self {
            severity: finding.severity.as_str().to_owned(),
            code: finding.code.to_owned(),
            object: finding.object,
            message: finding.message,
            remedy: finding.remedy,
        }
    }
}

/// What the steps of a rendered list are: wishes or deeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tense {
    /// A dry run.
    Would,
    /// Done or tried.
    Did,
}

const CHANGE: Style = AnsiColor::Yellow.on_default();
const DONE: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default();
const NAME: Style = Style::new().bold();

/// Renders for people: one line per step, refusal and finding, grouped by subsystem, and a last line that counts.
#[must_use]
pub fn render(plans: &[SubsystemPlan], tense: Tense) -> String {
    let mut text = String::new();
    for plan in plans {
        if plan.steps.is_empty() && plan.refusals.is_empty() && plan.findings.is_empty() && plan.error.is_none() {
            continue;
        }
        let _ = writeln!(text, "{NAME}{}{NAME:#}", plan.subsystem);
        for step in &plan.steps {
            let (sign, style) = match (&step.error, tense) {
                (Some(_), _) => ("✗", BAD),
                (None, Tense::Did) => ("✓", DONE),
                (None, Tense::Would) => ("~", CHANGE),
            };
            let _ = writeln!(text, "  {style}{sign} {}{style:#}", printable(&step.step));
            if let Some(error) = &step.error {
                let _ = writeln!(text, "      {}", printable(error));
            }
        }
        for refusal in &plan.refusals {
            let (object, wish) = (printable(&refusal.object), printable(&refusal.wish));
            let _ = writeln!(
                text,
                "  {BAD}refused{BAD:#} {object} = {wish} ({}): {}",
                refusal.cause,
                printable(&refusal.detail)
            );
        }
        for finding in &plan.findings {
            let style = if finding.severity == "info" { Style::new() } else { CHANGE };
            let object = printable(&finding.object);
            let _ = write!(text, "  {style}{}{style:#} {object}: {}", finding.severity, printable(&finding.message));
            let _ = if finding.remedy.is_empty() {
                writeln!(text)
            } else {
                writeln!(text, "; {}", printable(&finding.remedy))
            };
        }
        if let Some(error) = &plan.error {
            let _ = writeln!(text, "  {BAD}failed{BAD:#}: {}", printable(error));
        }
    }
    let steps: usize = plans.iter().map(|plan| plan.steps.len()).sum();
    let refused: usize = plans.iter().map(|plan| plan.refusals.len()).sum();
    let failed: usize = plans.iter().filter(|plan| plan.error.is_some()).count();
    let verb = match tense {
        Tense::Would => "would change",
        Tense::Did => "changed",
    };
    let _ = match steps {
        0 => write!(text, "Nothing {verb}"),
        1 => write!(text, "1 step {verb} something"),
        _ => write!(text, "{steps} steps {verb} something"),
    };
    if refused > 0 {
        let _ = write!(text, "; {refused} refused");
    }
    if failed > 0 {
        let _ = write!(text, "; {failed} failed");
    }
    text.push_str(".\n");
    text
}
