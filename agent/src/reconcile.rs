//! The one pattern: observe, plan, apply, observe again, report.

pub mod backoff;
pub mod board;
mod chronicle;
pub mod confirm;
mod drift;
pub mod engine;
pub mod fight;
pub mod history;
pub mod hold;
pub mod node_view;
pub mod orders;
pub mod pass;
pub mod report;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use trimtab_domain::plan::Plan;
use trimtab_domain::spec::NodeSpec;

pub use crate::ports::Watch;

use self::report::{Measures, ObjectReport};

/// A part of the node that the agent holds at a desired value.
pub trait Subsystem: Send + Sync + 'static {
    /// Label in metrics, logs, reports and the ledger.
    const NAME: &'static str;
    /// Its slice of the specification.
    type Desired: Send + Sync;
    /// What the node (and the ledger) shows.
    type Observed: Send + Sync;
    /// One change, as data.
    type Step: Step;

    /// Selects this subsystem's slice.
    fn desired(spec: &NodeSpec) -> &Self::Desired;

    /// Reads the node; changes nothing.
    ///
    /// # Errors
    /// [`Error`] when nothing useful could be read; an absent object is a value, not an error.
    fn observe(&self, desired: &Self::Desired) -> impl Future<Output = Result<Self::Observed, Error>> + Send;

    /// The same for a pass that only reports, because a person has paused the subsystem: who answers others between passes
    /// goes on answering as before.
    ///
    /// # Errors
    /// As of [`Subsystem::observe`].
    fn look(&self, desired: &Self::Desired) -> impl Future<Output = Result<Self::Observed, Error>> + Send {
        self.observe(desired)
    }

    /// Decides; reads nothing, changes nothing, cannot fail.
    fn plan(desired: &Self::Desired, observed: &Self::Observed) -> Plan<Self::Step>;

    /// Makes one change.
    ///
    /// # Errors
    /// [`Error`] with the object, the value and the cause; its class tells the engine when to try again.
    fn apply(&self, step: &Self::Step) -> impl Future<Output = Result<(), Error>> + Send;

    /// Called before a pass for which everything is to be tried again (start, new profile, resync, a person's request;
    /// not drift, not a retry): forgets which writes the kernel rejected. A subsystem that remembers none does nothing.
    fn forget_rejections(&self) {}

    /// What the report shows of each object, drifted or not.
    fn objects(desired: &Self::Desired, observed: &Self::Observed) -> Vec<ObjectReport>;

    /// Numbers for metrics that no object shows.
    fn measures(_observed: &Self::Observed) -> Measures {
        Measures::default()
    }

    /// Where the kernel tells of drift; the engine watches these between passes. Empty: the resync alone finds it.
    fn watches(_desired: &Self::Desired, _observed: &Self::Observed) -> Vec<Watch> {
        Vec::new()
    }

    /// What wakes the subsystem beside the kernel's announcements; `None`: nothing does.
    fn wake(&self) -> Option<Arc<Notify>> {
        None
    }

    /// Longest time to the next pass when nothing happens; `None`: the agent's own resync.
    fn resync(_desired: &Self::Desired, _observed: &Self::Observed) -> Option<Duration> {
        None
    }

    /// Whether a change of this object may cut the node off, so that it has to be confirmed.
    #[must_use]
    fn is_risky(object: &str) -> bool {
        trimtab_domain::confirmation::is_risky(Self::NAME, object)
    }

    /// Why the agent must not count as ready although the pass has ended: nothing is held, because what should be is not
    /// known. `None`: it may.
    fn unready(_desired: &Self::Desired, _observed: &Self::Observed) -> Option<String> {
        None
    }

    /// Whether everything is to be given back when the agent stops; else the node keeps its settings.
    fn gives_back_on_exit(_desired: &Self::Desired) -> bool {
        false
    }

    /// Who was seen to write this object, or is running and known to; asked only while there is a fight.
    fn seen_writer(&self, _object: &str) -> Option<String> {
        None
    }

    /// Who is known to write this object besides the agent; named when a fight is found.
    fn likely_writer(_object: &str) -> Option<&'static str> {
        None
    }
}

/// One change, as data. `Display` says object, old and new value: `net.core.somaxconn: 128 -> 1024`.
pub trait Step: fmt::Display + Clone + Send + Sync + 'static {
    /// The object that is changed; repairs of one object again and again are a fight. Ledger steps have none.
    fn object(&self) -> Option<&str>;

    /// True if the step brings back what had been ordered before under the same profile, false if the order itself is
    /// new (a container that started, a shared pool that shrank).
    fn is_repair(&self) -> bool {
        true
    }

    /// Called on steps without an object while objects are `held` because of a fight: what the step wants of those is left
    /// out. A step that wants nothing of objects does nothing.
    fn leave_out(&mut self, _held: &dyn Fn(&str) -> bool) {}
}

/// A failure of a subsystem, with the class that tells the engine what to do.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct Error {
    /// Whether trying again soon makes sense.
    pub class: Class,
    /// The deed and the object.
    pub what: String,
    /// The cause; the chain is printed once, at the edge.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// When a failed step or read is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Soon, with growing, jittered pauses.
    Transient,
    /// Not before the specification changes or the next resync.
    Terminal,
    /// Never: the node will not grant it, the subsystem has learnt so, and its next plan says it with a refusal. The
    /// step ends its chain like any failure, but the pass has not failed.
    Refused,
}

impl Error {
    /// A failure that may pass by itself.
    pub fn transient(what: impl Into<String>, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { class: Class::Transient, what: what.into(), source: Some(source.into()) }
    }

    /// A failure that stays until something else changes.
    pub fn terminal(what: impl Into<String>, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { class: Class::Terminal, what: what.into(), source: Some(source.into()) }
    }

    /// A wish that turned out not to be grantable when it was tried; the next plan must refuse it.
    pub fn refused(what: impl Into<String>, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { class: Class::Refused, what: what.into(), source: Some(source.into()) }
    }

    /// The whole chain of causes in one line.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.what.clone();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}
