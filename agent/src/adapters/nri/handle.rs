//! Changes of containers that no request of the runtime brings.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use trimtab_domain::workload::ContainerId;
use trimtab_proto::nri::v1alpha1 as nri;

use super::caller::CallError;
use super::convert::{self, Failures, Unsayable};
use super::session::Live;
use crate::ports::admission::{CpusetUpdate, RuntimePeer, UnsolicitedUpdates};
use crate::ports::nri_stats::NriStats;
use crate::ports::runtime::RuntimeError;

/// Longest wait for the runtime, which may be busy with a request that it holds its lock for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Changes containers through the session that is in use. Never to be called from within an answer: the runtime would
/// wait for the answer, and the answer for the runtime.
#[derive(Debug, Clone)]
pub struct NriHandle {
    live: watch::Receiver<Option<Live>>,
    stats: Arc<NriStats>,
}

/// Containers could not be changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpdateError {
    /// No session is in use.
    #[error("no container runtime is connected over NRI")]
    NotConnected,
    /// The runtime may lock up when it is sent what it has not asked for.
    #[error("{name} {version} may lock up on updates that it has not asked for; they are safe since NRI 0.12.1")]
    Unsafe {
        /// Name of the runtime.
        name: String,
        /// Its version.
        version: String,
    },
    /// A change cannot be said.
    #[error("cannot say the update over NRI")]
    Unsayable(#[from] Unsayable),
    /// The call failed.
    #[error("cannot update containers over NRI")]
    Call(#[from] CallError),
}

impl NriHandle {
    pub(super) fn new(live: watch::Receiver<Option<Live>>, stats: Arc<NriStats>) -> Self {
        Self { live, stats }
    }

    /// The runtime of the session that is in use.
    #[must_use]
    pub fn peer(&self) -> Option<RuntimePeer> {
        self.live.borrow().as_ref().map(|live| live.peer.clone())
    }

    /// Changes containers; those that the runtime could not change are returned. One that it does not know is skipped
    /// without a word, so what was done has to be read back.
    ///
    /// # Errors
    /// [`UpdateError`]: nothing was changed, except after a call that timed out, when it is not known.
    pub async fn update(&self, updates: Vec<CpusetUpdate>) -> Result<Vec<ContainerId>, UpdateError> {
        let live = self.live.borrow().clone().ok_or(UpdateError::NotConnected)?;
        if !live.peer.safe_unsolicited_updates {
            return Err(UpdateError::Unsafe { name: live.peer.name, version: live.peer.version });
        }
        let update = convert::updates(updates, Failures::AreIgnored)?;
        if update.is_empty() {
            return Ok(Vec::new());
        }
        let count = u64::try_from(update.len()).unwrap_or(u64::MAX);
        let request = nri::UpdateContainersRequest { update };
        let answer = live.caller.call::<nri::UpdateContainersResponse>("UpdateContainers", &request, PATIENCE).await;
        let failed = match &answer {
            Ok(response) => u64::try_from(response.failed.len()).unwrap_or(u64::MAX),
            Err(_) => count,
        };
        self.stats.record_updates(count.saturating_sub(failed), failed);
        Ok(answer?.failed.into_iter().map(|update| ContainerId(update.container_id)).collect())
    }
}

impl UnsolicitedUpdates for NriHandle {
    fn update(&self, update: CpusetUpdate) -> Pin<Box<dyn Future<Output = Result<(), RuntimeError>> + Send + '_>> {
        const METHOD: &str = "UpdateContainers";
        Box::pin(async move {
            let away = |detail: String| RuntimeError::Away { socket: "NRI".to_owned(), method: METHOD, detail };
            let refused = |detail: String| RuntimeError::Refused { method: METHOD, detail };
            let failed = Self::update(self, vec![update]).await.map_err(|error| match error {
                UpdateError::NotConnected => away(error.to_string()),
                UpdateError::Call(cause) => away(cause.to_string()),
                UpdateError::Unsafe { .. } => refused(error.to_string()),
                UpdateError::Unsayable(cause) => refused(cause.to_string()),
            })?;
            if failed.is_empty() {
                return Ok(());
            }
            Err(RuntimeError::Refused {
                method: METHOD,
                detail: "it says that it could not change the container".into(),
            })
        })
    }
}
