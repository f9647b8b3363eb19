//! Compares the clocks of this machine and of the provider.

use std::time::Duration;

use openidconnect::http::{HeaderMap, header::DATE};
use time::{OffsetDateTime, PrimitiveDateTime, macros::format_description};

use super::{Doctor, now};

/// A negligible difference, in seconds: `Date` has whole seconds, and clocks drift.
const NEGLIGIBLE: f64 = 5.0;

impl Doctor {
    /// Compares this machine's time with the `Date` of a response (RFC 9110 §6.6.1).
    pub(super) fn clock(&mut self, headers: &HeaderMap, asked: OffsetDateTime, clock_skew: Duration, prefix: &str) {
        let check = format!("{prefix}clock");
        let date = headers.get(DATE).and_then(|date| date.to_str().ok());
        let Some(theirs) = date.and_then(parse) else {
            // Many providers send no `Date`.
            let finding = "not compared: the provider's response has no `Date`";
            return self.report.ok(&check, finding);
        };
        // The response was made about half way through the wait; its fraction of a second is truncated.
        let waited = now() - asked;
        let ahead: time::Duration = asked + waited / 2 - theirs;
        let ahead = ahead.as_seconds_f64() - 0.5;
        let allowed = clock_skew.as_secs();
        let word = if ahead > 0.0 { "ahead of" } else { "behind" };
        let difference = ahead.abs();
        let finding = format!("this machine's clock is {difference:.0} s {word} the provider's");
        let remedy = "synchronise both clocks (NTP)";
        if difference <= NEGLIGIBLE {
            self.report.ok(&check, "this machine and the provider agree");
        } else if difference <= clock_skew.as_secs_f64() {
            let finding = format!("{finding}; `clock_skew` allows {allowed} s");
            self.report.warning(&check, finding, remedy);
        } else {
            let finding =
                format!("{finding}, and `clock_skew` allows {allowed} s: tokens look expired, or not valid yet");
            self.report.failure(&check, finding, remedy);
        }
    }
}

/// Parses an IMF-fixdate (RFC 9110 §5.6.7).
fn parse(date: &str) -> Option<OffsetDateTime> {
    let format =
        format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");
    PrimitiveDateTime::parse(date, format)
        .ok()
        .map(PrimitiveDateTime::assume_utc)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_replies() {
        let date = parse("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(date.unix_timestamp(), 784_111_777);
        assert_eq!(parse("yesterday"), None);
    }
}
