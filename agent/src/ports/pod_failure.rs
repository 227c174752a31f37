//! Whoever can end a pod that will never start: the API server, where there is one.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use trimtab_domain::workload::PodUid;

/// Which pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodRef {
    /// Its uid; a pod of the same name with another one is another pod.
    pub uid: PodUid,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for PodRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} ({})", self.namespace, self.name, self.uid)
    }
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailedPod {
    /// It is failed.
    Failed,
    /// It is not, and need not or must not be: gone, over, the image of a static pod.
    LeftAlone(&'static str),
}

/// Sets the phase of a pod to `Failed`, as a kubelet does that refuses it at admission.
pub trait PodFailure: Send + Sync + 'static {
    /// Fails a pod with this reason and these words.
    fn fail<'a>(
        &'a self,
        pod: &'a PodRef,
        reason: &'a str,
        message: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<FailedPod, PodFailureError>> + Send + 'a>>;
}

/// A pod could not be failed.
#[derive(Debug, thiserror::Error)]
pub enum PodFailureError {
    /// Nobody answers.
    #[error("cannot fail pod {pod}: {detail}")]
    Away {
        /// The pod.
        pod: PodRef,
        /// What happened.
        detail: String,
    },
    /// It answered with an error.
    #[error("cannot fail pod {pod}: {detail}")]
    Refused {
        /// The pod.
        pod: PodRef,
        /// Its words.
        detail: String,
    },
}
