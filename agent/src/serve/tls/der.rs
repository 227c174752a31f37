//! As much of DER (X.690) as the answers need of a certificate that a TLS library has accepted.

/// Tags.
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;
pub(super) const OBJECT_ID: u8 = 0x06;
/// `[0]`, constructed: the version of a certificate.
pub(super) const CONTEXT_0: u8 = 0xa0;
pub(super) const UTC_TIME: u8 = 0x17;
pub(super) const GENERALIZED_TIME: u8 = 0x18;

/// Values of this tag, one after the other, up to the first that is cut short.
pub(super) fn values(mut input: &[u8], wanted: u8) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (tag, value, rest) = take(input)?;
        input = rest;
        Some((tag, value))
    })
    .filter_map(move |(tag, value)| (tag == wanted).then_some(value))
}

/// Tag, value and the rest.
pub(super) fn take(input: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = input.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 => rest.split_first().map(|(length, rest)| (usize::from(*length), rest))?,
        0x82 => rest.split_first_chunk::<2>().map(|(length, rest)| (usize::from(u16::from_be_bytes(*length)), rest))?,
        // Longer than anything that is looked for.
        _ => return None,
    };
    (length <= rest.len()).then(|| rest.split_at(length)).map(|(value, rest)| (tag, value, rest))
}
