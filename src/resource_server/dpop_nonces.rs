//! The nonces of DPoP proofs: each is an HMAC of the time, so that every node accepts it, and none stores it.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use time::OffsetDateTime;

use crate::{
    keys::{KeyNumber, KeyRing},
    secret::Secret,
};

/// The label of its key.
const LABEL: &str = "DPoP nonce";

/// The time in seconds that nonces of one value are issued for.
const PERIOD: i64 = 60;
/// How many periods a nonce is accepted after its own. With the clock of another node one period ahead, it lives five
/// minutes at most.
const LATER_PERIODS: i64 = 3;

/// Issues and checks nonces ([RFC 9449 §9](https://www.rfc-editor.org/rfc/rfc9449#section-9)).
#[derive(Clone)]
pub(crate) struct DpopNonces(KeyRing);

impl DpopNonces {
    pub(crate) fn new(keys: KeyRing) -> DpopNonces {
        DpopNonces(keys)
    }

    /// The nonce of this time.
    pub(super) fn issue(&self, now: OffsetDateTime) -> String {
        let period = now.unix_timestamp().div_euclid(PERIOD);
        nonce(
            period,
            &self.0.derive(KeyNumber::FIRST, LABEL, &[&period.to_be_bytes()]),
        )
    }

    /// Whether a nonce was issued within the last minutes, by a node with one of our keys.
    pub(super) fn accepts(&self, nonce: &str, now: OffsetDateTime) -> bool {
        let period = nonce.split_once('.').and_then(|(period, _)| period.parse::<i64>().ok());
        let current = now.unix_timestamp().div_euclid(PERIOD);
        let is_equal = |own: String| verify_slices_are_equal(own.as_bytes(), nonce.as_bytes()).is_ok();
        period
            .filter(|period| (current - LATER_PERIODS..=current + 1).contains(period))
            .is_some_and(|period| {
                let parts: &[&[u8]] = &[&period.to_be_bytes()];
                let mut own = self.0.derive_each(LABEL, parts).map(|mac| self::nonce(period, &mac));
                own.any(is_equal)
            })
    }
}

fn nonce(period: i64, mac: &Secret) -> String {
    format!("{period}.{}", mac.expose())
}

impl fmt::Debug for DpopNonces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DpopNonces(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::SecretKey;

    fn nonces(key: u8, previous: &[u8]) -> DpopNonces {
        let secret = |byte: u8| SecretKey::from_bytes(vec![byte; 32]).unwrap();
        let previous: Vec<_> = previous.iter().map(|byte| secret(*byte)).collect();
        DpopNonces::new(KeyRing::new(&secret(key), &previous, &["", ""]))
    }

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(seconds).unwrap()
    }

    #[test]
    fn a_nonce_lives_for_a_few_minutes() {
        let nonces = nonces(1, &[]);
        let start = 28_333_333 * 60;
        let nonce = nonces.issue(at(start));
        assert_eq!(nonce.len(), "28333333.".len() + 43);
        assert_eq!(nonces.issue(at(start + 59)), nonce);
        assert_ne!(nonces.issue(at(start + 60)), nonce);
        for (seconds, is_accepted) in [
            (-61, false),
            // The clock of another node is behind.
            (-60, true),
            (0, true),
            (239, true),
            (240, false),
            (1_000_000, false),
        ] {
            assert_eq!(nonces.accepts(&nonce, at(start + seconds)), is_accepted, "{seconds}");
        }
    }

    #[test]
    fn no_other_text_is_a_nonce() {
        let nonces = nonces(1, &[]);
        let now = at(1_700_000_000);
        let nonce = nonces.issue(now);
        let (period, mac) = nonce.split_once('.').unwrap();
        assert!(nonces.accepts(&nonce, now));
        for other in [
            String::new(),
            ".".to_owned(),
            mac.to_owned(),
            period.to_owned(),
            format!("{period}."),
            format!("0{nonce}"),
            format!("+{nonce}"),
            format!("{nonce} "),
            format!("{nonce}="),
            format!("{period}.{}", "A".repeat(43)),
            format!("{}.{mac}", i64::MAX),
            format!("{}.{mac}", i64::MIN),
            self::nonces(2, &[]).issue(now),
        ] {
            assert!(!nonces.accepts(&other, now), "{other:?}");
        }
    }

    /// Nodes whose first keys differ accept each other's.
    #[test]
    fn previous_keys_accept_nonces() {
        let now = at(1_700_000_000);
        let (old, ready, changed) = (nonces(1, &[]), nonces(1, &[2]), nonces(2, &[1]));
        assert_eq!(ready.issue(now), old.issue(now));
        assert_ne!(changed.issue(now), old.issue(now));
        assert!(ready.accepts(&changed.issue(now), now) && changed.accepts(&ready.issue(now), now));
        assert!(!old.accepts(&changed.issue(now), now));
    }
}
