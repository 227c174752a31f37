//! The choice of devices for a container.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Device, DeviceId, DevicePool};
use crate::hint::NumaMask;

/// Chooses `count` devices: reusable ones first, then those near the hinted nodes (nodes with fewer free devices first),
/// then those near other nodes, then those that no node is known of; by id among equals. None if there are too few.
pub(super) fn pick(
    pool: &DevicePool,
    (free, reusable): (&BTreeSet<DeviceId>, &BTreeSet<DeviceId>),
    count: usize,
    affinity: Option<NumaMask>,
) -> Option<BTreeSet<DeviceId>> {
    let mut chosen: BTreeSet<DeviceId> = reusable.iter().take(count).map(Arc::clone).collect();
    let fresh = || free.iter().filter(|id| !reusable.contains(*id));
    let near = |id: &DeviceId| pool.get(id).and_then(|device: &Device| device.nodes).unwrap_or(NumaMask::EMPTY);
    let on = |node: u32| fresh().filter(|id| near(id).contains(node)).count();
    // Rank of a device: its place among the hinted nodes, else after them, else last.
    let rank = |id: &DeviceId| {
        let nodes = near(id);
        let hinted = affinity.map_or(NumaMask::EMPTY, |affinity| affinity.intersection(nodes));
        let best = hinted.iter().map(|node| (on(node), node)).min();
        match (affinity, best) {
            (None, _) => (0, (0, 0)),
            (Some(_), Some(best)) => (0, best),
            (Some(_), None) if !nodes.is_empty() => (1, (0, 0)),
            (Some(_), None) => (2, (0, 0)),
        }
    };
    let mut ranked: Vec<_> = fresh().map(|id| (rank(id), id)).collect();
    ranked.sort();
    chosen.extend(ranked.into_iter().take(count - chosen.len()).map(|(_, id)| Arc::clone(id)));
    (chosen.len() == count).then_some(chosen)
}
