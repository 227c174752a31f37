//! The names in a client's certificate.

use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

use super::der::{OBJECT_ID, SEQUENCE, SET, take, values};

/// Names that a certificate is taken by, at most; one with more is cut.
const MAX_NAMES: usize = 32;
/// Longest one; one that is longer is left out.
const MAX_BYTES: usize = 2048;

/// `UTF8String`, `PrintableString`, `IA5String`: text that is UTF-8.
const TEXTS: [u8; 3] = [0x0c, 0x13, 0x16];
/// `id-at-commonName`, 2.5.4.3 (RFC 5280, appendix A.1).
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];

/// Names of a certificate that was verified: URIs (SPIFFE ids), DNS names, common names; the serial number where there is
/// none of them, so that it is never without a name.
pub(super) fn of(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok(certificate) = EndEntityCert::try_from(certificate) else { return vec!["unreadable".to_owned()] };
    let uris = certificate.valid_uri_names();
    let names = uris.chain(certificate.valid_dns_names()).chain(common_names(certificate.subject()));
    let names: Vec<_> = names.filter(|name| name.len() <= MAX_BYTES).take(MAX_NAMES).map(str::to_owned).collect();
    if !names.is_empty() {
        return names;
    }
    let serial: String = certificate.serial().iter().map(|byte| format!("{byte:02x}")).collect();
    vec![format!("serial {serial}")]
}

/// Common names in a subject, whose outer SEQUENCE is taken off: `SET { SEQUENCE { OID, text } }` again and again.
fn common_names(subject: &[u8]) -> impl Iterator<Item = &str> {
    values(subject, SET).flat_map(|set| values(set, SEQUENCE)).filter_map(|attribute| {
        let (tag, kind, rest) = take(attribute)?;
        let (text_tag, text, _) = take(rest)?;
        let is_common_name = tag == OBJECT_ID && kind == COMMON_NAME && TEXTS.contains(&text_tag);
        is_common_name.then(|| std::str::from_utf8(text).ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn certificate(sans: Vec<SanType>, common_names: &[&str]) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "organization");
        for name in common_names {
            params.distinguished_name.push(DnType::CommonName, *name);
        }
        params.subject_alt_names = sans;
        params.serial_number = Some(vec![0x12, 0xab].into());
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn names_are_those_of_the_certificate_uris_first() {
        let long = "x".repeat(300);
        let rows = [
            (
                "all kinds",
                certificate(
                    vec![
                        SanType::DnsName("ops.example".try_into().unwrap()),
                        SanType::URI("spiffe://cluster/ns/ops/sa/admin".try_into().unwrap()),
                        SanType::IpAddress([192, 0, 2, 1].into()),
                    ],
                    &["Ops"],
                ),
                vec!["spiffe://cluster/ns/ops/sa/admin".to_owned(), "ops.example".to_owned(), "Ops".to_owned()],
            ),
            ("a common name of letters beyond ASCII", certificate(vec![], &["Müller"]), vec!["Müller".to_owned()]),
            ("a long one", certificate(vec![], &[&long]), vec![long.clone()]),
            ("none", certificate(vec![], &[]), vec!["serial 12ab".to_owned()]),
        ];
        for (name, certificate, expected) in rows {
            assert_eq!(of(&certificate), expected, "{name}");
        }
    }

    #[test]
    fn garbage_has_no_names() {
        for garbage in
            [&[][..], &[0x31], &[0x31, 0x82, 0xff], &[0x31, 0x84, 0, 0, 0, 1], &[0x31, 5, 0x30, 9, 6, 3, 0x55]]
        {
            assert_eq!(common_names(garbage).count(), 0, "{garbage:x?}");
        }
        assert_eq!(of(&CertificateDer::from(vec![0x30, 0])), ["unreadable"]);
    }
}
