//! Whether the node reaches what it must reach.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use trimtab_domain::spec::confirm::Target;

/// Answers of tries, in the order of their targets: true for those that were reached.
pub type Answers<'a> = Pin<Box<dyn Future<Output = Vec<bool>> + Send + 'a>>;

/// Tries connections.
pub trait Reach: fmt::Debug + Send + Sync {
    /// What must be reached whatever a profile says: the API server that the agent speaks with, the agent's own port.
    fn always(&self) -> Vec<Target>;

    /// Tries all of them at once; ends within seconds, reached or not, and blocks nobody meanwhile.
    fn try_all<'a>(&'a self, targets: &'a [Target]) -> Answers<'a>;
}
