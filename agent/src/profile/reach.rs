//! `nodeSelector` and `weight`: for which nodes of a cluster a profile is.

use std::collections::{BTreeMap, BTreeSet};

use trimtab_domain::cluster::label::{LabelSelector, Operator, Requirement, is_label_value, is_qualified_name};
use trimtab_domain::cluster::selection::{MAX_WEIGHT, Reach};

use super::diagnostic::Diagnostic;
use super::reader::{Cursor, Item, Object, Problems, short};

/// What a key may be.
const KEY: &str = "a label key such as pool or example.com/pool";
/// What a value may be.
const VALUE: &str = "a label value: at most 63 letters, digits, '-', '_' or '.'";

/// Fields:
/// - `nodeSelector`: `matchLabels` and `matchExpressions` as everywhere in Kubernetes; absent or empty: every node;
/// - `weight`: 0 (default) to 1000; of several profiles that select a node the heaviest wins, of equals the first by name.
pub(super) fn read(spec: &Object<'_>, problems: &mut Problems) -> Reach {
    let selector = spec.field("nodeSelector").and_then(|cursor| read_selector(&cursor, problems));
    let weight = spec.field("weight").and_then(|cursor| cursor.integer(0, u64::from(MAX_WEIGHT), problems));
    let weight = weight.and_then(|weight| u32::try_from(weight).ok()).unwrap_or(0);
    Reach { selector: selector.unwrap_or_default(), weight }
}

fn read_selector(cursor: &Cursor<'_>, problems: &mut Problems) -> Option<LabelSelector> {
    let selector = cursor.object(&["matchLabels", "matchExpressions"], problems)?;
    let labels = selector.field("matchLabels").and_then(|cursor| cursor.mapping("a mapping of labels", problems));
    let mut match_labels = BTreeMap::new();
    for item in labels.unwrap_or_default() {
        check_key(&item, problems);
        if let Some(value) = read_value(&item.value, problems) {
            match_labels.insert(item.key.to_owned(), value);
        }
    }
    let items = selector.field("matchExpressions");
    let items = items.and_then(|cursor| cursor.list("a list of {key, operator, values}", problems)).unwrap_or_default();
    let match_expressions = items.iter().filter_map(|item| read_requirement(item, problems)).collect();
    Some(LabelSelector { match_labels, match_expressions })
}

fn check_key(item: &Item<'_>, problems: &mut Problems) {
    if !is_qualified_name(item.key) {
        let bad = Diagnostic::at(item.key_at, item.value.path(), "not a label key");
        problems.refuse(bad.found(format!("{:?}", short(item.key))).allowed(KEY));
    }
}

fn read_value(cursor: &Cursor<'_>, problems: &mut Problems) -> Option<String> {
    let value = cursor.text(VALUE, problems)?;
    if !is_label_value(value) {
        problems.refuse(cursor.problem("not a label value").allowed(VALUE));
        return None;
    }
    Some(value.to_owned())
}

fn read_requirement(item: &Cursor<'_>, problems: &mut Problems) -> Option<Requirement> {
    let entry = item.object(&["key", "operator", "values"], problems)?;
    let key_cursor = entry.required("key", KEY, problems);
    let key = key_cursor.as_ref().and_then(|cursor| cursor.text(KEY, problems));
    if let (Some(key), Some(cursor)) = (key, key_cursor.filter(|_| key.is_some_and(|key| !is_qualified_name(key)))) {
        problems.refuse(cursor.problem("not a label key").found(format!("{:?}", short(key))).allowed(KEY));
    }
    let words = Operator::ALL.map(Operator::as_str);
    let word = entry.required("operator", &words.join(", "), problems).and_then(|c| c.choice(&words, problems));
    let operator = Operator::ALL.into_iter().find(|operator| Some(operator.as_str()) == word);
    let listed = entry.field("values");
    let items = listed.as_ref().and_then(|cursor| cursor.list("a list of label values", problems)).unwrap_or_default();
    let values: BTreeSet<String> = items.iter().filter_map(|item| read_value(item, problems)).collect();
    let operator = operator?;
    if operator.has_values() == items.is_empty() {
        let (message, allowed) = match operator.has_values() {
            true => ("no values", "at least one value with In and NotIn"),
            false => ("values beside an operator that has none", "no values with Exists and DoesNotExist"),
        };
        problems.refuse(listed.unwrap_or_else(|| item.clone()).problem(message).allowed(allowed));
    }
    Some(Requirement { key: key?.to_owned(), operator, values })
}
