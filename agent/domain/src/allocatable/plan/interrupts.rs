//! Interrupts: off the CPUs that are not theirs, and back.

use std::collections::BTreeMap;

use super::{Planner, forgotten};
use crate::allocatable::interrupt::Interrupt;
use crate::allocatable::step::Change;
use crate::cpuset::CpuSet;
use crate::kernel::step::Occasion;
use crate::kernel_file::Shown;
use crate::plan::{Cause, Severity};
use crate::record::Restoration;

/// Interrupts that share a fate, by cause and words.
type Fates = BTreeMap<(Cause, String), CpuSet>;

impl Planner<'_> {
    pub(super) fn plan_interrupts(&mut self) {
        let (seen, wishes) = (self.seen, self.wishes);
        let Some(allowed) = &wishes.interrupt_cpus else {
            for (interrupt, shown) in &seen.interrupts {
                self.release_interrupt(*interrupt, shown);
            }
            return;
        };
        if seen.facts.irqbalance_runs {
            let message = "irqbalance runs and moves interrupts by its own rules".to_owned();
            let remedy = "stop it, or give it the other CPUs as IRQBALANCE_BANNED_CPULIST";
            self.tell(Severity::Warning, "irqbalance-runs", "interrupts", (message, remedy));
        }
        let mut fates = Fates::new();
        for (interrupt, shown) in &seen.interrupts {
            self.hold_interrupt(*interrupt, shown, allowed, &mut fates);
        }
        for ((cause, detail), numbers) in fates {
            self.refuse(&format!("irq/{numbers}"), &allowed.to_string(), cause, detail);
        }
    }

    fn hold_interrupt(&mut self, interrupt: Interrupt, shown: &Shown, allowed: &CpuSet, fates: &mut Fates) {
        let object = interrupt.to_string();
        let Shown::Value(text, access) = shown else { return };
        let Some(now) = interrupt.cpus(text) else { return };
        let wish = allowed.to_string();
        // An interrupt without CPUs is not delivered at all, and one on a part of them is well kept.
        if now.is_empty() || now.is_subset(allowed) {
            return;
        }
        let obstacle = access.obstacle(&interrupt.path());
        let rejection = self.seen.rejections.get(&object).filter(|rejection| rejection.wish == wish);
        let fate = obstacle.or_else(|| rejection.map(|rejection| (rejection.cause, rejection.detail.clone())));
        match (fate, interrupt) {
            (Some(fate), Interrupt::Number(number)) => {
                fates.entry(fate).or_default().insert(number);
            }
            (Some((cause, detail)), Interrupt::Default) => self.refuse(&object, &wish, cause, detail),
            (None, _) => {
                let from = now.to_string();
                self.promise(&object, &from, &wish);
                self.chain([Change::SetInterrupt { interrupt, from, to: wish, occasion: Occasion::Wish }]);
            }
        }
    }

    fn release_interrupt(&mut self, interrupt: Interrupt, shown: &Shown) {
        let object = interrupt.to_string();
        let Some(&record) = self.records.get(object.as_str()) else { return };
        let (text, access) = match shown {
            Shown::Value(text, access) => (text, *access),
            Shown::Unreadable(_) => return,
            Shown::Absent => return self.forget(&object, "gone"),
        };
        let Some(now) = interrupt.cpus(text).map(|cpus| cpus.to_string()) else { return };
        let order = self.order(&object);
        let ours = |text: &str| order.as_ref().is_some_and(|order| order.is_ours(text));
        let same = |shown: &str, other: &str| if other == record.ordered { ours(shown) } else { shown == other };
        match record.restoration(Some(&now), same) {
            Restoration::Write(to) => {
                if self.may_write(&object, &to, &interrupt.path(), access) {
                    let set = Change::SetInterrupt { interrupt, from: now, to, occasion: Occasion::GiveBack };
                    self.chain([set, forgotten(&object, "")]);
                }
            }
            Restoration::AlreadyOriginal => self.forget(&object, ""),
            Restoration::Remove | Restoration::Leave => self.leave(&object, &now, &record.original),
        }
    }
}
