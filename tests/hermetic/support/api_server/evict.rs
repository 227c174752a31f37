//! The Eviction API: a pod goes unless a PodDisruptionBudget has nothing left.

use serde_json::{Value, json};

use super::path::Place;
use super::select::match_labels;
use super::status::Refused;
use super::store::{Store, StoreEvent};

/// Evicts a pod.
pub(super) fn evict(store: &mut Store, pod: &Place) -> Result<Vec<StoreEvent>, Refused> {
    let pod = Place { subresource: String::new(), ..pod.clone() };
    let object = store.object(&pod).ok_or_else(|| Refused::not_found("pods", &pod.name))?.clone();
    let budgets = Place {
        group: "policy".into(),
        version: "v1".into(),
        plural: "poddisruptionbudgets".into(),
        namespace: pod.namespace.clone(),
        name: String::new(),
        subresource: String::new(),
    };
    let covers = |budget: &&Value| match_labels(&budget["spec"]["selector"], &object["metadata"]["labels"]);
    let budget = store.list(&budgets).into_iter().find(covers).cloned();
    let mut events = Vec::new();
    if let Some(mut budget) = budget {
        let allowed = budget["status"]["disruptionsAllowed"].as_u64().unwrap_or_default();
        if allowed == 0 {
            let message = "Cannot evict pod as it would violate the pod's disruption budget.";
            let mut refused = Refused::new(429, "TooManyRequests", message);
            let name = &budget["metadata"]["name"];
            refused.details = json!({"causes": [{
                "reason": "DisruptionBudget",
                "message": format!("The disruption budget {name} does not allow evicting pods currently"),
            }]});
            return Err(refused);
        }
        budget["status"]["disruptionsAllowed"] = (allowed - 1).into();
        let place = budgets.named(budget["metadata"]["name"].as_str().unwrap());
        events.push(store.put(&place, budget, "disruption-controller")?);
    }
    events.extend(store.remove(&pod));
    Ok(events)
}
