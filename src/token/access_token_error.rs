//! The error of a rejected access token, with its remedy.

use super::{
    Accepts, ClaimError, JsonError, JwsError, StaleKeys,
    facts::{TokenFacts, TokenKind},
};

const AUD: &str = "aud";

/// The error of a rejected access token, for the log. The API client gets [`description`](Self::description).
///
/// No variant holds the token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AccessTokenError {
    /// It is longer than the maximum.
    #[error("the access token has {actual} bytes, more than {max}")]
    TooLong {
        /// The maximum length.
        max: usize,
        /// The length of the token.
        actual: usize,
    },
    /// It is not a valid JWS by a key of the issuer.
    #[error(transparent)]
    Jws(#[from] JwsError),
    /// A claim that every token has is absent or wrong.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// The `typ` of the header is not an access token's, or absent although required.
    #[error(
        "the token is of {}, expected {expected}",
        actual.as_ref().map_or("no type".to_owned(), |typ| format!("type {typ:?}"))
    )]
    TokenType {
        /// The accepted values.
        expected: &'static str,
        /// The `typ` of the header.
        actual: Option<String>,
    },
    /// Its issuer is not configured.
    #[error("the token is issued by {actual:?}, expected one of {expected:?}")]
    UnknownIssuer {
        /// The settings `issuer` and `issuers`.
        expected: Vec<String>,
        /// The `iss` of the token.
        actual: String,
    },
    /// It is for another API.
    #[error("the token is meant for {actual:?}, expected one of {expected:?}")]
    Audience {
        /// The setting `audience`.
        expected: Vec<String>,
        /// The `aud` of the token, at most ten of them.
        actual: Vec<String>,
    },
    /// The introspection response has no audience.
    #[error("the introspection response has no \"aud\", expected one of {expected:?}")]
    NoAudience {
        /// The setting `audience`, or `resource`.
        expected: Vec<String>,
    },
    /// It is, or may be, an ID token, a refresh token or a logout token.
    #[error("the token is not an access token: {reason}")]
    AnotherUse {
        /// What marks it as another kind of token.
        reason: String,
    },
    /// Nothing marks it as an access token, nor as another kind of token.
    #[error("the token does not show that it is an access token, and `{setting}` is {:?}", accepts.as_str())]
    UnknownUse {
        /// The name of the setting `accepts` of its issuer.
        setting: String,
        /// The value of that setting.
        accepts: Accepts,
    },
    /// As [`UnknownUse`](Self::UnknownUse), with the audience of this app's ID tokens: no setting accepts such a
    /// token.
    #[error(
        "the token does not show that it is an access token, and its audience is the client id, as that of an ID token"
    )]
    UnknownUseForClient,
    /// It is bound to a key (`cnf`), and was sent as a bearer token.
    #[error("the token is bound to a key by \"cnf\", and the request has no proof of that key")]
    Bound,
    /// It is a bearer token, and was sent with the scheme `DPoP`.
    #[error("the token is bound to no key, and was sent with the scheme DPoP")]
    Unbound,
    /// It is a bearer token, and only bound tokens are accepted.
    #[error("the token was sent as a bearer token, and a proof of possession is required")]
    ProofRequired,
    /// It is a bearer token, and only tokens that are bound to a key or to a client certificate are accepted.
    #[error("the token is bound to nothing, and one that is bound to a key or to a client certificate is required")]
    BindingRequired,
    /// It is bound to another key than the one of the proof.
    #[error("the token is bound to another key than the one of the proof")]
    OtherKey,
    /// It is bound to a client certificate (`x5t#S256`), and the request has none.
    #[error("the token is bound to a client certificate by \"cnf\", and the request has none")]
    NoCertificate,
    /// It is bound to another client certificate than the one of the request.
    #[error("the token is bound to another client certificate than the one of the request")]
    OtherCertificate,
    /// Its `cnf` is malformed, or of a kind that no proof is verified for.
    #[error("the \"cnf\" of the token is not accepted: {cause}")]
    Confirmation {
        /// What is wrong with it.
        cause: String,
    },
    /// It has neither `sub` nor a client id.
    #[error("the token has neither \"sub\" nor \"client_id\"")]
    NoSubject,
    /// Introspection reports it as not active: expired, revoked, or never issued.
    #[error("the provider reports that the token is not active")]
    Inactive,
    /// The introspection response is not a JSON object.
    #[error("the introspection response cannot be parsed: {0}")]
    Introspection(#[source] JsonError),
    /// It is not a JWT, and there is no introspection endpoint to ask about it.
    #[error("the token is not a JWT, and opaque tokens are not accepted")]
    Opaque,
    /// `enabled = false`: there is no provider to verify it with.
    #[error("a token cannot be checked while OpenID Connect is disabled")]
    Disabled,
}

impl AccessTokenError {
    /// The reason code and remedy.
    pub(crate) fn facts(&self) -> TokenFacts {
        match self {
            AccessTokenError::TooLong { .. } => TokenFacts::new(
                "access_token_too_long",
                "have the provider put less into access tokens, or issue opaque ones",
            ),
            AccessTokenError::Jws(error) => {
                let facts = error.facts(TokenKind::AccessToken);
                let remedy = match error {
                    JwsError::AlgorithmNotAllowed { actual, .. } if actual.is_symmetric() => {
                        "have the provider sign access tokens with a key pair, by RS256 or ES256: whoever verifies HS256 can also sign with it, so no setting accepts it"
                    }
                    JwsError::AlgorithmNotAllowed { .. } => {
                        "if the provider signs access tokens with it, name it in `access_token_signing_algs`"
                    }
                    _ => facts.remedy,
                };
                TokenFacts { remedy, ..facts }
            }
            AccessTokenError::Claim(error) => {
                let facts = error.facts(TokenKind::AccessToken);
                let remedy = match error {
                    ClaimError::Missing { claim: AUD } => {
                        "have the provider put this API into `aud` (an audience mapper, or a resource indicator); for Amazon Cognito, set `audience_claim = \"client_id\"`"
                    }
                    ClaimError::Expired { .. } => {
                        "get a new token; if it was new, synchronise the clocks of this machine and of the provider"
                    }
                    _ => facts.remedy,
                };
                TokenFacts { remedy, ..facts }
            }
            AccessTokenError::TokenType { .. } => TokenFacts::new(
                "access_token_type",
                "send an access token; if the provider does not name its type, set `require_at_jwt = false`",
            ),
            AccessTokenError::UnknownIssuer { .. } => TokenFacts::new(
                "access_token_iss",
                "to accept tokens of that issuer, add it to the table `issuers`",
            ),
            AccessTokenError::Audience { .. } => TokenFacts::new(
                "access_token_aud",
                "ask the provider for a token for this API, or set `audience` to what it puts into `aud`",
            ),
            AccessTokenError::NoAudience { .. } => TokenFacts::new(
                "access_token_aud",
                "have the provider name this API in the `aud` of its introspection responses; if every token that it reports as active may be used here, set `insecure_introspection_without_audience = true`",
            ),
            AccessTokenError::AnotherUse { .. } => TokenFacts::new(
                "access_token_wrong_use",
                "send the access token; if this issuer's access tokens look like its ID tokens, set `token_validation = \"introspection\"`; to accept its identity tokens, such as those of a CI job or a workload, set `accepts = \"identity_tokens\"` for it, and `audience` to another value than the client id",
            ),
            AccessTokenError::UnknownUse { .. } => TokenFacts::new(
                "access_token_unknown_use",
                "have the provider add a scope, or the type `at+jwt`; or set `accepts` of this issuer: to `identity_tokens` for identity tokens, such as those of a CI job or a workload, or to `untyped_tokens` for access tokens without such a mark",
            ),
            AccessTokenError::UnknownUseForClient => TokenFacts::new(
                "access_token_unknown_use",
                "set `audience` to an identifier of this API that is not the client id, and have the provider put it into `aud`",
            ),
            AccessTokenError::Bound => TokenFacts::new(
                "access_token_bound",
                "set `dpop_tokens = \"accepted\"` and have the client send `Authorization: DPoP …` with a proof, or have the provider issue bearer tokens for this API",
            ),
            AccessTokenError::Unbound => TokenFacts::new(
                "access_token_unbound",
                "send `Authorization: Bearer …`, or have the client send a proof to the token endpoint so that the provider binds the token",
            ),
            AccessTokenError::ProofRequired => TokenFacts::new(
                "access_token_unbound",
                "send a token that is bound to a key with `Authorization: DPoP …` and a proof",
            ),
            AccessTokenError::BindingRequired => TokenFacts::new(
                "access_token_unbound",
                "have the provider bind the token to the client's certificate, or by DPoP to its key",
            ),
            AccessTokenError::OtherKey => TokenFacts::new(
                "access_token_other_key",
                "sign the proof with the key whose proof the client sent to the token endpoint",
            ),
            AccessTokenError::NoCertificate => TokenFacts::new(
                "access_token_no_certificate",
                "have the client send its certificate, and set the table `client_certificate`, by which this API learns of it from Rocket's TLS or from a proxy",
            ),
            AccessTokenError::OtherCertificate => TokenFacts::new(
                "access_token_other_certificate",
                "have the client connect with the certificate that it had at the token endpoint, or get another token",
            ),
            AccessTokenError::Confirmation { .. } => TokenFacts::new(
                "access_token_confirmation",
                "have the provider bind the token by DPoP (`jkt`), by a client certificate (`x5t#S256`) or by both, or issue bearer tokens for this API",
            ),
            AccessTokenError::NoSubject => TokenFacts::new(
                "access_token_missing_subject",
                "have the provider put `sub` or `client_id` into its access tokens; lightweight tokens lack them",
            ),
            AccessTokenError::Inactive => TokenFacts::new("access_token_inactive", "have the client get a new token"),
            AccessTokenError::Introspection(error) => TokenFacts::new("introspection_malformed", error.remedy()),
            AccessTokenError::Opaque => TokenFacts::new(
                "access_token_opaque",
                "have the provider issue JWT access tokens for this API, or give it an introspection endpoint and set `client_id`; see `token_validation`",
            ),
            AccessTokenError::Disabled => TokenFacts::new("disabled", "set `enabled = true`, or send no token"),
        }
    }

    /// The `error_description` for the API client (RFC 6750 §3): which check failed, without values of the token or
    /// the settings.
    pub fn description(&self) -> &'static str {
        match self {
            AccessTokenError::TooLong { .. } => "the token is too long",
            AccessTokenError::Jws(error) => match error {
                JwsError::AlgorithmNotAllowed { .. } | JwsError::UnknownAlgorithm { .. } => {
                    "the token is signed with an algorithm that is not accepted"
                }
                JwsError::UnknownKey { .. } | JwsError::NoFittingKey { .. } => {
                    "the token is signed with an unknown key"
                }
                JwsError::BadSignature { .. } => "the signature of the token is wrong",
                JwsError::KeyIssuer { .. } => "the token is signed with the key of another issuer",
                _ => "the token is not a well-formed signed JWT",
            },
            AccessTokenError::Claim(error) => match error {
                ClaimError::Expired { .. } => "the token has expired",
                ClaimError::NotYetValid { .. } | ClaimError::IssuedInTheFuture { .. } => "the token is not valid yet",
                ClaimError::Issuer { .. } | ClaimError::IssuerOfTenant { .. } => "the token comes from another issuer",
                ClaimError::Tenant { .. } => "the token comes from a tenant that is not accepted",
                _ => "a claim of the token is missing or of the wrong type",
            },
            AccessTokenError::TokenType { .. } | AccessTokenError::AnotherUse { .. } => {
                "the token is not an access token"
            }
            AccessTokenError::UnknownUse { .. } | AccessTokenError::UnknownUseForClient => {
                "the token does not show that it is an access token"
            }
            AccessTokenError::UnknownIssuer { .. } => "the token comes from another issuer",
            AccessTokenError::Audience { .. } => "the token is meant for another API",
            AccessTokenError::NoAudience { .. } => "the token has no audience",
            AccessTokenError::Bound => "the token is bound to a key, which the request does not prove",
            AccessTokenError::Unbound => "the token is not bound to a key",
            AccessTokenError::ProofRequired => "a token that is bound to a key is required",
            AccessTokenError::BindingRequired => {
                "a token that is bound to a key or to a client certificate is required"
            }
            AccessTokenError::OtherKey => "the token is bound to another key",
            AccessTokenError::NoCertificate => {
                "the token is bound to a client certificate, which the request does not have"
            }
            AccessTokenError::OtherCertificate => "the token is bound to another client certificate",
            AccessTokenError::Confirmation { .. } => "the token is bound in a way that is not accepted",
            AccessTokenError::NoSubject => "the token names neither a user nor a client",
            AccessTokenError::Inactive | AccessTokenError::Introspection(_) => "the token is not active",
            AccessTokenError::Opaque => "the token is not a JWT",
            AccessTokenError::Disabled => "tokens are not accepted at the moment",
        }
    }

    /// Whether the introspection response itself is invalid, so that it says nothing about the token: it has no
    /// `active`, has a member of another type, or is about another issuer.
    pub(crate) fn is_about_response(&self) -> bool {
        matches!(
            self,
            AccessTokenError::Introspection(_)
                | AccessTokenError::Claim(
                    ClaimError::Missing { claim: "active" }
                        | ClaimError::WrongType { .. }
                        | ClaimError::Issuer { .. }
                        | ClaimError::IssuerOfTenant { .. }
                )
        )
    }

    /// How the cached keys may be stale, if newer ones could make the token valid.
    pub(crate) fn wants_fresh_keys(&self) -> Option<StaleKeys> {
        match self {
            AccessTokenError::Jws(error) => error.wants_fresh_keys(),
            _ => None,
        }
    }
}
