//! The `Retry-After` header of a provider's response.

use std::time::Duration;

use openidconnect::http::{
    HeaderMap,
    header::{DATE, HeaderName, RETRY_AFTER},
};
use time::{OffsetDateTime, format_description::well_known::Rfc2822};

/// The maximum `Retry-After` of a provider that is honoured.
pub(super) const MAX_RETRY_AFTER: Duration = Duration::from_secs(5 * 60);

/// Parses `Retry-After` (RFC 9110 §10.2.3), in seconds or as a date, from which the response's own `Date` is
/// subtracted.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: HeaderName| headers.get(name)?.to_str().ok().map(str::trim);
    let date = |text: &str| OffsetDateTime::parse(text, &Rfc2822).ok();
    let value = text(RETRY_AFTER)?;
    let wait = match value.bytes().all(|byte| byte.is_ascii_digit()) {
        true if value.is_empty() => return None,
        // Digits that overflow an integer exceed the limit too.
        true => value.parse().map_or(MAX_RETRY_AFTER, Duration::from_secs),
        false => {
            let wait = date(value)? - date(text(DATE)?)?;
            Duration::try_from(wait).unwrap_or_default()
        }
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_in_seconds_or_as_a_date() {
        const SENT: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
        for (value, date, seconds) in [
            ("7", None, Some(7)),
            (" 0 ", None, Some(0)),
            ("300", None, Some(300)),
            ("301", None, Some(300)),
            ("99999999999999999999999999", None, Some(300)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(SENT), Some(60)),
            ("Sun, 06 Nov 1994 09:50:37 GMT", Some(SENT), Some(300)),
            ("Sun, 06 Nov 1994 08:49:00 GMT", Some(SENT), Some(0)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", None, None),
            ("-1", Some(SENT), None),
            ("1.5", Some(SENT), None),
            ("", Some(SENT), None),
            ("soon", Some(SENT), None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, value.parse().unwrap());
            if let Some(date) = date {
                headers.insert(DATE, date.parse().unwrap());
            }
            let expected = seconds.map(Duration::from_secs);
            assert_eq!(retry_after(&headers), expected, "{value:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }
}
