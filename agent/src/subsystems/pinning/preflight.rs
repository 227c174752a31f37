//! Asks the kubelet whether it gives CPUs out itself: at the start and whenever everything is looked at anew, never more
//! often, and never while a runtime waits.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use trimtab_domain::cpuset::CpuSet;
use trimtab_domain::spec::ResourceManagersSpec;

use crate::ports::kubelet::KubeletAllocatable;

/// The question and the last answer.
#[derive(Default)]
pub(super) struct Preflight {
    kubelet: Option<Arc<dyn KubeletAllocatable>>,
    /// `None`: to be asked.
    answer: Mutex<Option<CpuSet>>,
}

impl Preflight {
    pub(super) fn asking(kubelet: Arc<dyn KubeletAllocatable>) -> Self {
        Self { kubelet: Some(kubelet), answer: Mutex::default() }
    }

    /// The next look asks anew.
    pub(super) fn ask_again(&self) {
        *self.answer() = None;
    }

    /// CPUs that the kubelet gives out; empty where it does not answer. A kubelet that does not answer now is asked again
    /// by the next pass that looks at everything.
    pub(super) async fn kubelet_cpus(&self, desired: Option<&ResourceManagersSpec>) -> CpuSet {
        // Who wishes nothing need not know.
        if desired.is_none() {
            return CpuSet::new();
        }
        let known = self.answer().clone();
        match (known, &self.kubelet) {
            (Some(cpus), _) => cpus,
            (None, None) => CpuSet::new(),
            (None, Some(kubelet)) => {
                let cpus = kubelet.exclusive_cpus().await.unwrap_or_default();
                *self.answer() = Some(cpus.clone());
                cpus
            }
        }
    }

    fn answer(&self) -> MutexGuard<'_, Option<CpuSet>> {
        // Locked for single statements.
        self.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
