//! The logout request (OpenID Connect RP-Initiated Logout 1.0), and the state that the browser keeps until the
//! provider redirects it back.

use serde::{Deserialize, Serialize};
use url::Url;

use super::ReturnTo;
use crate::secret::{self, Secret};

/// The base name of the cookie of a pending sign-out.
pub(crate) const PENDING_LOGOUT: &str = "oidc_logout";

/// A pending sign-out, kept in a cookie.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PendingLogout {
    /// Binds the redirect back to this browser.
    #[serde(with = "secret::text")]
    pub state: Secret,
    /// Where the browser is redirected afterwards.
    pub return_to: ReturnTo,
}

impl PendingLogout {
    pub(crate) fn new(return_to: ReturnTo) -> PendingLogout {
        PendingLogout {
            state: Secret::random(),
            return_to,
        }
    }
}

/// Builds the logout request (§2), as a URL to redirect the browser to. Keeps the endpoint's own query.
pub(crate) fn logout_request(
    end_session_endpoint: &Url,
    id_token_hint: Option<&Secret>,
    client_id: &str,
    post_logout_redirect_uri: &str,
    state: Option<&Secret>,
) -> Url {
    let mut url = end_session_endpoint.clone();
    let mut query = url.query_pairs_mut();
    if let Some(id_token) = id_token_hint {
        query.append_pair("id_token_hint", id_token.expose());
    }
    query.append_pair("client_id", client_id);
    query.append_pair("post_logout_redirect_uri", post_logout_redirect_uri);
    if let Some(state) = state {
        query.append_pair("state", state.expose());
    }
    drop(query);
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_of_the_endpoint_is_kept() {
        let endpoint = Url::parse("https://op.example/logout?tenant=a%26b").unwrap();
        let url = logout_request(
            &endpoint,
            Some(&Secret::new("id.to.ken")),
            "app",
            "https://app.example/",
            Some(&Secret::new("s")),
        );
        assert_eq!(
            url.as_str(),
            "https://op.example/logout?tenant=a%26b&id_token_hint=id.to.ken&client_id=app\
             &post_logout_redirect_uri=https%3A%2F%2Fapp.example%2F&state=s"
        );
        let url = logout_request(&endpoint, None, "app", "https://other.example/", None);
        assert_eq!(
            url.as_str(),
            "https://op.example/logout?tenant=a%26b&client_id=app\
             &post_logout_redirect_uri=https%3A%2F%2Fother.example%2F"
        );
    }
}
