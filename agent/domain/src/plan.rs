//! Plans as data: what one pass wants to change, what it refuses, and what it noticed.

use std::fmt;

/// What one pass of a subsystem would change, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan<S> {
    /// A stage starts only if every step of all stages before it succeeded.
    pub stages: Vec<Stage<S>>,
    /// Wishes that this node cannot grant; not errors.
    pub refusals: Vec<Refusal>,
    /// What a person should know although nothing is refused.
    pub findings: Vec<Finding>,
}

impl<S> Default for Plan<S> {
    fn default() -> Self {
        Self { stages: Vec::new(), refusals: Vec::new(), findings: Vec::new() }
    }
}

impl<S> Plan<S> {
    /// Appends a stage; an empty one is dropped.
    pub fn push_stage(&mut self, stage: Stage<S>) {
        if !stage.chains.is_empty() {
            self.stages.push(stage);
        }
    }

    /// All steps, in the order in which they would be made.
    pub fn steps(&self) -> impl Iterator<Item = &S> {
        self.stages.iter().flat_map(|stage| stage.chains.iter().flatten())
    }

    /// True if nothing would change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps().next().is_none()
    }
}

/// Chains that are independent of one another: a failure in one does not stop the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage<S> {
    /// The steps of one chain are made in order; a failure ends the rest of that chain only.
    pub chains: Vec<Vec<S>>,
}

impl<S> Default for Stage<S> {
    fn default() -> Self {
        Self { chains: Vec::new() }
    }
}

impl<S> Stage<S> {
    /// Adds one independent step.
    pub fn push(&mut self, step: S) {
        self.chains.push(vec![step]);
    }

    /// Adds steps that must be made in this order; an empty chain is dropped.
    pub fn push_chain(&mut self, steps: Vec<S>) {
        if !steps.is_empty() {
            self.chains.push(steps);
        }
    }
}

impl<S> FromIterator<S> for Stage<S> {
    fn from_iter<I: IntoIterator<Item = S>>(steps: I) -> Self {
        Self { chains: steps.into_iter().map(|step| vec![step]).collect() }
    }
}

/// A wish that this node cannot grant. The rest of the profile is applied all the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refusal {
    /// The object on the node, for instance `net.core.somaxconn`.
    pub object: String,
    /// What the profile asked for.
    pub wish: String,
    /// Why it is not granted; a closed set, so that it can label a metric.
    pub cause: Cause,
    /// One sentence for a person: the facts, then the remedy.
    pub detail: String,
}

/// Why a wish is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// The kernel of this node does not have the object.
    Absent,
    /// The object cannot be written on this node, whoever tries.
    ReadOnly,
    /// The agent lacks the privilege, for instance in a user namespace.
    NotPermitted,
    /// The kernel rejects the value.
    InvalidValue,
    /// A policy chosen in the profile forbids the key or the value.
    Policy,
    /// Another program owns the object.
    OwnedByOther,
    /// Somebody else changed the value since, so the original is not restored over it.
    ChangedByOther,
    /// Too few CPUs, too little memory, too few huge pages.
    Insufficient,
    /// The NUMA alignment asked for cannot be had.
    Topology,
    /// This kernel, tool or runtime cannot do it.
    Unsupported,
}

impl Cause {
    /// Every cause, for pre-created metric series.
    pub const ALL: [Self; 10] = [
        Self::Absent,
        Self::ReadOnly,
        Self::NotPermitted,
        Self::InvalidValue,
        Self::Policy,
        Self::OwnedByOther,
        Self::ChangedByOther,
        Self::Insufficient,
        Self::Topology,
        Self::Unsupported,
    ];

    /// The label in metrics and reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::ReadOnly => "read-only",
            Self::NotPermitted => "not-permitted",
            Self::InvalidValue => "invalid-value",
            Self::Policy => "policy",
            Self::OwnedByOther => "owned-by-other",
            Self::ChangedByOther => "changed-by-other",
            Self::Insufficient => "insufficient",
            Self::Topology => "topology",
            Self::Unsupported => "unsupported",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Something a person should know: a mismatch, a likely conflict, a risk.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// Stable kebab-case name of the kind of finding, for instance `cgroup-driver-mismatch`.
    pub code: &'static str,
    /// The object on the node that it is about.
    pub object: String,
    /// The facts in one sentence.
    pub message: String,
    /// What to do about it; empty if nothing need be done.
    pub remedy: String,
}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Will or may cause trouble.
    Warning,
    /// Does cause trouble now.
    Error,
}

impl Severity {
    /// The label in metrics and reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
