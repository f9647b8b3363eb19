//! The session cookies: one encrypted text, split into chunks that browsers accept.

use std::{borrow::Cow, time::Duration};

use rocket::http::CookieJar;
use time::OffsetDateTime;

use crate::cookies::{Cookies, NamedCookie, SetCookie};

/// Maximum characters of one chunk: with name and attributes a cookie stays below the 4,096 bytes that browsers accept
/// (RFC 6265 §6.1).
pub(super) const CHUNK_LEN: usize = 3_800;
/// Maximum chunks that any setting allows.
pub(super) const MAX_CHUNKS: usize = 5;
/// Terminates the text: a stale chunk of a longer text is not part of it.
const TERMINATOR: char = '.';

/// The cookies of a session, in the order of its chunks.
pub(super) struct SessionCookies(Vec<NamedCookie>);

impl SessionCookies {
    /// With this name, or by default one with the client tag, so that apps on one host do not collide.
    pub(super) fn new(cookies: &Cookies, name: Option<&str>) -> SessionCookies {
        let base = match name {
            Some(name) => name.to_owned(),
            None => format!("{}_{}", super::COOKIE, cookies.keys.client_tag()),
        };
        let chunk = |i: usize| {
            let suffix = if i == 0 { String::new() } else { format!("_{i}") };
            cookies.exactly(&format!("{base}{suffix}"), "/")
        };
        SessionCookies((0..MAX_CHUNKS).map(chunk).collect())
    }

    /// The first cookie, which every session has.
    #[cfg(any(test, feature = "cli"))]
    pub(super) fn first(&self) -> &NamedCookie {
        &self.0[0]
    }

    /// The joined text of a request's chunks, still encrypted, including its terminator.
    pub(super) fn read<'r>(&self, jar: &'r CookieJar<'_>) -> Option<Cow<'r, str>> {
        let mut text = Cow::from(self.0[0].read(jar)?);
        for cookie in &self.0[1..] {
            if text.ends_with(TERMINATOR) {
                break;
            }
            match cookie.read(jar) {
                Some(chunk) => text.to_mut().push_str(chunk),
                None => break,
            }
        }
        Some(text)
    }

    /// Whether a text fits into this number of cookies.
    pub(super) fn fits(text: &str, max: usize) -> bool {
        text.len() + TERMINATOR.len_utf8() <= CHUNK_LEN * max
    }

    /// Sets the chunks of a text, and removes stale further chunks from the browser.
    pub(super) fn write(&self, jar: &CookieJar<'_>, text: &str, ttl: Duration, now: OffsetDateTime) -> Vec<SetCookie> {
        let text = format!("{text}{TERMINATOR}");
        let mut rest = &*text;
        let mut set = vec![];
        for cookie in &self.0 {
            if rest.is_empty() {
                break;
            }
            let (chunk, tail) = rest.split_at(rest.len().min(CHUNK_LEN));
            set.push(cookie.set(chunk, ttl, now));
            rest = tail;
        }
        set.extend(self.removals(jar, set.len()));
        set
    }

    /// Removes the cookies that the browser has, starting at index `first`.
    pub(super) fn removals(&self, jar: &CookieJar<'_>, first: usize) -> Vec<SetCookie> {
        let further = self.0.iter().skip(first);
        let further = further.filter(|cookie| cookie.read(jar).is_some());
        further.map(NamedCookie::remove).collect()
    }
}

/// Strips the terminator; `None` when it is missing.
pub(super) fn strip_terminator(text: &str) -> Option<&str> {
    text.strip_suffix(TERMINATOR)
}
