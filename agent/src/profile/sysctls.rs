//! Section `sysctls`: kernel parameters, and the policy that limits them.

use std::collections::BTreeMap;

use trimtab_domain::spec::sysctls::{SysctlPolicy, SysctlsSpec};
use trimtab_domain::sysctl::normalize;
use trimtab_domain::sysctl::policy::Violation;

use super::diagnostic::Diagnostic;
use super::reader::{Cursor, Item, Problems};
use super::scalar::{self, Kind};

/// Longest value: what one `write(2)` to `/proc/sys` takes, one page less the final NUL.
const MAX_VALUE_BYTES: usize = 4095;
/// Longest name of one file or directory.
const MAX_COMPONENT_BYTES: usize = 255;
/// What a value may be.
const VALUE: &str = "a whole number, text, or a list of whole numbers";
/// What a key may be.
const KEY: &str = "a name below /proc/sys such as net.core.somaxconn or net/core/somaxconn";

/// Fields:
/// - `values`: key to value. Dots or slashes separate, whichever comes first: `net.ipv4.conf.eth0/100.rp_filter` and
///   `net/ipv4/conf/eth0.100/rp_filter` are the same. `*`, `?` and `[…]` stand for names that the kernel has;
///   an exact key goes before a glob. A value is a number, text, or a list of numbers;
/// - `policy`: `aks` or `gke`; absent: every key may be set.
pub(super) fn read(section: &Cursor<'_>, problems: &mut Problems) -> Option<SysctlsSpec> {
    let section = section.object(&["policy", "values"], problems)?;
    let policies = [SysctlPolicy::Aks, SysctlPolicy::Gke];
    let word = section.field("policy").and_then(|cursor| cursor.choice(&policies.map(SysctlPolicy::as_str), problems));
    let policy = policies.into_iter().find(|policy| Some(policy.as_str()) == word);
    let items = section.field("values").and_then(|cursor| cursor.mapping("a mapping of keys to values", problems));
    let mut values = BTreeMap::new();
    let mut places = BTreeMap::new();
    for item in items.unwrap_or_default() {
        let key = read_key(&item, problems);
        let value = read_value(&item.value, problems);
        let Some(key) = key else { continue };
        if let Some(line) = places.insert(key.clone(), item.key_at.line) {
            let again = Diagnostic::at(item.key_at, item.value.path(), "the same key twice")
                .found(format!("{:?}, first in line {line}", item.key))
                .allowed("each key once, however it is spelled");
            problems.refuse(again);
        }
        let Some(value) = value else { continue };
        if let Some(policy) = policy {
            check_policy(policy, &key, &value, &item, problems);
        }
        values.insert(key, value);
    }
    Some(SysctlsSpec { values, policy })
}

/// The key in dotted form.
fn read_key(item: &Item<'_>, problems: &mut Problems) -> Option<String> {
    let mut refuse = |message: &str, hint: &str| {
        let bad = Diagnostic::at(item.key_at, item.value.path(), message);
        problems.refuse(bad.found(format!("{:?}", super::reader::short(item.key))).allowed(KEY).hint(hint));
        None
    };
    let name = normalize(item.key);
    // Now dots separate, and a slash stands for a dot within a name.
    let components: Vec<String> = name.split('.').map(|part| part.replace('/', ".")).collect();
    let odd = |c: char| !c.is_ascii_graphic() || matches!(c, '\\' | '"' | '\'' | '`' | '=' | ';' | '#');
    if name.contains(odd) {
        let hint = if name.contains('=') { "the value stands behind a colon" } else { "" };
        return refuse("not a sysctl key: odd character", hint);
    }
    if item.key.starts_with(['/', '.']) {
        let relative = item.key.strip_prefix("/proc/sys/").unwrap_or("");
        let hint = if relative.is_empty() { String::new() } else { format!("did you mean {relative:?}?") };
        return refuse("not a sysctl key: begins with a separator", &hint);
    }
    if components.iter().any(String::is_empty) {
        return refuse("not a sysctl key: empty component", "");
    }
    if components.iter().any(|part| part == "." || part == "..") {
        return refuse("not a sysctl key: leads out of /proc/sys", "");
    }
    if components.len() < 2 {
        return refuse("not a sysctl key: a single name", "");
    }
    if components.iter().any(|part| part.len() > MAX_COMPONENT_BYTES) {
        return refuse("not a sysctl key: a component is too long", "at most 255 bytes");
    }
    if components.first().is_some_and(|part| part.contains(['*', '?', '['])) {
        return refuse("a glob may not stand for the first component", "");
    }
    if !components.iter().all(|part| brackets_close(part)) {
        return refuse("a bracket of a glob is not closed", "");
    }
    Some(name)
}

/// True if each `[` has a `]` with something in between.
fn brackets_close(component: &str) -> bool {
    let mut rest = component;
    while let Some((_, tail)) = rest.split_once('[') {
        let tail = tail.strip_prefix(['!', '^']).unwrap_or(tail);
        match tail.char_indices().skip(1).find(|(_, c)| *c == ']') {
            Some((end, _)) => rest = tail.get(end + 1..).unwrap_or(""),
            None => return false,
        }
    }
    true
}

/// The value as it will be written.
fn read_value(cursor: &Cursor<'_>, problems: &mut Problems) -> Option<String> {
    if cursor.is_list() {
        let items = cursor.list(VALUE, problems)?;
        if items.is_empty() {
            problems.refuse(cursor.problem("empty list").allowed(VALUE));
            return None;
        }
        let numbers: Vec<Option<String>> = items.iter().map(|item| read_number(item, problems)).collect();
        return numbers.into_iter().collect::<Option<Vec<_>>>().map(|numbers| numbers.join(" "));
    }
    if cursor.kind() != Some(Kind::Text) {
        return read_number(cursor, problems);
    }
    let text = cursor.raw();
    if cursor.is_plain() && scalar::is_old_boolean(text) {
        let hint = format!("1 or 0 for a switch; in quotes if the kernel takes the word {text:?}");
        problems.refuse(cursor.problem("wrong type").allowed(VALUE).hint(hint));
        return None;
    }
    if text.chars().any(|c| c.is_control() && c != '\t') {
        problems.refuse(cursor.problem("line end in a value").allowed("a single line"));
        return None;
    }
    if text.len() > MAX_VALUE_BYTES {
        problems.refuse(cursor.problem("too long").allowed(format!("at most {MAX_VALUE_BYTES} bytes")));
        return None;
    }
    Some(text.trim().to_owned())
}

/// A whole number of up to 64 bits.
fn read_number(cursor: &Cursor<'_>, problems: &mut Problems) -> Option<String> {
    let refusal = match cursor.kind() {
        Some(Kind::Integer) if fits(cursor.raw()) => return Some(cursor.raw().to_owned()),
        Some(Kind::Integer) => cursor.problem("out of range").allowed("a number of at most 64 bits"),
        Some(Kind::Boolean(value)) => {
            let number = u8::from(value);
            cursor.problem("wrong type").allowed(VALUE).hint(format!("did you mean {number}?"))
        }
        Some(Kind::OtherNumber) => {
            let hint = "decimal digits without a leading zero; quotes keep the text as it is";
            cursor.problem("not a whole number").allowed(VALUE).hint(hint)
        }
        Some(Kind::Null) => cursor.problem("wrong type").allowed(VALUE).hint("\"\" clears a key that holds text"),
        Some(Kind::Text) | None => cursor.problem("wrong type").allowed(VALUE),
    };
    problems.refuse(refusal);
    None
}

fn fits(digits: &str) -> bool {
    digits.parse::<u64>().is_ok() || digits.parse::<i64>().is_ok()
}

fn check_policy(policy: SysctlPolicy, key: &str, value: &str, item: &Item<'_>, problems: &mut Problems) {
    let refusal = match policy.check(key, value) {
        Ok(()) => return,
        Err(Violation::Key { .. }) => {
            let keys = policy.rules().iter().map(|rule| rule.key);
            Diagnostic::at(item.key_at, item.value.path(), format!("not allowed by policy {policy}"))
                .found(format!("{key:?}"))
                .allowed(format!("the {} keys of policy {policy}", policy.rules().len()))
                .suggest(key, keys)
        }
        Err(Violation::Value { allowed, .. }) => {
            item.value.problem(format!("out of the range of policy {policy}")).found(value).allowed(allowed.to_string())
        }
    };
    problems.refuse(refusal);
}
