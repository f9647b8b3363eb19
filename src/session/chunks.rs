//! The session's cookies: one encrypted text, cut into chunks that browsers accept.

use std::{borrow::Cow, time::Duration};

use rocket::http::CookieJar;
use time::OffsetDateTime;

use crate::cookies::{Cookies, NamedCookie, SetCookie};

/// How many characters one cookie has: with its name and attributes less than the 4,096 bytes that
/// browsers keep (RFC 6265 §6.1).
pub(super) const CHUNK_LEN: usize = 3_800;
/// More chunks than any setting allows are not looked for.
pub(super) const MAX_CHUNKS: usize = 5;
/// Ends the text: a chunk that a longer one left behind is not part of it.
const END: char = '.';

/// The cookies of a session, by name.
pub(super) struct SessionCookies(Vec<NamedCookie>);

impl SessionCookies {
    /// With this name, or one that tells apps on one host apart.
    pub(super) fn new(cookies: &Cookies, name: Option<&str>) -> SessionCookies {
        let base = match name {
            Some(name) => name.to_owned(),
            None => format!("{}_{}", super::COOKIE, cookies.keys.client_tag()),
        };
        let chunk = |i: usize| {
            let suffix = if i == 0 {
                String::new()
            } else {
                format!("_{i}")
            };
            cookies.exactly(&format!("{base}{suffix}"), "/")
        };
        SessionCookies((0..MAX_CHUNKS).map(chunk).collect())
    }

    /// The first cookie, which every session has.
    #[cfg(any(test, feature = "cli"))]
    pub(super) fn first(&self) -> &NamedCookie {
        &self.0[0]
    }

    /// The text that a request carries, without its end; not decrypted yet.
    pub(super) fn read<'r>(&self, jar: &'r CookieJar<'_>) -> Option<Cow<'r, str>> {
        let mut text = Cow::from(self.0[0].read(jar)?);
        for cookie in &self.0[1..] {
            if text.ends_with(END) {
                break;
            }
            match cookie.read(jar) {
                Some(chunk) => text.to_mut().push_str(chunk),
                None => break,
            }
        }
        Some(text)
    }

    /// Whether a text fits into so many cookies.
    pub(super) fn fits(text: &str, max: usize) -> bool {
        text.len() + END.len_utf8() <= CHUNK_LEN * max
    }

    /// Sets the cookies to a text, and removes the further ones that the browser has.
    pub(super) fn write(
        &self,
        jar: &CookieJar<'_>,
        text: &str,
        life: Duration,
        now: OffsetDateTime,
    ) -> Vec<SetCookie> {
        let text = format!("{text}{END}");
        let mut rest = &*text;
        let mut set = vec![];
        for cookie in &self.0 {
            if rest.is_empty() {
                break;
            }
            let (chunk, tail) = rest.split_at(rest.len().min(CHUNK_LEN));
            set.push(cookie.set(chunk, life, now));
            rest = tail;
        }
        set.extend(self.removals(jar, set.len()));
        set
    }

    /// Removes the cookies that the browser has, from the `first` on.
    pub(super) fn removals(&self, jar: &CookieJar<'_>, first: usize) -> Vec<SetCookie> {
        let further = self.0.iter().skip(first);
        let further = further.filter(|cookie| cookie.read(jar).is_some());
        further.map(NamedCookie::remove).collect()
    }
}

/// The text without its end; `None` when the end is missing.
pub(super) fn without_end(text: &str) -> Option<&str> {
    text.strip_suffix(END)
}
