//! The user of `testing_profile`, while `enabled = false`: without a provider, and with the app's handlers if it has any.

use rocket::Request;
use serde_json::{Map, Value};
use time::OffsetDateTime;

use super::{NewSignIn, RelyingParty, SignInError};
use crate::{
    code_flow::ReturnTo,
    observing,
    requirement::Authentication,
    session::{
        BeginError, CurrentSession, NoSession, Session, SessionChange, SessionTokens, UserKind, while_signing_in,
    },
    settings::ProviderKind,
    token::{ClaimSources, Claims, TESTING_ISSUER},
};

impl RelyingParty {
    /// Whether a browser signs in before it is the user of `testing_profile`: the app has handlers that decide about the
    /// user and what is kept of them. Without handlers, every visitor is that user at once.
    pub(crate) fn signs_testing_profile_in(&self) -> bool {
        self.events.are_of_app && self.testing_profile().is_some()
    }

    /// The session of every visitor, which is neither in a cookie nor in a store.
    pub(crate) fn session_of_every_visitor(&self, now: OffsetDateTime) -> Result<CurrentSession, NoSession> {
        let profile = self.testing_profile().ok_or(NoSession::Disabled)?;
        Ok(CurrentSession::nowhere(self.testing_session(profile, now)))
    }

    /// Calls the app's `after_authorize` for the user of `testing_profile`, and begins their session unless it refuses. The
    /// session has the app's data and says who the user is: all other claims are read from the settings. Beside it is the page
    /// that the app chose instead of `return_to`, if it did.
    pub(crate) async fn begin_testing_session(
        &self,
        request: &Request<'_>,
        return_to: &ReturnTo,
        now: OffsetDateTime,
    ) -> Result<(CurrentSession, Option<ReturnTo>), SignInError> {
        let mut changes = vec![];
        let begun = self.begin_for_profile(request, return_to, now, &mut changes).await;
        if let Ok((current, _)) = &begun {
            changes.push(SessionChange::began(current));
            observing::signed_in(&self.sessions.observed);
        }
        self.events.sessions_changed(Some(request), changes).await;
        begun
    }

    async fn begin_for_profile(
        &self,
        request: &Request<'_>,
        return_to: &ReturnTo,
        now: OffsetDateTime,
        changes: &mut Vec<SessionChange>,
    ) -> Result<(CurrentSession, Option<ReturnTo>), SignInError> {
        let empty = Claims::default();
        let profile = self.testing_profile().unwrap_or(&empty);
        let identity = identity(profile);
        let ends = self.sessions.read_ends(self.issuer(), &identity, now).await?.ends;
        let mut session = self.testing_session(profile, now);
        let mut signed_in = NewSignIn {
            session: &mut session,
            tokens: &SessionTokens::default(),
            return_to,
            next: None,
            paths: &self.site.paths,
            unverified_user: None,
        };
        let handler = self.events.after_authorize(request, &mut signed_in);
        let (allowed, ends) = while_signing_in(ends, handler).await;
        let next = signed_in.next;
        allowed.map_err(|refused| SignInError::RefusedByApp { message: refused.0 })?;

        session.earlier_ends = ends;
        session.issuer = self.issuer().into();
        session.claims = identity.clone();
        let tokens = SessionTokens {
            sources: ClaimSources::new(identity, None),
            ..SessionTokens::default()
        };
        let jar = Some(request.cookies());
        let begun = self.sessions.begin(session, tokens, jar, now, changes).await;
        let begun = begun.map_err(|error| match error {
            BeginError::TooLarge(error) => error.into(),
            BeginError::Store(error) => error.into(),
            BeginError::Ended(_) => SignInError::SessionsEnded,
        })?;
        Ok((begun, next))
    }

    /// A session that the browser brings, with the claims that the settings have now. One of another user, whom the
    /// settings had before, is none.
    pub(crate) fn with_testing_profile(
        &self,
        current: CurrentSession,
        now: OffsetDateTime,
    ) -> Result<CurrentSession, NoSession> {
        let profile = self.testing_profile().ok_or(NoSession::Disabled)?;
        if identity(&current.claims) != identity(profile) {
            return Err(NoSession::Absent);
        }
        let of_profile = self.testing_session(profile, now);
        Ok(current.changed(|session| {
            session.issuer = of_profile.issuer;
            session.claims = of_profile.claims;
            session.authentication = of_profile.authentication;
            session.kind = of_profile.kind;
        }))
    }

    fn testing_session(&self, profile: &Claims, now: OffsetDateTime) -> Session {
        let issuer = profile
            .get::<String>("iss")
            .unwrap_or_else(|| TESTING_ISSUER.to_owned());
        let mut session = Session::new(&issuer, profile.clone(), now);
        session.data = self.settings.testing_profile_data.clone();
        // The developer is there: only what the profile says itself is older.
        session.authentication = Authentication {
            time: profile.get("auth_time").or(Some(now.unix_timestamp())),
            acr: profile.get("acr"),
        };
        if self.settings.provider_kind() == ProviderKind::GitHub {
            session.kind = UserKind::OAuth2;
            session.authentication = Authentication::default();
        }
        session
    }
}

/// Who the user of these claims is.
fn identity(claims: &Claims) -> Claims {
    let names = ["sub", "sid"].into_iter();
    let members = names.filter_map(|name| Some((name.to_owned(), claims.value(name)?.clone())));
    Claims::from(members.collect::<Map<String, Value>>())
}
