//! Sign-out: by the user, by the provider, and by the app.

use std::{borrow::Cow, net::IpAddr, time::Duration};

use thiserror::Error;
use time::OffsetDateTime;
use url::Url;

use super::{Client, NoProvider, RelyingParty};
use crate::{
    code_flow::{PendingLogout, ReturnTo, logout_request},
    observing,
    provider::{KeyPurpose, ProviderError},
    secret::Secret,
    session::{CurrentSession, EndCause, SessionChange, SessionInfo, UserKey, store::StoreError},
    settings::{KeptToken, Settings, Site},
    token::{EndedSession, Jws, LogoutToken, LogoutTokenError, LogoutTokenExpectations},
};

/// Where the provider redirects users after a sign-out.
#[derive(Clone, Debug)]
pub(crate) struct PostLogout {
    /// The URI as registered at the provider.
    pub(crate) redirect_uri: String,
    /// Its path, when it is a page of this app. That page redirects users to where they wanted to go.
    pub(crate) local_path: Option<String>,
    /// The path with its query.
    pub(crate) local_address: Option<String>,
}

/// The result of a front-channel logout.
pub(crate) enum FrontChannelLogout {
    Done,
    /// The request names another provider, or no session.
    NotOurs,
}

/// Why a logout token was rejected or could not be applied.
#[derive(Debug, Error)]
pub(crate) enum LogoutRejection {
    #[error("the logout token is rejected: {0}")]
    Token(#[from] LogoutTokenError),
    #[error(transparent)]
    Provider(#[from] ProviderError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl LogoutRejection {
    /// The reason code.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            LogoutRejection::Token(error) => error.reason(),
            LogoutRejection::Provider(error) => error.reason(),
            LogoutRejection::Store(_) => "store_unavailable",
        }
    }

    pub(crate) fn remedy(&self) -> &'static str {
        match self {
            LogoutRejection::Token(error) => error.remedy(),
            LogoutRejection::Provider(error) => error.remedy(),
            LogoutRejection::Store(error) => error.remedy(),
        }
    }
}

impl PostLogout {
    pub(crate) fn new(settings: &Settings, site: &Site) -> PostLogout {
        let set = settings.post_logout_redirect_uri.as_deref().unwrap_or("/");
        let redirect_uri = if set.starts_with('/') {
            format!("{}{set}", site.base_url.as_str().trim_end_matches('/'))
        } else {
            set.to_owned()
        };
        let url = Url::parse(&redirect_uri).ok();
        let is_own = |url: &Url| url.origin() == site.base_url.origin() && site.paths.has(url.path());
        let url = url.filter(is_own);
        PostLogout {
            local_path: url.as_ref().map(|url| url.path().to_owned()),
            local_address: url.map(|url| url[url::Position::BeforePath..].to_owned()),
            redirect_uri,
        }
    }
}

/// The maximum length of `id_token_hint`. It is part of a URL in a header of the response: together with the removed
/// cookies it keeps the response below the 4 KB that an nginx accepts by default.
const MAX_HINT_LEN: usize = 2_500;

impl RelyingParty {
    /// Ends every session of the user with this `sub` in this app: their session at the provider continues. Returns
    /// the number of sessions ended, or `None` where sessions are kept in cookies and the number is unknown.
    /// [`Events::session_changed`] was called by then. The tokens of sessions in a store are revoked.
    ///
    /// # Errors
    ///
    /// Fails when the session store is unavailable; some sessions may have ended. Retry: the ends are not kept.
    /// Always fails where `sub` alone does not say who the user is, with an issuer template (`oidc.tenants`) and with
    /// several providers; use [`end_sessions_of_user`](Self::end_sessions_of_user) there.
    ///
    /// [`Events::session_changed`]: crate::Events::session_changed
    pub async fn end_sessions(&self, subject: &str) -> Result<Option<usize>, StoreError> {
        self.end_sessions_of_user(&self.only_user(subject)?).await
    }

    /// Like [`end_sessions`](Self::end_sessions), for the user with this key, [`User::key`](crate::User::key). There are
    /// no sessions of a user of an unknown provider, or of another provider than the request's
    /// ([`Oidc::provider_for`](crate::Oidc::provider_for)).
    ///
    /// # Errors
    ///
    /// Fails when the session store is unavailable; some sessions may have ended. Retry: the ends are not kept.
    pub async fn end_sessions_of_user(&self, user: &UserKey) -> Result<Option<usize>, StoreError> {
        let Some(rp) = self.at_provider(user.provider()).await? else {
            return Ok((!self.sessions.is_in_cookies()).then_some(0));
        };
        let (cause, sessions) = (EndCause::App, &rp.sessions);
        let index_keys = sessions.names.subject(user.issuer(), user.subject());
        let mut ended = vec![];
        let ending = sessions.end_matching(&index_keys, cause, self.clock.now(), &mut ended);
        let result = ending.await;
        let count = (!sessions.is_in_cookies()).then_some(ended.len());
        if count.is_none() && result.is_ok() {
            let (provider, subject) = (sessions.provider.clone(), Some(user.subject()));
            ended.push(SessionChange::ended_all(provider, user.issuer(), subject, None, cause));
        }
        observing::sessions_ended("app", ended.len(), &sessions.observed);
        self.events.sessions_changed(None, ended).await;
        result.map(|()| count)
    }

    /// Ends any session, by the id that [`User::session_id`](crate::User::session_id) and
    /// [`sessions_of`](Self::sessions_of) return: for administrators. Returns `false` when there is no such session; where sessions are
    /// kept in cookies, it returns `false` only if this was called for the id before. [`Events::session_changed`] was
    /// called by then. The tokens of a session in a store are revoked.
    ///
    /// # Security
    ///
    /// It does not ask whose session it is: never call it with an id from a request of a user who is not an
    /// administrator. [`end_session_of`](Self::end_session_of) ends only the sessions of one user.
    ///
    /// # Errors
    ///
    /// Fails when the session store is unavailable. Retry: the end is not kept.
    ///
    /// [`Events::session_changed`]: crate::Events::session_changed
    pub async fn end_session(&self, id: &str) -> Result<bool, StoreError> {
        let Some(rp) = self.of_session(id) else {
            return Ok(false);
        };
        let now = self.clock.now();
        let end = rp.sessions.end(id, None, EndCause::App, now).await?;
        let has_ended = end.is_some();
        observing::sessions_ended("app", usize::from(has_ended), &rp.sessions.observed);
        self.events.sessions_changed(None, end).await;
        Ok(has_ended)
    }

    /// The sessions of the user with this `sub`, oldest first; `None` where sessions are kept in cookies and are
    /// unknown.
    ///
    /// # Errors
    ///
    /// Fails when the session store is unavailable. Always fails where `sub` alone does not say who the user is, with
    /// an issuer template (`oidc.tenants`) and with several providers; use
    /// [`sessions_of_user`](Self::sessions_of_user) there.
    pub async fn sessions_of(&self, subject: &str) -> Result<Option<Vec<SessionInfo>>, StoreError> {
        self.sessions_of_user(&self.only_user(subject)?).await
    }

    /// Like [`sessions_of`](Self::sessions_of), for the user with this key, [`User::key`](crate::User::key).
    ///
    /// # Errors
    ///
    /// Fails when the session store is unavailable.
    pub async fn sessions_of_user(&self, user: &UserKey) -> Result<Option<Vec<SessionInfo>>, StoreError> {
        let Some(rp) = self.at_provider(user.provider()).await? else {
            return Ok((!self.sessions.is_in_cookies()).then(Vec::new));
        };
        let index_keys = rp.sessions.names.subject(user.issuer(), user.subject());
        rp.sessions.of(&index_keys, self.clock.now()).await
    }

    /// The user with this `sub` of the only issuer; an error where there are several.
    fn only_user(&self, subject: &str) -> Result<UserKey, StoreError> {
        let has_tenants = |client: Client<'_>| client.provider.registration.tenants.is_some();
        if self.providers().is_some() || self.client().is_some_and(has_tenants) {
            return Err(StoreError::of_ambiguous_subject());
        }
        Ok(UserKey::new(self.provider_name(), self.issuer(), subject))
    }

    /// The relying party of the provider with this name: this one, or one of several.
    pub(super) async fn at_provider(&self, name: &str) -> Result<Option<Cow<'_, RelyingParty>>, StoreError> {
        let Some(providers) = self.providers() else {
            return Ok((self.provider_name() == name).then_some(Cow::Borrowed(self)));
        };
        match providers.named(name, None).await {
            Ok(rp) => Ok(Some(Cow::Owned(RelyingParty::clone(&rp)))),
            Err(NoProvider::Unknown) => Ok(None),
            Err(NoProvider::Undecided) => Err(StoreError::new("the provider of the user cannot be looked up")),
        }
    }

    /// The relying party that the session with this id is of: this one, or one of several. Without it, a session of a
    /// provider that is not in the settings is ended by its id alone.
    pub(super) fn of_session(&self, id: &str) -> Option<&RelyingParty> {
        let is_own = |rp: &RelyingParty| rp.settings.provider_name.is_none() || rp.sessions.names.is_own(id);
        match self.providers() {
            Some(providers) => {
                let mut of_settings = providers.of_settings.iter().map(|rp| &**rp);
                of_settings.find(|rp| is_own(rp)).or(Some(self))
            }
            None => is_own(self).then_some(self),
        }
    }
}

impl Client<'_> {
    /// The URL at which the browser signs out at the provider, if the provider has an `end_session_endpoint`. What a
    /// store holds of the session is unknown while it is down.
    pub(crate) async fn sign_out_at_provider(
        &self,
        current: Option<&CurrentSession>,
        return_to: ReturnTo,
        now: OffsetDateTime,
    ) -> Option<(Url, Option<PendingLogout>)> {
        if !self.settings.rp_initiated_logout {
            return None;
        }
        // A provider that is down must not prevent a sign-out here.
        let metadata = self.provider.metadata(now).await.ok()?;
        let endpoint = metadata.end_session_endpoint.as_ref()?;
        let local_path = self.post_logout.local_path.as_ref();
        let pending = local_path.map(|_| PendingLogout::new(return_to));
        let tokens = current.and_then(CurrentSession::tokens);
        let id_token = tokens.and_then(|tokens| tokens.id_token.as_ref());
        let url = logout_request(
            endpoint,
            id_token.filter(|id_token| id_token.expose().len() <= MAX_HINT_LEN),
            &self.provider.registration.client_id,
            &self.post_logout.redirect_uri,
            pending.as_ref().map(|pending| &pending.state),
        );
        Some((url, pending))
    }

    /// Learns the provider's signing algorithm from the ID token of a session, which was verified before a restart or
    /// on another node.
    pub(crate) fn learn_algorithm(&self, session: &CurrentSession) {
        let is_kept = || self.settings.session.tokens.contains(&KeptToken::IdToken);
        if self.provider.has_accepted_id_token() || !is_kept() {
            return;
        }
        let id_token = session.tokens().and_then(|tokens| tokens.id_token.as_ref());
        if let Some(Ok(jws)) = id_token.map(|id_token| Jws::parse(id_token.expose())) {
            self.provider.id_token_accepted(jws.algorithm());
        }
    }

    /// Verifies a logout token and ends the sessions that it names (OpenID Connect Back-Channel Logout 1.0). `client`
    /// is the address of the sender. Adds the ends to `ended`, also when the store fails half-way.
    pub(crate) async fn accept_logout_token(
        &self,
        logout_token: &str,
        client: Option<IpAddr>,
        now: OffsetDateTime,
        ended: &mut Vec<SessionChange>,
    ) -> Result<LogoutToken, LogoutRejection> {
        let metadata = self.provider.metadata(now).await?;
        let algorithms = self.provider.logout_token_algorithms(&metadata);
        let expected = LogoutTokenExpectations {
            issuer: self.provider.registration.expected_issuer(),
            client_id: &self.provider.registration.client_id,
            trusted_audiences: &self.settings.trusted_audiences,
            algorithms: &algorithms,
            client_secret: self.provider.registration.client_secret.as_ref(),
            clock_skew: self.settings.clock_skew,
        };
        let token = self
            .provider
            .with_keys(
                &metadata,
                KeyPurpose::AnyRequest(client),
                now,
                |keys| LogoutToken::accept(logout_token, keys, &expected, now),
                |error| error.wants_fresh_keys(),
            )
            .await??;

        // §2.6, step 8: reject a token that was used before.
        let issuer = &*token.issuer;
        let jti = self.sessions.names.jti(issuer, &token.jti);
        let ttl = token.ends.saturating_sub(now.unix_timestamp()).max(1);
        let ttl = Duration::from_secs(ttl.unsigned_abs());
        let store = &self.sessions.store;
        // A random value per request, so that no request releases the claim of another.
        let claim = Secret::random();
        let names = &self.sessions.names;
        let (index_keys, subject, sid) = match &token.ended {
            EndedSession::Sid(sid) => (names.sid(issuer, sid), None, Some(&**sid)),
            EndedSession::Subject(subject) => (names.subject(issuer, subject), Some(&**subject), None),
            EndedSession::SidOf { sid, subject } => (
                [names.sid(issuer, sid), names.without_sid(issuer, subject)].concat(),
                Some(&**subject),
                Some(&**sid),
            ),
        };
        let cause = EndCause::BackchannelLogout;
        let ending = async {
            // Under each key of this node, so that nodes whose first keys differ see each other's claims.
            for name in &jti {
                if !store.lock(name, claim.expose(), ttl).await? {
                    return Err(LogoutRejection::Token(LogoutTokenError::Replayed));
                }
            }
            self.sessions.end_matching(&index_keys, cause, now, ended).await?;
            Ok(())
        };
        let result = ending.await;
        match &result {
            Ok(()) => {
                if self.sessions.is_in_cookies() {
                    ended.push(SessionChange::ended_all(
                        self.sessions.provider.clone(),
                        issuer,
                        subject,
                        sid,
                        cause,
                    ));
                }
                observing::backchannel_logout(ended.len(), &self.sessions.observed);
            }
            // The claim may have succeeded, and the provider may send the token again.
            Err(LogoutRejection::Store(_)) => {
                for name in &jti {
                    let _ = store.unlock(name, claim.expose()).await;
                }
            }
            Err(_) => {}
        }
        result.map(|()| token)
    }

    /// Ends the sessions of one session at the provider, if `issuer` is this provider (OpenID Connect Front-Channel
    /// Logout 1.0 §3). Adds the ends to `ended`.
    pub(crate) async fn front_channel_logout(
        &self,
        issuer: &str,
        sid: &str,
        now: OffsetDateTime,
        ended: &mut Vec<SessionChange>,
    ) -> Result<FrontChannelLogout, StoreError> {
        if !self.provider.registration.expected_issuer().accepts(issuer) || sid.is_empty() {
            return Ok(FrontChannelLogout::NotOurs);
        }
        let sessions = &self.sessions;
        sessions.end_sid_unsigned(issuer, sid, now, ended).await?;
        if !ended.is_empty() {
            observing::frontchannel_logout(&sessions.observed);
        }
        // The same response in every case, so that it does not reveal which `sid` exists.
        Ok(FrontChannelLogout::Done)
    }
}
