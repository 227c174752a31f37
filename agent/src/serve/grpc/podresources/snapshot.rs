//! The answers, encoded once for each change and shared from then on.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use prost::Message;
use prost::bytes::{BufMut, Bytes, BytesMut};
use trimtab_proto::podresources::v1;

use super::merge::{self, Merged};
use crate::ports::kubelet_answers::KubeletAnswers;
use crate::reconcile::node_view::NodeView;
use crate::serve::grpc::{COMMON_CLIENT_LIMIT_BYTES, unary};

/// Every answer as it leaves, and what it was made from. Never changed.
pub(super) struct Snapshot {
    view: Arc<NodeView>,
    kubelet: Option<Arc<KubeletAnswers>>,
    merged: Merged,
    list: Bytes,
    /// Where in `list` each pod is, by namespace and name. What stands there is the answer to Get: one pod is field 1 of
    /// both messages.
    pods: Vec<Place>,
    allocatable: Bytes,
    /// Made when the first old client asks.
    list_v1alpha1: OnceLock<Bytes>,
}

struct Place {
    namespace: String,
    name: String,
    bytes: Range<usize>,
}

impl Place {
    fn key(&self) -> (&str, &str) {
        (&self.namespace, &self.name)
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("pods", &self.pods.len()).finish_non_exhaustive()
    }
}

impl Snapshot {
    /// Merges and encodes.
    pub(super) fn new(view: Arc<NodeView>, kubelet: Option<Arc<KubeletAnswers>>) -> Self {
        let merged = merge::merge(&view, kubelet.as_deref());
        let (list, pods) = encode_list(&merged.pods);
        let allocatable = unary::frame(&merged.allocatable);
        warn_if_large(&list);
        Self { view, kubelet, merged, list, pods, allocatable, list_v1alpha1: OnceLock::new() }
    }

    /// True if it was made from these very objects.
    pub(super) fn is_of(&self, view: &Arc<NodeView>, kubelet: Option<&Arc<KubeletAnswers>>) -> bool {
        let same_kubelet = match (&self.kubelet, kubelet) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            _ => false,
        };
        same_kubelet && Arc::ptr_eq(&self.view, view)
    }

    pub(super) fn list(&self) -> Bytes {
        self.list.clone()
    }

    pub(super) fn allocatable(&self) -> Bytes {
        self.allocatable.clone()
    }

    pub(super) fn list_v1alpha1(&self) -> Bytes {
        self.list_v1alpha1.get_or_init(|| unary::frame(&merge::to_v1alpha1(&self.merged.pods))).clone()
    }

    /// The framed answer about one pod; `None`: it is not listed.
    pub(super) fn pod(&self, namespace: &str, name: &str) -> Option<Bytes> {
        let at = self.pods.binary_search_by(|place| place.key().cmp(&(namespace, name))).ok()?;
        let message = self.list.get(self.pods.get(at)?.bytes.clone())?;
        Some(unary::frame_encoded(message))
    }
}

/// The framed list, and where its pods are. Of two with one name the one that runs containers is found.
fn encode_list(pods: &[v1::PodResources]) -> (Bytes, Vec<Place>) {
    /// Tag of field 1, of type LEN.
    const POD_RESOURCES: u8 = 0x0a;
    let lengths: Vec<usize> = pods.iter().map(Message::encoded_len).collect();
    let total: usize = lengths.iter().map(|length| 1 + prost::length_delimiter_len(*length) + length).sum();
    let mut bytes = BytesMut::with_capacity(unary::PREFIX_BYTES + total);
    unary::put_prefix(&mut bytes, total);
    let mut places: Vec<Place> = Vec::with_capacity(pods.len());
    let mut most = 0;
    for pod in pods {
        let from = bytes.len();
        bytes.put_u8(POD_RESOURCES);
        // The buffer has room for everything, as was counted above.
        let _ = pod.encode_length_delimited(&mut bytes);
        let place = Place { namespace: pod.namespace.clone(), name: pod.name.clone(), bytes: from..bytes.len() };
        match places.last_mut().filter(|last| last.key() == place.key()) {
            Some(last) if pod.containers.len() >= most => *last = place,
            Some(_) => continue,
            None => places.push(place),
        }
        most = pod.containers.len();
    }
    (bytes.freeze(), places)
}

fn warn_if_large(list: &Bytes) {
    if list.len() > COMMON_CLIENT_LIMIT_BYTES {
        tracing::warn!(
            bytes = list.len(),
            "the list of this node's pods is larger than the 4 MiB that gRPC clients accept by default; \
             clients must raise their limit for received messages"
        );
    }
}
