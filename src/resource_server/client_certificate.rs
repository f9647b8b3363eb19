//! The client certificate of a request: that of Rocket's own TLS, or the one that a trusted proxy reports (RFC 8705).

use std::net::IpAddr;

use rocket::Request;
use thiserror::Error;

use super::certificate_header;
use crate::{
    facts::Facts,
    settings::{CertificateFormat, ClientCertificateSettings, TrustedProxies},
    token::Certificate,
};

/// Why the client certificate of a request is refused: 400 `invalid_request`, whatever the access token is.
///
/// No variant holds the certificate or the value of a header.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ClientCertificateError {
    /// The header comes from a peer that is not one of the trusted proxies: anyone could have made it.
    #[error(
        "the header `{header}` comes from {}, which is not in `client_certificate.proxies`",
        peer.map_or("an unknown address".to_owned(), |peer| peer.to_string())
    )]
    Untrusted {
        /// The name of the header.
        header: String,
        /// The address of the peer of the connection.
        peer: Option<IpAddr>,
    },
    /// The header of a trusted proxy does not have exactly one certificate.
    #[error("the header `{header}` does not have one client certificate: {cause}")]
    Header {
        /// The name of the header.
        header: String,
        /// What is wrong with it.
        cause: &'static str,
    },
    /// The certificate of the TLS connection does not parse.
    #[error("the client certificate of the TLS connection is not usable")]
    Tls,
    /// The TLS connection and the header have different certificates.
    #[error("the client certificate of the TLS connection is not the one in the header `{header}`")]
    Differs {
        /// The name of the header.
        header: String,
    },
}

impl ClientCertificateError {
    pub(super) fn facts(&self) -> Facts {
        let (reason, remedy) = match self {
            ClientCertificateError::Untrusted { .. } => (
                "client_certificate_untrusted",
                "if this peer is your proxy, add its address to `client_certificate.proxies`; if not, a client has forged the header",
            ),
            ClientCertificateError::Header { .. } => (
                "client_certificate_header",
                "have the proxy replace this header in every request, in the format `client_certificate.format`",
            ),
            ClientCertificateError::Tls => ("client_certificate_tls", "have the client use another certificate"),
            ClientCertificateError::Differs { .. } => (
                "client_certificate_differs",
                "use either `client_certificate.tls` or a proxy with `client_certificate.format`",
            ),
        };
        Facts::new(reason, 400, remedy)
    }

    /// The `error_description` for the API client.
    pub(super) fn description(&self) -> &'static str {
        match self {
            ClientCertificateError::Untrusted { .. } => {
                "a header with a client certificate is accepted from proxies alone"
            }
            ClientCertificateError::Header { .. } => "the header with the client certificate is malformed",
            ClientCertificateError::Tls => "the client certificate is malformed",
            ClientCertificateError::Differs { .. } => "the request has two client certificates",
        }
    }
}

/// The sources of client certificates, by the settings.
#[derive(Debug)]
pub(super) struct ClientCertificates {
    /// Whether Rocket's own TLS is one.
    from_tls: bool,
    header: Option<ProxyHeader>,
}

/// The header of trusted proxies.
#[derive(Debug)]
struct ProxyHeader {
    name: String,
    format: CertificateFormat,
    proxies: TrustedProxies,
}

impl ClientCertificates {
    /// `None` if no request has a certificate.
    pub(super) fn new(settings: &ClientCertificateSettings) -> Option<ClientCertificates> {
        let header = settings.format.map(|format| ProxyHeader {
            name: settings.header().to_owned(),
            format,
            proxies: TrustedProxies::new(&settings.proxies),
        });
        settings.is_set().then_some(ClientCertificates {
            from_tls: settings.tls,
            header,
        })
    }

    /// The certificate of a request, if it has one.
    pub(super) async fn find(&self, request: &Request<'_>) -> Result<Option<Certificate>, ClientCertificateError> {
        let from_tls = if self.from_tls {
            of_connection(request).await?
        } else {
            None
        };
        let Some(header) = &self.header else {
            return Ok(from_tls);
        };
        match (from_tls, header.certificate(request)?) {
            (Some(from_tls), Some(reported)) if from_tls != reported => Err(ClientCertificateError::Differs {
                header: header.name.clone(),
            }),
            (from_tls, reported) => Ok(from_tls.or(reported)),
        }
    }

    /// The sources, for the report at liftoff.
    pub(super) fn describe(&self) -> String {
        let name = self.header.as_ref().map(|header| &*header.name).unwrap_or_default();
        match (self.from_tls, &self.header) {
            (true, None) => "of TLS connections to Rocket".to_owned(),
            (true, Some(_)) => format!("of TLS connections to Rocket, or in `{name}` of trusted proxies"),
            (false, _) => format!("in `{name}` of trusted proxies"),
        }
    }

    /// A trusted proxy and the header in which it reports a certificate, for tests of an app; `None` if none does.
    #[cfg(feature = "testing")]
    pub(super) fn sample(&self) -> Option<(&str, CertificateFormat, Option<IpAddr>)> {
        let header = self.header.as_ref()?;
        Some((&header.name, header.format, header.proxies.any()))
    }
}

impl ProxyHeader {
    /// The certificate that the header reports. The peer is that of the connection, which no header changes.
    fn certificate(&self, request: &Request<'_>) -> Result<Option<Certificate>, ClientCertificateError> {
        let mut values = request.headers().get(&self.name);
        let Some(value) = values.next() else {
            return Ok(None);
        };
        let peer = request.remote().map(|peer| peer.ip());
        if !peer.is_some_and(|peer| self.proxies.has(peer)) {
            return Err(ClientCertificateError::Untrusted {
                header: self.name.clone(),
                peer,
            });
        }
        let refused = |cause| ClientCertificateError::Header {
            header: self.name.clone(),
            cause,
        };
        if values.next().is_some() {
            return Err(refused("it is there more than once"));
        }
        certificate_header::parse(self.format, value).map_err(refused)
    }
}

/// The certificate of the TLS connection, which Rocket has verified.
#[cfg(feature = "mtls")]
async fn of_connection(request: &Request<'_>) -> Result<Option<Certificate>, ClientCertificateError> {
    use rocket::{mtls, outcome::Outcome};

    match request.guard::<mtls::Certificate<'_>>().await {
        Outcome::Success(certificate) => {
            let certificate = Certificate::of_der(certificate.as_bytes());
            certificate.map(Some).map_err(|_| ClientCertificateError::Tls)
        }
        Outcome::Error(_) => Err(ClientCertificateError::Tls),
        Outcome::Forward(_) => Ok(None),
    }
}

#[cfg(not(feature = "mtls"))]
async fn of_connection(_: &Request<'_>) -> Result<Option<Certificate>, ClientCertificateError> {
    Ok(None)
}
