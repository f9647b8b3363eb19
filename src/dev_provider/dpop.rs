//! Tokens that are bound to a key of the client (DPoP, RFC 9449), judged as the app judges proofs.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rocket::{
    Request, Response,
    http::Status,
    request::{FromRequest, Outcome},
};
use serde_json::json;

#[cfg(feature = "testing")]
use super::signing::random;
use super::{Op, answer::Answer, grants::Grant};
use crate::token::{DpopProofError, ProofExpectations, TargetUri, UnverifiedProof, token_hash};

/// The algorithms of proofs in the metadata.
pub(super) const ALGORITHMS: [&str; 3] = ["ES256", "EdDSA", "Ed25519"];
/// How old a proof may be.
const MAX_AGE: Duration = Duration::from_secs(60);

/// The nonce that proofs must have, if any.
#[derive(Default)]
pub(super) struct DemandedNonce(Mutex<Option<String>>);

impl DemandedNonce {
    fn current(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Demands another nonce than before.
    #[cfg(feature = "testing")]
    pub(super) fn change(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(random("nonce"));
    }
}

/// The headers `DPoP` of a request.
pub(super) struct Proofs<'r>(Vec<&'r str>);

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Proofs<'r> {
    type Error = std::convert::Infallible;

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, Self::Error> {
        Outcome::Success(Proofs(request.headers().get("DPoP").collect()))
    }
}

/// The thumbprint of the key that a request to this endpoint proves; `None` without a proof.
pub(super) fn proved_key(
    op: &Op,
    proofs: &Proofs<'_>,
    (method, path): (&str, &str),
    access_token: Option<&str>,
) -> Result<Option<String>, DpopProofError> {
    let proof = match &proofs.0[..] {
        [] => return Ok(None),
        [proof] => proof,
        _ => return Err(DpopProofError::Several),
    };
    let target = TargetUri::parse(&format!("{}{path}", op.issuer()));
    let nonce = op.nonce.current();
    let accepts_nonce = nonce.as_ref().map(|nonce| move |sent: &str| sent == nonce);
    let token_hash = access_token.map(token_hash);
    let expected = ProofExpectations {
        method,
        targets: &Vec::from_iter(target),
        token_hash: token_hash.as_deref(),
        max_age: MAX_AGE,
        accepts_nonce: accepts_nonce
            .as_ref()
            .map(|accepts| accepts as &(dyn Fn(&str) -> bool + Sync)),
    };
    let proof = UnverifiedProof::parse(proof)?.accept(&expected, op.clock.now())?;
    if !op.grants.use_proof(&proof.jti, proof.ends, op.now()) {
        return Err(DpopProofError::Replayed);
    }
    Ok(Some(proof.thumbprint))
}

/// The error response of the token endpoint (RFC 9449 §5, §8).
pub(super) fn refused_proof(error: &DpopProofError) -> Answer {
    let body = json!({ "error": error_code(error), "error_description": error.to_string() });
    Answer::Json(Status::BadRequest, body)
}

/// The challenge of UserInfo (RFC 9449 §7.1, §9).
pub(super) fn challenge(error: &DpopProofError) -> Answer {
    let code = error_code(error);
    let challenge = match code {
        "use_dpop_nonce" => "DPoP error=\"use_dpop_nonce\"",
        _ => "DPoP error=\"invalid_dpop_proof\"",
    };
    Answer::Challenge(challenge, json!({ "error": code }))
}

fn error_code(error: &DpopProofError) -> &'static str {
    match error {
        DpopProofError::NoNonce | DpopProofError::StaleNonce => "use_dpop_nonce",
        _ => "invalid_dpop_proof",
    }
}

/// Sends the demanded nonce with each response to a request with a proof.
pub(super) fn send_nonce(request: &Request<'_>, response: &mut Response<'_>) {
    let nonce = request.rocket().state::<Op>().and_then(|op| op.nonce.current());
    if let Some(nonce) = nonce.filter(|_| request.headers().contains("DPoP")) {
        response.set_raw_header("DPoP-Nonce", nonce);
    }
}

impl Grant {
    /// `token_type` of its access tokens.
    pub(super) fn token_type(&self) -> &'static str {
        if self.jkt.is_some() { "DPoP" } else { "Bearer" }
    }
}
