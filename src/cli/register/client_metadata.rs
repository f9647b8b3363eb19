//! What is asked for at registration (OpenID Connect Dynamic Client Registration 1.0 §2, RFC 7591 §2).

use serde_json::{Map, Value, json};

use super::{Addresses, ApplicationType, Arguments};
use crate::{
    cli::{Failure, terminal::Terminal},
    provider::{Metadata, default_authentication_method},
};

/// The client as it is going to be, or is to be entered by hand.
#[derive(Debug)]
pub(super) struct ClientMetadata {
    pub addresses: Addresses,
    pub application_type: ApplicationType,
    pub name: String,
    pub grant_types: Vec<&'static str>,
    pub token_endpoint_auth_method: &'static str,
    pub scope: Option<String>,
    /// Whether to tell the provider where sign-out comes back to.
    has_post_logout: bool,
    has_backchannel_logout: bool,
}

/// Members that the command line decides, so that an update takes them away where it names none.
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
        let method = match arguments.public_client {
            true => "none",
            false => default_authentication_method(provider).as_str(),
        };
        Ok(ClientMetadata {
            application_type,
            name: arguments.name.clone().unwrap_or_else(|| host.to_owned()),
            grant_types: grant_types(provider),
            token_endpoint_auth_method: method,
            scope: arguments.scope.clone(),
            has_post_logout: arguments.post_logout.is_some(),
            has_backchannel_logout: arguments.backchannel_logout,
            addresses,
        })
    }

    /// As a request carries it.
    pub(super) fn as_json(&self) -> Map<String, Value> {
        let mut metadata = Map::new();
        let mut add = |member: &str, value: Value| metadata.insert(member.to_owned(), value);
        add("application_type", json!(self.application_type));
        add("client_name", json!(self.name));
        add("redirect_uris", json!(self.addresses.redirect_uris));
        add("response_types", json!(["code"]));
        add("grant_types", json!(self.grant_types));
        add(
            "token_endpoint_auth_method",
            json!(self.token_endpoint_auth_method),
        );
        if let Some(scope) = &self.scope {
            add("scope", json!(scope));
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

    /// As a person enters it.
    pub(super) fn write(&self, terminal: &Terminal) {
        let line = |name: &str, value: &str| terminal.line(format!("  {name:24} {value}"));
        line("application type", self.application_type.describe());
        for uri in &self.addresses.redirect_uris {
            line("redirect URI", uri.as_str());
        }
        line("response type", "code");
        line("grant types", &self.grant_types.join(", "));
        line("client authentication", self.token_endpoint_auth_method);
        line("PKCE", "S256");
        if let Some(scope) = &self.scope {
            line("scopes", scope);
        }
        if self.has_post_logout {
            for uri in &self.addresses.post_logout_redirect_uris {
                line("post-logout redirect URI", uri);
            }
        }
        if self.has_backchannel_logout {
            line(
                "back-channel logout URI",
                &self.addresses.backchannel_logout_uri,
            );
        }
    }
}

/// The code flow's, and refresh tokens unless the metadata has a list without them.
fn grant_types(provider: &Metadata) -> Vec<&'static str> {
    let listed = provider.grant_types_supported();
    match listed.is_none_or(|types| types.iter().any(|name| name == "refresh_token")) {
        true => vec!["authorization_code", "refresh_token"],
        false => vec!["authorization_code"],
    }
}
