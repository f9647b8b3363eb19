//! The resource server: which access tokens an API accepts, told from top to bottom.

mod accepted;
mod credentials;
mod error;
#[cfg(feature = "cli")]
mod examination;
mod protected_resource;
mod seen;

use std::{net::IpAddr, sync::Arc};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rocket::Request;
use time::OffsetDateTime;
use tracing::Instrument;
use url::Url;

pub(crate) use accepted::Accepted;
pub use accepted::BearerUserInfoError;
pub(crate) use credentials::bearer_token;
pub use error::BearerError;
#[cfg(feature = "cli")]
pub(crate) use examination::ExaminedField;
pub(crate) use protected_resource::{ProtectedResource, routes};
use seen::{SeenJwt, SeenTokens, TokenHash, Verdict};

use crate::{
    Clock, LaunchError, observing,
    provider::{Endpoint, IntrospectionEndpoint, KeyPurpose, Provider, ProviderError},
    settings::{MetadataSource, Settings, TokenValidation, TrustedProxies},
    token::{
        Accepts, AccessToken, AccessTokenExpectations, AllowedAlgorithms, BearerTokenError,
        ClaimPath, Claims, MAX_ACCESS_TOKEN, TESTING_ISSUER, UnverifiedAccessToken, excerpt,
        parts_of,
    },
};

/// The app in its role towards API clients: who accepts the provider's access tokens.
#[derive(Debug)]
pub(crate) struct ResourceServer {
    pub(crate) clock: Clock,
    pub(crate) protected_resource: ProtectedResource,
    source: Source,
    trusted_proxies: TrustedProxies,
    settings: Arc<Settings>,
    /// `None` when the setting `token_cache` says so.
    seen: Option<SeenTokens>,
}

/// Where tokens come from.
#[derive(Debug)]
enum Source {
    /// The provider first, then those of the setting `issuers`.
    Issuers(Vec<Arc<Issuer>>),
    /// `enabled = false`: one person, or nobody.
    TestingProfile(Option<Arc<Accepted>>),
}

/// One issuer of access tokens.
#[derive(Debug)]
pub(crate) struct Issuer {
    pub(crate) provider: Arc<Provider>,
    expected: AccessTokenExpectations,
}

impl ResourceServer {
    /// The role at this provider and at those of the setting `issuers`.
    pub(crate) fn new(
        provider: Arc<Provider>,
        base_url: Option<&Url>,
        settings: Arc<Settings>,
        clock: Clock,
    ) -> Result<ResourceServer, LaunchError> {
        let client_id = provider.registration.client_id.clone();
        let audience = settings.access_token_audience(&client_id);
        let expected = AccessTokenExpectations {
            issuer: provider.registration.issuer.clone(),
            audience,
            audience_claim: settings.audience_claim,
            introspection_needs_audience: settings.has_audience()
                && !settings.insecure_introspection_without_audience,
            client_id,
            accepts: settings.accepts,
            accepts_setting: "oidc.accepts".to_owned(),
            require_at_jwt: settings.require_at_jwt,
            roles: ClaimPath::parse_all(&settings.roles_claim),
            algorithms: settings.access_token_algorithms(),
            clock_skew: settings.clock_skew,
        };
        let mut issuers = vec![];
        for (name, other) in &settings.issuers {
            let registration = other.registration(&settings)?;
            let provider = Arc::new(Provider::new(registration, None, settings.clone())?);
            let paths = other.roles_claim.as_ref().unwrap_or(&settings.roles_claim);
            let expected = AccessTokenExpectations {
                issuer: other.issuer.clone(),
                audience: other.audience.clone(),
                audience_claim: other.audience_claim,
                accepts: other.accepts,
                accepts_setting: format!("oidc.issuers.{name}.accepts"),
                roles: ClaimPath::parse_all(paths),
                ..expected.clone()
            };
            issuers.push(Issuer { provider, expected });
        }
        issuers.insert(0, Issuer { provider, expected });

        // Without metadata, nobody is sent there for a token.
        let servers = issuers.iter().filter(|issuer| !issuer.has_keys_alone());
        let names = servers.map(|issuer| issuer.name().to_owned());
        let entries = settings.token_cache.entries();
        Ok(ResourceServer {
            clock,
            protected_resource: ProtectedResource::new(&settings, base_url, names.collect()),
            source: Source::Issuers(issuers.into_iter().map(Arc::new).collect()),
            seen: (entries > 0).then(|| SeenTokens::new(entries)),
            trusted_proxies: TrustedProxies::parse(&settings.trusted_proxies).unwrap_or_default(),
            settings,
        })
    }

    /// The role while `enabled = false`: no token is needed, and none can be checked.
    pub(crate) fn disabled(
        testing_profile: Option<&Claims>,
        settings: Arc<Settings>,
        clock: Clock,
    ) -> ResourceServer {
        let accepted = testing_profile.map(|claims| {
            let issuer = claims.get::<String>("iss");
            let token = AccessToken::of_testing_profile(
                claims,
                issuer.as_deref().unwrap_or(TESTING_ISSUER),
                &ClaimPath::parse_all(&settings.roles_claim),
            );
            Arc::new(Accepted::new(token, None))
        });
        ResourceServer {
            clock,
            protected_resource: ProtectedResource::new(&settings, None, vec![]),
            source: Source::TestingProfile(accepted),
            seen: None,
            trusted_proxies: TrustedProxies::default(),
            settings,
        }
    }

    /// What goes on beside the requests, from liftoff on.
    pub(crate) fn lift_off(&self) {
        if let Some(seen) = &self.seen {
            seen.begin_forgetting();
        }
    }

    /// The issuers whose tokens are accepted, the provider first; none while disabled.
    pub(crate) fn issuers(&self) -> &[Arc<Issuer>] {
        match &self.source {
            Source::Issuers(issuers) => issuers,
            Source::TestingProfile(_) => &[],
        }
    }

    /// What is relaxed about access tokens, a sentence each; with the other settings' if sign-in, which
    /// tells those, `is_left_out`.
    pub(crate) fn relaxations(&self, is_left_out: bool) -> Vec<String> {
        let mut lines = match is_left_out {
            true => self.settings.relaxations(),
            false => vec![],
        };
        if self
            .issuers()
            .iter()
            .any(|issuer| issuer.expected.audience_is_client_id())
        {
            lines.push(
                "`audience`: access tokens are accepted for the client id, which is also the audience \
                 of ID tokens; set it to an identifier of this API"
                    .to_owned(),
            );
        }
        lines
    }

    /// Accepts the token that a request carries, or says why not.
    pub(crate) async fn accept(&self, request: &Request<'_>) -> Result<Arc<Accepted>, BearerError> {
        let token = bearer_token(request.headers());
        let issuers = match &self.source {
            Source::Issuers(issuers) => issuers,
            Source::TestingProfile(profile) => {
                return match (token, profile) {
                    (Err(BearerError::Missing), Some(accepted)) => Ok(accepted.clone()),
                    (Ok(_), _) => Err(BearerTokenError::Disabled.into()),
                    (Err(error), _) => Err(error),
                };
            }
        };

        let token = token?;
        check_length(token)?;
        let now = self.clock.now();
        match self.is_read_here(token) {
            true => self.accept_jwt(issuers, token, now).await,
            false => match issuers.first() {
                Some(issuer) => {
                    let client = self.client(request);
                    self.accept_opaque(issuer, token, client, now).await
                }
                None => Err(BearerTokenError::Opaque.into()),
            },
        }
    }

    /// Whose calls to the provider are counted together.
    pub(crate) fn client(&self, request: &Request<'_>) -> Option<IpAddr> {
        let peer = request.remote().map(|peer| peer.ip());
        self.trusted_proxies.client(peer, request.real_ip())
    }

    /// Whether a token is a JWT to us, or the provider is asked about it.
    fn is_read_here(&self, token: &str) -> bool {
        match self.settings.token_validation {
            TokenValidation::Jwt => true,
            TokenValidation::Introspection => false,
            TokenValidation::Auto => is_jwt(token),
        }
    }

    /// Accepts a JWT that was seen before, as long as nothing has changed, else judges it.
    async fn accept_jwt(
        &self,
        issuers: &[Arc<Issuer>],
        token: &str,
        now: OffsetDateTime,
    ) -> Result<Arc<Accepted>, BearerError> {
        if let Some(seen) = &self.seen {
            let before = seen.jwt(token, now);
            observing::token_looked_up(before.is_some());
            if let Some(jwt) = before {
                let provider = &jwt.issuer.provider;
                let metadata = provider.metadata(now).await?;
                // With other keys, the signature is checked once more.
                if Arc::ptr_eq(&jwt.keys, &provider.keys(&metadata, now).await?) {
                    let signs_nobody_in = metadata.signs_nobody_in();
                    let expected = &jwt.issuer.expected;
                    jwt.accepted
                        .token
                        .check_again(expected, signs_nobody_in, now)?;
                    return Ok(jwt.accepted);
                }
            }
        }
        // Boxed, as all that a request seldom does.
        let judging = self.judge_jwt(issuers, token, now).instrument(span());
        let jwt = Box::pin(judging).await?;
        let accepted = jwt.accepted.clone();
        if let Some(seen) = &self.seen {
            seen.add_jwt(jwt, now);
        }
        Ok(accepted)
    }

    /// Judges a JWT: whose it is, then what costs nothing, then its signature.
    async fn judge_jwt(
        &self,
        issuers: &[Arc<Issuer>],
        token: &str,
        now: OffsetDateTime,
    ) -> Result<SeenJwt, BearerError> {
        let unverified = UnverifiedAccessToken::parse(token)?;
        let issuer = issuer_of(issuers, &unverified)?;

        let (provider, expected) = (&issuer.provider, &issuer.expected);
        let metadata = provider.metadata(now).await?;
        let algorithms = match &expected.algorithms {
            Some(algorithms) => AllowedAlgorithms::only(algorithms),
            None => AllowedAlgorithms {
                listed: metadata.signing_algorithms(),
                keys_name_more: true,
            },
        };
        let checked = unverified.check(expected, algorithms, metadata.signs_nobody_in(), now)?;
        let (verified, keys) = provider
            .with_keys(
                &metadata,
                KeyPurpose::AnyRequest,
                now,
                |keys| {
                    unverified
                        .check_signature(keys, algorithms)
                        .map(|verified| (verified, keys.clone()))
                },
                BearerTokenError::wants_fresh_keys,
            )
            .await??;

        let token = unverified.accept(checked, verified, expected)?;
        Ok(SeenJwt {
            accepted: Arc::new(Accepted::new(token, Some(issuer.clone()))),
            issuer: issuer.clone(),
            keys,
        })
    }

    /// Takes the provider's word on a token: what it said a short while ago, or what it says now.
    async fn accept_opaque(
        &self,
        issuer: &Arc<Issuer>,
        token: &str,
        client: Option<IpAddr>,
        now: OffsetDateTime,
    ) -> Result<Arc<Accepted>, BearerError> {
        let seen = self.seen.as_ref().map(|seen| (seen, TokenHash::of(token)));
        if let Some((seen, hash)) = &seen {
            let before = seen.verdict(hash, now).await;
            observing::token_looked_up(before.is_some());
            if let Some(verdict) = before {
                let accepted = verdict?;
                accepted.token.check_again(&issuer.expected, false, now)?;
                return Ok(accepted);
            }
        }
        let Some(endpoint) = introspection_endpoint(issuer, now).await? else {
            return Err(BearerTokenError::Opaque.into());
        };
        let asking = introspect(issuer, &endpoint, token, client, now).instrument(span());
        let verdict = match seen {
            Some((seen, hash)) => Box::pin(seen.verdict_by(hash, asking, now)).await,
            None => Box::pin(asking).await.map_err(Arc::new),
        };
        Ok(verdict.map_err(BearerError::Provider)??)
    }
}

fn check_length(token: &str) -> Result<(), BearerTokenError> {
    match token.len() > MAX_ACCESS_TOKEN {
        true => Err(BearerTokenError::TooLong {
            max: MAX_ACCESS_TOKEN,
            actual: token.len(),
        }),
        false => Ok(()),
    }
}

/// Whose keys a token is to be checked with.
fn issuer_of<'a>(
    issuers: &'a [Arc<Issuer>],
    token: &UnverifiedAccessToken<'_>,
) -> Result<&'a Arc<Issuer>, BearerTokenError> {
    let name = token.issuer()?;
    issuers
        .iter()
        .find(|issuer| issuer.name() == name)
        .ok_or_else(|| BearerTokenError::UnknownIssuer {
            expected: issuers.iter().map(|i| i.name().to_owned()).collect(),
            actual: excerpt(name),
        })
}

/// Whom to ask about a token, if there is somebody.
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

/// What the provider says about a token, judged.
async fn introspect(
    issuer: &Arc<Issuer>,
    endpoint: &IntrospectionEndpoint,
    token: &str,
    client: Option<IpAddr>,
    now: OffsetDateTime,
) -> Result<Verdict, ProviderError> {
    let asking = issuer.provider.introspect(endpoint, token, client, now);
    let body = asking.await?;
    let verdict = AccessToken::accept_introspection(token, &body, &issuer.expected, now);
    match verdict {
        Err(error) if error.is_about_the_reply() => Err(ProviderError::Malformed {
            endpoint: Endpoint::Introspection,
            cause: error.to_string(),
        }),
        verdict => Ok(verdict.map(|token| Arc::new(Accepted::new(token, Some(issuer.clone()))))),
    }
}

impl Issuer {
    pub(crate) fn name(&self) -> &str {
        &self.expected.issuer
    }

    pub(crate) fn audience(&self) -> &[String] {
        &self.expected.audience
    }

    /// What is accepted of it, as its settings say.
    pub(crate) fn accepts(&self) -> Accepts {
        self.expected.accepts
    }

    /// Whether the settings say where its keys are, and nothing else is known.
    fn has_keys_alone(&self) -> bool {
        matches!(
            self.provider.registration.metadata,
            MetadataSource::Keys { .. }
        )
    }
}

/// Of a decision that takes more than a look into the cache.
fn span() -> tracing::Span {
    tracing::debug_span!("bearer")
}

/// Whether a token is for us to read: three parts, of which the first is a JSON object.
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
