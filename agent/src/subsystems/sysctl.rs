//! Holds kernel parameters below `/proc/sys`. What to write, and in which order, is decided in the domain.

mod observe;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use trimtab_domain::plan::Plan;
use trimtab_domain::record::{LedgerChange, Original};
use trimtab_domain::spec::{NodeSpec, SysctlsSpec};
use trimtab_domain::sysctl::observation::{Observation, Rejection, Shown};
use trimtab_domain::sysctl::ordered::Ordered;
use trimtab_domain::sysctl::step::{Occasion, SysctlStep};
use trimtab_domain::sysctl::wishes::{Wish, Wishes};
use trimtab_domain::sysctl::{Namespace, SysctlKey, normalize, owner, plan, safe_sysctls};

use crate::ports::{HostFiles, Ledger, Watch};
use crate::reconcile::report::ObjectReport;
use crate::reconcile::{Error, Step, Subsystem};

/// Kernel parameters of the host.
#[derive(Debug)]
pub struct Sysctl<F, L> {
    files: Arc<F>,
    ledger: Arc<L>,
    /// What the kernel rejected, so that it is not tried again before there is a reason to.
    rejections: Mutex<BTreeMap<SysctlKey, Rejection>>,
}

impl<F, L> Sysctl<F, L> {
    /// Holds them through these files, with originals in this ledger.
    pub fn new(files: Arc<F>, ledger: Arc<L>) -> Self {
        Self { files, ledger, rejections: Mutex::default() }
    }

    fn rejections(&self) -> MutexGuard<'_, BTreeMap<SysctlKey, Rejection>> {
        self.rejections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F: HostFiles, L: Ledger> Subsystem for Sysctl<F, L> {
    const NAME: &'static str = "sysctl";
    type Desired = SysctlsSpec;
    type Observed = Observation;
    type Step = SysctlStep;

    fn desired(spec: &NodeSpec) -> &SysctlsSpec {
        &spec.sysctls
    }

    async fn observe(&self, desired: &SysctlsSpec) -> Result<Observation, Error> {
        let mut seen = observe::observe(&*self.files, desired, self.ledger.records(Self::NAME))?;
        seen.rejections = self.rejections().clone();
        Ok(seen)
    }

    fn plan(desired: &SysctlsSpec, observed: &Observation) -> Plan<SysctlStep> {
        plan::plan(desired, observed)
    }

    async fn apply(&self, step: &SysctlStep) -> Result<(), Error> {
        match step {
            SysctlStep::Remember(records) => {
                let promises: Vec<_> = records.iter().cloned().map(LedgerChange::Promise).collect();
                self.commit(&promises)
            }
            SysctlStep::Write(write) => self.write(write),
            SysctlStep::GiveBack { key, to, .. } => self.give_back(key, to),
            SysctlStep::Forget(forgotten) => {
                let object = |object: &String| LedgerChange::Forget { object: object.clone() };
                self.commit(&forgotten.iter().map(|forgotten| object(&forgotten.object)).collect::<Vec<_>>())
            }
        }
    }

    fn forget_rejections(&self) {
        self.rejections().clear();
    }

    fn objects(desired: &SysctlsSpec, observed: &Observation) -> Vec<ObjectReport> {
        let wishes = Wishes::resolve(desired, &observed.expansions);
        let safe: BTreeSet<&str> = safe_sysctls(observed.kernel).collect();
        let held = wishes.wishes.iter().map(|(key, wish)| object(key, wish, observed, &safe));
        let refused = wishes.refusals.iter().map(|refusal| ObjectReport {
            object: refusal.object.clone(),
            desired: Some(refusal.wish.clone()),
            observed: SysctlKey::parse(&refusal.object).ok().and_then(|key| text(&key, observed)),
            attributes: SysctlKey::parse(&refusal.object).map(|key| class_of(&key, &safe)).unwrap_or_default(),
        });
        let mut objects: Vec<ObjectReport> = held.chain(refused).collect();
        objects.sort_by(|a, b| a.object.cmp(&b.object));
        objects
    }

    fn watches(desired: &SysctlsSpec, observed: &Observation) -> Vec<Watch> {
        let wishes = Wishes::resolve(desired, &observed.expansions);
        let present = |key: &&SysctlKey| matches!(observed.shown.get(key), Some(Shown::Value(..)));
        let files = wishes.wishes.keys().filter(present).map(|key| Watch::File(key.path()));
        // The kernel tells inotify of no file that it makes or removes itself, but it tells of the interfaces for which
        // it does; other new matches of a glob are found by the resync.
        let per_interface = desired.values.keys().any(|name| is_per_interface(name));
        files.chain(per_interface.then_some(Watch::Interfaces)).collect()
    }

    fn likely_writer(object: &str) -> Option<&'static str> {
        owner::likely_writer(object)
    }
}

impl Step for SysctlStep {
    fn object(&self) -> Option<&str> {
        match self {
            Self::Write(write) => Some(write.key.as_str()),
            Self::GiveBack { key, .. } => Some(key.as_str()),
            Self::Remember(_) | Self::Forget(_) => None,
        }
    }

    fn is_repair(&self) -> bool {
        matches!(self, Self::Write(write) if write.occasion == Occasion::Repair)
    }
}

fn text(key: &SysctlKey, observed: &Observation) -> Option<String> {
    observed.shown.get(key).and_then(Shown::text).map(str::to_owned)
}

fn object(key: &SysctlKey, wish: &Wish, observed: &Observation, safe: &BTreeSet<&str>) -> ObjectReport {
    let mut attributes = class_of(key, safe);
    attributes.extend(wish.pattern.clone().map(|pattern| ("pattern", pattern)));
    if let Some(record) = observed.records.iter().find(|record| record.object == key.as_str()) {
        if let Original::Value(original) = &record.original {
            attributes.push(("original", original.clone()));
        }
        attributes.extend(Ordered::parse(&record.ordered).read_back.map(|adjusted| ("kernel adjusts to", adjusted)));
    }
    if let Some(setting) = observed.files.get(key) {
        attributes.push(("set by file", format!("{} = {}", setting.path, setting.value)));
    }
    let (object, desired) = (key.to_string(), Some(wish.value.clone()));
    ObjectReport { object, desired, observed: text(key, observed), attributes }
}

/// The kubelet's view of the key: whether a pod may set it, and what it is private to.
fn class_of(key: &SysctlKey, safe: &BTreeSet<&str>) -> Vec<(&'static str, String)> {
    let namespace = Namespace::of(key.as_str());
    let class = match namespace {
        Some(_) if safe.contains(key.as_str()) => "safe",
        Some(_) => "unsafe",
        None => "not settable by pods",
    };
    let scope = match namespace {
        Some(Namespace::Ipc) => "IPC namespace",
        Some(Namespace::Net) => "network namespace",
        None => "node",
    };
    let mut attributes = vec![("class", class.to_owned()), ("scope", scope.to_owned())];
    attributes.extend(owner::owner_of(key).map(|ownership| ("owner", ownership.owner.as_str().to_owned())));
    attributes
}

/// True if the keys that a name means come and go with interfaces.
fn is_per_interface(name: &str) -> bool {
    let name = normalize(name);
    let mut parts = name.split('.');
    parts.next() == Some("net") && parts.nth(1).is_some_and(|part| matches!(part, "conf" | "neigh" | "*"))
}
