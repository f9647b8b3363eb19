//! The nonces that servers want in proofs (RFC 9449 §8, §9), by origin.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use openidconnect::http::HeaderMap;
use url::{Origin, Url};

/// The maximum number of origins; the one whose nonce is the oldest is evicted.
const MAX_ORIGINS: usize = 8;
/// The maximum length of a nonce.
const MAX_LEN: usize = 256;

/// The latest nonce of each server. A nonce is sent to the origin that it came from, and to no other.
#[derive(Default)]
pub(crate) struct ServerNonces(Mutex<Vec<(Origin, String)>>);

impl ServerNonces {
    /// The nonce for a request to this URL.
    pub(crate) fn of(&self, url: &Url) -> Option<String> {
        let (origin, nonces) = (url.origin(), self.lock());
        let (_, nonce) = nonces.iter().find(|(known, _)| *known == origin)?;
        Some(nonce.clone())
    }

    /// Keeps the nonce of a response from this URL, whatever its status is. Returns whether there was one.
    pub(crate) fn learn(&self, url: &Url, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all("DPoP-Nonce").iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return false;
        };
        let Some(nonce) = value.to_str().ok().filter(|nonce| is_nonce(nonce)) else {
            return false;
        };
        let (origin, mut nonces) = (url.origin(), self.lock());
        nonces.retain(|(known, _)| *known != origin);
        if nonces.len() == MAX_ORIGINS {
            nonces.remove(0);
        }
        nonces.push((origin, nonce.to_owned()));
        true
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Origin, String)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// [RFC 9449 §8.1](https://www.rfc-editor.org/rfc/rfc9449#section-8.1): characters of the set NQCHAR.
fn is_nonce(text: &str) -> bool {
    let is_nqchar = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5B | 0x5D..=0x7E);
    !text.is_empty() && text.len() <= MAX_LEN && text.bytes().all(is_nqchar)
}

impl fmt::Debug for ServerNonces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerNonces({})", self.lock().len())
    }
}

#[cfg(test)]
mod tests {
    use openidconnect::http::HeaderValue;

    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn learn(nonces: &ServerNonces, address: &str, values: &[&[u8]]) -> bool {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("DPoP-Nonce", HeaderValue::from_bytes(value).unwrap());
        }
        nonces.learn(&url(address), &headers)
    }

    #[test]
    fn a_nonce_is_for_its_origin_until_the_next_one() {
        let nonces = ServerNonces::default();
        assert!(learn(&nonces, "https://a.example/token?x", &[b"one"]));
        assert_eq!(nonces.of(&url("https://a.example/par")).as_deref(), Some("one"));
        assert_eq!(nonces.of(&url("https://a.example:443/")).as_deref(), Some("one"));
        for other in ["http://a.example/", "https://a.example:444/", "https://b.example/"] {
            assert_eq!(nonces.of(&url(other)), None, "{other}");
        }
        assert!(learn(&nonces, "https://a.example/", &[b"two"]));
        assert!(!learn(&nonces, "https://a.example/", &[]));
        assert_eq!(nonces.of(&url("https://a.example/")).as_deref(), Some("two"));
    }

    #[test]
    fn what_is_not_a_nonce_is_ignored() {
        let nonces = ServerNonces::default();
        assert!(learn(&nonces, "https://a.example/", &[b"good"]));
        let long = [b'a'; 257];
        for values in [
            &[&b""[..]][..],
            &[b"a b"],
            &[b"a\"b"],
            &[b"a\\b"],
            &[b"a\tb"],
            &["é".as_bytes()],
            &[&long],
            &[b"one", b"two"],
        ] {
            assert!(!learn(&nonces, "https://a.example/", values), "{values:?}");
            assert_eq!(nonces.of(&url("https://a.example/")).as_deref(), Some("good"));
        }
        assert!(learn(&nonces, "https://a.example/", &[&long[1..]]));
        assert!(learn(&nonces, "https://a.example/", &[b"!#[]~"]));
    }

    #[test]
    fn the_number_of_origins_is_bounded() {
        let nonces = ServerNonces::default();
        for i in 0..9 {
            assert!(learn(&nonces, &format!("https://{i}.example/"), &[b"n"]));
        }
        assert_eq!(nonces.of(&url("https://0.example/")), None);
        for i in 1..9 {
            assert!(nonces.of(&url(&format!("https://{i}.example/"))).is_some());
        }
        assert_eq!(format!("{nonces:?}"), "ServerNonces(8)");
    }
}
