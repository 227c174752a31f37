//! The plan of one pass over the kernel settings: first the ledger remembers, then everything is changed in chains that
//! do not depend on one another.
//!
//! Pools that shrink come before pools that grow, so that freed memory can be used; a pool that cannot shrink does not
//! keep the others from growing.

mod files;
mod modules;
mod pools;

pub use pools::too_few;

use std::collections::BTreeMap;

use super::observation::Observation;
use super::step::{Change, KernelStep};
use crate::kernel_file::{Access, Rejection};
use crate::plan::{Cause, Finding, Plan, Refusal, Severity, Stage};
use crate::record::{Original, Record};
use crate::spec::KernelSpec;
use crate::sysctl::ordered::Ordered;

/// Plans one pass.
#[must_use]
pub fn plan(spec: &KernelSpec, seen: &Observation) -> Plan<KernelStep> {
    let records = seen.records.iter().map(|record| (record.object.as_str(), record)).collect();
    let mut planner = Planner { spec, seen, records, promises: Vec::new(), chains: Vec::new(), plan: Plan::default() };
    planner.plan_thp();
    planner.plan_blocklist();
    planner.plan_modules();
    planner.plan_pools();
    planner.forget_odd_records();
    planner.into_plan()
}

struct Planner<'a> {
    spec: &'a KernelSpec,
    seen: &'a Observation,
    records: BTreeMap<&'a str, &'a Record>,
    promises: Vec<Record>,
    chains: Vec<Vec<KernelStep>>,
    plan: Plan<KernelStep>,
}

/// An object whose wish is to be met.
struct Held<'a> {
    object: &'a str,
    path: &'a str,
    wish: &'a str,
    access: Access,
}

impl Planner<'_> {
    /// The order for an object that the ledger knows.
    fn order(&self, object: &str) -> Option<Ordered> {
        self.records.get(object).map(|record| Ordered::parse(&record.ordered))
    }

    /// Remembers an order before it is carried out. `was` is the value to give back if none is known yet.
    fn promise(&mut self, object: &str, was: Original, now: &str, wish: &str) {
        let mut ordered = Ordered::new(wish);
        let original = match (self.records.get(object), self.order(object)) {
            (Some(_), Some(known)) if known.wish == ordered.wish => return,
            (Some(record), Some(known)) => {
                ordered.before = known.is_ours(now).then(|| now.to_owned());
                record.original.clone()
            }
            _ => was,
        };
        self.promises.push(Record { object: object.to_owned(), original, ordered: ordered.to_text() });
    }

    /// Whether a value that differs from the wish may be written; if not, says so.
    fn may_write(&mut self, held: &Held<'_>) -> bool {
        if let Some((cause, detail)) = held.access.obstacle(held.path) {
            self.refuse(held.object, held.wish, cause, detail);
            return false;
        }
        let same_wish = |rejection: &&Rejection| rejection.wish == held.wish && rejection.cause != Cause::Insufficient;
        if let Some(rejection) = self.seen.rejections.get(held.object).filter(same_wish) {
            self.refuse(held.object, held.wish, rejection.cause, rejection.detail.clone());
            return false;
        }
        true
    }

    fn refuse(&mut self, object: &str, wish: &str, cause: Cause, detail: String) {
        self.plan.refusals.push(Refusal { object: object.to_owned(), wish: wish.to_owned(), cause, detail });
    }

    fn warn(&mut self, code: &'static str, object: &str, message: String, remedy: &str) {
        let (object, remedy) = (object.to_owned(), remedy.to_owned());
        self.plan.findings.push(Finding { severity: Severity::Warning, code, object, message, remedy });
    }

    fn chain(&mut self, changes: impl IntoIterator<Item = Change>) {
        self.chains.push(changes.into_iter().map(KernelStep::from).collect());
    }

    fn forget(&mut self, object: &str, left: impl Into<String>) {
        self.chain([forgotten(object, left)]);
    }

    /// Tells that a value is not given back, and forgets it.
    fn leave(&mut self, object: &str, now: &str, original: &Original) {
        match original {
            Original::Value(was) => {
                let detail = format!(
                    "another program changed it to {now} since it was set, so {was}, which was there before, is not \
                     restored over it; set it by hand if you want it"
                );
                self.refuse(object, was, Cause::ChangedByOther, detail);
                self.forget(object, format!("left at {now}, which another program set; it was {was}"));
            }
            Original::Absent | Original::Unknown => {
                let message = "the ledger was lost, so nobody knows how it was before; it stays as it is".to_owned();
                self.warn("original-unknown", object, message, "set by hand what you want");
                self.forget(object, "left as it is; the ledger was lost");
            }
        }
    }

    /// Records whose object is none of ours: written by another version, or damaged.
    fn forget_odd_records(&mut self) {
        let objects: Vec<&str> = self.records.keys().copied().collect();
        for object in objects {
            if !files::knows(object) && !modules::knows(object) && !pools::knows(object) {
                self.forget(object, "no kernel setting");
            }
        }
    }

    fn into_plan(self) -> Plan<KernelStep> {
        let mut plan = self.plan;
        plan.refusals.sort();
        plan.findings.sort();
        if !self.promises.is_empty() {
            plan.push_stage(Stage::from_iter([KernelStep::from(Change::Remember(self.promises))]));
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
