//! Who is signed in, and where that is kept: in the browser, sealed.

pub(crate) mod cookie;

use std::time::Duration;

use rocket::http::CookieJar;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;
use time::OffsetDateTime;

use self::cookie::{CookieSeal, SetCookie};
use crate::{Secret, secret, settings::SessionSettings, token::Claims};

/// The name of the session's cookie, before its prefix. Further pieces add `_1`, `_2`, …
const COOKIE: &str = "oidc_session";
/// The plain text that one cookie holds, in bytes: about 3,750 on the wire, below the 4,096 that
/// browsers keep (RFC 6265 §6.1).
const PIECE: usize = 2_700;
/// More pieces than any setting allows are not even looked for.
const MOST_PIECES: usize = 5;
/// The layout of what is sealed. A cookie of another layout is no session.
const LAYOUT: u8 = 1;

/// One sign-in, from its callback until it ends.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Session {
    layout: u8,
    /// New at every sign-in.
    #[serde(with = "secret::text")]
    pub id: Secret,
    pub issuer: String,
    /// The ID token's claims merged with UserInfo.
    pub claims: Claims,
    /// What the app added in `after_authorize`.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub data: Map<String, Value>,
    #[serde(
        default,
        with = "secret::optional_text",
        skip_serializing_if = "Option::is_none"
    )]
    pub access_token: Option<Secret>,
    /// In seconds since 1970; `None` when the provider does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_token_ends: Option<i64>,
    #[serde(
        default,
        with = "secret::optional_text",
        skip_serializing_if = "Option::is_none"
    )]
    pub refresh_token: Option<Secret>,
    /// In seconds since 1970.
    started: i64,
    /// In seconds since 1970.
    seen: i64,
}

impl Session {
    /// A session that begins now, with an id of its own.
    pub(crate) fn new(issuer: &str, claims: Claims, now: OffsetDateTime) -> Session {
        Session {
            layout: LAYOUT,
            id: Secret::random(),
            issuer: issuer.to_owned(),
            claims,
            data: Map::new(),
            access_token: None,
            access_token_ends: None,
            refresh_token: None,
            started: now.unix_timestamp(),
            seen: now.unix_timestamp(),
        }
    }
}

/// Why there is no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SignedOut {
    /// The request carries no session.
    #[error("the request carries no session")]
    NoSession,
    /// The cookie cannot be opened: another key, another version of this crate, or damage.
    #[error("the session's cookie cannot be opened")]
    Unreadable,
    /// The session was not used for longer than `session.idle`.
    #[error("the session was idle for too long")]
    Idle,
    /// The session is older than `session.lifetime`.
    #[error("the session's lifetime has ended")]
    LifetimeEnded,
    /// The session comes from another provider than the one in the settings.
    #[error("the session comes from another issuer")]
    OtherIssuer,
    /// `enabled = false`, and there is no testing profile or it was signed out.
    #[error("OpenID Connect is disabled and nobody is signed in")]
    Disabled,
}

/// The session does not fit into its cookies.
#[derive(Debug, PartialEq, Error)]
#[error("the session has {size} bytes and its cookies hold {limit}; the largest parts are {}", largest.join(", "))]
#[non_exhaustive]
pub struct SessionTooLarge {
    /// What the session takes, in bytes.
    pub size: usize,
    /// What `session.max_cookies` allow, in bytes.
    pub limit: usize,
    /// The largest claims and tokens with their sizes, largest first.
    pub largest: Vec<String>,
}

impl SessionTooLarge {
    /// What to do about it.
    pub fn remedy(&self) -> String {
        "have the provider send less, ask for fewer `oidc.scopes`, or raise `oidc.session.max_cookies` (5 at most)".into()
    }
}

/// The sessions of this app.
#[derive(Debug)]
pub(crate) struct Sessions {
    settings: SessionSettings,
    seal: CookieSeal,
}

impl Sessions {
    pub(crate) fn new(settings: SessionSettings, seal: CookieSeal) -> Sessions {
        Sessions { settings, seal }
    }

    /// The cookies that begin a session in this browser, or replace it.
    pub(crate) fn begin(
        &self,
        session: &Session,
        jar: &CookieJar<'_>,
        now: OffsetDateTime,
    ) -> Result<Vec<SetCookie>, SessionTooLarge> {
        let text = serde_json::to_string(session)
            .expect("a session is strings, numbers and JSON, which always serialize");
        let pieces = split(&text);
        if pieces.len() > self.settings.max_cookies {
            return Err(too_large(session, text.len(), self.settings.max_cookies));
        }

        let life = self.remaining(session, now);
        let count = pieces.len();
        let mut cookies: Vec<_> = pieces
            .iter()
            .enumerate()
            .map(|(i, piece)| {
                let value = format!("{}:{i}:{count}:{piece}", session.id.expose());
                self.seal.set(&name(i), &value, "/", life, now)
            })
            .collect();
        cookies.extend(self.removals(jar, count));
        Ok(cookies)
    }

    /// The session of this browser.
    pub(crate) fn find(
        &self,
        jar: &CookieJar<'_>,
        now: OffsetDateTime,
    ) -> Result<Session, SignedOut> {
        let first = match self.seal.open(jar, &name(0)) {
            Some(text) => text.ok_or(SignedOut::Unreadable)?,
            None => return Err(SignedOut::NoSession),
        };
        let text = self.join(&first, jar).ok_or(SignedOut::Unreadable)?;
        let session: Session = serde_json::from_str(&text).map_err(|_| SignedOut::Unreadable)?;

        let now = now.unix_timestamp();
        if session.layout != LAYOUT {
            Err(SignedOut::Unreadable)
        } else if now - session.started >= seconds(self.settings.lifetime) {
            Err(SignedOut::LifetimeEnded)
        } else if now - session.seen >= seconds(self.settings.idle) {
            Err(SignedOut::Idle)
        } else {
            Ok(session)
        }
    }

    /// Notes that the session is in use. `None` when that was noted a short while ago: a tenth of
    /// the idle time, so that few answers carry a cookie.
    pub(crate) fn touch(
        &self,
        session: &mut Session,
        jar: &CookieJar<'_>,
        now: OffsetDateTime,
    ) -> Option<Vec<SetCookie>> {
        if now.unix_timestamp() - session.seen < seconds(self.settings.idle / 10) {
            return None;
        }
        session.seen = now.unix_timestamp();
        self.begin(session, jar, now).ok()
    }

    /// The cookies that end the session in this browser.
    pub(crate) fn end(&self, jar: &CookieJar<'_>) -> Vec<SetCookie> {
        self.removals(jar, 0)
    }

    /// Removes pieces that the browser holds, from the `first` on.
    fn removals(&self, jar: &CookieJar<'_>, first: usize) -> Vec<SetCookie> {
        (first..MOST_PIECES)
            .filter(|i| self.seal.is_there(jar, &name(*i)))
            .map(|i| self.seal.remove(&name(i), "/"))
            .collect()
    }

    /// Puts the pieces together, if they are all there and of one session.
    fn join(&self, first: &str, jar: &CookieJar<'_>) -> Option<String> {
        let (id, count, start) = piece(first, 0)?;
        let mut text = start.to_owned();
        for i in 1..count {
            let next = self.seal.open(jar, &name(i))??;
            let (next_id, next_count, part) = piece(&next, i)?;
            if next_id != id || next_count != count {
                return None;
            }
            text.push_str(part);
        }
        Some(text)
    }

    /// How long the browser should keep the cookies: until the session ends, if it is not used again.
    fn remaining(&self, session: &Session, now: OffsetDateTime) -> Duration {
        let age = Duration::from_secs(
            (now.unix_timestamp() - session.started)
                .max(0)
                .unsigned_abs(),
        );
        self.settings
            .lifetime
            .saturating_sub(age)
            .min(self.settings.idle)
    }
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

fn name(piece: usize) -> String {
    match piece {
        0 => COOKIE.to_owned(),
        i => format!("{COOKIE}_{i}"),
    }
}

/// Cuts a text into pieces of at most [`PIECE`] bytes, between characters.
fn split(text: &str) -> Vec<&str> {
    let mut rest = text;
    let mut pieces = vec![];
    while rest.len() > PIECE {
        let (piece, tail) = rest.split_at(boundary(rest));
        pieces.push(piece);
        rest = tail;
    }
    pieces.push(rest);
    pieces
}

/// The last place between characters within the first [`PIECE`] bytes.
fn boundary(text: &str) -> usize {
    (0..=PIECE)
        .rev()
        .find(|i| text.is_char_boundary(*i))
        .unwrap_or(PIECE)
}

/// Takes a piece apart: the session's id, how many pieces there are, and its text.
fn piece(text: &str, expected: usize) -> Option<(&str, usize, &str)> {
    let mut parts = text.splitn(4, ':');
    let (id, i, count, text) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let (i, count): (usize, usize) = (i.parse().ok()?, count.parse().ok()?);
    (i == expected && count <= MOST_PIECES).then_some((id, count, text))
}

/// Names what takes the most room.
fn too_large(session: &Session, size: usize, max_cookies: usize) -> SessionTooLarge {
    let length = |token: &Option<Secret>| token.as_ref().map_or(0, |token| token.expose().len());
    let mut parts: Vec<(String, usize)> = session
        .claims
        .iter()
        .map(|(name, value)| (format!("claim `{name}`"), value.to_string().len()))
        .chain(
            session
                .data
                .iter()
                .map(|(name, value)| (format!("the app's `{name}`"), value.to_string().len())),
        )
        .chain([
            ("the access token".to_owned(), length(&session.access_token)),
            (
                "the refresh token".to_owned(),
                length(&session.refresh_token),
            ),
        ])
        .collect();
    parts.sort_by_key(|(_, size)| std::cmp::Reverse(*size));

    SessionTooLarge {
        size,
        limit: PIECE * max_cookies,
        largest: parts
            .into_iter()
            .take(3)
            .map(|(name, size)| format!("{name} with {size} bytes"))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_cut_between_characters() {
        let text = "é".repeat(PIECE);
        let pieces = split(&text);
        assert_eq!(pieces.concat(), text);
        assert_eq!(
            pieces.iter().map(|p| p.len()).collect::<Vec<_>>(),
            [2700, 2700]
        );
        let text = format!("a{text}");
        assert_eq!(split(&text).concat(), text);
        assert_eq!(split(&text)[0].len(), 2699);
    }

    #[test]
    fn pieces_out_of_place_are_refused() {
        assert_eq!(piece("id:1:2:x:y", 1), Some(("id", 2, "x:y")));
        for (text, i) in [
            ("id:1:2:x", 0),
            ("id:0:6:x", 0),
            ("id:0:2", 0),
            ("", 0),
            ("id:a:b:x", 0),
        ] {
            assert_eq!(piece(text, i), None, "{text}");
        }
    }
}
