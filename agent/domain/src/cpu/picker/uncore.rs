//! The step that keeps a container on few uncore caches (`prefer-align-cpus-by-uncorecache`).

use super::{Level, Picker};
use crate::cpu::trace::PickReason;
use crate::cpuset::CpuSet;

impl Picker<'_, '_> {
    /// Takes whole caches, then a part of one cache if its lowest cores give exactly the rest. What fits nowhere is
    /// left to the following steps.
    pub(super) fn take_caches(&mut self) {
        let average = self.machine.cpus_per_uncore();
        if self.needed == 0 {
            return;
        }
        for position in self.visiting_order(Level::Uncore) {
            if self.needed >= average {
                self.take_whole(Level::Uncore);
            }
            if self.needed > 0 {
                self.take_part(position);
            }
            if self.needed == 0 {
                return;
            }
        }
    }

    /// Takes the free CPUs of the lowest cores of the cache, as many cores as whole ones would be needed, if they are
    /// exactly as many as needed. An odd need leaves one thread of the last core.
    fn take_part(&mut self, position: usize) {
        let machine = self.machine;
        let cpus_per_core = machine.cpus_per_core();
        let cores_needed = self.needed.div_ceil(cpus_per_core.max(1));
        let cores = machine.links().cores_of_uncore.get(position).map_or(&[][..], Vec::as_slice);
        let chosen = || {
            let with_free = cores.iter().filter(|core| self.free_in(Level::Core, **core) > 0);
            with_free.take(cores_needed).filter_map(|core| machine.cores().get(*core))
        };
        let free: usize = chosen().map(|core| core.cpus().intersection_len(&self.free)).sum();
        let spare = usize::from(!self.needed.is_multiple_of(2) && cpus_per_core > 1 && free > self.needed);
        if free - spare != self.needed {
            return;
        }
        let free = chosen().flat_map(|core| core.list()).copied().filter(|cpu| self.free.contains(*cpu));
        let mut part: CpuSet = free.collect();
        if spare == 1
            && let Some(last) = part.last()
        {
            part.remove(last);
        }
        if let Some(cache) = machine.uncores().get(position) {
            self.trace.step(PickReason::PartOfUncore(cache.id()), || part.clone());
        }
        for cpu in &part {
            self.take_cpu(cpu);
        }
    }
}
