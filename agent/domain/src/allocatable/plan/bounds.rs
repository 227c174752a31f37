//! Bounds of cgroups: hold what is wished for, give back what is not any more.

use super::{Planner, forgotten};
use crate::allocatable::knob::{Control, Knob};
use crate::allocatable::observation::Bound;
use crate::allocatable::step::Change;
use crate::allocatable::wishes::{Reason, Wish};
use crate::kernel::step::Occasion;
use crate::kernel_file::{Access, Shown};
use crate::plan::{Cause, Severity};
use crate::record::Restoration;

impl Planner<'_> {
    pub(super) fn plan_bounds(&mut self) {
        let wishes = self.wishes;
        for wish in &wishes.bounds {
            self.hold_bound(wish);
        }
        let seen = self.seen;
        for (knob, bound) in &seen.bounds {
            if !wishes.bounds.iter().any(|wish| wish.knob == *knob) {
                self.release_bound(knob, bound);
            }
        }
    }

    fn hold_bound(&mut self, wish: &Wish) {
        let (seen, knob, value) = (self.seen, &wish.knob, wish.value.as_str());
        let Some(bound) = seen.bounds.get(knob) else { return };
        if !bound.has_cgroup {
            return self.tell_missing(wish);
        }
        let object = knob.to_string();
        let Some((now, access)) = self.shown(wish, bound) else { return };
        self.tell_low_weight(wish);
        if knob.same(&now, value) {
            if self.records.contains_key(object.as_str()) {
                self.promise(&object, &now, value);
            }
            return;
        }
        if wish.reason == Reason::Pods && seen.facts.kubelet_runs {
            let detail = format!(
                "it is {now}, and the kubelet that runs here owns it; give the kubelet the same reservations, or drop pods \
                 from enforceNodeAllocatable"
            );
            return self.refuse(&object, value, Cause::OwnedByOther, detail);
        }
        if let Some(usage) = bound.usage.filter(|usage| knob.is_below(value, *usage)) {
            let detail = format!(
                "{usage} are in use, and a bound below that would make the kernel kill or refuse at once; reserve more, or \
                 stop what uses them"
            );
            return self.refuse(&object, value, Cause::Insufficient, detail);
        }
        if self.may_write(&object, value, &object, access) {
            self.promise(&object, &now, value);
            self.chain([self.set(knob, now, value.to_owned(), Occasion::Wish)]);
        }
    }

    fn set(&self, knob: &Knob, from: String, to: String, occasion: Occasion) -> Change {
        Change::SetBound { through_systemd: self.through_systemd(knob), knob: knob.clone(), from, to, occasion }
    }

    fn through_systemd(&self, knob: &Knob) -> bool {
        self.seen.facts.systemd && knob.unit().is_some() && knob.unit_property().is_some()
    }

    /// The text in force; `None`: there is nothing to set, and that was said. A file that is not there yet comes with
    /// the property: systemd enables the controller.
    fn shown(&mut self, wish: &Wish, bound: &Bound) -> Option<(String, Access)> {
        let knob = &wish.knob;
        match &bound.file {
            Shown::Value(text, access) => {
                let access = if self.through_systemd(knob) { Access::Writable } else { *access };
                return Some((text.clone(), access));
            }
            Shown::Absent if self.through_systemd(knob) => {
                return Some((knob.default_text().to_owned(), Access::Writable));
            }
            Shown::Absent if matches!(knob.control, Control::HugePages(_)) => {
                let message = format!(
                    "the cgroup lacks the controller hugetlb, so its huge pages stay unbounded; a kubelet with this \
                     enforcement would refuse to start ({} has some missing controllers)",
                    knob.cgroup
                );
                let remedy = "delegate the controller (Delegate=), or enforce the compressible form only";
                self.tell(Severity::Warning, "reserved-cgroup-lacks-controller", &knob.cgroup, (message, remedy));
            }
            Shown::Absent => {
                let detail = format!(
                    "the cgroup exists without {}: the controller {} is not enabled above it; enable it there \
                     (cgroup.subtree_control, or Delegate= of the unit)",
                    knob.file(),
                    knob.controller()
                );
                self.refuse(&knob.to_string(), &wish.value, Cause::Absent, detail);
            }
            Shown::Unreadable(why) => {
                let detail = format!("it cannot be read, so it could not be given back: {why}");
                self.refuse(&knob.to_string(), &wish.value, Cause::Unsupported, detail);
            }
        }
        None
    }

    /// Once per cgroup: every bound of it is missing with it.
    fn tell_missing(&mut self, wish: &Wish) {
        let wishes = self.wishes;
        let known = wishes.bounds.iter().find(|known| known.knob.cgroup == wish.knob.cgroup);
        let Some(cgroup) = known.map(|known| known.knob.cgroup.as_str()) else { return };
        if !self.missing.insert(cgroup) {
            return;
        }
        let detail = match wish.reason {
            Reason::KubeReserved | Reason::SystemReserved => format!(
                "there is no cgroup /{cgroup} with the controller {}, and a kubelet with this enforcement would refuse to \
                 start; make it (a unit {cgroup} for the daemons), or drop {} from enforceNodeAllocatable",
                wish.knob.controller(),
                wish.reason.as_str()
            ),
            Reason::Pods | Reason::Confined => format!(
                "there is no cgroup /{cgroup} with the controller {}; make it, or drop it from the profile",
                wish.knob.controller()
            ),
        };
        self.refuse(cgroup, wish.reason.as_str(), Cause::Absent, detail);
    }

    /// A unit that nobody weighs has the share of 2.5 CPUs by the kubelet's formula.
    fn tell_low_weight(&mut self, wish: &Wish) {
        let parse = |text: &str| text.parse::<u64>().ok();
        let (Some(usual), Some(after)) = (parse(wish.knob.default_text()), parse(&wish.value)) else { return };
        let reserved = matches!(wish.reason, Reason::KubeReserved | Reason::SystemReserved);
        if wish.knob.control == Control::CpuWeight && reserved && after < usual {
            let message = format!(
                "the CPU reservation makes {after} of it, below {usual}, which it would have unbounded: under contention the \
                 daemons get less than without the enforcement"
            );
            let remedy = "reserve more CPU, or do not enforce this reservation";
            self.tell(Severity::Info, "reservation-lowers-weight", &wish.knob.to_string(), (message, remedy));
        }
    }

    fn release_bound(&mut self, knob: &Knob, bound: &Bound) {
        let object = knob.to_string();
        let Some(&record) = self.records.get(object.as_str()) else { return };
        if self.seen.facts.kubelet_runs && self.seen.facts.pods_root.as_ref() == Some(&knob.cgroup) {
            return self.forget(&object, "left to the kubelet");
        }
        let (now, access) = match &bound.file {
            Shown::Value(text, access) => (text.as_str(), *access),
            Shown::Unreadable(_) => return,
            Shown::Absent => return self.forget(&object, "gone"),
        };
        let order = self.order(&object);
        let ours = |text: &str| {
            order.as_ref().is_some_and(|order| {
                let stood = [Some(&order.wish), order.before.as_ref()];
                stood.into_iter().flatten().any(|known| knob.same(text, known))
            })
        };
        let same =
            |shown: &str, other: &str| if other == record.ordered { ours(shown) } else { knob.same(shown, other) };
        match record.restoration(Some(now), same) {
            Restoration::Write(to) => {
                let access = if self.through_systemd(knob) { Access::Writable } else { access };
                if self.may_write(&object, &to, &object, access) {
                    let set = self.set(knob, now.to_owned(), to, Occasion::GiveBack);
                    self.chain([set, forgotten(&object, "")]);
                }
            }
            Restoration::AlreadyOriginal => self.forget(&object, ""),
            Restoration::Remove | Restoration::Leave => self.leave(&object, now, &record.original),
        }
    }
}
