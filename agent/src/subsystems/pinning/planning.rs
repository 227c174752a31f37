//! From the decision to the writes: what is ordered, what is given back, in which order.
//!
//! Stages: remember; widen the directories of pods; shrink the shared containers, and those with CPUs of their own that
//! lose some; move those that share nothing with their new set; read back; pin; read back; grow and give back; narrow the
//! directories again; lift and give back the bounds of CPU time; forget.

mod containers;
mod directories;
mod owners;
mod quota;
mod restore;

use std::collections::BTreeMap;

use trimtab_domain::cgroup::Version;
use trimtab_domain::cgroup::tree::{Cpuset, PodTree};
use trimtab_domain::cpuset::CpuSet;
use trimtab_domain::plan::{Cause, Finding, Plan, Refusal, Severity, Stage};
use trimtab_domain::record::{LedgerChange, Original, Record};
use trimtab_domain::spec::ResourceManagersSpec;

use self::owners::Owners;
use super::decide::{Decision, Rule, settings};
use super::facts::{self, CPUS, MEMS, Observed, file_object};
use super::lateness;
use super::placement_record;
use super::readback;
use super::step::{Expected, FileWrite, PinStep};
use super::writers::Via;

/// When a write is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum When {
    WidenRoot,
    WidenClasses,
    WidenPods,
    Shrink,
    Move,
    ReadShrunk,
    Pin,
    ReadPinned,
    Grow,
    NarrowPods,
    NarrowClasses,
    NarrowRoot,
    // Last, so that a bound that cannot be changed keeps nobody from its CPUs.
    LiftPods,
    LiftContainers,
    BoundContainers,
    BoundPods,
}

/// What the profile says of how far the agent goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// Containers with exclusive CPUs have no bound of CPU time.
    pub(super) lift_quota: bool,
    /// Memory nodes of running containers are changed although their pages move.
    pub(super) migrate_memory: bool,
}

impl Limits {
    /// As the profile says; without a section nothing goes far.
    pub(super) fn of(spec: Option<&ResourceManagersSpec>) -> Self {
        Self {
            lift_quota: spec.is_some_and(ResourceManagersSpec::lifts_cpu_quota),
            migrate_memory: spec.is_some_and(|spec| spec.extensions.migrate_memory),
        }
    }
}

/// Makes the plan of a pass.
pub(super) fn plan(decision: &Decision, observed: &Observed, limits: Limits) -> Plan<PinStep> {
    let mut planner = Planner::new(decision, observed, limits);
    planner.plan.refusals.clone_from(&decision.refusals);
    planner.plan.findings.clone_from(&decision.findings);
    planner.plan.findings.extend(lateness::findings(decision, observed));
    if (decision.cpus, decision.mems) == (Rule::LeaveAlone, Rule::LeaveAlone) {
        return planner.plan;
    }
    if let Some(tree) = &observed.tree {
        planner.plan_tree(tree);
    }
    planner.plan_strays();
    planner.finish()
}

/// The work on one plan.
struct Planner<'a> {
    decision: &'a Decision,
    observed: &'a Observed,
    limits: Limits,
    /// True if an empty text means "as the cgroup above" (version 2); on version 1 it means "nothing".
    inherits: bool,
    usable: [(&'static str, CpuSet); 2],
    /// Who has CPUs of its own, and where it is.
    owners: Owners,
    /// Texts as they are after the writes planned so far.
    texts: BTreeMap<String, String>,
    before: Vec<LedgerChange>,
    after: Vec<LedgerChange>,
    stages: BTreeMap<When, Stage<PinStep>>,
    /// What is read back after others were asked to write it.
    expected: BTreeMap<When, Vec<Expected>>,
    plan: Plan<PinStep>,
}

impl<'a> Planner<'a> {
    fn new(decision: &'a Decision, observed: &'a Observed, limits: Limits) -> Self {
        Self {
            decision,
            observed,
            limits,
            inherits: observed.tree.as_ref().is_none_or(|tree| tree.version == Version::V2),
            usable: [(CPUS, observed.usable_cpus()), (MEMS, observed.usable_mems())],
            owners: Owners::new(decision, observed),
            texts: BTreeMap::new(),
            before: Vec::new(),
            after: Vec::new(),
            stages: BTreeMap::new(),
            expected: BTreeMap::new(),
            plan: Plan::default(),
        }
    }

    fn rule(&self, file: &str) -> Rule {
        if file == CPUS { self.decision.cpus } else { self.decision.mems }
    }

    fn usable(&self, file: &str) -> CpuSet {
        self.usable.iter().find(|(name, _)| *name == file).map(|(_, set)| set.clone()).unwrap_or_default()
    }

    fn plan_tree(&mut self, tree: &PodTree) {
        if self.decision.cpus == Rule::Enforce && tree.root.cpus.is_none() {
            self.plan.refusals.push(Refusal {
                object: file_object(&tree.root.path, CPUS),
                wish: "exclusive CPUs".into(),
                cause: Cause::Absent,
                detail: "the controller cpuset is not enabled for the directory of all pods; enable it in \
                         cgroup.subtree_control of the cgroup above, or let the kubelet do so"
                    .into(),
            });
            return;
        }
        for file in [CPUS, MEMS] {
            self.plan_directories(tree, file);
        }
        let granted = facts::effective(&tree.root, CPUS);
        for pod in &tree.pods {
            let real: Vec<&str> = self.observed.containers(pod).map(|c| c.cpuset.path.as_str()).collect();
            for container in &pod.containers {
                let is_real = real.contains(&container.cpuset.path.as_str());
                self.plan_container(pod, container, is_real);
                if is_real {
                    self.plan.findings.extend(readback::findings(self.decision, self.observed, pod, container));
                }
            }
        }
        self.plan_quotas(tree);
        if self.decision.cpus == Rule::Enforce && self.decision.shared.is_empty() {
            self.plan.findings.push(Finding {
                severity: Severity::Error,
                code: "pinning-shared-pool-empty",
                object: tree.root.path.clone(),
                message: format!(
                    "all of the CPUs {} are given out, so the other containers are left where they are",
                    granted.unwrap_or_default()
                ),
                remedy: "reserve more CPUs, or do without strict-cpu-reservation".into(),
            });
        }
    }

    /// Records that are no longer about the tree.
    fn plan_strays(&mut self) {
        for (object, text) in &self.observed.strays {
            let Some(record) = self.observed.records.get(object) else { continue };
            match text {
                None => self.before.push(LedgerChange::Forget { object: object.clone() }),
                Some(text) => self.restore_stray(record, text),
            }
        }
    }

    /// Remembers an order before it is carried out, unless the ledger knows it already.
    fn promise(&mut self, object: &str, current: &str, ordered: &str) {
        self.promise_back(object, Original::Value(current.to_owned()), ordered);
    }

    /// The same with what comes back one day.
    fn promise_back(&mut self, object: &str, original: Original, ordered: &str) {
        if self.observed.records.get(object).is_none_or(|record| record.ordered != ordered) {
            self.before.push(LedgerChange::Promise(Record {
                object: object.to_owned(),
                original,
                ordered: ordered.to_owned(),
            }));
        }
    }

    /// A write of `new` to a file of `cpuset`, whose text is then known to be that.
    fn write(&mut self, cpuset: &Cpuset, file: &'static str, new: &str) -> PinStep {
        let object = file_object(&cpuset.path, file);
        let old = self.text(cpuset, file);
        self.texts.insert(object.clone(), new.to_owned());
        let ordered = self.observed.records.get(&object).map(|record| record.ordered.as_str());
        PinStep::Write(FileWrite {
            repair: ordered == Some(new),
            path: cpuset.path.clone(),
            object,
            file,
            old,
            new: new.to_owned(),
            when_populated: None,
            via: Via::File,
            grows_at: None,
            narrows: false,
            first_pin: None,
        })
    }

    /// Text of a file after the writes planned so far.
    fn text(&self, cpuset: &Cpuset, file: &str) -> String {
        let planned = self.texts.get(&file_object(&cpuset.path, file)).cloned();
        planned.unwrap_or_else(|| facts::configured(cpuset, file).unwrap_or_default().to_owned())
    }

    fn push(&mut self, when: When, chain: Vec<PinStep>) {
        self.stages.entry(when).or_default().push_chain(chain);
    }

    /// What containers hold is remembered before it is written, and forgotten when they hold it no more. While somebody else
    /// pins, nothing is decided of it: who is there when he has gone stays where he was.
    fn plan_holdings(&mut self) {
        let is_undecided = [self.decision.cpus, self.decision.mems].contains(&Rule::LeaveAlone);
        for (path, holding) in &self.decision.holdings {
            let record = holding.to_record(path);
            if self.observed.records.get(&record.object).is_none_or(|known| known.ordered != record.ordered) {
                self.before.push(LedgerChange::Promise(record));
            }
        }
        // Without anybody who holds anything it is no matter by which settings.
        let settings = self.decision.settings.as_ref().filter(|_| !self.decision.holdings.is_empty());
        match (settings, self.observed.records.get(settings::OBJECT)) {
            (Some(record), known) if known.is_none_or(|known| known.ordered != record.ordered) => {
                self.before.push(LedgerChange::Promise(record.clone()));
            }
            (None, Some(known)) if !is_undecided => {
                self.after.push(LedgerChange::Forget { object: known.object.clone() })
            }
            (Some(_), _) | (None, _) => {}
        }
        if is_undecided {
            return;
        }
        for object in self.observed.records.keys() {
            if let Some(path) = placement_record::path_of(object)
                && !self.decision.holdings.contains_key(path)
                && !self.observed.strays.contains_key(object)
            {
                self.after.push(LedgerChange::Forget { object: object.clone() });
            }
        }
    }

    fn finish(mut self) -> Plan<PinStep> {
        self.plan_holdings();
        for (when, expected) in std::mem::take(&mut self.expected) {
            self.push(when, vec![PinStep::Verify(expected)]);
        }
        let ledger = |changes: Vec<LedgerChange>| {
            let mut stage = Stage::default();
            if !changes.is_empty() {
                stage.push(PinStep::Ledger(changes));
            }
            stage
        };
        self.plan.push_stage(ledger(self.before));
        for stage in self.stages.into_values() {
            self.plan.push_stage(stage);
        }
        self.plan.push_stage(ledger(self.after));
        self.plan
    }
}
