//! The resource server (RFC 6749 §1.1): decides which access tokens the app's APIs accept.

mod accepted;
mod active_tokens;
mod api;
mod certificate_header;
mod challenge;
mod client_certificate;
mod credentials;
mod dpop_nonces;
mod error;
#[cfg(feature = "cli")]
mod examination;
mod exchange;
mod possession;
mod proof_record;
mod protected_resource;
mod scheme;
mod token_cache;

use std::{
    collections::BTreeSet,
    net::IpAddr,
    sync::{Arc, OnceLock},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rocket::Request;
use thiserror::Error;
use time::OffsetDateTime;
use tracing::Instrument;
use url::Url;

pub(crate) use accepted::Accepted;
pub use accepted::BearerUserInfoError;
use active_tokens::ActiveTokens;
pub(crate) use api::Api;
#[cfg(feature = "__internals")]
pub(crate) use certificate_header::parse as parse_certificate_header;
pub use client_certificate::ClientCertificateError;
use client_certificate::ClientCertificates;
pub(crate) use credentials::{Credentials, credentials};
pub(crate) use dpop_nonces::DpopNonces;
pub use error::BearerError;
#[cfg(feature = "cli")]
pub(crate) use examination::ExaminedField;
use exchange::ExchangedTokens;
use possession::Possession;
pub(crate) use possession::{Proofs, note_head};
pub(crate) use proof_record::ProofRecord;
#[cfg(feature = "cli")]
pub(crate) use protected_resource::metadata_urls;
pub(crate) use protected_resource::routes;
use protected_resource::{ApiGuards, ProtectedResource};
pub(crate) use scheme::Scheme;
use token_cache::{CachedJwt, TokenCache, TokenHash, Verdict};

#[cfg(feature = "testing")]
use crate::settings::CertificateFormat;
use crate::{
    clock::Clock,
    observing::{self, Throttle},
    printable::excerpt,
    provider::{Endpoint, IntrospectionEndpoint, KeyPurpose, Provider, ProviderError},
    scopes::Demand,
    settings::{
        InsecureSetting, IssuerSettings, MetadataSource, ProviderKind, Settings, SettingsError, TokenValidation,
        TrustedProxies,
    },
    token::{
        Accepts, AccessToken, AccessTokenError, AccessTokenExpectations, AllowedAlgorithms, Certificate, Claims,
        GroupPaths, MAX_ACCESS_TOKEN, TESTING_ISSUER, Tenants, UnverifiedAccessToken, parts_of,
    },
};

/// The error when the settings give no resource server.
#[derive(Debug, Error)]
pub(crate) enum NotConfigured {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Provider(#[from] ProviderError),
}

/// The resource server role of the app: accepts access tokens that API clients send.
#[derive(Debug)]
pub(crate) struct ResourceServer {
    pub(crate) clock: Clock,
    /// Limits how often the log reports rejected requests.
    pub(crate) throttle: Throttle,
    /// First the app's own API, for guards that name none; then those of the setting `apis`.
    apis: Vec<Api>,
    source: Source,
    trusted_proxies: TrustedProxies,
    /// `None` if only bearer tokens are accepted.
    possession: Option<Possession>,
    /// `None` if no request has a client certificate.
    certificates: Option<ClientCertificates>,
    settings: Arc<Settings>,
}

/// The source of access tokens.
#[derive(Debug)]
enum Source {
    /// The provider, and the issuers of the setting `issuers`.
    Issuers,
    /// `enabled = false`: the testing profile, or `None` without one.
    TestingProfile(Option<Arc<Accepted>>),
}

/// The guards in the app's routes, for each of its APIs.
pub(crate) struct Guards(Vec<ApiGuards>);

/// One issuer of access tokens.
#[derive(Debug)]
pub(crate) struct Issuer {
    pub(crate) provider: Arc<Provider>,
    /// Whether tokens can be introspected at it, which needs client credentials there.
    is_introspected: bool,
    /// Whether clients get tokens for this API there, at endpoints that its metadata names.
    is_authorization_server: bool,
    expected: AccessTokenExpectations,
    /// The tokens in exchange for its own; made at the first one.
    exchanged: OnceLock<ExchangedTokens>,
}

impl ResourceServer {
    /// The resource server for tokens of the app's providers, usually one, and of those in the setting `issuers`. Without
    /// `proofs`, or without `base_url`, it accepts bearer tokens only.
    pub(crate) fn new(
        own: Vec<Arc<Provider>>,
        base_url: Option<&Url>,
        settings: Arc<Settings>,
        clock: Clock,
        proofs: Option<Proofs>,
    ) -> Result<ResourceServer, NotConfigured> {
        // GitHub's access tokens are not issued for one API: any of its apps could use its own here.
        let is_openid = |provider: &Arc<Provider>| provider.registration.kind() == ProviderKind::OpenIdConnect;
        let own = own.into_iter().filter(is_openid);
        let mut providers: Vec<_> = own.map(|provider| (provider, None)).collect();
        for (name, other) in &settings.issuers {
            let registration = other.registration(name, &settings)?;
            let provider = Arc::new(Provider::new(registration, None, settings.clone())?);
            providers.push((provider, Some((name.as_str(), other))));
        }
        let mut apis = vec![Api::unnamed(&providers, base_url, &settings)];
        for (name, api) in &settings.apis {
            apis.push(Api::named(name, api, &providers, &settings));
        }
        let resources = settings.apis.values().map(|api| &api.resource);
        let resources = settings.resource.iter().chain(resources);
        let possession = base_url
            .zip(proofs)
            .map(|(base_url, proofs)| Possession::new(base_url, resources, &settings, proofs));
        Ok(ResourceServer {
            clock,
            throttle: Throttle::default(),
            apis,
            source: Source::Issuers,
            trusted_proxies: TrustedProxies::new(&settings.trusted_proxies),
            possession,
            certificates: ClientCertificates::new(&settings.client_certificate),
            settings,
        })
    }

    /// The resource server while `enabled = false`: requests without a token get the testing profile,
    /// tokens are rejected.
    pub(crate) fn disabled(testing_profile: Option<&Claims>, settings: Arc<Settings>, clock: Clock) -> ResourceServer {
        let accepted = testing_profile.map(|claims| {
            let issuer = claims.get::<String>("iss");
            let token = AccessToken::of_testing_profile(
                claims,
                issuer.as_deref().unwrap_or(TESTING_ISSUER),
                settings.group_paths(),
            );
            Arc::new(Accepted::new(token, None))
        });
        let names = settings.apis.keys().map(Some);
        let apis = std::iter::once(None).chain(names);
        ResourceServer {
            clock,
            throttle: Throttle::default(),
            apis: apis.map(|name| Api::disabled(name, &settings)).collect(),
            source: Source::TestingProfile(accepted),
            trusted_proxies: TrustedProxies::new(&settings.trusted_proxies),
            possession: None,
            certificates: None,
            settings,
        }
    }

    /// The guards in the app's routes, as they are found.
    pub(crate) fn guards(&self) -> Guards {
        let apis = self.apis.iter();
        Guards(apis.map(|api| api.protected_resource.guards()).collect())
    }

    /// Lists the scopes of all guards of the app, which another resource server of it collects.
    pub(crate) fn share_guards(&self, guards: &Guards) {
        for (own, guards) in self.apis.iter().zip(&guards.0) {
            own.protected_resource.share_guards(guards);
        }
    }

    /// The app's own provider, the first of the issuers of its own API; `None` while `enabled = false`.
    pub(crate) fn own_provider(&self) -> Option<&Arc<Provider>> {
        let issuer = self.apis.first()?.issuers().first()?;
        Some(&issuer.provider)
    }

    /// Whether tokens are verified with the keys of their issuers.
    pub(crate) fn needs_keys(&self) -> bool {
        self.settings.token_validation != TokenValidation::Introspection
    }

    /// The app's APIs, its own first.
    pub(crate) fn apis(&self) -> &[Api] {
        &self.apis
    }

    /// The providers at which clients get tokens for the app's APIs, each once, in the order of the settings.
    pub(crate) fn authorization_servers(&self) -> Vec<&Arc<Provider>> {
        let mut found: Vec<&Arc<Provider>> = vec![];
        let issuers = self.apis.iter().flat_map(Api::issuers);
        for issuer in issuers.filter(|issuer| issuer.is_authorization_server) {
            if !found.iter().any(|provider| Arc::ptr_eq(provider, &issuer.provider)) {
                found.push(&issuer.provider);
            }
        }
        found
    }

    /// The scopes of all of the app's APIs, sorted.
    pub(crate) fn scopes_supported(&self) -> BTreeSet<String> {
        let resources = self.apis.iter().map(|api| &api.protected_resource);
        resources.flat_map(ProtectedResource::scopes_supported).collect()
    }

    /// The API of this name; without a name, the app's own.
    pub(crate) fn api(&self, name: Option<&str>) -> Option<&Api> {
        self.apis.iter().find(|api| api.name() == name)
    }

    /// Whether the access tokens of the app's provider are never accepted.
    pub(crate) fn has_no_tokens_of_provider(&self) -> bool {
        self.settings.provider_kind() == ProviderKind::GitHub
    }

    pub(crate) fn is_disabled(&self) -> bool {
        matches!(self.source, Source::TestingProfile(_))
    }

    /// Whether tokens that are bound to a key are accepted, with a proof.
    pub(crate) fn accepts_proofs(&self) -> bool {
        self.possession.is_some()
    }

    /// Whether tokens that are bound to a client certificate are accepted, with that certificate.
    pub(crate) fn accepts_certificates(&self) -> bool {
        self.certificates.is_some()
    }

    /// Whether tokens that are bound to a key or a client certificate are accepted.
    pub(crate) fn accepts_bound_tokens(&self) -> bool {
        self.accepts_proofs() || self.accepts_certificates()
    }

    /// A trusted proxy, and the header in which it reports a client certificate.
    #[cfg(feature = "testing")]
    pub(crate) fn certificate_header(&self) -> Option<(&str, CertificateFormat, Option<IpAddr>)> {
        self.certificates.as_ref()?.sample()
    }

    /// What the app does about proofs, for the report at liftoff; `None` if it accepts none.
    pub(crate) fn describe_proofs(&self) -> Option<&'static str> {
        let possession = self.possession.as_ref()?;
        Some(match (possession.is_required, possession.proofs.record.is_shared()) {
            (false, true) => "accepted; all nodes know which proofs were used",
            (true, true) => "required; all nodes know which proofs were used",
            (false, false) => {
                "accepted; other nodes do not know which proofs were used here, without `session.store_url`"
            }
            (true, false) => {
                "required; other nodes do not know which proofs were used here, without `session.store_url`"
            }
        })
    }

    /// Where client certificates come from, for the report at liftoff; `None` if from nowhere.
    pub(crate) fn describe_certificates(&self) -> Option<String> {
        let from = self.certificates.as_ref()?.describe();
        let required = if self.settings.require_bound_tokens {
            "; bound tokens are required"
        } else {
            ""
        };
        Some(format!("{from}{required}"))
    }

    /// What a proof for a request must have: method, URI, and a nonce if one is demanded; `None` if no proof is accepted.
    #[cfg(feature = "testing")]
    pub(crate) fn expected_proof<'r>(&self, request: &'r Request<'_>) -> Option<(&'r str, String, Option<String>)> {
        let possession = self.possession.as_ref()?;
        let target = possession.targets(request).into_iter().next()?;
        let nonces = possession.proofs.nonces.as_ref();
        let nonce = nonces.map(|nonces| nonces.issue(self.clock.now()));
        Some((request.method().as_str(), target.to_string(), nonce))
    }

    /// The nonce for the response to a request, where proofs need one: for a request with a proof, or one that is
    /// refused.
    pub(crate) fn nonce_for(&self, request: &Request<'_>, is_refused: bool) -> Option<String> {
        let nonces = self.possession.as_ref()?.proofs.nonces.as_ref()?;
        let is_wanted = is_refused || self.scheme(request) == Scheme::Dpop;
        is_wanted.then(|| nonces.issue(self.clock.now()))
    }

    /// The values of `WWW-Authenticate` for this error; empty if a token would not help.
    pub(crate) fn challenges(&self, error: &BearerError, demand: Demand, request: &Request<'_>) -> Vec<String> {
        let api = self.api(demand.api);
        api.map_or_else(Vec::new, |api| {
            api.protected_resource.challenges(error, demand, self.scheme(request))
        })
    }

    /// The token of a request.
    fn credentials<'r>(&self, request: &'r Request<'_>) -> Result<Credentials<'r>, BearerError> {
        credentials(request.headers(), self.accepts_proofs())
    }

    /// The scheme of a request; `Bearer` without one.
    fn scheme(&self, request: &Request<'_>) -> Scheme {
        self.credentials(request).map_or(Scheme::Bearer, |found| found.scheme)
    }

    /// The insecure settings about access tokens. If `is_left_out`, sign-in is off and does not report the others, so
    /// that they are included.
    pub(crate) fn insecure_settings(&self, is_left_out: bool) -> Vec<InsecureSetting> {
        let mut found = if is_left_out {
            self.settings.insecure_settings()
        } else {
            vec![]
        };
        let mut issuers = self.apis.iter().flat_map(Api::issuers);
        if issuers.any(|issuer| issuer.expected.audience_is_client_id()) {
            let risk = "access tokens are accepted for the client id, which is also the audience \
                        of ID tokens; set it to an identifier of this API";
            found.push(InsecureSetting {
                setting: "audience".into(),
                risk: risk.to_owned(),
            });
        }
        found
    }

    /// Accepts the access token of a request to this API, or returns why it is rejected.
    pub(crate) async fn accept(&self, demand: Demand, request: &Request<'_>) -> Result<Arc<Accepted>, BearerError> {
        let credentials = self.credentials(request);
        if let Source::TestingProfile(profile) = &self.source {
            return match (credentials, profile) {
                (Err(BearerError::Missing), Some(accepted)) => Ok(accepted.clone()),
                (Ok(_), _) => Err(AccessTokenError::Disabled.into()),
                (Err(error), _) => Err(error),
            };
        }
        let api = self.api(demand.api).ok_or(BearerError::NoApi)?;

        let Credentials { scheme, token } = credentials?;
        let needs_binding = demand.needs_binding || self.settings.require_bound_tokens;
        let needs_proof = match &self.possession {
            Some(possession) if possession.is_required => true,
            _ => needs_binding && !self.accepts_certificates(),
        };
        if needs_proof && scheme == Scheme::Bearer {
            return Err(AccessTokenError::ProofRequired.into());
        }
        check_length(token)?;
        let certificate = self.client_certificate(request).await?;
        let now = self.clock.now();
        let accepted = if self.is_validated_locally(token) {
            self.accept_jwt(api, token, request, now).await?
        } else {
            match api.introspection_issuer() {
                Some(issuer) => {
                    let client = self.client(request);
                    self.accept_opaque(api, issuer, token, client, now).await?
                }
                None => return Err(AccessTokenError::Opaque.into()),
            }
        };
        // Never cached with the token: what this request proves says nothing about another one.
        if needs_binding && !accepted.token.confirmation.is_bound() {
            return Err(AccessTokenError::BindingRequired.into());
        }
        // Before the proof, which is used once.
        accepted.token.check_certificate(certificate.as_ref())?;
        match (scheme, &self.possession) {
            (Scheme::Dpop, Some(possession)) => possession.check(&accepted.token, request, now).await?,
            (Scheme::Bearer, _) | (Scheme::Dpop, None) => accepted.token.check_possession(None)?,
        }
        Ok(accepted)
    }

    /// The client certificate of a request, if it has one.
    async fn client_certificate(&self, request: &Request<'_>) -> Result<Option<Certificate>, BearerError> {
        match &self.certificates {
            Some(certificates) => certificates.find(request).await.map_err(BearerError::Certificate),
            None => Ok(None),
        }
    }

    /// The issuer whose settings apply to a request to this API, as the settings name it.
    pub(crate) fn issuer_of(&self, api: Option<&str>, request: &Request<'_>) -> Option<&str> {
        let api = self.api(api)?;
        let token = self.credentials(request).ok()?.token;
        check_length(token).ok()?;
        let issuer = if self.is_validated_locally(token) {
            issuer_of(&api.issuers, &UnverifiedAccessToken::parse(token).ok()?).ok()?
        } else {
            api.introspection_issuer()?
        };
        Some(issuer.name())
    }

    /// The IP address of the client, under which its calls to the provider are rate limited.
    pub(crate) fn client(&self, request: &Request<'_>) -> Option<IpAddr> {
        let peer = request.remote().map(|peer| peer.ip());
        self.trusted_proxies.client(peer, request.real_ip())
    }

    /// The address that a request came from, for audits: the socket's peer, or what it reports if it is a trusted proxy.
    pub(crate) fn address_of(&self, request: &Request<'_>) -> Option<IpAddr> {
        let peer = request.remote().map(|peer| peer.ip());
        self.trusted_proxies.address(peer, request.real_ip())
    }

    /// Whether no proxy is named that reports the addresses of clients.
    pub(crate) fn trusts_no_proxy(&self) -> bool {
        self.trusted_proxies.is_empty()
    }

    /// Whether a token is validated as a JWT here. If not, it is introspected.
    fn is_validated_locally(&self, token: &str) -> bool {
        match self.settings.token_validation {
            TokenValidation::Jwt => true,
            TokenValidation::Introspection => false,
            TokenValidation::Auto => is_jwt(token),
        }
    }

    /// Accepts a cached JWT if it is still valid and the keys are the same; else verifies it and caches it.
    async fn accept_jwt(
        &self,
        api: &Api,
        token: &str,
        request: &Request<'_>,
        now: OffsetDateTime,
    ) -> Result<Arc<Accepted>, BearerError> {
        if let Some(cache) = &api.cache {
            let cached = cache.jwt(token, now);
            observing::token_looked_up(cached.is_some());
            if let Some(jwt) = cached {
                let provider = &jwt.issuer.provider;
                let metadata = provider.metadata(now).await?;
                // If the keys have changed, the signature is verified again.
                if Arc::ptr_eq(&jwt.keys, &provider.keys(&metadata, now).await?) {
                    let signs_nobody_in = metadata.issues_only_identity_tokens;
                    let expected = &jwt.issuer.expected;
                    jwt.accepted.token.check_again(expected, signs_nobody_in, now)?;
                    return Ok(jwt.accepted);
                }
            }
        }
        // Boxed to keep the future small: this path is rare.
        let client = self.client(request);
        let verification = self.verify_jwt(&api.issuers, token, client, now);
        let jwt = Box::pin(verification.instrument(span())).await?;
        let accepted = jwt.accepted.clone();
        if let Some(cache) = &api.cache {
            cache.add_jwt(jwt, now);
        }
        Ok(accepted)
    }

    /// Verifies a JWT: finds its issuer, checks the claims, and verifies the signature last, because it costs most.
    async fn verify_jwt(
        &self,
        issuers: &[Arc<Issuer>],
        token: &str,
        client: Option<IpAddr>,
        now: OffsetDateTime,
    ) -> Result<CachedJwt, BearerError> {
        let unverified = UnverifiedAccessToken::parse(token)?;
        let issuer = issuer_of(issuers, &unverified)?;

        let (provider, expected) = (&issuer.provider, &issuer.expected);
        let metadata = provider.metadata(now).await?;
        let algorithms = match &expected.algorithms {
            Some(algorithms) => AllowedAlgorithms::only(algorithms),
            None => AllowedAlgorithms {
                listed: metadata.signing_algorithms(),
                allows_alg_of_key: true,
            },
        };
        let checked = unverified.check(expected, algorithms, metadata.issues_only_identity_tokens, now)?;
        let (verified, keys) = provider
            .with_keys(
                &metadata,
                KeyPurpose::AnyRequest(client),
                now,
                |keys| {
                    unverified
                        .check_signature(keys, algorithms, expected)
                        .map(|verified| (verified, keys.clone()))
                },
                AccessTokenError::wants_fresh_keys,
            )
            .await??;

        let token = unverified.accept(checked, verified, expected)?;
        Ok(CachedJwt {
            accepted: Arc::new(Accepted::new(token, Some(issuer.clone()))),
            issuer: issuer.clone(),
            keys,
        })
    }

    /// Accepts a token by its cached introspection result, or introspects it.
    async fn accept_opaque(
        &self,
        api: &Api,
        issuer: &Arc<Issuer>,
        token: &str,
        client: Option<IpAddr>,
        now: OffsetDateTime,
    ) -> Result<Arc<Accepted>, BearerError> {
        let hash = TokenHash::of(token);
        if let Some(cache) = &api.cache {
            let cached = cache.verdict(&hash, now).await;
            observing::token_looked_up(cached.is_some());
            if let Some(verdict) = cached {
                let accepted = verdict?;
                accepted.token.check_again(&issuer.expected, false, now)?;
                return Ok(accepted);
            }
        }
        let Some(endpoint) = introspection_endpoint(issuer, now).await? else {
            return Err(AccessTokenError::Opaque.into());
        };
        let introspection = async {
            let was_active = api.active.has(&hash, now);
            let asked = introspect(issuer, &endpoint, token, was_active, client, now);
            let verdict = asked.instrument(span()).await?;
            match &verdict {
                Ok(accepted) => {
                    let until = accepted.token.ends_by(ActiveTokens::latest(now));
                    api.active.add(hash, until);
                }
                Err(_) => api.active.remove(&hash),
            }
            Ok(verdict)
        };
        let verdict = match &api.cache {
            Some(cache) => Box::pin(cache.verdict_or_introspect(hash, introspection, now)).await,
            None => Box::pin(introspection).await.map_err(Arc::new),
        };
        Ok(verdict.map_err(BearerError::Provider)??)
    }
}

fn check_length(token: &str) -> Result<(), AccessTokenError> {
    if token.len() > MAX_ACCESS_TOKEN {
        Err(AccessTokenError::TooLong {
            max: MAX_ACCESS_TOKEN,
            actual: token.len(),
        })
    } else {
        Ok(())
    }
}

/// The issuer whose keys verify this token.
fn issuer_of<'a>(
    issuers: &'a [Arc<Issuer>],
    token: &UnverifiedAccessToken<'_>,
) -> Result<&'a Arc<Issuer>, AccessTokenError> {
    let name = token.issuer()?;
    let is_named = issuers.iter().find(|issuer| issuer.name() == name);
    // An exact match takes precedence over a template that matches.
    is_named
        .or_else(|| {
            let mut issuers = issuers.iter();
            issuers.find(|issuer| issuer.expected.issuer().is_origin_of(name))
        })
        .ok_or_else(|| AccessTokenError::UnknownIssuer {
            expected: issuers.iter().map(|i| i.name().to_owned()).collect(),
            actual: excerpt(name),
        })
}

/// The introspection endpoint of an issuer, if it has one.
async fn introspection_endpoint(
    issuer: &Issuer,
    now: OffsetDateTime,
) -> Result<Option<IntrospectionEndpoint>, ProviderError> {
    let provider = &issuer.provider;
    let metadata = match provider.registration.introspection_endpoint {
        Some(_) => None,
        None => Some(provider.metadata(now).await?),
    };
    Ok(provider.introspection_endpoint(metadata.as_deref()))
}

/// Introspects a token and checks the response.
async fn introspect(
    issuer: &Arc<Issuer>,
    endpoint: &IntrospectionEndpoint,
    token: &str,
    was_active: bool,
    client: Option<IpAddr>,
    now: OffsetDateTime,
) -> Result<Verdict, ProviderError> {
    let provider = &issuer.provider;
    let introspection = provider.introspect(endpoint, token, was_active, client, now);
    let body = introspection.await?;
    let verdict = AccessToken::accept_introspection(token, &body, &issuer.expected, now);
    match verdict {
        Err(error) if error.is_about_response() => Err(ProviderError::Malformed {
            endpoint: Endpoint::Introspection,
            cause: error.to_string(),
        }),
        verdict => Ok(verdict.map(|token| Arc::new(Accepted::new(token, Some(issuer.clone()))))),
    }
}

impl Issuer {
    /// An issuer for one API. `other` is the name and the table of an entry of the setting `issuers`; `None` is the
    /// provider at which the client is registered.
    fn new(
        provider: Arc<Provider>,
        other: Option<(&str, &IssuerSettings)>,
        audience: Vec<String>,
        introspection_needs_audience: bool,
        client_id: &str,
        is_introspected: bool,
    ) -> Issuer {
        let (registration, settings) = (&provider.registration, &provider.settings);
        let roles = other.and_then(|(_, other)| other.roles_claim.as_ref());
        let tenants = other.map_or(&settings.tenants, |(_, other)| &other.tenants);
        Issuer {
            is_introspected: is_introspected && registration.may_introspect(settings),
            is_authorization_server: false,
            exchanged: OnceLock::new(),
            expected: AccessTokenExpectations {
                issuer: registration.issuer.clone(),
                tenants: registration.tenants.clone(),
                audience,
                audience_claim: other.map_or(settings.audience_claim, |(_, other)| other.audience_claim),
                introspection_needs_audience,
                client_id: client_id.to_owned(),
                accepts: other.map_or(settings.accepts, |(_, other)| other.accepts),
                accepts_setting: match other {
                    Some((name, _)) => format!("oidc.issuers.{name}.accepts"),
                    None => settings.key("accepts"),
                },
                require_at_jwt: settings.require_at_jwt,
                group_paths: {
                    let (groups, of_app): (&[_], &[_]) = if settings.counts_groups_of(tenants) {
                        (&settings.groups_claim, &settings.roles_claim)
                    } else {
                        (&[], &[])
                    };
                    Arc::new(GroupPaths::new(groups, roles.map_or(of_app, Vec::as_slice)))
                },
                algorithms: settings.access_token_signing_algs.clone(),
                clock_skew: settings.clock_skew,
            },
            provider,
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.expected.issuer
    }

    /// The issuers at which clients get tokens. For a template: the listed tenants and, where every organisation is
    /// accepted, the authority that serves the shared metadata.
    fn authorization_servers(&self) -> Vec<String> {
        let issuer = self.expected.issuer();
        let every = issuer.is_template()
            && self
                .expected
                .tenants
                .as_ref()
                .is_some_and(Tenants::has_every_organisation);
        let shared = match &self.provider.registration.metadata {
            MetadataSource::Discovery { url } if every => url.as_str(),
            _ => "",
        };
        let shared = shared.strip_suffix("/.well-known/openid-configuration");
        let mut servers: Vec<_> = shared.map(str::to_owned).into_iter().collect();
        servers.extend(issuer.listed());
        servers
    }

    pub(crate) fn audience(&self) -> &[String] {
        &self.expected.audience
    }

    /// Which kinds of tokens its settings accept.
    pub(crate) fn accepts(&self) -> Accepts {
        self.expected.accepts
    }

    /// Whether the settings name only its `jwks_uri`, so that there is no metadata.
    fn has_only_keys(&self) -> bool {
        matches!(self.provider.registration.metadata, MetadataSource::Keys { .. })
    }
}

/// The tracing span of a token verification on a cache miss.
fn span() -> tracing::Span {
    tracing::debug_span!("bearer")
}

/// Whether a token looks like a JWT: three parts, of which the first is a JSON object.
fn is_jwt(token: &str) -> bool {
    let is_object = |header: &str| {
        // `{"` in base64url.
        header.starts_with("eyJ")
            || URL_SAFE_NO_PAD
                .decode(header)
                .is_ok_and(|header| header.first() == Some(&b'{'))
    };
    parts_of(token).is_some_and(|[header, ..]| is_object(header))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_by_their_shape() {
        assert!(is_jwt("eyJhbGciOiJub25lIn0.e30."));
        assert!(is_jwt("eyJhbGciOiJSUzI1NiJ9.e30.AAAA"));
        for opaque in [
            "",
            "opaque",
            "eyJhbGciOiJub25lIn0.e30",
            "eyJhbGciOiJub25lIn0.e30.AAAA.AAAA.AAAA",
            "ya29.a0Af.xyz",
            "..",
        ] {
            assert!(!is_jwt(opaque), "{opaque}");
        }
    }
}
