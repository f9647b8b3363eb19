//! Checks that the provider is reachable: DNS, the connection, and its metadata.

use std::sync::Arc;

use serde_json::{Map, Value};
use tokio::net::lookup_host;
use url::Url;

use super::{Doctor, now};
use crate::{
    provider::{Metadata, Provider, ProviderError},
    settings::{MetadataSource, is_loopback},
    token::{Document, TENANT_ID},
};

/// The provider's metadata.
pub(super) struct Found {
    pub metadata: Metadata,
    /// The original document; empty if the client secrets name the endpoints.
    pub document: Map<String, Value>,
}

impl Doctor {
    /// Reads the metadata, or reports why it cannot.
    pub(super) async fn reach(&mut self, provider: &Arc<Provider>, prefix: &str) -> Option<Found> {
        let url = provider.first_url();
        let host = url.host_str().unwrap_or_default();
        let asked = now();
        let work = async { tokio::join!(addresses(url), provider.first_reply()) };
        let (names, reply) = self.terminal.wait("reading the provider's metadata", work).await;

        // A proxy may resolve names that this machine cannot.
        let is_unreachable = matches!(reply, Err(ProviderError::Unreachable { .. }));
        let check = format!("{prefix}name");
        match names {
            Ok(names) if names == host => {}
            Ok(names) => self.report.ok(&check, format!("{host} resolves to {names}")),
            Err(cause) if is_unreachable => {
                let cause = format!("{host} does not resolve: {cause}");
                let remedy = format!("correct the host in `{url}`, or fix name resolution");
                self.report.failure(&check, cause, remedy);
                return None;
            }
            Err(_) => self.report.ok(&check, format!("{host} is resolved by a proxy")),
        }

        let check = format!("{prefix}connection");
        let reply = match reply {
            Ok(reply) => {
                let how = match url.scheme() {
                    "https" => "over TLS",
                    _ if is_loopback(url) => "without TLS, on loopback",
                    _ => "without TLS, which `insecure_http_hosts` permits",
                };
                let port = url.port_or_known_default().unwrap_or_default();
                self.report.ok(&check, format!("connected to {host}:{port} {how}"));
                reply
            }
            Err(error) if is_about_tls(&error) => {
                let port = url.port_or_known_default().unwrap_or_default();
                let finding = format!("{host}:{port} responds, but TLS fails: {}", tls_cause(&error));
                self.report.failure(&check, finding, remedy(&error));
                return None;
            }
            Err(error) => {
                let check = if error.is_outage() {
                    check
                } else {
                    format!("{prefix}metadata")
                };
                let finding = format!("{error} (at {url})");
                self.report.failure(&check, finding, remedy(&error));
                return None;
            }
        };

        let check = format!("{prefix}metadata");
        let metadata = match provider.accept_metadata(&reply) {
            Ok(metadata) => metadata,
            Err(error) => {
                let remedy = match &error {
                    ProviderError::IssuerMismatch { actual, .. } if !actual.contains(TENANT_ID) => {
                        format!("set `oidc.issuer` to `{actual}` if that is the intended provider")
                    }
                    error => error.remedy().to_owned(),
                };
                self.report.failure(&check, error.to_string(), remedy);
                return None;
            }
        };
        let issuer = &provider.registration.issuer;
        let finding = match provider.registration.metadata {
            MetadataSource::Discovery { .. } => format!("is of the issuer {issuer}"),
            MetadataSource::Given { .. } => format!("not requested: the client secrets list the endpoints of {issuer}"),
            MetadataSource::GitHub { .. } => format!("not requested: GitHub documents the endpoints of {issuer}"),
            MetadataSource::Keys { .. } => format!("not requested: `jwks_uri` locates the keys of {issuer}"),
        };
        self.report.ok(&check, finding);
        self.clock(reply.headers(), asked, provider.settings.clock_skew, prefix);
        let document = Document::parse(reply.body()).ok().filter(|_| provider.is_discovered());
        let document = document.map(Document::into_displayed).unwrap_or_default();
        Some(Found { metadata, document })
    }
}

/// The IP addresses of a host, as a list.
async fn addresses(url: &Url) -> Result<String, String> {
    let host = url.host_str().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = url.port_or_known_default().unwrap_or_default();
    let found = lookup_host((host, port)).await.map_err(|error| error.to_string())?;
    let names: Vec<String> = found.map(|address| address.ip().to_string()).collect();
    Ok(names.join(", "))
}

/// The words of rustls for a failed handshake. A server listens: it is not an outage.
const TLS: [&str; 7] = [
    "certificate",
    "corrupt message",
    "handshake",
    "alert",
    "tls",
    "invalid peer",
    "peer is incompatible",
];

fn tls_cause(error: &ProviderError) -> &str {
    match error {
        ProviderError::Unreachable { cause, .. } => cause,
        _ => "",
    }
}

/// Whether the connection failed in its TLS handshake.
fn is_about_tls(error: &ProviderError) -> bool {
    let cause = tls_cause(error).to_ascii_lowercase();
    TLS.iter().any(|words| cause.contains(words))
}

/// The remedy for a failed connection, by the error of the operating system.
fn remedy(error: &ProviderError) -> String {
    let cause = match error {
        ProviderError::Unreachable { cause, .. } => cause.to_ascii_lowercase(),
        _ => String::new(),
    };
    if cause.contains("corrupt message") {
        "correct `oidc.issuer`: the server at this port does not speak TLS".to_owned()
    } else if cause.contains("refused") {
        "start the provider, or correct host and port in `oidc.issuer`".to_owned()
    } else {
        error.remedy().to_owned()
    }
}
