//! The encrypted cookie that lists a browser's ended sessions, while the store could not record their ends.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rocket::http::CookieJar;
use time::OffsetDateTime;

use super::milliseconds;
use crate::{
    cookies::{Cookies, NamedCookie, SetCookie},
    keys::{KeyRing, Purpose},
};

/// The prefix of the cookie's name.
pub(crate) const ENDED: &str = "oidc_ended";
/// Maximum sessions in a note: the newest.
const MAX_NOTED: usize = 8;
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
pub(super) struct EndedNote {
    cookie: NamedCookie,
    keys: KeyRing,
}

impl EndedNote {
    pub(super) fn new(cookies: &Cookies) -> EndedNote {
        EndedNote {
            cookie: cookies.named(ENDED, "/"),
            keys: cookies.keys.clone(),
        }
    }

    /// The unexpired sessions in a browser's note: empty when the note cannot be decrypted, as after a key change.
    /// `None` without a note.
    pub(super) fn read(&self, jar: &CookieJar<'_>, now: OffsetDateTime) -> Option<Vec<Ended>> {
        let name = self.cookie.name();
        // Faster than a lookup by name, because most requests have few cookies.
        let cookie = jar.iter().find(|cookie| cookie.name() == name)?;
        let decrypt = || {
            let value = URL_SAFE_NO_PAD.decode(cookie.value()).ok()?;
            let context = self.cookie.name().as_bytes();
            self.keys.decrypt(Purpose::EndedNote, context, value).ok()
        };
        let ends = decrypt().map(|note| parse(&note.plaintext, milliseconds(now)));
        Some(ends.unwrap_or_default())
    }

    /// Sets this browser's note to these ends, of which the first are kept.
    pub(super) fn replace(&self, jar: &CookieJar<'_>, ends: &[Ended], now: OffsetDateTime) -> Vec<SetCookie> {
        let note = text(ends);
        if note.is_empty() {
            return self.is_in(jar).then(|| self.remove()).into_iter().collect();
        }
        let context = self.cookie.name().as_bytes();
        let value = self.keys.encrypt(Purpose::EndedNote, context, &note);
        let ends = ends.iter().take(MAX_NOTED).map(|ended| ended.ends).max();
        let life = ends.unwrap_or_default().saturating_sub(milliseconds(now));
        let life = std::time::Duration::from_millis(life.max(0).unsigned_abs());
        vec![self.cookie.set(&URL_SAFE_NO_PAD.encode(value), life, now)]
    }

    /// Whether a browser has a note, even one that cannot be decrypted.
    fn is_in(&self, jar: &CookieJar<'_>) -> bool {
        jar.iter().any(|cookie| cookie.name() == self.cookie.name())
    }

    pub(super) fn remove(&self) -> SetCookie {
        self.cookie.remove()
    }
}

/// Serializes a note.
fn text(ends: &[Ended]) -> Vec<u8> {
    let mut text = Vec::with_capacity(MAX_NOTED * ENTRY_LEN);
    for ended in ends.iter().take(MAX_NOTED) {
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
    let entries = text.chunks_exact(ENTRY_LEN).take(MAX_NOTED);
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
    fn a_note_names_the_eight_newest_sessions_that_have_not_ended_by_themselves() {
        let ends: Vec<_> = (0..20).map(ended).collect();
        let note = text(&ends);
        assert_eq!(note.len(), 8 * ENTRY_LEN);
        assert_eq!(parse(&note, 0), ends[..8]);
        assert_eq!(parse(&note, 1_003), ends[4..8]);
        assert_eq!(parse(&note, 1_007), []);
        // Two truncated entries do not form one.
        assert_eq!(parse(&note[..ENTRY_LEN + NAME_LEN], 0), ends[..1]);
        for name in ["testing_profile", "AAAA"] {
            let no_digest = Ended {
                name: name.to_owned(),
                ends: 5_000,
            };
            assert_eq!(text(&[no_digest]), b"");
        }
    }
}
