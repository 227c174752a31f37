//! Lists as tables: the printer columns of the definition that a cluster would have been given.

use serde_json::{Value, json};

/// A list in the form that `kubectl get` asks for, without the objects.
pub(super) fn table(list: &Value, plural: &str) -> Value {
    let definitions = trimtab::cluster::crd::definitions();
    let spec = definitions.iter().map(|one| &one.object["spec"]).find(|spec| spec["names"]["plural"] == plural);
    let columns: Vec<Value> =
        spec.and_then(|spec| spec["versions"][0]["additionalPrinterColumns"].as_array().cloned()).unwrap_or_default();
    let mut shown = vec![json!({"name": "Name", "type": "string", "format": "name", "priority": 0})];
    shown.extend(columns.iter().map(|column| {
        let priority = column.get("priority").cloned().unwrap_or(0.into());
        json!({"name": column["name"], "type": column["type"], "priority": priority})
    }));
    let row = |object: &Value| {
        let mut cells = vec![object["metadata"]["name"].clone()];
        cells.extend(columns.iter().map(|column| {
            let path = column["jsonPath"].as_str().unwrap().replace('.', "/");
            let value = object.pointer(&path).cloned().unwrap_or_default();
            // Times are shown as ages.
            if column["type"] == "date" && value.is_string() { "5m".into() } else { value }
        }));
        json!({"cells": cells, "object": null})
    };
    let rows: Vec<Value> = list["items"].as_array().unwrap().iter().map(row).collect();
    json!({
        "apiVersion": "meta.k8s.io/v1", "kind": "Table", "metadata": list["metadata"],
        "columnDefinitions": shown, "rows": rows,
    })
}
