//! The relying party: sign-in and sign-out, told from top to bottom.

mod attempts;
mod claimed_attempts;
mod exchange;
mod logout;
mod refresh;

use std::{net::IpAddr, sync::Arc, time::Duration};

use thiserror::Error;
use time::OffsetDateTime;
use url::Url;

pub use self::refresh::RefreshError;
pub(crate) use self::{
    attempts::{Attempt, Attempts, Failure},
    exchange::{ExchangeOutcome, Exchanges, Turn},
    logout::{FrontChannelLogout, PostLogout, revoke_later, revoke_replaced},
    refresh::{Freshness, Refreshes},
};
use crate::{
    Clock, Secret,
    code_flow::{
        AttemptSecrets, AuthorizationResponse, BrowserId, ReturnTo, SignInAttempt,
        authorization_request,
    },
    cookies::Cookies,
    error::SignInError,
    events::AppEvents,
    observing,
    provider::{KeyPurpose, Metadata, Provider, RequestedBy, Tokens},
    session::{EarlierEnds, Session, SessionTokens, Sessions},
    settings::{Settings, Site, TrustedProxies},
    token::{ClaimSources, Claims, IdToken, IdTokenExpectations, TESTING_ISSUER},
};

/// The app in its role towards the provider: who sends people there and knows who came back.
///
/// It is managed state and a request guard, `&RelyingParty`, from which an app gets the addresses of
/// sign-in and sign-out:
///
/// ```
/// use rocket::{get, response::Redirect};
/// use rocket_openidconnect::RelyingParty;
///
/// #[get("/buy")]
/// fn buy(rp: &RelyingParty) -> Redirect {
///     Redirect::to(rp.login_url("/checkout?item=7"))
/// }
/// ```
#[derive(Clone, Debug)]
pub struct RelyingParty {
    pub(crate) site: Site,
    pub(crate) post_logout: PostLogout,
    pub(crate) clock: Clock,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) refreshes: Arc<Refreshes>,
    pub(crate) exchanges: Arc<Exchanges>,
    pub(crate) attempts: Arc<Attempts>,
    pub(crate) trusted_proxies: Arc<TrustedProxies>,
    pub(crate) cookies: Cookies,
    pub(crate) events: AppEvents,
    pub(crate) source: Source,
    pub(crate) settings: Arc<Settings>,
}

/// Where people come from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    Provider(Arc<Provider>),
    /// `enabled = false`: one person, or nobody.
    TestingProfile(Option<Claims>),
}

/// A sign-in that has begun.
pub(crate) struct BegunSignIn {
    /// Where to send the browser.
    pub(crate) url: Url,
    pub(crate) attempt: SignInAttempt,
    #[cfg_attr(
        not(feature = "testing"),
        allow(dead_code, reason = "read by tests of apps")
    )]
    pub(crate) secrets: AttemptSecrets,
    /// For a cookie of this attempt, if it needs one.
    pub(crate) details: Option<String>,
}

/// How much later than the provider issued a code this node sends it, at most, and what the clocks of a store
/// and of this node differ by in measuring so short a time.
const CODE_MARGIN: Duration = Duration::from_secs(2);

/// Why no session begins.
#[derive(Clone, Debug, Error)]
pub(crate) enum NotBegun {
    #[error(transparent)]
    Failed(#[from] SignInError),
    /// An end of the user's sessions may be meant for it. The next attempt knows all that are noted.
    #[error("the sessions of the user were ended while they signed in")]
    Ended(EarlierEnds),
}

impl From<NotBegun> for SignInError {
    fn from(error: NotBegun) -> SignInError {
        match error {
            NotBegun::Failed(error) => error,
            NotBegun::Ended(_) => SignInError::Ended,
        }
    }
}

impl Source {
    /// Issuer and client id.
    pub(crate) fn client(&self) -> (&str, &str) {
        match self {
            Source::Provider(provider) => {
                let registration = &provider.registration;
                (&registration.issuer, &registration.client_id)
            }
            Source::TestingProfile(_) => (TESTING_ISSUER, ""),
        }
    }
}

impl RelyingParty {
    /// The address that begins a sign-in and leads to `next` afterwards (Flask-OIDC's
    /// `redirect_to_auth_server`). A `next` that is not a path of this app leads to `/`.
    pub fn login_url(&self, next: &str) -> String {
        self.route_url("login", next)
    }

    /// The address of sign-out. A `GET` shows a page with a button; a `POST` signs out and leads to
    /// `next`.
    pub fn logout_url(&self, next: &str) -> String {
        self.route_url("logout", next)
    }

    /// Begins a sign-in of this browser: where to send it, and what it must bring back. `parameters` are for this
    /// authorization request, and override those of the settings.
    pub(crate) async fn begin_sign_in(
        &self,
        provider: &Arc<Provider>,
        browser: &BrowserId,
        mut attempt: SignInAttempt,
        parameters: &[(String, String)],
        client_address: Option<IpAddr>,
        now: OffsetDateTime,
    ) -> Result<BegunSignIn, SignInError> {
        let metadata = provider.metadata(now).await?;
        provider.keys_before_sign_in(&metadata, now).await?;
        let client = provider.client(&metadata)?;
        let max_length = self.settings.max_state_length;
        let (secrets, details) = attempt.encrypt(&self.cookies.keys, browser, max_length);
        let mut url = authorization_request(&client, &self.settings, &secrets, parameters);
        if let Some(endpoint) = provider.pushed_authorization_request_endpoint(&metadata)? {
            url = provider
                .push_authorization_request(&metadata, endpoint, &url, client_address, now)
                .await?;
        }
        Ok(BegunSignIn {
            url,
            attempt,
            secrets,
            details,
        })
    }

    /// Checks an authorization response, whose `state` is an attempt of this browser, and yields its code.
    pub(crate) async fn accept_response(
        &self,
        provider: &Arc<Provider>,
        response: AuthorizationResponse,
        now: OffsetDateTime,
    ) -> Result<Secret, SignInError> {
        let metadata = provider.metadata(now).await?;
        let announces_iss = metadata.authorization_response_iss_parameter_supported();
        response.accept(provider.registration.expected_issuer(), announces_iss)
    }

    /// Exchanges a code: tokens, ID token, UserInfo, each only when the one before holds. What was issued
    /// is revoked when it is not accepted. For callbacks see [`exchange_once`](Self::exchange_once).
    pub(crate) async fn exchange(
        &self,
        provider: &Arc<Provider>,
        attempt: &SignInAttempt,
        secrets: &AttemptSecrets,
        code: &Secret,
        now: OffsetDateTime,
    ) -> Result<(Session, SessionTokens), NotBegun> {
        let name = attempt.id.short_name();
        let step = |step| self.attempts.step(&name, step, self.clock.now());
        let metadata = provider.metadata(now).await.map_err(SignInError::from)?;
        let code_sent = self.clock.stopwatch();
        let tokens = provider
            .exchange_code(&metadata, code, &secrets.code_verifier, now)
            .await
            .map_err(SignInError::from)?;
        step("the code was exchanged for tokens");
        // The exchange may have taken long: an ID token is judged by the time at which it came.
        let now = self.clock.now();
        let sources = async {
            let id_token = self
                .accept_id_token(provider, &metadata, &secrets.nonce, &tokens, now)
                .await?;
            step("the ID token holds");
            let issuer: Arc<str> = id_token.issuer().into();
            let session_expiry = id_token.session_expiry;
            let since_code = || code_sent.elapsed().max(attempt.age(self.clock.now()));
            let ends = self
                .earlier_ends(&issuer, &id_token.claims, attempt, since_code)
                .await?;
            let sources = self
                .with_user_info(provider, &metadata, id_token, &tokens, now)
                .await?;
            step("UserInfo was asked, if there is any");
            Ok((issuer, sources, session_expiry, ends))
        };
        let sources: Result<_, NotBegun> = sources.await;
        let issuer = &provider.registration.issuer;
        let mut session = Session::new(issuer, Claims::default(), now);
        let old = SessionTokens::default();
        let mut tokens = self.session_tokens(tokens, &old, &mut session, now);
        match sources {
            Ok((issuer, sources, session_expiry, ends)) => {
                session.issuer = issuer;
                session.end_by(session_expiry);
                session.claims = sources.merged();
                observing::claims_by_reference(&session.claims);
                session.earlier_ends = ends;
                tokens.sources = sources;
                Ok((session, tokens))
            }
            Err(error) => {
                revoke_later(provider, Arc::new(tokens), now);
                Err(error)
            }
        }
    }

    /// The ends that are noted for the user of an ID token, none of which is meant for this sign-in: each was
    /// noted before the attempt began, or the attempt knows it.
    ///
    /// The provider may have issued the code before it ended the user's sessions. An attempt that is longer
    /// under way than by a monotonic clock since its code was sent is measured by the clocks of two nodes; so it
    /// is more careful if they agree, and never less if they do not.
    async fn earlier_ends(
        &self,
        issuer: &str,
        claims: &Claims,
        attempt: &SignInAttempt,
        since_code: impl FnOnce() -> Duration,
    ) -> Result<EarlierEnds, NotBegun> {
        let read = self.sessions.read_ends(issuer, claims, self.clock.now());
        let read = match read.await {
            Ok(read) => read,
            // Any that is there when the session begins counts as later then. The code is used up by now.
            Err(error) => {
                tracing::debug!("{error}; which sessions ended before a sign-in is not known");
                return Ok(EarlierEnds::default());
            }
        };
        let limit = since_code().saturating_add(CODE_MARGIN);
        match read.youngest_beside(&attempt.earlier_ends) {
            Some(age) if age <= limit => Err(NotBegun::Ended(read.ends)),
            _ => Ok(read.ends),
        }
    }

    /// The error of an attempt that took too long.
    pub(crate) fn expired(&self) -> SignInError {
        SignInError::Expired {
            timeout: self.settings.sign_in_timeout,
        }
    }

    /// Judges the ID token (OpenID Connect Core 1.0 §3.1.3.7).
    async fn accept_id_token(
        &self,
        provider: &Provider,
        metadata: &Metadata,
        nonce: &Secret,
        tokens: &Tokens,
        now: OffsetDateTime,
    ) -> Result<IdToken, SignInError> {
        let id_token = tokens
            .id_token
            .as_ref()
            .ok_or(SignInError::IdTokenMissing)?;
        let algorithms = provider.id_token_algorithms(metadata);
        let acr_values = self.settings.acr_values();
        let expected = IdTokenExpectations {
            issuer: provider.registration.expected_issuer(),
            client_id: &provider.registration.client_id,
            trusted_audiences: &self.settings.trusted_audiences,
            algorithms: &algorithms,
            client_secret: provider.registration.client_secret.as_ref(),
            nonce: Some(nonce),
            accepts_missing_nonce: self.settings.insecure_accept_missing_nonce,
            access_token: Some(&tokens.access_token),
            max_age: self.settings.max_age(),
            acr_values: &acr_values,
            clock_skew: self.settings.clock_skew,
        };

        let verdict = provider
            .with_keys(
                metadata,
                KeyPurpose::ProviderReply,
                now,
                |keys| IdToken::accept(id_token.expose(), keys, &expected, now),
                |error| error.wants_fresh_keys(),
            )
            .await?;
        let id_token = verdict?;
        provider.id_token_accepted(id_token.algorithm);
        Ok(id_token)
    }

    /// Adds what UserInfo says of the same person (OpenID Connect Core 1.0 §5.3).
    async fn with_user_info(
        &self,
        provider: &Arc<Provider>,
        metadata: &Metadata,
        id_token: IdToken,
        tokens: &Tokens,
        now: OffsetDateTime,
    ) -> Result<ClaimSources, SignInError> {
        let user_info = match self.settings.user_info_enabled {
            true => {
                let user = (id_token.issuer(), id_token.subject());
                let token = &tokens.access_token;
                let asked =
                    provider.user_info_about(metadata, user, token, RequestedBy::Session, now);
                match asked.await {
                    Err(error) if self.settings.user_info_optional && error.is_outage() => {
                        tracing::warn!(
                            reason = error.reason(),
                            "{error}; the sign-in goes on with the claims of the ID token (`user_info_optional`)"
                        );
                        None
                    }
                    asked => asked?,
                }
            }
            false => None,
        };
        Ok(ClaimSources::new(id_token.claims, user_info))
    }

    /// A local address as the person reads it, for this site.
    pub(crate) fn local_address(&self, address: &str) -> ReturnTo {
        ReturnTo::parse(address, &self.site.mount)
    }

    fn route_url(&self, route: &str, next: &str) -> String {
        let next = self.local_address(next);
        let query: String =
            url::form_urlencoded::byte_serialize(next.as_str().as_bytes()).collect();
        format!("{}?next={query}", self.route_path(route))
    }

    /// The path of one of our routes.
    pub(crate) fn route_path(&self, route: &str) -> String {
        format!("{}/{route}", self.site.mount.trim_end_matches('/'))
    }
}
