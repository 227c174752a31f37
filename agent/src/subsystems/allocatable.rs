//! Holds the bounds of the cgroups that the node keeps for itself (node allocatable), and keeps the system's own work
//! off the CPUs of pods. What to set, and whether it may be set at all, is decided in the domain.

mod change;
mod observe;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use trimtab_domain::allocatable::interrupt::Interrupt;
use trimtab_domain::allocatable::observation::Observation;
use trimtab_domain::allocatable::plan;
use trimtab_domain::allocatable::step::{AllocatableStep, Change};
use trimtab_domain::allocatable::wishes::{Wish, Wishes, wishes};
use trimtab_domain::cpuset::CpuSet;
use trimtab_domain::kernel::step::Occasion;
use trimtab_domain::kernel_file::{Rejection, Shown};
use trimtab_domain::plan::Plan;
use trimtab_domain::record::{LedgerChange, Original};
use trimtab_domain::reservation::AllocatableRow;
use trimtab_domain::spec::{NodeSpec, ResourceManagersSpec};

use crate::ports::cgroups::CgroupTree;
use crate::ports::hierarchies::Hierarchies;
use crate::ports::kubelet::KubeletSource;
use crate::ports::machine::MachineSource;
use crate::ports::names::Processes;
use crate::ports::units::Units;
use crate::ports::{HostFiles, Ledger, Watch};
use crate::reconcile::report::ObjectReport;
use crate::reconcile::{Error, Step, Subsystem};

/// Everything that the subsystem asks of the node.
pub struct AllocatablePorts {
    /// Files of controllers and interrupts.
    pub files: Arc<dyn HostFiles>,
    /// Where the controllers are.
    pub hierarchies: Arc<dyn Hierarchies>,
    /// Which driver is in use, and where the pods are.
    pub tree: Arc<dyn CgroupTree>,
    /// What the node has.
    pub machine: Arc<dyn MachineSource>,
    /// Whether a kubelet runs.
    pub kubelet: Arc<dyn KubeletSource>,
    /// Whether irqbalance runs.
    pub processes: Arc<dyn Processes>,
    /// systemd, for cgroups that are its units.
    pub units: Arc<dyn Units>,
    /// What was there before.
    pub ledger: Arc<dyn Ledger>,
}

/// Node allocatable.
pub struct Allocatable {
    ports: AllocatablePorts,
    /// What the kernel or systemd rejected, by object, so that it is not tried again before there is a reason to.
    rejections: Mutex<BTreeMap<String, Rejection>>,
}

/// What the node shows, and what the profile makes of it.
#[derive(Debug)]
pub struct Observed {
    seen: Observation,
    /// Host path of every file of a bound that exists.
    paths: Vec<PathBuf>,
}

impl Allocatable {
    /// Holds them through these ports.
    #[must_use]
    pub fn new(ports: AllocatablePorts) -> Self {
        Self { ports, rejections: Mutex::default() }
    }

    fn rejections(&self) -> MutexGuard<'_, BTreeMap<String, Rejection>> {
        self.rejections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Subsystem for Allocatable {
    const NAME: &'static str = "allocatable";
    type Desired = Option<ResourceManagersSpec>;
    type Observed = Observed;
    type Step = AllocatableStep;

    fn desired(spec: &NodeSpec) -> &Self::Desired {
        &spec.resource_managers
    }

    async fn observe(&self, desired: &Self::Desired) -> Result<Observed, Error> {
        let mut observed = self.look(desired.as_ref()).await?;
        observed.seen.rejections = self.rejections().clone();
        Ok(observed)
    }

    fn plan(desired: &Self::Desired, observed: &Observed) -> Plan<AllocatableStep> {
        plan::plan(desired.as_ref(), &observed.seen)
    }

    async fn apply(&self, step: &AllocatableStep) -> Result<(), Error> {
        match step.change() {
            Change::Remember(records) => {
                self.commit(&records.iter().cloned().map(LedgerChange::Promise).collect::<Vec<_>>())
            }
            Change::SetBound { knob, to, through_systemd: true, .. } => self.set_through_systemd(knob, to).await,
            Change::SetBound { knob, to, through_systemd: false, .. } => self.set_bound(knob, to),
            Change::SetInterrupt { interrupt, to, .. } => self.set_interrupt(*interrupt, to),
            Change::Forget { object, .. } => self.commit(&[LedgerChange::Forget { object: object.clone() }]),
        }
    }

    fn forget_rejections(&self) {
        self.rejections().clear();
    }

    fn objects(desired: &Self::Desired, observed: &Observed) -> Vec<ObjectReport> {
        let wishes = wishes(desired.as_ref(), &observed.seen.facts);
        let table = wishes.table.iter().map(table_object);
        let bounds = wishes.bounds.iter().map(|wish| bound_object(wish, &observed.seen));
        table.chain(bounds).chain(interrupts_object(&wishes, &observed.seen)).collect()
    }

    fn watches(desired: &Self::Desired, observed: &Observed) -> Vec<Watch> {
        let mut watches: Vec<Watch> = observed.paths.iter().cloned().map(Watch::File).collect();
        if desired.is_some() {
            // Others write the mask, we write the list: both are files of their own.
            let held = observed.seen.records.iter().filter_map(|record| Interrupt::parse(&record.object));
            for interrupt in held {
                let path = interrupt.path();
                let mask = path.strip_suffix("_list").map(|mask| Watch::File(mask.into()));
                watches.extend(mask);
                watches.push(Watch::File(path.into()));
            }
        }
        watches
    }

    fn likely_writer(object: &str) -> Option<&'static str> {
        if object.starts_with("irq/") {
            Some("irqbalance, TuneD, or the driver of the device")
        } else if object.contains(".slice/") {
            Some("systemd, which applies the properties of its units again (daemon-reload), or a kubelet")
        } else {
            Some("a kubelet with the same enforcement")
        }
    }
}

impl Step for AllocatableStep {
    fn object(&self) -> Option<&str> {
        self.object()
    }

    fn is_repair(&self) -> bool {
        match self.change() {
            Change::SetBound { occasion, .. } | Change::SetInterrupt { occasion, .. } => *occasion == Occasion::Wish,
            Change::Remember(_) | Change::Forget { .. } => false,
        }
    }
}

fn table_object(row: &AllocatableRow) -> ObjectReport {
    let mut attributes = vec![("capacity", row.capacity.to_string())];
    for (name, amount) in [
        ("kube reserved", row.kube_reserved),
        ("system reserved", row.system_reserved),
        ("eviction", row.eviction),
        ("huge pages", row.huge_pages),
    ] {
        if !amount.is_zero() {
            attributes.push((name, amount.to_string()));
        }
    }
    attributes.push(("pods' cgroup", row.pods_limit.to_string()));
    let object = format!("allocatable {}", row.resource);
    ObjectReport { object, desired: None, observed: Some(row.allocatable.to_string()), attributes }
}

fn bound_object(wish: &Wish, seen: &Observation) -> ObjectReport {
    let object = wish.knob.to_string();
    let bound = seen.bounds.get(&wish.knob);
    let shown = bound.and_then(|bound| bound.file.text()).map(str::to_owned);
    let mut attributes = vec![("for", wish.reason.as_str().to_owned())];
    attributes.extend(bound.and_then(|bound| bound.usage).map(|usage| ("in use", usage.to_string())));
    let record = seen.records.iter().find(|record| record.object == object);
    if let Some(Original::Value(original)) = record.map(|record| &record.original) {
        attributes.push(("original", original.clone()));
    }
    ObjectReport { object, desired: Some(wish.value.clone()), observed: shown, attributes }
}

/// All interrupts as one object: there are hundreds.
fn interrupts_object(wishes: &Wishes, seen: &Observation) -> Option<ObjectReport> {
    let allowed = wishes.interrupt_cpus.as_ref()?;
    let (mut used, mut outside) = (CpuSet::new(), 0);
    for (interrupt, shown) in &seen.interrupts {
        let Shown::Value(text, _) = shown else { continue };
        let Some(cpus) = interrupt.cpus(text) else { continue };
        outside += u32::from(!cpus.is_subset(allowed));
        used.insert_all(&cpus);
    }
    Some(ObjectReport {
        object: "interrupts".into(),
        desired: Some(allowed.to_string()),
        observed: Some(used.to_string()),
        attributes: vec![("seen", seen.interrupts.len().to_string()), ("elsewhere", outside.to_string())],
    })
}
