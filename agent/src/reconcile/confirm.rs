//! What the engine needs to watch over risky changes: where trials are written down, and how the node is tried.

use std::fmt;
use std::sync::Arc;

use trimtab_domain::confirmation::trial::Trials;
use trimtab_domain::spec::NodeSpec;

use crate::ports::reach::Reach;

/// A profile, with the text that brings it back after a restart.
#[derive(Debug, Clone)]
pub struct Wish {
    /// What it asks for.
    pub spec: Arc<NodeSpec>,
    /// The document that it was read from; `None`: there is none, nothing is asked for.
    pub text: Option<Arc<str>>,
}

/// Two texts may ask for the same, one of them after a pause.
impl PartialEq for Wish {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.spec, &other.spec) || self.spec.asks_the_same(&other.spec)
    }
}

/// Trials could not be written down.
#[derive(Debug, thiserror::Error)]
#[error("cannot write down which change is on trial")]
pub struct TrialError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// Where trials are written down, so that they outlive the agent.
pub trait TrialBook: fmt::Debug + Send + Sync {
    /// What was written down last; nothing known if there is nothing, or nothing that can be used.
    fn read(&self, subsystem: &str) -> Trials<Wish>;

    /// Writes it down durably.
    ///
    /// # Errors
    /// [`TrialError`] if it would not outlive the agent.
    fn write(&self, subsystem: &str, trials: &Trials<Wish>) -> Result<(), TrialError>;
}

/// Both.
#[derive(Debug, Clone)]
pub struct Confirmer {
    /// Where trials are written down.
    pub book: Arc<dyn TrialBook>,
    /// How the node is tried.
    pub reach: Arc<dyn Reach>,
}
