//! GitHub's API, where the user comes from: GitHub issues no ID tokens.

use std::time::Duration;

use openidconnect::{
    HttpResponse,
    http::{HeaderMap, Request, header},
};
use serde_json::{Value, json};
use thiserror::Error;
use time::OffsetDateTime;
use url::{Url, form_urlencoded};

use super::{
    Endpoint, Metadata, Provider, ProviderError, TokenTypeHint,
    breaker::CountedOutages,
    client_authentication::basic,
    retry_after::{MAX_RETRY_AFTER, retry_after},
};
use crate::{
    secret::Secret,
    token::{Claims, Document, type_name},
};

/// The [version of the API](https://docs.github.com/en/rest/about-the-rest-api/api-versions) that this file follows.
const API_VERSION: &str = "2022-11-28";
/// The scopes that grant access to the e-mail addresses.
const EMAIL_SCOPES: [&str; 2] = ["user:email", "user"];
/// How long to wait after a rate limit of unknown end: "wait for at least one minute".
const UNKNOWN_WAIT: Duration = Duration::from_secs(60);

/// A user, as GitHub's API describes them.
#[derive(Debug)]
pub(crate) struct GitHubUser {
    /// `id`: never reused, unlike `login`.
    id: u64,
    claims: Claims,
}

/// Why a user could not be read from GitHub's API.
#[derive(Debug, Error)]
pub(crate) enum GitHubUserError {
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// The access token has expired, or the user or GitHub revoked it.
    #[error("the provider's user API does not accept the access token")]
    AccessTokenRejected,
    #[error("the provider's user API returned the user {actual}, expected {expected:?}")]
    AnotherUser {
        /// The `sub` of the sign-in.
        expected: String,
        actual: u64,
    },
}

impl GitHubUserError {
    /// The reason code.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            GitHubUserError::Provider(error) => error.reason(),
            GitHubUserError::AccessTokenRejected => "access_token_rejected",
            GitHubUserError::AnotherUser { .. } => "user_api_id",
        }
    }
}

impl GitHubUser {
    /// `sub`, and the other claims.
    pub(crate) fn into_claims(self) -> (Claims, Claims) {
        let mut subject = Claims::default();
        subject.insert("sub", self.id.to_string());
        (subject, self.claims)
    }
}

impl Provider {
    /// The user of this access token, who must have this `sub` if one is given.
    pub(crate) async fn github_user(
        &self,
        metadata: &Metadata,
        access_token: &Secret,
        subject: Option<&str>,
        now: OffsetDateTime,
    ) -> Result<GitHubUser, GitHubUserError> {
        let endpoint = Endpoint::UserApi;
        let url = metadata
            .userinfo_endpoint
            .as_ref()
            .ok_or(ProviderError::Address { endpoint })?;
        let reply = self.github_api(endpoint, url, access_token).await?;
        let mut user = match reply.status().as_u16() {
            200 => accept_user(reply.body())?,
            401 => return Err(GitHubUserError::AccessTokenRejected),
            _ => return Err(api_error(endpoint, &reply, now).into()),
        };
        if let Some(expected) = subject
            && user.id.to_string() != expected
        {
            return Err(GitHubUserError::AnotherUser {
                expected: expected.to_owned(),
                actual: user.id,
            });
        }
        if let Some(address) = self.github_address(url, access_token, now).await? {
            user.claims.insert("email", address);
            user.claims.insert("email_verified", true);
        }
        Ok(user)
    }

    /// The user's primary e-mail address, if it is verified and the app may read it.
    async fn github_address(
        &self,
        user_url: &Url,
        access_token: &Secret,
        now: OffsetDateTime,
    ) -> Result<Option<String>, GitHubUserError> {
        let endpoint = Endpoint::EmailApi;
        let is_requested = |scope: &String| EMAIL_SCOPES.contains(&&**scope);
        if !self.settings.scopes.iter().any(is_requested) {
            return Ok(None);
        }
        let mut url = user_url.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.push("emails");
        }
        url.set_query(Some("per_page=100"));
        let reply = self.github_api(endpoint, &url, access_token).await?;
        match reply.status().as_u16() {
            200 => Ok(accept_addresses(reply.body())?),
            401 => Err(GitHubUserError::AccessTokenRejected),
            _ => match api_error(endpoint, &reply, now) {
                // The user did not grant the scope, or the GitHub App lacks the permission.
                ProviderError::Status { status: 403 | 404, .. } => {
                    tracing::warn!(
                        reason = "email_not_permitted",
                        "the app may not read the user's e-mail addresses at GitHub; the user has no `email`"
                    );
                    tracing::info!(
                        "request the scope `user:email` or, for a GitHub App, the permission \"Email addresses\""
                    );
                    Ok(None)
                }
                error => Err(error.into()),
            },
        }
    }

    /// Sends a `GET` to the API, which alone receives the access token.
    async fn github_api(
        &self,
        endpoint: Endpoint,
        url: &Url,
        access_token: &Secret,
    ) -> Result<HttpResponse, ProviderError> {
        let request = Request::get(url.as_str())
            .header(header::ACCEPT, "application/vnd.github+json")
            .header("X-GitHub-Api-Version", API_VERSION)
            .header(header::AUTHORIZATION, format!("Bearer {}", access_token.expose()))
            .body(Vec::new())
            .map_err(|_| ProviderError::Address { endpoint })?;
        self.http.call(endpoint, request).await
    }

    /// Deletes an access token, by
    /// [GitHub's own endpoint](https://docs.github.com/en/rest/apps/oauth-applications#delete-an-app-token). There is
    /// none for a refresh token.
    pub(super) async fn delete_github_token(
        &self,
        url: &Url,
        token: &Secret,
        hint: TokenTypeHint,
        now: OffsetDateTime,
    ) -> Result<(), ProviderError> {
        let endpoint = Endpoint::Revocation;
        let (TokenTypeHint::AccessToken, Some(secret)) = (hint, &self.registration.client_secret) else {
            return Ok(());
        };
        let request = Request::delete(url.as_str())
            .header(header::ACCEPT, "application/vnd.github+json")
            .header("X-GitHub-Api-Version", API_VERSION)
            .header(header::CONTENT_TYPE, "application/json")
            .header(
                header::AUTHORIZATION,
                basic(&self.registration.client_id, secret.expose()),
            )
            .body(json!({ "access_token": token.expose() }).to_string().into_bytes())
            .map_err(|_| ProviderError::Address { endpoint })?;
        let call = self.http.call(endpoint, request);
        let reply = self.limits.revocation.run(None, CountedOutages::All, now, call).await?;
        match reply.status().as_u16() {
            // The latter two: the token does not exist any more.
            204 | 404 | 422 => Ok(()),
            _ => Err(api_error(endpoint, &reply, now)),
        }
    }
}

/// Converts a form-encoded token response to JSON: GitHub sends one if a proxy drops the `Accept` header, and for some
/// errors. Any other response is returned as it is.
pub(super) fn form_as_json(mut reply: HttpResponse) -> HttpResponse {
    let content_type = reply.headers().get(header::CONTENT_TYPE);
    let content_type = content_type.and_then(|it| it.to_str().ok()).unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    if media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        *reply.body_mut() = json_of_form(reply.body());
    }
    reply
}

/// The JSON object of a form. Members are not merged: one that is present twice is a defect.
fn json_of_form(form: &[u8]) -> Vec<u8> {
    let pairs = form_urlencoded::parse(form);
    let members: Vec<String> = pairs
        .map(|(name, value)| format!("{}:{}", json!(name), json!(value)))
        .collect();
    format!("{{{}}}", members.join(",")).into_bytes()
}

/// Exported by `internals`.
#[cfg(feature = "__internals")]
pub(crate) fn read_github_replies(body: &[u8]) -> (Option<String>, Option<String>, bool) {
    let user = accept_user(body).ok();
    let address = accept_addresses(body).ok().flatten();
    (
        user.map(|user| user.id.to_string()),
        address,
        Document::parse(&json_of_form(body)).is_ok(),
    )
}

/// Parses the response of `GET /user`.
fn accept_user(body: &[u8]) -> Result<GitHubUser, ProviderError> {
    let malformed = |cause: String| ProviderError::Malformed {
        endpoint: Endpoint::UserApi,
        cause,
    };
    let user = Document::parse(body).map_err(|error| malformed(error.to_string()))?;
    let missing = |member: &str, expected: &str| {
        let actual = user.defect(member).or_else(|| user.value(member).map(type_name));
        let actual = actual.unwrap_or("missing");
        malformed(format!("`{member}` is {actual}, expected {expected}"))
    };
    let id = user.value("id").filter(|_| user.defect("id").is_none());
    let id = id.and_then(Value::as_u64).filter(|id| *id > 0);
    let id = id.ok_or_else(|| missing("id", "a positive integer"))?;
    let login = user.text("login").ok_or_else(|| missing("login", "a string"))?;
    if user.value("suspended_at").is_some() {
        return Err(malformed("the account is suspended".to_owned()));
    }
    let mut claims = Claims::default();
    claims.insert("preferred_username", login);
    for (member, claim) in [("name", "name"), ("avatar_url", "picture"), ("html_url", "profile")] {
        if let Some(text) = user.text(member) {
            claims.insert(claim, text);
        }
    }
    Ok(GitHubUser { id, claims })
}

/// Finds the primary address in the response of `GET /user/emails`, if it is verified.
fn accept_addresses(body: &[u8]) -> Result<Option<String>, ProviderError> {
    let malformed = |cause: String| ProviderError::Malformed {
        endpoint: Endpoint::EmailApi,
        cause,
    };
    // As a member: only members of objects are checked for duplicates.
    let object = [&b"{\"addresses\":"[..], body, b"}"].concat();
    let document = Document::parse(&object).map_err(|error| malformed(error.to_string()))?;
    let list = document
        .value("addresses")
        .filter(|_| document.defect("addresses").is_none());
    let list = list.and_then(Value::as_array);
    let list = list.ok_or_else(|| malformed("it is not a list of addresses".to_owned()))?;
    let is = |address: &Value, member: &str| address[member] == Value::Bool(true);
    let mut primary = list.iter().filter(|address| is(address, "primary"));
    let (address, other) = (primary.next(), primary.next());
    if other.is_some() {
        return Err(malformed("several addresses are primary".to_owned()));
    }
    let address = address.filter(|address| is(address, "verified"));
    let address = address.and_then(|address| address["email"].as_str());
    Ok(address.filter(|address| !address.is_empty()).map(str::to_owned))
}

/// The error for an unexpected status of the API.
fn api_error(endpoint: Endpoint, reply: &HttpResponse, now: OffsetDateTime) -> ProviderError {
    match rate_limit(reply, now) {
        Some(wait) => ProviderError::RateLimited {
            endpoint,
            retry_after: wait.min(MAX_RETRY_AFTER),
        },
        None => ProviderError::of_status(endpoint, reply),
    }
}

/// How long to wait if the status is about a
/// [rate limit](https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api#exceeding-the-rate-limit):
/// 403 or 429, with headers that say so, or with a message about a secondary one.
fn rate_limit(reply: &HttpResponse, now: OffsetDateTime) -> Option<Duration> {
    let status = reply.status().as_u16();
    if !matches!(status, 403 | 429) {
        return None;
    }
    if let Some(wait) = retry_after(reply.headers()) {
        return Some(wait);
    }
    if number(reply.headers(), "x-ratelimit-remaining") == Some(0) {
        let reset = number(reply.headers(), "x-ratelimit-reset");
        let wait = reset.map(|reset| reset.saturating_sub(now.unix_timestamp()).max(1));
        return Some(wait.map_or(UNKNOWN_WAIT, |wait| Duration::from_secs(wait.unsigned_abs())));
    }
    let body = Document::parse(reply.body()).ok();
    let message = body.as_ref().and_then(|body| body.displayed("message"));
    let is_secondary = message.is_some_and(|message| message.to_ascii_lowercase().contains("rate limit"));
    (status == 429 || is_secondary).then_some(UNKNOWN_WAIT)
}

fn number(headers: &HeaderMap, name: &str) -> Option<i64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}
