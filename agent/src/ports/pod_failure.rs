//! Whoever can end a pod that will never start: the API server, where there is one.

use std::future::Future;
use std::pin::Pin;

use trimtab_domain::workload::PodUid;

/// Sets the phase of a pod to `Failed`, as a kubelet does that refuses it at admission.
pub trait PodFailure: Send + Sync + 'static {
    /// Fails a pod with this reason and these words.
    fn fail<'a>(
        &'a self,
        pod: &'a PodUid,
        reason: &'a str,
        message: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<(), PodFailureError>> + Send + 'a>>;
}

/// A pod could not be failed.
#[derive(Debug, thiserror::Error)]
pub enum PodFailureError {
    /// Nobody answers.
    #[error("cannot fail pod {pod}: the API server does not answer: {detail}")]
    Away {
        /// The pod.
        pod: PodUid,
        /// What happened.
        detail: String,
    },
    /// It answered with an error.
    #[error("cannot fail pod {pod}: {detail}")]
    Refused {
        /// The pod.
        pod: PodUid,
        /// Its words.
        detail: String,
    },
}
