//! A client for another API: it adds the access token to each request, for one base address.

mod bound_client;
mod error;
mod rejection;
mod token_source;

use std::{sync::Arc, time::Duration};

use reqwest::{
    Client, Identity, Method, Request, RequestBuilder, Response, StatusCode,
    header::{AUTHORIZATION, HeaderValue},
    redirect::Policy,
};
use time::OffsetDateTime;
use url::Url;

pub use bound_client::BoundClient;
pub use error::ApiCallError;
pub use token_source::TokenSource;

use crate::{api_tokens::IssuedToken, provider::ServerNonces, relying_party::RelyingParty, settings::is_loopback};

/// Exported by `internals`.
#[cfg(feature = "__internals")]
pub(crate) use rejection::has_invalid_token as rejects_token;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(30);

/// A client for one API, which sends the access token of a [`TokenSource`] with each request
/// ([RFC 6750 §2.1](https://www.rfc-editor.org/rfc/rfc6750#section-2.1)).
///
/// It sends tokens to one base address only: https, or http on loopback. A request to another address is an error
/// before anything is sent. It follows no redirect, so that no token leaves for another server: the app receives the
/// redirect. If the API answers 401 with `error="invalid_token"`, it gets another token and sends the request once
/// more: if the body can be sent again, if the token is older than a minute, and for a session at most once in 10 s.
///
/// A token that is bound to a key of this app is sent with a proof (DPoP,
/// [RFC 9449 §7](https://www.rfc-editor.org/rfc/rfc9449#section-7)), and once more if the API demands a nonce in it.
///
/// Make one at launch, as managed state: clones share its connections.
///
/// ```
/// use rocket::{State, get};
/// use rocket_openidconnect::{ApiCallError, ApiClient, LoggedIn};
///
/// const ORDERS: &str = "https://orders.example.com";
///
/// #[get("/orders")]
/// async fn orders(user: LoggedIn, api: &State<ApiClient>) -> Result<String, ApiCallError> {
///     let tokens = user.tokens_for(ORDERS, &["orders:read"]);
///     let response = api.send(api.get("v1/orders?open=true")?, &tokens).await?;
///     Ok(response.text().await?)
/// }
///
/// let api = ApiClient::new(ORDERS)?;
/// let rocket = rocket::build().manage(api).mount("/", rocket::routes![orders]);
/// # Ok::<(), ApiCallError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ApiClient {
    base: Url,
    client: Client,
    /// The nonces of the API, for proofs.
    nonces: Arc<ServerNonces>,
}

impl ApiClient {
    /// A client for the API below this address, such as `https://api.example.com/v1`. A connection may take 5 s, and a
    /// request 30 s, unless it has a timeout of its own.
    ///
    /// # Errors
    ///
    /// When it is not a URL with https, or with http on loopback; or has a user, a query or a fragment.
    pub fn new(base_url: &str) -> Result<ApiClient, ApiCallError> {
        ApiClient::build(base_url, None)
    }

    /// As [`new`](Self::new), with the certificate of the app as a client of its provider, `tls_client_certificate`: for an
    /// API that accepts tokens which are bound to it ([RFC 8705 §3](https://www.rfc-editor.org/rfc/rfc8705#section-3)).
    ///
    /// `rp` is managed by Rocket once the fairing is attached; of several providers, the first one with a certificate
    /// counts.
    ///
    /// ```no_run
    /// use rocket::fairing::AdHoc;
    /// use rocket_openidconnect::{ApiClient, Oidc, RelyingParty};
    ///
    /// let orders = AdHoc::try_on_ignite("orders", |rocket| async {
    ///     let rp = rocket.state::<RelyingParty>().expect("the fairing is attached");
    ///     match ApiClient::with_certificate_of(rp, "https://orders.example.com") {
    ///         Ok(api) => Ok(rocket.manage(api)),
    ///         Err(_) => Err(rocket),
    ///     }
    /// });
    /// let rocket = rocket::build().attach(Oidc::fairing()).attach(orders);
    /// ```
    ///
    /// # Errors
    ///
    /// As `new`, and when the client has no certificate.
    pub fn with_certificate_of(rp: &RelyingParty, base_url: &str) -> Result<ApiClient, ApiCallError> {
        let identity = rp.client_identity().ok_or(ApiCallError::NoCertificate)?;
        ApiClient::build(base_url, Some(identity.identity()?))
    }

    fn build(base_url: &str, identity: Option<Identity>) -> Result<ApiClient, ApiCallError> {
        let base = base_of(base_url).ok_or_else(|| ApiCallError::BaseUrl {
            actual: crate::printable::excerpt(base_url),
        })?;
        let builder = Client::builder()
            .redirect(Policy::none())
            .referer(false)
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            .https_only(base.scheme() == "https")
            .user_agent(concat!("rocket_openidconnect/", env!("CARGO_PKG_VERSION")));
        let builder = if is_loopback(&base) {
            builder.no_proxy()
        } else {
            builder
        };
        let builder = match identity {
            Some(identity) => builder.identity(identity),
            None => builder,
        };
        Ok(ApiClient {
            client: builder.build()?,
            base,
            nonces: Arc::default(),
        })
    }

    /// A `GET` request for a path below the base address, with its query.
    ///
    /// # Errors
    ///
    /// When the path leads to another address.
    pub fn get(&self, path: &str) -> Result<RequestBuilder, ApiCallError> {
        self.request(Method::GET, path)
    }

    /// A request for a path below the base address, to be completed and [sent](Self::send).
    ///
    /// # Errors
    ///
    /// When the path leads to another address.
    pub fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, ApiCallError> {
        let url = self.base.join(path.trim_start_matches('/'));
        let url = url.map_err(|_| self.other_address(None))?;
        self.check(&url)?;
        Ok(self.client.request(method, url))
    }

    /// Sends a request with a token of this source, by the connections of this client, whichever client made it.
    ///
    /// # Errors
    ///
    /// When the request is for another address, when there is no token, and when the API does not respond. A response
    /// with any status is none.
    pub async fn send(&self, request: RequestBuilder, tokens: &TokenSource) -> Result<Response, ApiCallError> {
        let request = request.build()?;
        self.check(request.url())?;
        let again = request.try_clone();
        let token = tokens.token().await?;
        let mut may_repeat = true;
        let response = self.prove(request, &token, tokens.now(), &mut may_repeat).await?;
        let Some(again) = again.filter(|_| rejects(&response, &token)) else {
            return Ok(response);
        };
        match tokens.renewed(&token).await? {
            Some(newer) => self.prove(again, &newer, tokens.now(), &mut may_repeat).await,
            None => Ok(response),
        }
    }

    /// Sends a request, and once more with another proof if the API demands a nonce in it
    /// ([RFC 9449 §9](https://www.rfc-editor.org/rfc/rfc9449#section-9)).
    async fn prove(
        &self,
        request: Request,
        token: &IssuedToken,
        now: OffsetDateTime,
        may_repeat: &mut bool,
    ) -> Result<Response, ApiCallError> {
        let again = token.key().and_then(|_| request.try_clone());
        let response = self.execute(request, token, now).await?;
        let has_nonce = token.is_bound() && self.nonces.learn(&self.base, response.headers());
        let is_demanded = response.status() == StatusCode::UNAUTHORIZED && rejection::demands_nonce(response.headers());
        match again.filter(|_| has_nonce && is_demanded && std::mem::take(may_repeat)) {
            Some(again) => {
                let response = self.execute(again, token, now).await?;
                self.nonces.learn(&self.base, response.headers());
                Ok(response)
            }
            None => Ok(response),
        }
    }

    async fn execute(
        &self,
        mut request: Request,
        token: &IssuedToken,
        now: OffsetDateTime,
    ) -> Result<Response, ApiCallError> {
        let scheme = if token.is_bound() { "DPoP" } else { "Bearer" };
        let authorization = sensitive(format!("{scheme} {}", token.expose()))?;
        if let Some(key) = token.key() {
            let nonce = self.nonces.of(&self.base);
            let (method, url) = (request.method().as_str(), request.url());
            let proof = key.proof(method, url, Some(token.secret()), nonce.as_deref(), now);
            request.headers_mut().insert("DPoP", sensitive(proof)?);
        }
        request.headers_mut().insert(AUTHORIZATION, authorization);
        Ok(self.client.execute(request).await?)
    }

    /// Fails unless the address is below the base address.
    fn check(&self, url: &Url) -> Result<(), ApiCallError> {
        let has_user = !url.username().is_empty() || url.password().is_some();
        let is_below = url.origin() == self.base.origin() && url.path().starts_with(self.base.path());
        if is_below && !has_user {
            Ok(())
        } else {
            Err(self.other_address(Some(url)))
        }
    }

    fn other_address(&self, url: Option<&Url>) -> ApiCallError {
        ApiCallError::OtherAddress {
            base: self.base.to_string(),
            // A query may have what is not for the log.
            actual: url.map_or_else(
                || "not a URL".to_owned(),
                |url| crate::printable::excerpt(&format!("{}{}", url.origin().ascii_serialization(), url.path())),
            ),
        }
    }
}

/// A header value that is not printed.
fn sensitive(text: String) -> Result<HeaderValue, ApiCallError> {
    let value = HeaderValue::try_from(text);
    let mut value = value.map_err(|_| ApiCallError::Request {
        cause: "the token is not a header".to_owned(),
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// Whether the API rejects the token itself.
fn rejects(response: &Response, token: &IssuedToken) -> bool {
    let is_invalid = |scheme| rejection::is_invalid_token(response.headers(), scheme);
    response.status() == StatusCode::UNAUTHORIZED && (is_invalid("Bearer") || token.is_bound() && is_invalid("DPoP"))
}

/// The base address, whose path ends in a slash.
fn base_of(text: &str) -> Option<Url> {
    let mut url = Url::parse(text).ok()?;
    let is_safe = url.scheme() == "https" || url.scheme() == "http" && is_loopback(&url);
    let is_plain = url.username().is_empty() && url.password().is_none();
    let is_whole = url.query().is_none() && url.fragment().is_none();
    if !is_safe || !url.has_host() || !is_plain || !is_whole {
        return None;
    }
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    Some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_address_is_https_or_on_loopback() {
        for (text, expected) in [
            ("https://api.example", Some("https://api.example/")),
            ("https://api.example/v1", Some("https://api.example/v1/")),
            ("https://api.example:8443/v1/", Some("https://api.example:8443/v1/")),
            ("http://127.0.0.1:8080", Some("http://127.0.0.1:8080/")),
            ("http://localhost/x", Some("http://localhost/x/")),
            ("http://api.example", None),
            ("http://localhost.example", None),
            ("http://10.0.0.1", None),
            ("ftp://localhost", None),
            ("api.example", None),
            ("https://user@api.example", None),
            ("https://user:word@api.example", None),
            ("https://api.example/?key=1", None),
            ("https://api.example/#x", None),
            ("data:text/plain,x", None),
            ("", None),
        ] {
            let client = ApiClient::new(text);
            let base = client.as_ref().map(|client| client.base.as_str()).ok();
            assert_eq!(base, expected, "{text}");
        }
    }

    #[test]
    fn a_path_leads_nowhere_else() {
        let api = ApiClient::new("https://api.example/v1").unwrap();
        for (path, expected) in [
            ("orders", Ok("https://api.example/v1/orders")),
            ("/orders?x=1", Ok("https://api.example/v1/orders?x=1")),
            ("", Ok("https://api.example/v1/")),
            ("//evil.example/x", Ok("https://api.example/v1/evil.example/x")),
            ("a/../b", Ok("https://api.example/v1/b")),
            ("https://api.example/v1/x", Ok("https://api.example/v1/x")),
            ("https://api.example:443/v1/x", Ok("https://api.example/v1/x")),
            ("../admin", Err("https://api.example/admin")),
            ("%2e%2e/admin", Err("https://api.example/admin")),
            ("..\\admin", Err("https://api.example/admin")),
            ("\\\\evil.example/v1/", Err("https://evil.example/v1/")),
            ("https://evil.example/v1/", Err("https://evil.example/v1/")),
            ("https:evil.example", Ok("https://api.example/v1/evil.example")),
            ("http://api.example/v1/", Err("http://api.example/v1/")),
            ("https://api.example:8443/v1/", Err("https://api.example:8443/v1/")),
            (
                "https://api.example.evil/v1/?secret",
                Err("https://api.example.evil/v1/"),
            ),
            ("https://user@api.example/v1/", Err("https://api.example/v1/")),
            ("mailto:x", Err("nullx")),
        ] {
            let found = api.get(path).map(|request| request.build().unwrap().url().to_string());
            let found = found.map_err(|error| match error {
                ApiCallError::OtherAddress { base, actual } => {
                    assert_eq!(base, "https://api.example/v1/");
                    actual
                }
                other => panic!("{path}: {other}"),
            });
            let found = found.as_deref().map_err(String::as_str);
            assert_eq!(found, expected, "{path}");
        }
    }
}
