//! The registration endpoint (OpenID Connect Dynamic Client Registration 1.0 §3, RFC 7591) and the client
//! configuration endpoint (RFC 7592), for `rocket-oidc register`.

use std::borrow::Cow;

use openidconnect::{
    HttpResponse,
    http::{Method, Request, header},
};
use serde_json::{Map, Value};
use url::Url;

use super::{Endpoint, Provider, ProviderError};
use crate::{printable::printable, secret::Secret, token::Document};

/// A registered client (Registration 1.0 §3.2): its metadata, and the access to change it.
#[derive(Clone, Debug)]
pub(crate) struct RegisteredClient {
    pub client_id: String,
    pub client_secret: Option<Secret>,
    /// RFC 7592 §3: the token and the URL to change or delete the registration.
    pub registration_access_token: Option<Secret>,
    pub registration_client_uri: Option<Url>,
    /// All other members.
    pub metadata: Map<String, Value>,
}

impl RegisteredClient {
    /// Parses a registration response, in which only `client_id` is required.
    pub(crate) fn accept(body: &[u8]) -> Result<RegisteredClient, ProviderError> {
        let malformed = |cause: String| ProviderError::Malformed {
            endpoint: Endpoint::Registration,
            cause,
        };
        let reply = Document::parse(body).map_err(|error| malformed(error.to_string()))?;
        let text = |member: &str| reply.text(member).map(str::to_owned);
        let client_id = text("client_id").ok_or_else(|| malformed("it has no `client_id`".into()))?;
        let client_secret = text("client_secret").map(Secret::new);
        let registration_access_token = text("registration_access_token").map(Secret::new);
        let uri = text("registration_client_uri");
        let mut metadata = reply.into_displayed();
        for member in [
            "client_id",
            "client_secret",
            "registration_access_token",
            "registration_client_uri",
        ] {
            metadata.remove(member);
        }
        Ok(RegisteredClient {
            client_id,
            client_secret,
            registration_access_token,
            registration_client_uri: uri.and_then(|uri| Url::parse(&uri).ok()),
            metadata,
        })
    }
}

impl Provider {
    /// Registers a client with this metadata (RFC 7591 §3.1).
    pub(crate) async fn register(
        &self,
        registration_endpoint: &Url,
        initial_access_token: Option<&Secret>,
        metadata: &Map<String, Value>,
    ) -> Result<RegisteredClient, ProviderError> {
        let method = Method::POST;
        let body = Some(metadata);
        self.registration(method, registration_endpoint, initial_access_token, body)
            .await?
            .ok_or_else(no_body)
    }

    /// Reads the registration (RFC 7592 §2.1).
    pub(crate) async fn registered(&self, client_uri: &Url, token: &Secret) -> Result<RegisteredClient, ProviderError> {
        self.registration(Method::GET, client_uri, Some(token), None)
            .await?
            .ok_or_else(no_body)
    }

    /// Replaces the whole registration (RFC 7592 §2.2).
    pub(crate) async fn update_registration(
        &self,
        client_uri: &Url,
        token: &Secret,
        metadata: &Map<String, Value>,
    ) -> Result<RegisteredClient, ProviderError> {
        self.registration(Method::PUT, client_uri, Some(token), Some(metadata))
            .await?
            .ok_or_else(no_body)
    }

    /// Deletes the registration (RFC 7592 §2.3).
    pub(crate) async fn delete_registration(&self, client_uri: &Url, token: &Secret) -> Result<(), ProviderError> {
        self.registration(Method::DELETE, client_uri, Some(token), None)
            .await
            .map(drop)
    }

    /// Sends one request without retries: a second `POST` would register a second client.
    async fn registration(
        &self,
        method: Method,
        url: &Url,
        token: Option<&Secret>,
        metadata: Option<&Map<String, Value>>,
    ) -> Result<Option<RegisteredClient>, ProviderError> {
        let endpoint = Endpoint::Registration;
        self.addresses.check_fetched(endpoint, url)?;
        let mut request = Request::builder()
            .method(method)
            .uri(url.as_str())
            .header(header::ACCEPT, "application/json");
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.expose()));
        }
        let mut body = String::new();
        if let Some(metadata) = metadata {
            request = request.header(header::CONTENT_TYPE, "application/json");
            body = Value::Object(metadata.clone()).to_string();
        }
        let request = request.body(body.into_bytes());
        let request = request.map_err(|_| ProviderError::Address { endpoint })?;
        let reply = self.http.call(endpoint, request).await?;
        match reply.status().as_u16() {
            204 => Ok(None),
            200 | 201 => RegisteredClient::accept(reply.body()).map(Some),
            _ => Err(refusal(&reply, token)),
        }
    }
}

/// The provider's error response (RFC 7591 §3.2.2, RFC 6750 §3), or one made from its status and body.
fn refusal(reply: &HttpResponse, token: Option<&Secret>) -> ProviderError {
    let endpoint = Endpoint::Registration;
    match ProviderError::of_error_reply(endpoint, reply) {
        ProviderError::Status {
            status,
            retry_after,
            is_json,
            ..
        } => {
            let words = words(reply.body(), token);
            let error = match status {
                401 | 403 => "invalid_token".to_owned(),
                // There is no error message, or no such endpoint.
                _ if words.is_empty() || [404, 405].contains(&status) => {
                    return ProviderError::Status {
                        endpoint,
                        status,
                        is_json,
                        retry_after,
                    };
                }
                _ => format!("status {status}"),
            };
            ProviderError::Refused {
                endpoint,
                status,
                error,
                description: if words.is_empty() {
                    format!("status {status}")
                } else {
                    words
                },
                retry_after,
            }
        }
        error => error,
    }
}

/// How much of an error response is read, in bytes.
const MAX_REJECTION_LEN: usize = 16 * 1024;

/// The message of a non-standard error response, whatever its content type: the text of an HTML page, or the
/// beginning of anything else. If it contains the token, the token is removed.
fn words(body: &[u8], token: Option<&Secret>) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(MAX_REJECTION_LEN)]);
    let text = text.trim_start_matches('\u{feff}').trim();
    let text = if text.starts_with('<') {
        Cow::Owned(text_of_page(text))
    } else {
        Cow::Borrowed(text)
    };
    let words: Vec<&str> = text.split_whitespace().collect();
    let words = words.join(" ");
    match token {
        Some(token) if !token.expose().is_empty() => printable(&words.replace(token.expose(), "…")),
        _ => printable(&words),
    }
}

/// The text of an HTML page, without tags, scripts and styles.
fn text_of_page(page: &str) -> String {
    let mut text = String::new();
    let mut rest = page;
    while let Some(start) = rest.find('<') {
        text.push_str(&rest[..start]);
        text.push(' ');
        rest = &rest[start..];
        let name: String = rest[1..].chars().take_while(char::is_ascii_alphabetic).collect();
        let end = match name.to_ascii_lowercase().as_str() {
            "script" | "style" => {
                let close = format!("</{}", name.to_ascii_lowercase());
                rest.to_ascii_lowercase().find(&close).unwrap_or(rest.len())
            }
            _ => 0,
        };
        rest = &rest[end..];
        rest = rest.find('>').map_or("", |close| &rest[close + 1..]);
    }
    text.push_str(rest);
    text
}

fn no_body() -> ProviderError {
    ProviderError::Malformed {
        endpoint: Endpoint::Registration,
        cause: "it is empty".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, body: &str) -> HttpResponse {
        let reply = openidconnect::http::Response::builder().status(status);
        reply.body(body.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn a_client_id_is_enough() {
        let client = RegisteredClient::accept(br#"{"client_id":"c","client_secret":""}"#).unwrap();
        assert_eq!(client.client_id, "c");
        assert_eq!(client.client_secret, None);
        let error = RegisteredClient::accept(br#"{"client_secret":"hush"}"#).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the provider's registration endpoint sent an invalid response: it has no `client_id`"
        );
    }

    #[test]
    fn the_words_of_a_refusal_whatever_its_type() {
        let long = "x".repeat(10_000);
        for (status, body, expected) in [
            (
                400,
                "contacts:\n  at least one is required\n",
                "rejected the request with `status 400`: contacts: at least one is required",
            ),
            (
                422,
                r#"{"message":"contacts is required","code":7}"#,
                r#"rejected the request with `status 422`: {"message":"contacts is required","code":7}"#,
            ),
            (
                400,
                r#"{"error":{"message":"no"}}"#,
                r#"rejected the request with `status 400`: {"error":{"message":"no"}}"#,
            ),
            (
                400,
                "<!DOCTYPE html><html><head><title>Bad</title><STYLE>a{b}</Style><script>x<y</script>\
                 </head><body><p class=\"a\">No <b>contacts</b></p></body></html>",
                "rejected the request with `status 400`: Bad No contacts",
            ),
            (
                403,
                "not the token my-token",
                "rejected the request with `invalid_token`: not the token …",
            ),
            (401, "<p", "rejected the request with `invalid_token`: status 401"),
            (
                503,
                "later\u{1b}[2J",
                "rejected the request with `status 503`: later\\u{1b}[2J",
            ),
            (400, " \n", "responded with status 400"),
            (404, "no such page", "responded with status 404"),
            (400, "\u{feff}no", "rejected the request with `status 400`: no"),
            (
                400,
                &long,
                &format!("rejected the request with `status 400`: {}…", "x".repeat(300)),
            ),
        ] {
            let error = refusal(&reply(status, body), Some(&Secret::new("my-token")));
            let expected = format!("the provider's registration endpoint {expected}");
            assert_eq!(error.to_string(), expected, "{body}");
        }
    }

    #[test]
    fn refusals_in_the_providers_words() {
        for (status, body, expected) in [
            (
                400,
                r#"{"error":"invalid_redirect_uri","error_description":"no"}"#,
                "invalid_redirect_uri",
            ),
            (401, "", "invalid_token"),
            (403, "<html>", "invalid_token"),
        ] {
            match refusal(&reply(status, body), None) {
                ProviderError::Refused { error, .. } => assert_eq!(error, expected),
                other => panic!("{other}"),
            }
        }
        assert_eq!(
            refusal(&reply(500, ""), None).to_string(),
            "the provider's registration endpoint responded with status 500"
        );
    }
}
