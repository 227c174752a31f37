//! What the agent tells about the node: plain data, made by the engine, read by everything that answers.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use trimtab_domain::masquerade::Conntrack;
use trimtab_domain::plan::{Finding, Refusal};

use super::hold::Hold;

/// One object of a subsystem as the last pass saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectReport {
    /// Name of the object, for instance `net.core.somaxconn`.
    pub object: String,
    /// What the profile asks for; `None`: nothing (only observed).
    pub desired: Option<String>,
    /// What the node shows; `None`: absent.
    pub observed: Option<String>,
    /// Further facts with fixed names, for instance `class = safe`, `scope = network namespace`.
    pub attributes: Vec<(&'static str, String)>,
}

/// Numbers of a subsystem as the last pass saw them, for metrics.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Measures {
    /// The kernel's table of connections; `None`: the subsystem does not look at it, or nothing is tracked.
    pub conntrack: Option<Conntrack>,
}

/// State of a subsystem after its last pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// No pass has ended yet.
    Pending,
    /// The node shows what the profile asks for, refusals excepted.
    Converged,
    /// Something could not be read or written; it is tried again.
    Failing,
    /// Another program keeps undoing a change; the agent has slowed down.
    Fighting,
    /// A person has paused it: the node is observed, and nothing is written.
    Paused,
}

impl State {
    /// Every state, for pre-created metric series.
    pub const ALL: [Self; 5] = [Self::Pending, Self::Converged, Self::Failing, Self::Fighting, Self::Paused];

    /// The label in metrics and tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Converged => "converged",
            Self::Failing => "failing",
            Self::Fighting => "fighting",
            Self::Paused => "paused",
        }
    }
}

/// Why a pass was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// The agent started.
    Start,
    /// The profile changed.
    Profile,
    /// The kernel announced a change.
    Drift,
    /// The slow resync.
    Resync,
    /// A failure is tried again.
    Retry,
    /// A person asked for it.
    Request,
    /// The container runtime told of something.
    Workload,
}

impl Trigger {
    /// The label in logs and tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Profile => "profile",
            Self::Drift => "drift",
            Self::Resync => "resync",
            Self::Retry => "retry",
            Self::Request => "request",
            Self::Workload => "workload",
        }
    }
}

/// One step of a pass that changed something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepReport {
    /// Object, old and new value.
    pub step: String,
    /// `None`: done; else the chain of causes.
    pub error: Option<String>,
}

/// An object that another program keeps changing back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fight {
    /// The object.
    pub object: String,
    /// How often it was changed back within the window that revealed the fight.
    pub rewrites: u32,
    /// Who is known to write it; `None`: unknown.
    pub likely_writer: Option<String>,
    /// The agent leaves the object alone until then.
    pub held_until: SystemTime,
}

/// Running totals since the agent started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Passes ended.
    pub passes: u64,
    /// Passes that failed.
    pub failed_passes: u64,
    /// Steps made.
    pub steps_done: u64,
    /// Steps that failed.
    pub steps_failed: u64,
    /// Objects found changed by others after they had been held.
    pub drift_found: u64,
    /// Such objects that were brought back.
    pub drift_healed: u64,
    /// Risky changes after which the node still reached what it had reached.
    pub confirmed: u64,
    /// Risky changes that were taken back, because it did not.
    pub taken_back: u64,
}

/// Everything about one subsystem.
#[derive(Debug, Clone)]
pub struct SubsystemReport {
    /// Its name.
    pub name: &'static str,
    /// State after the last pass.
    pub state: State,
    /// Generation of the profile that the last pass used.
    pub generation: u64,
    /// Why the last pass was made.
    pub trigger: Option<Trigger>,
    /// When the last pass ended.
    pub last_pass: Option<SystemTime>,
    /// When the last pass without a failure ended.
    pub last_success: Option<SystemTime>,
    /// How long the last pass took.
    pub last_duration: Duration,
    /// When the last pass that changed something ended.
    pub last_change: Option<SystemTime>,
    /// The steps of that pass.
    pub steps: Vec<StepReport>,
    /// Wishes not granted.
    pub refusals: Vec<Refusal>,
    /// What a person should know.
    pub findings: Vec<Finding>,
    /// Fights now in force.
    pub fights: Vec<Fight>,
    /// The objects of the subsystem.
    pub objects: Arc<[ObjectReport]>,
    /// Numbers for metrics.
    pub measures: Measures,
    /// The last failure, until a pass succeeds.
    pub last_error: Option<String>,
    /// Why the agent must not count as ready; `None`: it may.
    pub unready: Option<String>,
    /// Running totals.
    pub totals: Totals,
    /// When the risky change on trial is taken back unless it is confirmed before; `None`: none is on trial.
    pub on_trial_until: Option<SystemTime>,
    /// The pause in force; `None`: none.
    pub hold: Option<Hold>,
    /// The steps that a pass would make if there were no pause: object, old and new value.
    pub withheld: Vec<String>,
}

impl SubsystemReport {
    /// The report before the first pass.
    #[must_use]
    pub fn pending(name: &'static str) -> Self {
        Self {
            name,
            state: State::Pending,
            generation: 0,
            trigger: None,
            last_pass: None,
            last_success: None,
            last_duration: Duration::ZERO,
            last_change: None,
            steps: Vec::new(),
            refusals: Vec::new(),
            findings: Vec::new(),
            fights: Vec::new(),
            objects: Arc::default(),
            measures: Measures::default(),
            last_error: None,
            unready: None,
            totals: Totals::default(),
            on_trial_until: None,
            hold: None,
            withheld: Vec::new(),
        }
    }
}

/// The profile in force, and whether the one on disk is another.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProfileReport {
    /// `metadata.name`; empty before the first good profile.
    pub name: String,
    /// Counts the good profiles since the agent started; 0: none yet.
    pub generation: u64,
    /// Where it came from: the path of the file, or of the kept copy of the last good one.
    pub source: String,
    /// Whether the newest text is valid, that is, in force.
    pub valid: bool,
    /// Why the newest text is not in force; empty if it is.
    pub errors: Vec<String>,
}

/// Everything that the agent knows about the node.
#[derive(Debug, Clone)]
pub struct NodeReport {
    /// Name of the node.
    pub node: String,
    /// Version of the agent.
    pub version: &'static str,
    /// When the agent started.
    pub started: SystemTime,
    /// The profile.
    pub profile: ProfileReport,
    /// One report per subsystem, in the order in which they were composed.
    pub subsystems: Vec<Arc<SubsystemReport>>,
    /// Findings of the agent as a whole, for instance a ledger that was set aside.
    pub findings: Vec<Finding>,
    /// True once a profile is known and every subsystem has ended a pass, and none says that it does not know its wish.
    pub ready: bool,
}
