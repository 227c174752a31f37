//! Policy `best-effort`: the best hint, whatever it is worth.

use crate::hint::merge::{Merge, flatten};
use crate::hint::{MergedHint, ProviderHints, TopologyManager};

/// Merges, and admits always.
pub(super) fn merge(manager: &TopologyManager, providers: &[ProviderHints]) -> MergedHint {
    let merge = Merge { nodes: manager.nodes(), order: manager.order(), widest: u32::MAX };
    MergedHint { hint: merge.best(flatten(providers)), admit: true }
}
