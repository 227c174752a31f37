//! Policy `restricted`: the best hint, if it is preferred.

use super::best_effort;
use crate::hint::{MergedHint, ProviderHints, TopologyManager};

/// Merges as `best-effort` does, and admits only a preferred result.
pub(super) fn merge(manager: &TopologyManager, providers: &[ProviderHints]) -> MergedHint {
    let merged = best_effort::merge(manager, providers);
    MergedHint { admit: merged.hint.preferred, ..merged }
}
