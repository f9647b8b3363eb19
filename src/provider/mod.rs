//! The OpenID provider as we reach it: the only code that opens sockets, one file per endpoint.

mod address_policy;
mod back_off;
mod call_limits;
mod client_authentication;
#[cfg(feature = "cli")]
mod diagnosis;
mod error;
pub(crate) mod http_client;
mod introspection_endpoint;
mod key_cache;
mod metadata;
mod pushed_authorization_endpoint;
mod refresh_error;
#[cfg(feature = "cli")]
mod registration_endpoint;
mod revocation_endpoint;
mod token_endpoint;
mod tolerance;
mod userinfo_endpoint;

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use openidconnect::{HttpResponse, http::header::CONTENT_TYPE};
use time::OffsetDateTime;
use tokio::sync::Mutex;
use url::Url;

#[cfg(feature = "cli")]
pub(crate) use client_authentication::default_authentication_method;
pub use error::{Endpoint, ProviderError};
pub(crate) use introspection_endpoint::IntrospectionEndpoint;
pub(crate) use key_cache::KeyPurpose;
pub(crate) use metadata::Metadata;
pub(crate) use refresh_error::RefreshVerdict;
#[cfg(feature = "cli")]
pub(crate) use registration_endpoint::RegisteredClient;
pub(crate) use revocation_endpoint::TokenTypeHint;
pub(crate) use token_endpoint::{SignInClient, Tokens};
pub(crate) use userinfo_endpoint::{RequestedBy, UserInfoRequestError};

use self::{
    address_policy::AddressPolicy,
    back_off::{BackOff, Turnstile, unavailable},
    call_limits::CallLimits,
    http_client::HttpClient,
    key_cache::{KeyCache, Look},
};
use crate::{
    settings::{MetadataSource, Registration, Settings},
    token::{KeySet, SigningAlgorithm},
};

/// For `internals`.
#[cfg(feature = "__internals")]
pub(crate) fn accepts_metadata(body: &[u8], issuer: &str) -> bool {
    metadata::accept(
        body,
        issuer,
        &address_policy::AddressPolicy::of_issuer(issuer),
    )
    .is_ok()
}

/// For `internals`.
#[cfg(feature = "__internals")]
pub(crate) fn read_token_reply(body: &[u8]) -> Option<String> {
    let reply: token_endpoint::TokenReply = serde_json::from_slice(body).ok()?;
    let tokens = reply.into_tokens().ok()?;
    Some(tokens.access_token.expose().to_owned())
}

/// How long metadata serves before it is read again, off the path of a request.
const METADATA_LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// How long nobody else looks for newer metadata after somebody did.
const METADATA_PAUSE: Duration = Duration::from_secs(60);

/// One provider, with the client that is registered there.
#[derive(Debug)]
pub(crate) struct Provider {
    pub(crate) registration: Registration,
    pub(crate) settings: Arc<Settings>,
    redirect_uri: Option<Url>,
    addresses: AddressPolicy,
    http: HttpClient,
    limits: CallLimits,
    discovered: ArcSwapOption<Discovered>,
    /// Who reads metadata that is due, beside the requests.
    due: Turnstile,
    /// Held while the metadata is read.
    attempts: Mutex<BackOff>,
    keys: Arc<KeyCache>,
    /// What the ID token that was accepted last is signed with.
    last_algorithm: ArcSwapOption<SigningAlgorithm>,
}

#[derive(Debug)]
struct Discovered {
    metadata: Arc<Metadata>,
    at: OffsetDateTime,
}

impl Provider {
    /// A provider that nothing is known about yet but its registration. Without a redirect URI nobody
    /// is sent there.
    pub(crate) fn new(
        registration: Registration,
        redirect_uri: Option<Url>,
        settings: Arc<Settings>,
    ) -> Result<Provider, ProviderError> {
        let http = HttpClient::new(&settings.http, settings.insecure_hosts())?;
        Ok(Provider {
            keys: Arc::new(KeyCache::new(http.clone())),
            addresses: AddressPolicy::new(&registration, settings.insecure_hosts()),
            limits: CallLimits::new(settings.http.timeout),
            http,
            registration,
            settings,
            redirect_uri,
            discovered: ArcSwapOption::empty(),
            due: Turnstile::default(),
            attempts: Mutex::default(),
            last_algorithm: ArcSwapOption::empty(),
        })
    }

    /// The metadata, as last read. Reads it when it never was, unless the last attempt failed too
    /// short ago: 1 s at first, doubled each time, a minute at most.
    pub(crate) async fn metadata(
        self: &Arc<Self>,
        now: OffsetDateTime,
    ) -> Result<Arc<Metadata>, ProviderError> {
        if let Some(discovered) = &*self.discovered.load() {
            if now >= discovered.at + METADATA_LIFE && self.due.passes(now, METADATA_PAUSE) {
                let provider = self.clone();
                tokio::spawn(async move {
                    if let Err(error) = provider.discover(now).await {
                        let reason = error.reason();
                        tracing::warn!(reason, "{error}; the metadata read before serves on");
                    }
                });
            }
            return Ok(discovered.metadata.clone());
        }
        // Boxed, as all that a request seldom does: what is not done should not be carried about.
        Box::pin(self.discover(now)).await
    }

    /// Reads the metadata (OpenID Connect Discovery 1.0 §4), one at a time.
    async fn discover(&self, now: OffsetDateTime) -> Result<Arc<Metadata>, ProviderError> {
        let mut attempts = self.attempts.lock().await;
        if let Some(discovered) = &*self.discovered.load()
            && now < discovered.at + METADATA_LIFE
        {
            return Ok(discovered.metadata.clone());
        }
        attempts.check(now)?;

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
                if !error.may_become_right() {
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
        let url = match &self.registration.metadata {
            MetadataSource::Discovery { url } => url,
            MetadataSource::Given(endpoints) => {
                return metadata::given(endpoints, &self.registration.issuer, &self.addresses);
            }
        };

        let reply = self.read(Endpoint::Metadata, url).await?;
        self.accept_metadata(&reply)
    }

    /// Judges the metadata.
    pub(crate) fn accept_metadata(&self, reply: &HttpResponse) -> Result<Metadata, ProviderError> {
        let (issuer, addresses) = (&self.registration.issuer, &self.addresses);
        let body = reply.body();
        if let MetadataSource::Given(endpoints) = &self.registration.metadata {
            return metadata::given(endpoints, issuer, addresses);
        }
        metadata::accept(body, issuer, addresses).map_err(|error| match error {
            error if metadata::is_metadata(body) => error,
            _ if is_web_page(reply) => ProviderError::NotMetadata {
                cause: "it is a web page".to_owned(),
            },
            ProviderError::Malformed { cause, .. } => ProviderError::NotMetadata { cause },
            error => ProviderError::NotMetadata {
                cause: error.to_string(),
            },
        })
    }

    /// Reads a document.
    async fn read(&self, endpoint: Endpoint, url: &Url) -> Result<HttpResponse, ProviderError> {
        let reply = self.http.get(endpoint, url).await?;
        match reply.status().as_u16() {
            200 => Ok(reply),
            _ => Err(ProviderError::of_status(endpoint, &reply)),
        }
    }

    /// The keys that tokens are verified with.
    pub(crate) async fn keys(
        &self,
        metadata: &Metadata,
        now: OffsetDateTime,
    ) -> Result<Arc<KeySet>, ProviderError> {
        let purpose = KeyPurpose::ProviderReply;
        self.keys
            .keys(metadata.jwks_uri().url(), purpose, now)
            .await
    }

    /// The keys as they were last read, if they were.
    pub(crate) fn fetched_keys(&self) -> Option<key_cache::FetchedKeys> {
        self.keys.fetched()
    }

    /// Runs a check that needs the provider's keys. When it names a key that they do not hold, they are fetched once
    /// more, within the rate limit of the purpose, and the check runs again.
    ///
    /// # Errors
    ///
    /// When the check cannot be decided now: there are no keys; or a reply of the provider names a key that the known
    /// ones do not include, and whether the provider publishes it cannot be found out. For any request, which cannot
    /// cause more than one fetch in a while, the verdict by the known keys stands then.
    pub(crate) async fn with_keys<T, E>(
        &self,
        metadata: &Metadata,
        purpose: KeyPurpose,
        now: OffsetDateTime,
        check: impl Fn(&Arc<KeySet>) -> Result<T, E>,
        wants_other_keys: impl Fn(&E) -> bool,
    ) -> Result<Result<T, E>, ProviderError> {
        let jwks_uri = metadata.jwks_uri().url();
        let mut keys = self.keys.keys(jwks_uri, purpose, now).await?;
        let mut verdict = check(&keys);
        // Twice, because the first look may be that of an earlier fetch.
        for _ in 0..2 {
            if !matches!(&verdict, Err(error) if wants_other_keys(error)) {
                break;
            }
            let look = Box::pin(self.keys.look(&keys, jwks_uri, purpose, now));
            match look.await {
                Look::Newer(newer) => {
                    verdict = check(&newer);
                    keys = newer;
                }
                Look::Latest(latest) if Arc::ptr_eq(&latest, &keys) => break,
                Look::Latest(latest) => return Ok(check(&latest)),
                Look::NotNow(cause) if purpose == KeyPurpose::ProviderReply => return Err(cause),
                Look::NotNow(_) => break,
            }
        }
        Ok(verdict)
    }

    /// The algorithms an ID token may be signed with: as set, else as the metadata lists.
    pub(crate) fn id_token_algorithms(&self, metadata: &Metadata) -> Vec<SigningAlgorithm> {
        match &self.settings.id_token_signing_algs {
            Some(names) => names.iter().filter_map(|name| name.parse().ok()).collect(),
            None => metadata.additional_metadata().signing_algorithms().to_vec(),
        }
    }

    /// An ID token was accepted that is signed with this.
    pub(crate) fn id_token_accepted(&self, algorithm: SigningAlgorithm) {
        if self.last_algorithm.load().as_deref() != Some(&algorithm) {
            self.last_algorithm.store(Some(Arc::new(algorithm)));
        }
    }

    /// Whether an ID token was accepted since the launch.
    pub(crate) fn has_accepted_id_token(&self) -> bool {
        self.last_algorithm.load().is_some()
    }

    /// The algorithms that a logout token may be signed with: "the same as for ID tokens"
    /// ([Back-Channel Logout 1.0 §2.6]), which is one for each client (`id_token_signed_response_alg`). As set; else
    /// that of the last ID token; else the default of the standard, where the metadata lists it.
    ///
    /// [Back-Channel Logout 1.0 §2.6]: https://openid.net/specs/openid-connect-backchannel-1_0.html#Validation
    pub(crate) fn logout_token_algorithms(&self, metadata: &Metadata) -> Vec<SigningAlgorithm> {
        let listed = self.id_token_algorithms(metadata);
        if self.settings.id_token_signing_algs.is_some() {
            return listed;
        }
        let last = self.last_algorithm.load().as_deref().copied();
        let algorithm = last.unwrap_or(SigningAlgorithm::RS256);
        match last.is_some() || listed.contains(&algorithm) {
            true => vec![algorithm],
            false => listed,
        }
    }
}

/// Whether a reply is for browsers, by what it says of itself or by how it begins.
fn is_web_page(reply: &HttpResponse) -> bool {
    let kind = reply.headers().get(CONTENT_TYPE);
    let says_so = kind
        .and_then(|kind| kind.to_str().ok())
        .is_some_and(|kind| {
            kind.trim_start()
                .to_ascii_lowercase()
                .starts_with("text/html")
        });
    says_so || reply.body().trim_ascii_start().starts_with(b"<")
}
