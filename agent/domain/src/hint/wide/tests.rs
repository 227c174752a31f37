//! Demands against the lists of hints that they stand for, and against all small sets on the widest machines.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]
#![allow(clippy::cast_possible_truncation, reason = "tests")]

use proptest::prelude::*;

use super::*;
use crate::hint::{Bound, Distances, PreferredSets, ProviderHints, SocketCover, TopologyConfig};
use crate::workload::ResourceName;

/// Every node set that a demand stands for.
fn list(demand: &Demand, nodes: NumaMask) -> Vec<TopologyHint> {
    let masks = (1..=nodes.0).map(NumaMask).filter(|mask| nodes.is_superset(*mask) && demand.allows(*mask));
    masks.map(|mask| TopologyHint::new(mask, demand.prefers(mask))).collect()
}

fn manager(policy: &str, nodes: u32, distances: Option<&[u32]>) -> TopologyManager {
    let mut config = TopologyConfig { policy: policy.into(), wide_machines: Some(64), ..TopologyConfig::default() };
    let row = |node: u32| match distances {
        Some(cells) => (0..nodes).map(|to| cells[((node * 7 + to * 3) as usize) % cells.len()]).collect(),
        None => vec![10; nodes as usize],
    };
    if distances.is_some() {
        config.options.insert("prefer-closest-numa-nodes".into(), "true".into());
    }
    let rows: Vec<Vec<u32>> = (0..nodes).map(row).collect();
    let rows: Vec<(u32, &[u32])> = rows.iter().enumerate().map(|(node, row)| (node as u32, row.as_slice())).collect();
    TopologyManager::new(&config, &rows).unwrap()
}

fn bound(nodes: u32, spanning: bool) -> impl Strategy<Value = Bound> {
    let weights = prop::collection::vec(prop_oneof![0..5u64, Just(4u64), Just(0u64)], nodes as usize);
    let span = (1..1u64 << nodes, 1..3u64).prop_map(|(mask, count)| (NumaMask(mask), count));
    let spanning = prop::collection::vec(span, 0..=if spanning { 2 } else { 0 });
    (weights, 0..9u64, spanning).prop_map(|(weights, need, spanning)| Bound { weights, need, spanning })
}

fn demand(nodes: u32) -> impl Strategy<Value = Demand> {
    let all = (1u64 << nodes) - 1;
    let mask = move || (1..=all).prop_map(NumaMask);
    let universe = prop_oneof![3 => Just(NumaMask(all)), 2 => mask()];
    let required = prop_oneof![4 => Just(NumaMask::EMPTY), 1 => (0..nodes).prop_map(|node| NumaMask(1 << node))];
    let bounds = prop_oneof![4 => Just(false), 1 => Just(true)]
        .prop_flat_map(move |spanning| prop::collection::vec(bound(nodes, spanning), 1..3));
    let isolated = prop::collection::vec(mask(), 0..3);
    let cover = (1..3usize).prop_map(move |count| {
        let half = nodes / 2;
        let sockets = vec![(0..half).collect(), (half..nodes).collect()];
        SocketCover { sockets, count }
    });
    let preferred = (1..=3u32, prop::option::weighted(0.2, cover));
    (universe, required, bounds, isolated, preferred).prop_map(
        |(universe, required, bounds, isolated, (len, sockets))| {
            let resource = ResourceName::Cpu;
            Demand { resource, universe, required, bounds, isolated, preferred: PreferredSets { len, sockets } }
        },
    )
}

fn case(nodes: std::ops::RangeInclusive<u32>) -> impl Strategy<Value = (u32, Vec<Demand>, Vec<u32>)> {
    nodes.prop_flat_map(|nodes| {
        let cells = prop::collection::vec(prop_oneof![Just(10u32), 10..30u32], 5);
        (Just(nodes), prop::collection::vec(demand(nodes), 0..4), cells)
    })
}

fn opinion(demand: &Demand) -> Opinion {
    if demand.is_possible() { Opinion::Sets(demand.clone()) } else { Opinion::Impossible(demand.resource.clone()) }
}

fn check(nodes: u32, demands: &[Demand], cells: Option<&[u32]>) -> Result<(), TestCaseError> {
    for policy in ["best-effort", "restricted", "single-numa-node"] {
        let manager = manager(policy, nodes, cells);
        let lists: Vec<ProviderHints> = demands
            .iter()
            .map(|demand| ProviderHints::single(ResourceName::Cpu, list(demand, manager.nodes()).into()))
            .collect();
        let opinions: Vec<Opinion> = demands.iter().map(opinion).collect();
        prop_assert_eq!(manager.merge_demands(&opinions), manager.merge(&lists), "{}", policy);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn demands_merge_like_the_lists_they_stand_for((nodes, demands, _) in case(1..=7)) {
        check(nodes, &demands, None)?;
    }

    #[test]
    fn demands_merge_like_lists_with_distances((nodes, demands, cells) in case(2..=6)) {
        check(nodes, &demands, Some(&cells))?;
    }

    #[test]
    fn the_best_set_of_one_demand_is_the_best_of_its_list((nodes, demands, _) in case(1..=7), required in 0..8u64) {
        let all = NumaMask((1 << nodes) - 1);
        let required = NumaMask(required & all.0);
        for demand in demands.iter().filter(|demand| demand.is_possible()) {
            let hints: Vec<TopologyHint> = list(demand, all);
            prop_assert_eq!(demand.least_len(), hints.iter().filter_map(|h| h.affinity).map(NumaMask::len).min());
            let inside = hints.iter().filter_map(|hint| Some((hint.affinity?, hint.preferred)));
            let inside = inside.filter(|(mask, _)| mask.is_superset(required));
            let best = inside.min_by_key(|(mask, preferred)| (!preferred, mask.len(), mask.0));
            prop_assert_eq!(demand.best_containing(required), best);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn ten_nodes_merge_like_lists((nodes, demands, _) in case(9..=10)) {
        check(nodes, &demands, None)?;
    }

    #[test]
    fn on_64_nodes_no_small_preferred_set_is_better(
        free in prop::collection::vec(0..9u64, 64),
        memory in prop::collection::vec(0..9u64, 64),
        (cpus, bytes, len) in (1..27u64, 1..27u64, 1..=3u32),
        cells in prop::option::of(prop::collection::vec(10..30u32, 5)),
    ) {
        let demand = |weights: &[u64], need| Demand {
            resource: ResourceName::Cpu,
            universe: NumaMask(u64::MAX),
            required: NumaMask::EMPTY,
            bounds: vec![Bound::sum(weights.to_vec(), need)],
            isolated: Vec::new(),
            preferred: PreferredSets { len, sockets: None },
        };
        let demands = [demand(&free, cpus), demand(&memory, bytes)];
        let opinions: Vec<Opinion> = demands.iter().map(opinion).collect();
        let manager = manager("restricted", 64, cells.as_deref());
        let merged = manager.merge_demands(&opinions);
        let mut best = None;
        for_each_set(len, 64, NumaMask::EMPTY, &mut |mask| {
            if demands.iter().all(|demand| demand.allows(mask)) && best.is_none_or(|best| manager.order().compare(mask, best).is_lt())
            {
                best = Some(mask);
            }
        });
        prop_assert_eq!(merged.hint.preferred, best.is_some());
        if best.is_some() {
            prop_assert_eq!(merged.hint.affinity, best);
        }
    }
}

fn for_each_set(count: u32, below: u32, chosen: NumaMask, visit: &mut dyn FnMut(NumaMask)) {
    if count == 0 {
        return visit(chosen);
    }
    (0..below).for_each(|node| for_each_set(count - 1, node, NumaMask(chosen.0 | 1 << node), visit));
}

#[test]
fn close_nodes_of_a_wide_machine_are_found_whole() {
    // Eight boards of eight nodes; a board is closer than the others, and the first board is taken.
    let row = |node: u32| {
        (0..64)
            .map(|to| {
                if node == to {
                    10
                } else if node / 8 == to / 8 {
                    12
                } else {
                    32
                }
            })
            .collect()
    };
    let rows: Vec<Vec<u32>> = (0..64).map(row).collect();
    let rows: Vec<(u32, &[u32])> = rows.iter().enumerate().map(|(node, row)| (node as u32, row.as_slice())).collect();
    let distances = Distances::from_rows(NumaMask(u64::MAX), rows.iter().copied());
    let weights = (0..64).map(|node| if node < 8 { 1 } else { 4 }).collect();
    let subsets_bound = Bound::sum(weights, 32);
    let subsets = Subsets {
        universe: NumaMask(u64::MAX),
        required: NumaMask::EMPTY,
        bounds: vec![&subsets_bound],
        order: MaskOrder::Closest(&distances),
    };
    assert_eq!(subsets.best(8, None), Some(NumaMask(0xff00)));
}
