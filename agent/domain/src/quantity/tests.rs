//! Quantities against the texts that Kubernetes prints.
#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::*;

#[test]
fn canonical_form_matches_kubernetes() {
    let rows = [
        ("0", "0"),
        ("1Gi", "1Gi"),
        ("1024Mi", "1Gi"),
        ("1.5Gi", "1536Mi"),
        ("1e9", "1e9"),
        ("1E3", "1e3"),
        ("1000m", "1"),
        ("0.5", "500m"),
        ("1100M", "1100M"),
        ("1048576k", "1048576k"),
        ("100", "100"),
        ("-1Gi", "-1Gi"),
        ("1023Ki", "1023Ki"),
        ("512", "512"),
        ("0.5Ki", "512"),
        (".5", "500m"),
        ("1.", "1"),
        ("+1", "1"),
        ("0.0000000001", "1n"),
        ("100E", "100E"),
        ("9Ei", "9223372036854775807"),
        ("Mi", "0"),
        ("12e5", "1200e3"),
        ("00010k", "10k"),
        ("2.0", "2"),
        ("0.1Gi", "107374182400m"),
    ];
    for (text, expected) in rows {
        assert_eq!(Quantity::parse(text).unwrap().to_string(), expected, "{text}");
    }
}

#[test]
fn malformed_texts_are_refused() {
    let rows = [
        ("", QuantityError::Format),
        (" 1Gi", QuantityError::Format),
        ("abc", QuantityError::Format),
        ("1GB", QuantityError::Format),
        ("1gi", QuantityError::Format),
        ("1..2", QuantityError::Format),
        ("1ki", QuantityError::Suffix),
        ("1iM", QuantityError::Suffix),
        ("1e", QuantityError::Suffix),
    ];
    for (text, expected) in rows {
        assert_eq!(Quantity::parse(text).unwrap_err(), expected, "{text}");
    }
}

#[test]
fn values_round_away_from_zero() {
    let rows = [("1.9999", 2, 2000), ("1500m", 2, 1500), ("3000.5m", 4, 3001), ("2.0", 2, 2000), ("1n", 1, 1)];
    for (text, value, milli) in rows {
        let quantity = Quantity::parse(text).unwrap();
        assert_eq!((quantity.value(), quantity.milli_value()), (value, milli), "{text}");
    }
}

#[test]
fn integers_are_only_texts_without_fraction() {
    let rows = [
        ("1Gi", Some(1 << 30)),
        ("1e3", Some(1000)),
        ("5k", Some(5000)),
        ("104857600000m", None),
        ("1.0", None),
        ("1.5Gi", None),
        ("1073741824500m", None),
        ("10E", None),
    ];
    for (text, expected) in rows {
        assert_eq!(Quantity::parse(text).unwrap().as_int64(), expected, "{text}");
    }
}

#[test]
fn sums_take_the_format_of_the_first_that_is_not_zero() {
    let sum = |texts: &[&str]| {
        let parsed = texts.iter().map(|t| Quantity::parse(t).unwrap());
        parsed.fold(Quantity::ZERO, |sum, q| sum.checked_add(&q).unwrap()).to_string()
    };
    assert_eq!(sum(&["1Gi", "100Mi"]), "1124Mi");
    assert_eq!(sum(&["1100M", "1Ki"]), "1100001024");
    assert_eq!(sum(&["0", "1Gi"]), "1Gi");
}

proptest! {
    #[test]
    fn printing_and_parsing_keeps_the_value(value in -1_000_000_000_000_i64..1_000_000_000_000, suffix in 0_usize..16) {
        let suffix = BINARY.iter().copied().chain(DECIMAL.iter().map(|(_, s)| *s)).nth(suffix).unwrap_or("");
        if let Ok(quantity) = Quantity::parse(&format!("{value}{suffix}")) {
            prop_assert_eq!(Quantity::parse(&quantity.to_string()).unwrap(), quantity);
        }
    }

    #[test]
    fn order_agrees_with_integers(a in any::<i32>(), b in any::<i32>(), shift in 0_usize..3) {
        let (unit, text) = [(1000_i64, "k"), (1 << 10, "Ki"), (1_000_000, "M")][shift];
        let quantity = |n: i64| Quantity::parse(&n.to_string()).unwrap();
        let scaled = Quantity::parse(&format!("{b}{text}")).unwrap();
        prop_assert_eq!(quantity(i64::from(a)).cmp(&scaled), i64::from(a).cmp(&(i64::from(b) * unit)));
    }

    #[test]
    fn any_text_is_answered(text in "[-+0-9.eEinumkKMGTP]{0,60}") {
        if let Ok(quantity) = Quantity::parse(&text) {
            let _ = (quantity.to_string(), quantity.value(), quantity.milli_value(), quantity.as_int64());
        }
    }
}
