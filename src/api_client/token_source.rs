//! Where the tokens of a call come from.

use std::{fmt, net::IpAddr, sync::Arc};

use crate::{
    api_tokens::{ApiTokenError, IssuedToken, Target},
    clock::Clock,
    relying_party::{RelyingParty, SessionHandle, User},
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
            Owner::Subject { accepted, clock, .. } => accepted.reject_exchanged(&target, rejected, clock),
        };
        if may_renew {
            self.token().await.map(Some)
        } else {
            Ok(None)
        }
    }
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSource")
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}
