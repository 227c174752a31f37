//! The NUMA hints of a device request, as a demand or as a list.

use std::collections::{BTreeMap, BTreeSet};

use super::{Device, DeviceId, DevicePool};
use crate::hint::{Bound, Demand, HintList, NumaMask, Opinion, PreferredSets, TopologyHint};
use crate::workload::ResourceName;

/// Out of which devices a request could be served.
pub(super) enum Prospect<'a> {
    /// Exactly what the container has.
    Owned {
        /// Its devices.
        owned: &'a BTreeSet<DeviceId>,
        /// What it asks for now.
        count: usize,
    },
    /// Devices that nobody has, and those to be used again, which must be near every node set.
    Free {
        /// Healthy, and nobody has them.
        free: BTreeSet<DeviceId>,
        /// Of init containers that are over.
        reusable: &'a BTreeSet<DeviceId>,
        /// What is asked for.
        count: usize,
    },
}

/// What is said of one resource; nothing without an opinion, which is so if no device tells its nodes.
pub(super) fn opinion(
    resource: &ResourceName,
    pool: &DevicePool,
    prospect: &Prospect<'_>,
    machine: NumaMask,
) -> Option<Opinion> {
    if !has_topology(pool) {
        return None;
    }
    let none = BTreeSet::new();
    let demand = match prospect {
        Prospect::Owned { owned, count } if owned.len() == *count => {
            Some(demand(pool, (owned, &none), *count, machine))
        }
        Prospect::Free { free, reusable, count } if free.union(reusable).count() >= *count => {
            Some(demand(pool, (free, reusable), *count, machine))
        }
        _ => None,
    };
    Some(match demand.filter(Demand::is_possible) {
        Some(demand) => Opinion::Sets(Demand { resource: resource.clone(), ..demand }),
        None => Opinion::Impossible(resource.clone()),
    })
}

/// The same as a list: fewest nodes first, then in the order of their nodes.
pub(super) fn list(pool: &DevicePool, prospect: &Prospect<'_>, machine: NumaMask) -> HintList {
    match opinion(&ResourceName::Cpu, pool, prospect, machine) {
        None => HintList::Any,
        Some(Opinion::Impossible(_)) => HintList::impossible(),
        Some(Opinion::Sets(demand)) => {
            let sets = demand.universe.subsets().filter(|mask| demand.allows(*mask));
            let mut hints: Vec<TopologyHint> = sets.map(|mask| TopologyHint::new(mask, demand.prefers(mask))).collect();
            hints.sort_by_key(|hint| hint.affinity.map(|mask| (mask.len(), !mask.0.reverse_bits())));
            hints.into()
        }
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
        resource: ResourceName::Cpu,
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
