//! The choice of CPUs once more, as slowly and plainly as the rules read: sets are counted anew wherever they are needed.
//!
//! Like the kubelet it takes units for wholly free that are not, so on irregular machines it may give CPUs that are not
//! free; the caller must look.

#![allow(clippy::unwrap_used, clippy::cast_precision_loss, reason = "tests")]

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use crate::cpu::CpuOptions;
use crate::topology::{CpuPlace, Machine};

type Set = BTreeSet<u32>;
type Id = fn(CpuPlace) -> u32;

const NUMA: Id = |place| place.numa;
const SOCKET: Id = |place| place.socket;
const CORE: Id = |place| place.core;
const UNCORE: Id = |place| place.uncore;

struct Naive<'a> {
    machine: &'a Machine,
    options: &'a CpuOptions,
    free: Set,
    taken: Set,
    needed: usize,
}

/// The choice; absent if there is none, which on irregular machines may be so although enough CPUs are free.
pub(super) fn take(machine: &Machine, free: &Set, count: usize, options: &CpuOptions) -> Option<Set> {
    if options.distribute_across_numa {
        distributed(machine, free, count, options)
    } else {
        packed(machine, free, count, options)
    }
}

fn packed(machine: &Machine, free: &Set, count: usize, options: &CpuOptions) -> Option<Set> {
    let mut naive = Naive { machine, options, free: free.clone(), taken: Set::new(), needed: count };
    if count > free.len() {
        return None;
    }
    let levels = if naive.numa_first() { [NUMA, SOCKET] } else { [SOCKET, NUMA] };
    for level in levels {
        let order = if std::ptr::fn_addr_eq(level, NUMA) { naive.numas() } else { naive.sockets() };
        for unit in order.into_iter().filter(|unit| naive.is_free(level, *unit)).collect::<Vec<_>>() {
            naive.take_whole(level, unit);
        }
    }
    if options.prefer_align_by_uncore && !options.distribute_across_numa {
        naive.take_uncores();
    }
    if !options.distribute_across_cores {
        for core in naive.cores().into_iter().filter(|core| naive.is_free(CORE, *core)).collect::<Vec<_>>() {
            naive.take_whole(CORE, core);
        }
    }
    for cpu in naive.cpus() {
        if naive.needed > 0 {
            naive.claim([cpu].into());
        }
    }
    (naive.needed == 0).then_some(naive.taken)
}

impl Naive<'_> {
    fn numa_first(&self) -> bool {
        self.machine.num_sockets() >= self.machine.num_numas()
    }

    fn inside(&self, set: &Set, level: Id, unit: u32) -> Set {
        set.iter().copied().filter(|cpu| level(self.machine.place(*cpu).unwrap()) == unit).collect()
    }

    fn whole(&self, level: Id, unit: u32) -> Set {
        self.inside(&self.machine.online().iter().collect(), level, unit)
    }

    /// Units with free CPUs among `cpus`, sorted by all their free CPUs.
    fn sorted(&self, cpus: &Set, level: Id) -> Vec<u32> {
        let units: Set = cpus.iter().map(|cpu| level(self.machine.place(*cpu).unwrap())).collect();
        let mut units: Vec<u32> = units.into_iter().collect();
        units.sort_by_key(|unit| (self.inside(&self.free, level, *unit).len(), *unit));
        units
    }

    fn sorted_in(&self, outer: Vec<u32>, outer_level: Id, level: Id) -> Vec<u32> {
        outer.into_iter().flat_map(|unit| self.sorted(&self.inside(&self.free, outer_level, unit), level)).collect()
    }

    fn numas(&self) -> Vec<u32> {
        if self.numa_first() { self.sorted(&self.free, NUMA) } else { self.sorted_in(self.sockets(), SOCKET, NUMA) }
    }

    fn sockets(&self) -> Vec<u32> {
        if self.numa_first() { self.sorted_in(self.numas(), NUMA, SOCKET) } else { self.sorted(&self.free, SOCKET) }
    }

    fn cores(&self) -> Vec<u32> {
        if self.numa_first() {
            self.sorted_in(self.sockets(), SOCKET, CORE)
        } else {
            self.sorted_in(self.numas(), NUMA, CORE)
        }
    }

    fn uncores(&self) -> Vec<u32> {
        self.sorted_in(self.numas(), NUMA, UNCORE)
    }

    fn cpus(&self) -> Vec<u32> {
        if self.options.distribute_across_cores {
            self.sockets().into_iter().flat_map(|socket| self.inside(&self.free, SOCKET, socket)).collect()
        } else {
            self.cores().into_iter().flat_map(|core| self.inside(&self.free, CORE, core)).collect()
        }
    }

    fn is_free(&self, level: Id, unit: u32) -> bool {
        let size = match level {
            level if std::ptr::fn_addr_eq(level, CORE) => self.machine.cpus_per_core(),
            level if std::ptr::fn_addr_eq(level, SOCKET) => self.machine.cpus_per_socket(),
            _ => self.whole(level, unit).len(),
        };
        self.inside(&self.free, level, unit).len() == size
    }

    fn take_whole(&mut self, level: Id, unit: u32) {
        let whole = self.whole(level, unit);
        if self.needed >= whole.len() {
            self.claim(whole);
        }
    }

    fn claim(&mut self, cpus: Set) {
        self.needed -= cpus.len();
        self.free.retain(|cpu| !cpus.contains(cpu));
        self.taken.extend(cpus);
    }

    fn take_uncores(&mut self) {
        for uncore in self.uncores() {
            if self.needed >= self.machine.cpus_per_uncore() {
                for full in self.uncores().into_iter().filter(|unit| self.is_free(UNCORE, *unit)).collect::<Vec<_>>() {
                    self.take_whole(UNCORE, full);
                }
            }
            if self.needed == 0 {
                return;
            }
            let per_core = self.machine.cpus_per_core();
            let cores: Set = self.sorted(&self.inside(&self.free, UNCORE, uncore), CORE).into_iter().collect();
            let cores = cores.into_iter().take(self.needed.div_ceil(per_core));
            let mut part: Set = cores.flat_map(|core| self.inside(&self.free, CORE, core)).collect();
            if !self.needed.is_multiple_of(2) && per_core > 1 && part.len() > self.needed {
                part.pop_last();
            }
            if part.len() == self.needed {
                return self.claim(part);
            }
        }
    }
}

fn distributed(machine: &Machine, free: &Set, count: usize, options: &CpuOptions) -> Option<Set> {
    let group = if options.full_pcpus_only { machine.cpus_per_core() } else { 1 };
    if count == 0 || !count.is_multiple_of(group) || count > free.len() {
        return packed(machine, free, count, options);
    }
    let naive = Naive { machine, options, free: free.clone(), taken: Set::new(), needed: count };
    let mut seen = Set::new();
    let numas: Vec<u32> = naive.numas().into_iter().filter(|numa| seen.insert(*numa)).collect();
    let per_node = machine.num_cpus().div_ceil(group).div_ceil(machine.num_numas());
    for size in (count / group).div_ceil(per_node)..=numas.len().min(count / group) {
        let each = count / size / group * group;
        let mut best: Option<(f64, Slice, Slice)> = None;
        walk(&numas, size, &Slice::default(), &mut |combo| {
            if best.as_ref().is_some_and(|(score, ..)| *score == 0.0) {
                return false;
            }
            let members = combo.items();
            let has = |numa: u32| naive.inside(free, NUMA, numa).len();
            if members.iter().map(|numa| has(*numa) / group * group).sum::<usize>() < count
                || members.iter().any(|numa| has(*numa) < each)
            {
                return true;
            }
            let left: Vec<(u32, usize)> =
                numas.iter().map(|n| (*n, has(*n) - if members.contains(n) { each } else { 0 })).collect();
            if let Some((score, givers)) = best_givers(&left, &members, (count - each * size, group))
                && best.as_ref().is_none_or(|(other, ..)| score < *other)
            {
                best = Some((score, combo.clone(), givers));
            }
            true
        });
        if let Some((_, combo, givers)) = best {
            return give(&naive, &combo.items(), &givers.items(), (count, each, group));
        }
    }
    packed(machine, free, count, options)
}

fn best_givers(left: &[(u32, usize)], members: &[u32], (rest, group): (usize, usize)) -> Option<(f64, Slice)> {
    let score = |left: &[(u32, usize)]| deviation(&left.iter().map(|(_, left)| *left).collect::<Vec<_>>());
    if rest == 0 {
        return Some((score(left), Slice::default()));
    }
    let able = members.iter().copied().filter(|numa| left.iter().any(|(n, left)| n == numa && *left >= group));
    let able: Vec<u32> = able.collect();
    let mut best: Option<(f64, Slice)> = None;
    for size in (1..=able.len()).rev() {
        walk(&able, size, &Slice::default(), &mut |givers| {
            if let Some(after) = hand_out(left, &givers.items(), rest, group) {
                let score = deviation(&after);
                if best.as_ref().is_none_or(|(other, _)| score < *other) {
                    best = Some((score, givers.clone()));
                }
            }
            true
        });
    }
    best
}

fn give(naive: &Naive<'_>, combo: &[u32], givers: &[u32], (count, each, group): (usize, usize, usize)) -> Option<Set> {
    let (mut free, mut taken, mut rest) = (naive.free.clone(), Set::new(), count);
    let mut from = |numa: u32, cpus: usize, free: &mut Set| {
        let chosen = packed(naive.machine, &naive.inside(free, NUMA, numa), cpus, naive.options)?;
        free.retain(|cpu| !chosen.contains(cpu));
        taken.extend(chosen);
        Some(())
    };
    for numa in combo {
        from(*numa, each, &mut free)?;
        rest -= each;
    }
    while rest > 0 {
        let before = rest;
        for numa in givers {
            if rest > 0 && naive.inside(&free, NUMA, *numa).len() >= group {
                from(*numa, group, &mut free)?;
                rest -= group;
            }
        }
        if rest == before {
            return None;
        }
    }
    Some(taken)
}

fn hand_out(left: &[(u32, usize)], givers: &[u32], mut rest: usize, group: usize) -> Option<Vec<usize>> {
    let mut left = left.to_vec();
    while rest > 0 {
        let before = rest;
        for giver in givers {
            let (_, has) = left.iter_mut().find(|(numa, _)| numa == giver).unwrap();
            if rest > 0 && *has >= group {
                *has -= group;
                rest -= group;
            }
        }
        if rest == before {
            return None;
        }
    }
    Some(left.into_iter().map(|(_, left)| left).collect())
}

fn deviation(values: &[usize]) -> f64 {
    let round = |value: f64| (value * 1000.0).round() / 1000.0;
    let mean = round(values.iter().sum::<usize>() as f64 / values.len() as f64);
    let squares: f64 = values.iter().map(|value| (*value as f64 - mean) * (*value as f64 - mean)).sum();
    round((squares / values.len() as f64).sqrt())
}

/// A slice of Go: clones share their array, and appending writes into it as long as it has room.
#[derive(Clone, Default)]
struct Slice {
    array: Rc<RefCell<Vec<u32>>>,
    len: usize,
}

impl Slice {
    fn items(&self) -> Vec<u32> {
        self.array.borrow().iter().copied().take(self.len).collect()
    }

    fn append(&self, item: u32) -> Self {
        let mut array = Rc::clone(&self.array);
        let room = array.borrow().len();
        if self.len == room {
            let mut larger = self.items();
            larger.resize((room * 2).max(1), 0);
            array = Rc::new(RefCell::new(larger));
        }
        if let Some(slot) = array.borrow_mut().get_mut(self.len) {
            *slot = item;
        }
        Self { array, len: self.len + 1 }
    }
}

/// Visits all subsets in lexicographic order until told to stop.
fn walk(items: &[u32], size: usize, prefix: &Slice, visit: &mut dyn FnMut(&Slice) -> bool) -> bool {
    if size == 0 {
        return visit(prefix);
    }
    (0..items.len()).all(|first| {
        let rest = items.get(first + 1..).unwrap_or_default();
        rest.len() + 1 < size || items.get(first).is_none_or(|item| walk(rest, size - 1, &prefix.append(*item), visit))
    })
}
