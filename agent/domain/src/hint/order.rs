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
    /// Smallest distance between two different nodes.
    nearest: u32,
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
        let mut distances = Self { cells, nearest: 0 };
        let pairs = nodes.iter().flat_map(|from| nodes.iter().map(move |to| (from, to)));
        let apart = pairs.filter(|(from, to)| from != to).map(|(from, to)| distances.between(from, to));
        distances.nearest = apart.min().unwrap_or(0);
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

    /// A sum that no set reaches from below which consists of `chosen` and `count` of `others`.
    ///
    /// Each further node costs at least its distance to itself and, both ways, to what is chosen; among one another,
    /// further nodes cost at least the smallest distance of the machine.
    #[must_use]
    pub fn least_sum(&self, chosen: NumaMask, others: &[u32], count: usize) -> u64 {
        let way = |a, b| u64::from(self.between(a, b)) + u64::from(self.between(b, a));
        let cost = |node: u32| u64::from(self.between(node, node)) + chosen.iter().map(|c| way(node, c)).sum::<u64>();
        let mut costs: Vec<u64> = others.iter().map(|node| cost(*node)).collect();
        costs.sort_unstable();
        let among = (count * count.saturating_sub(1)) as u64 * u64::from(self.nearest);
        self.sum(chosen) + costs.iter().take(count).sum::<u64>() + among
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
