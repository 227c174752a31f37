//! Policy `single-numa-node`: everything from one node, or nothing.

use crate::hint::merge::{Merge, flatten};
use crate::hint::{MaskOrder, MergedHint, ProviderHints, TopologyHint, TopologyManager};

/// Considers only preferred hints with one node or without a mask, and admits only a preferred result.
///
/// Two different single nodes have an empty intersection, so there is no result that is not preferred. A mask of all
/// nodes ("nobody cares", or the only node of the machine) becomes "no mask"; distances play no part.
pub(super) fn merge(manager: &TopologyManager, providers: &[ProviderHints]) -> MergedHint {
    let merge = Merge { nodes: manager.nodes(), order: MaskOrder::Narrowest, widest: 1 };
    let mask = merge.best_preferred(flatten(providers));
    let affinity = mask.filter(|mask| *mask != manager.nodes());
    MergedHint { hint: TopologyHint { affinity, preferred: mask.is_some() }, admit: mask.is_some() }
}
