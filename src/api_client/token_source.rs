//! Where the tokens of a call come from.

use std::{
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use time::OffsetDateTime;

use crate::{
    api_tokens::{ApiTokenError, IssuedToken, Target},
    clock::Clock,
    relying_party::{RefreshError, RelyingParty, SessionHandle, User},
    resource_server::Accepted,
    session::{CurrentSession, NoSession},
};

/// Where the tokens of an [`ApiClient`](crate::ApiClient) come from: the app itself, a user, or a client of
/// the app's API.
///
/// It holds no token: each call gets the cached one, or another one. It can be kept for longer than a request.
#[derive(Clone)]
pub struct TokenSource {
    owner: Owner,
    target: Result<Target, ApiTokenError>,
}

#[derive(Clone)]
enum Owner {
    Client {
        rp: Arc<RelyingParty>,
        provider: Option<String>,
    },
    Session {
        session: Arc<CurrentSession>,
        handle: Option<SessionHandle>,
    },
    /// The access token of a session itself.
    Own {
        /// The newest generation that is known here.
        session: Arc<Mutex<Arc<CurrentSession>>>,
        handle: Option<SessionHandle>,
    },
    Subject {
        accepted: Arc<Accepted>,
        /// The address of the client that sent it.
        client: Option<IpAddr>,
        clock: Clock,
    },
}

impl RelyingParty {
    /// The source of the app's own tokens: see [`client_token`](Self::client_token).
    #[cfg_attr(docsrs, doc(cfg(feature = "api-client")))]
    pub fn client_tokens(&self, scopes: &[&str], resource: Option<&str>) -> TokenSource {
        TokenSource {
            owner: Owner::Client {
                rp: Arc::new(self.clone()),
                provider: None,
            },
            target: Target::of_resource(resource, scopes),
        }
    }

    /// As [`client_tokens`](Self::client_tokens), from one of several providers.
    #[cfg_attr(docsrs, doc(cfg(feature = "api-client")))]
    pub fn client_tokens_at(&self, provider: &str, scopes: &[&str], resource: Option<&str>) -> TokenSource {
        TokenSource {
            owner: Owner::Client {
                rp: Arc::new(self.clone()),
                provider: Some(provider.to_owned()),
            },
            target: Target::of_resource(resource, scopes),
        }
    }
}

impl<C> User<C> {
    /// The source of this user's tokens for another API: see [`access_token_for`](Self::access_token_for).
    #[cfg_attr(docsrs, doc(cfg(feature = "api-client")))]
    pub fn tokens_for(&self, resource: &str, scopes: &[&str]) -> TokenSource {
        let (session, handle) = self.shared_session();
        TokenSource {
            owner: Owner::Session { session, handle },
            target: Target::of_resource(Some(resource), scopes),
        }
    }
}

impl TokenSource {
    /// The user's own access token, that of the sign-in.
    pub(super) fn of_own_token<C>(user: &User<C>) -> TokenSource {
        let (session, handle) = user.shared_session();
        TokenSource {
            owner: Owner::Own {
                session: Arc::new(Mutex::new(session)),
                handle,
            },
            target: Target::of_resource(None, &[]),
        }
    }

    /// The tokens in exchange for this one.
    pub(crate) fn of_subject(
        (accepted, client, clock): (Arc<Accepted>, Option<IpAddr>, Clock),
        audience: &str,
        scopes: &[&str],
    ) -> TokenSource {
        TokenSource {
            owner: Owner::Subject {
                accepted,
                client,
                clock,
            },
            target: Target::of_audience(audience, scopes),
        }
    }

    /// The cached token, or another one from the provider.
    ///
    /// # Errors
    ///
    /// As the method that the source is of.
    pub async fn token(&self) -> Result<IssuedToken, ApiTokenError> {
        let target = self.target.clone()?;
        match &self.owner {
            Owner::Client { rp, provider } => rp.token_of_client(provider.as_deref(), target).await,
            Owner::Session { session, handle } => {
                let handle = handle.as_ref().ok_or(ApiTokenError::NoSession(NoSession::Absent))?;
                handle.token_for(session, target).await
            }
            Owner::Own { session, handle } => {
                let current = locked(session);
                let now = handle
                    .as_ref()
                    .map_or_else(OffsetDateTime::now_utc, |it| it.rp.clock.now());
                match own_token(&current, now) {
                    Some(token) => Ok(token),
                    None => match handle {
                        Some(handle) => refreshed(session, handle).await,
                        None => Err(ApiTokenError::NoSession(NoSession::Absent)),
                    },
                }
            }
            Owner::Subject {
                accepted,
                client,
                clock,
            } => accepted.exchange(target, *client, clock).await,
        }
    }

    /// Another token in place of one that the API rejects; `None` if it is too early for that.
    pub(super) async fn renewed(&self, rejected: &IssuedToken) -> Result<Option<IssuedToken>, ApiTokenError> {
        let target = self.target.clone()?;
        let may_renew = match &self.owner {
            Owner::Client { rp, provider } => {
                let rp = rp.at_token_provider(provider.as_deref()).await?;
                rp.client_tokens.reject(&(), &target, rejected, None)
            }
            Owner::Session { session, handle } => handle.as_ref().is_some_and(|handle| {
                let client = handle.rp.client();
                client.is_some_and(|client| client.reject_token_of_session(session, &handle.answer, &target, rejected))
            }),
            Owner::Own { session, handle } => {
                let Some(handle) = handle else { return Ok(None) };
                // Within 10 s of the last refresh there is none, and the token is the same.
                let newer = match refreshed(session, handle).await {
                    Err(ApiTokenError::ResponseSent | ApiTokenError::NoRefreshToken) => return Ok(None),
                    newer => newer?,
                };
                return Ok((newer.secret() != rejected.secret()).then_some(newer));
            }
            Owner::Subject { accepted, clock, .. } => accepted.reject_exchanged(&target, rejected, clock),
        };
        if may_renew {
            self.token().await.map(Some)
        } else {
            Ok(None)
        }
    }

    /// The time of the app, for a proof.
    pub(super) fn now(&self) -> OffsetDateTime {
        match &self.owner {
            Owner::Client { rp, .. } => rp.clock.now(),
            Owner::Session { handle, .. } | Owner::Own { handle, .. } => {
                let handle = handle.as_ref();
                handle.map_or_else(OffsetDateTime::now_utc, |handle| handle.rp.clock.now())
            }
            Owner::Subject { clock, .. } => clock.now(),
        }
    }
}

fn locked(session: &Mutex<Arc<CurrentSession>>) -> Arc<CurrentSession> {
    session.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// The access token of a session, unless it has expired.
fn own_token(session: &CurrentSession, now: OffsetDateTime) -> Option<IssuedToken> {
    let tokens = session.tokens()?;
    let is_valid = tokens
        .access_token_expires_at
        .is_none_or(|expiry| now.unix_timestamp() < expiry);
    let token = tokens.access_token.as_ref().filter(|_| is_valid)?;
    Some(IssuedToken::of_session(token, tokens.proof_key.as_ref(), now))
}

/// The access token of a session after its refresh, as [`User::refresh`] does it.
async fn refreshed(session: &Mutex<Arc<CurrentSession>>, handle: &SessionHandle) -> Result<IssuedToken, ApiTokenError> {
    if handle.rp.sessions.is_in_cookies() && handle.answer.is_sent() {
        return Err(ApiTokenError::ResponseSent);
    }
    let current = locked(session);
    let newer = match handle.rp.refresh_now(&current).await {
        Ok(newer) => newer,
        Err(not_refreshed) => {
            if let Some(pending) = &not_refreshed.pending {
                handle.answer.set(pending);
            }
            if let RefreshError::NoSession(reason) = not_refreshed.error {
                handle.answer.not_refreshed(&current, reason);
            }
            return Err(match not_refreshed.error {
                RefreshError::NoSession(reason) => ApiTokenError::NoSession(reason),
                RefreshError::NoRefreshToken => ApiTokenError::NoRefreshToken,
                error => ApiTokenError::Later {
                    reason: error.reason(),
                    cause: error.to_string(),
                },
            });
        }
    };
    handle.answer.set(&newer);
    let token = own_token(&newer, handle.rp.clock.now());
    *session.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(newer);
    token.ok_or(ApiTokenError::NoRefreshToken)
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSource")
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}
