//! Sign-out at the provider (OpenID Connect RP-Initiated Logout 1.0): the request, and what must survive in
//! the browser until it comes back.

use serde::{Deserialize, Serialize};
use url::Url;

use super::ReturnTo;
use crate::secret::{self, Secret};

/// The kind of the cookie of a sign-out under way.
pub(crate) const PENDING_LOGOUT: &str = "oidc_logout";

/// One sign-out under way.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PendingLogout {
    /// Binds the return to this browser.
    #[serde(with = "secret::text")]
    pub state: Secret,
    /// Where the browser goes afterwards.
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

/// The logout request (§2), as an address to send the browser to. The endpoint's own query is kept.
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
