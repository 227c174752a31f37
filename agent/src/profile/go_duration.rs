//! Durations as Go writes them (`time.ParseDuration`): `300ms`, `1.5h`, `1m30s`, `0`.

use std::time::Duration;

use super::reader::{Cursor, Problems};
use super::scalar::Kind;

/// Reads a field that holds a duration of at least `least`.
pub(super) fn read(cursor: &Cursor<'_>, least: Duration, allowed: &str, problems: &mut Problems) -> Option<Duration> {
    if cursor.kind() == Some(Kind::Integer) {
        let hint = format!("did you mean \"{}s\"?", cursor.raw());
        problems.refuse(cursor.problem("missing unit").allowed(allowed).hint(hint));
        return None;
    }
    let message = match parse(cursor.text(allowed, problems)?) {
        Some(duration) if duration >= least => return Some(duration),
        Some(_) => "too short",
        None => "not a duration",
    };
    problems.refuse(cursor.problem(message).allowed(allowed));
    None
}

/// Reads a duration of zero or more; `None` for anything else. Precise to the nanosecond, the rest is cut off.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut nanoseconds = 0_u128;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at_checked(number_end)?;
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, next) = tail.split_at_checked(unit_end)?;
        nanoseconds = nanoseconds.checked_add(scaled(number, unit_nanoseconds(unit)?)?)?;
        rest = next;
    }
    // Go's durations are signed 64-bit nanoseconds.
    i64::try_from(nanoseconds).ok().and_then(|n| u64::try_from(n).ok()).map(Duration::from_nanos)
}

const fn unit_nanoseconds(unit: &str) -> Option<u128> {
    Some(match unit.as_bytes() {
        b"ns" => 1,
        b"us" => 1_000,
        b"ms" => 1_000_000,
        b"s" => 1_000_000_000,
        b"m" => 60_000_000_000,
        b"h" => 3_600_000_000_000,
        // Micro sign and Greek mu.
        [0xc2, 0xb5, b's'] | [0xce, 0xbc, b's'] => 1_000,
        _ => return None,
    })
}

/// A decimal number times a unit.
fn scaled(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') || number.len() > 32 {
        return None;
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut total = whole.checked_mul(unit)?;
    let mut place = unit;
    for digit in fraction.chars() {
        place /= 10;
        total = total.checked_add(u128::from(digit.to_digit(10)?) * place)?;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::parse;

    #[test]
    fn go_durations_are_read_exactly_or_refused() {
        let rows = [
            ("60s", Some(60_000_000_000)),
            ("300ms", Some(300_000_000)),
            ("1.5h", Some(5_400_000_000_000)),
            ("1m30s", Some(90_000_000_000)),
            ("+5s", Some(5_000_000_000)),
            (".5m", Some(30_000_000_000)),
            ("5.s", Some(5_000_000_000)),
            ("7µs", Some(7_000)),
            ("7μs", Some(7_000)),
            ("0", Some(0)),
            ("0s", Some(0)),
            ("1.0000000001s", Some(1_000_000_000)),
            ("2562047h47m16.854775807s", Some(9_223_372_036_854_775_807)),
            ("2562047h47m16.854775808s", None),
            ("60", None),
            ("1d", None),
            ("1S", None),
            ("", None),
            ("+", None),
            ("-1s", None),
            (" 1s", None),
            ("1 s", None),
            (".s", None),
            ("1..5s", None),
            ("s", None),
            ("1e3s", None),
        ];
        for (text, expected) in rows {
            assert_eq!(parse(text), expected.map(Duration::from_nanos), "{text:?}");
        }
    }
}
