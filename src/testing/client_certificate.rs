//! The certificate of the test's client, to which tokens are bound (mutual TLS, RFC 8705).

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{settings::CertificateFormat, token::Certificate};

/// Self-signed, until 2126.
pub(super) const PEM: &str = include_str!("certificate.pem");

/// Binds a token with these claims to the certificate, unless they say otherwise.
pub(super) fn bind(mut claims: Value) -> Value {
    if let Value::Object(claims) = &mut claims {
        let thumbprint = certificate().thumbprint().to_owned();
        claims.entry("cnf").or_insert_with(|| json!({ "x5t#S256": thumbprint }));
    }
    claims
}

/// The value of the header in which a proxy reports the certificate.
pub(super) fn header_value(format: CertificateFormat) -> String {
    let encoded = || {
        url::form_urlencoded::byte_serialize(PEM.as_bytes())
            .collect::<String>()
            .replace('+', "%20")
    };
    match format {
        CertificateFormat::Rfc9440 => format!(":{}:", STANDARD.encode(certificate().der())),
        CertificateFormat::Nginx => encoded(),
        CertificateFormat::Envoy => format!("Cert=\"{}\"", encoded()),
    }
}

fn certificate() -> Certificate {
    Certificate::of_pem(PEM).expect("the certificate of the kit is one")
}
