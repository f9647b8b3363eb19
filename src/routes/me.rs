//! `GET {mount}/me`: what scripts of the app may know about the session of the request.

use std::io::Cursor;

use rocket::{
    Response,
    http::{ContentType, Status},
    response::Builder,
};
use serde::Serialize;
use serde_json::{Map, Value};
use time::{OffsetDateTime, macros::format_description};

use super::{RouteContext, logout::Sender, not_modified};
use crate::{
    guard::current_session,
    keys::digest_name,
    request::RequestState,
    session::{CurrentSession, store::RETRY_AFTER},
};

/// The body of the response.
#[derive(Serialize)]
struct Me {
    logged_in: bool,
    login_url: String,
    #[serde(flatten)]
    session: Option<MySession>,
}

#[derive(Serialize)]
struct MySession {
    /// The claims that the setting `me_claims` names.
    user: Map<String, Value>,
    /// A name of the user, by which a page notices that another one has signed in.
    user_key: String,
    /// When the session ends whatever happens, in seconds since 1970. Absent for the testing profile, which never ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    ends_at: Option<i64>,
    /// When it ends if it is not used again.
    #[serde(skip_serializing_if = "Option::is_none")]
    idle_ends_at: Option<i64>,
    logout_url: String,
}

impl<'r> RouteContext<'r, '_> {
    /// `GET {mount}/me`: always 200 (or 304) for a page of this app, also signed out, so that the normal case is no error
    /// in the browser's console; 403 for other origins, and 503 if it is not known whether a user is signed in.
    pub(super) async fn me(self) -> Response<'r> {
        let state = RequestState::of(self.request);
        let _ = state.is_inquiry.set(());
        // Before the session is read: others do not learn by time or status whether a user is signed in.
        if !matches!(self.sender(), Sender::ThisApp) {
            return self.about_session().status(Status::Forbidden).finalize();
        }
        let context = self.at_session().await;
        let mut response = context.about_session();
        let session = match current_session(context.request).await {
            Err(reason) if reason.is_outage() => {
                let wait = RETRY_AFTER.as_secs().to_string();
                response.status(Status::ServiceUnavailable);
                return response.raw_header("Retry-After", wait).finalize();
            }
            session => session.as_ref().ok(),
        };
        let me = Me {
            logged_in: session.is_some(),
            login_url: context.rp.own_login_path(),
            session: session.map(|session| context.my_session(session)),
        };
        let body = serde_json::to_string(&me).unwrap_or_default();
        let generation = session.map_or(0, |session| session.generation).to_string();
        let name = session.map_or("", |session| session.name());
        let tag = format!("\"{}\"", digest_name("me", &[name, &generation, &body]));
        response.raw_header("ETag", tag.clone());
        if not_modified(context.request, &tag) {
            return response.status(Status::NotModified).finalize();
        }
        response.header(ContentType::JSON);
        response.sized_body(body.len(), Cursor::new(body)).finalize()
    }

    fn my_session(&self, session: &CurrentSession) -> MySession {
        let names = self.rp.settings.me_claims.iter().flatten();
        let claims = names.filter_map(|name| Some((name.clone(), session.claims.value(name)?.clone())));
        // That of the testing profile begins anew with each request.
        let ends = self.rp.is_enabled().then(|| self.rp.sessions.ends_of(session));
        MySession {
            user: claims.collect(),
            user_key: session.user_name(),
            ends_at: ends.map(|(ends_at, _)| ends_at),
            idle_ends_at: ends.map(|(_, idle_ends_at)| idle_ends_at),
            logout_url: self.rp.route_path("logout"),
        }
    }

    /// A response about the session, with all headers but its own.
    fn about_session(&self) -> Builder<'r> {
        let mut response = Response::build();
        response
            .raw_header("Cache-Control", "private, no-store")
            .raw_header("Vary", "Cookie")
            .raw_header("X-Content-Type-Options", "nosniff")
            .raw_header("Cross-Origin-Resource-Policy", "same-origin")
            // By which a browser whose clock is wrong counts down.
            .raw_header("Date", http_date(self.now));
        response
    }
}

/// RFC 9110 §5.6.7.
fn http_date(time: OffsetDateTime) -> String {
    let format =
        format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");
    time.to_offset(time::UtcOffset::UTC).format(&format).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_that_of_http() {
        let time = OffsetDateTime::from_unix_timestamp(784_111_777).unwrap();
        assert_eq!(http_date(time), "Sun, 06 Nov 1994 08:49:37 GMT");
    }
}
