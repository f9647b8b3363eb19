//! The kind of a user: who vouches for their claims.

use serde::{Deserialize, Serialize};

/// How the provider identified a user, as [`User::kind`](crate::User::kind) returns it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum UserKind {
    /// OpenID Connect: a verified ID token identifies the user to this app.
    #[default]
    #[serde(rename = "openid_connect")]
    OpenIdConnect,
    /// Plain OAuth 2.0, such as GitHub: the claims are the answer of the provider's API to an access token. There is no
    /// ID token, and nothing is known about how and when the user authenticated: [`Fresh`](crate::Fresh) and
    /// [`Acr`](crate::Acr) are never satisfied.
    #[serde(rename = "oauth2")]
    OAuth2,
}

impl UserKind {
    pub(crate) fn is_openid_connect(&self) -> bool {
        *self == UserKind::OpenIdConnect
    }
}
