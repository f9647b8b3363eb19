//! A target URI without query and fragment, normalised so that equal ones are equal texts.

use std::fmt;

use url::Url;

/// An `http` or `https` URI without query and fragment, in the normal form of
/// [RFC 3986 §6.2.2 and §6.2.3](https://www.rfc-editor.org/rfc/rfc3986#section-6.2.2): lower-case scheme and host, no
/// default port, upper-case percent-encodings, none of an unreserved character, and no dot segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TargetUri(String);

impl TargetUri {
    /// Parses a URI; its query and fragment are dropped. `None` if it is not an absolute `http` or `https` URI, or has
    /// user information.
    pub(crate) fn parse(text: &str) -> Option<TargetUri> {
        let text = text.split(['?', '#']).next()?;
        let (scheme, rest) = text.split_once("://")?;
        let is_http = ["https", "http"].iter().any(|name| scheme.eq_ignore_ascii_case(name));
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if !is_http || authority.is_empty() || authority.contains('@') || !authority.bytes().all(is_of_authority) {
            return None;
        }
        let url = Url::parse(&format!("{scheme}://{authority}{}", normal_path(path)?)).ok()?;
        Some(TargetUri(url.into()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TargetUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A host, an IPv6 address or a port: the URL parser would drop or convert other characters.
fn is_of_authority(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%[]:!$&'()*+,;=".contains(&byte)
}

/// Normalises the percent-encodings of a path; the URL parser removes dot segments. `None` if a `%` encodes nothing, or
/// if there is a character that no client sends.
fn normal_path(path: &str) -> Option<String> {
    let mut normal = String::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let decoded = digit(bytes.next())? * 16 + digit(bytes.next())?;
                let decoded = u8::try_from(decoded).ok()?;
                if is_unreserved(decoded) {
                    normal.push(char::from(decoded));
                } else {
                    push_encoded(&mut normal, decoded);
                }
            }
            b'/' => normal.push('/'),
            byte if is_unreserved(byte) || b"!$&'()*+,;=:@".contains(&byte) => normal.push(char::from(byte)),
            b'\\' | 0..=b' ' | 0x7f => return None,
            // Browsers send some of these as they are, and write others percent-encoded.
            other => push_encoded(&mut normal, other),
        }
    }
    Some(normal)
}

fn push_encoded(text: &mut String, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    text.push('%');
    text.push(char::from(DIGITS[usize::from(byte >> 4)]));
    text.push(char::from(DIGITS[usize::from(byte & 15)]));
}

/// RFC 3986 §2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_targets_are_equal_texts() {
        for (text, expected) in [
            ("https://api.example.com", "https://api.example.com/"),
            ("HTTPS://API.example.COM:443/Notes", "https://api.example.com/Notes"),
            ("http://api.example.com:80/", "http://api.example.com/"),
            ("http://api.example.com:443/", "http://api.example.com:443/"),
            ("https://api.example.com:/a", "https://api.example.com/a"),
            ("https://api.example.com/a?b=c#d", "https://api.example.com/a"),
            ("https://api.example.com?b", "https://api.example.com/"),
            ("https://api.example.com/a#b?c", "https://api.example.com/a"),
            (
                "https://api.example.com/%7ebob/%c3%a9",
                "https://api.example.com/~bob/%C3%A9",
            ),
            (
                "https://api.example.com/é|{}",
                "https://api.example.com/%C3%A9%7C%7B%7D",
            ),
            ("https://api.example.com/a/./b/../c", "https://api.example.com/a/c"),
            ("https://api.example.com/a/%2E%2e/c", "https://api.example.com/c"),
            ("https://api.example.com/a%2fb", "https://api.example.com/a%2Fb"),
            ("https://api.example.com/a//b", "https://api.example.com/a//b"),
            ("https://[2001:DB8::1]:8443/a", "https://[2001:db8::1]:8443/a"),
        ] {
            let found = TargetUri::parse(text);
            assert_eq!(found.as_ref().map(TargetUri::as_str), Some(expected), "{text}");
            // The normal form is its own.
            assert_eq!(TargetUri::parse(expected), found);
        }
    }

    #[test]
    fn other_texts_are_not_targets() {
        for text in [
            "",
            "/notes",
            "api.example.com/notes",
            "https:/api.example.com/notes",
            "https:api.example.com/notes",
            "https:///notes",
            "ftp://api.example.com/notes",
            "wss://api.example.com/notes",
            "https://alice@api.example.com/notes",
            "https://@api.example.com/notes",
            "https://api.example.com\\notes",
            "https://api.example.com/a\\b",
            "https://api.example.com/a b",
            " https://api.example.com/a",
            "https://api.example.com/a\n",
            "https://api.example.com/a\t",
            "https://api\t.example.com/a",
            "https://api.example.com/%",
            "https://api.example.com/%4",
            "https://api.example.com/%zz",
            "https://api.example.com/%+1",
            "https://api.example.com:port/",
            "https://exämple.com/",
        ] {
            assert_eq!(TargetUri::parse(text), None, "{text:?}");
        }
    }
}
