//! JSON patches (RFC 6902), merge patches (RFC 7396) and strategic merge patches, as far as they are sent.

use serde_json::{Map, Value};

use super::apply::list_key;
use super::status::Refused;

/// Changes an object by a patch of this content type.
pub(super) fn patch(object: &mut Value, content_type: &str, patch: &Value) -> Result<(), Refused> {
    match content_type.split(';').next().unwrap_or_default() {
        "application/json-patch+json" => json_patch(object, patch),
        "application/merge-patch+json" => {
            merge_patch(object, patch);
            Ok(())
        }
        "application/strategic-merge-patch+json" => {
            strategic(object, patch, "");
            Ok(())
        }
        other => Err(Refused::new(
            415,
            "UnsupportedMediaType",
            format!("the body of the request was in an unknown format - {other}"),
        )),
    }
}

fn merge_patch(object: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        object.clone_from(patch);
        return;
    };
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let map = object.as_object_mut().unwrap();
    for (name, value) in patch {
        if value.is_null() {
            map.shift_remove(name);
        } else {
            merge_patch(map.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

fn strategic(object: &mut Value, patch: &Value, field: &str) {
    match (patch, list_key(field)) {
        (Value::Object(patch), _) => {
            if !object.is_object() {
                *object = Value::Object(Map::new());
            }
            let map = object.as_object_mut().unwrap();
            for (name, value) in patch.iter().filter(|(name, _)| !name.starts_with('$')) {
                if value.is_null() {
                    map.shift_remove(name);
                } else {
                    strategic(map.entry(name.clone()).or_insert(Value::Null), value, name);
                }
            }
        }
        (Value::Array(items), Some(key)) if object.is_array() => {
            let list = object.as_array_mut().unwrap();
            for item in items {
                let same = |known: &Value| known[key] == item[key];
                if item["$patch"] == "delete" {
                    list.retain(|known| !same(known));
                } else if let Some(known) = list.iter_mut().find(|known| same(known)) {
                    strategic(known, item, "");
                } else {
                    list.push(item.clone());
                }
            }
        }
        _ => object.clone_from(patch),
    }
}

fn json_patch(object: &mut Value, patch: &Value) -> Result<(), Refused> {
    let invalid = |why: String| Refused::new(422, "Invalid", format!("the server rejected our request: {why}"));
    for operation in patch.as_array().ok_or_else(|| invalid("a JSON patch is a list".into()))? {
        let path = operation["path"].as_str().ok_or_else(|| invalid("an operation needs a path".into()))?;
        let value = operation.get("value").cloned();
        let (parent, last) = path.rsplit_once('/').ok_or_else(|| invalid(format!("bad path {path:?}")))?;
        let last = last.replace("~1", "/").replace("~0", "~");
        if operation["op"] == "test" {
            if object.pointer(path) != value.as_ref() {
                return Err(invalid(format!("testing path {path} value failed")));
            }
            continue;
        }
        let target = object.pointer_mut(parent).ok_or_else(|| invalid(format!("doc is missing path: {path:?}")))?;
        match (operation["op"].as_str().unwrap_or_default(), target, value) {
            ("add", Value::Object(map), Some(value)) => drop(map.insert(last, value)),
            ("replace", Value::Object(map), Some(value)) if map.contains_key(&last) => drop(map.insert(last, value)),
            ("remove", Value::Object(map), _) if map.contains_key(&last) => drop(map.shift_remove(&last)),
            ("add", Value::Array(list), Some(value)) if last == "-" => list.push(value),
            ("add", Value::Array(list), Some(value)) => {
                let at = last.parse::<usize>().ok().filter(|at| *at <= list.len());
                list.insert(at.ok_or_else(|| invalid(format!("bad index in {path}")))?, value);
            }
            ("replace", Value::Array(list), Some(value)) => {
                let slot = last.parse::<usize>().ok().and_then(|at| list.get_mut(at));
                *slot.ok_or_else(|| invalid(format!("bad index in {path}")))? = value;
            }
            ("remove", Value::Array(list), _) => {
                let at = last.parse::<usize>().ok().filter(|at| *at < list.len());
                list.remove(at.ok_or_else(|| invalid(format!("bad index in {path}")))?);
            }
            (op, ..) => return Err(invalid(format!("cannot {op} {path}"))),
        }
    }
    Ok(())
}
