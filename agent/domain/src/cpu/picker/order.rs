//! The order in which units are visited: best fit, so fewest free CPUs first, and by id among equals.
//!
//! Where there are at least as many sockets as NUMA nodes the nodes are the outer level, else the sockets; the units of
//! an inner level follow those of the outer one.

use super::{Level, Picker, units};
use crate::hint::NumaMask;
use crate::topology::Machine;

impl<'m> Picker<'m, '_> {
    /// The two levels that are taken whole, the outer one first.
    pub(super) fn whole_levels(&self) -> [Level; 2] {
        if self.numa_is_outer() { [Level::Numa, Level::Socket] } else { [Level::Socket, Level::Numa] }
    }

    /// Positions of the NUMA nodes with free CPUs, as they are visited, each once.
    pub(in super::super) fn numas(&self) -> Vec<usize> {
        let mut order = self.visiting_order(Level::Numa);
        let mut seen = NumaMask::EMPTY;
        order.retain(|position| {
            let node = self.machine.numas().get(*position).and_then(|numa| NumaMask::single(numa.id()));
            let new = node.is_some_and(|node| !seen.is_superset(node));
            seen = seen.union(node.unwrap_or_default());
            new
        });
        order
    }

    /// Free CPUs of a NUMA node.
    pub(in super::super) fn free_in_numa(&self, position: usize) -> usize {
        self.free_in(Level::Numa, position)
    }

    /// Positions of the sockets, NUMA nodes or caches that have free CPUs. A unit that lies in several outer ones comes
    /// once for each.
    pub(super) fn visiting_order(&self, level: Level) -> Vec<usize> {
        let links = self.machine.links();
        let mut order = Vec::with_capacity(units(self.machine, level).len());
        match (level, self.numa_is_outer()) {
            (Level::Numa, true) | (Level::Socket, false) | (Level::Core, _) => {
                self.push_by_free(&mut order, level, 0..units(self.machine, level).len());
            }
            (Level::Socket, true) => {
                for numa in self.visiting_order(Level::Numa) {
                    self.push_inner(&mut order, (Level::Numa, numa), level, links.sockets_of_numa.get(numa));
                }
            }
            (Level::Numa, false) => {
                for socket in self.visiting_order(Level::Socket) {
                    self.push_inner(&mut order, (Level::Socket, socket), level, links.numas_of_socket.get(socket));
                }
            }
            (Level::Uncore, _) => {
                for numa in self.visiting_order(Level::Numa) {
                    self.push_inner(&mut order, (Level::Numa, numa), level, links.uncores_of_numa.get(numa));
                }
            }
        }
        order
    }

    /// The inner one of sockets and NUMA nodes, in visiting order: cores are taken in them.
    pub(super) fn core_parents(&self) -> Vec<usize> {
        if self.needed == 0 {
            return Vec::new();
        }
        let [_, inner] = self.whole_levels();
        self.visiting_order(inner)
    }

    /// Positions of the cores of such a parent, ascending.
    pub(super) fn cores_of(&self, parent: usize) -> &'m [usize] {
        let machine: &'m Machine = self.machine;
        let links = machine.links();
        let lists = if self.numa_is_outer() { &links.cores_of_socket } else { &links.cores_of_numa };
        lists.get(parent).map_or(&[], Vec::as_slice)
    }

    fn numa_is_outer(&self) -> bool {
        self.machine.num_sockets() >= self.machine.num_numas()
    }

    /// Adds those of `inner` that have a free CPU inside the outer unit.
    fn push_inner(&self, order: &mut Vec<usize>, outer: (Level, usize), level: Level, inner: Option<&Vec<usize>>) {
        let Some(outer) = units(self.machine, outer.0).get(outer.1) else { return };
        let inside = inner.into_iter().flatten().copied().filter(|position| {
            let unit = units(self.machine, level).get(*position);
            unit.is_some_and(|unit| self.free.meets(outer.cpus(), unit.cpus()))
        });
        self.push_by_free(order, level, inside);
    }

    /// Adds those of the ascending `positions` that have free CPUs, sorted by their number.
    fn push_by_free(&self, order: &mut Vec<usize>, level: Level, positions: impl Iterator<Item = usize>) {
        let start = order.len();
        order.extend(positions.filter(|position| self.free_in(level, *position) > 0));
        if let Some(added) = order.get_mut(start..) {
            added.sort_unstable_by_key(|position| (self.free_in(level, *position), *position));
        }
    }
}
