//! A client for one API with the access token of a user.

use reqwest::{Method, RequestBuilder, Response};

use super::{ApiCallError, ApiClient, TokenSource};
use crate::relying_party::User;

/// A client for one API, which sends the access token of a user's session with each request: see
/// [`User::bound_client`].
#[derive(Clone, Debug)]
pub struct BoundClient {
    api: ApiClient,
    tokens: TokenSource,
}

impl<C> User<C> {
    /// A client for an API that gets this user's [`access_token`](Self::access_token). If the session is bound to a key
    /// ([`dpop`](crate::settings::Settings::dpop)), each request is sent with `Authorization: DPoP` and a proof
    /// ([RFC 9449 §7](https://www.rfc-editor.org/rfc/rfc9449#section-7)), and once more if the API demands a nonce in it;
    /// otherwise with `Authorization: Bearer`.
    ///
    /// The rules are those of the [`ApiClient`]: one base address, no redirects; if the API rejects the token, the session
    /// is refreshed, at most once in 10 s and however old the token is, and the request is sent again.
    ///
    /// ```
    /// use rocket::{State, get};
    /// use rocket_openidconnect::{ApiCallError, ApiClient, LoggedIn};
    ///
    /// #[get("/orders")]
    /// async fn orders(user: LoggedIn, api: &State<ApiClient>) -> Result<String, ApiCallError> {
    ///     let api = user.bound_client(api);
    ///     let response = api.send(api.get("v1/orders?open=true")?).await?;
    ///     Ok(response.text().await?)
    /// }
    /// # let _ = rocket::routes![orders];
    /// ```
    #[cfg_attr(docsrs, doc(cfg(feature = "api-client")))]
    pub fn bound_client(&self, api: &ApiClient) -> BoundClient {
        BoundClient {
            api: api.clone(),
            tokens: TokenSource::of_own_token(self),
        }
    }
}

impl BoundClient {
    /// A `GET` request for a path below the base address, with its query.
    ///
    /// # Errors
    ///
    /// When the path leads to another address.
    pub fn get(&self, path: &str) -> Result<RequestBuilder, ApiCallError> {
        self.api.get(path)
    }

    /// A request for a path below the base address, to be completed and [sent](Self::send).
    ///
    /// # Errors
    ///
    /// When the path leads to another address.
    pub fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, ApiCallError> {
        self.api.request(method, path)
    }

    /// Sends a request with the user's access token.
    ///
    /// # Errors
    ///
    /// When the request is for another address, when there is no token, and when the API does not respond. A response
    /// with any status is none.
    pub async fn send(&self, request: RequestBuilder) -> Result<Response, ApiCallError> {
        self.api.send(request, &self.tokens).await
    }
}
