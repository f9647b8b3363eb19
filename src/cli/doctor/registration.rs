//! Checks of the app's registration at the provider: client authentication and redirect URI.

use std::{sync::Arc, time::Duration};

use openidconnect::{HttpResponse, http::header::LOCATION};
use url::Url;

use super::{Doctor, now};
use crate::{
    code_flow::{AttemptSecrets, SignInParameters, authorization_request},
    printable::printable,
    provider::{Endpoint, Metadata, PUSH_REQUESTS, Provider, ProviderError, demands_pushed_request},
    settings::ResponseMode,
    token::parse_object,
};

/// The errors of a provider for `prompt=none` without a signed-in user (Core §3.1.2.6).
const NOT_SIGNED_IN: [&str; 4] = [
    "login_required",
    "interaction_required",
    "consent_required",
    "account_selection_required",
];

/// What error pages of providers contain, the more specific first.
const ERROR_PAGE_WORDS: [&str; 6] = [
    "invalid_redirect_uri",
    "redirect_uri_mismatch",
    "redirect_uri",
    "invalid_client",
    "unauthorized_client",
    "client_id",
];

impl Doctor {
    /// Tries to exchange an invalid code: `invalid_grant` means that the client was authenticated first (RFC 6749
    /// §5.2). Returns `false` if it was not.
    pub(super) async fn client_authentication(&mut self, provider: &Arc<Provider>, metadata: &Metadata) -> bool {
        const CHECK: &str = "client authentication";
        let registration = &provider.registration;
        let method = provider.authentication_method(metadata).as_str();
        let work = provider.try_code(metadata, now());
        let answer = self.terminal.wait("calling the token endpoint", work).await;
        let Err(error) = answer else {
            let finding = "the token endpoint issued tokens for a made-up code";
            self.report.failure(CHECK, finding, "do not use this provider");
            return false;
        };
        let refused = match &error {
            _ if error.is_client_rejected() => "invalid_client",
            // GitHub has another code for it.
            _ if error.reason() == "invalid_grant" => "invalid_grant",
            ProviderError::Refused { error, .. } => error.as_str(),
            ProviderError::Status { status: 401 | 403, .. } => "invalid_client",
            _ => "",
        };
        match refused {
            "invalid_grant" => {
                let client_id = &registration.client_id;
                let finding = match method {
                    "none" => format!("`{client_id}` is accepted; it has no secret"),
                    "private_key_jwt" => format!("`{client_id}` and its key are accepted ({method})"),
                    "tls_client_auth" | "self_signed_tls_client_auth" => {
                        format!("`{client_id}` and its certificate are accepted ({method})")
                    }
                    _ => format!("`{client_id}` and its secret are accepted ({method})"),
                };
                self.report.ok(CHECK, finding);
            }
            "invalid_client" => {
                let finding = format!("{error} ({method})");
                self.report.failure(CHECK, finding, credentials(provider, metadata));
            }
            "unauthorized_client" | "unsupported_grant_type" => self.report.failure(
                CHECK,
                error.to_string(),
                "allow the grant type `authorization_code` for this client at the provider",
            ),
            "" => self.report.failure(CHECK, error.to_string(), error.remedy()),
            _ => self.report.warning(
                CHECK,
                format!("{error}; expected `invalid_grant`, so the secret is not checked"),
                "sign in once, and check the app's log",
            ),
        }
        refused != "invalid_client" && !refused.is_empty()
    }

    /// Checks the certificate of the client, and that the provider lists its method.
    pub(super) fn client_certificate(&mut self, provider: &Provider, metadata: &Metadata) {
        const CHECK: &str = "client certificate";
        /// Enough time for a renewal.
        const SOON: Duration = Duration::from_secs(14 * 24 * 60 * 60);
        let Some(identity) = &provider.registration.client_identity else {
            return;
        };
        let renew = "renew it, register it at the provider if it is self-signed, and restart the app";
        let end = identity.certificate.not_after();
        let finding = end.map(|end| end.date().to_string());
        match (end, finding) {
            (Some(end), Some(date)) if end <= now() => {
                self.report.failure(CHECK, format!("it expired on {date}"), renew);
            }
            (Some(end), Some(date)) if end <= now() + SOON => {
                self.report.warning(CHECK, format!("it expires on {date}"), renew);
            }
            (Some(_), Some(date)) => self.report.ok(CHECK, format!("valid until {date}")),
            _ => self
                .report
                .warning(CHECK, "the end of its validity cannot be read", renew),
        }
        let method = provider.authentication_method(metadata);
        let listed = metadata
            .token_endpoint_auth_methods_supported
            .as_deref()
            .unwrap_or_default();
        if method.is_by_certificate() && !listed.iter().any(|name| name == method.as_str()) {
            self.report.warning(
                CHECK,
                format!("the provider does not list `{}`", method.as_str()),
                "enable it at the provider, or set another `token_endpoint_auth_method`",
            );
        }
        if !metadata.tls_client_certificate_bound_access_tokens {
            self.report.warning(
                CHECK,
                "the provider does not say that it binds access tokens to certificates",
                "enable certificate-bound access tokens at the provider, if APIs demand them",
            );
        }
    }

    /// The URL that a browser would be redirected to: that of the request or, if it is pushed (RFC 9126), one that
    /// refers to it.
    async fn pushed(&mut self, provider: &Provider, metadata: &Metadata, request: &Url) -> Option<Url> {
        const CHECK: &str = "pushed request";
        let pushed = match provider.pushed_authorization_request_endpoint(metadata) {
            Ok(None) => return Some(request.clone()),
            Ok(Some(endpoint)) => {
                let work = provider.push_authorization_request(metadata, endpoint, request, None, None, now());
                let work = self.terminal.wait("pushing an authorization request", work);
                work.await.map(|address| (endpoint, address))
            }
            Err(error) => Err(error),
        };
        match pushed {
            Ok((endpoint, address)) => {
                self.report.ok(CHECK, endpoint.as_str());
                Some(address)
            }
            Err(error) => {
                let remedy = remedy(&error, provider, metadata);
                self.report.failure(CHECK, error.to_string(), remedy);
                None
            }
        }
    }

    /// Sends the authorization request that a browser would, with `prompt=none`: a provider does not redirect to a
    /// URI that is not registered (RFC 6749 §3.1.2.4).
    pub(super) async fn redirect_uri(&mut self, provider: &Arc<Provider>, metadata: &Metadata) {
        const CHECK: &str = "redirect URI";
        let client = match provider.client(metadata) {
            Ok(client) => client,
            Err(error) => return self.report.error(CHECK, error),
        };
        let Some(redirect_uri) = client.redirect_uri().map(|uri| uri.url().clone()) else {
            return;
        };
        let mut settings = (*provider.settings).clone();
        let parameters = &mut settings.extra_authorization_parameters;
        parameters.insert("prompt".into(), "none".into());
        settings.response_mode = ResponseMode::Query;
        let url = authorization_request(
            &client,
            &settings,
            &AttemptSecrets::random(),
            &SignInParameters::default(),
            None,
        );
        let Some(address) = self.pushed(provider, metadata, &url).await else {
            return;
        };

        let work = provider.visit(Endpoint::Authorization, &address);
        let reply = self.terminal.wait("calling the authorization endpoint", work);
        let reply = match reply.await {
            Ok(reply) => reply,
            Err(error) => return self.report.error(CHECK, error),
        };
        let client_id = &provider.registration.client_id;
        let remedy = format!(
            "register exactly this redirect URI for `{client_id}` (`rocket-oidc register --update`, or the provider's \
             console), or change `base_url`, `mount` or `overwrite_redirect_uri` to match a registered one"
        );
        match Answer::of(&reply, &url, &redirect_uri) {
            Answer::Back => self.report.ok(CHECK, redirect_uri),
            Answer::BackWithError { error, description } => {
                let remedy = match &description {
                    Some(description) if demands_pushed_request(description) => PUSH_REQUESTS,
                    _ => "compare the client's registration with `scopes` and `extra_authorization_parameters`",
                };
                let error = quoted(&error, description);
                let finding = format!("{redirect_uri} is registered, but the request is rejected: {error}");
                self.report.failure("authorization", finding, remedy);
            }
            Answer::Refused(why) => {
                let finding = format!("{redirect_uri} is rejected: {why}");
                self.report.failure(CHECK, finding, remedy);
            }
            Answer::Elsewhere(what) => {
                let finding = format!("{redirect_uri} could not be checked: the provider {what}");
                let remedy = "sign in once with a browser, and read the provider's page";
                self.report.warning(CHECK, finding, remedy);
            }
        }
    }
}

/// The remedy for an error, which may be a failure of client authentication.
pub(super) fn remedy(error: &ProviderError, provider: &Provider, metadata: &Metadata) -> &'static str {
    if error.is_client_rejected() {
        credentials(provider, metadata)
    } else {
        error.remedy()
    }
}

/// The remedy for a failure of client authentication, by its method.
fn credentials(provider: &Provider, metadata: &Metadata) -> &'static str {
    match provider.authentication_method(metadata).as_str() {
        "private_key_jwt" => {
            "register the public part of `oidc.private_key_file` at the provider, and compare \
             `oidc.private_key_id` and `oidc.client_assertion_audience` with its requirements"
        }
        "tls_client_auth" | "self_signed_tls_client_auth" => {
            "register the certificate of `oidc.tls_client_certificate`, or its subject, at the provider"
        }
        _ if provider.registration.secret_issuer.is_some() => {
            "compare `oidc.client_id`, `oidc.client_secret_issuer`, `oidc.private_key_id` and `oidc.private_key_file` \
             with the provider's console"
        }
        _ if provider.registration.client_secret.is_some() => {
            "check `oidc.client_id`, `oidc.client_secret` and `oidc.token_endpoint_auth_method`"
        }
        _ => "check `oidc.client_id`, and set OIDC_CLIENT_SECRET if the client has one",
    }
}

/// The response of an authorization endpoint.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// A redirect to the redirect URI, without an error, or because no user is signed in.
    Back,
    /// A redirect to the redirect URI with another error.
    BackWithError { error: String, description: Option<String> },
    /// An error page; holds its message.
    Refused(String),
    /// Anything else.
    Elsewhere(String),
}

impl Answer {
    fn of(reply: &HttpResponse, asked: &Url, redirect_uri: &Url) -> Answer {
        let location = reply.headers().get(LOCATION);
        let location = location
            .and_then(|location| location.to_str().ok())
            .and_then(|location| asked.join(location).ok());
        let status = reply.status().as_u16();
        match location {
            Some(to) if to.as_str().starts_with(redirect_uri.as_str()) => {
                let parameter = |name: &str| {
                    let mut pairs = to.query_pairs();
                    let value = pairs.find_map(|(key, value)| (key == name).then_some(value));
                    value.map(|value| printable(&value))
                };
                match parameter("error") {
                    Some(error) if !NOT_SIGNED_IN.contains(&error.as_str()) => Answer::BackWithError {
                        error,
                        description: parameter("error_description"),
                    },
                    _ => Answer::Back,
                }
            }
            Some(mut to) => {
                to.set_query(None);
                Answer::Elsewhere(format!("redirects to {to}"))
            }
            None if (400..500).contains(&status) => {
                let body = parse_object(reply.body()).unwrap_or_default();
                let text = |member: &str| body.get(member)?.as_str().map(printable);
                Answer::Refused(text("error").map_or_else(
                    || {
                        let page = String::from_utf8_lossy(reply.body());
                        let word = ERROR_PAGE_WORDS.iter().find(|word| page.contains(**word));
                        let of_page = word.map(|word| format!(", and its page contains `{word}`"));
                        let of_page = of_page.unwrap_or_default();
                        format!("the authorization endpoint responds with status {status}{of_page}")
                    },
                    |error| quoted(&error, text("error_description")),
                ))
            }
            None => Answer::Elsewhere(format!("responds with status {status} and a page")),
        }
    }
}

/// An error code of the provider, and its description.
fn quoted(error: &str, description: Option<String>) -> String {
    let description = description.map(|description| format!(": {description}"));
    format!("`{error}`{}", description.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use openidconnect::http::Response;

    use super::*;

    fn answer(status: u16, location: &str, body: &str) -> Answer {
        let mut reply = Response::builder().status(status);
        if !location.is_empty() {
            reply = reply.header(LOCATION, location);
        }
        let reply = reply.body(body.as_bytes().to_vec()).unwrap();
        let url = |text| Url::parse(text).unwrap();
        Answer::of(
            &reply,
            &url("https://op.example/authorize?x=y"),
            &url("https://app.example/cb"),
        )
    }

    #[test]
    fn answers_to_prompt_none() {
        for location in [
            "https://app.example/cb?error=login_required&state=s",
            "https://app.example/cb?code=c",
        ] {
            assert_eq!(answer(303, location, ""), Answer::Back);
        }
        let location = "https://app.example/cb?error=invalid_scope&error_description=no+such";
        assert_eq!(
            answer(303, location, ""),
            Answer::BackWithError {
                error: "invalid_scope".to_owned(),
                description: Some("no such".to_owned()),
            }
        );
        assert_eq!(
            answer(302, "/signin/error?authError=secret", ""),
            Answer::Elsewhere("redirects to https://op.example/signin/error".to_owned())
        );
        assert_eq!(
            answer(200, "", "<form>"),
            Answer::Elsewhere("responds with status 200 and a page".to_owned())
        );
        assert_eq!(
            answer(400, "", r#"{"error":"invalid_redirect_uri"}"#),
            Answer::Refused("`invalid_redirect_uri`".to_owned())
        );
        assert_eq!(
            answer(400, "", "<p>redirect_uri_mismatch"),
            Answer::Refused(
                "the authorization endpoint responds with status 400, and its page contains `redirect_uri_mismatch`"
                    .to_owned()
            )
        );
        assert_eq!(
            answer(400, "", "<html>"),
            Answer::Refused("the authorization endpoint responds with status 400".to_owned())
        );
    }
}
