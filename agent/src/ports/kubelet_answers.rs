//! What the kubelet itself answers about pods and their devices.

use std::future::Future;
use std::pin::Pin;

use trimtab_proto::podresources::v1::{AllocatableResourcesResponse, ListPodResourcesResponse};

/// Both answers, asked for one right after the other; the kubelet has no revision that they share.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct KubeletAnswers {
    /// What pods have.
    pub list: ListPodResourcesResponse,
    /// What the empty node could give; empty from a kubelet older than 1.21.
    pub allocatable: AllocatableResourcesResponse,
}

/// The kubelet does not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KubeletAway {
    /// No kubelet serves, or none ever did.
    #[error("there is no socket {path}")]
    NoSocket {
        /// Where it should be.
        path: String,
    },
    /// The path leads to the agent's own socket.
    #[error("{path} is the agent's own socket; nobody else is asked")]
    Itself {
        /// The path.
        path: String,
    },
    /// Connecting or asking failed, or the answer cannot be read or is too large.
    #[error("the kubelet does not answer at {path}: {detail}")]
    Failed {
        /// The path.
        path: String,
        /// What went wrong.
        detail: String,
    },
    /// It took too long.
    #[error("the kubelet did not answer at {path} in time")]
    TooLate {
        /// The path.
        path: String,
    },
}

impl KubeletAway {
    /// One word, for metadata and metrics.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::NoSocket { .. } => "no-socket",
            Self::Itself { .. } => "itself",
            Self::Failed { .. } => "failed",
            Self::TooLate { .. } => "too-late",
        }
    }
}

/// An answer of the kubelet that is on its way.
pub type Asking<'a> = Pin<Box<dyn Future<Output = Result<KubeletAnswers, KubeletAway>> + Send + 'a>>;

/// The kubelet's PodResources API, asked for everything that it knows.
pub trait KubeletPodResources: Send + Sync + 'static {
    /// Asks once; ends within seconds, whatever the kubelet does.
    ///
    /// # Errors
    /// [`KubeletAway`].
    fn ask(&self) -> Asking<'_>;
}
