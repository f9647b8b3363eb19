//! The `WWW-Authenticate` challenges of a rejected request.

use super::{BearerError, Scheme};
use crate::{requirement::INSUFFICIENT, token::SigningAlgorithm};

/// What a challenge has besides the error.
#[derive(Clone, Copy)]
pub(super) struct Challenge<'a> {
    pub(super) realm: &'a str,
    /// The scope that the guard demands.
    pub(super) needed: Option<&'a str>,
    pub(super) resource_metadata: Option<&'a str>,
    /// The schemes that the guard accepts.
    pub(super) offered: &'a [Scheme],
    /// The scheme of the request.
    pub(super) used: Scheme,
}

impl BearerError {
    /// The values of `WWW-Authenticate` (RFC 6750 §3, RFC 9449 §7.1, RFC 9728 §5.1), one for each offered scheme. The
    /// error is in that of the scheme that was used, which comes first. For a request without a token, each names the
    /// scope that is needed. Empty when no token would help.
    pub(super) fn challenges(&self, challenge: &Challenge<'_>) -> Vec<String> {
        let is_general = matches!(self, BearerError::Missing | BearerError::NoProvider);
        let [used, other] = match challenge.used {
            Scheme::Bearer => [Scheme::Bearer, Scheme::Dpop],
            Scheme::Dpop => [Scheme::Dpop, Scheme::Bearer],
        };
        let mut offered = [used, other]
            .into_iter()
            .filter(|scheme| challenge.offered.contains(scheme));
        let Some(first) = offered.next().and_then(|scheme| self.challenge(challenge, scheme)) else {
            return vec![];
        };
        let without_error = Challenge {
            needed: None,
            ..*challenge
        };
        let others = offered.filter_map(|scheme| {
            if is_general {
                self.challenge(challenge, scheme)
            } else {
                // The error is about the other scheme.
                BearerError::Missing.challenge(&without_error, scheme)
            }
        });
        std::iter::once(first).chain(others).collect()
    }

    /// The challenge of one scheme.
    fn challenge(&self, of: &Challenge<'_>, scheme: Scheme) -> Option<String> {
        // Long enough for most challenges, to avoid reallocation.
        let mut challenge = String::with_capacity(256);
        challenge.extend([scheme.as_str(), " realm=\"", of.realm, "\""]);
        // None of these values can contain a quote: settings are validated, and constants are checked at compile time.
        let mut add = |name: &str, value: &str| challenge.extend([", ", name, "=\"", value, "\""]);
        match self {
            BearerError::Missing | BearerError::NoProvider => {
                if let Some(scope) = of.needed {
                    add("scope", scope);
                }
            }
            BearerError::Malformed { cause } => {
                add("error", "invalid_request");
                add("error_description", cause);
            }
            BearerError::Token(error) | BearerError::Proof(error) => {
                add("error", error.code());
                add("error_description", error.description());
            }
            BearerError::Certificate(error) => {
                add("error", "invalid_request");
                add("error_description", error.description());
            }
            BearerError::Claims { .. } => {
                add("error", "invalid_token");
                add("error_description", "the token lacks a claim that this API needs");
            }
            BearerError::Scope { required, .. } => {
                add("error", "insufficient_scope");
                add("error_description", "the token does not allow this");
                add("scope", required);
            }
            // RFC 6750 §3.1: the token has too few privileges. No scope would help.
            BearerError::Groups { .. } => {
                add("error", "insufficient_scope");
                add("error_description", "the user of the token may not do this");
            }
            BearerError::Authentication { required } => {
                add("error", INSUFFICIENT);
                add(
                    "error_description",
                    "the user must authenticate again or in another way",
                );
                for (name, value) in required.challenge_parameters() {
                    add(name, &value);
                }
            }
            BearerError::Provider(_)
            | BearerError::ProviderUndecided
            | BearerError::TooManyProofs { .. }
            | BearerError::ProofsFull { .. }
            | BearerError::Store(_)
            | BearerError::NoFairing
            | BearerError::NoApi => {
                return None;
            }
        }
        if let Some(url) = of.resource_metadata {
            add("resource_metadata", url);
        }
        if scheme == Scheme::Dpop {
            let algorithms: Vec<_> = proof_algorithms().collect();
            add("algs", &algorithms.join(" "));
        }
        Some(challenge)
    }
}

/// The algorithms of proofs: for challenges, and for the metadata of the API.
pub(super) fn proof_algorithms() -> impl Iterator<Item = &'static str> {
    // RFC 9864 renames EdDSA: clients may know either name.
    let names = SigningAlgorithm::ASYMMETRIC.iter().map(|algorithm| algorithm.as_str());
    names.chain(["Ed25519"])
}
