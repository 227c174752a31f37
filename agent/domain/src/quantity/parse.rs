//! Reading a quantity text, with the leniencies of the reference: `1.`, `.5`, `+1`, a bare suffix.

use super::decimal::Decimal;
use super::{BINARY, DECIMAL, Format, Quantity, QuantityError};

/// Digits that always fit 64 bits; texts with more take the wide form.
const SMALL_DIGITS: usize = 18;

/// Finest exponent of ten that is kept (nano).
const FINEST: i32 = -9;

struct Parts<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
    suffix: &'a str,
}

pub(super) fn quantity(text: &str) -> Result<Quantity, QuantityError> {
    if text.is_empty() {
        return Err(QuantityError::Format);
    }
    if text == "0" {
        return Ok(Quantity::ZERO);
    }
    let parts = split(text)?;
    let (format, power) = interpret(parts.suffix).ok_or(QuantityError::Suffix)?;
    if let Some(amount) = small(&parts, format, power)? {
        return Ok(Quantity { amount, small: true, format });
    }
    wide(&parts, format, power)
}

fn split(text: &str) -> Result<Parts<'_>, QuantityError> {
    let (negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let rest = rest.trim_start_matches('0');
    let (whole, rest) = digits(rest);
    let (fraction, suffix) = match rest.strip_prefix('.') {
        Some(rest) => digits(rest),
        None => ("", rest),
    };
    let tail = suffix.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
    let tail = tail.strip_prefix(['-', '+']).unwrap_or(tail);
    if !digits(tail).1.is_empty() {
        return Err(QuantityError::Format);
    }
    Ok(Parts { negative, whole, fraction, suffix })
}

/// Splits after the leading digits.
fn digits(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

/// The suffix family and its power: of ten, or of two for binary suffixes.
fn interpret(suffix: &str) -> Option<(Format, i32)> {
    if let Some((exponent, _)) = DECIMAL.iter().find(|(_, s)| *s == suffix) {
        return Some((Format::DecimalSi, *exponent));
    }
    if let Some(power) = BINARY.iter().position(|s| *s == suffix) {
        return Some((Format::BinarySi, i32::try_from(power).ok()? * 10));
    }
    let exponent = suffix.strip_prefix(['e', 'E'])?;
    // The reference reads 64 bits and keeps the low 32; anything that differs there is refused here.
    Some((Format::DecimalExponent, exponent.parse().ok()?))
}

/// The 64-bit form, if the text is short enough for it.
fn small(parts: &Parts<'_>, format: Format, power: i32) -> Result<Option<Decimal>, QuantityError> {
    let shown = parts.whole.len().max(1) + parts.fraction.len();
    let (room, exponent, multiplier) = if format == Format::BinarySi {
        if !parts.fraction.is_empty() {
            return Ok(None);
        }
        // 15 digits less those of the suffix (1Mi has about six).
        (15_usize.checked_sub(usize::try_from(power * 3 / 10).unwrap_or(0) + 1), 0, 1_i64 << power)
    } else {
        (Some(SMALL_DIGITS), power, 1)
    };
    let fraction = i32::try_from(parts.fraction.len()).map_err(|_| QuantityError::Numeric)?;
    let exponent = exponent.checked_sub(fraction).ok_or(QuantityError::Numeric)?;
    if room.is_none_or(|room| shown > room) || exponent < FINEST {
        return Ok(None);
    }
    let Some(value) = unscaled(parts)? else { return Ok(None) };
    let Ok(value) = i64::try_from(value) else { return Ok(None) };
    Ok(value.checked_mul(multiplier).map(|v| Decimal::new(i128::from(v), exponent)))
}

/// The form with a fraction or many digits: rounded up to a billionth, binary values capped at 2^63-1.
fn wide(parts: &Parts<'_>, format: Format, power: i32) -> Result<Quantity, QuantityError> {
    let fraction = i32::try_from(parts.fraction.len()).map_err(|_| QuantityError::Numeric)?;
    let value = unscaled(parts)?.ok_or(QuantityError::Numeric)?;
    let cap = Decimal::whole(if parts.negative { i128::from(-i64::MAX) } else { i128::from(i64::MAX) });
    let binary = format == Format::BinarySi;
    let amount = if binary {
        match value.checked_mul(1 << power) {
            Some(value) => Decimal::new(value, -fraction),
            // 10^38 over at most 38 decimals and 2^60: a long fraction of a large suffix cannot be held.
            None if fraction > 0 => return Err(QuantityError::Numeric),
            None => cap,
        }
    } else {
        Decimal::new(value, power.checked_sub(fraction).ok_or(QuantityError::Numeric)?)
    };
    let mut amount = amount.rounded_up_to(FINEST);
    let above =
        |limit: Decimal| if parts.negative { limit.cmp_value(amount).is_gt() } else { amount.cmp_value(limit).is_gt() };
    if binary && above(cap) {
        amount = cap;
    }
    let one = Decimal::whole(1);
    let magnitude = if parts.negative { amount.negated() } else { amount };
    let fine = binary && !amount.is_zero() && magnitude.cmp_value(one).is_lt();
    Ok(Quantity { amount, small: false, format: if fine { Format::DecimalSi } else { format } })
}

/// All digits as one integer with its sign; absent with more than 38 of them.
fn unscaled(parts: &Parts<'_>) -> Result<Option<i128>, QuantityError> {
    let mut value: i128 = 0;
    for digit in parts.whole.bytes().chain(parts.fraction.bytes()) {
        let digit = i128::from(digit.checked_sub(b'0').ok_or(QuantityError::Numeric)?);
        match value.checked_mul(10).and_then(|v| v.checked_add(digit)) {
            Some(v) if v < 10_i128.pow(38) => value = v,
            _ => return Ok(None),
        }
    }
    Ok(Some(if parts.negative { -value } else { value }))
}
