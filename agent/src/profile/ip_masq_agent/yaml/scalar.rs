//! What a scalar of YAML 1.1 stands for (go-yaml v2, `resolve.go`), as JSON has it.

use super::Value;

/// A scalar without quotes and without a tag.
pub(super) fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Value::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Value::Bool(false),
        _ => number(text).map_or_else(|| Value::Text(text.to_owned()), Value::Number),
    }
}

/// A scalar with a tag; `None`: a tag that is not one of YAML's own, behind which everything is text.
pub(super) fn tagged(text: &str, tag: Option<&str>) -> Result<Value, String> {
    let wrong = || format!("cannot decode !!str `{text}` as a !!{}", tag.unwrap_or_default());
    let value = resolve(text);
    match (tag, value) {
        (Some("null"), Value::Null) => Ok(Value::Null),
        (Some("bool"), value @ Value::Bool(_)) => Ok(value),
        (Some("float"), value @ Value::Number(_)) => Ok(value),
        (Some("int"), Value::Number(number)) if number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') => {
            Ok(Value::Number(number))
        }
        (Some("null" | "bool" | "int" | "float" | "binary"), _) => Err(wrong()),
        _ => Ok(Value::Text(text.to_owned())),
    }
}

/// A key as JSON needs it: text.
pub(super) fn key(value: Value) -> Result<String, String> {
    match value {
        Value::Text(text) | Value::Number(text) => Ok(text),
        Value::Bool(value) => Ok(value.to_string()),
        Value::Null | Value::List(_) | Value::Map(_) => Err(format!("unsupported map key of kind {}", value.kind())),
    }
}

/// The number in JSON's form; `None`: it is text.
fn number(text: &str) -> Option<String> {
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return None;
    }
    if matches!(text.trim_start_matches(['+', '-']), ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN") {
        // JSON has no such number, and no field takes it.
        return Some(text.to_owned());
    }
    let plain = text.replace('_', "");
    integer(&plain).or_else(|| float(&plain))
}

/// Go's `ParseInt` with base 0: decimal, `0x`, `0b`, `0o`, or a leading zero for octal.
fn integer(text: &str) -> Option<String> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (digits, base) = match (lower.strip_prefix("0x"), lower.strip_prefix("0b"), lower.strip_prefix("0o")) {
        (Some(rest), ..) => (rest, 16),
        (_, Some(rest), _) => (rest, 2),
        (.., Some(rest)) => (rest, 8),
        _ => match lower.strip_prefix('0').filter(|rest| !rest.is_empty()) {
            Some(rest) => (rest, 8),
            None => (lower.as_str(), 10),
        },
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let value = i128::from(u64::from_str_radix(digits, base).ok()?);
    let value = if negative { -value } else { value };
    (value >= i128::from(i64::MIN)).then(|| value.to_string())
}

/// A decimal number with a point or an exponent; a whole one is written without, as Go's JSON does below 10^21.
fn float(text: &str) -> Option<String> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).map_or((unsigned, None), |(m, e)| (m, Some(e)));
    let (whole, fraction) = mantissa.split_once('.').map_or((mantissa, None), |(w, f)| (w, Some(f)));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let some = !whole.is_empty() || fraction.is_some_and(|fraction| !fraction.is_empty());
    let power = exponent.is_none_or(|power| {
        let power = power.strip_prefix(['+', '-']).unwrap_or(power);
        !power.is_empty() && digits(power)
    });
    if !(some && digits(whole) && fraction.is_none_or(digits) && power) {
        return None;
    }
    let value: f64 = text.parse().ok()?;
    let is_whole = value.fract() == 0.0 && value.abs() < 1e21;
    Some(if is_whole { format!("{value:.0}") } else { format!("{value:?}") })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn plain_scalars_are_what_go_takes_them_for() {
        let number = |text: &str| Value::Number(text.to_owned());
        let rows = [
            ("yes", Value::Bool(true)),
            ("y", Value::Bool(true)),
            ("Off", Value::Bool(false)),
            ("yEs", Value::Text("yEs".into())),
            ("~", Value::Null),
            ("64", number("64")),
            ("0x40", number("64")),
            ("0b1000000", number("64")),
            ("0100", number("64")),
            ("6_4", number("64")),
            ("+64", number("64")),
            ("64.0", number("64")),
            ("6.4e1", number("64")),
            ("64.5", number("64.5")),
            ("08", number("8")),
            ("-0", number("0")),
            ("1e30", number("1e30")),
            ("60s", Value::Text("60s".into())),
            (".5m", Value::Text(".5m".into())),
            ("+5s", Value::Text("+5s".into())),
            ("10.0.0.0/8", Value::Text("10.0.0.0/8".into())),
            ("1.2.3", Value::Text("1.2.3".into())),
            ("2026-01-01", Value::Text("2026-01-01".into())),
            ("1:30", Value::Text("1:30".into())),
        ];
        for (text, expected) in rows {
            assert_eq!(resolve(text), expected, "{text:?}");
        }
    }

    #[test]
    fn tags_choose_the_kind_or_refuse() {
        assert_eq!(tagged("10", Some("str")), Ok(Value::Text("10".into())));
        assert_eq!(tagged("true", Some("bool")), Ok(Value::Bool(true)));
        assert_eq!(tagged("64", Some("int")), Ok(Value::Number("64".into())));
        assert_eq!(tagged("yes", None), Ok(Value::Text("yes".into())));
        for (text, tag) in [("maybe", "bool"), ("6.5", "int"), ("x", "float")] {
            assert!(tagged(text, Some(tag)).unwrap_err().contains(tag), "{text}");
        }
    }
}
