//! The note that a browser carries while its sign-out is not recorded: which sessions have ended.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rocket::http::CookieJar;
use time::OffsetDateTime;

use super::milliseconds;
use crate::{
    cookies::{Cookies, NamedCookie, SetCookie},
    keys::{KeyRing, Purpose},
};

/// The kind of the note's cookie.
pub(crate) const ENDED: &str = "oidc_ended";
/// How many sessions a note names, the newest ones.
const MAX_NOTED: usize = 8;
/// The digest that names a session, and until when it lives.
const NAME_LEN: usize = 32;
const ENTRY_LEN: usize = NAME_LEN + 8;

/// A session that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) name: String,
    /// When it would have ended by itself at the latest, in milliseconds since 1970.
    pub(super) ends: i64,
}

/// The cookie with the note. It is encrypted, so that nobody can name a session that was not signed out: by a
/// note its sessions end, and nothing else.
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

    /// The sessions that a browser's note names and that have not ended by themselves: none when the note does not
    /// decrypt, as after a change of keys. `None` without a note.
    pub(super) fn read(&self, jar: &CookieJar<'_>, now: OffsetDateTime) -> Option<Vec<Ended>> {
        let name = self.cookie.name();
        // Most requests have few cookies, and a search by name costs more.
        let cookie = jar.iter().find(|cookie| cookie.name() == name)?;
        let decrypt = || {
            let value = URL_SAFE_NO_PAD.decode(cookie.value()).ok()?;
            let context = self.cookie.name().as_bytes();
            self.keys.decrypt(Purpose::EndedNote, context, value).ok()
        };
        let ends = decrypt().map(|note| parse(&note.plaintext, milliseconds(now)));
        Some(ends.unwrap_or_default())
    }

    /// What has this browser carry a note of these, the newest ones first.
    pub(super) fn replace(
        &self,
        jar: &CookieJar<'_>,
        ends: &[Ended],
        now: OffsetDateTime,
    ) -> Vec<SetCookie> {
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

    /// Whether a browser has a note, whatever is in it.
    fn is_in(&self, jar: &CookieJar<'_>) -> bool {
        jar.iter().any(|cookie| cookie.name() == self.cookie.name())
    }

    pub(super) fn remove(&self) -> SetCookie {
        self.cookie.remove()
    }
}

/// What a note holds.
fn text(ends: &[Ended]) -> Vec<u8> {
    let mut text = Vec::with_capacity(MAX_NOTED * ENTRY_LEN);
    for ended in ends.iter().take(MAX_NOTED) {
        // Every session has a digest for a name, but for that of the testing profile.
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
        // Two ends of one half each are none.
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
