//! DPoP (RFC 9449): proofs in requests to the provider, and which key its tokens are bound to.

use openidconnect::HttpResponse;
use time::OffsetDateTime;
use url::Url;

use super::{Endpoint, Metadata, Provider, ProviderError, Tokens, challenge::has_challenge, error::PROOF_ALGORITHMS};
use crate::{
    printable::printable,
    secret::Secret,
    settings::Dpop,
    token::{Document, NamedKey, ProofAlgorithm, ProofKey, certificate_of},
};

/// The nonce that a response demands (RFC 9449 §8, §9).
const USE_NONCE: &str = "use_dpop_nonce";

impl Provider {
    /// The algorithm of the keys that tokens are bound to; `None` if they are bearer tokens.
    ///
    /// # Errors
    ///
    /// When bound tokens are required and the metadata lists no algorithm that this app has.
    pub(crate) fn proof_algorithm(&self, metadata: &Metadata) -> Result<Option<ProofAlgorithm>, ProviderError> {
        let listed = metadata.dpop_signing_alg_values_supported.as_deref();
        let preferred = || ProofAlgorithm::preferred(listed.unwrap_or_default());
        match self.settings.dpop {
            Dpop::Off => Ok(None),
            Dpop::Auto => Ok(preferred()),
            Dpop::Required => match preferred() {
                Some(algorithm) => Ok(Some(algorithm)),
                None => Err(ProviderError::MetadataMember {
                    member: PROOF_ALGORITHMS,
                    expected: "a list with ES256, Ed25519 or EdDSA, which `oidc.dpop` requires",
                    actual: listed.map(|_| "a list without them"),
                }),
            },
        }
    }

    /// The key of this process for tokens of the client itself; `None` unless bound tokens are required.
    ///
    /// # Errors
    ///
    /// As [`proof_algorithm`](Self::proof_algorithm).
    pub(crate) fn client_proof_key(&self, metadata: &Metadata) -> Result<Option<ProofKey>, ProviderError> {
        if self.settings.dpop != Dpop::Required {
            return Ok(None);
        }
        let algorithm = self.proof_algorithm(metadata)?;
        Ok(algorithm.map(|algorithm| {
            let key = self.client_proof_key.get_or_init(|| ProofKey::random(algorithm));
            key.clone()
        }))
    }

    /// Whether tokens are bound to keys, for the report at liftoff and `rocket-oidc doctor`; `None` if the setting is
    /// `off`.
    pub(crate) fn describe_binding(&self, metadata: Option<&Metadata>) -> Option<String> {
        let algorithm = metadata.map(|metadata| self.proof_algorithm(metadata));
        let algorithm = algorithm.and_then(Result::ok);
        let setting = match self.settings.dpop {
            Dpop::Off => return None,
            Dpop::Auto => "if the provider binds them",
            Dpop::Required => "required",
        };
        Some(match algorithm {
            None => setting.to_owned(),
            Some(Some(algorithm)) => format!("{setting}, with {}", algorithm.as_str()),
            Some(None) => "no, the provider lists no algorithm for it".to_owned(),
        })
    }

    /// The key that the access token of a reply is bound to: see [`Tokens::binding`]. To be called once the reply is stored,
    /// because its refresh token may be the only one that is valid now.
    ///
    /// # Errors
    ///
    /// As there; when the token is a JWT that is bound to another certificate than that of the client
    /// ([RFC 8705 §3.1](https://www.rfc-editor.org/rfc/rfc8705#section-3.1)): no API would accept it; and when it has a type
    /// that was not asked for.
    pub(crate) fn binding<'k>(
        &self,
        reply: &Tokens,
        key: Option<&'k ProofKey>,
        is_required: bool,
    ) -> Result<Option<&'k ProofKey>, ProviderError> {
        let malformed = |cause: String| ProviderError::Malformed {
            endpoint: Endpoint::Token,
            cause,
        };
        if let Some(kind) = reply.token_type.as_deref()
            && !(kind.eq_ignore_ascii_case("bearer") || key.is_some() && reply.is_dpop())
        {
            let (kind, expected) = (printable(kind), if key.is_some() { "DPoP" } else { "Bearer" });
            return Err(malformed(format!("`token_type` is `{kind}`, expected `{expected}`")));
        }
        if let Some(identity) = &self.registration.client_identity
            && let Some(thumbprint) = certificate_of(reply.access_token.expose())
            && thumbprint != identity.certificate.thumbprint()
        {
            let cause = "the access token is bound to another certificate than that of this client";
            return Err(malformed(cause.to_owned()));
        }
        reply.binding(key, is_required)
    }

    /// Whether tokens must be bound that are requested with a key.
    pub(crate) fn requires_bound_tokens(&self) -> bool {
        self.settings.dpop == Dpop::Required
    }

    /// The proof for one request, with the nonce that the server wants.
    pub(super) fn proof(
        &self,
        key: Option<&ProofKey>,
        method: &str,
        url: &Url,
        access_token: Option<&Secret>,
        now: OffsetDateTime,
    ) -> Option<String> {
        let key = key?;
        let nonce = self.nonces.of(url);
        Some(key.proof(method, url, access_token, nonce.as_deref(), now))
    }

    /// Keeps the nonce of an authorization server's response. Returns whether the request is to be repeated with it
    /// ([RFC 9449 §8](https://www.rfc-editor.org/rfc/rfc9449#section-8)): the server has not processed it.
    pub(super) fn demands_nonce(&self, key: Option<&ProofKey>, url: &Url, reply: &HttpResponse) -> bool {
        let has_nonce = key.is_some() && self.nonces.learn(url, reply.headers());
        let error = || Document::parse(reply.body()).ok()?.text("error").map(str::to_owned);
        has_nonce && reply.status() == 400 && error().is_some_and(|error| error == USE_NONCE)
    }

    /// The same of a protected resource, such as UserInfo
    /// ([RFC 9449 §9](https://www.rfc-editor.org/rfc/rfc9449#section-9)).
    pub(super) fn demands_nonce_at_resource(&self, key: Option<&ProofKey>, url: &Url, reply: &HttpResponse) -> bool {
        let has_nonce = key.is_some() && self.nonces.learn(url, reply.headers());
        has_nonce && reply.status() == 401 && has_challenge(reply.headers(), "DPoP", USE_NONCE)
    }
}

impl Tokens {
    /// Whether `token_type` is `DPoP`, in any letter case.
    pub(super) fn is_dpop(&self) -> bool {
        let kind = self.token_type.as_deref();
        kind.is_some_and(|kind| kind.eq_ignore_ascii_case("dpop"))
    }

    /// The key that the access token is bound to, of a request with this key; `None` for a bearer token.
    ///
    /// # Errors
    ///
    /// When the token is a bearer token and `is_required`, or when it is bound to another key, as far as that is visible
    /// ([RFC 9449 §5](https://www.rfc-editor.org/rfc/rfc9449#section-5)).
    fn binding<'k>(&self, key: Option<&'k ProofKey>, is_required: bool) -> Result<Option<&'k ProofKey>, ProviderError> {
        let Some(key) = key else {
            return Ok(None);
        };
        if !self.is_dpop() {
            return if is_required {
                Err(ProviderError::NotBound)
            } else {
                Ok(None)
            };
        }
        match NamedKey::of(&self.access_token) {
            NamedKey::Unknown => Ok(Some(key)),
            NamedKey::Thumbprint(jkt) if jkt == key.thumbprint() => Ok(Some(key)),
            NamedKey::Thumbprint(_) => Err(ProviderError::BoundToOtherKey { names_key: true }),
            NamedKey::Missing => Err(ProviderError::BoundToOtherKey { names_key: false }),
        }
    }
}
