//! `v1.PodResourcesLister` and `v1alpha1.PodResourcesLister`, answered from the placements and the kubelet's own answers.
//!
//! Four choices where the kubelet's behaviour leaves room:
//! before the first pass the lists are empty and not an error, as the kubelet has it (health says NOT_SERVING);
//! a pod whose name no local source knows is listed under its uid with an empty namespace, because clients compute free
//! CPUs as allocatable minus the sum over List, and leaving it out would make taken CPUs look free;
//! every list is sorted, which breaks no client, as the kubelet promises no order;
//! without a kubelet nobody tells an ordinary init container from an app container, so one that is running is listed,
//! and until the next container comes, one that has just ended.

mod merge;
mod service;
mod snapshot;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prost::bytes::Bytes;
use tokio::sync::watch;
use tokio::time::Instant;
use trimtab_proto::podresources::v1;

pub(crate) use self::service::{PodResourcesV1, PodResourcesV1Alpha1};
use self::snapshot::Snapshot;
use super::Refused;
use super::unary::{self, Told};
use crate::reconcile::node_view::NodeView;
use crate::serve::kubelet::{Known, KubeletSide, Want};

/// The placements, the kubelet, and the answers that were encoded from them.
pub(crate) struct Lister {
    view: watch::Receiver<Arc<NodeView>>,
    kubelet: Option<KubeletSide>,
    snapshot: Mutex<Option<Arc<Snapshot>>>,
}

impl fmt::Debug for Lister {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lister").finish_non_exhaustive()
    }
}

impl Lister {
    /// `None` for the kubelet: it is not asked.
    pub(crate) fn new(view: watch::Receiver<Arc<NodeView>>, kubelet: Option<KubeletSide>) -> Self {
        Self { view, kubelet, snapshot: Mutex::default() }
    }

    async fn list(&self) -> Told {
        let (snapshot, known) = self.latest(Want::Recent).await;
        told(snapshot.list(), &known)
    }

    async fn list_v1alpha1(&self) -> Told {
        let (snapshot, known) = self.latest(Want::Recent).await;
        told(snapshot.list_v1alpha1(), &known)
    }

    async fn allocatable(&self) -> Told {
        let (snapshot, known) = self.latest(Want::Recent).await;
        told(snapshot.allocatable(), &known)
    }

    /// One pod. Clients ask about a pod that is just being created: one that is not known yet is asked for again.
    async fn pod(&self, request: v1::GetPodResourcesRequest) -> Result<Told, Refused> {
        for want in [Want::Recent, Want::New] {
            let (snapshot, known) = self.latest(want).await;
            if let Some(bytes) = snapshot.pod(&request.pod_namespace, &request.pod_name) {
                return Ok(told(bytes, &known));
            }
            if self.kubelet.is_none() {
                break;
            }
        }
        Err(Refused::PodNotFound { name: request.pod_name, namespace: request.pod_namespace })
    }

    /// The answers to the newest facts.
    async fn latest(&self, want: Want) -> (Arc<Snapshot>, Known) {
        let known = match &self.kubelet {
            Some(kubelet) => kubelet.known(want).await,
            None => Known::default(),
        };
        let view = Arc::clone(&self.view.borrow());
        let mut snapshot = self.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
        match snapshot.as_ref().filter(|now| now.is_of(&view, known.answers())) {
            Some(now) => (Arc::clone(now), known),
            None => {
                let new = Arc::new(Snapshot::new(view, known.answers().cloned()));
                *snapshot = Some(Arc::clone(&new));
                (new, known)
            }
        }
    }
}

/// The answer, with what is to be said about the kubelet's part of it.
fn told(message: Bytes, known: &Known) -> Told {
    Told {
        message,
        kubelet_age: known.age(Instant::now()),
        kubelet_away: known.away.as_ref().map(|away| away.as_str()),
    }
}
