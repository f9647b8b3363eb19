//! Token verification: pure functions from bytes, keys, expectations and the time to a verified type or an error.
//!
//! No I/O, no clock and no web framework, so that each rule is testable by its arguments. A verified type, such as
//! the ID token, can only be constructed by its `accept`.

mod accepts;
mod access_token;
mod access_token_error;
mod algorithm;
mod certificate;
mod checks;
mod claim_sources;
mod claims;
mod client_assertion;
mod client_keys;
mod confirmation;
mod dpop_proof;
mod facts;
mod id_token;
mod issuer;
mod json;
mod jwk;
mod jws;
mod logout_token;
mod private_key;
mod proof_key;
mod purpose;
mod refreshed_id_token;
mod scope_claims;
mod target_uri;
#[cfg(test)]
mod test_keys;
mod token_error;
mod user_info;

pub use accepts::Accepts;
pub use access_token::AudienceClaim;
pub use algorithm::{SigningAlgorithm, UnknownAlgorithm};
pub use claims::Claims;
pub use token_error::TokenError;

pub(crate) use access_token_error::AccessTokenError;
pub(crate) use certificate::Certificate;
pub(crate) use checks::ClaimError;
#[cfg(feature = "cli")]
pub(crate) use confirmation::Confirmation;
pub(crate) use confirmation::certificate_of;
pub(crate) use dpop_proof::{DpopProof, DpopProofError, MAX_AHEAD, ProofExpectations, UnverifiedProof, token_hash};
pub(crate) use id_token::IdTokenError;
pub(crate) use json::JsonError;
pub(crate) use jws::JwsError;
pub(crate) use user_info::UserInfoError;

pub(crate) use access_token::{
    AccessToken, AccessTokenExpectations, ClaimPath, GroupPaths, MAX_ACCESS_TOKEN, UnverifiedAccessToken,
};
pub(crate) use claim_sources::ClaimSources;
pub(crate) use claims::VERIFIED;
pub(crate) use client_assertion::{CLIENT_ASSERTION_TYPE, assertion_claims, client_secret_claims};
pub(crate) use client_keys::{ClientKeys, PublicKey};
pub(crate) use id_token::{IdToken, IdTokenExpectations};
pub(crate) use issuer::{ANY_TENANT, ExpectedIssuer, PERSONAL_ACCOUNTS, TENANT_ID, Tenants};
pub(crate) use json::{Document, parse_object, parse_strict_object, type_name};
pub(crate) use jwk::{KeySet, SkipReason};
pub(crate) use jws::{AllowedAlgorithms, Jws, StaleKeys, parts_of};
pub(crate) use logout_token::{EndedSession, LogoutToken, LogoutTokenError, LogoutTokenExpectations};
pub(crate) use private_key::{PrivateKey, signing_input, with_signature};
pub(crate) use proof_key::{NamedKey, ProofAlgorithm, ProofKey, optional_proof_key};
pub(crate) use refreshed_id_token::{OriginalSignIn, RefreshedIdToken};
pub(crate) use scope_claims::scope_of;
#[cfg(feature = "dev-provider")]
pub(crate) use scope_claims::scopes_of_claims;
pub(crate) use target_uri::TargetUri;
pub(crate) use user_info::{UserInfoExpectations, accept_signed_user_info, accept_user_info};

/// The issuer of a testing profile without `iss`.
pub(crate) const TESTING_ISSUER: &str = "urn:rocket_openidconnect:testing_profile";
