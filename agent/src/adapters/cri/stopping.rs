//! What is being stopped, as far as a runtime tells: a container that runs in a sandbox that is not ready.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use trimtab_domain::roster::SandboxContainer;
use trimtab_domain::workload::ContainerId;

use super::convert::ListedSandbox;
use crate::ports::runtime::Terminating;

/// Grace periods in seconds, which the kubelet notes on each container: that of the pod, and that of a deletion which was
/// under way when the container was made.
const GRACE_PERIODS: [&str; 2] = ["io.kubernetes.pod.deletionGracePeriod", "io.kubernetes.pod.terminationGracePeriod"];
/// The API server's default.
const DEFAULT_GRACE: Duration = Duration::from_secs(30);

/// When each stop was first seen.
#[derive(Debug, Default)]
pub(super) struct Stopping {
    since: BTreeMap<ContainerId, Instant>,
}

impl Stopping {
    /// Looks at what runs and at the sandboxes that do not.
    pub(super) fn look(&mut self, running: &[SandboxContainer], stopped: &[ListedSandbox]) -> Terminating {
        let now = Instant::now();
        let stopping: Vec<&SandboxContainer> =
            running.iter().filter(|c| stopped.iter().any(|sandbox| sandbox.id == c.sandbox)).collect();
        self.since.retain(|id, _| stopping.iter().any(|container| container.id == *id));
        let mut longest = None;
        for container in stopping {
            let since = *self.since.entry(container.id.clone()).or_insert(now);
            let left = grace(container).saturating_sub(now.duration_since(since));
            longest = longest.max(Some(left));
        }
        Terminating { longest, possible: running.iter().map(grace).max().unwrap_or_default() }
    }
}

fn grace(container: &SandboxContainer) -> Duration {
    let told = GRACE_PERIODS.iter().find_map(|name| container.annotations.get(*name)?.parse().ok());
    told.map_or(DEFAULT_GRACE, Duration::from_secs)
}
