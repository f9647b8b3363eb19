//! The challenges of a response with status 401 (RFC 9110 §11.6.1).

use openidconnect::http::{HeaderMap, header::WWW_AUTHENTICATE};

/// The maximum length of a header that is read.
const MAX_LENGTH: usize = 8 * 1024;

/// Whether a challenge of this scheme has this error code, as in
/// [RFC 6750 §3](https://www.rfc-editor.org/rfc/rfc6750#section-3) and
/// [RFC 9449 §7.1](https://www.rfc-editor.org/rfc/rfc9449#section-7.1).
pub(crate) fn has_challenge(headers: &HeaderMap, scheme: &str, error: &str) -> bool {
    let values = headers.get_all(WWW_AUTHENTICATE).iter();
    let mut texts = values
        .filter_map(|value| value.to_str().ok())
        .filter(|text| text.len() <= MAX_LENGTH);
    texts.any(|text| has_error(text, scheme, error))
}

/// Reads a list of challenges ([RFC 9110 §11.6.1](https://www.rfc-editor.org/rfc/rfc9110#section-11.6.1)): a scheme,
/// then its parameters, which commas divide as they divide challenges.
pub(crate) fn has_error(text: &str, scheme: &str, error: &str) -> bool {
    let mut is_of_scheme = false;
    for item in items(text) {
        let (before, value) = match item.split_once('=') {
            Some((before, value)) => (before.trim_end(), Some(value.trim_start())),
            None => (item, None),
        };
        let name = match before.split_once([' ', '\t']) {
            Some((own, name)) => {
                is_of_scheme = own.eq_ignore_ascii_case(scheme);
                name.trim_start()
            }
            None if value.is_none() => {
                is_of_scheme = before.eq_ignore_ascii_case(scheme);
                ""
            }
            None => before,
        };
        let value = value.unwrap_or_default();
        let value = value
            .strip_prefix('"')
            .and_then(|value| value.strip_suffix('"'))
            .unwrap_or(value);
        if is_of_scheme && name.eq_ignore_ascii_case("error") && value == error {
            return true;
        }
    }
    false
}

/// The elements of a list that commas divide, except those in quotation marks.
fn items(text: &str) -> impl Iterator<Item = &str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let divides = move |c: char| {
        let was_escaped = std::mem::replace(&mut is_escaped, false);
        match c {
            '\\' if is_quoted && !was_escaped => is_escaped = true,
            '"' if !was_escaped => is_quoted = !is_quoted,
            ',' => return !is_quoted,
            _ => {}
        }
        false
    };
    text.split(divides).map(str::trim).filter(|item| !item.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bearer_challenge_with_this_error_counts() {
        for (text, expected) in [
            (r#"Bearer error="invalid_token""#, true),
            (
                r#"Bearer realm="x", error="invalid_token", error_description="expired""#,
                true,
            ),
            (r#"bearer   ERROR = invalid_token"#, true),
            (r#"Basic realm="x", Bearer error="invalid_token""#, true),
            (r#"Basic realm="x", Bearer realm="y",error="invalid_token""#, true),
            (r#"Bearer, error="invalid_token""#, true),
            (r#"Bearer error="insufficient_scope""#, false),
            (r#"Bearer"#, false),
            (r#"Basic error="invalid_token""#, false),
            (r#"Bearer realm="x", Basic error="invalid_token""#, false),
            (r#"DPoP error="invalid_token""#, false),
            (r#"Bearer realm="error=\"invalid_token\"""#, false),
            (r#"Bearer realm="a, error=invalid_token""#, false),
            (r#"Bearer realm="a\", error=invalid_token"#, false),
            (r#"Bearer error_description="invalid_token""#, false),
            (r#"error="invalid_token""#, false),
            ("", false),
            (",,=,\"", false),
        ] {
            assert_eq!(has_error(text, "bearer", "invalid_token"), expected, "{text}");
        }
        let mut headers = HeaderMap::new();
        headers.append(WWW_AUTHENTICATE, "Basic".parse().unwrap());
        headers.append(WWW_AUTHENTICATE, r#"Bearer error="invalid_token""#.parse().unwrap());
        assert!(has_challenge(&headers, "Bearer", "invalid_token"));
        let long = format!("Bearer realm=\"{}\", error=\"invalid_token\"", "x".repeat(MAX_LENGTH));
        headers.insert(WWW_AUTHENTICATE, long.parse().unwrap());
        assert!(!has_challenge(&headers, "Bearer", "invalid_token"));
    }

    #[test]
    fn the_scheme_is_in_any_letter_case() {
        for text in [
            r#"DPoP error="use_dpop_nonce", algs="ES256""#,
            r#"dpop error="use_dpop_nonce""#,
            r#"Bearer, DPOP algs="ES256", Error=use_dpop_nonce"#,
        ] {
            assert!(has_error(text, "DPoP", "use_dpop_nonce"), "{text}");
        }
        assert!(!has_error(r#"Bearer error="use_dpop_nonce""#, "DPoP", "use_dpop_nonce"));
    }
}
