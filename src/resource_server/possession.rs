//! Proof of possession: whether a request proves the key that its access token is bound to (DPoP, RFC 9449).

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use rocket::{Request, http::Method};
use time::OffsetDateTime;
use tokio::sync::OnceCell;
use url::Url;

use super::{BearerError, DpopNonces, ProofRecord, proof_record::NotRecorded};
use crate::{
    settings::{AppPaths, DpopTokens, Settings},
    token::{AccessToken, DpopProof, DpopProofError, ProofExpectations, TargetUri, UnverifiedProof},
};

/// What the nodes and the tenants of an app share about proofs.
#[derive(Clone, Debug)]
pub(crate) struct Proofs {
    pub(crate) record: Arc<ProofRecord>,
    /// `None` if proofs need no nonce.
    pub(crate) nonces: Option<DpopNonces>,
}

/// Verifies the proofs of requests to one app, or to one of its tenants.
#[derive(Debug)]
pub(super) struct Possession {
    pub(super) is_required: bool,
    max_age: Duration,
    /// The origin of the app in the browser, and its paths there.
    origin: String,
    paths: AppPaths,
    /// The other origins of its APIs, at which no proxy strips a path.
    api_origins: Vec<String>,
    pub(super) proofs: Proofs,
}

/// The proof of a request, verified once for all guards.
#[derive(Default)]
struct RequestProof {
    /// Set for `HEAD`, which Rocket turns into `GET` before a guard sees it.
    is_head: OnceLock<()>,
    /// The thumbprint of the key that the request proves.
    proved_key: OnceCell<Result<String, BearerError>>,
}

/// Records that the method of a request is `HEAD`.
pub(crate) fn note_head(request: &Request<'_>) {
    let _ = RequestProof::of(request).is_head.set(());
}

impl RequestProof {
    fn of<'r>(request: &'r Request<'_>) -> &'r RequestProof {
        request.local_cache(RequestProof::default)
    }
}

impl Possession {
    /// `base_url` is the public URL of the app; `resources` are the identifiers of its APIs.
    pub(super) fn new<'a>(
        base_url: &Url,
        resources: impl Iterator<Item = &'a Url>,
        settings: &Settings,
        proofs: Proofs,
    ) -> Possession {
        let origin = base_url.origin().ascii_serialization();
        let api_origins = resources.map(|resource| resource.origin().ascii_serialization());
        Possession {
            is_required: settings.dpop_tokens == DpopTokens::Required,
            max_age: settings.dpop_max_age,
            api_origins: api_origins.filter(|other| *other != origin).collect(),
            origin,
            paths: AppPaths::new(base_url.path(), &settings.mount, settings.proxy_strips_path),
            proofs,
        }
    }

    /// Checks that a request with this verified token proves the key that the token is bound to.
    pub(super) async fn check(
        &self,
        token: &AccessToken,
        request: &Request<'_>,
        now: OffsetDateTime,
    ) -> Result<(), BearerError> {
        // Several guards may judge a request, and its proof is used once.
        let proved_key = &RequestProof::of(request).proved_key;
        let proved_key = proved_key.get_or_init(|| Box::pin(self.verify(token, request, now)));
        match proved_key.await {
            Ok(key) => Ok(token.check_possession(Some(key))?),
            Err(error) => Err(error.clone()),
        }
    }

    /// Verifies the proof of a request, and records that it was used. Returns the thumbprint of its key.
    async fn verify(
        &self,
        token: &AccessToken,
        request: &Request<'_>,
        now: OffsetDateTime,
    ) -> Result<String, BearerError> {
        let mut headers = request.headers().get("DPoP");
        let (proof, other) = (headers.next(), headers.next());
        let proof = proof.ok_or(DpopProofError::Missing)?;
        if other.is_some() {
            return Err(DpopProofError::Several.into());
        }
        let unverified = UnverifiedProof::parse(proof)?;
        // Before the signature, which costs more: only the holder of a bound token has it verified.
        token.check_possession(Some(unverified.thumbprint()))?;
        let nonces = self.proofs.nonces.as_ref();
        let accepts_nonce = nonces.map(|nonces| move |nonce: &str| nonces.accepts(nonce, now));
        let expected = ProofExpectations {
            method: method(request),
            targets: &self.targets(request),
            token_hash: Some(token.hash()),
            max_age: self.max_age,
            accepts_nonce: accepts_nonce
                .as_ref()
                .map(|accepts| accepts as &(dyn Fn(&str) -> bool + Sync)),
        };
        let proof: DpopProof = unverified.accept(&expected, now)?;
        let recorded = self.proofs.record.add(&proof, token, now).await;
        let retry_after = |until: i64| {
            let wait = until.saturating_sub(now.unix_timestamp()).max(1);
            Duration::from_secs(wait.unsigned_abs())
        };
        match recorded {
            Ok(()) => Ok(proof.thumbprint),
            Err(NotRecorded::Used) => Err(DpopProofError::Replayed.into()),
            Err(NotRecorded::TooMany { until }) => Err(BearerError::TooManyProofs {
                retry_after: retry_after(until),
            }),
            Err(NotRecorded::Full { until }) => Err(BearerError::ProofsFull {
                retry_after: retry_after(until),
            }),
            Err(NotRecorded::Store(error)) => Err(BearerError::Store(error)),
        }
    }

    /// The public URIs of a request, without the query: by the settings, never by `Host`.
    pub(super) fn targets(&self, request: &Request<'_>) -> Vec<TargetUri> {
        let path = request.uri().path().as_str();
        let of_app = (&self.origin, self.paths.in_browser(path));
        let of_apis = self.api_origins.iter().map(|origin| (origin, path.into()));
        std::iter::once(of_app)
            .chain(of_apis)
            .filter_map(|(origin, path)| TargetUri::parse(&format!("{origin}{path}")))
            .collect()
    }
}

/// The method of a request, as the client sent it.
fn method<'r>(request: &'r Request<'_>) -> &'r str {
    match RequestProof::of(request).is_head.get() {
        Some(()) => Method::Head.as_str(),
        None => request.method().as_str(),
    }
}
