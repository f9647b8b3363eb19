//! The cookies of this crate: their names, attributes and `Set-Cookie` headers.
//!
//! Rocket's jar loses a cookie that a guard adds if a catcher responds, and always one that is added in `on_response`.
//! So changes are kept in the request-local state, and the fairing writes them to the response.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use ::cookie::{Cookie, Expiration, SameSite};
use rocket::http::CookieJar;
use time::OffsetDateTime;

use crate::keys::KeyRing;

/// A factory of cookies, with the names and attributes that depend on client and site.
#[derive(Clone, Debug)]
pub(crate) struct Cookies {
    pub(crate) keys: KeyRing,
    client_tag: Arc<str>,
    is_secure: bool,
}

/// A cookie without a value: its name, its path and its attributes.
#[derive(Clone, Debug)]
pub(crate) struct NamedCookie {
    name: String,
    path: String,
    is_secure: bool,
}

/// The value of one `Set-Cookie` header.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SetCookie(pub(crate) String);

impl Cookies {
    /// `is_secure`: users reach the app by https. Then cookies are `Secure` and have a prefix that prevents other hosts
    /// and plain http from setting them (RFC 6265bis §4.1.3).
    pub(crate) fn new(keys: KeyRing, is_secure: bool) -> Cookies {
        Cookies {
            client_tag: keys.client_tag().into(),
            keys,
            is_secure,
        }
    }

    /// A cookie of this kind. Its name ends in the tag of issuer and client, so that several apps on one host do not
    /// overwrite each other's cookies.
    pub(crate) fn named(&self, kind: &str, path: &str) -> NamedCookie {
        self.exactly(&format!("{kind}_{}", self.client_tag), path)
    }

    /// A cookie with this name, after the prefix that site and path allow.
    pub(crate) fn exactly(&self, name: &str, path: &str) -> NamedCookie {
        let prefix = match (self.is_secure, path) {
            (true, "/") => "__Host-",
            (true, _) => "__Secure-",
            (false, _) => "",
        };
        NamedCookie {
            name: format!("{prefix}{name}"),
            path: path.to_owned(),
            is_secure: self.is_secure,
        }
    }
}

impl NamedCookie {
    /// The full name, with its prefix.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Sets the cookie for this lifetime. The value is not encoded: use base64url or similar characters.
    pub(crate) fn set(&self, value: &str, life: Duration, now: OffsetDateTime) -> SetCookie {
        let mut cookie = self.with_value(value);
        let life = time::Duration::try_from(life).unwrap_or(time::Duration::MAX);
        cookie.set_max_age(life);
        cookie.set_expires(now.checked_add(life).map_or(Expiration::Session, Expiration::from));
        SetCookie(cookie.to_string())
    }

    /// Sets the cookie until the browser is closed.
    pub(crate) fn set_until_closed(&self, value: &str) -> SetCookie {
        SetCookie(self.with_value(value).to_string())
    }

    /// Removes the cookie from the browser.
    pub(crate) fn remove(&self) -> SetCookie {
        let mut cookie = self.with_value("");
        cookie.make_removal();
        SetCookie(cookie.to_string())
    }

    /// Its value in a request.
    pub(crate) fn read<'r>(&self, jar: &'r CookieJar<'_>) -> Option<&'r str> {
        jar.get(&self.name).map(Cookie::value)
    }

    /// The name and the attributes, for a report.
    #[cfg(feature = "cli")]
    pub(crate) fn describe(&self) -> String {
        self.with_value("").to_string().replacen('=', "", 1)
    }

    fn with_value<'a>(&'a self, value: &'a str) -> Cookie<'a> {
        let mut cookie = Cookie::new(&*self.name, value);
        cookie.set_path(&*self.path);
        cookie.set_http_only(true);
        cookie.set_secure(self.is_secure);
        // `Strict` cookies are not sent when the provider redirects the browser back.
        cookie.set_same_site(SameSite::Lax);
        cookie
    }
}

impl SetCookie {
    /// The size of the header in bytes, including its name and CRLF.
    pub(crate) fn header_len(&self) -> usize {
        "Set-Cookie: \r\n".len() + self.0.len()
    }
}

impl fmt::Debug for SetCookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.0.split('=').next().unwrap_or_default();
        write!(f, "SetCookie({name}=…)")
    }
}

/// The `Set-Cookie` headers of the response to one request, in its request-local state until then.
#[derive(Default)]
pub(crate) struct CookieChanges(Mutex<Vec<SetCookie>>);

impl CookieChanges {
    pub(crate) fn add(&self, cookies: impl IntoIterator<Item = SetCookie>) {
        if let Ok(mut changes) = self.0.lock() {
            changes.extend(cookies);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.lock().is_ok_and(|changes| changes.is_empty())
    }

    /// Takes the header values. Of several for one cookie, browsers use the last.
    pub(crate) fn take(&self) -> Vec<String> {
        match self.0.lock() {
            Ok(mut changes) => changes.drain(..).map(|cookie| cookie.0).collect(),
            Err(_) => vec![],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::SecretKey;

    fn cookies(is_secure: bool) -> Cookies {
        let key = SecretKey::from_bytes(vec![7; 32]).unwrap();
        let keys = KeyRing::new(&key, &[], &["https://op.example", "app"]);
        Cookies::new(keys, is_secure)
    }

    #[test]
    fn names_have_a_prefix_and_the_tag_of_the_client() {
        let tag = cookies(true).keys.client_tag();
        for (is_secure, path, name) in [
            (true, "/", format!("__Host-oidc_browser_{tag}")),
            (true, "/oidc", format!("__Secure-oidc_browser_{tag}")),
            (false, "/", format!("oidc_browser_{tag}")),
        ] {
            let cookie = cookies(is_secure).named("oidc_browser", path);
            assert_eq!(cookie.name(), name);
        }
        assert_eq!(cookies(true).exactly("mine", "/").name(), "__Host-mine");
    }

    #[test]
    fn a_cookie_has_every_attribute() {
        let now = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let cookie = cookies(true).exactly("c", "/");
        let set = cookie.set("v.-_~", Duration::from_secs(60), now);
        assert_eq!(
            set.0,
            "__Host-c=v.-_~; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=60; Expires=Fri, 15 Jan 2027 08:01:00 GMT"
        );
        assert_eq!(format!("{set:?}"), "SetCookie(__Host-c=…)");
        let set = cookies(true).exactly("c", "/").set_until_closed("v");
        assert_eq!(set.0, "__Host-c=v; HttpOnly; SameSite=Lax; Secure; Path=/");
        let removed = cookies(false).exactly("c", "/oidc").remove().0;
        assert!(
            removed.starts_with("c=; HttpOnly; SameSite=Lax; Path=/oidc; Max-Age=0; Expires="),
            "{removed}"
        );
    }
}
