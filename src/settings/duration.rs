//! Durations in settings: seconds, or a text such as `10m`.

use std::time::Duration;

use figment::{error::Actual, value::Value};

use super::{
    declaration::{Invalid, Parser, SettingType, refined},
    syntax::{self, Syntax},
};

/// The maximum duration: far above any sensible value, and far below where dates overflow.
const MAX_DURATION: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

impl SettingType for Duration {
    type Value = Duration;
    const SYNTAX: Syntax = syntax::DURATION;

    fn parse(value: &Value, _: &mut Parser<'_>) -> Result<Duration, Invalid> {
        let text = match value.to_actual() {
            Actual::Str(text) => text,
            Actual::Unsigned(seconds) => seconds.to_string(),
            Actual::Signed(seconds) => seconds.to_string(),
            other => return Err(Invalid::Type(other)),
        };
        let remedy = "write seconds, or numbers with the units `d`, `h`, `m`, `s` and `ms` in this order, as in `90`, \
                      `10m` or `1h30m`";
        parse_duration(&text).map_err(|cause| Invalid::new(cause, remedy))
    }
}

refined! {
    /// The age of a DPoP proof.
    ProofAge: Duration,
        |duration| (Duration::from_secs(1)..=Duration::from_secs(600)).contains(duration),
        "the duration is not from 1 second to 10 minutes",
        "write a duration from `1s` to `10m`";
    /// A duration that is not zero.
    AboveZero: Duration,
        |duration| !duration.is_zero(),
        "the duration is zero",
        "write a longer duration";
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    const UNITS: [(&str, u64); 5] = [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1_000),
        ("ms", 1),
    ];
    let text = text.trim();
    if text.starts_with('-') {
        return Err(format!("{text:?} is negative"));
    }
    let too_long = || format!("{text:?} is longer than a hundred years");
    let is_digit = |c: char| c.is_ascii_digit();
    // A number without a unit is in seconds.
    let seconds = text.chars().all(is_digit).then(|| format!("{text}s"));
    let mut rest = seconds.as_deref().unwrap_or(text);
    let mut total: u64 = 0;
    for (unit, milliseconds) in UNITS {
        let (number, after) = rest.split_at(rest.len() - rest.trim_start_matches(is_digit).len());
        let after = after.strip_prefix(unit);
        let Some(after) = after.filter(|it| !number.is_empty() && !it.starts_with(|c: char| c.is_ascii_lowercase()))
        else {
            continue;
        };
        let number: u64 = number.parse().map_err(|_| too_long())?;
        total = total.saturating_add(number.saturating_mul(milliseconds));
        rest = after;
    }
    if !rest.is_empty() {
        return Err(format!("{text:?} is not a duration"));
    }
    let total = Duration::from_millis(total);
    if total > MAX_DURATION {
        Err(too_long())
    } else {
        Ok(total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_in_every_form() {
        for (text, milliseconds) in [
            ("90", 90_000),
            ("0", 0),
            ("45s", 45_000),
            ("10m", 600_000),
            ("1h30m", 5_400_000),
            ("12h", 43_200_000),
            ("7d", 604_800_000),
            ("500ms", 500),
            ("1m500ms", 60_500),
            (" 5s ", 5_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
    }

    #[test]
    fn durations_refused() {
        for text in ["", "m", "10x", "1.5h", "10 m", "30m1h", "1h30", "1m1m", "+5", "١s"] {
            assert_eq!(parse_duration(text), Err(format!("{text:?} is not a duration")));
        }
        assert_eq!(parse_duration("-5"), Err("\"-5\" is negative".to_owned()));
        for text in ["99999999999999999999s", "18446744073709551615d", "36501d"] {
            let cause = format!("{text:?} is longer than a hundred years");
            assert_eq!(parse_duration(text), Err(cause));
        }
    }
}
