//! The `Authorization` header: whose token is this, if it is one (RFC 6750 §2.1).

use rocket::http::HeaderMap;

use super::BearerError;

/// The access token of a request. Only the header counts: nothing is read from query or body.
///
/// Another scheme than `Bearer` is no token.
pub(crate) fn bearer_token<'r>(headers: &'r HeaderMap<'_>) -> Result<&'r str, BearerError> {
    let malformed = |cause| Err(BearerError::Malformed { cause });
    let mut values = headers.get("Authorization");
    let Some(value) = values.next() else {
        return Err(BearerError::Missing);
    };
    if values.next().is_some() {
        return malformed("there is more than one Authorization header");
    }
    let (scheme, rest) = value.split_once(' ').unwrap_or((value, ""));
    if !scheme.eq_ignore_ascii_case("Bearer") {
        return Err(BearerError::Missing);
    }
    let token = rest.trim_matches(' ');
    if token.is_empty() {
        return malformed("the Authorization header has no token");
    }
    // Every byte is looked at, without a branch for each: this is done at every request.
    let is_b64token = token
        .bytes()
        .fold(true, |so_far, byte| so_far & B64TOKEN[usize::from(byte)]);
    match is_b64token {
        true => Ok(token),
        false if token.contains([' ', ',']) => {
            malformed("the Authorization header has more than one token")
        }
        false => malformed("the token has characters that no token has"),
    }
}

/// Which bytes a `b64token` is made of (RFC 6750 §2.1).
const B64TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric()
            || matches!(byte as u8, b'-' | b'.' | b'_' | b'~' | b'+' | b'/' | b'=');
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    fn token(values: &[&str]) -> Result<String, String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.add_raw("authorization", value.to_string());
        }
        bearer_token(&headers)
            .map(str::to_owned)
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
    fn no_token() {
        for headers in [&[][..], &[""], &["Basic YTpi"], &["BearerX a"], &["DPoP a"]] {
            assert_eq!(
                token(headers).unwrap_err(),
                "the request carries no access token"
            );
        }
    }

    #[test]
    fn malformed_headers() {
        for (headers, cause) in [
            (&["Bearer"][..], "the Authorization header has no token"),
            (&["Bearer "], "the Authorization header has no token"),
            (
                &["Bearer a b"],
                "the Authorization header has more than one token",
            ),
            (
                &["Bearer a, Bearer b"],
                "the Authorization header has more than one token",
            ),
            (
                &["Bearer a", "Bearer b"],
                "there is more than one Authorization header",
            ),
            (
                &["Basic a", "Bearer b"],
                "there is more than one Authorization header",
            ),
            (
                &["Bearer a\"b"],
                "the token has characters that no token has",
            ),
            (&["Bearer é"], "the token has characters that no token has"),
        ] {
            let expected = format!("the request's token is malformed: {cause}");
            assert_eq!(token(headers).unwrap_err(), expected);
        }
    }
}
