//! The session cookies: one encrypted text, split into chunks that browsers accept.

use std::{borrow::Cow, sync::Arc, time::Duration};

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

/// Separates the name of the provider from the text.
const AFTER_PROVIDER: char = '~';

/// The cookies of a session.
pub(super) struct SessionCookies {
    /// In the order of its chunks.
    chunks: Vec<NamedCookie>,
    /// Where the sessions of several providers have cookies of the same names: the name of this provider, which
    /// precedes the text. It only selects the keys; the text is encrypted for the provider.
    provider: Option<Arc<str>>,
}

impl SessionCookies {
    /// With this name, or by default one with the client tag, so that apps on one host do not collide.
    pub(super) fn new(cookies: &Cookies, name: Option<&str>, provider: Option<Arc<str>>) -> SessionCookies {
        let base = match name {
            Some(name) => name.to_owned(),
            None => format!("{}_{}", super::COOKIE, cookies.keys.client_tag()),
        };
        let chunk = |i: usize| {
            let suffix = if i == 0 { String::new() } else { format!("_{i}") };
            cookies.exactly(&format!("{base}{suffix}"), "/")
        };
        SessionCookies {
            chunks: (0..MAX_CHUNKS).map(chunk).collect(),
            provider,
        }
    }

    /// The first cookie, which every session has.
    pub(super) fn first(&self) -> &NamedCookie {
        &self.chunks[0]
    }

    /// The name of the provider whose session a request carries, where several providers have cookies of the same
    /// names.
    pub(super) fn provider<'r>(&self, jar: &'r CookieJar<'_>) -> Option<&'r str> {
        let (provider, _) = self.chunks[0].read(jar)?.split_once(AFTER_PROVIDER)?;
        Some(provider)
    }

    /// The joined text of a request's chunks, still encrypted, including its terminator. `None` for the session of
    /// another provider.
    pub(super) fn read<'r>(&self, jar: &'r CookieJar<'_>) -> Option<Cow<'r, str>> {
        let mut first = self.chunks[0].read(jar)?;
        if let Some(provider) = &self.provider {
            first = first.strip_prefix(&**provider)?.strip_prefix(AFTER_PROVIDER)?;
        }
        let mut text = Cow::from(first);
        for cookie in &self.chunks[1..] {
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
    pub(super) fn fits(&self, text: &str, max: usize) -> bool {
        let before = self.provider.as_ref().map_or(0, |provider| provider.len() + 1);
        before + text.len() + TERMINATOR.len_utf8() <= CHUNK_LEN * max
    }

    /// Sets the chunks of a text, and removes stale further chunks from the browser.
    pub(super) fn write(&self, jar: &CookieJar<'_>, text: &str, ttl: Duration, now: OffsetDateTime) -> Vec<SetCookie> {
        let text = match &self.provider {
            Some(provider) => format!("{provider}{AFTER_PROVIDER}{text}{TERMINATOR}"),
            None => format!("{text}{TERMINATOR}"),
        };
        let mut rest = &*text;
        let mut set = vec![];
        for cookie in &self.chunks {
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
        let further = self.chunks.iter().skip(first);
        let further = further.filter(|cookie| cookie.read(jar).is_some());
        further.map(NamedCookie::remove).collect()
    }
}

/// Strips the terminator; `None` when it is missing.
pub(super) fn strip_terminator(text: &str) -> Option<&str> {
    text.strip_suffix(TERMINATOR)
}
