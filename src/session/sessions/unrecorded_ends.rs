//! A retry queue of session ends that the store could not record because it was down. This node, and every node that
//! receives the browser's cookie of ended sessions, rejects those sessions and retries.
//!
//! The app and the provider get the store's error, and can retry themselves. A browser that signs out, and a session
//! that ends at its refresh, cannot: their ends are queued here.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use moka::{policy::EvictionPolicy, sync::Cache};
use rocket::http::CookieJar;
use time::OffsetDateTime;
use tokio::{sync::Notify, time::timeout};

use super::{MAX_CLOCK_SKEW, Sessions, seconds};
use crate::session::{
    CurrentSession, EndCause, Session, SessionChange, ended_cookie::Ended, milliseconds, store::StoreError,
};
use crate::{cache::is_new, clock::Clock, cookies::SetCookie, tasks};

/// Maximum queued ends per node, about 200 bytes each. A full queue rejects new entries.
const MAX_UNRECORDED: usize = 100_000;
/// Initial retry back-off, doubled after each failure …
const MIN_BACK_OFF: Duration = Duration::from_secs(1);
/// … up to this.
const MAX_BACK_OFF: Duration = Duration::from_secs(30);
/// Maximum entries of the cache of recorded ends, which allows a browser's cookie of ended sessions to be removed.
const MAX_RECORDED: u64 = 100_000;
/// Maximum entries of the cache of reported ends: enough for simultaneous requests, and for those that are repeated
/// while the queue is full.
const MAX_REPORTED: u64 = 10_000;

/// The ends that this node has to record.
pub(in crate::session) struct UnrecordedEnds {
    /// The length of the queue. While it is 0, requests do not lock it.
    count: AtomicUsize,
    queue: Mutex<Queue>,
    /// The last attempt, in milliseconds since 1970.
    last_try: AtomicI64,
    /// Wakes the task for another attempt.
    wake: Notify,
    /// Recorded ends, by session name.
    recorded: Cache<String, ()>,
    /// Ends reported to the app and the log, by session name. The store decides between two nodes, and this cache
    /// between two requests on this node, of which one may have reached the store.
    reported: Cache<String, ()>,
    pub(super) clock: Clock,
    max: usize,
}

#[derive(Default)]
struct Queue {
    /// The latest possible expiry of each session, in milliseconds since 1970.
    ends: HashMap<Arc<str>, i64>,
    /// Entries that are not being recorded now, next first.
    order: VecDeque<Arc<str>>,
    is_task_running: bool,
    /// Whether it was logged that the queue is full.
    is_full_logged: bool,
    /// Whether an end could not be recorded at once. An end from a browser's cookie of ended sessions usually is.
    has_failed: bool,
    /// The number recorded since the queue was last empty.
    recorded: usize,
}

/// The result of ending the sessions of a browser that signs out.
pub(crate) struct EndedSessions {
    /// The end of its session, if it was not known before.
    pub(crate) end: Option<SessionChange>,
    /// The `Set-Cookie` headers: the browser's cookie of ended sessions of unrecorded ends.
    pub(crate) cookies: Vec<SetCookie>,
    /// Whether the store has recorded all of them.
    pub(crate) is_recorded: bool,
    /// Whether this node rejects the sessions whose ends are not recorded.
    pub(crate) is_refused_here: bool,
}

impl UnrecordedEnds {
    pub(in crate::session) fn new(clock: &Clock) -> UnrecordedEnds {
        UnrecordedEnds {
            count: AtomicUsize::new(0),
            queue: Mutex::default(),
            last_try: AtomicI64::new(i64::MIN),
            wake: Notify::new(),
            recorded: Cache::new(MAX_RECORDED),
            reported: Cache::builder()
                .max_capacity(MAX_REPORTED)
                .eviction_policy(EvictionPolicy::lru())
                .build(),
            clock: clock.clone(),
            max: MAX_UNRECORDED,
        }
    }

    /// Whether this session has ended, and its end awaits recording.
    pub(in crate::session) fn contains(&self, name: &str) -> bool {
        if self.count.load(Ordering::Acquire) == 0 {
            return false;
        }
        let now = milliseconds(self.clock.now());
        self.queue().ends.get(name).is_some_and(|end| *end > now)
    }

    /// Marks the end of this session as reported. Returns whether this node reports it for the first time.
    pub(in crate::session) fn is_first_report(&self, name: &str) -> bool {
        is_new(&self.reported, name)
    }

    /// Wakes the task after a successful store request: recording may succeed now.
    pub(in crate::session) fn store_responded(&self) {
        if self.count.load(Ordering::Acquire) > 0 {
            self.wake();
        }
    }

    /// Wakes the task at most once per `MIN_BACK_OFF`: a store may respond to reads and fail every write.
    fn wake(&self) {
        let since = milliseconds(self.clock.now())
            .saturating_sub(self.last_try.load(Ordering::Acquire))
            .unsigned_abs();
        if Duration::from_millis(since) >= MIN_BACK_OFF {
            self.wake.notify_one();
        }
    }

    /// Queues an end. Returns `false` if the queue is full.
    fn add(&self, ended: &Ended) -> bool {
        let mut queue = self.queue();
        let queue = &mut *queue;
        if let Some(end) = queue.ends.get_mut(&*ended.name) {
            *end = ended.ends.max(*end);
            return true;
        }
        if queue.ends.len() >= self.max {
            if !std::mem::replace(&mut queue.is_full_logged, true) {
                tracing::error!(
                    reason = "store_unavailable",
                    "the store does not record the ends of {} sessions, and the queue is full: further sessions end when their browser returns, or when they expire",
                    self.max
                );
            }
            return false;
        }
        self.recorded.invalidate(&*ended.name);
        let name: Arc<str> = ended.name.as_str().into();
        queue.ends.insert(name.clone(), ended.ends);
        queue.order.push_back(name);
        self.count.store(queue.ends.len(), Ordering::Release);
        true
    }

    /// The next end to record. `None` when the queue is empty: the task stops.
    fn next(&self) -> Option<Arc<str>> {
        let mut queue = self.queue();
        while let Some(name) = queue.order.pop_front() {
            if queue.ends.contains_key(&name) {
                return Some(name);
            }
        }
        queue.is_task_running = false;
        queue.is_full_logged = false;
        let recorded = std::mem::take(&mut queue.recorded);
        if std::mem::take(&mut queue.has_failed) && recorded > 0 {
            tracing::info!(
                reason = "store_unavailable",
                "the store has recorded {recorded} queued ends of sessions"
            );
        }
        None
    }

    fn drop_expired(&self) {
        let now = milliseconds(self.clock.now());
        let mut queue = self.queue();
        queue.ends.retain(|_, end| *end > now);
        self.count.store(queue.ends.len(), Ordering::Release);
    }

    fn recorded(&self, name: &Arc<str>) {
        self.recorded.insert(name.as_ref().to_owned(), ());
        let mut queue = self.queue();
        queue.ends.remove(name);
        queue.recorded += 1;
        self.count.store(queue.ends.len(), Ordering::Release);
    }

    /// Requeues a failed end at the back: in a partitioned store, one partition may be down.
    fn requeue(&self, name: Arc<str>) {
        let mut queue = self.queue();
        queue.order.push_back(name);
        queue.has_failed = true;
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sessions {
    /// Ends a session that no caller can end again. If the store is down, the end is queued. Returns the end, if it was
    /// not known before, and why the store has not recorded it yet.
    pub(crate) async fn end_or_queue(
        self: &Arc<Self>,
        name: &str,
        session: Option<&CurrentSession>,
        cause: EndCause,
        now: OffsetDateTime,
    ) -> (Option<SessionChange>, Option<StoreError>) {
        match self.end(name, session, cause, now).await {
            Ok(end) => (end, None),
            Err(error) => {
                let end = self.end_without_store(name, session, cause, now);
                let session = session.map(|session| &**session);
                self.queue_end(&self.end_to_queue(name, session, now), false);
                (end, Some(error))
            }
        }
    }

    /// The end to report when the store fails, unless it is queued or was reported already. Tokens known here are
    /// revoked now; tokens that only the store has, once it records the end.
    fn end_without_store(
        &self,
        name: &str,
        session: Option<&CurrentSession>,
        cause: EndCause,
        now: OffsetDateTime,
    ) -> Option<SessionChange> {
        self.revoke(name, session, cause);
        self.watcher.ended_here(&[name], cause);
        if self.unrecorded.contains(name) {
            None
        } else {
            self.end_to_report(name, session.map(|session| &**session), cause, now)
        }
    }

    /// Signs out a browser: ends its session, and those that its cookie names. Skips the store if it was found to be down
    /// just now.
    pub(crate) async fn end_in_browser(
        self: &Arc<Self>,
        name: Option<&str>,
        session: Option<&CurrentSession>,
        jar: &CookieJar<'_>,
        mut is_store_down: bool,
        now: OffsetDateTime,
    ) -> EndedSessions {
        let cause = EndCause::SignOut;
        let mut end = None;
        let mut is_refused_here = true;
        let mut unrecorded = vec![];
        let known = session.map(|session| &**session);
        let own = name.map(|name| self.end_to_queue(name, known, now));
        let in_cookie = self.ended_cookie.read(jar, now).unwrap_or_default();
        let in_cookie = in_cookie.into_iter().filter(|ended| {
            let is_own = Some(&*ended.name) == name;
            !is_own && !self.unrecorded.recorded.contains_key(&ended.name)
        });
        let ends: Vec<_> = own.into_iter().chain(in_cookie).collect();
        for ended in ends {
            let is_own = Some(&*ended.name) == name;
            let session = session.filter(|_| is_own);
            if !is_store_down {
                match self.end(&ended.name, session, cause, now).await {
                    Ok(change) => {
                        // Ends from the cookie were reported at their own sign-out.
                        end = end.or(change.filter(|_| is_own));
                        continue;
                    }
                    Err(error) => {
                        tracing::error!(reason = "store_unavailable", "{error}");
                        tracing::info!("{}", error.remedy());
                        is_store_down = true;
                    }
                }
            }
            let change = self.end_without_store(&ended.name, session, cause, now);
            end = end.or(change.filter(|_| is_own));
            if ended.ends.saturating_add(seconds(MAX_CLOCK_SKEW) * 1000) <= milliseconds(now) {
                // It has expired on every node.
                continue;
            }
            is_refused_here &= self.queue_end(&ended, false);
            unrecorded.push(ended);
        }
        if !unrecorded.is_empty() {
            tracing::warn!(
                reason = "store_unavailable",
                "a sign-out is not recorded; it is retried until the store records it"
            );
        }
        EndedSessions {
            end,
            cookies: self.ended_cookie.replace(jar, &unrecorded, now),
            is_recorded: unrecorded.is_empty(),
            is_refused_here,
        }
    }

    /// The cookie for a browser whose session has ended, if its end awaits recording.
    pub(crate) fn ended_cookie_if_unrecorded(&self, jar: &CookieJar<'_>, now: OffsetDateTime) -> Vec<SetCookie> {
        let name = self.name_in(jar);
        let Some(name) = name.filter(|name| self.unrecorded.contains(name)) else {
            return vec![];
        };
        let mut ends = vec![self.end_to_queue(&name, None, now)];
        ends.extend(self.ended_cookie.read(jar, now).unwrap_or_default());
        self.ended_cookie.replace(jar, &ends, now)
    }

    /// Whether this browser has a cookie that names at least one session.
    pub(crate) fn has_ended_cookie(&self, jar: &CookieJar<'_>, now: OffsetDateTime) -> bool {
        let ends = self.ended_cookie.read(jar, now);
        ends.is_some_and(|ends| !ends.is_empty())
    }

    /// Queues the ends that a browser's cookie of ended sessions names, without waiting for the store. Returns the removal of the cookie once
    /// this node has recorded all of them; an empty cookie is removed at once.
    pub(crate) fn queue_ends_of_cookie(self: &Arc<Self>, jar: &CookieJar<'_>) -> Option<SetCookie> {
        let now = self.unrecorded.clock.now();
        let ends = self.ended_cookie.read(jar, now)?;
        let mut is_recorded = true;
        for ended in &ends {
            if !self.unrecorded.recorded.contains_key(&ended.name) {
                is_recorded = false;
                self.queue_end(ended, true);
            }
        }
        is_recorded.then(|| self.ended_cookie.remove())
    }

    /// Whether this session has ended, and its end awaits recording.
    pub(crate) fn is_end_unrecorded(&self, name: &str) -> bool {
        self.unrecorded.contains(name)
    }

    /// Queues an end and starts or wakes the task. Returns `false` if the queue is full.
    fn queue_end(self: &Arc<Self>, ended: &Ended, at_once: bool) -> bool {
        let is_kept = self.unrecorded.add(ended);
        self.watcher.ended_here(&[&ended.name], EndCause::SignOut);
        let mut queue = self.unrecorded.queue();
        let is_first = !queue.ends.is_empty() && !queue.is_task_running;
        queue.is_task_running |= is_first;
        queue.has_failed |= !at_once;
        drop(queue);
        if is_first {
            let back_off = if at_once { Duration::ZERO } else { MIN_BACK_OFF };
            if !at_once {
                let now = milliseconds(self.unrecorded.clock.now());
                self.unrecorded.last_try.store(now, Ordering::Release);
            }
            let unrecorded = self.unrecorded.clone();
            tasks::spawn(record_ends(Arc::downgrade(self), unrecorded, back_off));
        } else if at_once {
            self.unrecorded.wake();
        }
        is_kept
    }

    /// Records the queued ends. Returns `false` when the store fails.
    async fn record_queued(&self) -> bool {
        let unrecorded = &self.unrecorded;
        unrecorded.drop_expired();
        while let Some(name) = unrecorded.next() {
            let now = unrecorded.clock.now();
            unrecorded.last_try.store(milliseconds(now), Ordering::Release);
            // The end was reported when it was queued.
            match self.end(&name, None, EndCause::SignOut, now).await {
                Ok(_) => unrecorded.recorded(&name),
                Err(error) => {
                    tracing::debug!("{error}; the end of a session is retried");
                    unrecorded.requeue(name);
                    return false;
                }
            }
        }
        true
    }

    /// The end to queue for a session; without the session, its lifetime counts from now.
    ///
    /// The expiry is that of the newest generation, which may be unknown here: a refresh may have changed it.
    fn end_to_queue(&self, name: &str, session: Option<&Session>, now: OffsetDateTime) -> Ended {
        let lifetime = i64::try_from(self.settings.absolute_timeout.as_millis()).unwrap_or(i64::MAX);
        let started = session.map_or(milliseconds(now), |session| session.started);
        let latest = started.saturating_add(lifetime);
        Ended {
            name: name.to_owned(),
            ends: session.map_or(latest, |session| session.ends.max(latest)),
        }
    }
}

/// The background task: retries with back-off until the queue is empty.
async fn record_ends(sessions: Weak<Sessions>, unrecorded: Arc<UnrecordedEnds>, mut back_off: Duration) {
    let mut running = TaskGuard(Some(&unrecorded));
    loop {
        // Wait for the back-off, or for a request that reaches the store.
        let _ = timeout(back_off, unrecorded.wake.notified()).await;
        let Some(sessions) = sessions.upgrade() else {
            return;
        };
        if sessions.record_queued().await {
            // `next` has cleared `is_task_running`, and another task may have started since.
            running.0 = None;
            return;
        }
        back_off = (back_off * 2).clamp(MIN_BACK_OFF, MAX_BACK_OFF);
    }
}

/// Guard of the running task. If a store panics, the next end starts another task, for the whole queue.
struct TaskGuard<'a>(Option<&'a UnrecordedEnds>);

impl Drop for TaskGuard<'_> {
    fn drop(&mut self) {
        if let Some(unrecorded) = self.0 {
            let mut queue = unrecorded.queue();
            queue.is_task_running = false;
            // Includes the end that was being recorded.
            queue.order = queue.ends.keys().cloned().collect();
        }
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use super::*;
    use crate::{
        cookies::Cookies,
        keys::{KeyRing, SecretKey},
        settings::SessionSettings,
    };

    const NOW: i64 = 1_800_000_000;

    fn ended(i: i64) -> Ended {
        Ended {
            name: i.to_string(),
            ends: (NOW + 60) * 1000 + i,
        }
    }

    #[test]
    fn of_200_000_ends_the_first_100_000_are_queued() {
        let ends = UnrecordedEnds::new(&Clock::fixed_at(NOW));
        assert!(!ends.contains("0"));
        for i in 0..200_000 {
            assert_eq!(ends.add(&ended(i)), i < 100_000, "{i}");
        }
        assert_eq!(ends.count.load(Ordering::Acquire), 100_000);
        // An entry that is queued already takes no room.
        assert!(ends.add(&ended(99_999)));
        for (i, expected) in [(0, true), (99_999, true), (100_000, false)] {
            assert_eq!(ends.contains(&i.to_string()), expected, "{i}");
        }

        // The oldest is recorded first, and makes room for another.
        let next = ends.next().unwrap();
        assert_eq!(&*next, "0");
        assert!(ends.contains("0"));
        ends.recorded(&next);
        assert!(!ends.contains("0"));
        assert!(ends.recorded.contains_key("0"));
        assert!(ends.add(&ended(100_000)));
        assert!(!ends.add(&ended(100_001)));
    }

    /// Two browsers with one session sign out simultaneously during an outage.
    #[test]
    fn of_several_threads_one_reports_an_end() {
        let ends = UnrecordedEnds::new(&Clock::fixed_at(NOW));
        for name in ["a", "b"] {
            let report = || ends.is_first_report(name);
            let first = std::thread::scope(|scope| {
                let reports = [(); 8].map(|()| scope.spawn(report));
                reports.map(|report| report.join().unwrap())
            });
            assert_eq!(first.iter().filter(|is_first| **is_first).count(), 1);
        }
    }

    #[rocket::async_test]
    async fn an_end_that_does_not_fit_into_the_queue_is_reported_once() {
        let key = SecretKey::from_bytes(vec![7; 32]).unwrap();
        let keys = KeyRing::new(&key, &[], &["https://op.example", "app"]);
        let cookies = Cookies::new(keys, false);
        let clock = Clock::fixed_at(NOW);
        let settings = SessionSettings::default();
        let mut sessions = Sessions::open(settings, &cookies, "https://op.example", None, &clock).unwrap();
        let full = UnrecordedEnds {
            max: 0,
            ..UnrecordedEnds::new(&clock)
        };
        sessions.unrecorded = Arc::new(full);
        let sessions = Arc::new(sessions);
        let (cause, now) = (EndCause::SignOut, clock.now());
        for expected in [true, false] {
            let end = sessions.end_without_store("a", None, cause, now);
            assert_eq!(end.is_some(), expected);
            assert!(!sessions.queue_end(&sessions.end_to_queue("a", None, now), false));
        }
        // A request that has reached the store does not report it again.
        assert_eq!(sessions.end("a", None, cause, now).await, Ok(None));
    }

    #[test]
    fn an_end_is_dropped_when_its_session_expires() {
        let clock = Clock::fixed_at(NOW);
        let ends = UnrecordedEnds::new(&clock);
        assert!(ends.add(&ended(0)) && ends.add(&ended(1)));
        clock.advance(Duration::from_secs(60));
        assert!(!ends.contains("0") && ends.contains("1"));
        ends.drop_expired();
        assert_eq!(ends.count.load(Ordering::Acquire), 1);
        assert_eq!(ends.next().as_deref(), Some("1"));
        clock.advance(Duration::from_millis(1));
        ends.drop_expired();
        assert_eq!(ends.count.load(Ordering::Acquire), 0);
        assert_eq!(ends.next(), None);
    }

    /// One partition of the store may be down.
    #[test]
    fn a_failed_end_does_not_block_the_others() {
        let ends = UnrecordedEnds::new(&Clock::fixed_at(NOW));
        assert!(ends.add(&ended(0)) && ends.add(&ended(1)));
        for expected in ["0", "1", "0"] {
            let next = ends.next().unwrap();
            assert_eq!(&*next, expected);
            ends.requeue(next);
        }
    }

    /// The task panics while it records an end.
    #[test]
    fn a_store_that_panics_loses_no_end() {
        let ends = UnrecordedEnds::new(&Clock::fixed_at(NOW));
        assert!(ends.add(&ended(0)) && ends.add(&ended(1)));
        ends.queue().is_task_running = true;
        let running = TaskGuard(Some(&ends));
        assert_eq!(ends.next().as_deref(), Some("0"));
        drop(running);
        assert!(!ends.queue().is_task_running);
        let mut names = [ends.next(), ends.next()].map(|name| name.unwrap().to_string());
        names.sort();
        assert_eq!(names, ["0", "1"]);
        assert_eq!(ends.next(), None);
    }

    #[rocket::async_test]
    async fn a_store_that_responds_is_retried_once_a_second() {
        let clock = Clock::fixed_at(NOW);
        let ends = UnrecordedEnds::new(&clock);
        let is_woken = async || {
            ends.store_responded();
            timeout(Duration::ZERO, ends.wake.notified()).await.is_ok()
        };
        assert!(!is_woken().await, "there is nothing to record");
        assert!(ends.add(&ended(0)));
        ends.last_try.store(NOW * 1000, Ordering::Release);
        for (passed, expected) in [(0, false), (999, false), (1, true), (1, true)] {
            clock.advance(Duration::from_millis(passed));
            assert_eq!(is_woken().await, expected, "{passed}");
        }
    }

    /// The latest expiry is kept, whichever cookie names it.
    #[test]
    fn an_end_is_queued_until_the_latest_expiry() {
        let clock = Clock::fixed_at(NOW);
        let ends = UnrecordedEnds::new(&clock);
        let until = |seconds: i64| Ended {
            name: "a".to_owned(),
            ends: (NOW + seconds) * 1000,
        };
        for seconds in [10, 30, 20] {
            assert!(ends.add(&until(seconds)));
        }
        clock.advance(Duration::from_secs(29));
        assert!(ends.contains("a"));
        clock.advance(Duration::from_secs(1));
        assert!(!ends.contains("a"));
    }
}
