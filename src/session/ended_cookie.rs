//! The encrypted cookie that lists a browser's ended sessions, while the store could not record their ends.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rocket::http::CookieJar;
use time::OffsetDateTime;

use super::{milliseconds, time_until};
use crate::{
    cookies::{Cookies, NamedCookie, SetCookie},
    keys::{KeyRing, Purpose},
};

/// The prefix of the cookie's name.
pub(crate) const ENDED: &str = "oidc_ended";
/// Maximum sessions in the cookie: the newest.
const MAX_ENDED: usize = 8;
/// One entry: the digest that names a session, and its expiry.
const NAME_LEN: usize = 32;
const ENTRY_LEN: usize = NAME_LEN + 8;

/// A session that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) name: String,
    /// Its latest possible expiry, in milliseconds since 1970.
    pub(super) ends: i64,
}

/// Reads and writes the cookie. It is encrypted, so that a client cannot end a session that was not signed out.
pub(super) struct EndedCookie {
    cookie: NamedCookie,
    keys: KeyRing,
}

impl EndedCookie {
    pub(super) fn new(cookies: &Cookies) -> EndedCookie {
        EndedCookie {
            cookie: cookies.named(ENDED, "/"),
            keys: cookies.keys.clone(),
        }
    }

    /// The unexpired sessions in a browser's cookie: empty when it cannot be decrypted, as after a key change.
    /// `None` without the cookie.
    pub(super) fn read(&self, jar: &CookieJar<'_>, now: OffsetDateTime) -> Option<Vec<Ended>> {
        let name = self.cookie.name();
        // Faster than a lookup by name, because most requests have few cookies.
        let cookie = jar.iter().find(|cookie| cookie.name() == name)?;
        let decrypt = || {
            let value = URL_SAFE_NO_PAD.decode(cookie.value()).ok()?;
            let context = self.cookie.name().as_bytes();
            self.keys.decrypt(Purpose::EndedNote, context, value).ok()
        };
        let ends = decrypt().map(|list| parse(&list.plaintext, milliseconds(now)));
        Some(ends.unwrap_or_default())
    }

    /// Sets this browser's cookie to these ends, of which the first are kept.
    pub(super) fn replace(&self, jar: &CookieJar<'_>, ends: &[Ended], now: OffsetDateTime) -> Vec<SetCookie> {
        let list = text(ends);
        if list.is_empty() {
            return self.cookie.read(jar).map(|_| self.remove()).into_iter().collect();
        }
        let context = self.cookie.name().as_bytes();
        let value = self.keys.encrypt(Purpose::EndedNote, context, &list);
        let ends = ends.iter().take(MAX_ENDED).map(|ended| ended.ends).max();
        let ttl = time_until(ends.unwrap_or_default(), now);
        vec![self.cookie.set(&URL_SAFE_NO_PAD.encode(value), ttl, now)]
    }

    pub(super) fn remove(&self) -> SetCookie {
        self.cookie.remove()
    }
}

/// Serializes the cookie.
fn text(ends: &[Ended]) -> Vec<u8> {
    let mut text = Vec::with_capacity(MAX_ENDED * ENTRY_LEN);
    for ended in ends.iter().take(MAX_ENDED) {
        // Only the testing profile's session has a name that is not a digest.
        if let Ok(name) = URL_SAFE_NO_PAD.decode(&ended.name)
            && name.len() == NAME_LEN
        {
            text.extend_from_slice(&name);
            text.extend_from_slice(&ended.ends.to_be_bytes());
        }
    }
    text
}

fn parse(text: &[u8], now: i64) -> Vec<Ended> {
    let entry = |entry: &[u8]| {
        let (name, ends) = entry.split_at_checked(NAME_LEN)?;
        let ends = i64::from_be_bytes(ends.try_into().ok()?);
        (ends > now).then(|| Ended {
            name: URL_SAFE_NO_PAD.encode(name),
            ends,
        })
    };
    let entries = text.chunks_exact(ENTRY_LEN).take(MAX_ENDED);
    entries.filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::digest_name;

    fn ended(i: i64) -> Ended {
        Ended {
            name: digest_name("session", &[&i.to_string()]),
            ends: 1_000 + i,
        }
    }

    #[test]
    fn the_cookie_names_the_eight_newest_unexpired_sessions() {
        let ends: Vec<_> = (0..20).map(ended).collect();
        let bytes = text(&ends);
        assert_eq!(bytes.len(), 8 * ENTRY_LEN);
        assert_eq!(parse(&bytes, 0), ends[..8]);
        assert_eq!(parse(&bytes, 1_003), ends[4..8]);
        assert_eq!(parse(&bytes, 1_007), []);
        // Two truncated entries do not form one.
        assert_eq!(parse(&bytes[..ENTRY_LEN + NAME_LEN], 0), ends[..1]);
        for name in ["testing_profile", "AAAA"] {
            let no_digest = Ended {
                name: name.to_owned(),
                ends: 5_000,
            };
            assert_eq!(text(&[no_digest]), b"");
        }
    }
}
