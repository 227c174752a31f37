//! The merged hints of running and admitted containers.

use std::collections::BTreeMap;

use crate::hint::TopologyHint;
use crate::workload::PodUid;

/// Merged hints by pod and container; nothing is stored under policy `none`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct StoredHints(BTreeMap<PodUid, BTreeMap<String, TopologyHint>>);

impl StoredHints {
    /// Remembers the hint of a container, instead of any older one.
    pub(super) fn store(&mut self, pod: &PodUid, container: &str, hint: TopologyHint) {
        if !self.0.contains_key(pod) {
            self.0.insert(pod.clone(), BTreeMap::new());
        }
        let Some(containers) = self.0.get_mut(pod) else { return };
        match containers.get_mut(container) {
            Some(stored) => *stored = hint,
            None => drop(containers.insert(container.to_owned(), hint)),
        }
    }

    /// The hint of a container, if one is stored.
    pub(super) fn of(&self, pod: &PodUid, container: &str) -> Option<TopologyHint> {
        self.0.get(pod)?.get(container).copied()
    }

    /// Forgets a pod.
    pub(super) fn forget(&mut self, pod: &PodUid) {
        self.0.remove(pod);
    }

    /// Forgets a container.
    pub(super) fn forget_container(&mut self, pod: &PodUid, container: &str) {
        if let Some(containers) = self.0.get_mut(pod) {
            containers.remove(container);
            if containers.is_empty() {
                self.0.remove(pod);
            }
        }
    }
}
