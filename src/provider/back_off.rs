//! Exponential back-off and rate limits for calls to the provider.

use std::{
    net::IpAddr,
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use time::OffsetDateTime;

use super::{ProviderError, retry_after::MAX_RETRY_AFTER};

/// The maximum back-off between two attempts.
const MAX_BACK_OFF: Duration = Duration::from_secs(60);

/// The exponential back-off after failed attempts: 1 s at first, doubled each time, at most a minute; longer if the
/// provider sends `Retry-After`. The last error is kept until an attempt succeeds.
#[derive(Debug, Default)]
pub(super) struct BackOff {
    failed: u32,
    next: Option<OffsetDateTime>,
    last: Option<ProviderError>,
}

impl BackOff {
    /// Fails with the last error until the next attempt is due.
    pub(super) fn check(&self, now: OffsetDateTime) -> Result<(), ProviderError> {
        match (self.wait(now), &self.last) {
            (None, _) => Ok(()),
            (Some(_), Some(last)) if !last.is_retryable() => Err(last.clone()),
            (Some(retry_after), last) => Err(unavailable(retry_after, last.as_ref())),
        }
    }

    /// How long until the next attempt is due.
    fn wait(&self, now: OffsetDateTime) -> Option<Duration> {
        let wait = self.next.filter(|next| now < *next)? - now;
        let wait = wait.unsigned_abs();
        // The clock was set back.
        (wait <= MAX_RETRY_AFTER).then_some(wait.max(Duration::from_secs(1)))
    }

    /// Records a failure; returns the wait until the next attempt.
    pub(super) fn failed(&mut self, now: OffsetDateTime, error: &ProviderError) -> Duration {
        let wait = Duration::from_secs(1 << self.failed.min(6)).min(MAX_BACK_OFF);
        let wait = wait.max(error.retry_after().unwrap_or_default());
        self.failed = self.failed.saturating_add(1);
        self.next = Some(now + wait);
        self.last = Some(error.clone());
        wait
    }

    /// The last failure, for callers that waited for the same attempt.
    pub(super) fn last_failure(&self) -> ProviderError {
        unavailable(Duration::from_secs(1), self.last.as_ref())
    }

    /// Resets the back-off after a success.
    pub(super) fn succeeded(&mut self) {
        *self = BackOff::default();
    }
}

/// The error while no call is made, because of the failure `last`.
pub(super) fn unavailable(retry_after: Duration, last: Option<&ProviderError>) -> ProviderError {
    ProviderError::Unavailable {
        retry_after,
        last: last.map(|last| Box::new(last.clone())),
    }
}

/// A non-blocking throttle: admits one call in each interval.
#[derive(Debug)]
pub(super) struct LogThrottle(AtomicI64);

impl Default for LogThrottle {
    fn default() -> LogThrottle {
        LogThrottle(AtomicI64::new(i64::MIN))
    }
}

impl LogThrottle {
    /// Whether this call is admitted. If so, no other is for `pause`.
    pub(super) fn passes(&self, now: OffsetDateTime, pause: Duration) -> bool {
        let (next, now) = (self.0.load(Ordering::Relaxed), now.unix_timestamp());
        let pause = i64::try_from(pause.as_secs()).unwrap_or(i64::MAX);
        now >= next
            && self
                .0
                .compare_exchange(next, now.saturating_add(pause), Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

/// A token bucket: holds `capacity` tokens, and regains one per `refill`.
#[derive(Debug)]
pub(super) struct TokenBucket {
    capacity: u32,
    refill: Duration,
    left: u32,
    refilled: Option<OffsetDateTime>,
}

impl TokenBucket {
    pub(super) fn new(capacity: u32, refill: Duration) -> TokenBucket {
        TokenBucket {
            capacity,
            refill,
            left: capacity,
            refilled: None,
        }
    }

    /// Takes one token. If there is none, returns how long to wait.
    pub(super) fn take(&mut self, now: OffsetDateTime) -> Result<(), Duration> {
        // If the clock was set back, refilling starts again from now.
        let refilled = self.refilled.filter(|at| *at <= now).unwrap_or(now);
        let passed = (now - refilled).unsigned_abs().as_secs() / self.refill.as_secs().max(1);
        let gained = u32::try_from(passed).unwrap_or(u32::MAX);
        self.left = self.left.saturating_add(gained).min(self.capacity);
        self.refilled = Some(if self.left == self.capacity {
            now
        } else {
            refilled + self.refill * gained
        });
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => {
                let next = self.refilled.unwrap_or(now) + self.refill;
                let wait = (next - now).unsigned_abs();
                Err(wait.max(Duration::from_secs(1)))
            }
        }
    }
}

/// A token bucket shared by all clients, from which each client takes at most one per `pause`.
#[derive(Debug)]
pub(super) struct SharedTokenBucket {
    of_all: TokenBucket,
    pause: Duration,
    /// The clients that took one within `pause`, and when. Bounded by what `of_all` gives out in that time.
    spent: Vec<(Option<IpAddr>, OffsetDateTime)>,
}

impl SharedTokenBucket {
    pub(super) fn new(of_all: TokenBucket, pause: Duration) -> SharedTokenBucket {
        SharedTokenBucket {
            of_all,
            pause,
            spent: vec![],
        }
    }

    /// Takes one for a client with this address. If there is none for it, returns how long to wait.
    pub(super) fn take(&mut self, client: Option<IpAddr>, now: OffsetDateTime) -> Result<(), Duration> {
        // If the clock was set back, later entries are dropped.
        let pause = self.pause;
        self.spent.retain(|(_, at)| (*at..*at + pause).contains(&now));
        if let Some((_, at)) = self.spent.iter().find(|(spender, _)| *spender == client) {
            let wait = (*at + pause - now).unsigned_abs();
            return Err(wait.max(Duration::from_secs(1)));
        }
        self.of_all.take(now)?;
        self.spent.push((client, now));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::Endpoint;

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(seconds).unwrap()
    }

    fn status(status: u16, retry_after: Option<u64>) -> ProviderError {
        ProviderError::Status {
            endpoint: Endpoint::Metadata,
            status,
            is_json: false,
            retry_after: retry_after.map(Duration::from_secs),
        }
    }

    fn message(back_off: &BackOff, now: i64) -> String {
        back_off
            .check(at(now))
            .map_or_else(|error| error.to_string(), |()| "due".to_owned())
    }

    #[test]
    fn attempts_are_further_and_further_apart() {
        let mut back_off = BackOff::default();
        let error = status(500, None);
        let waits: Vec<_> = (0..8).map(|_| back_off.failed(at(0), &error).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert!(matches!(
            back_off.check(at(59)),
            Err(ProviderError::Unavailable { retry_after, .. }) if retry_after.as_secs() == 1
        ));
        assert!(back_off.check(at(60)).is_ok());
        // The clock is set back.
        assert!(back_off.check(at(-300)).is_ok());
        back_off.succeeded();
        assert!(back_off.check(at(0)).is_ok());
    }

    #[test]
    fn the_providers_wait_counts_and_the_last_error_is_reported() {
        let mut back_off = BackOff::default();
        assert_eq!(back_off.failed(at(0), &status(503, Some(7))).as_secs(), 7);
        assert_eq!(back_off.failed(at(7), &status(429, Some(300))).as_secs(), 300);
        assert_eq!(
            message(&back_off, 8),
            "the provider's metadata responded with status 429; the next attempt is due in 299 s"
        );
        assert_eq!(message(&back_off, 307), "due");
        assert_eq!(back_off.failed(at(307), &status(404, Some(9))).as_secs(), 4);
        assert_eq!(
            message(&back_off, 308),
            "the provider's metadata responded with status 404; the next attempt is due in 3 s"
        );
        // An error that retrying does not fix is not reported as an outage.
        let mismatch = ProviderError::IssuerMismatch {
            expected: "a".to_owned(),
            actual: "b".to_owned(),
        };
        back_off.failed(at(400), &mismatch);
        assert_eq!(message(&back_off, 401), "the metadata's issuer is `b`, expected `a`");
    }

    #[test]
    fn a_bucket_is_emptied_and_refilled() {
        let mut bucket = TokenBucket::new(3, Duration::from_secs(10));
        let mut spent = |now| match bucket.take(at(now)) {
            Ok(()) => 0,
            Err(wait) => wait.as_secs(),
        };
        // Zero is a token taken; any other number is the wait.
        assert_eq!([0, 0, 0, 0].map(&mut spent), [0, 0, 0, 10]);
        assert_eq!([9, 10, 10, 19].map(&mut spent), [1, 0, 10, 1]);
        // Partial refill time is not lost, and the bucket never exceeds its capacity.
        assert_eq!([25, 29, 30].map(&mut spent), [0, 1, 0]);
        assert_eq!([9_000, 9_000, 9_000, 9_000].map(&mut spent), [0, 0, 0, 10]);
        // The clock is set back.
        assert_eq!([100, 109, 110].map(&mut spent), [10, 1, 0]);
    }

    #[test]
    fn one_client_spends_one_in_a_while_of_a_shared_budget() {
        let of_all = TokenBucket::new(3, Duration::from_secs(10));
        let mut bucket = SharedTokenBucket::new(of_all, Duration::from_secs(30));
        let client = |n: u8| n.checked_sub(1).map(|n| IpAddr::from([192, 0, 2, n]));
        // Zero is a token taken; any other number is the wait. All clients without a known address count as one.
        for (now, who, wait) in [
            (0, 0, 0),
            (0, 0, 30),
            (0, 1, 0),
            (5, 1, 25),
            (5, 2, 0),
            (5, 3, 5),
            (9, 3, 1),
            // A client that got none may take the next one.
            (10, 3, 0),
            (10, 4, 10),
            (29, 0, 1),
            (30, 0, 0),
            (30, 1, 0),
            (30, 2, 5),
            (35, 2, 5),
            (40, 2, 0),
            // The clock is set back.
            (-500, 2, 10),
            (-490, 2, 0),
            (-490, 2, 30),
        ] {
            let spent = bucket.take(client(who), at(now));
            let found = spent.map_or_else(|wait| wait.as_secs(), |()| 0);
            assert_eq!(found, wait, "{who} at {now}");
            assert!(bucket.spent.len() <= 6);
        }
    }

    #[test]
    fn one_passes_at_a_time() {
        let throttle = LogThrottle::default();
        let pause = Duration::from_secs(30);
        let passed = [0, 0, 29, 30, 31, 60].map(|now| throttle.passes(at(now), pause));
        assert_eq!(passed, [true, false, false, true, false, true]);
    }
}
