//! The client metadata of a registration request (OpenID Connect Dynamic Client Registration 1.0 §2, RFC 7591 §2).

use std::path::Path;

use serde_json::{Map, Value, json};

use super::{Addresses, ApplicationType, Arguments};
use crate::{
    cli::{Failure, terminal::Terminal},
    printable::printable,
    provider::{Metadata, default_authentication_method},
    settings::is_loopback,
    token::{ClientKeys, PublicKey},
};

/// The client to be registered, by a request or by hand.
#[derive(Debug)]
pub(super) struct ClientMetadata {
    pub addresses: Addresses,
    pub grant_types: Vec<&'static str>,
    pub token_endpoint_auth_method: &'static str,
    /// The JSON of a registration request.
    pub members: Map<String, Value>,
}

/// Members that the command line decides: an update removes those that it does not give.
pub(super) const CONTROLLED: [&str; 6] = [
    "jwks",
    "jwks_uri",
    "post_logout_redirect_uris",
    "backchannel_logout_uri",
    "backchannel_logout_session_required",
    "dpop_bound_access_tokens",
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
        let token_endpoint_auth_method = if arguments.public_client {
            "none"
        } else if arguments.client_keys.is_some() {
            "private_key_jwt"
        } else {
            default_authentication_method(provider).as_str()
        };
        let mut grant_types = vec!["authorization_code"];
        let listed = provider.grant_types_supported.as_deref();
        if listed.is_none_or(|types| types.iter().any(|name| name == "refresh_token")) {
            grant_types.push("refresh_token");
        }
        let mut members = Map::new();
        let mut add = |member: &str, value: Value| members.insert(member.to_owned(), value);
        add("application_type", json!(application_type));
        add("client_name", json!(arguments.name.as_deref().unwrap_or(host)));
        add("redirect_uris", json!(addresses.redirect_uris));
        add("response_types", json!(["code"]));
        add("grant_types", json!(grant_types));
        add("token_endpoint_auth_method", json!(token_endpoint_auth_method));
        if let Some(path) = &arguments.client_keys {
            let keys = client_keys(path)?;
            add("token_endpoint_auth_signing_alg", json!(keys.active().alg().as_str()));
            // A provider cannot read what this machine alone can.
            if is_loopback(&addresses.jwks_uri) {
                let keys: Vec<_> = keys.published().iter().map(PublicKey::jwk).collect();
                add("jwks", json!({ "keys": keys }));
            } else {
                add("jwks_uri", json!(addresses.jwks_uri));
            }
        }
        if let Some(scope) = &arguments.scope {
            add("scope", json!(scope));
        }
        if !arguments.contact.is_empty() {
            add("contacts", json!(arguments.contact));
        }
        if arguments.post_logout.is_some() {
            add("post_logout_redirect_uris", json!(addresses.post_logout_redirect_uris));
        }
        if arguments.backchannel_logout {
            add("backchannel_logout_uri", json!(addresses.backchannel_logout_uri));
            add("backchannel_logout_session_required", json!(true));
        }
        if arguments.dpop {
            // RFC 9449 §5.2.
            add("dpop_bound_access_tokens", json!(true));
        }
        Ok(ClientMetadata {
            addresses,
            grant_types,
            token_endpoint_auth_method,
            members,
        })
    }

    /// Writes the metadata for manual entry; or, with the provider's response, as registered.
    pub(super) fn write(&self, terminal: &Terminal, answer: Option<&Map<String, Value>>) {
        let line = |label: &str, value: &str| terminal.line(format!("  {label:24} {value}"));
        for (member, label) in LABELS {
            let returned = answer.and_then(|answer| answer.get(member));
            let returned = returned.filter(|value| !value.is_null());
            let Some(value) = returned.or_else(|| self.members.get(member)) else {
                continue;
            };
            // RFC 7591 §3.2.1: the response holds all registered metadata.
            let remark = match answer {
                Some(_) if returned.is_none() => " (requested; not confirmed by the provider)",
                _ => "",
            };
            let values = match (member, value.as_str()) {
                ("application_type", Some("web")) => vec!["web (redirect URIs with https)".to_owned()],
                ("application_type", Some("native")) => vec!["native (http on loopback: for development)".to_owned()],
                _ => texts(value),
            };
            match member {
                _ if values.is_empty() => line(label, "none"),
                "redirect_uris" | "post_logout_redirect_uris" => {
                    for value in &values {
                        line(label, &format!("{value}{remark}"));
                    }
                }
                _ => line(label, &format!("{}{remark}", values.join(", "))),
            }
            if member == "token_endpoint_auth_method" {
                line("PKCE", "S256");
            }
        }
    }
}

/// Reads the keys that the app will have.
fn client_keys(path: &Path) -> Result<ClientKeys, Failure> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| {
        let cause = format!("`{shown}` cannot be read: {error}");
        Failure::new(cause, "generate it with `rocket-oidc keys new`")
    })?;
    let keys = ClientKeys::parse(&text);
    keys.map_err(|error| {
        Failure::new(
            format!("`{shown}` is not a usable private key: {error}"),
            error.remedy(),
        )
    })
}

/// The members of the metadata that are displayed, with their labels.
const LABELS: [(&str, &str); 11] = [
    ("application_type", "application type"),
    ("redirect_uris", "redirect URI"),
    ("response_types", "response type"),
    ("grant_types", "grant types"),
    ("token_endpoint_auth_method", "client authentication"),
    ("jwks_uri", "client keys"),
    ("scope", "scopes"),
    ("contacts", "contacts"),
    ("post_logout_redirect_uris", "post-logout redirect URI"),
    ("backchannel_logout_uri", "back-channel logout URI"),
    ("dpop_bound_access_tokens", "tokens bound to keys"),
];

/// The strings of a member: one, or a list.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![printable(text)],
        Value::Array(list) => list.iter().flat_map(texts).collect(),
        other => vec![printable(&other.to_string())],
    }
}
