//! The sign-in flow: the attempt, the exchange of the code, the ID token, UserInfo, the app's event handler and the
//! session.
//!
//! A route calls [`begin_sign_in`](Client::begin_sign_in), and when the browser comes back
//! [`accept_response`](Client::accept_response) and [`complete`](Client::complete).

use std::{net::IpAddr, sync::Arc, time::Duration};

use rocket::{Request, http::CookieJar};
use time::OffsetDateTime;
use url::Url;

use super::{
    Client, NoProvider, NotBegun, RelyingParty, SignInError, User, audited,
    events::NewSignIn,
    exchange::{BegunSession, ExchangeOutcome},
    revocations::revoke_failed,
    who_of,
};
use crate::{
    audit::{AuditEvent, Who},
    code_flow::{
        AcceptedResponse, AttemptSecrets, AuthorizationResponse, BrowserId, ReturnTo, SignInAttempt, SignInParameters,
        UnverifiedUser, authorization_request,
    },
    observing,
    provider::{KeyPurpose, Metadata, RequestedBy, Tokens},
    secret::Secret,
    session::{
        BeginError, CurrentSession, EarlierEnds, Session, SessionChange, SessionTokens, UserKind, store::StoreError,
        while_signing_in,
    },
    token::{ClaimSources, Claims, IdToken, IdTokenExpectations, ProofKey, SigningAlgorithm},
};

/// A sign-in that has begun.
pub(crate) struct BegunSignIn {
    /// The authorization request URL to which the browser is redirected.
    pub(crate) url: Url,
    pub(crate) attempt: SignInAttempt,
    #[cfg_attr(not(feature = "testing"), allow(dead_code, reason = "read by tests of apps"))]
    pub(crate) secrets: AttemptSecrets,
    /// The value of a cookie for this attempt, if it needs one.
    pub(crate) details: Option<String>,
}

/// The maximum delay between the provider issuing a code and this node sending it, plus the clock difference between
/// a store and this node over so short a time.
const CODE_MARGIN: Duration = Duration::from_secs(2);

/// An accepted authorization response to an attempt of this browser.
pub(crate) struct Callback<'a> {
    pub(crate) attempt: &'a SignInAttempt,
    pub(crate) secrets: AttemptSecrets,
    pub(crate) response: AcceptedResponse,
    pub(crate) client_address: Option<IpAddr>,
}

/// A completed sign-in.
pub(crate) enum Completed {
    /// This callback began the session.
    Now(BegunSession),
    /// An identical callback began the session before.
    Before(BegunSession),
    /// An identical callback came before, and its session is not available any more.
    Late,
}

/// A sign-in whose tokens are verified, before the app has accepted it.
struct VerifiedSignIn {
    session: Session,
    tokens: SessionTokens,
    unverified_user: Option<UnverifiedUser>,
}

/// The user of a session that has not begun.
fn who_of_new(session: &Session) -> Who<'_> {
    Who {
        provider: Some(&session.provider),
        issuer: Some(&session.issuer),
        subject: Some(session.subject()),
        session: None,
    }
}

/// What the attempt asked for beside the settings.
pub(super) fn asked_of(attempt: &SignInAttempt) -> Result<&SignInParameters, SignInError> {
    attempt.parameters.as_ref().ok_or(SignInError::ParametersMissing)
}

impl Client<'_> {
    /// Begins a sign-in of this browser and builds the authorization request.
    pub(crate) async fn begin_sign_in(
        &self,
        browser: &BrowserId,
        mut attempt: SignInAttempt,
        client_address: Option<IpAddr>,
        now: OffsetDateTime,
    ) -> Result<BegunSignIn, SignInError> {
        self.asked_acr_values(asked_of(&attempt)?)?;
        self.check_demands(asked_of(&attempt)?)?;
        let metadata = self.provider.metadata(now).await?;
        self.provider.keys_before_sign_in(&metadata, now).await?;
        let client = self.provider.client(&metadata)?;
        let max_length = self.settings.max_state_length;
        attempt.proof_algorithm = self.provider.proof_algorithm(&metadata)?;
        let (secrets, details) = attempt.encrypt(&self.cookies.keys, browser, max_length);
        let key = attempt.proof_algorithm.map(|algorithm| secrets.proof_key(algorithm));
        let asked = asked_of(&attempt)?;
        let mut url = authorization_request(&client, &self.settings, &secrets, asked, key.as_ref());
        if let Some(endpoint) = self.provider.pushed_authorization_request_endpoint(&metadata)? {
            url = self
                .provider
                .push_authorization_request(&metadata, endpoint, &url, key.as_ref(), client_address, now)
                .await?;
        }
        Ok(BegunSignIn {
            url,
            attempt,
            secrets,
            details,
        })
    }

    /// Validates an authorization response, whose `state` is an attempt of this browser.
    pub(crate) async fn accept_response(
        &self,
        response: AuthorizationResponse,
        now: OffsetDateTime,
    ) -> Result<AcceptedResponse, SignInError> {
        let metadata = self.provider.metadata(now).await?;
        // Otherwise a response at a redirect URI of several providers might be any provider's (RFC 9207 §1).
        let requires_iss = metadata.authorization_response_iss_parameter_supported || self.shares_redirect_uri();
        Ok(response.accept(self.provider.registration.expected_issuer(), requires_iss)?)
    }

    /// The session of an attempt: begun by this callback, or by an identical one.
    pub(crate) async fn complete(
        &self,
        request: &Request<'_>,
        callback: Callback<'_>,
        now: OffsetDateTime,
    ) -> Result<Completed, NotBegun> {
        let Callback {
            attempt,
            secrets,
            response,
            client_address,
        } = callback;
        let kept = self.sessions.find_kept(request.cookies(), now).await;
        let exchange = self.exchange_once(attempt, secrets, response.code, client_address, kept.clone(), now)?;
        let Some(exchange) = exchange else {
            return Ok(Completed::Late);
        };
        let turn = match self.outcome(&exchange, now).await {
            Ok(ExchangeOutcome::Turn(turn)) => turn,
            Ok(ExchangeOutcome::Begun(begun)) => return Ok(Completed::Before(begun)),
            // Its session has ended, or no callback took the result in time.
            Err(NotBegun::Failed(SignInError::AlreadyUsed)) => return Ok(Completed::Late),
            Err(error) => return Err(error),
        };
        let new = VerifiedSignIn {
            session: turn.session.clone(),
            tokens: turn.tokens.clone(),
            unverified_user: response.unverified_user,
        };
        let jar = Some(request.cookies());
        let mut changes = vec![];
        let begun = self.begin_session(request, new, jar, &attempt.return_to, now, &mut changes);
        let completed = match begun.await {
            Ok(begun) => {
                observing::signed_in(&self.sessions.observed);
                self.attempts.signed_in(&attempt.id.short_name(), self.clock.now());
                turn.begun(begun.clone());
                Ok(Completed::Now(begun))
            }
            Err(error) => {
                turn.failed(&error, self, kept.as_ref(), now);
                Err(error)
            }
        };
        // Last: identical callbacks do not wait for the app's handler.
        self.events.sessions_changed(Some(request), changes).await;
        completed
    }

    /// Completes an attempt to link an account to a signed-in user. An identical callback does nothing.
    pub(crate) async fn link(
        &self,
        request: &Request<'_>,
        user: &User,
        callback: Callback<'_>,
        now: OffsetDateTime,
    ) -> Result<(), NotBegun> {
        let Callback {
            attempt,
            secrets,
            response,
            client_address,
        } = callback;
        let kept = self.sessions.find_kept(request.cookies(), now).await;
        let exchange = self.exchange_once(attempt, secrets, response.code, client_address, kept.clone(), now)?;
        let Some(exchange) = exchange else {
            return Ok(());
        };
        let turn = match self.outcome(&exchange, now).await {
            Ok(ExchangeOutcome::Turn(turn)) => turn,
            Ok(ExchangeOutcome::Begun(_)) | Err(NotBegun::Failed(SignInError::AlreadyUsed)) => return Ok(()),
            Err(error) => return Err(error),
        };
        let (mut session, tokens) = (turn.session.clone(), turn.tokens.clone());
        let account = NewSignIn {
            session: &mut session,
            tokens: &tokens,
            return_to: &attempt.return_to,
            next: None,
            paths: &self.site.paths,
            unverified_user: response.unverified_user.as_ref(),
        };
        match self.events.account_linked(request, user, &account).await {
            Ok(()) => {
                turn.linked();
                let linked = who_of_new(&session);
                audited(
                    request,
                    AuditEvent::AccountLinked,
                    "account_linked",
                    who_of(user.session()),
                )
                .with("linked_provider", linked.provider)
                .with("linked_issuer", linked.issuer)
                .with("linked_sub", linked.subject)
                .log();
                Ok(())
            }
            Err(refused) => {
                audited(
                    request,
                    AuditEvent::SignInRefused,
                    "refused_by_app",
                    who_of_new(&session),
                )
                .log();
                let error = SignInError::RefusedByApp { message: refused.0 }.into();
                turn.failed(&error, self, kept.as_ref(), now);
                Err(error)
            }
        }
    }

    /// Exchanges a code: tokens, ID token, UserInfo, each only when the previous one is valid. The tokens are revoked
    /// when one is rejected, unless the browser keeps a session. Callbacks use [`exchange_once`](Self::exchange_once).
    pub(crate) async fn exchange(
        &self,
        attempt: &SignInAttempt,
        secrets: &AttemptSecrets,
        code: &Secret,
        kept: Option<&CurrentSession>,
        now: OffsetDateTime,
    ) -> Result<(Session, SessionTokens), NotBegun> {
        let name = attempt.id.short_name();
        let step = |step| self.attempts.step(&name, step, self.clock.now());
        let metadata = self.provider.metadata(now).await.map_err(SignInError::from)?;
        let key = self.proof_key_of(&metadata, attempt, secrets)?;
        let code_sent = self.clock.stopwatch();
        let tokens = self
            .provider
            .exchange_code(&metadata, code, &secrets.code_verifier, key.as_ref(), now)
            .await
            .map_err(SignInError::from)?;
        step("the code was exchanged for tokens");
        // The exchange may have taken long: the ID token is verified at the time of its arrival.
        let now = self.clock.now();
        let binding = self
            .provider
            .binding(&tokens, key.as_ref(), self.provider.requires_bound_tokens());
        let bound_to = binding.as_ref().ok().copied().flatten();
        let sources = async {
            if let Err(error) = binding {
                return Err(SignInError::from(error).into());
            }
            let since_code = || code_sent.elapsed().max(attempt.age(self.clock.now()));
            if self.user_kind() == UserKind::OAuth2 {
                let user = self
                    .accept_api_user(&metadata, attempt, &tokens, since_code, now)
                    .await?;
                step("the user was read from the provider's API");
                return Ok(user);
            }
            let id_token = self
                .accept_id_token(&metadata, attempt, &secrets.nonce, &tokens, now)
                .await?;
            let checked = self.clock.now();
            self.attempts
                .checked(&name, "the ID token was verified", || id_token.checks(checked), checked);
            let missing = asked_of(attempt)?.missing_scopes(tokens.scope.as_deref());
            if !missing.is_empty() {
                return Err(SignInError::ScopesNotGranted { missing }.into());
            }
            let issuer: Arc<str> = id_token.issuer().into();
            let (session_expiry, authentication) = (id_token.session_expiry, id_token.authentication.clone());
            let ends = self
                .earlier_ends(&issuer, &id_token.claims, attempt, since_code)
                .await?;
            let sources = self
                .with_user_info(&metadata, id_token, (&tokens.access_token, bound_to), now)
                .await?;
            step("UserInfo was requested, if it is enabled");
            Ok((issuer, sources, session_expiry, authentication, ends))
        };
        let sources: Result<_, NotBegun> = sources.await;
        let issuer = &self.provider.registration.issuer;
        let mut session = Session::new(issuer, Claims::default(), now);
        session.provider = self.sessions.provider.clone();
        session.kind = self.user_kind();
        let old = SessionTokens {
            proof_key: bound_to.cloned(),
            ..SessionTokens::default()
        };
        let mut tokens = self.session_tokens(tokens, &old, &mut session, now);
        match sources {
            Ok((issuer, sources, session_expiry, authentication, ends)) => {
                session.issuer = issuer;
                session.end_by(session_expiry);
                session.authentication = authentication;
                session.claims = sources.merged();
                observing::claims_by_reference(&session.claims.by_reference());
                session.earlier_ends = ends;
                tokens.sources = sources;
                Ok((session, tokens))
            }
            Err(error) => {
                revoke_failed(self, &tokens, None, kept, now);
                Err(error)
            }
        }
    }

    /// The key that the tokens of an attempt are to be bound to: that of its request. An attempt that began before `dpop`
    /// was set has one too.
    fn proof_key_of(
        &self,
        metadata: &Metadata,
        attempt: &SignInAttempt,
        secrets: &AttemptSecrets,
    ) -> Result<Option<ProofKey>, SignInError> {
        let algorithm = match attempt.proof_algorithm {
            Some(algorithm) => Some(algorithm),
            None => self.provider.proof_algorithm(metadata)?,
        };
        Ok(algorithm.map(|algorithm| secrets.proof_key(algorithm)))
    }

    /// The recorded ends of sessions of the ID token's user. None of them applies to this sign-in: each was recorded
    /// before the attempt began, or is known to the attempt.
    ///
    /// The provider may have issued the code before it ended the user's sessions. If the attempt is older than the
    /// monotonic time since its code was sent, its age is measured by the clocks of two nodes; this makes the check
    /// stricter if the clocks agree, and never weaker if they do not.
    pub(super) async fn earlier_ends(
        &self,
        issuer: &str,
        claims: &Claims,
        attempt: &SignInAttempt,
        since_code: impl FnOnce() -> Duration,
    ) -> Result<EarlierEnds, NotBegun> {
        let read = self.sessions.read_ends(issuer, claims, self.clock.now());
        let read = match read.await {
            Ok(read) => read,
            // Any other end that exists when the session begins counts as later then. The code is used up by now.
            Err(error) => {
                tracing::debug!("{error}; the ends of sessions before a sign-in are unknown");
                return Ok(attempt.earlier_ends.clone());
            }
        };
        let limit = since_code().saturating_add(CODE_MARGIN);
        match read.youngest_except(&attempt.earlier_ends) {
            Some(age) if age <= limit => Err(NotBegun::Ended(read.ends)),
            _ => Ok(read.ends),
        }
    }

    /// The error of an attempt that exceeded `sign_in_timeout`.
    pub(crate) fn expired(&self) -> SignInError {
        SignInError::Expired {
            timeout: self.settings.sign_in_timeout,
        }
    }

    /// What every ID token of this client must contain, at sign-in and at a refresh.
    pub(super) fn id_token_expectations<'a>(
        &'a self,
        algorithms: &'a [SigningAlgorithm],
        access_token: &'a Secret,
    ) -> IdTokenExpectations<'a> {
        let registration = &self.provider.registration;
        IdTokenExpectations {
            issuer: registration.expected_issuer(),
            client_id: &registration.client_id,
            trusted_audiences: &self.settings.trusted_audiences,
            algorithms,
            client_secret: registration.client_secret.as_ref(),
            nonce: None,
            accepts_missing_nonce: false,
            access_token: Some(access_token),
            max_age: None,
            authenticated_since: None,
            acr_values: &[],
            clock_skew: self.settings.clock_skew,
        }
    }

    /// Verifies the ID token (OpenID Connect Core 1.0 §3.1.3.7).
    async fn accept_id_token(
        &self,
        metadata: &Metadata,
        attempt: &SignInAttempt,
        nonce: &Secret,
        tokens: &Tokens,
        now: OffsetDateTime,
    ) -> Result<IdToken, SignInError> {
        let id_token = tokens.id_token.as_ref().ok_or(SignInError::IdTokenMissing)?;
        let algorithms = self.provider.id_token_algorithms(metadata);
        // What this sign-in asked for replaced what the settings ask for.
        let asked = asked_of(attempt)?;
        let max_age = asked.max_age().or_else(|| self.settings.max_age());
        let acr_values = self.asked_acr_values(asked)?;
        let demands_authentication = asked.demands_authentication() || max_age == Some(Duration::ZERO);
        let expected = IdTokenExpectations {
            nonce: Some(nonce),
            accepts_missing_nonce: self.settings.insecure_accept_missing_nonce,
            max_age,
            authenticated_since: demands_authentication.then(|| attempt.begun()),
            acr_values: &acr_values,
            ..self.id_token_expectations(&algorithms, &tokens.access_token)
        };

        let verdict = self
            .provider
            .with_keys(
                metadata,
                KeyPurpose::ProviderReply,
                now,
                |keys| IdToken::accept(id_token.expose(), keys, &expected, now),
                |error| error.wants_fresh_keys(),
            )
            .await?;
        let mut id_token = verdict?;
        let acr = &mut id_token.authentication.acr;
        *acr = acr.take().filter(|acr| self.settings.counts_acr(acr));
        self.provider.id_token_accepted(id_token.algorithm);
        Ok(id_token)
    }

    /// The values of `acr` that this sign-in asks for. Fails if the provider is trusted with none of them.
    fn asked_acr_values(&self, asked: &SignInParameters) -> Result<Vec<String>, SignInError> {
        let all = asked
            .acr_values()
            .unwrap_or_else(|| self.settings.requested_acr_values());
        let counted = all.iter().filter(|acr| self.settings.counts_acr(acr));
        let counted: Vec<_> = counted.cloned().collect();
        if counted.is_empty() && !all.is_empty() {
            let provider = self.provider_name().to_owned();
            return Err(SignInError::AcrNotTrusted {
                provider,
                acr_values: all,
            });
        }
        Ok(counted)
    }

    /// Adds the UserInfo claims of the same user (OpenID Connect Core 1.0 §5.3).
    async fn with_user_info(
        &self,
        metadata: &Metadata,
        id_token: IdToken,
        access_token: (&Secret, Option<&ProofKey>),
        now: OffsetDateTime,
    ) -> Result<ClaimSources, SignInError> {
        let user_info = if self.settings.user_info_enabled {
            let user = (id_token.issuer(), id_token.subject());
            let asked = self
                .provider
                .user_info_about(metadata, user, access_token, RequestedBy::Session, now);
            match asked.await {
                Err(error) if self.settings.user_info_optional && error.is_outage() => {
                    tracing::warn!(
                        reason = error.reason(),
                        "{error}; the sign-in continues with the claims of the ID token (`user_info_optional`)"
                    );
                    None
                }
                asked => asked?,
            }
        } else {
            None
        };
        Ok(ClaimSources::new(id_token.claims, user_info))
    }

    /// Calls the app's handler, and begins the session unless it rejects the user. Adds the changes to report.
    async fn begin_session(
        &self,
        request: &Request<'_>,
        verified: VerifiedSignIn,
        jar: Option<&CookieJar<'_>>,
        return_to: &ReturnTo,
        now: OffsetDateTime,
        changes: &mut Vec<SessionChange>,
    ) -> Result<BegunSession, NotBegun> {
        let VerifiedSignIn {
            mut session,
            tokens,
            unverified_user,
        } = verified;
        let earlier_ends = session.earlier_ends.clone();
        let mut signed_in = NewSignIn {
            session: &mut session,
            tokens: &tokens,
            return_to,
            next: None,
            paths: &self.site.paths,
            unverified_user: unverified_user.as_ref(),
        };
        let handler = self.events.after_authorize(request, &mut signed_in);
        let (allowed, ends) = while_signing_in(earlier_ends, handler).await;
        let next = signed_in.next;
        if let Err(refused) = allowed {
            audited(
                request,
                AuditEvent::SignInRefused,
                "refused_by_app",
                who_of_new(&session),
            )
            .log();
            return Err(SignInError::RefusedByApp { message: refused.0 }.into());
        }
        session.earlier_ends = ends;
        if jar.is_some() {
            self.end_session_at_other_provider(request, now, changes).await?;
        }

        let begun = self.sessions.begin(session, tokens, jar, now, changes).await;
        let current = begun.map_err(|error| match error {
            BeginError::TooLarge(error) => NotBegun::Failed(error.into()),
            BeginError::Store(error) => NotBegun::Failed(error.into()),
            BeginError::Ended(ends) => NotBegun::Ended(ends),
        })?;
        changes.push(SessionChange::began(&current));
        Ok(BegunSession { current, next })
    }

    /// Ends the browser's session at another provider, which the new session replaces in its cookies.
    async fn end_session_at_other_provider(
        &self,
        request: &Request<'_>,
        now: OffsetDateTime,
        changes: &mut Vec<SessionChange>,
    ) -> Result<(), NotBegun> {
        let jar = request.cookies();
        let Some(app) = request.rocket().state::<RelyingParty>() else {
            return Ok(());
        };
        let name = app.sessions.provider_in(jar);
        let other = name.filter(|name| *name != self.provider_name());
        let (Some(name), Some(providers)) = (other, app.providers()) else {
            return Ok(());
        };
        let ended = match providers.named(name, app.client_address(request)).await {
            Ok(other) => other.sessions.end_before_other(jar, now, changes).await,
            // Its sessions have ended with it.
            Err(NoProvider::Unknown) => Ok(()),
            Err(NoProvider::Undecided) => Err(StoreError::new("the browser's previous session cannot be ended")),
        };
        ended.map_err(|error| SignInError::from(error).into())
    }

    /// Begins a session for a request that is not a callback. Returns the cookies that the response would set.
    #[cfg(feature = "testing")]
    pub(crate) async fn begin_session_for_test(
        &self,
        request: &Request<'_>,
        session: Session,
        tokens: SessionTokens,
    ) -> Result<Vec<String>, NotBegun> {
        let now = self.clock.now();
        // The session usually belongs to another user: do not replace the session of the requesting client.
        let (home, mut changes) = (self.home(), vec![]);
        let verified = VerifiedSignIn {
            session,
            tokens,
            unverified_user: None,
        };
        let begun = self.begin_session(request, verified, None, &home, now, &mut changes);
        let begun = begun.await;
        self.events.sessions_changed(Some(request), changes).await;
        let set = self.sessions.set_cookies(&begun?.current, request.cookies(), now);
        Ok(set.into_iter().map(|cookie| cookie.0).collect())
    }
}
