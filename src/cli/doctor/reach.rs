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
        let (names, reply) = self
            .terminal
            .wait("reading the provider's metadata", async {
                tokio::join!(addresses(url), provider.first_reply())
            })
            .await;

        // A proxy may resolve names that this machine cannot.
        let is_unreachable = matches!(reply, Err(ProviderError::Unreachable { .. }));
        let check = format!("{prefix}name");
        match names {
            Ok(names) if names == host => {}
            Ok(names) => self.report.ok(&check, format!("{host} is {names}")),
            Err(cause) if is_unreachable => {
                let cause = format!("{host} is not found: {cause}");
                let remedy = format!("correct the host in `{url}`, or the name service");
                self.report.failure(&check, cause, remedy);
                return None;
            }
            Err(_) => self.report.ok(&check, format!("{host} is known to a proxy")),
        }

        let check = format!("{prefix}connection");
        let reply = match reply {
            Ok(reply) => {
                let how = match url.scheme() {
                    "https" => "over TLS",
                    _ if is_loopback(url) => "without TLS, on loopback",
                    _ => "without TLS, as `insecure_http_hosts` lets it",
                };
                let port = url.port_or_known_default().unwrap_or_default();
                self.report.ok(&check, format!("{host}:{port} answers, {how}"));
                reply
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
                        format!("set `oidc.issuer` to `{actual}`, if that is the provider you mean")
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
            MetadataSource::Given { .. } => {
                format!("not read: the client secrets name the endpoints of {issuer}")
            }
            MetadataSource::Keys { .. } => {
                format!("not read: `jwks_uri` names the keys of {issuer}")
            }
        };
        self.report.ok(&check, finding);
        self.clock(reply.headers(), asked, provider.settings.clock_skew, prefix);
        let document = Document::parse(reply.body()).ok();
        let document = document.map(Document::into_displayed);
        Some(Found {
            metadata,
            document: document.filter(|_| provider.is_discovered()).unwrap_or_default(),
        })
    }
}

/// The IP addresses of a host, as a list.
async fn addresses(url: &Url) -> Result<String, String> {
    let host = url.host_str().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = url.port_or_known_default().unwrap_or_default();
    let found = lookup_host((host, port)).await.map_err(|e| e.to_string())?;
    let names: Vec<String> = found.map(|address| address.ip().to_string()).collect();
    if names.is_empty() {
        Err("it has no address".to_owned())
    } else {
        Ok(names.join(", "))
    }
}

/// The remedy for a failed connection, by the error of the operating system.
fn remedy(error: &ProviderError) -> String {
    let cause = match error {
        ProviderError::Unreachable { cause, .. } => cause.to_ascii_lowercase(),
        _ => String::new(),
    };
    if cause.contains("corrupt message") {
        "correct `oidc.issuer`: what answers at this port does not speak TLS".to_owned()
    } else if cause.contains("refused") {
        "start the provider, or correct host and port in `oidc.issuer`".to_owned()
    } else {
        error.remedy().to_owned()
    }
}
