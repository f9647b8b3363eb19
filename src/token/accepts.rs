//! The setting `accepts`: what the tokens of an issuer are, beside access tokens that show it.

use serde::Deserialize;

/// What the tokens of an issuer are, as the operator says: the setting `accepts`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Accepts {
    /// Access tokens that show that they are.
    #[default]
    AccessTokens,
    /// Identity tokens too, such as those of a CI job or a workload, whatever else the issuer does. Whoever can have
    /// the issuer sign a token for this audience is accepted.
    IdentityTokens,
    /// Access tokens without any sign of their use too, such as those of Auth0 without scopes.
    UntypedTokens,
}

impl Accepts {
    /// What is accepted beside access tokens that show what they are, for people.
    pub(crate) fn describe(self, signs_nobody_in: bool) -> Option<&'static str> {
        match self {
            Accepts::AccessTokens if !signs_nobody_in => None,
            Accepts::AccessTokens => Some("identity tokens, because it has nowhere to sign in"),
            Accepts::IdentityTokens => Some("identity tokens (`accepts`)"),
            Accepts::UntypedTokens => Some("tokens without a sign of their use (`accepts`)"),
        }
    }

    /// The name in the setting.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Accepts::AccessTokens => "access_tokens",
            Accepts::IdentityTokens => "identity_tokens",
            Accepts::UntypedTokens => "untyped_tokens",
        }
    }
}
