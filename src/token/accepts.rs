//! The setting `accepts`: which tokens of an issuer are accepted besides those recognisable as access tokens.

use serde::Deserialize;

/// Which tokens of an issuer are accepted: the setting `accepts`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Accepts {
    /// Tokens recognisable as access tokens.
    #[default]
    AccessTokens,
    /// Identity tokens too, such as those of a CI job or a workload, whatever else the issuer does. Anyone who can
    /// obtain a token of the issuer for this audience is accepted.
    IdentityTokens,
    /// Access tokens that nothing marks as such too, such as those of Auth0 without scopes.
    UntypedTokens,
}

impl Accepts {
    /// What is accepted besides recognisable access tokens, for display.
    pub(crate) fn describe(self, signs_nobody_in: bool) -> Option<&'static str> {
        match self {
            Accepts::AccessTokens if !signs_nobody_in => None,
            Accepts::AccessTokens => Some("identity tokens, because it has no endpoint to sign in at"),
            Accepts::IdentityTokens => Some("identity tokens (`accepts`)"),
            Accepts::UntypedTokens => Some("tokens without a mark of their type (`accepts`)"),
        }
    }

    /// The name in the settings.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Accepts::AccessTokens => "access_tokens",
            Accepts::IdentityTokens => "identity_tokens",
            Accepts::UntypedTokens => "untyped_tokens",
        }
    }
}
