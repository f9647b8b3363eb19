//! Rocket private cookies, sealed and opened outside of the jar.
//!
//! A cookie that a guard adds to Rocket's jar is lost when a catcher answers, and one added in
//! `on_response` is lost always. So what changes waits beside the request, and the fairing writes it
//! into the answer, sealed under Rocket's own key: `CookieJar::get_private` reads it.

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use ::cookie::{Cookie, CookieJar as SealingJar, Expiration, Key, SameSite};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use base64::{Engine, engine::general_purpose::STANDARD};
use rocket::http::CookieJar;
use time::OffsetDateTime;

pub(crate) use crate::cookies::{CookieChanges, SetCookie};

/// Seals and opens cookies under the app's secret key, with the attributes that the site calls for.
#[derive(Clone)]
pub(crate) struct CookieSeal {
    keys: Arc<Keys>,
    is_secure: bool,
}

struct Keys {
    key: Key,
    /// The part of the key that opens, made ready once.
    opening: LessSafeKey,
}

impl CookieSeal {
    /// `is_secure` says whether people reach the app by https: then cookies are `Secure` and carry a
    /// prefix that keeps other hosts and plain http from setting them (RFC 6265bis §4.1.3).
    pub(crate) fn new(key: Key, is_secure: bool) -> CookieSeal {
        let opening = UnboundKey::new(&AES_256_GCM, key.encryption())
            .expect("the encryption key of a cookie key has 256 bits");
        let opening = LessSafeKey::new(opening);
        CookieSeal {
            keys: Arc::new(Keys { key, opening }),
            is_secure,
        }
    }

    /// A cookie for `path` that lives as long as `life`.
    pub(crate) fn set(
        &self,
        name: &str,
        value: &str,
        path: &str,
        life: Duration,
        now: OffsetDateTime,
    ) -> SetCookie {
        let name = self.full_name(name, path).into_owned();
        let mut cookie = Cookie::new(name, value.to_owned());
        self.dress(&mut cookie, path);
        let life = time::Duration::try_from(life).unwrap_or(time::Duration::MAX);
        cookie.set_max_age(life);
        cookie.set_expires(
            now.checked_add(life)
                .map_or(Expiration::Session, Expiration::from),
        );

        let mut jar = SealingJar::new();
        jar.private_mut(&self.keys.key).add(cookie);
        SetCookie(
            jar.delta()
                .map(|sealed| sealed.encoded().to_string())
                .collect(),
        )
    }

    /// The full name and the attributes of a cookie, for a report.
    #[cfg(feature = "cli")]
    pub(crate) fn describe(&self, name: &str, path: &str) -> String {
        let mut cookie = Cookie::new(self.full_name(name, path), "");
        self.dress(&mut cookie, path);
        cookie.to_string().replacen('=', "", 1)
    }

    /// Takes a cookie away from the browser.
    pub(crate) fn remove(&self, name: &str, path: &str) -> SetCookie {
        let mut cookie = Cookie::new(self.full_name(name, path), "");
        self.dress(&mut cookie, path);
        cookie.make_removal();
        SetCookie(cookie.encoded().to_string())
    }

    /// The text of a cookie for `/`: `None` when it is absent, `Some(None)` when it does not open.
    pub(crate) fn open(&self, jar: &CookieJar<'_>, name: &str) -> Option<Option<String>> {
        self.open_at(jar, name, "/")
    }

    /// As [`open`](Self::open), for a cookie with another path.
    pub(crate) fn open_at(
        &self,
        jar: &CookieJar<'_>,
        name: &str,
        path: &str,
    ) -> Option<Option<String>> {
        let name = self.full_name(name, path);
        let sealed = jar.get(&name)?.value();
        Some(self.open_text(&name, sealed))
    }

    /// A cookie for `/` as it came.
    pub(crate) fn sealed<'r>(&self, jar: &'r CookieJar<'_>, name: &str) -> Option<&'r str> {
        jar.get(&self.full_name(name, "/"))
            .map(|cookie| cookie.value())
    }

    /// Seals a text that is kept elsewhere under this name, and opens under no other.
    pub(crate) fn seal_text(&self, name: &str, text: &str) -> String {
        let mut jar = SealingJar::new();
        jar.private_mut(&self.keys.key)
            .add(Cookie::new(name.to_owned(), text.to_owned()));
        jar.get(name)
            .map_or_else(String::new, |sealed| sealed.value().to_owned())
    }

    /// The text that was sealed under this name: base64 of a nonce, and what AES-256-GCM made of the text,
    /// with the name beside it.
    pub(crate) fn open_text(&self, name: &str, sealed: &str) -> Option<String> {
        let mut sealed = STANDARD.decode(sealed).ok()?;
        let nonce = Nonce::assume_unique_for_key(*sealed.first_chunk::<NONCE_LEN>()?);
        let name = Aad::from(name.as_bytes());
        let text = self
            .keys
            .opening
            .open_within(nonce, name, &mut sealed, NONCE_LEN..)
            .ok()?;
        let length = text.len();
        sealed.truncate(length);
        String::from_utf8(sealed).ok()
    }

    pub(crate) fn is_there(&self, jar: &CookieJar<'_>, name: &str) -> bool {
        self.sealed(jar, name).is_some()
    }

    /// What else is derived from the app's secret key.
    pub(crate) fn names(&self) -> super::Names {
        super::Names::new(self.keys.key.master())
    }

    /// The name with the prefix that the site and the path allow.
    pub(crate) fn full_name<'a>(&self, name: &'a str, path: &str) -> Cow<'a, str> {
        match (self.is_secure, path) {
            (true, "/") => ["__Host-", name].concat().into(),
            (true, _) => ["__Secure-", name].concat().into(),
            (false, _) => name.into(),
        }
    }

    fn dress(&self, cookie: &mut Cookie<'_>, path: &str) {
        cookie.set_path(path.to_owned());
        cookie.set_http_only(true);
        cookie.set_secure(self.is_secure);
        // `Strict` would keep the cookie away when the browser returns from the provider.
        cookie.set_same_site(SameSite::Lax);
    }
}

impl fmt::Debug for CookieSeal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CookieSeal")
            .field("is_secure", &self.is_secure)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Rocket's private jar answers.
    fn opened_by_rocket(key: &Key, name: &str, sealed: &str) -> Option<String> {
        let cookie = Cookie::new(name.to_owned(), sealed.to_owned());
        let opened = SealingJar::new().private(key).decrypt(cookie);
        opened.map(|cookie| cookie.value().to_owned())
    }

    #[test]
    fn what_opens_is_what_rocket_opens() {
        let key = Key::from(&[7; 64]);
        let seal = CookieSeal::new(key.clone(), false);
        for text in ["", "x", "alice, é", &"x".repeat(3_000)] {
            let sealed = seal.seal_text("name", text);
            assert_eq!(seal.open_text("name", &sealed).as_deref(), Some(text));
            let flipped = (0..sealed.len()).map(|place| {
                let other = if &sealed[place..=place] == "A" {
                    "B"
                } else {
                    "A"
                };
                format!("{}{other}{}", &sealed[..place], &sealed[place + 1..])
            });
            // Some of these would say the same bytes in another way.
            let last = sealed.trim_end_matches('=').len() - 1;
            let alphabet = ('A'..='Z')
                .chain('a'..='z')
                .chain('0'..='9')
                .chain(['+', '/']);
            let ends = alphabet.filter(|end| !sealed[last..].starts_with(*end));
            let ends = ends.map(|end| format!("{}{end}{}", &sealed[..last], &sealed[last + 1..]));
            let shorter = (0..sealed.len()).map(|length| sealed[..length].to_owned());
            let longer = [" ", "=", "A", "AAAA"].map(|more| format!("{sealed}{more}"));
            for changed in flipped.chain(ends).chain(shorter).chain(longer) {
                let expected = opened_by_rocket(&key, "name", &changed);
                assert_eq!(seal.open_text("name", &changed), expected, "{changed}");
                assert_eq!(expected, None, "{changed}");
            }
            assert_eq!(seal.open_text("other", &sealed), None);
            let other = CookieSeal::new(Key::from(&[8; 64]), false);
            assert_eq!(other.open_text("name", &sealed), None);
        }
    }

    /// Sessions in a store, and notes of those that ended, outlive the version of this crate that named them.
    #[test]
    fn names_are_made_of_the_whole_key() {
        let key: Vec<u8> = (0..64).collect();
        let names = CookieSeal::new(Key::from(&key), false).names();
        let subject = names.subject("https://op.example", "alice");
        assert_eq!(subject, "DKuYReX549OH5ACHuRS6h89kZkZ5WHWTkw9XYi8iuMQ");
    }

    #[test]
    fn bytes_that_are_no_text_do_not_open() {
        let key = Key::from(&[7; 64]);
        let nonce = Nonce::assume_unique_for_key([1; NONCE_LEN]);
        let seal = CookieSeal::new(key.clone(), false);
        let mut sealed = vec![0xff; 8];
        seal.keys
            .opening
            .seal_in_place_append_tag(nonce, Aad::from(b"name"), &mut sealed)
            .unwrap();
        let sealed = STANDARD.encode([&[1; NONCE_LEN][..], &sealed].concat());
        assert_eq!(seal.open_text("name", &sealed), None);
        assert_eq!(opened_by_rocket(&key, "name", &sealed), None);
    }
}
