//! Locks of sessions in this process: at a time, one request with the refresh token of a session.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

/// The locks that are held or waited for, by session name.
#[derive(Clone, Default)]
pub(super) struct SessionLocks(Arc<Mutex<Locks>>);

type Locks = HashMap<String, Arc<AsyncMutex<()>>>;

/// A held lock, released when dropped.
pub(super) struct SessionLock {
    guard: Option<OwnedMutexGuard<()>>,
    _place: Place,
}

/// A place in the queue for a lock. The last one to leave removes the lock.
struct Place {
    locks: SessionLocks,
    name: String,
    lock: Arc<AsyncMutex<()>>,
}

impl SessionLocks {
    /// Waits for the lock of a session.
    pub(super) async fn lock(&self, name: &str) -> SessionLock {
        let lock = self.map().entry(name.to_owned()).or_default().clone();
        let place = Place {
            locks: self.clone(),
            name: name.to_owned(),
            lock,
        };
        let guard = place.lock.clone().lock_owned().await;
        SessionLock {
            guard: Some(guard),
            _place: place,
        }
    }

    fn map(&self) -> MutexGuard<'_, Locks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for SessionLock {
    fn drop(&mut self) {
        // Before the place: the guard refers to the lock too.
        self.guard = None;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut locks = self.locks.map();
        // The map's and this one: others are taken from the map, under its lock.
        if Arc::strong_count(&self.lock) == 2 {
            locks.remove(&self.name);
        }
    }
}

impl fmt::Debug for SessionLocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionLocks({})", self.map().len())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use rocket::futures::future::{FutureExt, join_all};

    use super::*;

    #[tokio::test]
    async fn one_holds_the_lock_of_a_session_at_a_time() {
        let (locks, holders, most) = (SessionLocks::default(), AtomicUsize::new(0), AtomicUsize::new(0));
        let hold = async || {
            let _lock = locks.lock("a").await;
            most.fetch_max(holders.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            holders.fetch_sub(1, Ordering::Relaxed);
        };
        join_all((0..20).map(|_| hold())).await;
        assert_eq!(most.into_inner(), 1);
        assert!(locks.map().is_empty());
    }

    #[tokio::test]
    async fn a_lock_is_kept_while_it_is_held_or_waited_for() {
        let locks = SessionLocks::default();
        let first = locks.lock("a").await;
        drop(locks.lock("b").await);
        let mut waiting = Box::pin(locks.lock("a"));
        assert!((&mut waiting).now_or_never().is_none());
        assert_eq!(locks.map().len(), 1);
        drop(first);
        assert_eq!(locks.map().len(), 1);
        let second = waiting.await;
        let mut cancelled = Box::pin(locks.lock("a"));
        assert!((&mut cancelled).now_or_never().is_none());
        drop(cancelled);
        assert!(Box::pin(locks.lock("a")).now_or_never().is_none());
        drop(second);
        assert!(locks.map().is_empty());
        assert!(locks.lock("a").now_or_never().is_some());
    }
}
