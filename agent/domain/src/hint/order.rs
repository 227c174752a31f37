//! The order in which node sets are preferred to one another.

use std::cmp::Ordering;

use super::NumaMask;

/// Distances between NUMA nodes, by node id.
///
/// The kernel prints one column per *online* node; whoever makes this value has mapped columns to node ids. Absent pairs
/// count as 0. Source: `/sys/devices/system/node/node*/distance`, ACPI SLIT.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Distances {
    /// 64 columns per row, rows up to the highest node.
    cells: Vec<u32>,
    /// For each node, running sums of its ways to the others, the nearest first; laid out as `cells`.
    nearest: Vec<u64>,
}

/// Columns of one row of [`Distances`].
const COLUMNS: usize = 64;

impl Distances {
    /// The distances of `nodes`: each row is in the order of `nodes`, as the kernel prints it.
    #[must_use]
    pub fn from_rows<'a, I>(nodes: NumaMask, rows: I) -> Self
    where
        I: IntoIterator<Item = (u32, &'a [u32])>,
    {
        let mut cells = Vec::new();
        for (node, row) in rows {
            let start = node as usize * COLUMNS;
            if node >= 64 || row.is_empty() {
                continue;
            }
            if cells.len() < start + COLUMNS {
                cells.resize(start + COLUMNS, 0);
            }
            for (column, distance) in nodes.iter().zip(row) {
                if let Some(cell) = cells.get_mut(start + column as usize) {
                    *cell = *distance;
                }
            }
        }
        let mut distances = Self { cells, nearest: Vec::new() };
        distances.nearest = distances.nearest(nodes);
        distances
    }

    /// The distance from one node to another; 0 if it is not known.
    #[must_use]
    pub fn between(&self, from: u32, to: u32) -> u32 {
        self.cells.get(from as usize * COLUMNS + to as usize).copied().unwrap_or(0)
    }

    /// Sum over all ordered pairs of the mask, a node with itself included.
    ///
    /// Masks of the same size compare by their average distance exactly as by this sum.
    #[must_use]
    pub fn sum(&self, mask: NumaMask) -> u64 {
        mask.iter().map(|from| mask.iter().map(|to| u64::from(self.between(from, to))).sum::<u64>()).sum()
    }

    /// Both ways between two nodes.
    pub(crate) fn way(&self, a: u32, b: u32) -> u64 {
        u64::from(self.between(a, b)) + u64::from(self.between(b, a))
    }

    /// What `count` more nodes at least add to a [`sum`](Self::sum). `others` are the nodes to choose from, each with
    /// its ways to what is chosen already.
    ///
    /// Each node costs its distance to itself, its ways to what is chosen, and half of its ways to the other new nodes,
    /// which are at best those nearest to it on the whole machine.
    pub(crate) fn least_more(&self, others: impl Iterator<Item = (u32, u64)>, count: usize) -> u64 {
        let Some(last) = count.checked_sub(1) else { return 0 };
        let cost = |(node, ways): (u32, u64)| {
            let near = self.nearest.get(node as usize * COLUMNS + last).copied().unwrap_or(0);
            2 * (u64::from(self.between(node, node)) + ways) + near
        };
        let mut costs: Vec<u64> = others.map(cost).collect();
        if costs.len() > count {
            costs.select_nth_unstable(last);
        }
        costs.iter().take(count).sum::<u64>() / 2
    }

    /// For each node, the running sums of its ways to the other nodes, the nearest first.
    fn nearest(&self, nodes: NumaMask) -> Vec<u64> {
        let mut nearest = vec![0; self.cells.len()];
        for node in nodes.iter() {
            let mut ways: Vec<u64> =
                nodes.iter().filter(|other| *other != node).map(|other| self.way(node, other)).collect();
            ways.sort_unstable();
            let mut sum = 0;
            for (more, way) in ways.iter().enumerate() {
                sum += way;
                if let Some(cell) = nearest.get_mut(node as usize * COLUMNS + more + 1) {
                    *cell = sum;
                }
            }
        }
        nearest
    }
}

/// Which of two node sets is better: fewer nodes, then (if asked for) closer nodes, then the smaller number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaskOrder<'a> {
    /// Fewer nodes, then the smaller number.
    Narrowest,
    /// Fewer nodes, then the smaller average distance, then the smaller number (`prefer-closest-numa-nodes`).
    Closest(&'a Distances),
}

impl MaskOrder<'_> {
    /// `Less` if `a` is better than `b`.
    #[must_use]
    pub fn compare(self, a: NumaMask, b: NumaMask) -> Ordering {
        a.len().cmp(&b.len()).then_with(|| self.compare_same_size(a, b))
    }

    /// As [`compare`](Self::compare), for masks of equally many nodes.
    fn compare_same_size(self, a: NumaMask, b: NumaMask) -> Ordering {
        if a == b {
            return Ordering::Equal;
        }
        match self {
            Self::Narrowest => a.cmp(&b),
            Self::Closest(distances) => distances.sum(a).cmp(&distances.sum(b)).then(a.cmp(&b)),
        }
    }
}
