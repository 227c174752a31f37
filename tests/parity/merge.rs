//! Category `hints_merge`: one merge of the hints of several providers.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use trimtab_domain::hint::{HintList, NumaMask, ProviderHints, TopologyConfig, TopologyHint, TopologyManager};
use trimtab_domain::workload::ResourceName;

use crate::category::{Verdict, malformed, same};
use crate::machine::Machines;

/// Mask (absent: no mask) and 1 if preferred.
type Hint = (Option<u64>, u8);

/// Hints by resource; an absent list is no opinion.
type Resources = BTreeMap<String, Option<Vec<Hint>>>;

#[derive(Deserialize)]
struct Case {
    numa_nodes: Vec<u32>,
    policy: String,
    #[serde(default)]
    prefer_closest_numa_nodes: bool,
    #[serde(default)]
    distances: BTreeMap<u32, Vec<u32>>,
    #[serde(default)]
    providers: Vec<Option<Resources>>,
    expect: Expect,
}

#[derive(Deserialize)]
struct Expect {
    affinity: Option<u64>,
    preferred: bool,
    admit: bool,
}

/// Merges and compares mask, preference and admission.
pub(crate) fn judge(case: &Value, _: &Machines) -> Verdict {
    let case = Case::deserialize(case).map_err(|error| malformed(&error.to_string()))?;
    let nodes: Vec<(u32, &[u32])> = case
        .numa_nodes
        .iter()
        .map(|node| (*node, case.distances.get(node).map_or([].as_slice(), Vec::as_slice)))
        .collect();
    let mut config = TopologyConfig { policy: case.policy, wide_machines: Some(64), ..TopologyConfig::default() };
    if case.prefer_closest_numa_nodes {
        config.options.insert("prefer-closest-numa-nodes".to_owned(), "true".to_owned());
    }
    let manager = TopologyManager::new(&config, &nodes).map_err(|error| malformed(&error.to_string()))?;
    let providers: Vec<ProviderHints> = case.providers.into_iter().map(Option::unwrap_or_default).map(hints).collect();
    let merged = manager.merge(&providers);
    let expected = (case.expect.affinity.map(NumaMask), case.expect.preferred, case.expect.admit);
    same(&expected, &(merged.hint.affinity, merged.hint.preferred, merged.admit))
}

/// The opinion of one provider; an absent list is "no preference".
fn hints(resources: Resources) -> ProviderHints {
    let mut provider = ProviderHints::NO_OPINION;
    for (name, list) in resources {
        let hint = |(mask, preferred): Hint| TopologyHint { affinity: mask.map(NumaMask), preferred: preferred != 0 };
        let hints = list.map_or(HintList::Any, |list| list.into_iter().map(hint).collect::<Vec<_>>().into());
        provider.push(ResourceName::from(name.as_str()), hints);
    }
    provider
}
