//! The plan of one pass over the bounds: first the ledger remembers, then everything is changed in chains that do not
//! depend on one another.

mod bounds;
mod interrupts;

use std::collections::{BTreeMap, BTreeSet};

use super::interrupt::Interrupt;
use super::knob::Knob;
use super::observation::Observation;
use super::step::{AllocatableStep, Change};
use super::wishes::{Wishes, wishes};
use crate::cgroup::Version;
use crate::kernel_file::Access;
use crate::plan::{Cause, Finding, Plan, Refusal, Severity, Stage};
use crate::record::{Original, Record};
use crate::spec::ResourceManagersSpec;
use crate::sysctl::ordered::Ordered;

/// Plans one pass; without the section everything is given back.
#[must_use]
pub fn plan(spec: Option<&ResourceManagersSpec>, seen: &Observation) -> Plan<AllocatableStep> {
    let mut wishes = wishes(spec, &seen.facts);
    let refusals = std::mem::take(&mut wishes.refusals);
    let records = seen.records.iter().map(|record| (record.object.as_str(), record)).collect();
    let mut planner = Planner {
        wishes: &wishes,
        seen,
        records,
        promises: Vec::new(),
        chains: Vec::new(),
        missing: BTreeSet::new(),
        plan: Plan { refusals, ..Plan::default() },
    };
    planner.plan_bounds();
    planner.plan_interrupts();
    planner.forget_odd_records();
    planner.into_plan()
}

struct Planner<'a> {
    wishes: &'a Wishes,
    seen: &'a Observation,
    records: BTreeMap<&'a str, &'a Record>,
    promises: Vec<Record>,
    chains: Vec<Vec<AllocatableStep>>,
    /// Cgroups that were told to be missing.
    missing: BTreeSet<&'a str>,
    plan: Plan<AllocatableStep>,
}

impl Planner<'_> {
    /// The order for an object that the ledger knows.
    fn order(&self, object: &str) -> Option<Ordered> {
        self.records.get(object).map(|record| Ordered::parse(&record.ordered))
    }

    /// Remembers an order before it is carried out. `was` is what to give back if nothing is known yet; an object that
    /// shows the wish before it was ever ordered needs no record.
    fn promise(&mut self, object: &str, was: &str, wish: &str) {
        let mut ordered = Ordered::new(wish);
        let original = match (self.records.get(object), self.order(object)) {
            (Some(_), Some(known)) if known.wish == ordered.wish => return,
            (Some(record), Some(known)) => {
                ordered.before = known.is_ours(was).then(|| was.to_owned());
                record.original.clone()
            }
            _ => Original::Value(was.to_owned()),
        };
        self.promises.push(Record { object: object.to_owned(), original, ordered: ordered.to_text() });
    }

    /// Whether the object may be written; if not, says so.
    fn may_write(&mut self, object: &str, wish: &str, path: &str, access: Access) -> bool {
        if let Some((cause, detail)) = access.obstacle(path) {
            self.refuse(object, wish, cause, detail);
            return false;
        }
        if let Some(rejection) = self.seen.rejections.get(object).filter(|rejection| rejection.wish == wish) {
            self.refuse(object, wish, rejection.cause, rejection.detail.clone());
            return false;
        }
        true
    }

    fn refuse(&mut self, object: &str, wish: &str, cause: Cause, detail: String) {
        self.plan.refusals.push(Refusal { object: object.to_owned(), wish: wish.to_owned(), cause, detail });
    }

    fn tell(&mut self, severity: Severity, code: &'static str, object: &str, (message, remedy): (String, &str)) {
        let (object, remedy) = (object.to_owned(), remedy.to_owned());
        self.plan.findings.push(Finding { severity, code, object, message, remedy });
    }

    fn chain(&mut self, changes: impl IntoIterator<Item = Change>) {
        self.chains.push(changes.into_iter().map(AllocatableStep::from).collect());
    }

    fn forget(&mut self, object: &str, left: impl Into<String>) {
        self.chain([forgotten(object, left)]);
    }

    /// Tells that a value is not given back, and forgets it.
    fn leave(&mut self, object: &str, now: &str, original: &Original) {
        if let Original::Value(was) = original {
            let detail = format!(
                "another program changed it to {now:?} since it was set, so {was:?}, which was there before, is not \
                 restored over it; set it by hand if you want it"
            );
            self.refuse(object, was, Cause::ChangedByOther, detail);
            return self.forget(object, format!("left at {now}, which another program set; it was {was}"));
        }
        let message = "the ledger was lost, so nobody knows how it was before; it stays as it is".to_owned();
        self.tell(Severity::Warning, "original-unknown", object, (message, "set by hand what you want"));
        self.forget(object, "left as it is; the ledger was lost");
    }

    /// Records whose object is none of ours: written by another version, or damaged.
    fn forget_odd_records(&mut self) {
        let objects: Vec<&str> = self.records.keys().copied().collect();
        for object in objects {
            if Interrupt::parse(object).is_none() && Knob::parse(object, Version::V2).is_none() {
                self.forget(object, "no bound of a cgroup and no interrupt");
            }
        }
    }

    fn into_plan(self) -> Plan<AllocatableStep> {
        let mut plan = self.plan;
        if !self.promises.is_empty() {
            plan.push_stage(Stage::from_iter([Change::Remember(self.promises).into()]));
        }
        let mut stage = Stage::default();
        self.chains.into_iter().for_each(|chain| stage.push_chain(chain));
        plan.push_stage(stage);
        plan
    }
}

fn forgotten(object: &str, left: impl Into<String>) -> Change {
    Change::Forget { object: object.to_owned(), left: left.into() }
}
