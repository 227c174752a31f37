//! The merge against a deliberately naive one that walks every combination, and against worked examples.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]
#![allow(clippy::cast_possible_truncation, reason = "tests")]

use proptest::prelude::*;

use super::*;
use crate::workload::ResourceName;

/// The pairwise rule of the reference over the full cross product.
mod naive {
    use super::*;

    pub(super) struct Naive {
        pub(super) nodes: NumaMask,
        pub(super) distances: Option<Distances>,
    }

    impl Naive {
        fn narrower(&self, a: NumaMask, b: NumaMask) -> bool {
            if a.len() != b.len() {
                return a.len() < b.len();
            }
            if let Some(distances) = &self.distances {
                let average = |m: NumaMask| distances.sum(m) as f64 / f64::from(m.len() * m.len());
                if average(a) != average(b) {
                    return average(a) < average(b);
                }
            }
            a.0 < b.0
        }

        /// Whether `candidate` replaces `current`, with `limit` the widest of the narrowest masks.
        fn replaces(&self, limit: u32, current: (NumaMask, bool), candidate: (NumaMask, bool)) -> bool {
            if candidate.0.is_empty() {
                return false;
            }
            match (current.1, candidate.1) {
                (false, true) => return true,
                (true, false) => return false,
                (true, true) => return self.narrower(candidate.0, current.0),
                (false, false) => {}
            }
            let (now, new) = (current.0.len(), candidate.0.len());
            if now > limit {
                return if new != now { new < now } else { self.narrower(candidate.0, current.0) };
            }
            if now == limit {
                return new == limit && self.narrower(candidate.0, current.0);
            }
            if new > limit {
                return false;
            }
            if new != now { new > now } else { self.narrower(candidate.0, current.0) }
        }

        pub(super) fn merge(&self, lists: &[Vec<TopologyHint>]) -> TopologyHint {
            let limit = lists
                .iter()
                .filter_map(|list| list.iter().filter_map(|hint| hint.affinity).map(NumaMask::len).min())
                .max()
                .unwrap_or(0);
            let mut best: Option<(NumaMask, bool)> = None;
            let mut combination = Vec::new();
            self.walk(lists, &mut combination, &mut |hints| {
                let mask = hints.iter().filter_map(|hint| hint.affinity).fold(self.nodes, NumaMask::intersection);
                let mut masks = hints.iter().filter_map(|hint| hint.affinity);
                let first = masks.next();
                let same = masks.all(|mask| Some(mask) == first);
                let candidate = (mask, same && hints.iter().all(|hint| hint.preferred));
                if mask.is_empty() {
                    return;
                }
                if best.is_none_or(|current| self.replaces(limit, current, candidate)) {
                    best = Some(candidate);
                }
            });
            best.map_or(TopologyHint::new(self.nodes, false), |(mask, preferred)| TopologyHint::new(mask, preferred))
        }

        fn walk(
            &self,
            lists: &[Vec<TopologyHint>],
            combination: &mut Vec<TopologyHint>,
            visit: &mut dyn FnMut(&[TopologyHint]),
        ) {
            let Some((list, rest)) = lists.split_first() else { return visit(combination) };
            for hint in list {
                combination.push(*hint);
                self.walk(rest, combination, visit);
                combination.pop();
            }
        }
    }
}

fn hint(node_count: u32) -> impl Strategy<Value = TopologyHint> {
    let all = (1u64 << node_count) - 1;
    let mask =
        prop_oneof![1 => Just(None), 6 => (1..=all).prop_map(Some), 3 => (0..node_count).prop_map(|n| Some(1 << n))];
    (mask, any::<bool>()).prop_map(|(mask, preferred)| TopologyHint { affinity: mask.map(NumaMask), preferred })
}

fn case() -> impl Strategy<Value = (u32, Vec<Vec<TopologyHint>>, Vec<u32>)> {
    (1u32..=6).prop_flat_map(|nodes| {
        let list = prop::collection::vec(hint(nodes), 1..9);
        let distances = prop::collection::vec(prop_oneof![Just(10u32), 10..14u32], (nodes * nodes) as usize);
        (Just(nodes), prop::collection::vec(list, 0..5), distances)
    })
}

fn providers(lists: &[Vec<TopologyHint>]) -> Vec<ProviderHints> {
    lists.iter().map(|list| ProviderHints::single(ResourceName::Cpu, list.clone().into())).collect()
}

fn manager(policy: &str, rows: &[Vec<u32>], closest: bool) -> TopologyManager {
    let nodes: Vec<(u32, &[u32])> = rows.iter().enumerate().map(|(id, row)| (id as u32, row.as_slice())).collect();
    let mut config = TopologyConfig { policy: policy.into(), wide_machines: Some(64), ..TopologyConfig::default() };
    if closest {
        config.options.insert("prefer-closest-numa-nodes".into(), "true".into());
    }
    TopologyManager::new(&config, &nodes).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn merge_equals_the_walk_over_all_combinations((nodes, lists, cells) in case(), closest in any::<bool>()) {
        let rows: Vec<Vec<u32>> = cells.chunks(nodes as usize).map(<[u32]>::to_vec).collect();
        let manager = manager("best-effort", &rows, closest);
        let distances = match manager.order() {
            MaskOrder::Closest(distances) => Some(distances.clone()),
            MaskOrder::Narrowest => None,
        };
        let naive = naive::Naive { nodes: manager.nodes(), distances };
        prop_assert_eq!(manager.merge(&providers(&lists)).hint, naive.merge(&lists));
    }

    #[test]
    fn single_numa_node_equals_the_walk_over_narrow_preferred_hints((nodes, lists, _) in case()) {
        let rows = vec![vec![10; nodes as usize]; nodes as usize];
        let manager = manager("single-numa-node", &rows, false);
        let narrow: Vec<Vec<TopologyHint>> = lists
            .iter()
            .map(|list| {
                let keep = |hint: &&TopologyHint| hint.preferred && hint.affinity.is_none_or(|mask| mask.len() == 1);
                list.iter().filter(keep).copied().collect()
            })
            .collect();
        let naive = naive::Naive { nodes: manager.nodes(), distances: None };
        let mut expected = naive.merge(&narrow);
        expected.affinity = expected.affinity.filter(|mask| *mask != manager.nodes());
        let merged = manager.merge(&providers(&lists));
        prop_assert_eq!(merged.hint, expected);
        prop_assert_eq!(merged.admit, expected.preferred);
    }

    #[test]
    fn dense_and_pairwise_intersections_agree(
        lists in prop::collection::vec(prop::collection::vec(hint(8), 1..80), 1..5),
        gaps in any::<bool>(),
    ) {
        // With gaps, node n of the hint is node 3n of the machine.
        let spread = |mask: NumaMask| if gaps { mask.iter().map(|node| node * 3).collect() } else { mask };
        let lists: Vec<Vec<TopologyHint>> = lists
            .iter()
            .map(|list| list.iter().map(|h| TopologyHint { affinity: h.affinity.map(spread), ..*h }).collect())
            .collect();
        let (mut dense, mut pairwise) = (Vec::new(), Vec::new());
        let slices = || lists.iter().map(Vec::as_slice);
        intersections::for_each(spread(NumaMask(255)), slices(), |mask| dense.push(mask));
        intersections::pairwise(spread(NumaMask(255)), slices(), &mut |mask| pairwise.push(mask));
        dense.sort_unstable();
        dense.dedup();
        prop_assert_eq!(dense, pairwise);
    }
}

#[test]
fn counters_do_not_overflow_with_many_full_lists() {
    let full: Vec<TopologyHint> = (1..=255).map(|mask| TopologyHint::new(NumaMask(mask), false)).collect();
    let lists = vec![full; 40];
    let mut found = Vec::new();
    intersections::for_each(NumaMask(255), lists.iter().map(Vec::as_slice), |mask| found.push(mask.0));
    assert_eq!(found, (1..=255).collect::<Vec<_>>());
}

#[test]
fn worked_examples() {
    let hints = |text: &str| -> HintList {
        if text == "null" {
            return HintList::Any;
        }
        let parse = |item: &str| {
            let (bits, sign) = item.split_at(item.len() - 1);
            TopologyHint::new(NumaMask(u64::from_str_radix(bits, 2).unwrap()), sign == "+")
        };
        text.split_whitespace().map(parse).collect::<Vec<_>>().into()
    };
    // (policy, nodes, resources, mask, preferred)
    type Row<'a> = (&'a str, usize, &'a [&'a str], Option<u64>, bool);
    let rows: &[Row<'_>] = &[
        ("restricted", 2, &[], Some(3), true),
        ("single-numa-node", 2, &[], None, true),
        ("restricted", 2, &["01+ 10+ 11-", "10+ 11-"], Some(2), true),
        ("single-numa-node", 2, &["01+ 10+ 11-", "10+ 11-"], Some(2), true),
        ("best-effort", 2, &["01+", "10+"], Some(3), false),
        ("single-numa-node", 2, &["01+", "10+"], None, false),
        ("best-effort", 2, &["11+", "01+ 10+ 11-"], Some(3), false),
        ("best-effort", 2, &["01+ 10+ 11-", ""], Some(1), false),
        ("best-effort", 2, &["01+ 10+ 11-", "null"], Some(1), true),
        ("restricted", 1, &["1+"], Some(1), true),
        ("single-numa-node", 1, &["1+"], None, true),
        ("best-effort", 4, &["0101+ 0110+ 1001+ 1010+ 1100+"], Some(5), true),
        ("best-effort", 4, &["0011- 0111- 1111-", "0001+ 0010+ 0100+ 1000+ 0011-"], Some(3), false),
    ];
    for (policy, nodes, resources, mask, preferred) in rows {
        let manager = manager(policy, &vec![vec![10; *nodes]; *nodes], false);
        let mut provider = ProviderHints::NO_OPINION;
        resources.iter().for_each(|text| provider.push(ResourceName::Cpu, hints(text)));
        let merged = manager.merge(&[provider]);
        let expected = TopologyHint { affinity: mask.map(NumaMask), preferred: *preferred };
        assert_eq!(merged.hint, expected, "{policy} {nodes} {resources:?}");
        assert_eq!(merged.admit, *policy == "best-effort" || *preferred, "{policy} {nodes} {resources:?}");
    }
}

#[test]
fn closest_nodes_win_over_smaller_numbers() {
    let rows = [[10, 12, 20, 22], [12, 10, 22, 24], [20, 22, 10, 12], [22, 24, 12, 10]].map(Vec::from);
    let masks = [0b0101, 0b0110, 0b1001, 0b1010, 0b1100];
    let list: Vec<TopologyHint> = masks.map(|mask| TopologyHint::new(NumaMask(mask), true)).into();
    let providers = [ProviderHints::single(ResourceName::Cpu, list.into())];
    let merged = |closest| manager("restricted", &rows, closest).merge(&providers).hint.affinity;
    assert_eq!(merged(true), Some(NumaMask(0b1100)));
    assert_eq!(merged(false), Some(NumaMask(0b0101)));
}

#[test]
fn faulty_settings_are_refused_in_the_words_of_the_kubelet() {
    let two: [(u32, &[u32]); 2] = [(0, &[10, 20]), (1, &[20, 10])];
    let nine: Vec<(u32, &[u32])> = (0..9).map(|id| (id, [].as_slice())).collect();
    type Row<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], &'a [(u32, &'a [u32])], &'a str);
    let rows: &[Row<'_>] = &[
        ("strict", "container", &[], &two, "unknown policy: \"strict\""),
        ("restricted", "node", &[], &two, "unknown scope: \"node\""),
        ("strict", "node", &[("x", "1")], &two, "unknown Topology Manager Policy option: \"x\""),
        (
            "restricted",
            "pod",
            &[("prefer-closest-numa-nodes", "maybe")],
            &two,
            "bad value for option \"prefer-closest-numa-nodes\": strconv.ParseBool: parsing \"maybe\": invalid syntax",
        ),
        (
            "restricted",
            "pod",
            &[("max-allowable-numa-nodes", "many")],
            &two,
            "unable to convert policy option to integer \"max-allowable-numa-nodes\": strconv.Atoi: parsing \"many\": invalid syntax",
        ),
        (
            "restricted",
            "pod",
            &[("max-allowable-numa-nodes", "7")],
            &two,
            "the minimum value of \"max-allowable-numa-nodes\" should not be less than 8",
        ),
        ("restricted", "pod", &[], &nine, "unsupported on machines with more than 8 NUMA Nodes"),
        (
            "restricted",
            "pod",
            &[("prefer-closest-numa-nodes", "true")],
            &nine,
            "cannot discover NUMA topology: error getting NUMA distances from cadvisor",
        ),
    ];
    for (policy, scope, options, nodes, message) in rows {
        let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let config = TopologyConfig { policy: (*policy).into(), scope: (*scope).into(), options, wide_machines: None };
        let error = TopologyManager::new(&config, nodes).expect_err(message);
        assert_eq!(error.to_string(), *message);
        let none = TopologyConfig { policy: "none".into(), ..config };
        assert!(TopologyManager::new(&none, nodes).is_ok(), "policy none looks at nothing");
    }
}
