//! Containers that are refused at the moment, and so keep their pods from starting.

use std::collections::BTreeMap;
use std::time::SystemTime;

use tokio::time::Instant;
use trimtab_domain::roster::Sandbox;
use trimtab_domain::workload::PodUid;

use crate::ports::admission::Refused;

/// A container that was refused and has not been created since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldContainer {
    /// Its pod.
    pub uid: PodUid,
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
    /// Its name.
    pub container: String,
    /// True for a pod from a file of the node, which nobody else can start again.
    pub static_pod: bool,
    /// The answer that it got last.
    pub refused: Refused,
    /// When it was refused first.
    pub since: SystemTime,
    /// The same by the clock that nobody sets.
    pub first: Instant,
    /// How often it was refused; the kubelet tries again with growing pauses.
    pub tries: u32,
}

/// Annotation of the kubelet with the source of a pod (`file`, `http`, `api`).
const SOURCE: &str = "kubernetes.io/config.source";
/// Annotation of mirror pods.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// All of them.
#[derive(Debug, Default)]
pub(super) struct HeldContainers(BTreeMap<(PodUid, String), HeldContainer>);

impl HeldContainers {
    pub(super) fn refuse(&mut self, sandbox: &Sandbox, container: &str, refused: &Refused) {
        let key = (sandbox.uid.clone(), container.to_owned());
        let annotation = |key| sandbox.annotations.get(key).map(String::as_str);
        let held = self.0.entry(key).or_insert_with(|| HeldContainer {
            uid: sandbox.uid.clone(),
            namespace: sandbox.namespace.clone(),
            pod: sandbox.name.clone(),
            container: container.to_owned(),
            static_pod: matches!(annotation(SOURCE), Some("file" | "http")) || annotation(MIRROR).is_some(),
            refused: refused.clone(),
            since: SystemTime::now(),
            first: Instant::now(),
            tries: 0,
        });
        held.refused.clone_from(refused);
        held.tries = held.tries.saturating_add(1);
    }

    pub(super) fn created(&mut self, uid: &PodUid, container: &str) {
        self.0.remove(&(uid.clone(), container.to_owned()));
    }

    pub(super) fn retain_pods(&mut self, lives: impl Fn(&PodUid) -> bool) {
        self.0.retain(|(uid, _), _| lives(uid));
    }

    pub(super) fn list(&self) -> Vec<HeldContainer> {
        self.0.values().cloned().collect()
    }
}
