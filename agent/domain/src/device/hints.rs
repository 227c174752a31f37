//! The NUMA hints of a device request, as a demand or as a list.

use std::collections::{BTreeMap, BTreeSet};

use super::{Device, DeviceId, DevicePool};
use crate::hint::{Bound, Demand, HintList, NumaMask, PreferredSets, TopologyHint};
use crate::workload::ResourceName;

/// Hints that repeat what a container has; none if that is not as many as it asks for.
pub(super) fn of_owned(pool: &DevicePool, owned: &BTreeSet<DeviceId>, count: usize, machine: NumaMask) -> HintList {
    if !has_topology(pool) {
        HintList::Any
    } else if owned.len() == count {
        list(pool, (owned, &BTreeSet::new()), count, machine)
    } else {
        HintList::impossible()
    }
}

/// Hints for free devices, and for reusable ones, which must be near every node set.
pub(super) fn of_free(
    pool: &DevicePool,
    (free, reusable): (&BTreeSet<DeviceId>, &BTreeSet<DeviceId>),
    count: usize,
    machine: NumaMask,
) -> HintList {
    if !has_topology(pool) {
        HintList::Any
    } else if free.union(reusable).count() < count {
        HintList::impossible()
    } else {
        list(pool, (free, reusable), count, machine)
    }
}

fn has_topology(pool: &DevicePool) -> bool {
    pool.values().any(|device| nodes_of(device).is_some())
}

fn nodes_of(device: &Device) -> Option<NumaMask> {
    device.nodes.filter(|nodes| !nodes.is_empty())
}

/// The condition on node sets.
///
/// Candidates are the nodes that any device of the resource is near. A set is preferred if no smaller one would do with
/// all devices of the resource, healthy or not, free or not. Devices without NUMA nodes never count.
fn demand(
    pool: &DevicePool,
    (free, reusable): (&BTreeSet<DeviceId>, &BTreeSet<DeviceId>),
    count: usize,
    machine: NumaMask,
) -> Demand {
    let all = pool.values().filter_map(nodes_of).fold(NumaMask::EMPTY, NumaMask::union).intersection(machine);
    let candidates = if all.is_empty() { machine } else { all };
    let of = |ids: &BTreeSet<DeviceId>| ids.iter().filter_map(|id| pool.get(id).and_then(nodes_of)).collect::<Vec<_>>();
    let need = count as u64;
    let empty = Demand {
        resource: ResourceName::Named("".into()),
        universe: candidates,
        required: NumaMask::EMPTY,
        bounds: vec![bound(pool.values().filter_map(nodes_of), need)],
        isolated: Vec::new(),
        preferred: PreferredSets { len: 0, sockets: None },
    };
    let len = empty.least_len().unwrap_or_else(|| candidates.len());
    let reused = of(reusable);
    let mut bounds = vec![bound(of(free).into_iter().chain(reused.iter().copied()), need)];
    // Every reusable device must be near the set.
    bounds.extend(reused.into_iter().map(|nodes| bound(std::iter::once(nodes), 1)));
    Demand { bounds, preferred: PreferredSets { len, sockets: None }, ..empty }
}

/// At least `need` devices, each near some nodes.
fn bound(devices: impl Iterator<Item = NumaMask>, need: u64) -> Bound {
    let mut weights = vec![0; 64];
    let mut spanning: BTreeMap<NumaMask, u64> = BTreeMap::new();
    for nodes in devices {
        let only = nodes.iter().next().filter(|_| nodes.len() == 1);
        match only.and_then(|node| weights.get_mut(node as usize)) {
            Some(weight) => *weight += 1,
            None => *spanning.entry(nodes).or_default() += 1,
        }
    }
    Bound { weights, need, spanning: spanning.into_iter().collect() }
}

/// The list that the demand stands for: fewest nodes first, then in the order of their nodes.
fn list(
    pool: &DevicePool,
    devices: (&BTreeSet<DeviceId>, &BTreeSet<DeviceId>),
    count: usize,
    machine: NumaMask,
) -> HintList {
    let demand = demand(pool, devices, count, machine);
    let mut hints: Vec<TopologyHint> = demand
        .universe
        .subsets()
        .filter(|mask| demand.allows(*mask))
        .map(|mask| TopologyHint::new(mask, demand.prefers(mask)))
        .collect();
    hints.sort_by_key(|hint| hint.affinity.map(|mask| (mask.len(), mask.0.reverse_bits() ^ u64::MAX)));
    hints.into()
}
