//! Signs of somebody else who pins, as they show in what the runtime is asked to do.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use trimtab_domain::roster::{Sandbox, SandboxContainer};
use trimtab_domain::workload::ContainerId;

/// Annotations by which CRI-O's high-performance hooks take over the CPUs of a container (CRI-O,
/// `internal/runtimehandlerhooks`).
const CRIO_ANNOTATIONS: [&str; 4] =
    ["cpu-load-balancing.crio.io", "cpu-quota.crio.io", "irq-load-balancing.crio.io", "cpu-shared.crio.io"];
/// So many containers whose sets somebody else changes are no slip of a hand.
const CONTAINERS_OF_A_PINNER: usize = 2;
/// Within this time: a program does it again and again, a hand once in a while.
const WINDOW: Duration = Duration::from_secs(600);

/// The evidence so far.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ForeignPinner {
    /// Why CPUs are somebody else's; `None`: no sign.
    pub cpus: Option<String>,
    /// The same for memory.
    pub mems: Option<String>,
    /// Containers whose sets were changed by a request that was not ours, and when that was last.
    changed: BTreeMap<ContainerId, Instant>,
}

impl ForeignPinner {
    /// Looks at a container that is about to be made. True if that told something new.
    pub(super) fn look_at_new(&mut self, runtime: &str, sandbox: &Sandbox, container: &SandboxContainer) -> bool {
        let before = (self.cpus.is_some(), self.mems.is_some());
        let who = format!("{}/{}/{}", sandbox.namespace, sandbox.name, container.name);
        let told = container.resources.as_ref();
        if let Some(told) = told.filter(|told| !told.cpus.is_empty()) {
            self.cpus.get_or_insert_with(|| {
                format!(
                    "container {who} was to be created with CPUs {}: a static CPU manager or another NRI plugin",
                    told.cpus
                )
            });
        }
        if let Some(told) = told.filter(|told| !told.mems.is_empty()) {
            self.mems.get_or_insert_with(|| {
                format!(
                    "container {who} was to be created with memory nodes {}: a static memory manager or another NRI plugin",
                    told.mems
                )
            });
        }
        self.look_at_pod(runtime, sandbox);
        before != (self.cpus.is_some(), self.mems.is_some())
    }

    /// Looks at the annotations of a pod. True if they told something new.
    pub(super) fn look_at_pod(&mut self, runtime: &str, sandbox: &Sandbox) -> bool {
        if runtime != "cri-o" || self.cpus.is_some() {
            return false;
        }
        let hook = CRIO_ANNOTATIONS.iter().find_map(|name| {
            let found = sandbox.annotations.keys().find(|key| key.starts_with(name))?;
            Some(format!(
                "annotation {found} of pod {}/{} asks hooks of CRI-O to pin it",
                sandbox.namespace, sandbox.name
            ))
        });
        self.cpus = hook;
        self.cpus.is_some()
    }

    /// Notes a change of sets that nobody here has asked for. One alone may be a hand, and is undone; several are a
    /// program that would do it again and again.
    pub(super) fn note_change(&mut self, id: &ContainerId, who: &str, cpus: &str) {
        if self.cpus.is_some() {
            return;
        }
        let now = Instant::now();
        self.changed.retain(|_, last| now.duration_since(*last) < WINDOW);
        self.changed.insert(id.clone(), now);
        let count = self.changed.len();
        if count >= CONTAINERS_OF_A_PINNER {
            self.changed.clear();
            self.cpus = Some(format!(
                "somebody set the CPUs of {count} containers, last of {who} to {cpus}: a static CPU manager or another NRI plugin"
            ));
        }
    }

    /// A container is over: what was done to it is no sign any more.
    pub(super) fn bury(&mut self, id: &ContainerId) {
        self.changed.remove(id);
    }
}
