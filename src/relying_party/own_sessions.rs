//! What users may do with their own sessions: end one, or all but that of the request.

use super::{RelyingParty, User};
use crate::{
    observing,
    session::{EndCause, store::StoreError},
};

impl RelyingParty {
    /// Ends one session of this user, by the id that [`sessions_of_user`](Self::sessions_of_user) returns: for a page on
    /// which users end their own sessions, with an id from their request. Returns whether this call ended it: `false`
    /// when there is no such session, or when it is of another user, that is of another provider, issuer or `sub`.
    /// [`Events::session_changed`] was called by then.
    ///
    /// Where sessions are kept in cookies, the id itself proves whose session it is. Then `false` also means that this
    /// was called for the id before, and `true` may be about a session that has expired.
    ///
    /// ```
    /// use rocket::{http::Status, post, response::Redirect};
    /// use rocket_openidconnect::{LoggedIn, RelyingParty};
    ///
    /// #[post("/sessions/<id>/end")]
    /// async fn end(id: &str, user: LoggedIn, rp: &RelyingParty) -> Result<Redirect, Status> {
    ///     let ended = rp.end_session_of(&user, id).await;
    ///     ended.map_err(|_| Status::ServiceUnavailable)?;
    ///     Ok(Redirect::to("/sessions"))
    /// }
    /// # let _ = rocket::routes![end];
    /// ```
    ///
    /// # Errors
    ///
    /// Fails when the session store is unavailable, or when the session was encrypted with a `secret_key` that this node
    /// does not have, so that its user is not known. Retry: the end is not kept.
    ///
    /// [`Events::session_changed`]: crate::Events::session_changed
    pub async fn end_session_of<C>(&self, user: &User<C>, id: &str) -> Result<bool, StoreError> {
        let Some(rp) = self.at_provider(user.provider()).await?.filter(|rp| rp.is_enabled()) else {
            return Ok(false);
        };
        let (cause, now) = (EndCause::App, self.clock.now());
        let end = rp.sessions.end_of_user(id, user.session(), cause, now).await?;
        let has_ended = end.is_some();
        observing::sessions_ended("app", usize::from(has_ended), &rp.sessions.observed);
        self.events.sessions_changed(None, end).await;
        Ok(has_ended)
    }

    /// Ends all sessions of this user that began before now, but the one of this request. Sign-ins of the user that are
    /// in progress in other browsers are asked to authenticate again. Returns the number of sessions ended, or `None`
    /// where sessions are kept in cookies and the number is unknown. [`Events::session_changed`] was called by then.
    ///
    /// Nothing ends if the session of this request was ended meanwhile. In an app with several providers, the sessions
    /// at one of them end: that of `user`.
    ///
    /// ```
    /// use rocket::{http::Status, post, response::Redirect};
    /// use rocket_openidconnect::{LoggedIn, RelyingParty};
    ///
    /// #[post("/sessions/end-others")]
    /// async fn end_others(user: LoggedIn, rp: &RelyingParty) -> Result<Redirect, Status> {
    ///     let ended = rp.end_other_sessions(&user).await;
    ///     ended.map_err(|_| Status::ServiceUnavailable)?;
    ///     Ok(Redirect::to("/sessions"))
    /// }
    /// # let _ = rocket::routes![end_others];
    /// ```
    ///
    /// # Errors
    ///
    /// Fails when the session store is unavailable; some sessions may have ended. Retry: the ends are not kept.
    ///
    /// [`Events::session_changed`]: crate::Events::session_changed
    pub async fn end_other_sessions<C>(&self, user: &User<C>) -> Result<Option<usize>, StoreError> {
        let none = (!self.sessions.is_in_cookies()).then_some(0);
        let Some(rp) = self.at_provider(user.provider()).await?.filter(|rp| rp.is_enabled()) else {
            return Ok(none);
        };
        let (sessions, mut ended) = (&rp.sessions, vec![]);
        let ending = sessions.end_others(user.session(), EndCause::App, self.clock.now(), &mut ended);
        let result = ending.await;
        let count = (!sessions.is_in_cookies()).then_some(ended.len());
        observing::sessions_ended("app", ended.len(), &sessions.observed);
        self.events.sessions_changed(None, ended).await;
        result.map(|_| count)
    }
}
