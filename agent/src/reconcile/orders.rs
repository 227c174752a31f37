//! What people ask of the engine while it runs, and the way there: one queue per subsystem, obeyed between two passes.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot};
use trimtab_domain::plan::{Finding, Refusal};
use trimtab_domain::spec::NodeSpec;

use super::hold::{Hold, Source};
use super::pass::{Outcome, Preview};
use super::report::StepReport;

/// Orders that wait for one subsystem; more are turned away.
const QUEUE: usize = 8;

/// Something that is asked of one subsystem. Whoever has gone away meanwhile gets no answer, and the order stands.
#[derive(Debug)]
pub enum Order {
    /// A pass now.
    Resync {
        /// Told what it did.
        answer: oneshot::Sender<Done>,
    },
    /// What a pass would change now.
    Preview {
        /// Told what it would do.
        answer: oneshot::Sender<Done>,
    },
    /// Stand still.
    Hold {
        /// How, until when, for whom.
        hold: Hold,
        /// Told what was given back, and whether the order outlives a restart.
        answer: oneshot::Sender<(Done, Durability)>,
    },
    /// Hold the node again, as far as this one is concerned.
    Resume {
        /// Whose order to stand still ends.
        of: Source,
        /// Told what came of it.
        answer: oneshot::Sender<Resumed>,
    },
}

/// Asks what another profile would change; answered beside the subsystems that run, which it must not disturb.
#[derive(Debug)]
pub struct Rehearsal {
    /// What would be asked of the node.
    pub spec: NodeSpec,
    /// The subsystems that are wanted, in the order in which they are reported.
    pub subsystems: Vec<&'static str>,
    /// Told what each of them would do.
    pub answer: oneshot::Sender<Vec<(&'static str, Done)>>,
}

/// What came of an order to hold the node again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resumed {
    /// Whether there was an order of the same source to stand still.
    pub was_paused: bool,
    /// An order of another source that is in force still.
    pub still: Option<Hold>,
}

/// Whether an order outlives a restart of the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// It is written down.
    Durable,
    /// It could not be written down.
    Fleeting,
}

/// What a pass did, or would do.
#[derive(Debug, Clone, Default)]
pub struct Done {
    /// The steps, in order.
    pub steps: Vec<StepReport>,
    /// Wishes not granted.
    pub refusals: Vec<Refusal>,
    /// What a person should know.
    pub findings: Vec<Finding>,
    /// What went wrong; `None`: nothing.
    pub error: Option<String>,
}

impl Done {
    /// Nothing but a failure.
    #[must_use]
    pub fn failed(error: impl Into<String>) -> Self {
        Self { error: Some(error.into()), ..Self::default() }
    }
}

impl From<&Outcome> for Done {
    fn from(outcome: &Outcome) -> Self {
        Self {
            steps: outcome.steps.clone(),
            refusals: outcome.refusals.clone(),
            findings: outcome.findings.clone(),
            error: outcome.error(),
        }
    }
}

impl From<Preview> for Done {
    fn from(preview: Preview) -> Self {
        let steps = preview.steps.into_iter().map(|step| StepReport { step, error: None });
        Self { steps: steps.collect(), refusals: preview.refusals, findings: preview.findings, error: None }
    }
}

/// Why an order does not reach its subsystem.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Undelivered {
    /// There is no such subsystem.
    #[error("there is no subsystem {name:?}; there are {}", known.join(", "))]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<&'static str>,
    },
    /// Others wait already.
    #[error("too many orders for {whom} wait already; try again later")]
    Busy {
        /// The subsystem, or what else there is to wait for.
        whom: &'static str,
    },
    /// The engine has ended.
    #[error("the agent is stopping")]
    Stopping,
}

/// The way from those who answer calls to the engine.
#[derive(Debug)]
pub struct Switchboard {
    /// In the order in which the subsystems are reported.
    lines: Vec<(&'static str, mpsc::Sender<Order>)>,
    ends: Mutex<BTreeMap<&'static str, mpsc::Receiver<Order>>>,
    rehearsals: mpsc::Sender<Rehearsal>,
    rehearsals_end: Mutex<Option<mpsc::Receiver<Rehearsal>>>,
}

impl Switchboard {
    /// A line to each of these subsystems.
    #[must_use]
    pub fn new(subsystems: &[&'static str]) -> Self {
        let (mut lines, mut ends) = (Vec::new(), BTreeMap::new());
        for name in subsystems {
            let (sender, receiver) = mpsc::channel(QUEUE);
            lines.push((*name, sender));
            ends.insert(*name, receiver);
        }
        let (rehearsals, rehearsals_end) = mpsc::channel(1);
        Self { lines, ends: Mutex::new(ends), rehearsals, rehearsals_end: Mutex::new(Some(rehearsals_end)) }
    }

    /// The end at which rehearsals arrive, once; `None` afterwards.
    pub fn rehearsals(&self) -> Option<mpsc::Receiver<Rehearsal>> {
        self.rehearsals_end.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Hands a rehearsal over; never waits.
    ///
    /// # Errors
    /// [`Undelivered::Busy`] while another one waits, [`Undelivered::Stopping`].
    pub fn rehearse(&self, rehearsal: Rehearsal) -> Result<(), Undelivered> {
        self.rehearsals.try_send(rehearsal).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Undelivered::Busy { whom: "profiles that are not in force" },
            mpsc::error::TrySendError::Closed(_) => Undelivered::Stopping,
        })
    }

    /// The end of a line, once; afterwards, and for a subsystem without a line, one that nothing comes through.
    pub(super) fn connect(&self, subsystem: &'static str) -> mpsc::Receiver<Order> {
        let end = self.ends.lock().unwrap_or_else(PoisonError::into_inner).remove(subsystem);
        end.unwrap_or_else(|| mpsc::channel(1).1)
    }

    /// The subsystems with these names, in the order in which they are reported; all for none.
    ///
    /// # Errors
    /// [`Undelivered::Unknown`] for the first name that no subsystem has.
    pub fn choose(&self, names: &[String]) -> Result<Vec<&'static str>, Undelivered> {
        for name in names {
            self.find(name)?;
        }
        let wanted = |known: &&'static str| names.is_empty() || names.iter().any(|name| name == known);
        Ok(self.lines.iter().map(|(known, _)| *known).filter(wanted).collect())
    }

    /// The subsystem with this name.
    ///
    /// # Errors
    /// [`Undelivered::Unknown`].
    pub fn find(&self, name: &str) -> Result<&'static str, Undelivered> {
        let known = || self.lines.iter().map(|(known, _)| *known);
        known()
            .find(|known| *known == name)
            .ok_or_else(|| Undelivered::Unknown { name: name.to_owned(), known: known().collect() })
    }

    /// Hands an order over; never waits.
    ///
    /// # Errors
    /// [`Undelivered`].
    pub fn send(&self, subsystem: &'static str, order: Order) -> Result<(), Undelivered> {
        let line = self.lines.iter().find(|(known, _)| *known == subsystem);
        let (_, line) = line.ok_or(Undelivered::Stopping)?;
        line.try_send(order).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Undelivered::Busy { whom: subsystem },
            mpsc::error::TrySendError::Closed(_) => Undelivered::Stopping,
        })
    }
}
