//! The client metadata of a registration request (OpenID Connect Dynamic Client Registration 1.0 §2, RFC 7591 §2).

use serde_json::{Map, Value, json};

use super::{Addresses, ApplicationType, Arguments};
use crate::{
    cli::{Failure, terminal::Terminal},
    printable::printable,
    provider::{Metadata, default_authentication_method},
    settings::is_loopback,
};

/// The client to be registered, by a request or by hand.
#[derive(Debug)]
pub(super) struct ClientMetadata {
    pub addresses: Addresses,
    pub application_type: ApplicationType,
    pub name: String,
    pub grant_types: Vec<&'static str>,
    pub token_endpoint_auth_method: &'static str,
    pub scope: Option<String>,
    pub contacts: Vec<String>,
    /// Whether to register `post_logout_redirect_uris`.
    has_post_logout: bool,
    has_backchannel_logout: bool,
}

/// Members that the command line decides: an update removes those that it does not give.
pub(super) const DECIDED: [&str; 3] = [
    "post_logout_redirect_uris",
    "backchannel_logout_uri",
    "backchannel_logout_session_required",
];

impl ClientMetadata {
    pub(super) fn new(
        arguments: &Arguments,
        addresses: Addresses,
        provider: &Metadata,
    ) -> Result<ClientMetadata, Failure> {
        let application_type = match arguments.application_type {
            Some(given) => given,
            None => ApplicationType::of(&addresses.redirect_uris)?,
        };
        let first = addresses.redirect_uris.first();
        let host = first.and_then(|url| url.host_str()).unwrap_or_default();
        let method = if arguments.public_client {
            "none"
        } else {
            default_authentication_method(provider).as_str()
        };
        Ok(ClientMetadata {
            application_type,
            name: arguments.name.clone().unwrap_or_else(|| host.to_owned()),
            grant_types: grant_types(provider),
            token_endpoint_auth_method: method,
            scope: arguments.scope.clone(),
            contacts: arguments.contact.clone(),
            has_post_logout: arguments.post_logout.is_some(),
            has_backchannel_logout: arguments.backchannel_logout,
            addresses,
        })
    }

    /// Whether a redirect URI is plain http and not loopback.
    pub(super) fn is_plain_http(&self) -> bool {
        let uris = &self.addresses.redirect_uris;
        uris.iter().any(|uri| uri.scheme() == "http" && !is_loopback(uri))
    }

    /// The JSON of a registration request.
    pub(super) fn as_json(&self) -> Map<String, Value> {
        let mut metadata = Map::new();
        let mut add = |member: &str, value: Value| metadata.insert(member.to_owned(), value);
        add("application_type", json!(self.application_type));
        add("client_name", json!(self.name));
        add("redirect_uris", json!(self.addresses.redirect_uris));
        add("response_types", json!(["code"]));
        add("grant_types", json!(self.grant_types));
        add("token_endpoint_auth_method", json!(self.token_endpoint_auth_method));
        if let Some(scope) = &self.scope {
            add("scope", json!(scope));
        }
        if !self.contacts.is_empty() {
            add("contacts", json!(self.contacts));
        }
        if self.has_post_logout {
            let uris = &self.addresses.post_logout_redirect_uris;
            add("post_logout_redirect_uris", json!(uris));
        }
        if self.has_backchannel_logout {
            let uri = &self.addresses.backchannel_logout_uri;
            add("backchannel_logout_uri", json!(uri));
            add("backchannel_logout_session_required", json!(true));
        }
        metadata
    }

    /// Writes the metadata for manual entry; or, with the provider's response, as registered.
    pub(super) fn write(&self, terminal: &Terminal, answer: Option<&Map<String, Value>>) {
        let asked = self.as_json();
        let line = |label: &str, value: &str| terminal.line(format!("  {label:24} {value}"));
        for (member, label) in LINES {
            let answered = answer.and_then(|answer| answer.get(member));
            let answered = answered.filter(|value| !value.is_null());
            let (Some(value), remark) = (match (answered, asked.get(member)) {
                (Some(answered), _) => (Some(answered), ""),
                // RFC 7591 §3.2.1: the response holds all registered metadata.
                (None, asked) if answer.is_some() => (asked, " (asked for; the answer does not say)"),
                (None, asked) => (asked, ""),
            }) else {
                continue;
            };
            let values = match (member, value.as_str()) {
                ("application_type", Some("web")) => {
                    vec![ApplicationType::Web.describe().to_owned()]
                }
                ("application_type", Some("native")) => {
                    vec![ApplicationType::Native.describe().to_owned()]
                }
                _ => texts(value),
            };
            match member {
                "redirect_uris" | "post_logout_redirect_uris" if !values.is_empty() => {
                    for value in values {
                        line(label, &format!("{value}{remark}"));
                    }
                }
                _ if values.is_empty() => line(label, "none"),
                _ => line(label, &format!("{}{remark}", values.join(", "))),
            }
            if member == "token_endpoint_auth_method" {
                line("PKCE", "S256");
            }
        }
    }
}

/// The members of the metadata that are displayed, with their labels.
const LINES: [(&str, &str); 9] = [
    ("application_type", "application type"),
    ("redirect_uris", "redirect URI"),
    ("response_types", "response type"),
    ("grant_types", "grant types"),
    ("token_endpoint_auth_method", "client authentication"),
    ("scope", "scopes"),
    ("contacts", "contacts"),
    ("post_logout_redirect_uris", "post-logout redirect URI"),
    ("backchannel_logout_uri", "back-channel logout URI"),
];

/// The strings of a member: one, or a list.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![printable(text)],
        Value::Array(list) => list.iter().flat_map(texts).collect(),
        other => vec![printable(&other.to_string())],
    }
}

/// The grant types of the code flow, and refresh tokens unless the provider's list lacks them.
fn grant_types(provider: &Metadata) -> Vec<&'static str> {
    let listed = provider.grant_types_supported.as_deref();
    if listed.is_none_or(|types| types.iter().any(|name| name == "refresh_token")) {
        vec!["authorization_code", "refresh_token"]
    } else {
        vec!["authorization_code"]
    }
}
