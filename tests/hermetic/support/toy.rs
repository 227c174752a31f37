//! A subsystem small enough that only the engine is under test: keys with values, no ledger.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use trimtab::ports::{DriftEvents, Watch};
use trimtab::reconcile::report::ObjectReport;
use trimtab::reconcile::{Error, Step, Subsystem};
use trimtab_domain::plan::{Plan, Stage};
use trimtab_domain::spec::{NodeSpec, SysctlsSpec};

/// The node: shared with the test, which plays the other programs.
#[derive(Debug, Default)]
pub(crate) struct ToyNode {
    pub(crate) values: Mutex<BTreeMap<String, String>>,
    /// Keys whose write fails until removed; the class is in the value.
    pub(crate) broken: Mutex<BTreeMap<String, trimtab::reconcile::Class>>,
    /// Keys that another program sets back right after each write of ours.
    pub(crate) contested: Mutex<BTreeSet<String>>,
    pub(crate) observations: Mutex<u64>,
    pub(crate) writes: Mutex<Vec<String>>,
    /// A write of the first key makes another program change the second one to this value, once.
    pub(crate) meddling: Mutex<Option<(String, String, String)>>,
    /// Cancelled by the write of this key, as if SIGTERM came in mid-plan.
    pub(crate) on_write: Mutex<Option<(String, tokio_util::sync::CancellationToken)>>,
}

/// A key that stands for the agent's own book, as a ledger does: its steps have no object, and all read alike.
pub(crate) const BOOK: &str = "book";

#[derive(Debug, Clone)]
pub(crate) struct ToyStep {
    pub(crate) key: String,
    pub(crate) old: Option<String>,
    pub(crate) new: String,
}

impl fmt::Display for ToyStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key == BOOK {
            return write!(f, "{BOOK}: remember 1");
        }
        write!(f, "{}: {} -> {}", self.key, self.old.as_deref().unwrap_or("absent"), self.new)
    }
}

impl Step for ToyStep {
    fn object(&self) -> Option<&str> {
        (self.key != BOOK).then_some(&self.key)
    }
}

pub(crate) struct Toy(pub(crate) Arc<ToyNode>);

impl Subsystem for Toy {
    const NAME: &'static str = "toy";
    type Desired = SysctlsSpec;
    type Observed = BTreeMap<String, String>;
    type Step = ToyStep;

    fn desired(spec: &NodeSpec) -> &SysctlsSpec {
        &spec.sysctls
    }

    async fn observe(&self, _desired: &SysctlsSpec) -> Result<Self::Observed, Error> {
        *self.0.observations.lock().unwrap() += 1;
        Ok(self.0.values.lock().unwrap().clone())
    }

    fn plan(desired: &SysctlsSpec, observed: &Self::Observed) -> Plan<ToyStep> {
        let mut plan = Plan::default();
        let steps = desired.values.iter().filter(|(key, value)| observed.get(*key) != Some(value));
        plan.push_stage(
            steps
                .map(|(key, value)| ToyStep { key: key.clone(), old: observed.get(key).cloned(), new: value.clone() })
                .collect::<Stage<_>>(),
        );
        plan
    }

    async fn apply(&self, step: &ToyStep) -> Result<(), Error> {
        if let Some(class) = self.0.broken.lock().unwrap().get(&step.key) {
            let what = format!("cannot write {}", step.key);
            return Err(Error { class: *class, what, source: None });
        }
        self.0.writes.lock().unwrap().push(step.key.clone());
        if !self.0.contested.lock().unwrap().contains(&step.key) {
            self.0.values.lock().unwrap().insert(step.key.clone(), step.new.clone());
        }
        let meddling = self.0.meddling.lock().unwrap().take_if(|(key, ..)| *key == step.key);
        if let Some((_, other, value)) = meddling {
            self.0.values.lock().unwrap().insert(other, value);
        }
        if let Some((key, cancel)) = &*self.0.on_write.lock().unwrap()
            && *key == step.key
        {
            cancel.cancel();
        }
        Ok(())
    }

    fn objects(desired: &SysctlsSpec, observed: &Self::Observed) -> Vec<ObjectReport> {
        desired
            .values
            .iter()
            .map(|(key, value)| ObjectReport {
                object: key.clone(),
                desired: Some(value.clone()),
                observed: observed.get(key).cloned(),
                attributes: Vec::new(),
            })
            .collect()
    }

    /// A profile may name it, in seconds, as the key `resync`.
    fn resync(desired: &SysctlsSpec, _observed: &Self::Observed) -> Option<Duration> {
        desired.values.get("resync")?.parse().ok().map(Duration::from_secs)
    }

    fn watches(desired: &SysctlsSpec, _observed: &Self::Observed) -> Vec<Watch> {
        desired.values.keys().map(|key| Watch::File(key.into())).collect()
    }

    fn is_risky(object: &str) -> bool {
        object.starts_with("net.")
    }

    fn likely_writer(object: &str) -> Option<&'static str> {
        (object == "contested").then_some("the other program")
    }
}

/// Events that the test sends by hand.
#[derive(Debug, Default)]
pub(crate) struct HandEvents {
    pub(crate) waker: Arc<Notify>,
    pub(crate) watched: Mutex<Vec<Watch>>,
}

impl DriftEvents for HandEvents {
    fn subscribe(&self, _subsystem: &'static str) -> Arc<Notify> {
        Arc::clone(&self.waker)
    }

    fn watch(&self, _subsystem: &'static str, watches: &[Watch]) {
        *self.watched.lock().unwrap() = watches.to_vec();
    }
}
