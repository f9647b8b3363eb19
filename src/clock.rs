//! The clock: the system's, or a manual one for tests.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use time::OffsetDateTime;

/// A clock. Everything below the guards and routes takes the time as an argument.
///
/// The default is the system's clock. A test sets a clock that stands still until it is advanced (feature
/// `testing`). The whole crate uses it: expiry of sessions and tokens, refetches of keys and metadata, back-off,
/// sessions in memory, and the development provider. Exceptions: sessions in Redis or in the app's own store, which
/// expire entries by their own clock, and timeouts of requests to a provider over the network.
///
/// ```
/// use std::time::Duration;
/// use rocket_openidconnect::{Clock, Oidc};
///
/// let clock = Clock::fixed_at(1_700_000_000);
/// let fairing = Oidc::fairing().clock(clock.clone());
/// clock.advance(Duration::from_secs(60));
/// assert_eq!(clock.now().unix_timestamp(), 1_700_000_060);
/// ```
///
/// Rocket's tracked local client expires cookies by the system's clock: with it, start no earlier than
/// [`fixed`](Self::fixed).
#[derive(Clone, Default)]
pub struct Clock(Option<Arc<AtomicI64>>);

impl Clock {
    /// The current time.
    pub fn now(&self) -> OffsetDateTime {
        match &self.0 {
            None => OffsetDateTime::now_utc(),
            Some(milliseconds) => at(milliseconds.load(Ordering::SeqCst)),
        }
    }

    /// Starts a stopwatch, which is unaffected by changes of the system's time.
    pub(crate) fn stopwatch(&self) -> Stopwatch {
        Stopwatch {
            clock: self.clone(),
            begun: Instant::now(),
            begun_at: self.now(),
        }
    }

    /// A manual clock that starts at the system's current time.
    #[cfg(feature = "testing")]
    pub fn fixed() -> Clock {
        Clock::fixed_at(OffsetDateTime::now_utc().unix_timestamp())
    }

    /// A manual clock that starts at a time in seconds since 1970.
    #[cfg(feature = "testing")]
    pub fn fixed_at(seconds: i64) -> Clock {
        Clock(Some(Arc::new(AtomicI64::new(seconds.saturating_mul(1000)))))
    }

    /// Advances a manual clock and all its clones, by whole milliseconds. No effect on the system's clock.
    #[cfg(feature = "testing")]
    pub fn advance(&self, by: Duration) {
        let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        if let Some(milliseconds) = &self.0 {
            milliseconds.fetch_add(by, Ordering::SeqCst);
        }
    }
}

/// A stopwatch: measures by the monotonic clock, or by a test's manual clock.
pub(crate) struct Stopwatch {
    clock: Clock,
    begun: Instant,
    begun_at: OffsetDateTime,
}

impl Stopwatch {
    pub(crate) fn elapsed(&self) -> Duration {
        match self.clock.0 {
            None => self.begun.elapsed(),
            Some(_) => Duration::try_from(self.clock.now() - self.begun_at).unwrap_or_default(),
        }
    }
}

/// A time, in milliseconds since 1970.
fn at(milliseconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(milliseconds) * 1_000_000)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("Clock(system)"),
            Some(_) => write!(f, "Clock({})", self.now()),
        }
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use super::*;

    #[test]
    fn a_standing_clock_moves_by_milliseconds_with_its_clones() {
        let clock = Clock::fixed_at(1_700_000_000);
        let clone = clock.clone();
        clock.advance(Duration::from_millis(1_001));
        clock.advance(Duration::from_micros(999));
        let expected = 1_700_000_001_001_000_000;
        assert_eq!(clone.now().unix_timestamp_nanos(), expected);
    }

    #[test]
    fn a_stopwatch_follows_a_standing_clock() {
        let clock = Clock::fixed_at(1_700_000_000);
        let stopwatch = clock.stopwatch();
        assert_eq!(stopwatch.elapsed(), Duration::ZERO);
        clock.advance(Duration::from_millis(1_500));
        assert_eq!(stopwatch.elapsed(), Duration::from_millis(1_500));
    }
}
