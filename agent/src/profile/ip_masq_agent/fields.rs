//! The keys of a configuration, taken from the tree as Go's decoder takes them: names without regard to case, a later
//! spelling over an earlier one, no coercion of types.

use std::time::Duration;

use trimtab_domain::plan::{Finding, Severity};

use super::doubt;
use super::value::Value;
use crate::profile::go_duration;
use crate::profile::suggest::closest;

/// Entries allowed where a file sets no limit.
pub(super) const DEFAULT_LIMIT: i64 = 64;
/// The originals spin on less.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);
const KEYS: [&str; 5] = ["nonMasqueradeCIDRs", "cidrLimit", "masqLinkLocal", "masqLinkLocalIPv6", "resyncInterval"];
const TYPE: &str = "MasqConfig";

/// What one file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fields {
    /// `None`: the key is absent. A null among the entries is an empty text, which is no prefix.
    pub(super) cidrs: Option<Vec<String>>,
    pub(super) cidr_limit: i64,
    pub(super) masq_link_local: bool,
    pub(super) masq_link_local_ipv6: bool,
    /// `None`: the key is absent.
    pub(super) resync_interval: Option<Duration>,
}

impl Fields {
    /// Reads the keys of `file`; without `all`, as Azure's agent does, limit and interval are none. What is passed over
    /// is told.
    ///
    /// # Errors
    /// What Go's decoder would say, about the first value of a wrong type.
    pub(super) fn read(tree: &Value, file: &str, all: bool, findings: &mut Vec<Finding>) -> Result<Self, String> {
        let mut fields = Self {
            cidrs: None,
            cidr_limit: DEFAULT_LIMIT,
            masq_link_local: false,
            masq_link_local_ipv6: false,
            resync_interval: None,
        };
        let entries = match tree {
            Value::Null => return Ok(fields),
            Value::Map(entries) => entries,
            other => return Err(format!("json: cannot unmarshal {} into Go value of type main.{TYPE}", other.kind())),
        };
        let mut seen: Vec<&str> = Vec::new();
        for (key, value) in entries {
            let known = KEYS.into_iter().find(|known| fold(known) == fold(key));
            match known {
                Some("nonMasqueradeCIDRs") => fields.cidrs = Some(list(value)?),
                Some("masqLinkLocal") => boolean(value, "masqLinkLocal", &mut fields.masq_link_local)?,
                Some("masqLinkLocalIPv6") => boolean(value, "masqLinkLocalIPv6", &mut fields.masq_link_local_ipv6)?,
                Some("cidrLimit") if all => integer(value, &mut fields.cidr_limit)?,
                Some("resyncInterval") if all => fields.resync_interval = Some(interval(value, file, findings)?),
                Some(ignored) => findings.push(without_effect(file, ignored)),
                None => findings.push(unknown(file, key)),
            }
            match known {
                Some(known) if seen.contains(&known) => findings.push(repeated(file, known)),
                Some(known) => seen.push(known),
                None => {}
            }
        }
        Ok(fields)
    }
}

/// Go's `encoding/json` folds two letters beyond ASCII as well.
fn fold(key: &str) -> String {
    key.replace('\u{17f}', "s").replace('\u{212a}', "k").to_ascii_lowercase()
}

fn wrong_type(value: &Value, key: &str, wanted: &str) -> String {
    let number = match value {
        Value::Number(text) if wanted == "int" => format!(" {text}"),
        _ => String::new(),
    };
    format!("json: cannot unmarshal {}{number} into Go struct field {TYPE}.{key} of type {wanted}", value.kind())
}

fn list(value: &Value) -> Result<Vec<String>, String> {
    let items = match value {
        Value::Null => return Ok(Vec::new()),
        Value::List(items) => items,
        other => return Err(wrong_type(other, "nonMasqueradeCIDRs", "[]string")),
    };
    let text = |item: &Value| match item {
        Value::Text(text) => Ok(text.clone()),
        // A null leaves what was there; the originals start from a default list, or from nothing.
        Value::Null => Ok(String::new()),
        other => Err(wrong_type(other, "nonMasqueradeCIDRs", "string")),
    };
    items.iter().map(text).collect()
}

fn boolean(value: &Value, key: &str, field: &mut bool) -> Result<(), String> {
    match value {
        Value::Bool(value) => *field = *value,
        Value::Null => {}
        other => return Err(wrong_type(other, key, "bool")),
    }
    Ok(())
}

fn integer(value: &Value, field: &mut i64) -> Result<(), String> {
    match value {
        Value::Null => {}
        Value::Number(text) => *field = text.parse().map_err(|_| wrong_type(value, "cidrLimit", "int"))?,
        other => return Err(wrong_type(other, "cidrLimit", "int")),
    }
    Ok(())
}

fn interval(value: &Value, file: &str, findings: &mut Vec<Finding>) -> Result<Duration, String> {
    let text = match value {
        Value::Text(text) => text,
        Value::Null => "",
        other => return Err(wrong_type(other, "resyncInterval", "string")),
    };
    let positive = text.strip_prefix('-').unwrap_or(text);
    let signs = usize::from(text.starts_with('-')) + usize::from(positive.starts_with('+'));
    let found = go_duration::parse(positive).filter(|_| signs < 2).ok_or_else(|| bad_duration(text))?;
    let found = if text.starts_with('-') { Duration::ZERO } else { found };
    if found < SHORTEST_INTERVAL {
        let message = format!("resyncInterval {text:?} would never let the node rest; {SHORTEST_INTERVAL:?} is used");
        let remedy = "write a duration of at least 1s; changes are seen at once whatever the interval";
        findings.push(doubt(Severity::Warning, "masquerade-config-interval", file, message, remedy));
    }
    Ok(found.max(SHORTEST_INTERVAL))
}

/// The words of Go's `time.ParseDuration`.
fn bad_duration(text: &str) -> String {
    let rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    let (number, tail) = rest.split_at_checked(number_end).unwrap_or((rest, ""));
    let is_number = number.bytes().any(|byte| byte.is_ascii_digit()) && number.matches('.').count() <= 1;
    if !is_number {
        return format!("time: invalid duration {text:?}");
    }
    if tail.is_empty() {
        return format!("time: missing unit in duration {text:?}");
    }
    let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
    let (unit, behind) = tail.split_at_checked(unit_end).unwrap_or((tail, ""));
    if go_duration::parse(&format!("1{unit}")).is_none() {
        return format!("time: unknown unit {unit:?} in duration {text:?}");
    }
    match bad_duration(behind) {
        deeper if deeper.starts_with("time: missing") && !behind.is_empty() => {
            format!("time: missing unit in duration {text:?}")
        }
        _ => format!("time: invalid duration {text:?}"),
    }
}

fn unknown(file: &str, key: &str) -> Finding {
    let near = closest(key, KEYS).map(|name| format!("; did you mean {name}?")).unwrap_or_default();
    let shown: String = key.chars().take(80).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    let message = format!("key {shown:?} is unknown and has no effect{near}");
    let remedy = "correct or remove it; without nonMasqueradeCIDRs the list is not what was meant";
    doubt(Severity::Warning, "masquerade-config-unknown-key", file, message, remedy)
}

fn without_effect(file: &str, key: &str) -> Finding {
    let message = format!("key {key} has no effect in Azure's files");
    doubt(Severity::Info, "masquerade-config-idle-key", file, message, "remove it")
}

fn repeated(file: &str, key: &str) -> Finding {
    let message = format!("key {key} is there in several spellings; the one that sorts last counts");
    doubt(Severity::Warning, "masquerade-config-repeated-key", file, message, "keep one of them")
}
