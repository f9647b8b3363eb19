//! The clock: the system's, or a manual one for tests.

use std::{
    fmt,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use time::OffsetDateTime;
use tokio::sync::Notify;

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
pub struct Clock(Option<Arc<Manual>>);

/// A clock that is advanced by hand.
struct Manual {
    /// Since 1970.
    milliseconds: AtomicI64,
    advanced: Notify,
}

impl Clock {
    /// The current time.
    pub fn now(&self) -> OffsetDateTime {
        match &self.0 {
            None => OffsetDateTime::now_utc(),
            Some(manual) => at(manual.milliseconds.load(Ordering::SeqCst)),
        }
    }

    /// Waits until this time; by a manual clock until it is advanced so far. A change of the system's time in between
    /// is not noticed.
    pub(crate) async fn sleep_until(&self, time: OffsetDateTime) {
        let Some(manual) = &self.0 else {
            let duration = Duration::try_from(time - self.now()).unwrap_or_default();
            return tokio::time::sleep(duration).await;
        };
        loop {
            let mut advanced = pin!(manual.advanced.notified());
            // Before the time is read: an advance in between is not missed.
            advanced.as_mut().enable();
            if self.now() >= time {
                return;
            }
            advanced.await;
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
        Clock(Some(Arc::new(Manual {
            milliseconds: AtomicI64::new(seconds.saturating_mul(1000)),
            advanced: Notify::new(),
        })))
    }

    /// Advances a manual clock and all its clones, by whole milliseconds, and wakes what waits for it. No effect on the
    /// system's clock.
    #[cfg(feature = "testing")]
    pub fn advance(&self, by: Duration) {
        let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        if let Some(manual) = &self.0 {
            manual.milliseconds.fetch_add(by, Ordering::SeqCst);
            manual.advanced.notify_waiters();
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

    #[rocket::async_test]
    async fn a_sleep_ends_when_the_clock_is_advanced_so_far() {
        let clock = Clock::fixed_at(1_700_000_000);
        let mut sleep = pin!(clock.sleep_until(clock.now() + Duration::from_secs(2)));
        for (by, expected) in [(0, false), (1_999, false), (1, true)] {
            clock.advance(Duration::from_millis(by));
            let is_over = tokio::time::timeout(Duration::ZERO, &mut sleep).await.is_ok();
            assert_eq!(is_over, expected, "{by}");
        }
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
