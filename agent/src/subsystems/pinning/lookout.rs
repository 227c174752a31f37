//! What the subsystem remembers between two looks at the node: who refused to write, which threads were seen, and how
//! long containers ran before they were pinned. All of it is lost with the process, and may be.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;
use trimtab_domain::workload::ContainerId;

use super::facts::CPUS;
use super::step::{FileWrite, FirstPin};
use crate::ports::threads::ThreadMasks;
use crate::reconcile::node_view::{LatePins, Lateness};

/// Shortest time between two looks at all threads: each reads a file of every process of the host.
const THREADS_PAUSE: Duration = Duration::from_secs(5);
/// Looks for which a container counts as new; a pass makes two.
const LOOKS_AS_NEW: u32 = 4;

/// The memory. Locked for single statements, never over an await.
#[derive(Debug, Default)]
pub(super) struct Lookout {
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    refused_by_runtime: BTreeSet<ContainerId>,
    refused_by_systemd: bool,
    /// No answer to what the runtime had not asked for; each would be waited for anew.
    silent_over_nri: bool,
    /// True while the masks that are known say nothing of the present.
    threads_wanted: bool,
    threads_seen: Option<Instant>,
    masks: BTreeMap<ContainerId, ThreadMasks>,
    /// When the containers were looked at last; absent before the first time.
    looked: Option<i64>,
    /// The containers of the last look; the new ones with the number of looks that have seen them.
    present: BTreeMap<ContainerId, Option<Newcomer>>,
    late: LatePins,
}

#[derive(Debug, Clone, Copy)]
struct Newcomer {
    pin: FirstPin,
    looks: u32,
}

impl Lookout {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        // A panic elsewhere leaves nothing half written here.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything is to be tried and looked at again.
    pub(super) fn forget(&self) {
        let mut memory = self.memory();
        memory.refused_by_runtime.clear();
        memory.refused_by_systemd = false;
        memory.silent_over_nri = false;
        memory.threads_wanted = true;
        memory.threads_seen = None;
    }

    pub(super) fn runtime_refused(&self, id: &ContainerId) {
        self.memory().refused_by_runtime.insert(id.clone());
    }

    pub(super) fn units_refused(&self) {
        self.memory().refused_by_systemd = true;
    }

    pub(super) fn plugin_silent(&self) {
        self.memory().silent_over_nri = true;
    }

    pub(super) fn plugin_is_silent(&self) -> bool {
        self.memory().silent_over_nri
    }

    /// Takes out the containers that the runtime has refused to change.
    pub(super) fn without_refused(&self, mut known: BTreeSet<ContainerId>) -> BTreeSet<ContainerId> {
        let memory = self.memory();
        known.retain(|id| !memory.refused_by_runtime.contains(id));
        known
    }

    pub(super) fn systemd_refuses(&self) -> bool {
        self.memory().refused_by_systemd
    }

    /// True if the threads should be looked at now.
    pub(super) fn wants_threads(&self) -> bool {
        let memory = self.memory();
        let rested = memory.threads_seen.is_none_or(|seen| seen.elapsed() >= THREADS_PAUSE);
        rested && (memory.threads_wanted || memory.threads_seen.is_none())
    }

    pub(super) fn saw_threads(&self, masks: BTreeMap<ContainerId, ThreadMasks>) {
        let mut memory = self.memory();
        memory.threads_wanted = false;
        memory.threads_seen = Some(Instant::now());
        memory.masks = masks;
    }

    /// The masks as they were seen last, without those of containers whose CPUs have been written since.
    pub(super) fn masks(&self) -> BTreeMap<ContainerId, ThreadMasks> {
        self.memory().masks.clone()
    }

    /// Notes who is there. `created_ns` tells when a container was made where somebody knows; else it was made after
    /// the last look. Returns those that are new. Without an agent before this one (`taken_over`) nobody is new at the
    /// first look: they ran unpinned because nobody pinned.
    pub(super) fn saw_containers<'a>(
        &self,
        containers: impl Iterator<Item = &'a ContainerId>,
        taken_over: bool,
        created_ns: impl Fn(&ContainerId) -> Option<i64>,
    ) -> BTreeMap<ContainerId, FirstPin> {
        let mut memory = self.memory();
        let before = std::mem::take(&mut memory.present);
        let (looked, at_start) = (memory.looked, memory.looked.is_none());
        memory.present = containers
            .map(|id| {
                let newcomer = match before.get(id) {
                    Some(Some(known)) if known.looks < LOOKS_AS_NEW => {
                        Some(Newcomer { looks: known.looks + 1, ..*known })
                    }
                    Some(_) => None,
                    None if at_start && !taken_over => None,
                    None => {
                        let pin = FirstPin { since_ns: created_ns(id).or(looked), at_start };
                        Some(Newcomer { pin, looks: 1 })
                    }
                };
                (id.clone(), newcomer)
            })
            .collect();
        memory.looked = Some(now_ns());
        memory.present.iter().filter_map(|(id, newcomer)| Some((id.clone(), newcomer.as_ref()?.pin))).collect()
    }

    /// Takes note of a write that was made.
    pub(super) fn written(&self, write: &FileWrite) {
        if write.file != CPUS {
            return;
        }
        let mut memory = self.memory();
        memory.masks.retain(|id, _| !write.path.contains(&id.0));
        memory.threads_wanted = true;
        let Some(pin) = write.first_pin else { return };
        let lateness = if pin.at_start { &mut memory.late.at_start } else { &mut memory.late.later };
        lateness.count += 1;
        if let Some(since) = pin.since_ns {
            let unpinned = Duration::from_nanos(u64::try_from(now_ns().saturating_sub(since)).unwrap_or(0));
            lateness.note(unpinned);
        }
        memory.present.iter_mut().filter(|(id, _)| write.path.contains(&id.0)).for_each(|(_, newcomer)| {
            *newcomer = None;
        });
    }

    /// How late containers were pinned so far.
    pub(super) fn late(&self) -> LatePins {
        self.memory().late
    }
}

impl Lateness {
    fn note(&mut self, unpinned: Duration) {
        self.last = Some(unpinned);
        self.longest = self.longest.max(Some(unpinned));
    }
}

fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
