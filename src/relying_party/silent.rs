//! Silent sign-in (`prompt=none`): which browsers may try it, by two cookies without user data.

use std::time::Duration;

use rocket::http::CookieJar;
use time::OffsetDateTime;

use super::{Client, RelyingParty};
use crate::{code_flow::ReturnTo, cookies::SetCookie, session::CurrentSession};

/// The cookie with the [`SilentSignIn`] of a browser. It ends with the browser session.
const SILENT: &str = "oidc_silent";
/// The cookie with the end of the browser's last session, in seconds since 1970: when it expires at the latest, or zero
/// once it has ended.
const LAST_SESSION: &str = "oidc_last_session";
/// The TTL of that cookie: the longest one that browsers accept (RFC 6265bis §5.5).
const LAST_SESSION_TTL: Duration = Duration::from_secs(400 * 24 * 60 * 60);
/// The query parameter of the sign-in route that asks for a silent sign-in.
pub(crate) const SILENT_PARAMETER: &str = "silent";

/// The state of the silent sign-in of one browser session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SilentSignIn {
    /// A page was shown, with the cookie that proves that the browser returns cookies.
    Probed,
    /// A page load was redirected to the sign-in route, which tries it.
    Requested,
    /// It was tried. So is any value of another version of this crate.
    Tried,
}

impl SilentSignIn {
    fn as_str(self) -> &'static str {
        match self {
            SilentSignIn::Probed => "probed",
            SilentSignIn::Requested => "requested",
            SilentSignIn::Tried => "tried",
        }
    }

    fn parse(value: &str) -> SilentSignIn {
        let early = [SilentSignIn::Probed, SilentSignIn::Requested];
        let state = early.into_iter().find(|state| state.as_str() == value);
        state.unwrap_or(SilentSignIn::Tried)
    }
}

impl RelyingParty {
    /// The client of the provider at which visitors are signed in silently, unless `silent` is off.
    pub(crate) fn silent_client(&self) -> Option<Client<'_>> {
        self.client().filter(|client| client.settings.silent)
    }

    /// The URL of a silent sign-in that redirects to `next` afterwards.
    pub(crate) fn silent_login_url(&self, next: &ReturnTo) -> String {
        format!("{}&{SILENT_PARAMETER}=true", self.login_url_to(next))
    }

    /// The state of the silent sign-in in this browser session; `None` before the first page.
    pub(crate) fn silent_sign_in(&self, jar: &CookieJar<'_>) -> Option<SilentSignIn> {
        let cookie = self.cookies.named(SILENT, "/");
        cookie.read(jar).map(SilentSignIn::parse)
    }

    pub(crate) fn set_silent_sign_in(&self, state: SilentSignIn) -> SetCookie {
        self.cookies.named(SILENT, "/").set_until_closed(state.as_str())
    }

    /// Whether the last session of this browser has ended: only a user's own sign-in begins the next one. A value that
    /// is not a time counts as an end.
    pub(crate) fn has_last_session_ended(&self, jar: &CookieJar<'_>, now: OffsetDateTime) -> bool {
        let cookie = self.cookies.named(LAST_SESSION, "/");
        let end = cookie.read(jar).map(|end| end.parse().unwrap_or(0_i64));
        end.is_some_and(|end| end <= now.unix_timestamp())
    }

    /// The cookie of a browser whose session begins; `None` while `silent` is off.
    pub(crate) fn last_session_begun(&self, session: &CurrentSession, now: OffsetDateTime) -> Option<SetCookie> {
        // Rounded down: the session ends within that second.
        self.set_last_session(self.sessions.end_of(session) / 1000, now)
    }

    /// The cookie of a browser whose session has ended; `None` while `silent` is off.
    pub(crate) fn last_session_ended(&self, now: OffsetDateTime) -> Option<SetCookie> {
        self.set_last_session(0, now)
    }

    fn set_last_session(&self, end: i64, now: OffsetDateTime) -> Option<SetCookie> {
        self.silent_client()?;
        let cookie = self.cookies.named(LAST_SESSION, "/");
        Some(cookie.set(&end.to_string(), LAST_SESSION_TTL, now))
    }
}

#[cfg(test)]
mod tests {
    use super::SilentSignIn;

    #[test]
    fn an_unknown_value_counts_as_tried() {
        for (value, expected) in [
            ("probed", SilentSignIn::Probed),
            ("requested", SilentSignIn::Requested),
            ("tried", SilentSignIn::Tried),
            ("", SilentSignIn::Tried),
            ("Probed", SilentSignIn::Tried),
            ("probed ", SilentSignIn::Tried),
        ] {
            assert_eq!(SilentSignIn::parse(value), expected, "{value:?}");
        }
    }
}
