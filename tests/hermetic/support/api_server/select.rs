//! Label and field selectors of lists and watches.

use serde_json::Value;

use super::log::Call;

/// What a list or a watch is narrowed to.
#[derive(Debug, Clone, Default)]
pub(super) struct Selection {
    namespace: String,
    labels: String,
    fields: String,
}

impl Selection {
    pub(super) fn of(call: &Call) -> Self {
        // A watch of one object by its path is the same as one with a field selector.
        let mut fields = call.parameter("fieldSelector").to_owned();
        if !call.name.is_empty() {
            fields = format!("metadata.name={}", call.name);
        }
        Self { namespace: call.namespace.clone(), labels: call.parameter("labelSelector").to_owned(), fields }
    }

    pub(super) fn takes(&self, object: &Value) -> bool {
        let metadata = &object["metadata"];
        (self.namespace.is_empty() || metadata["namespace"] == self.namespace.as_str())
            && requirements(&self.fields).all(|field| field_fits(object, field))
            && requirements(&self.labels).all(|label| label_fits(&metadata["labels"], label))
    }
}

fn requirements(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').filter(|part| !part.is_empty())
}

fn field_fits(object: &Value, requirement: &str) -> bool {
    let (path, wanted, equal) = match requirement.split_once("!=") {
        Some((path, wanted)) => (path, wanted, false),
        None => {
            let (path, wanted) = requirement.split_once('=').unwrap_or((requirement, ""));
            (path, wanted.trim_start_matches('='), true)
        }
    };
    let found = object.pointer(&format!("/{}", path.replace('.', "/"))).and_then(Value::as_str).unwrap_or_default();
    (found == wanted) == equal
}

fn label_fits(labels: &Value, requirement: &str) -> bool {
    let of = |key: &str| labels.get(key).and_then(Value::as_str);
    if let Some((key, value)) = requirement.split_once("!=") {
        return of(key) != Some(value);
    }
    if let Some((key, value)) = requirement.split_once('=') {
        return of(key) == Some(value.trim_start_matches('='));
    }
    match requirement.strip_prefix('!') {
        Some(key) => of(key).is_none(),
        None => of(requirement).is_some(),
    }
}

/// `spec.selector` of a PodDisruptionBudget, equality only.
pub(super) fn match_labels(selector: &Value, labels: &Value) -> bool {
    selector["matchLabels"]
        .as_object()
        .is_some_and(|wanted| wanted.iter().all(|(key, value)| labels.get(key) == Some(value)))
}
