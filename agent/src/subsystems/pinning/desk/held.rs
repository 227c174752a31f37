//! Containers that are refused at the moment, and so keep their pods from starting.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use trimtab_domain::roster::Sandbox;
use trimtab_domain::roster::identity::{PodOrigin, origin};
use trimtab_domain::workload::PodUid;

use super::create::NOT_READY;
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

impl HeldContainer {
    /// When its pod should be failed by somebody who can, if pods are after this time; `None`: never. A pod from a file of
    /// the node is not, since nobody would make it again; nor is one that was only asked to wait for the first pass, or
    /// that nobody has tried to start a second time.
    #[must_use]
    pub fn fails_at(&self, hold: Duration) -> Option<Instant> {
        let for_good = !self.static_pod && self.tries > 1 && self.refused.reason != NOT_READY;
        for_good.then_some(self.first + hold)
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct HeldContainers(BTreeMap<(PodUid, String), HeldContainer>);

impl HeldContainers {
    pub(super) fn refuse(&mut self, sandbox: &Sandbox, container: &str, refused: &Refused) {
        let key = (sandbox.uid.clone(), container.to_owned());
        let held = self.0.entry(key).or_insert_with(|| HeldContainer {
            uid: sandbox.uid.clone(),
            namespace: sandbox.namespace.clone(),
            pod: sandbox.name.clone(),
            container: container.to_owned(),
            static_pod: origin(&sandbox.annotations).exact() == Some(&PodOrigin::Static),
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use trimtab_domain::roster::SandboxId;
    use trimtab_domain::workload::Labels;

    use super::*;

    fn sandbox(source: &str) -> Sandbox {
        Sandbox {
            id: SandboxId("s".into()),
            uid: PodUid("u".into()),
            namespace: "shop".into(),
            name: "pod".into(),
            labels: Labels::default(),
            annotations: Labels::from([("kubernetes.io/config.source".to_owned(), source.to_owned())]),
            runtime_handler: String::new(),
            cgroup_parent: String::new(),
            ready: true,
            created_at_ns: 0,
            pod_resources: None,
        }
    }

    #[test]
    fn a_pod_is_failed_after_its_hold_unless_it_is_static() {
        let refused = Refused { reason: "TopologyAffinityError".into(), message: "no".into() };
        let hold = Duration::from_secs(60);
        for (source, after, expected) in
            [("api", 59, false), ("api", 60, true), ("file", 3600, false), ("http", 3600, false)]
        {
            let mut held = HeldContainers::default();
            held.refuse(&sandbox(source), "main", &refused);
            held.refuse(&sandbox(source), "main", &refused);
            let held = held.list().pop().unwrap();
            assert_eq!(held.tries, 2);
            let now = held.first + Duration::from_secs(after);
            assert_eq!(held.fails_at(hold).is_some_and(|at| at <= now), expected, "{source} after {after} s");
        }
    }

    #[test]
    fn nobody_is_failed_at_the_first_try_or_before_the_first_pass() {
        let mut held = HeldContainers::default();
        let refused = |reason: &str| Refused { reason: reason.into(), message: "no".into() };
        held.refuse(&sandbox("api"), "once", &refused("TopologyAffinityError"));
        held.refuse(&sandbox("api"), "early", &refused(NOT_READY));
        held.refuse(&sandbox("api"), "early", &refused(NOT_READY));
        assert!(held.list().iter().all(|held| held.fails_at(Duration::ZERO).is_none()));
    }

    #[test]
    fn what_is_created_or_over_is_held_no_more() {
        let refused = Refused { reason: "r".into(), message: "m".into() };
        let mut held = HeldContainers::default();
        held.refuse(&sandbox("api"), "a", &refused);
        held.refuse(&sandbox("api"), "b", &refused);
        held.created(&PodUid("u".into()), "a");
        assert_eq!(held.list().iter().map(|held| held.container.as_str()).collect::<Vec<_>>(), ["b"]);
        held.retain_pods(|_| false);
        assert!(held.list().is_empty());
    }
}
