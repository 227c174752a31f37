//! When a certificate expires.

use rustls::pki_types::CertificateDer;

use super::der::{CONTEXT_0, GENERALIZED_TIME, SEQUENCE, UTC_TIME, take};

/// When the first certificate of a chain expires, in seconds since 1970; `None`: none of them tells.
pub(super) fn first(chain: &[CertificateDer<'_>]) -> Option<i64> {
    chain.iter().filter_map(|certificate| not_after(certificate)).min()
}

/// `tbsCertificate.validity.notAfter` (RFC 5280, section 4.1).
fn not_after(certificate: &[u8]) -> Option<i64> {
    let sequence = |input| take(input).filter(|(tag, ..)| *tag == SEQUENCE);
    let (_, certificate, _) = sequence(certificate)?;
    let (_, mut fields, _) = sequence(certificate)?;
    if let Some((CONTEXT_0, _, rest)) = take(fields) {
        fields = rest;
    }
    // Serial number, algorithm, issuer.
    for _ in 0..3 {
        (_, _, fields) = take(fields)?;
    }
    let (_, validity, _) = sequence(fields)?;
    let (_, _, rest) = take(validity)?;
    let (tag, text, _) = take(rest)?;
    seconds(tag, std::str::from_utf8(text).ok()?)
}

/// `YYMMDDHHMMSSZ` (years 1950 to 2049) or `YYYYMMDDHHMMSSZ`, which RFC 5280 allows alone.
fn seconds(tag: u8, text: &str) -> Option<i64> {
    let digits = text.strip_suffix('Z').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    let (year, rest) = match (tag, digits.len()) {
        (UTC_TIME, 12) => {
            let (year, rest) = digits.split_at_checked(2)?;
            let year: i64 = year.parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        (GENERALIZED_TIME, 14) => {
            let (year, rest) = digits.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    let part = |at: usize| rest.get(at..at + 2)?.parse::<i64>().ok();
    let (month, day, hour, minute, second) = (part(0)?, part(2)?, part(4)?, part(6)?, part(8)?);
    let known = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second <= 60;
    known.then(|| days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
}

/// Days from 1970-01-01 to a day of the Gregorian calendar, counted in years that begin in March, so that the leap day is
/// the last of its year.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // Days of the year before a month that is counted from March: 0, 31, 61, 92 ...
    let before = (153 * month + 2) / 5;
    // 719,468 days from the first of March of year 0 to 1970-01-01.
    year * 365 + leap_days + before + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn certificate(year: i32, month: u8, day: u8) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.not_after = date_time_ymd(year, month, day);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn expiry_is_read_from_both_forms_of_time() {
        let rows = [
            ("UTCTime", (2026, 11, 20), 1_795_132_800),
            ("a leap day", (2028, 2, 29), 1_835_395_200),
            ("last year of UTCTime", (2049, 12, 31), 2_524_521_600),
            ("GeneralizedTime", (2050, 1, 1), 2_524_608_000),
            ("no century that is a leap year", (2100, 3, 1), 4_107_542_400),
        ];
        for (name, (year, month, day), expected) in rows {
            assert_eq!(first(&[certificate(year, month, day)]), Some(expected), "{name}");
        }
    }

    #[test]
    fn the_first_of_a_chain_counts() {
        let chain = [certificate(2030, 1, 1), certificate(2027, 1, 1), certificate(2040, 1, 1)];
        assert_eq!(first(&chain), Some(1_798_761_600));
        assert_eq!(first(&[]), None);
    }

    #[test]
    fn what_is_no_time_is_not_read() {
        let rows = [
            (UTC_TIME, "261120000000"),
            (UTC_TIME, "20261120000000Z"),
            (GENERALIZED_TIME, "261120000000Z"),
            (UTC_TIME, "261320000000Z"),
            (UTC_TIME, "26112000000xZ"),
            (UTC_TIME, "26112000000\u{e4}Z"),
            (SEQUENCE, "261120000000Z"),
            (UTC_TIME, ""),
        ];
        for (tag, text) in rows {
            assert_eq!(seconds(tag, text), None, "{tag:#x} {text:?}");
        }
        for garbage in [&[][..], &[0x30], &[0x30, 0x03, 0x30, 0x01, 0x02], &[0x30, 2, 0x30, 0]] {
            assert_eq!(not_after(garbage), None, "{garbage:x?}");
        }
    }
}
