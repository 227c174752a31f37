//! What a plain scalar is: YAML 1.2 core schema, plus the spellings that older readers take for something else.

/// The kinds of single values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `null`, `~` or nothing.
    Null,
    /// `true` or `false`.
    Boolean(bool),
    /// Decimal digits with an optional sign, no leading zero.
    Integer,
    /// Another number: a fraction, an exponent, hexadecimal, octal, a leading zero, infinity.
    OtherNumber,
    /// Anything else, and everything in quotes.
    Text,
}

/// Classifies the text of a scalar.
pub(crate) fn kind(text: &str, plain: bool) -> Kind {
    if !plain {
        return Kind::Text;
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Kind::Null,
        "true" | "True" | "TRUE" => Kind::Boolean(true),
        "false" | "False" | "FALSE" => Kind::Boolean(false),
        _ if is_decimal(text) => Kind::Integer,
        _ if is_other_number(text) => Kind::OtherNumber,
        _ => Kind::Text,
    }
}

/// True for `yes`, `no`, `on`, `off`, `y`, `n`: truth values in YAML 1.1, text in YAML 1.2.
pub(crate) fn is_old_boolean(text: &str) -> bool {
    ["yes", "no", "on", "off", "y", "n"].iter().any(|word| word.eq_ignore_ascii_case(text))
}

fn is_decimal(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    all_digits(digits) && (digits == "0" || !digits.starts_with('0'))
}

fn is_other_number(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if let Some(hex) = unsigned.strip_prefix("0x").or_else(|| unsigned.strip_prefix("0X")) {
        return !hex.is_empty() && hex.chars().all(|c| c.is_ascii_hexdigit());
    }
    if let Some(octal) = unsigned.strip_prefix("0o") {
        return all_digits(octal);
    }
    if matches!(unsigned, ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |part: &str| part.chars().all(|c| c.is_ascii_digit());
    digits(whole)
        && digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && exponent.is_none_or(|power| all_digits(power.strip_prefix(['-', '+']).unwrap_or(power)))
}

fn all_digits(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::{Kind, kind};

    #[test]
    fn plain_scalars_have_the_kind_of_the_core_schema() {
        let rows = [
            ("", Kind::Null),
            ("~", Kind::Null),
            ("null", Kind::Null),
            ("nUll", Kind::Text),
            ("true", Kind::Boolean(true)),
            ("FALSE", Kind::Boolean(false)),
            ("yes", Kind::Text),
            ("0", Kind::Integer),
            ("-1", Kind::Integer),
            ("9223372036854775807", Kind::Integer),
            ("012", Kind::OtherNumber),
            ("+1", Kind::OtherNumber),
            ("0x1F", Kind::OtherNumber),
            ("0o17", Kind::OtherNumber),
            ("1.5", Kind::OtherNumber),
            (".5", Kind::OtherNumber),
            ("1e3", Kind::OtherNumber),
            (".inf", Kind::OtherNumber),
            (".", Kind::Text),
            ("1e", Kind::Text),
            ("-", Kind::Text),
            ("0-3", Kind::Text),
            ("4096 87380 6291456", Kind::Text),
            ("2Mi", Kind::Text),
        ];
        for (text, expected) in rows {
            assert_eq!(kind(text, true), expected, "{text:?}");
            assert_eq!(kind(text, false), Kind::Text, "quoted {text:?}");
        }
    }
}
