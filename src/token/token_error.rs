//! The public error of a rejected token, proof or UserInfo response.

use thiserror::Error;

use super::{AccessTokenError, DpopProofError, IdTokenError, UserInfoError, facts::TokenFacts};

/// The error of a rejected token, proof or UserInfo response. It never holds the token.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(transparent)]
pub struct TokenError(Kind);

#[derive(Clone, Debug, PartialEq, Eq, Error)]
enum Kind {
    #[error(transparent)]
    IdToken(IdTokenError),
    #[error(transparent)]
    UserInfo(UserInfoError),
    #[error(transparent)]
    AccessToken(AccessTokenError),
    #[error(transparent)]
    DpopProof(DpopProofError),
}

impl TokenError {
    /// The reason code, as the manual lists them.
    pub fn reason(&self) -> &'static str {
        self.facts().reason
    }

    /// How to fix it, mostly for the operator.
    pub fn remedy(&self) -> &'static str {
        self.facts().remedy
    }

    fn facts(&self) -> TokenFacts {
        match &self.0 {
            Kind::IdToken(error) => error.facts(),
            Kind::UserInfo(error) => error.facts(),
            Kind::AccessToken(error) => error.facts(),
            Kind::DpopProof(error) => error.facts(),
        }
    }

    /// Whether the token was rejected because the setting `tenants` does not accept its tenant.
    pub(crate) fn is_about_tenant(&self) -> bool {
        matches!(&self.0, Kind::IdToken(error) if error.is_about_tenant())
    }

    /// The error code for the API client (RFC 6750 §3.1, RFC 9449 §7.1).
    pub(crate) fn code(&self) -> &'static str {
        match &self.0 {
            Kind::DpopProof(error) => error.code(),
            Kind::AccessToken(_) | Kind::IdToken(_) | Kind::UserInfo(_) => "invalid_token",
        }
    }

    /// The `error_description` for the API client: nothing about this app's settings.
    pub(crate) fn description(&self) -> &'static str {
        match &self.0 {
            Kind::AccessToken(error) => error.description(),
            Kind::DpopProof(error) => error.description(),
            Kind::IdToken(_) | Kind::UserInfo(_) => "the token is not valid",
        }
    }
}

impl From<IdTokenError> for TokenError {
    fn from(error: IdTokenError) -> TokenError {
        TokenError(Kind::IdToken(error))
    }
}

impl From<UserInfoError> for TokenError {
    fn from(error: UserInfoError) -> TokenError {
        TokenError(Kind::UserInfo(error))
    }
}

impl From<AccessTokenError> for TokenError {
    fn from(error: AccessTokenError) -> TokenError {
        TokenError(Kind::AccessToken(error))
    }
}

impl From<DpopProofError> for TokenError {
    fn from(error: DpopProofError) -> TokenError {
        TokenError(Kind::DpopProof(error))
    }
}
