//! The relying party: sign-in and sign-out, told from top to bottom.

mod attempts;
mod logout;
mod refresh;

use std::sync::Arc;

use time::OffsetDateTime;
use url::Url;

pub use self::refresh::RefreshError;
pub(crate) use self::{
    attempts::{Attempt, Attempts, Failure},
    logout::{FrontChannelLogout, PostLogout},
    refresh::{Freshness, Refreshes},
};
use crate::{
    Clock,
    code_flow::{AuthorizationResponse, PendingSignIn, ReturnTo, authorization_request},
    cookies::Cookies,
    error::SignInError,
    provider::{KeyPurpose, Metadata, Provider, Tokens},
    session::{Session, SessionTokens, Sessions},
    settings::{Settings, Site},
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
    pub(crate) attempts: Arc<Attempts>,
    pub(crate) seal: crate::cookies::Seal,
    pub(crate) cookies: Cookies,
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

    /// Begins a sign-in: where to send the browser, and what it must bring back.
    pub(crate) async fn begin_sign_in(
        &self,
        provider: &Arc<Provider>,
        return_to: ReturnTo,
        login_hint: Option<&str>,
        now: OffsetDateTime,
    ) -> Result<(Url, PendingSignIn), SignInError> {
        let metadata = provider.metadata(now).await?;
        let client = provider.client(&metadata)?;
        let pending = PendingSignIn::new(&provider.registration.issuer, return_to, now);
        let mut url = authorization_request(&client, &self.settings, &pending, login_hint);
        if let Some(endpoint) = provider.pushed_authorization_request_endpoint(&metadata)? {
            url = provider
                .push_authorization_request(&metadata, endpoint, &url, now)
                .await?;
        }
        Ok((url, pending))
    }

    /// Finishes a sign-in: response, code, ID token, UserInfo, session, in this order, each only
    /// when the one before holds.
    pub(crate) async fn finish_sign_in(
        &self,
        provider: &Arc<Provider>,
        pending: &PendingSignIn,
        response: AuthorizationResponse,
        now: OffsetDateTime,
    ) -> Result<(Session, SessionTokens), SignInError> {
        if pending.is_over(now) {
            return Err(SignInError::Expired);
        }
        // The settings named another provider when it began: its code is not shown to this one.
        if pending.issuer != provider.registration.issuer {
            return Err(SignInError::NotPending);
        }
        let metadata = provider.metadata(now).await?;
        let announces_iss = metadata
            .additional_metadata()
            .authorization_response_iss_parameter_supported;

        let step = |step| {
            self.attempts
                .step(pending.attempt(), step, self.clock.now())
        };
        let code = response.accept(pending, announces_iss)?;
        step("the response is the one that was waited for");
        let tokens = provider
            .exchange_code(&metadata, &code, &pending.code_verifier, now)
            .await?;
        step("the code was exchanged for tokens");
        let id_token = self
            .accept_id_token(provider, &metadata, pending, &tokens, now)
            .await?;
        step("the ID token holds");
        let sources = self
            .with_user_info(provider, &metadata, id_token, &tokens, now)
            .await?;
        step("UserInfo was asked, if there is any");

        let mut session = Session::new(&pending.issuer, sources.merged(), now);
        let old = SessionTokens {
            sources,
            ..SessionTokens::default()
        };
        let tokens = self.session_tokens(tokens, &old, &mut session, now);
        Ok((session, tokens))
    }

    /// Judges the ID token (OpenID Connect Core 1.0 §3.1.3.7).
    async fn accept_id_token(
        &self,
        provider: &Provider,
        metadata: &Metadata,
        pending: &PendingSignIn,
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
            issuer: &provider.registration.issuer,
            client_id: &provider.registration.client_id,
            trusted_audiences: &self.settings.trusted_audiences,
            algorithms: &algorithms,
            client_secret: provider.registration.client_secret.as_ref(),
            nonce: Some(&pending.nonce),
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
        Ok(verdict?)
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
                provider
                    .user_info_about(metadata, id_token.subject(), &tokens.access_token, now)
                    .await?
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
