//! Parses the access token from the `Authorization` header (RFC 6750 §2.1, RFC 9449 §7.1).

use rocket::http::HeaderMap;

use super::{BearerError, Scheme};

/// The access token of a request, as it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Credentials<'r> {
    pub(crate) scheme: Scheme,
    pub(crate) token: &'r str,
}

/// The access token of a request. Only the header is read, neither query nor body.
///
/// A scheme other than `Bearer`, and `DPoP` if `accepts_dpop`, counts as a missing token.
pub(crate) fn credentials<'r>(headers: &'r HeaderMap<'_>, accepts_dpop: bool) -> Result<Credentials<'r>, BearerError> {
    let malformed = |cause| Err(BearerError::Malformed { cause });
    let mut values = headers.get("Authorization");
    let Some(value) = values.next() else {
        return Err(BearerError::Missing);
    };
    if values.next().is_some() {
        return malformed("there is more than one Authorization header");
    }
    let (scheme, rest) = value.split_once(' ').unwrap_or((value, ""));
    let scheme = if scheme.eq_ignore_ascii_case("Bearer") {
        Scheme::Bearer
    } else if accepts_dpop && scheme.eq_ignore_ascii_case("DPoP") {
        Scheme::Dpop
    } else {
        return Err(BearerError::Missing);
    };
    let token = rest.trim_matches(' ');
    if token.is_empty() {
        return malformed("the Authorization header has no token");
    }
    // Branchless, so that the compiler vectorises it (16 bytes at once): this runs for every request.
    let is_b64token = token.bytes().fold(true, |so_far, byte| so_far & is_of_b64token(byte));
    match is_b64token {
        true => Ok(Credentials { scheme, token }),
        false if token.contains([' ', ',']) => malformed("the Authorization header has more than one token"),
        false => malformed("the token has characters that are not allowed in a token"),
    }
}

/// Whether a byte is allowed in a `b64token` (RFC 6750 §2.1).
fn is_of_b64token(byte: u8) -> bool {
    // Branchless, so that the loop over it is vectorised.
    let is_letter = (byte | 0x20).wrapping_sub(b'a') < 26;
    let is_plus_to_9 = byte.wrapping_sub(b'+') <= b'9' - b'+';
    is_letter | (is_plus_to_9 & (byte != b',')) | (byte == b'=') | (byte == b'_') | (byte == b'~')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(values: &[&str]) -> Result<String, String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.add_raw("authorization", value.to_string());
        }
        credentials(&headers, false)
            .map(|credentials| credentials.token.to_owned())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn one_token_of_the_scheme_bearer() {
        for header in [
            "Bearer a.b-c_d~e+f/g==",
            "bearer a.b-c_d~e+f/g==",
            "BEARER  a.b-c_d~e+f/g== ",
        ] {
            assert_eq!(token(&[header]).unwrap(), "a.b-c_d~e+f/g==");
        }
    }

    #[test]
    fn a_scheme_has_any_letter_case() {
        for (header, scheme) in [
            ("Bearer a", Scheme::Bearer),
            ("bEARER a", Scheme::Bearer),
            ("DPoP a", Scheme::Dpop),
            ("dpop a", Scheme::Dpop),
            ("DPOP  a ", Scheme::Dpop),
        ] {
            let mut headers = HeaderMap::new();
            headers.add_raw("Authorization", header);
            let expected = Credentials { scheme, token: "a" };
            assert_eq!(credentials(&headers, true).unwrap(), expected);
        }
    }

    #[test]
    fn bytes_of_a_b64token() {
        let of_b64token: String = (0..=255u8)
            .filter(|byte| is_of_b64token(*byte))
            .map(char::from)
            .collect();
        let (digits, upper) = ("0123456789", "ABCDEFGHIJKLMNOPQRSTUVWXYZ");
        let lower = upper.to_lowercase();
        assert_eq!(of_b64token, format!("+-./{digits}={upper}_{lower}~"));
    }

    #[test]
    fn no_token() {
        for headers in [&[][..], &[""], &["Basic YTpi"], &["BearerX a"], &["DPoP a"]] {
            assert_eq!(token(headers).unwrap_err(), "the request has no access token");
        }
    }

    #[test]
    fn malformed_headers() {
        for (headers, cause) in [
            (&["Bearer"][..], "the Authorization header has no token"),
            (&["Bearer "], "the Authorization header has no token"),
            (&["Bearer a b"], "the Authorization header has more than one token"),
            (
                &["Bearer a, Bearer b"],
                "the Authorization header has more than one token",
            ),
            (&["Bearer a", "Bearer b"], "there is more than one Authorization header"),
            (&["Basic a", "Bearer b"], "there is more than one Authorization header"),
            (
                &["Bearer a\"b"],
                "the token has characters that are not allowed in a token",
            ),
            (
                &["Bearer é"],
                "the token has characters that are not allowed in a token",
            ),
        ] {
            let expected = format!("the request's token is malformed: {cause}");
            assert_eq!(token(headers).unwrap_err(), expected);
        }
    }
}
