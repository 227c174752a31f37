//! What is being stopped, as far as a runtime tells.
//!
//! A kubelet stops all containers of a pod at once and the sandbox when they are over. So a container is known to be
//! stopping if it runs in a sandbox that is not ready, and taken to be if another container of its pod ended within the grace
//! period, after this one was made, and was not made again: what crashes for the first time is made again at once, and init
//! containers are over before the others are made. One that has crashed before may only wait for its next start.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;
use trimtab_domain::roster::{SandboxContainer, SandboxId};
use trimtab_domain::workload::ContainerId;

use super::convert::ListedSandbox;
use crate::ports::runtime::Terminating;

/// Grace periods in seconds, which the kubelet notes on each container: that of the pod, and that of a deletion which was
/// under way when the container was made.
const GRACE_PERIODS: [&str; 2] = ["io.kubernetes.pod.deletionGracePeriod", "io.kubernetes.pod.terminationGracePeriod"];
/// The API server's default.
const DEFAULT_GRACE: Duration = Duration::from_secs(30);
/// How often the kubelet has made a container anew.
const RESTARTS: &str = "io.kubernetes.container.restartCount";

/// When each stop was first seen, and when containers have ended.
#[derive(Debug, Default)]
pub(super) struct Stopping {
    since: BTreeMap<ContainerId, Instant>,
    ends: BTreeMap<ContainerId, i64>,
}

/// What a runtime lists.
pub(super) struct Listed {
    /// Containers that run.
    pub(super) running: Vec<SandboxContainer>,
    /// Containers that are over.
    pub(super) exited: Vec<SandboxContainer>,
    /// Sandboxes that are not ready.
    pub(super) stopped: Vec<ListedSandbox>,
}

impl Listed {
    fn is_stopped(&self, id: &SandboxId) -> bool {
        self.stopped.iter().any(|sandbox| sandbox.id == *id)
    }

    /// Containers that are over for the first time, beside others that run in a ready sandbox.
    fn ended_beside(&self) -> impl Iterator<Item = &SandboxContainer> {
        let beside = |over: &SandboxContainer| {
            let again = |c: &SandboxContainer| c.sandbox == over.sandbox && c.name == over.name;
            self.running.iter().any(|c| c.sandbox == over.sandbox) && !self.running.iter().any(again)
        };
        let first = |c: &SandboxContainer| c.annotations.get(RESTARTS).is_none_or(|count| count == "0");
        self.exited.iter().filter(move |over| !self.is_stopped(&over.sandbox) && first(over) && beside(over))
    }
}

impl Stopping {
    /// Containers whose end has to be asked for.
    pub(super) fn unknown_ends(&mut self, listed: &Listed) -> Vec<ContainerId> {
        let over: BTreeSet<&ContainerId> = listed.ended_beside().map(|container| &container.id).collect();
        self.ends.retain(|id, _| over.contains(id));
        over.into_iter().filter(|id| !self.ends.contains_key(*id)).cloned().collect()
    }

    /// A container ended at this time, in nanoseconds since the epoch.
    pub(super) fn ended(&mut self, id: ContainerId, finished_ns: i64) {
        self.ends.insert(id, finished_ns);
    }

    /// Looks at what runs and at what does not.
    pub(super) fn look(&mut self, listed: &Listed) -> Terminating {
        let now = Instant::now();
        let stopping: Vec<&SandboxContainer> =
            listed.running.iter().filter(|container| listed.is_stopped(&container.sandbox)).collect();
        self.since.retain(|id, _| stopping.iter().any(|container| container.id == *id));
        let mut longest = None;
        for container in stopping {
            let since = *self.since.entry(container.id.clone()).or_insert(now);
            let left = grace(container).saturating_sub(now.duration_since(since));
            longest = longest.max(Some(left));
        }
        let beside = listed.ended_beside().filter_map(|over| Some((over, *self.ends.get(&over.id)?)));
        for (over, end) in beside {
            let along = |c: &&SandboxContainer| c.sandbox == over.sandbox && c.created_at_ns < end;
            let left = listed.running.iter().filter(along).map(|c| grace(c).saturating_sub(age(end))).max();
            longest = longest.max(left.filter(|left| !left.is_zero()));
        }
        Terminating { longest }
    }
}

/// Time since a moment in nanoseconds since the epoch.
fn age(moment_ns: i64) -> Duration {
    let then = Duration::from_nanos(u64::try_from(moment_ns).unwrap_or(0));
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(then)
}

fn grace(container: &SandboxContainer) -> Duration {
    let told = GRACE_PERIODS.iter().find_map(|name| container.annotations.get(name)?.parse().ok());
    told.map_or(DEFAULT_GRACE, Duration::from_secs)
}
