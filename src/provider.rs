//! The HTTP calls to the OpenID provider, with one file per endpoint: the only code that opens sockets, beside the client
//! for other APIs.

mod address_policy;
mod addresses;
mod back_off;
mod breaker;
mod call_limits;
mod challenge;
mod client_authentication;
#[cfg(feature = "cli")]
mod diagnosis;
mod endpoint;
mod error;
mod github;
pub(crate) mod http_client;
mod introspection_endpoint;
mod key_cache;
mod metadata;
mod outage;
mod proofs;
mod public_resolver;
mod public_urls;
mod pushed_authorization_endpoint;
mod refresh_error;
#[cfg(feature = "cli")]
mod registration_endpoint;
mod retry_after;
mod revocation_endpoint;
mod security_profile;
mod server_nonces;
mod token_endpoint;
mod tolerance;
mod userinfo_endpoint;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use openidconnect::{HttpResponse, http::header::CONTENT_TYPE};
use time::OffsetDateTime;
use tokio::sync::Mutex;
use url::Url;

#[cfg(feature = "api-client")]
pub(crate) use challenge::has_challenge;
#[cfg(all(feature = "api-client", feature = "__internals"))]
pub(crate) use challenge::has_error;
#[cfg(feature = "cli")]
pub(crate) use client_authentication::default_authentication_method;
pub use endpoint::Endpoint;
pub use error::ProviderError;
pub(crate) use github::GitHubUserError;
pub(crate) use http_client::HttpClient;
pub(crate) use introspection_endpoint::IntrospectionEndpoint;
pub(crate) use key_cache::KeyPurpose;
pub(crate) use metadata::Metadata;
pub(crate) use pushed_authorization_endpoint::{PUSH_REQUESTS, demands_pushed_request};
pub(crate) use refresh_error::RefreshVerdict;
#[cfg(feature = "cli")]
pub(crate) use registration_endpoint::RegisteredClient;
pub(crate) use revocation_endpoint::TokenTypeHint;
pub(crate) use server_nonces::ServerNonces;
pub(crate) use token_endpoint::{SignInClient, Tokens};
#[cfg(feature = "cli")]
pub(crate) use tolerance::strings;
pub(crate) use userinfo_endpoint::{RequestedBy, UserInfoRequestError};

use self::{
    address_policy::AddressPolicy,
    back_off::{BackOff, LogThrottle, unavailable},
    call_limits::CallLimits,
    key_cache::{KeyCache, Refetch},
};
use crate::{
    settings::{MetadataSource, ProviderKind, Registration, Settings},
    tasks,
    token::{KeySet, ProofKey, SigningAlgorithm, StaleKeys},
};

/// Exported by `internals`.
#[cfg(feature = "__internals")]
pub(crate) fn accepts_metadata(body: &[u8], issuer: &str) -> bool {
    let addresses = AddressPolicy::of_issuer(issuer);
    [metadata::Need::SignIn, metadata::Need::Keys]
        .into_iter()
        .any(|need| metadata::accept(body, issuer, need, &addresses).is_ok())
}

/// Exported by `internals`.
#[cfg(feature = "__internals")]
pub(crate) fn read_token_reply(body: &[u8]) -> Option<String> {
    use crate::token::Document;

    let tokens = Tokens::accept(&Document::parse(body).ok()?).ok()?;
    Some(tokens.access_token.expose().to_owned())
}

/// Exported by `internals`.
#[cfg(feature = "__internals")]
pub(crate) use github::read_github_replies;

/// The age at which the metadata is refreshed in the background.
const METADATA_TTL: Duration = Duration::from_secs(24 * 60 * 60);
/// The minimum time between two such refreshes of the metadata.
const METADATA_PAUSE: Duration = Duration::from_secs(60);

/// One provider, with the client registration at it.
#[derive(Debug)]
pub(crate) struct Provider {
    pub(crate) registration: Registration,
    pub(crate) settings: Arc<Settings>,
    redirect_uri: Option<Url>,
    addresses: AddressPolicy,
    http: HttpClient,
    limits: CallLimits,
    discovered: ArcSwapOption<Discovered>,
    /// Lets one request at a time start a background refresh of the metadata.
    due: LogThrottle,
    /// Held while the metadata is read: single-flight, with back-off.
    attempts: Mutex<BackOff>,
    keys: Arc<KeyCache>,
    /// Held while [`read_missing`](Self::read_missing) reads.
    reading: Arc<Mutex<()>>,
    /// The signing algorithm of the last accepted ID token.
    last_algorithm: ArcSwapOption<SigningAlgorithm>,
    /// The nonces of its servers.
    nonces: ServerNonces,
    /// The key of this process for tokens of the client itself.
    client_proof_key: OnceLock<ProofKey>,
}

#[derive(Debug)]
struct Discovered {
    metadata: Arc<Metadata>,
    at: OffsetDateTime,
}

impl Provider {
    /// A provider whose metadata is not read yet. Without a redirect URI, it is not used for sign-in.
    pub(crate) fn new(
        registration: Registration,
        redirect_uri: Option<Url>,
        settings: Arc<Settings>,
    ) -> Result<Provider, ProviderError> {
        let http = HttpClient::of(registration.reach, &settings)?;
        Provider::with_http(registration, redirect_uri, settings, &http)
    }

    /// As [`new`](Self::new), with the connections of a client that providers of the same [`Reach`](crate::settings::Reach) share.
    pub(crate) fn with_http(
        registration: Registration,
        redirect_uri: Option<Url>,
        settings: Arc<Settings>,
        http: &HttpClient,
    ) -> Result<Provider, ProviderError> {
        let http = if http.reach() == registration.reach {
            http.for_another_provider()
        } else {
            HttpClient::of(registration.reach, &settings)?
        };
        let http = match &registration.client_identity {
            Some(identity) => http.with_identity(identity)?,
            None => http,
        };
        let http = http.of_provider(settings.observed().with_issuer(&registration.issuer));
        Ok(Provider {
            keys: Arc::new(KeyCache::new(http.clone())),
            addresses: AddressPolicy::new(&registration, http.insecure_http_hosts(), http.public_urls())?,
            limits: CallLimits::new(settings.http.timeout),
            http,
            registration,
            settings,
            redirect_uri,
            discovered: ArcSwapOption::empty(),
            due: LogThrottle::default(),
            attempts: Mutex::default(),
            reading: Arc::default(),
            last_algorithm: ArcSwapOption::empty(),
            nonces: ServerNonces::default(),
            client_proof_key: OnceLock::new(),
        })
    }

    /// The cached metadata. Reads it if there is none, with exponential back-off after failures: 1 s at first,
    /// doubled each time, at most a minute.
    pub(crate) async fn metadata(self: &Arc<Self>, now: OffsetDateTime) -> Result<Arc<Metadata>, ProviderError> {
        if let Some(discovered) = &*self.discovered.load() {
            let is_due = now >= discovered.at + METADATA_TTL || self.http.has_moved();
            if is_due && self.due.passes(now, METADATA_PAUSE) {
                let (provider, known) = (self.clone(), discovered.metadata.clone());
                tokio::spawn(async move {
                    let mut attempts = provider.attempts.lock().await;
                    if provider.newer_than(&known).is_some() {
                        return;
                    }
                    if let Err(error) = provider.discover(&mut attempts, now).await {
                        let reason = error.reason();
                        tracing::warn!(reason, "{error}; the cached metadata stays in use");
                    }
                });
            }
            return Ok(discovered.metadata.clone());
        }
        // Boxed to keep the future small: this path is rare.
        Box::pin(self.first_metadata(now)).await
    }

    /// Waits for the first metadata.
    async fn first_metadata(&self, now: OffsetDateTime) -> Result<Arc<Metadata>, ProviderError> {
        let mut attempts = self.attempts.lock().await;
        if let Some(discovered) = &*self.discovered.load() {
            return Ok(discovered.metadata.clone());
        }
        attempts.check(now)?;
        self.discover(&mut attempts, now).await
    }

    /// The cached metadata, if it is newer than `known`.
    fn newer_than(&self, known: &Metadata) -> Option<Arc<Metadata>> {
        let discovered = self.discovered.load_full()?;
        let is_known = std::ptr::eq(&*discovered.metadata, known);
        (!is_known).then(|| discovered.metadata.clone())
    }

    /// Newer metadata that names another URL for an endpoint that was unreachable or not found at that of `known`.
    async fn moved(
        &self,
        known: &Metadata,
        endpoint: fn(&Metadata) -> Option<&Url>,
        now: OffsetDateTime,
    ) -> Option<Arc<Metadata>> {
        let newer = Box::pin(self.reread_metadata(known, now)).await?;
        (endpoint(&newer) != endpoint(known)).then_some(newer)
    }

    /// Reads the metadata again after an endpoint of `known` was unreachable or not found, at most once in
    /// [`METADATA_PAUSE`]. `None` if there is nothing newer.
    async fn reread_metadata(&self, known: &Metadata, now: OffsetDateTime) -> Option<Arc<Metadata>> {
        let mut attempts = self.attempts.lock().await;
        if let Some(newer) = self.newer_than(known) {
            return Some(newer);
        }
        let is_discovered = matches!(self.registration.metadata, MetadataSource::Discovery { .. });
        if !is_discovered || !self.due.passes(now, METADATA_PAUSE) {
            return None;
        }
        tracing::info!("an endpoint of the provider's metadata is not reachable; reading the metadata again");
        self.discover(&mut attempts, now).await.ok()
    }

    /// Reads the metadata (OpenID Connect Discovery 1.0 §4). The caller holds the lock of `attempts`: single-flight.
    async fn discover(&self, attempts: &mut BackOff, now: OffsetDateTime) -> Result<Arc<Metadata>, ProviderError> {
        self.http.forget_moved_endpoints();
        match self.read_metadata().await {
            Ok(metadata) => {
                let metadata = Arc::new(metadata);
                attempts.succeeded();
                self.discovered.store(Some(Arc::new(Discovered {
                    metadata: metadata.clone(),
                    at: now,
                })));
                Ok(metadata)
            }
            Err(error) => {
                let wait = attempts.failed(now, &error);
                if !error.is_retryable() {
                    return Err(error);
                }
                let (reason, wait_s) = (error.reason(), wait.as_secs());
                tracing::warn!(reason, "{error}; the next attempt is due in {wait_s} s");
                tracing::info!("{}", error.remedy());
                Err(unavailable(wait, Some(&error)))
            }
        }
    }

    async fn read_metadata(&self) -> Result<Metadata, ProviderError> {
        if let Some(metadata) = metadata::of_settings(&self.registration.metadata, &self.addresses) {
            return self.checked(metadata?);
        }
        self.accept_metadata(&self.read(Endpoint::Metadata, self.first_url()).await?)
    }

    /// The URL of the first document that is read: the metadata, or the key set where the settings name the endpoints; the
    /// API of GitHub.
    pub(crate) fn first_url(&self) -> &Url {
        match &self.registration.metadata {
            MetadataSource::Discovery { url } => url,
            MetadataSource::Given { jwks_uri, .. } | MetadataSource::Keys { jwks_uri } => jwks_uri,
            MetadataSource::GitHub { user_endpoint, .. } => user_endpoint,
        }
    }

    /// Validates a metadata response.
    pub(crate) fn accept_metadata(&self, reply: &HttpResponse) -> Result<Metadata, ProviderError> {
        if let Some(metadata) = metadata::of_settings(&self.registration.metadata, &self.addresses) {
            return self.checked(metadata?);
        }
        // Sign-in needs a redirect URI; without one, only the keys are needed.
        let need = match self.redirect_uri {
            Some(_) => metadata::Need::SignIn,
            None => metadata::Need::Keys,
        };
        let body = reply.body();
        let metadata = metadata::accept(body, &self.registration.issuer, need, &self.addresses);
        let metadata = match self.registration.client_identity {
            Some(_) => metadata.and_then(|it| it.with_mtls_endpoints(&self.addresses)),
            None => metadata,
        };
        metadata
            .and_then(|metadata| self.checked(metadata))
            .map_err(|error| match error {
                error if metadata::is_metadata(body) => error,
                _ if is_web_page(reply) => ProviderError::NotMetadata {
                    cause: "it is a web page".to_owned(),
                },
                ProviderError::Malformed { cause, .. } => ProviderError::NotMetadata { cause },
                _ => ProviderError::NotMetadata {
                    cause: "it has no `issuer`".to_owned(),
                },
            })
    }

    /// The metadata, unless it lacks what the settings demand of a provider at which users sign in.
    fn checked(&self, metadata: Metadata) -> Result<Metadata, ProviderError> {
        if self.redirect_uri.is_some() {
            self.check_profile(&metadata)?;
            self.proof_algorithm(&metadata)?;
        }
        Ok(metadata)
    }

    /// Reads a document; any status but 200 is an error.
    async fn read(&self, endpoint: Endpoint, url: &Url) -> Result<HttpResponse, ProviderError> {
        let reply = self.http.get(endpoint, url).await?;
        match reply.status().as_u16() {
            200 => Ok(reply),
            _ => Err(ProviderError::of_status(endpoint, &reply)),
        }
    }

    /// The keys that verify the provider's tokens.
    pub(crate) async fn keys(&self, metadata: &Metadata, now: OffsetDateTime) -> Result<Arc<KeySet>, ProviderError> {
        self.keys_for(metadata, KeyPurpose::ProviderReply, now).await
    }

    /// Ensures that there are keys to verify an ID token before a user is redirected to the provider: without them,
    /// the code would be spent in vain. Anyone can cause this fetch, so that it counts as [`KeyPurpose::AnyRequest`],
    /// and its failure does not delay a callback.
    pub(crate) async fn keys_before_sign_in(
        &self,
        metadata: &Metadata,
        now: OffsetDateTime,
    ) -> Result<(), ProviderError> {
        if self.registration.kind() == ProviderKind::GitHub {
            return Ok(());
        }
        self.keys_for(metadata, KeyPurpose::AnyRequest(None), now)
            .await
            .map(drop)
    }

    async fn keys_for(
        &self,
        metadata: &Metadata,
        purpose: KeyPurpose,
        now: OffsetDateTime,
    ) -> Result<Arc<KeySet>, ProviderError> {
        match self.keys.keys(metadata.jwks_uri()?, purpose, now).await {
            Err(error) if error.may_have_moved() => match self.moved(metadata, |it| it.jwks_uri().ok(), now).await {
                Some(newer) => self.keys.keys(newer.jwks_uri()?, purpose, now).await,
                None => Err(error),
            },
            keys => keys,
        }
    }

    /// What was never read, of `metadata` and `keys`.
    pub(crate) fn missing(&self, needs_keys: bool) -> Vec<&'static str> {
        let has_keys = !needs_keys || self.registration.kind() == ProviderKind::GitHub || self.keys.is_known();
        let known = [("metadata", self.discovered.load().is_some()), ("keys", has_keys)];
        let missing = known.into_iter().filter(|(_, is_known)| !is_known);
        missing.map(|(name, _)| name).collect()
    }

    /// Reads what is missing in the background, one task at a time, with the back-off of a sign-in; waits for it at most
    /// this long.
    pub(crate) async fn read_missing(self: &Arc<Self>, needs_keys: bool, now: OffsetDateTime, longest: Duration) {
        if let Ok(reading) = self.reading.clone().try_lock_owned() {
            let provider = self.clone();
            tasks::spawn(async move {
                let _reading = reading;
                // A failure is logged where it occurs.
                if let Ok(metadata) = provider.metadata(now).await
                    && needs_keys
                {
                    let _ = provider.keys_before_sign_in(&metadata, now).await;
                }
            });
        }
        let _ = tokio::time::timeout(longest, self.reading.lock()).await;
    }

    /// The cached metadata, however old, without a request.
    pub(crate) fn cached_metadata(&self) -> Option<Arc<Metadata>> {
        self.discovered
            .load()
            .as_ref()
            .map(|discovered| discovered.metadata.clone())
    }

    /// The last fetched key set, if there is one.
    pub(crate) fn fetched_keys(&self) -> Option<key_cache::FetchedKeys> {
        self.keys.fetched()
    }

    /// Runs a check that needs the provider's keys. If the check names a key that the cached set does not hold, the
    /// set is fetched again, within the rate limit of the purpose, and the check is repeated.
    ///
    /// # Errors
    ///
    /// When the check cannot be decided now: there are no keys; or a reply of the provider names an unknown key, and
    /// the key set cannot be fetched again. For [`KeyPurpose::AnyRequest`], which is limited to a few fetches in a
    /// while, the verdict by the cached keys is returned instead.
    pub(crate) async fn with_keys<T, E>(
        &self,
        metadata: &Metadata,
        purpose: KeyPurpose,
        now: OffsetDateTime,
        check: impl Fn(&Arc<KeySet>) -> Result<T, E>,
        wants_other_keys: impl Fn(&E) -> Option<StaleKeys>,
    ) -> Result<Result<T, E>, ProviderError> {
        let mut keys = self.keys_for(metadata, purpose, now).await?;
        let mut verdict = check(&keys);
        let mut newer_metadata: Option<Arc<Metadata>> = None;
        // Three attempts: the first may share an earlier fetch, and the second may use an outdated `jwks_uri`.
        for _ in 0..3 {
            let stale = verdict.as_ref().err().and_then(&wants_other_keys);
            let Some(stale) = stale else { break };
            let jwks_uri = match &newer_metadata {
                Some(newer) => newer.jwks_uri()?,
                None => metadata.jwks_uri()?,
            };
            let refetch = Box::pin(self.keys.refetch(&keys, stale, jwks_uri, purpose, now));
            match refetch.await {
                Refetch::Failed(cause) if newer_metadata.is_none() && cause.may_have_moved() => {
                    match self.moved(metadata, |it| it.jwks_uri().ok(), now).await {
                        Some(moved) => newer_metadata = Some(moved),
                        None if purpose == KeyPurpose::ProviderReply => return Err(cause),
                        None => break,
                    }
                }
                Refetch::Newer(newer) => {
                    verdict = check(&newer);
                    keys = newer;
                }
                Refetch::Latest(latest) if Arc::ptr_eq(&latest, &keys) => break,
                Refetch::Latest(latest) => return Ok(check(&latest)),
                Refetch::Failed(cause) if purpose == KeyPurpose::ProviderReply => return Err(cause),
                Refetch::Failed(_) => break,
            }
        }
        Ok(verdict)
    }

    /// The algorithms an ID token may be signed with: those of the setting, else those of the metadata.
    pub(crate) fn id_token_algorithms(&self, metadata: &Metadata) -> Vec<SigningAlgorithm> {
        match &self.settings.id_token_signing_algs {
            Some(algorithms) => algorithms.clone(),
            None => metadata.signing_algorithms().to_vec(),
        }
    }

    /// The algorithms that a UserInfo response may be signed with: those that the metadata lists for it
    /// (`userinfo_signing_alg_values_supported`), and those of ID tokens.
    pub(crate) fn user_info_algorithms(&self, metadata: &Metadata) -> Vec<SigningAlgorithm> {
        let mut algorithms = self.id_token_algorithms(metadata);
        for algorithm in metadata.userinfo_signing_algorithms() {
            if !algorithms.contains(algorithm) {
                algorithms.push(*algorithm);
            }
        }
        algorithms
    }

    /// Records the signing algorithm of an accepted ID token.
    pub(crate) fn id_token_accepted(&self, algorithm: SigningAlgorithm) {
        if self.last_algorithm.load().as_deref() != Some(&algorithm) {
            self.last_algorithm.store(Some(Arc::new(algorithm)));
        }
    }

    /// Whether an ID token has been accepted since launch.
    pub(crate) fn has_accepted_id_token(&self) -> bool {
        self.last_algorithm.load().is_some()
    }

    /// The algorithms that a logout token may be signed with: "the same as for ID tokens"
    /// ([Back-Channel Logout 1.0 §2.6]), which is one for each client (`id_token_signed_response_alg`). Those of the
    /// setting; else that of the last ID token; else the default of the standard, if the metadata lists it.
    ///
    /// [Back-Channel Logout 1.0 §2.6]: https://openid.net/specs/openid-connect-backchannel-1_0.html#Validation
    pub(crate) fn logout_token_algorithms(&self, metadata: &Metadata) -> Vec<SigningAlgorithm> {
        let listed = self.id_token_algorithms(metadata);
        if self.settings.id_token_signing_algs.is_some() {
            return listed;
        }
        let last = self.last_algorithm.load().as_deref().copied();
        let algorithm = last.unwrap_or(SigningAlgorithm::RS256);
        if last.is_some() || listed.contains(&algorithm) {
            vec![algorithm]
        } else {
            listed
        }
    }
}

/// Whether a response is an HTML page, by its `Content-Type` or its first byte.
fn is_web_page(reply: &HttpResponse) -> bool {
    let kind = reply.headers().get(CONTENT_TYPE);
    let says_so = kind
        .and_then(|kind| kind.to_str().ok())
        .is_some_and(|kind| kind.trim_start().to_ascii_lowercase().starts_with("text/html"));
    says_so || reply.body().trim_ascii_start().starts_with(b"<")
}

#[cfg(test)]
mod public_tests;
