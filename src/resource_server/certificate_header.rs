//! Parses the header in which a proxy reports the certificate of a client: exactly one certificate, and nothing else.

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{settings::CertificateFormat, token::Certificate};

/// The maximum length of the header, in bytes. A certificate with an RSA key of 4096 bits has about 3 kB.
const MAX_HEADER: usize = 16 * 1024;

/// The certificate in the value of the header; `None` if the value is empty, because the client has none.
///
/// # Errors
///
/// What is wrong with the value.
pub(crate) fn parse(format: CertificateFormat, value: &str) -> Result<Option<Certificate>, &'static str> {
    if value.len() > MAX_HEADER {
        return Err("it is longer than 16 kB");
    }
    let value = value.trim_matches([' ', '\t']);
    if value.is_empty() {
        return Ok(None);
    }
    let certificate = match format {
        CertificateFormat::Rfc9440 => byte_sequence(value),
        CertificateFormat::Nginx => Certificate::of_pem(&percent_decoded(value)?),
        CertificateFormat::Envoy => element(value),
    };
    certificate.map(Some)
}

/// A byte sequence ([RFC 8941 §3.3.5](https://www.rfc-editor.org/rfc/rfc8941#section-3.3.5)) without parameters, as
/// RFC 9440 §2.2 has it.
fn byte_sequence(value: &str) -> Result<Certificate, &'static str> {
    let base64 = value.strip_prefix(':').and_then(|rest| rest.strip_suffix(':'));
    let base64 = base64.ok_or("it is not one byte sequence between colons")?;
    let der = STANDARD.decode(base64).map_err(|_| "it is not base64 between colons")?;
    Certificate::of_der(&der)
}

/// Decodes what nginx and Envoy have encoded: unreserved characters (RFC 3986 §2.3), those of base64, and
/// percent-encoded ASCII.
fn percent_decoded(value: &str) -> Result<String, &'static str> {
    const MALFORMED: &str = "it is not a URL-encoded text";
    let digit = |byte: Option<&u8>| (*byte? as char).to_digit(16);
    let mut decoded = String::with_capacity(value.len());
    let mut bytes = value.as_bytes().iter();
    while let Some(&byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let (high, low) = (digit(bytes.next()), digit(bytes.next()));
                let code = high.zip(low).map(|(high, low)| high * 16 + low);
                let decoded = code.and_then(char::from_u32).filter(char::is_ascii);
                decoded.ok_or(MALFORMED)?
            }
            b'-' | b'.' | b'_' | b'~' | b'+' | b'/' | b'=' => byte.into(),
            byte if byte.is_ascii_alphanumeric() => byte.into(),
            _ => return Err(MALFORMED),
        });
    }
    Ok(decoded)
}

/// The only element of `X-Forwarded-Client-Cert`: pairs of a name and a value, which may be quoted.
fn element(value: &str) -> Result<Certificate, &'static str> {
    const TWICE: &str = "the element has a name twice";
    let (mut certificate, mut hash) = (None, None);
    let mut rest = value;
    loop {
        let (name, after) = rest.split_once('=').ok_or("the element has a name without a value")?;
        let (text, after) = pair_value(after)?;
        let slot = match name {
            name if name.eq_ignore_ascii_case("Cert") => Some(&mut certificate),
            name if name.eq_ignore_ascii_case("Hash") => Some(&mut hash),
            name if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric()) => {
                return Err("the element has an unknown form");
            }
            _ => None,
        };
        if slot.is_some_and(|slot| slot.replace(text).is_some()) {
            return Err(TWICE);
        }
        match after.split_at_checked(1) {
            None => break,
            Some((";", after)) => rest = after,
            Some((",", _)) => return Err("it has more than one element"),
            Some(_) => return Err("the element has an unknown form"),
        }
    }
    let certificate = certificate.ok_or("the element has no `Cert`")?;
    let certificate = Certificate::of_pem(&percent_decoded(&certificate)?)?;
    let own_hash: String = digest(&SHA256, certificate.der())
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    if hash.is_some_and(|hash| !hash.eq_ignore_ascii_case(&own_hash)) {
        return Err("`Hash` is not that of `Cert`");
    }
    Ok(certificate)
}

/// The value of a pair, and what follows it.
fn pair_value(text: &str) -> Result<(String, &str), &'static str> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([';', ',']).unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return Ok((value.to_owned(), rest));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((value, &quoted[at + 1..])),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    Err("the element has a quote without an end")
}
