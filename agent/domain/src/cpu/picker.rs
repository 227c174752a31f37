//! The choice of CPUs out of free ones, packed as tightly as the hardware allows.

use super::distribute;
use super::options::CpuOptions;
use super::trace::{PickReason, Trace};
use crate::cpuset::CpuSet;
use crate::placement::AllocationError;
use crate::topology::{Machine, Unit};

mod order;
mod uncore;

/// Chooses `count` of the free CPUs. The same input always gives the same CPUs.
///
/// # Errors
/// [`AllocationError::NotEnoughCpus`] if fewer are free.
pub fn take(machine: &Machine, free: &CpuSet, count: usize, options: &CpuOptions) -> Result<CpuSet, AllocationError> {
    choose(machine, free, count, Style::new(machine, options, WholeUnits::Verified), &mut Trace::off())
}

/// [`take`], taking down how.
pub(super) fn choose(
    machine: &Machine,
    free: &CpuSet,
    count: usize,
    style: Style,
    trace: &mut Trace,
) -> Result<CpuSet, AllocationError> {
    if style.group.is_some() {
        return distribute::take(machine, free, count, style, trace);
    }
    take_packed(machine, free, count, style, trace)
}

/// How CPUs are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Style {
    /// CPUs that stay together in the distributed form; absent in the packed form.
    pub(super) group: Option<usize>,
    order: ThreadOrder,
    caches: Caches,
    whole: WholeUnits,
}

impl Style {
    pub(super) fn new(machine: &Machine, options: &CpuOptions, whole: WholeUnits) -> Self {
        let group = if options.full_pcpus_only { machine.cpus_per_core() } else { 1 };
        let aligned = options.prefer_align_by_uncore && !options.distribute_across_numa;
        Self {
            group: options.distribute_across_numa.then_some(group),
            order: if options.distribute_across_cores { ThreadOrder::ByNumber } else { ThreadOrder::ByCore },
            caches: if aligned { Caches::Aligned } else { Caches::Ignored },
            whole,
        }
    }
}

/// In which order single CPUs are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ThreadOrder {
    /// Whole cores first, then the rest core by core: siblings stay together.
    ByCore,
    /// By CPU number within a socket: siblings are far apart where the kernel numbers them so.
    ByNumber,
}

/// Whether uncore caches play a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Caches {
    Ignored,
    Aligned,
}

/// When a core or a socket counts as wholly free, on a machine whose cores or sockets differ in size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WholeUnits {
    /// All its CPUs are free. Only such a selection may be given to anybody.
    Verified,
    /// It has as many free CPUs as the average unit has CPUs: the kubelet's rule, which may select CPUs that are not
    /// free. Only of use to tell what the kubelet would say.
    ByAverage,
}

/// The packed form: whole sockets and NUMA nodes, whole caches if asked for, whole cores, single CPUs.
pub(super) fn take_packed(
    machine: &Machine,
    free: &CpuSet,
    count: usize,
    style: Style,
    trace: &mut Trace,
) -> Result<CpuSet, AllocationError> {
    if count == 0 {
        return Ok(CpuSet::new());
    }
    let available = free.len();
    if count > available {
        return Err(AllocationError::NotEnoughCpus { requested: count, available });
    }
    let mut picker = Picker::new(machine, free, count, trace);
    picker.whole = style.whole;
    let [outer, inner] = picker.whole_levels();
    picker.take_whole(outer);
    picker.take_whole(inner);
    if style.caches == Caches::Aligned {
        picker.take_caches();
    }
    match style.order {
        ThreadOrder::ByCore => {
            picker.take_whole_cores();
            picker.take_threads_by_core();
        }
        ThreadOrder::ByNumber => picker.take_threads_by_number(),
    }
    if picker.needed == 0 { Ok(picker.taken) } else { Err(AllocationError::CpuSelection) }
}

/// A kind of unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Core,
    Uncore,
    Socket,
    Numa,
}

impl Level {
    /// Why a wholly free unit is taken.
    const fn whole(self, id: u32) -> PickReason {
        match self {
            Self::Core => PickReason::WholeCore(id),
            Self::Uncore => PickReason::WholeUncore(id),
            Self::Socket => PickReason::WholeSocket(id),
            Self::Numa => PickReason::WholeNumaNode(id),
        }
    }
}

/// Number of free CPUs in every unit of the machine, by the position of the unit.
#[derive(Debug, Clone)]
struct FreeCounts {
    core: Vec<usize>,
    uncore: Vec<usize>,
    socket: Vec<usize>,
    numa: Vec<usize>,
}

/// A selection in progress. Counts are kept up to date with every CPU, so that no step has to count again.
#[derive(Debug)]
pub(super) struct Picker<'m, 't> {
    machine: &'m Machine,
    trace: &'t mut Trace,
    free: CpuSet,
    counts: FreeCounts,
    taken: CpuSet,
    needed: usize,
    whole: WholeUnits,
}

impl<'m, 't> Picker<'m, 't> {
    pub(super) fn new(machine: &'m Machine, free: &CpuSet, needed: usize, trace: &'t mut Trace) -> Self {
        let zeros = |units: &[Unit]| vec![0; units.len()];
        let counts = FreeCounts {
            core: zeros(machine.cores()),
            uncore: zeros(machine.uncores()),
            socket: zeros(machine.sockets()),
            numa: zeros(machine.numas()),
        };
        let free = free.intersection(machine.online());
        let mut picker =
            Self { machine, trace, free, counts, taken: CpuSet::new(), needed, whole: WholeUnits::Verified };
        for cpu in picker.free.iter() {
            picker.counts.change(machine, cpu, |count| count + 1);
        }
        picker
    }

    /// Takes every unit of a level that is wholly free and not larger than the need.
    fn take_whole(&mut self, level: Level) {
        if self.needed == 0 {
            return;
        }
        let machine = self.machine;
        for position in self.visiting_order(level) {
            if self.is_whole(level, position)
                && let Some(unit) = units(machine, level).get(position)
            {
                self.take_unit(unit, level.whole(unit.id()));
            }
        }
    }

    /// Takes whole cores. Those of one parent have all the same number of free CPUs, so their ids decide.
    fn take_whole_cores(&mut self) {
        let machine = self.machine;
        for parent in self.core_parents() {
            for position in self.cores_of(parent) {
                if self.needed == 0 {
                    return;
                }
                if self.is_whole(Level::Core, *position)
                    && let Some(core) = machine.cores().get(*position)
                {
                    self.take_unit(core, PickReason::WholeCore(core.id()));
                }
            }
        }
    }

    /// Takes single CPUs, those of the cores with the fewest free ones first.
    fn take_threads_by_core(&mut self) {
        if self.needed == 0 {
            return;
        }
        let machine = self.machine;
        for parent in self.core_parents() {
            let cores = self.cores_of(parent);
            let most = cores.iter().map(|core| self.free_in(Level::Core, *core)).max().unwrap_or(0);
            for count in 1..=most {
                for position in cores.iter().filter_map(|position| Some((*position, machine.cores().get(*position)?))) {
                    if self.free_in(Level::Core, position.0) == count {
                        self.take_up_to_need(position.1, PickReason::PartOfCore(position.1.id()));
                    }
                    if self.needed == 0 {
                        return;
                    }
                }
            }
        }
    }

    /// Takes single CPUs socket by socket, in the order of their numbers.
    fn take_threads_by_number(&mut self) {
        let machine = self.machine;
        for position in self.visiting_order(Level::Socket) {
            if let Some(socket) = machine.sockets().get(position) {
                self.take_up_to_need(socket, PickReason::LowestOfSocket(socket.id()));
            }
        }
    }

    /// True if every CPU of the unit is free *and* their number is the one that the kubelet takes for whole: for cores
    /// and sockets the average of the machine.
    fn is_whole(&self, level: Level, position: usize) -> bool {
        let Some(unit) = units(self.machine, level).get(position) else { return false };
        let expected = match level {
            Level::Core => self.machine.cpus_per_core(),
            Level::Socket => self.machine.cpus_per_socket(),
            Level::Uncore | Level::Numa => unit.len(),
        };
        let free = self.free_in(level, position);
        free == expected && (free == unit.len() || self.whole == WholeUnits::ByAverage)
    }

    fn free_in(&self, level: Level, position: usize) -> usize {
        let counts = match level {
            Level::Core => &self.counts.core,
            Level::Uncore => &self.counts.uncore,
            Level::Socket => &self.counts.socket,
            Level::Numa => &self.counts.numa,
        };
        counts.get(position).copied().unwrap_or(0)
    }

    /// Takes a whole unit if the need is at least its size.
    fn take_unit(&mut self, unit: &Unit, reason: PickReason) {
        if self.needed < unit.len() {
            return;
        }
        let rest = self.needed - unit.len();
        self.take_up_to_need(unit, reason);
        if self.whole == WholeUnits::ByAverage {
            self.taken.insert_all(unit.cpus());
            self.needed = rest;
        }
    }

    /// Takes free CPUs of the unit, ascending, until nothing more is needed.
    fn take_up_to_need(&mut self, unit: &Unit, reason: PickReason) {
        self.trace.step(reason, || {
            unit.list().iter().filter(|cpu| self.free.contains(**cpu)).take(self.needed).copied().collect()
        });
        for cpu in unit.list() {
            if self.needed == 0 {
                return;
            }
            self.take_cpu(*cpu);
        }
    }

    fn take_cpu(&mut self, cpu: u32) {
        if self.free.remove(cpu) {
            self.taken.insert(cpu);
            self.needed -= 1;
            self.counts.change(self.machine, cpu, |count| count.saturating_sub(1));
        }
    }
}

impl FreeCounts {
    fn change(&mut self, machine: &Machine, cpu: u32, change: impl Fn(usize) -> usize) {
        let index = machine.index(cpu);
        let slots = [
            self.core.get_mut(index.core()),
            self.uncore.get_mut(index.uncore()),
            self.socket.get_mut(index.socket()),
            self.numa.get_mut(index.numa()),
        ];
        for slot in slots.into_iter().flatten() {
            *slot = change(*slot);
        }
    }
}

fn units(machine: &Machine, level: Level) -> &[Unit] {
    match level {
        Level::Core => machine.cores(),
        Level::Uncore => machine.uncores(),
        Level::Socket => machine.sockets(),
        Level::Numa => machine.numas(),
    }
}

#[cfg(test)]
mod naive;
#[cfg(test)]
mod tests;
