//! A signed-in user, as guards pass it to the app.

use std::{any::Any, fmt, sync::Arc};

use rocket::serde::DeserializeOwned;
use serde::{Serialize, Serializer};
use thiserror::Error;
use time::OffsetDateTime;

use super::missed_claims::{MissedClaim, MissedClaims};
use crate::{
    api_tokens::{ApiTokenError, IssuedToken, Target},
    relying_party::{RefreshError, RelyingParty, SessionDataError, refresh::to_json},
    secret::Secret,
    session::{CurrentSession, NoSession, OutgoingSession, SessionEnded, UserKey, UserKind},
    settings::Settings,
    token::{Claims, GroupPaths},
};

/// A signed-in user, with the claims that the provider made about them.
///
/// `C` is the app's own claims type (Flask-OIDC's `OIDC_USER_CLASS`); [`Claims`] accepts any. A user is identified by
/// [`issuer`](Self::issuer) and [`subject`](Self::subject) together, never by the e-mail address (OpenID Connect Core
/// 1.0 §5.7).
///
/// It serializes as its claims, without tokens, so that a template can render it.
#[derive(Clone, Debug)]
pub struct User<C = Claims> {
    session: Arc<CurrentSession>,
    /// `None` when `C` is [`Claims`]: the session has them.
    claims: Option<C>,
    handle: Option<SessionHandle>,
    now: OffsetDateTime,
    /// What a policy looks for in vain while it decides.
    missed: Option<MissedClaims>,
}

/// A handle to refresh the session of a request.
#[derive(Clone)]
pub(crate) struct SessionHandle {
    pub(crate) rp: Arc<RelyingParty>,
    pub(crate) answer: Arc<OutgoingSession>,
}

impl SessionHandle {
    /// An access token of this session for another API.
    pub(crate) async fn token_for(
        &self,
        session: &CurrentSession,
        target: Target,
    ) -> Result<IssuedToken, ApiTokenError> {
        let client = self.rp.client().ok_or(ApiTokenError::Disabled)?;
        client.token_of_session(session, &self.answer, target).await
    }
}

impl fmt::Debug for SessionHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionHandle").finish_non_exhaustive()
    }
}

/// Why there is no access token.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NoAccessToken {
    /// The session has none: `enabled = false`, or `session.tokens` leaves it out.
    #[error("this session has no access token")]
    Absent,
    /// It has expired, and the provider did not issue another one: the user is still signed in, and a later request
    /// may get a fresh token.
    #[error("the access token expired at {ended} (seconds since 1970) and was not refreshed: {cause}")]
    NotRefreshed {
        /// When it expired, in seconds since 1970.
        ended: i64,
        /// What went wrong.
        cause: String,
    },
    /// It has expired, and there is no refresh token.
    #[error("the access token expired at {ended} (seconds since 1970)")]
    Expired {
        /// When it expired, in seconds since 1970.
        ended: i64,
    },
}

impl<C> User<C> {
    /// Fails with the claim that does not deserialize to `C`, and never with its value.
    pub(crate) fn new(
        session: Arc<CurrentSession>,
        handle: Option<SessionHandle>,
        now: OffsetDateTime,
    ) -> Result<User<C>, String>
    where
        C: DeserializeOwned + 'static,
    {
        let claims = match as_type::<C>(&session.claims) {
            Some(_) => None,
            None => Some(session.claims.fit()?),
        };
        Ok(User {
            session,
            claims,
            handle,
            now,
            missed: None,
        })
    }

    /// The `sub` claim: the user's identifier, unique and never reused within the [`issuer`](Self::issuer).
    pub fn subject(&self) -> &str {
        self.text("sub").unwrap_or_default()
    }

    /// The issuer of the claims; with an issuer for each tenant (`oidc.tenants`), that of the user's tenant.
    pub fn issuer(&self) -> &str {
        &self.session.issuer
    }

    /// The name of the provider in the settings, a table of `oidc.providers`; `default` in an app with one provider.
    pub fn provider(&self) -> &str {
        &self.session.provider
    }

    /// Who the user is: provider, issuer and `sub`, the key of everything that an app keeps about them.
    pub fn key(&self) -> UserKey {
        self.session.user_key()
    }

    /// How the provider identified the user: by an ID token, or by its API alone, as GitHub does.
    ///
    /// ```
    /// use rocket::get;
    /// use rocket_openidconnect::{LoggedIn, UserKind};
    ///
    /// #[get("/me")]
    /// fn me(user: LoggedIn) -> String {
    ///     match user.kind() {
    ///         UserKind::OAuth2 => format!("a user of {}, without an ID token", user.issuer()),
    ///         _ => user.subject().to_owned(),
    ///     }
    /// }
    /// ```
    pub fn kind(&self) -> UserKind {
        self.session.kind
    }

    /// The `name` claim: the full name, for display.
    pub fn name(&self) -> Option<&str> {
        self.text("name")
    }

    /// The `email` claim. It may change and may not be verified: never identify a user by it.
    pub fn email(&self) -> Option<&str> {
        self.text("email")
    }

    /// The `email_verified` claim: whether the provider verified the address. A missing claim is `false`; the string
    /// `"true"`, which some providers send, is accepted.
    pub fn email_verified(&self) -> bool {
        match self.value("email_verified") {
            Some(serde_json::Value::Bool(is_verified)) => *is_verified,
            Some(serde_json::Value::String(text)) => text == "true",
            _ => false,
        }
    }

    /// The user's groups: the strings of the claim that the setting
    /// [`groups_claim`](crate::settings::Settings::groups_claim) names, `groups` unless it says otherwise, or an empty list.
    /// A single string is a list of one. Empty too if the user is in more groups than fit into a token: see
    /// [`groups_overage`](Self::groups_overage).
    ///
    /// Among several providers, and of an issuer with several [`tenants`](crate::settings::Settings::tenants), it is empty
    /// unless `trust_groups = true`.
    pub fn groups(&self) -> Vec<&str> {
        if !self.counts("groups") {
            return vec![];
        }
        let groups = self.group_paths().groups(self.session.claims.as_map());
        if groups.as_ref().is_none_or(Vec::is_empty) && self.session.claims.groups_overage() {
            self.miss(|| MissedClaim::TooManyGroups);
        } else if groups.is_none() {
            let claim = self.settings().and_then(|settings| settings.groups_claim.first());
            self.miss(|| MissedClaim::Absent(claim.map_or("groups", String::as_str).to_owned()));
        }
        groups.unwrap_or_default()
    }

    /// The user's roles, by the rule for those of access tokens: the words of the claims that the setting
    /// [`roles_claim`](crate::settings::Settings::roles_claim) names, or an empty list.
    ///
    /// They do not count among several providers, as [`groups`](Self::groups) do not, unless `trust_groups = true`.
    ///
    /// ```
    /// use rocket::Request;
    /// use rocket_openidconnect::{Policy, User};
    ///
    /// struct Editor;
    ///
    /// impl Policy for Editor {
    ///     async fn permits(user: &User, _request: &Request<'_>) -> bool {
    ///         user.roles().contains(&"editor")
    ///     }
    /// }
    /// ```
    pub fn roles(&self) -> Vec<&str> {
        if !self.counts("roles") {
            return vec![];
        }
        let roles = self.group_paths().roles(self.session.claims.as_map());
        roles.unwrap_or_else(|| {
            let settings = self.settings();
            let claim = settings.and_then(|settings| settings.roles_claim.first());
            self.miss(|| claim.map_or(MissedClaim::NoRolesClaim, |claim| MissedClaim::Absent(claim.clone())));
            vec![]
        })
    }

    /// Whether the user is in more groups than the provider puts into a token. [`groups`](Self::groups) is then empty,
    /// so a policy that requires a group refuses them. See [`Claims::groups_overage`].
    pub fn groups_overage(&self) -> bool {
        self.session.claims.groups_overage()
    }

    /// All claims, as the app's type.
    pub fn claims(&self) -> &C
    where
        C: 'static,
    {
        let claims = self.claims.as_ref();
        claims
            .or_else(|| as_type(&self.session.claims))
            .expect("`User::new` keeps the claims apart unless they are of the session's type")
    }

    /// One claim. `None` when it is absent or of another type.
    pub fn claim<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let value = self.value(name)?;
        let read = T::deserialize(value).ok();
        if read.is_none() {
            self.miss(|| MissedClaim::OtherType(name.to_owned()));
        }
        read
    }

    /// The value that the app stored under this name in [`Events::after_authorize`](crate::Events::after_authorize), or
    /// later by [`set_data`](Self::set_data).
    pub fn data<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let value = self.session.data.get(name)?;
        T::deserialize(value).ok()
    }

    /// Sets a value of the app's data in this session, and returns the user afterwards; `null` removes the value. The last
    /// change under a name remains, whichever node it was made on, and a refresh keeps it.
    ///
    /// The change is a new generation of the session, as a refresh is: where sessions are kept in cookies, older copies of
    /// them are not accepted for longer than after a refresh. Other guards of this request have the former data.
    ///
    /// ```
    /// use rocket::{http::Status, post};
    /// use rocket_openidconnect::LoggedIn;
    ///
    /// #[post("/theme/<theme>")]
    /// async fn set_theme(theme: &str, user: LoggedIn) -> Result<String, Status> {
    ///     let user = user.set_data("theme", theme).await.map_err(|_| Status::ServiceUnavailable)?;
    ///     Ok(user.data("theme").unwrap_or_default())
    /// }
    /// # let _ = rocket::routes![set_theme];
    /// ```
    ///
    /// # Errors
    ///
    /// Fails when the session has ended meanwhile; when sessions are kept in cookies, and the value does not fit or the
    /// response headers were sent; when the session store fails; and with `enabled = false`.
    pub async fn set_data(&self, name: &str, value: impl Serialize) -> Result<User<C>, SessionDataError>
    where
        C: DeserializeOwned + 'static,
    {
        let value = to_json(name, value)?;
        let no_session = SessionDataError::NoSession;
        let handle = self.handle.as_ref().ok_or(no_session(NoSession::Absent))?;
        let client = handle.rp.client().ok_or(no_session(NoSession::Disabled))?;
        let is_in_cookies = handle.rp.sessions.is_in_cookies();
        if is_in_cookies && handle.answer.is_sent() {
            return Err(SessionDataError::ResponseSent);
        }
        let mut session = client.set_data_once(&self.session, name, value).await?;
        session.not_refreshed = self.session.not_refreshed.clone();
        if is_in_cookies && session.generation > self.session.generation {
            handle.answer.set(&session);
        }
        let expected = std::any::type_name::<C>();
        User::new(Arc::new(session), self.handle.clone(), handle.rp.clock.now())
            .map_err(|_| SessionDataError::Claims { expected })
    }

    /// An access token to call other APIs on behalf of this user. With the setting
    /// [`dpop`](crate::settings::Settings::dpop) it is bound to a key of this session: it is useless to others, and to an
    /// API as `Bearer`. `User::bound_client`, with the cargo feature `api-client`, sends it with a proof. If it was about to expire, it was refreshed when
    /// the guard read the session: it is valid for the time of a request.
    ///
    /// ```
    /// use rocket::get;
    /// use rocket_openidconnect::LoggedIn;
    ///
    /// #[get("/calendar")]
    /// async fn calendar(user: LoggedIn) -> Result<String, String> {
    ///     let token = user.access_token().map_err(|error| error.to_string())?;
    ///     Ok(fetch_calendar(token.expose()).await)
    /// }
    /// # async fn fetch_calendar(_: &str) -> String { String::new() }
    /// ```
    ///
    /// # Errors
    ///
    /// Fails when there is no access token, or when it has expired and could not be refreshed.
    pub fn access_token(&self) -> Result<&Secret, NoAccessToken> {
        let tokens = self.session.tokens().ok_or(NoAccessToken::Absent)?;
        let now = self.now.unix_timestamp();
        let ended = tokens.access_token_expires_at;
        match (&tokens.access_token, &self.session.not_refreshed) {
            (Some(token), _) if ended.is_none_or(|ended| now < ended) => Ok(token),
            // Without a token, the provider sent another one, which cannot be verified yet.
            (_, Some(cause)) => Err(NoAccessToken::NotRefreshed {
                ended: ended.unwrap_or(now),
                cause: cause.to_string(),
            }),
            (Some(_), None) => Err(NoAccessToken::Expired {
                ended: ended.unwrap_or(now),
            }),
            (None, None) => Err(NoAccessToken::Absent),
        }
    }

    /// An access token to call another API on behalf of this user, from the refresh token of the session
    /// ([RFC 8707 §2.2](https://www.rfc-editor.org/rfc/rfc8707#section-2.2)). [`access_token`](Self::access_token) stays
    /// as it is.
    ///
    /// `resource` is the identifier of the API, an absolute URI; a provider that names APIs otherwise has the setting
    /// [`resource_parameter`](crate::settings::Settings::resource_parameter). The scopes are among those that the user
    /// granted at the sign-in.
    ///
    /// The token is cached in this process until shortly before it expires, and dropped when the session ends: call this
    /// for each request to the API. Simultaneous calls share one request to the provider, and all requests with the
    /// session's refresh token wait for each other, on all nodes. After a failure, none is made for this token for 5 s,
    /// then for longer, up to a minute.
    ///
    /// ```
    /// use rocket::get;
    /// use rocket_openidconnect::{ApiTokenError, LoggedIn};
    ///
    /// #[get("/orders")]
    /// async fn orders(user: LoggedIn) -> Result<String, ApiTokenError> {
    ///     let token = user.access_token_for("https://orders.example.com", &["orders:read"]).await?;
    ///     Ok(fetch_orders(token.expose()).await)
    /// }
    /// # async fn fetch_orders(_: &str) -> String { String::new() }
    /// # let _ = rocket::routes![orders];
    /// ```
    ///
    /// # Errors
    ///
    /// When the session has no refresh token or has ended meanwhile, when the provider is down or rejects the request,
    /// or when the response headers were sent and sessions are kept in cookies, unless the token is cached.
    pub async fn access_token_for(&self, resource: &str, scopes: &[&str]) -> Result<IssuedToken, ApiTokenError> {
        let handle = self
            .handle
            .as_ref()
            .ok_or(ApiTokenError::NoSession(NoSession::Absent))?;
        handle
            .token_for(&self.session, Target::of_resource(Some(resource), scopes)?)
            .await
    }

    /// Refreshes the session now, whether it is due or not, and returns the user afterwards: for an app that learns
    /// by other means that claims or tokens have changed, such as a 401 of another API. Simultaneous calls share one
    /// refresh, and within 10 s of the last one there is none.
    ///
    /// ```
    /// use rocket::{http::Status, post};
    /// use rocket_openidconnect::LoggedIn;
    ///
    /// #[post("/me/refresh")]
    /// async fn refresh(user: LoggedIn) -> Result<String, Status> {
    ///     let user = user.refresh().await.map_err(|_| Status::BadGateway)?;
    ///     Ok(user.groups().join(", "))
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// Fails when there is no refresh token, unless the user is one of GitHub ([`UserKind::OAuth2`]), who is read from its
    /// API again; when the provider is unreachable or rejects the refresh, or when the
    /// response headers were sent and sessions are kept in cookies. If the refresh ends the session, the response
    /// removes its cookies.
    pub async fn refresh(&self) -> Result<User<C>, RefreshError>
    where
        C: DeserializeOwned + 'static,
    {
        let handle = self.handle.as_ref().ok_or(RefreshError::NoRefreshToken)?;
        if handle.rp.sessions.is_in_cookies() && handle.answer.is_sent() {
            return Err(RefreshError::ResponseSent);
        }
        let session = match handle.rp.refresh_now(&self.session).await {
            Ok(session) => session,
            Err(not_refreshed) => {
                if let Some(pending) = &not_refreshed.pending {
                    handle.answer.set(pending);
                }
                if let RefreshError::NoSession(reason) = not_refreshed.error {
                    handle.answer.not_refreshed(&self.session, reason);
                }
                return Err(not_refreshed.error);
            }
        };
        handle.answer.set(&session);
        let expected = std::any::type_name::<C>();
        User::new(Arc::new(session), self.handle.clone(), handle.rp.clock.now())
            .map_err(|_| RefreshError::Claims { expected })
    }

    /// Whether the tokens of this session are bound to a key, which only this app has (DPoP,
    /// [RFC 9449](https://www.rfc-editor.org/rfc/rfc9449)).
    pub fn has_bound_tokens(&self) -> bool {
        self.session.tokens().is_some_and(|tokens| tokens.proof_key.is_some())
    }

    /// The refresh token, if the session has one.
    pub fn refresh_token(&self) -> Option<&Secret> {
        self.session.tokens()?.refresh_token.as_ref()
    }

    /// The `authorization_details` that the provider granted
    /// ([RFC 9396 §7](https://www.rfc-editor.org/rfc/rfc9396#section-7)), after a sign-in that asked for some by
    /// [`SignInUrl::authorization_details`](crate::SignInUrl::authorization_details) or the settings; otherwise
    /// empty.
    pub fn authorization_details(&self) -> &[serde_json::Value] {
        let tokens = self.session.tokens();
        tokens.map(|tokens| &*tokens.authorization_details).unwrap_or_default()
    }

    /// The identifier of this session, for [`RelyingParty::end_session`](crate::RelyingParty::end_session). It is not
    /// a secret: it does not sign anyone in.
    pub fn session_id(&self) -> &str {
        self.session.name()
    }

    /// A future that completes when this session has ended, with the reason: for a WebSocket or a stream, which is open
    /// for longer than the request that the guard looked at. It completes when
    ///
    /// - the session is ended on any node: by sign-out, by the provider, by the app, by a new sign-in in its browser or
    ///   by `session.max_per_user`; here at once, and for another node within two seconds;
    /// - it is too old (`session.absolute_timeout`), or idle (`session.idle_timeout`). An open socket is no use of the
    ///   session. A session in cookies does not end by idleness: when it was used is known to its browser alone;
    /// - the provider rejects its refresh, its refresh is overdue by more than `session.refresh_grace`, or the session
    ///   store was not reachable for that long. An open socket refreshes nothing: the page's other requests do, and a
    ///   new connection;
    /// - this node shuts down.
    ///
    /// The user of the testing profile (`enabled = false`) is signed in until the shutdown. The future is `'static`,
    /// `Send` and `Unpin`. It costs less than 1 KB beside the socket, and the node one read of a shared store a second,
    /// whatever the number of sockets, and one more for each every 45 s.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use rocket::{
    ///     get,
    ///     response::stream::{Event, EventStream},
    ///     tokio::{select, time::interval},
    /// };
    /// use rocket_openidconnect::LoggedIn;
    ///
    /// #[get("/events")]
    /// fn events(user: LoggedIn) -> EventStream![] {
    ///     let mut ended = user.ended();
    ///     EventStream! {
    ///         let mut ticks = interval(Duration::from_secs(10));
    ///         loop {
    ///             select! {
    ///                 _ = ticks.tick() => yield Event::data("still here"),
    ///                 end = &mut ended => {
    ///                     yield Event::data(end.reason()).event("ended");
    ///                     break;
    ///                 }
    ///             }
    ///         }
    ///     }
    /// }
    /// # let _ = rocket::routes![events];
    /// ```
    pub fn ended(&self) -> SessionEnded {
        match &self.handle {
            Some(handle) => {
                let is_stored = handle.rp.client().is_some();
                handle.rp.sessions.wait_for_end(&self.session, is_stored)
            }
            None => SessionEnded::never(),
        }
    }

    /// The name of the provider for people.
    pub(crate) fn provider_label(&self) -> &str {
        self.handle
            .as_ref()
            .map_or_else(|| self.provider(), |handle| handle.rp.label())
    }

    pub(crate) fn session(&self) -> &CurrentSession {
        &self.session
    }

    /// The session and its handle, without the claims.
    #[cfg(feature = "api-client")]
    pub(crate) fn shared_session(&self) -> (Arc<CurrentSession>, Option<SessionHandle>) {
        (self.session.clone(), self.handle.clone())
    }

    fn text(&self, claim: &str) -> Option<&str> {
        let text = self.value(claim)?.as_str();
        if text.is_none() {
            self.miss(|| MissedClaim::OtherType(claim.to_owned()));
        }
        text
    }

    fn value(&self, claim: &str) -> Option<&serde_json::Value> {
        let value = self.session.claims.value(claim);
        if value.is_none() {
            self.miss(|| MissedClaim::Absent(claim.to_owned()));
        }
        value
    }

    /// Whether groups or roles of this user count.
    fn counts(&self, names: &'static str) -> bool {
        let counts = self.settings().is_none_or(Settings::counts_groups);
        if !counts {
            self.miss(|| MissedClaim::NotTrusted(names));
        }
        counts
    }

    fn group_paths(&self) -> GroupPaths {
        self.settings().map(Settings::group_paths).unwrap_or_default()
    }

    /// The settings of the user's provider.
    pub(crate) fn settings(&self) -> Option<&Settings> {
        Some(&self.handle.as_ref()?.rp.settings)
    }

    /// From now on, records what is looked for in vain.
    pub(crate) fn watch(&mut self) {
        self.missed = Some(MissedClaims::default());
    }

    /// No longer records it.
    pub(crate) fn unwatch(&mut self) {
        self.missed = None;
    }

    pub(super) fn missed(&self) -> Option<&MissedClaims> {
        self.missed.as_ref()
    }

    fn miss(&self, missed: impl FnOnce() -> MissedClaim) {
        if let Some(all) = &self.missed {
            all.add(missed());
        }
    }
}

/// The claims themselves, if `C` is [`Claims`].
fn as_type<C: 'static>(claims: &Claims) -> Option<&C> {
    (claims as &dyn Any).downcast_ref()
}

impl<C> Serialize for User<C> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.session.claims.serialize(serializer)
    }
}
