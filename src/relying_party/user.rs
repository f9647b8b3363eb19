//! A signed-in person, as guards hand it to the app.

use std::{any::Any, fmt, sync::Arc};

use rocket::serde::DeserializeOwned;
use serde::{Serialize, Serializer};
use thiserror::Error;
use time::OffsetDateTime;

use crate::{
    relying_party::{RefreshError, RelyingParty},
    secret::Secret,
    session::{CurrentSession, OutgoingSession},
    token::Claims,
};

/// A person who is signed in, with the claims that the provider made about them.
///
/// `C` is the app's own claims type (Flask-OIDC's `OIDC_USER_CLASS`); [`Claims`] takes any. A person
/// is identified by [`issuer`](Self::issuer) and [`subject`](Self::subject) together, never by the
/// e-mail address (OpenID Connect Core 1.0 §5.7).
///
/// It serializes as its claims, without tokens, so that a template can show it.
#[derive(Clone, Debug)]
pub struct User<C = Claims> {
    session: Arc<CurrentSession>,
    /// `None` when `C` is [`Claims`]: they are the session's.
    claims: Option<C>,
    handle: Option<SessionHandle>,
    now: OffsetDateTime,
}

/// What refreshing the session of a request takes.
#[derive(Clone)]
pub(crate) struct SessionHandle {
    pub(crate) rp: Arc<RelyingParty>,
    pub(crate) answer: Arc<OutgoingSession>,
}

impl fmt::Debug for SessionHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionHandle").finish_non_exhaustive()
    }
}

/// Why there is no access token to call an API with.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NoAccessToken {
    /// There is none: `enabled = false`, or `session.tokens` leaves it out.
    #[error("this session has no access token")]
    Absent,
    /// It has ended, and the provider did not give another one: the person is still signed in, and a
    /// later request may bring a fresh token.
    #[error(
        "the access token ended at {ended} (seconds since 1970) and was not refreshed: {cause}"
    )]
    NotRefreshed {
        /// When, in seconds since 1970.
        ended: i64,
        /// What went wrong.
        cause: String,
    },
    /// It has ended, and there is no refresh token.
    #[error("the access token ended at {ended} (seconds since 1970)")]
    Expired {
        /// When, in seconds since 1970.
        ended: i64,
    },
}

impl<C> User<C> {
    /// Fails with the claim that does not fit `C`, and never with its value.
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
        })
    }

    /// `sub`: the person's identifier, unique and never reused within the [`issuer`](Self::issuer).
    pub fn subject(&self) -> &str {
        self.text("sub").unwrap_or_default()
    }

    /// The provider that says so; where it has an issuer for each tenant (`oidc.tenants`), that of the user's tenant.
    pub fn issuer(&self) -> &str {
        &self.session.issuer
    }

    /// `name`: the full name, for display.
    pub fn name(&self) -> Option<&str> {
        self.text("name")
    }

    /// `email`. It may change and may not be verified: never identify a person by it.
    pub fn email(&self) -> Option<&str> {
        self.text("email")
    }

    /// `email_verified`: whether the provider checked the address. Absent is `false`; providers that
    /// send `"true"` are understood.
    pub fn email_verified(&self) -> bool {
        match self.session.claims.value("email_verified") {
            Some(serde_json::Value::Bool(is_verified)) => *is_verified,
            Some(serde_json::Value::String(text)) => text == "true",
            _ => false,
        }
    }

    /// `groups`, or an empty list. A single string is a list of one.
    pub fn groups(&self) -> Vec<&str> {
        match self.session.claims.value("groups") {
            Some(serde_json::Value::String(one)) => vec![one],
            Some(serde_json::Value::Array(list)) => {
                list.iter().filter_map(|group| group.as_str()).collect()
            }
            _ => vec![],
        }
    }

    /// All claims, as the app's type.
    pub fn claims(&self) -> &C
    where
        C: 'static,
    {
        let claims = self.claims.as_ref();
        claims
            .or_else(|| as_type(&self.session.claims))
            .expect("claims that are not kept apart are of the session's type")
    }

    /// One claim. `None` when it is absent or of another type.
    pub fn claim<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        self.session.claims.get(name)
    }

    /// What the app kept under this name in [`Events::after_authorize`](crate::Events::after_authorize).
    pub fn data<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let value = self.session.data.get(name)?;
        T::deserialize(value).ok()
    }

    /// An access token to call other APIs with, as this person. It was refreshed when the guard read the
    /// session, if it was about to end: it is good for the time of a request.
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
    /// When there is none, or it has ended and could not be refreshed.
    pub fn access_token(&self) -> Result<&Secret, NoAccessToken> {
        let tokens = self.session.tokens().ok_or(NoAccessToken::Absent)?;
        let Some(token) = &tokens.access_token else {
            // The provider sent another one, which cannot be judged yet.
            return Err(
                match (&self.session.not_refreshed, tokens.access_token_ends) {
                    (Some(cause), ended) => NoAccessToken::NotRefreshed {
                        ended: ended.unwrap_or(self.now.unix_timestamp()),
                        cause: cause.to_string(),
                    },
                    (None, _) => NoAccessToken::Absent,
                },
            );
        };
        let Some(ended) = tokens.access_token_ends else {
            return Ok(token);
        };
        match &self.session.not_refreshed {
            _ if self.now.unix_timestamp() < ended => Ok(token),
            Some(cause) => Err(NoAccessToken::NotRefreshed {
                ended,
                cause: cause.to_string(),
            }),
            None => Err(NoAccessToken::Expired { ended }),
        }
    }

    /// Refreshes the session now, whether it is due or not, and answers who the user is afterwards: for an
    /// app that learns otherwise that claims or tokens have changed, as by the 401 of another API. Requests
    /// that ask at the same time share one refresh, and within 10 s of the last one none is made.
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
    /// When there is no refresh token, the provider is not reachable or refuses, or the headers of the
    /// answer have been sent where sessions are kept in cookies. A session that ends by that loses its cookies with
    /// the answer.
    pub async fn refresh(&self) -> Result<User<C>, RefreshError>
    where
        C: DeserializeOwned + 'static,
    {
        let handle = self.handle.as_ref().ok_or(RefreshError::NoRefreshToken)?;
        if handle.rp.sessions.is_in_cookies() && handle.answer.is_sent() {
            return Err(RefreshError::AnswerSent);
        }
        let session = match handle.rp.refresh_now(&self.session).await {
            Ok(session) => session,
            Err(not_refreshed) => {
                if let Some(pending) = &not_refreshed.pending {
                    handle.answer.set(pending);
                }
                if let RefreshError::SignedOut(reason) = not_refreshed.error {
                    handle.answer.not_refreshed(&self.session, reason);
                }
                return Err(not_refreshed.error);
            }
        };
        handle.answer.set(&session);
        let expected = std::any::type_name::<C>();
        User::new(
            Arc::new(session),
            self.handle.clone(),
            handle.rp.clock.now(),
        )
        .map_err(|_| RefreshError::Claims { expected })
    }

    /// The refresh token, if the provider gave one.
    pub fn refresh_token(&self) -> Option<&Secret> {
        self.session.tokens()?.refresh_token.as_ref()
    }

    /// Names this session, for [`RelyingParty::end_session`](crate::RelyingParty::end_session). It is no
    /// secret: nobody is signed in by it.
    pub fn session_id(&self) -> &str {
        self.session.name()
    }

    pub(crate) fn session(&self) -> &CurrentSession {
        &self.session
    }

    fn text(&self, claim: &str) -> Option<&str> {
        self.session.claims.value(claim)?.as_str()
    }
}

/// The claims themselves, if they are what `C` is.
fn as_type<C: 'static>(claims: &Claims) -> Option<&C> {
    (claims as &dyn Any).downcast_ref()
}

impl<C> Serialize for User<C> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.session.claims.serialize(serializer)
    }
}
