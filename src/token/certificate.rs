//! The client certificate of a request or of this app, X.509 in DER: its thumbprint and its validity.
//!
//! Nothing in it is verified: the TLS server, or the proxy, has verified that the client has the key.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
#[cfg(any(test, feature = "cli"))]
use time::OffsetDateTime;

/// The `-----BEGIN …-----` line of a certificate (RFC 7468 §5.1).
const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// One certificate, whole and with nothing after it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Certificate {
    der: Vec<u8>,
    /// `x5t#S256` (RFC 8705 §3.1): the SHA-256 of the DER, in base64url.
    thumbprint: String,
}

impl Certificate {
    /// Accepts the DER of one certificate ([RFC 5280 §4.1](https://www.rfc-editor.org/rfc/rfc5280#section-4.1)): its outer
    /// structure, which must end where the bytes end.
    pub(crate) fn of_der(der: &[u8]) -> Result<Certificate, &'static str> {
        const MALFORMED: &str = "it is not the DER of one X.509 certificate";
        let parse = || {
            let (certificate, rest) = element(der, SEQUENCE)?;
            let (_, after) = element(certificate, SEQUENCE)?;
            let (_, after) = element(after, SEQUENCE)?;
            let (_, end) = element(after, BIT_STRING)?;
            (rest.is_empty() && end.is_empty()).then_some(())
        };
        parse().ok_or(MALFORMED)?;
        Ok(Certificate {
            thumbprint: URL_SAFE_NO_PAD.encode(digest(&SHA256, der)),
            der: der.to_vec(),
        })
    }

    /// Accepts a PEM text with one certificate and nothing else (RFC 7468 §3, strict).
    pub(crate) fn of_pem(pem: &str) -> Result<Certificate, &'static str> {
        let body = pem
            .strip_prefix(BEGIN)
            .ok_or("it does not begin as a PEM certificate")?;
        let (body, rest) = body.split_once(END).ok_or("the PEM certificate has no end")?;
        if rest.contains(BEGIN) {
            return Err("it has more than one certificate");
        }
        if !matches!(rest, "" | "\n" | "\r\n") {
            return Err("there is other text after the certificate");
        }
        let base64: String = body.chars().filter(|c| !matches!(c, '\n' | '\r')).collect();
        let der = STANDARD.decode(base64);
        Certificate::of_der(&der.map_err(|_| "the PEM certificate is not base64")?)
    }

    /// The first certificate of a file in PEM, which may have others after it, and text around them.
    pub(crate) fn first_of_file(text: &str) -> Result<Certificate, &'static str> {
        let begin = text.find(BEGIN).ok_or("it has no certificate in PEM")?;
        let end = text[begin..].find(END).ok_or("the PEM certificate has no end")?;
        Certificate::of_pem(&text[begin..begin + end + END.len()])
    }

    /// `x5t#S256` of tokens that are bound to it ([RFC 8705 §3.1](https://www.rfc-editor.org/rfc/rfc8705#section-3.1)).
    pub(crate) fn thumbprint(&self) -> &str {
        &self.thumbprint
    }

    /// The end of its validity, if it can be read.
    #[cfg(any(test, feature = "cli"))]
    pub(crate) fn not_after(&self) -> Option<OffsetDateTime> {
        let (certificate, _) = element(&self.der, SEQUENCE)?;
        let (to_be_signed, _) = element(certificate, SEQUENCE)?;
        not_after(to_be_signed)
    }

    pub(crate) fn der(&self) -> &[u8] {
        &self.der
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").finish_non_exhaustive()
    }
}

const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 0x03;

/// The content of the first element, which must have this tag, and what follows it (X.690 §10.1: the shortest definite
/// length).
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        // More than three bytes of length: larger than anything that is accepted here.
        0x81..=0x83 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
            let length = bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
            let is_shortest = bytes[0] != 0 && length >= 0x80;
            is_shortest.then_some((length, rest))?
        }
        _ => return None,
    };
    let is_wanted = found == tag;
    is_wanted.then(|| rest.split_at_checked(length))?
}

/// `validity.notAfter` of a `TBSCertificate` (RFC 5280 §4.1.2.5).
#[cfg(any(test, feature = "cli"))]
fn not_after(to_be_signed: &[u8]) -> Option<OffsetDateTime> {
    const INTEGER: u8 = 0x02;
    const UTC_TIME: u8 = 0x17;
    const GENERALIZED_TIME: u8 = 0x18;
    /// `[0] EXPLICIT`, the version.
    const VERSION: u8 = 0xa0;
    let rest = element(to_be_signed, VERSION).map_or(to_be_signed, |(_, rest)| rest);
    let (_, rest) = element(rest, INTEGER)?;
    let (_, rest) = element(rest, SEQUENCE)?;
    let (_, rest) = element(rest, SEQUENCE)?;
    let (validity, _) = element(rest, SEQUENCE)?;
    let time = |der| element(der, UTC_TIME).or_else(|| element(der, GENERALIZED_TIME));
    let (_, rest) = time(validity)?;
    let (text, _) = time(rest)?;
    let text = std::str::from_utf8(text).ok().filter(|text| text.is_ascii())?;
    let text = match text.len() {
        // `YYMMDDHHMMSSZ`: years from 50 are in the last century.
        13 => format!("{}{text}", if text >= "50" { "19" } else { "20" }),
        _ => text.to_owned(),
    };
    const FORMAT: &[time::format_description::BorrowedFormatItem<'_>] =
        time::macros::format_description!("[year][month][day][hour][minute][second]Z");
    let parsed = time::PrimitiveDateTime::parse(&text, FORMAT).ok()?;
    Some(parsed.assume_utc())
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    /// Made by `openssl req -x509 -newkey ed25519 -nodes -subj /CN=client -days 36500`.
    const PEM: &str = include_str!("../testing/certificate.pem");
    const THUMBPRINT: &str = "T0vHdZ5hxJLaftZ85ZfBFlVR19q0x3J1AsLAFDybZXg";
    const NOT_AFTER: OffsetDateTime = datetime!(2126-11-06 16:29:09 UTC);

    #[test]
    fn a_certificate_has_a_thumbprint_and_an_end() {
        let certificate = Certificate::of_pem(PEM).unwrap();
        assert_eq!(certificate.thumbprint(), THUMBPRINT);
        assert_eq!(certificate.not_after(), Some(NOT_AFTER));
        assert_eq!(Certificate::of_der(certificate.der()), Ok(certificate.clone()));
        let file = format!("a text\n{PEM}\n{PEM}");
        assert_eq!(Certificate::first_of_file(&file), Ok(certificate.clone()));
        assert_eq!(Certificate::of_pem(PEM.trim_end()), Ok(certificate.clone()));
        assert_eq!(Certificate::of_pem(&PEM.replace('\n', "\r\n")), Ok(certificate));
    }

    #[test]
    fn only_the_whole_der_of_one_certificate_is_accepted() {
        let whole = Certificate::of_pem(PEM).unwrap().der().to_vec();
        for length in 0..whole.len() {
            assert!(Certificate::of_der(&whole[..length]).is_err(), "{length}");
        }
        assert!(Certificate::of_der(&[&whole[..], &[0]].concat()).is_err());
        assert!(Certificate::of_der(&[&whole[..], &whole].concat()).is_err());
        // Another tag, or a length that is not the shortest one.
        for index in [0, 1, 2, 3, 4] {
            let mut other = whole.clone();
            other[index] ^= 0x80;
            assert!(Certificate::of_der(&other).is_err(), "{index}");
        }
    }

    #[test]
    fn only_one_certificate_in_pem_is_accepted() {
        let body = PEM.lines().nth(1).unwrap();
        for (pem, cause) in [
            (String::new(), "it does not begin as a PEM certificate"),
            (format!(" {PEM}"), "it does not begin as a PEM certificate"),
            (
                PEM.replace(" CERT", " X509 CERT"),
                "it does not begin as a PEM certificate",
            ),
            (PEM.replace("-----END", "-----AND"), "the PEM certificate has no end"),
            (format!("{PEM}{PEM}"), "it has more than one certificate"),
            (format!("{PEM}x"), "there is other text after the certificate"),
            (format!("{PEM}\n"), "there is other text after the certificate"),
            (
                PEM.replace(body, &format!("{body} ")),
                "the PEM certificate is not base64",
            ),
            (
                PEM.replace(body, &body.replace('M', "-")),
                "the PEM certificate is not base64",
            ),
            (PEM.replace(body, ""), "it is not the DER of one X.509 certificate"),
        ] {
            assert_eq!(Certificate::of_pem(&pem), Err(cause), "{pem}");
        }
    }
}
