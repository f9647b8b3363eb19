//! What time it is: the system's, or a test's.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use time::OffsetDateTime;

/// Tells the time. Everything below the guards and routes takes the time as an argument.
///
/// The default is the system's clock. A test sets one that stands still until it is moved (feature
/// `testing`):
///
/// ```
/// use std::time::Duration;
/// use rocket_openidconnect::{Clock, Oidc};
///
/// let clock = Clock::standing_at(1_700_000_000);
/// let fairing = Oidc::fairing().clock(clock.clone());
/// clock.advance(Duration::from_secs(60));
/// assert_eq!(clock.now().unix_timestamp(), 1_700_000_060);
/// ```
#[derive(Clone, Default)]
pub struct Clock(Option<Arc<AtomicI64>>);

impl Clock {
    /// The present.
    pub fn now(&self) -> OffsetDateTime {
        match &self.0 {
            None => OffsetDateTime::now_utc(),
            Some(seconds) => OffsetDateTime::from_unix_timestamp(seconds.load(Ordering::SeqCst))
                .unwrap_or(OffsetDateTime::UNIX_EPOCH),
        }
    }

    /// A clock that stands at a time, in seconds since 1970.
    #[cfg(feature = "testing")]
    pub fn standing_at(seconds: i64) -> Clock {
        Clock(Some(Arc::new(AtomicI64::new(seconds))))
    }

    /// Moves a standing clock on, and all its clones. The system's clock is not moved.
    #[cfg(feature = "testing")]
    pub fn advance(&self, by: std::time::Duration) {
        if let Some(seconds) = &self.0 {
            seconds.fetch_add(by.as_secs() as i64, Ordering::SeqCst);
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("Clock(system)"),
            Some(_) => write!(f, "Clock({})", self.now()),
        }
    }
}
