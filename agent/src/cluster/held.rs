//! Fails pods that pinning refuses for good, so that whoever made them makes others, elsewhere.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::{info, warn};
use trimtab_domain::cluster::event::{Gravity, Happening};
use trimtab_domain::workload::PodUid;

use super::events::{About, AboutPod};
use crate::ports::pod_failure::{FailedPod, PodFailure, PodFailureError, PodRef};
use crate::reconcile::engine::SpecInForce;
use crate::reconcile::report::NodeReport;
use crate::subsystems::pinning::desk::{Desk, HeldContainer};

/// At most one pod is failed in this time: a controller makes a new one at once, which may come back here.
const APART: Duration = Duration::from_secs(5);
/// After a failure to fail, so long until the next try.
const AGAIN: Duration = Duration::from_secs(30);

/// The one who fails them.
pub(super) struct HeldPods {
    pub(super) desk: Arc<Desk>,
    pub(super) failure: Arc<dyn PodFailure>,
    pub(super) spec: watch::Receiver<Option<SpecInForce>>,
    /// A report is published after each pass, and a refusal wakes a pass.
    pub(super) reports: watch::Receiver<Arc<NodeReport>>,
    pub(super) events: mpsc::Sender<(About, Happening)>,
}

impl HeldPods {
    /// Fails pods for ever.
    pub(super) async fn fail(mut self) {
        let mut settled: BTreeMap<PodUid, Instant> = BTreeMap::new();
        loop {
            let held = self.desk.held();
            settled.retain(|uid, until| held.iter().any(|held| held.uid == *uid) && Instant::now() < *until);
            let next = self.next(&held, &settled);
            let wait = match next {
                Some((held, at)) if at <= Instant::now() => {
                    let pause = self.fail_one(held).await;
                    settled.insert(held.uid.clone(), Instant::now() + pause);
                    APART
                }
                Some((_, at)) => at - Instant::now(),
                None => Duration::MAX,
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                changed = self.reports.changed(), if wait > APART => if changed.is_err() { return },
                changed = self.spec.changed(), if wait > APART => if changed.is_err() { return },
            }
        }
    }

    /// The pod that is to be failed next, and when.
    fn next<'a>(
        &mut self,
        held: &'a [HeldContainer],
        settled: &BTreeMap<PodUid, Instant>,
    ) -> Option<(&'a HeldContainer, Instant)> {
        self.reports.borrow_and_update();
        let spec = self.spec.borrow_and_update();
        let wish = &spec.as_ref()?.spec.kubernetes.held_pods;
        let may_fail = |held: &&HeldContainer| wish.fail && !wish.protected_namespaces.contains(&held.namespace);
        let due = |held: &'a HeldContainer| {
            let ripe = held.fails_at(wish.fail_after)?;
            Some((held, settled.get(&held.uid).map_or(ripe, |until| ripe.max(*until))))
        };
        held.iter().filter(may_fail).filter_map(due).min_by_key(|(_, at)| *at)
    }

    /// How long it must not be tried again.
    async fn fail_one(&self, held: &HeldContainer) -> Duration {
        /// What is over stays over; a kubelet takes a while to remove the pod.
        const OVER: Duration = Duration::from_secs(600);
        let pod = PodRef { uid: held.uid.clone(), namespace: held.namespace.clone(), name: held.pod.clone() };
        let (reason, message) = (&held.refused.reason, &held.refused.message);
        match self.failure.fail(&pod, reason, message).await {
            Ok(FailedPod::Failed) => {
                info!(namespace = pod.namespace, pod = pod.name, reason, "a pod that cannot start here is failed");
                let about = AboutPod { namespace: pod.namespace, name: pod.name, uid: pod.uid.to_string() };
                let happening = Happening {
                    gravity: Gravity::Warning,
                    reason: "PodRefused",
                    action: "Refuse",
                    subject: about.uid.clone(),
                    note: format!("{reason}: {message}"),
                };
                // A full channel is a flood of events, and those are dropped.
                let _full = self.events.try_send((About::Pod(about), happening));
                OVER
            }
            Ok(FailedPod::LeftAlone(why)) => {
                info!(namespace = pod.namespace, pod = pod.name, why, "a pod that cannot start here is left as it is");
                OVER
            }
            Err(error @ (PodFailureError::Away { .. } | PodFailureError::Refused { .. })) => {
                warn!(%error, "a pod that cannot start here waits on");
                AGAIN
            }
        }
    }
}
