//! The endpoints of a provider, as errors and log fields name them.

use std::fmt;

/// A part of the provider that is called over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Endpoint {
    /// `/.well-known/openid-configuration` (OpenID Connect Discovery 1.0 §4).
    Metadata,
    /// `jwks_uri` (OpenID Connect Discovery 1.0 §3).
    KeySet,
    /// `authorization_endpoint` (RFC 6749 §3.1), which only the browser and `rocket-oidc doctor` call.
    Authorization,
    /// `token_endpoint` (RFC 6749 §3.2).
    Token,
    /// `userinfo_endpoint` (OpenID Connect Core 1.0 §5.3).
    UserInfo,
    /// `GET /user` of [GitHub's API](https://docs.github.com/en/rest/users/users#get-the-authenticated-user).
    UserApi,
    /// `GET /user/emails` of
    /// [GitHub's API](https://docs.github.com/en/rest/users/emails#list-email-addresses-for-the-authenticated-user).
    EmailApi,
    /// `introspection_endpoint` (RFC 7662 §2).
    Introspection,
    /// `revocation_endpoint` (RFC 7009 §2).
    Revocation,
    /// `pushed_authorization_request_endpoint` (RFC 9126 §2).
    PushedAuthorizationRequest,
    /// `end_session_endpoint` (OpenID Connect RP-Initiated Logout 1.0 §2.1).
    EndSession,
    /// `registration_endpoint`, and the address of one registration (OpenID Connect Dynamic Client
    /// Registration 1.0 §3, RFC 7592 §2).
    Registration,
}

impl Endpoint {
    /// Whether the client authenticates there, or sends an access token, which may be bound to its certificate
    /// ([RFC 8705 §5](https://www.rfc-editor.org/rfc/rfc8705#section-5)).
    pub(super) fn knows_the_client(self) -> bool {
        matches!(
            self,
            Endpoint::Token
                | Endpoint::UserInfo
                | Endpoint::Introspection
                | Endpoint::Revocation
                | Endpoint::PushedAuthorizationRequest
        )
    }

    /// Its name in log fields.
    pub(crate) fn code(self) -> &'static str {
        self.names().0
    }

    /// Its names in log fields and in messages.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Endpoint::Metadata => ("metadata", "metadata"),
            Endpoint::KeySet => ("jwks", "key set"),
            Endpoint::Authorization => ("authorization", "authorization endpoint"),
            Endpoint::Token => ("token", "token endpoint"),
            Endpoint::UserInfo => ("userinfo", "UserInfo endpoint"),
            Endpoint::UserApi => ("user_api", "user API"),
            Endpoint::EmailApi => ("email_api", "e-mail API"),
            Endpoint::Introspection => ("introspection", "introspection endpoint"),
            Endpoint::Revocation => ("revocation", "revocation endpoint"),
            Endpoint::PushedAuthorizationRequest => {
                ("pushed_authorization_request", "pushed authorization request endpoint")
            }
            Endpoint::EndSession => ("end_session", "end session endpoint"),
            Endpoint::Registration => ("registration", "registration endpoint"),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.names().1)
    }
}
