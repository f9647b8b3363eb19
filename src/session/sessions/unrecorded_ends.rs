//! Ends of sessions that the store has not recorded yet, because it was down: this node refuses those sessions
//! and tries again, and so does every node that their browser comes to.
//!
//! Whoever can ask again, the app and the provider, gets the store's error. A browser that signs out, and a
//! session that ends at its refresh, cannot: their ends are kept here.

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

use super::{MAX_DIFFERENCE, Sessions, seconds};
use crate::session::{
    CurrentSession, EndCause, Session, SessionChange, ended_note::Ended, milliseconds,
    store::StoreError,
};
use crate::{clock::Clock, cookies::SetCookie, observing};

/// How many ends one node keeps; about 200 bytes each. When there are more, the older ones stay.
const MAX_UNRECORDED: usize = 100_000;
/// The pause after an attempt that failed: doubled each time …
const MIN_PAUSE: Duration = Duration::from_secs(1);
/// … up to this.
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// For how many ends it is known that this node recorded them, so that a browser's note is removed.
const MAX_RECORDED: u64 = 100_000;
/// Of how many ends it is known that this node reported them: enough for those of one moment, and for those that come
/// again while there is no room to keep them.
const MAX_REPORTED: u64 = 10_000;

/// The ends that this node has to record.
pub(in crate::session) struct UnrecordedEnds {
    /// How many there are. While there are none, a request looks at nothing else.
    count: AtomicUsize,
    queue: Mutex<Queue>,
    /// When the store was tried last, in milliseconds since 1970.
    last_try: AtomicI64,
    /// That an attempt may succeed.
    wake: Notify,
    /// What was recorded, by the name of the session.
    recorded: Cache<String, ()>,
    /// Whose end was reported to the app and the log, by the name of the session. The store decides of two nodes, and
    /// this one of two requests: one of them may have reached the store.
    reported: Cache<String, ()>,
    clock: Clock,
    max: usize,
}

#[derive(Default)]
struct Queue {
    /// Until when each session lives at most, in milliseconds since 1970.
    ends: HashMap<Arc<str>, i64>,
    /// Those that are not being recorded at this moment, the next one first.
    order: VecDeque<Arc<str>>,
    is_task_running: bool,
    /// Whether it was logged that there is no room.
    is_known_full: bool,
    /// Whether an end was not recorded when it came. One that a browser brings is, as a rule.
    has_failed: bool,
    /// How many were recorded since there was none.
    recorded: usize,
}

/// The end of a session that is kept until the store has it.
pub(crate) struct KeptEnd {
    /// The end, if it was not known before.
    pub(crate) end: Option<SessionChange>,
    /// Why the store does not have it yet.
    pub(crate) error: Option<StoreError>,
}

/// What became of the ends of a browser's sessions.
pub(crate) struct EndedSessions {
    /// The end of its session, if that was not known before.
    pub(crate) end: Option<SessionChange>,
    /// What the answer sets: the browser's note of the ends that are not recorded.
    pub(crate) cookies: Vec<SetCookie>,
    /// Whether the store has all of them.
    pub(crate) is_recorded: bool,
    /// Whether this node refuses those that are not recorded.
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

    /// Whether this session has ended and the store may not know it.
    pub(in crate::session) fn has(&self, name: &str) -> bool {
        if self.count.load(Ordering::Acquire) == 0 {
            return false;
        }
        let now = milliseconds(self.clock.now());
        self.queue().ends.get(name).is_some_and(|end| *end > now)
    }

    /// Whether the end of this session is reported for the first time at this node. It counts as reported then.
    pub(in crate::session) fn is_first_report(&self, name: &str) -> bool {
        self.reported.entry_by_ref(name).or_insert(()).is_fresh()
    }

    /// The store has answered a request: what it did not take before, it may take now.
    pub(in crate::session) fn store_answered(&self) {
        if self.count.load(Ordering::Acquire) > 0 {
            self.wake();
        }
    }

    /// Has the task try again, at most once in a while: a store may answer and take nothing.
    fn wake(&self) {
        let since = milliseconds(self.clock.now())
            .saturating_sub(self.last_try.load(Ordering::Acquire))
            .unsigned_abs();
        if Duration::from_millis(since) >= MIN_PAUSE {
            self.wake.notify_one();
        }
    }

    /// Keeps an end, if there is room.
    fn add(&self, ended: &Ended) -> bool {
        let mut queue = self.queue();
        let queue = &mut *queue;
        if let Some(end) = queue.ends.get_mut(&*ended.name) {
            *end = ended.ends.max(*end);
            return true;
        }
        if queue.ends.len() >= self.max {
            if !std::mem::replace(&mut queue.is_known_full, true) {
                tracing::error!(
                    reason = "store_unavailable",
                    "the store does not record the ends of {} sessions, and no more are kept: those that follow end when their browser comes back, or by their lifetime",
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

    /// The next one to record; `None` when there is none, and the task is over.
    fn next(&self) -> Option<Arc<str>> {
        let mut queue = self.queue();
        while let Some(name) = queue.order.pop_front() {
            if queue.ends.contains_key(&name) {
                return Some(name);
            }
        }
        queue.is_task_running = false;
        queue.is_known_full = false;
        let recorded = std::mem::take(&mut queue.recorded);
        if std::mem::take(&mut queue.has_failed) && recorded > 0 {
            tracing::info!(
                reason = "store_unavailable",
                "the store has recorded the ends of sessions that it did not take before: {recorded}"
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

    /// Another one is the next: of a store in parts, one part may be down.
    fn put_back(&self, name: Arc<str>) {
        let mut queue = self.queue();
        queue.order.push_back(name);
        queue.has_failed = true;
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sessions {
    /// Ends a session that nobody can ask to end again. Without the store, the end is kept here.
    pub(crate) async fn end_or_keep(
        self: &Arc<Self>,
        name: &str,
        session: Option<&CurrentSession>,
        cause: EndCause,
        now: OffsetDateTime,
    ) -> KeptEnd {
        match self.end(name, session, cause, now).await {
            Ok(end) => KeptEnd { end, error: None },
            Err(error) => {
                let end = self.end_without_store(name, session, cause, now);
                let session = session.map(|session| &**session);
                self.keep_end(&self.end_to_keep(name, session, now), false);
                KeptEnd {
                    end,
                    error: Some(error),
                }
            }
        }
    }

    /// The end of a session that the store does not take, unless it is kept or was reported already. What is known
    /// of its tokens here is revoked now; what only the store has, when it takes the end.
    fn end_without_store(
        &self,
        name: &str,
        session: Option<&CurrentSession>,
        cause: EndCause,
        now: OffsetDateTime,
    ) -> Option<SessionChange> {
        self.revoke(name, session, cause);
        match self.unrecorded.has(name) {
            true => None,
            false => self.ended_now(name, session.map(|session| &**session), cause, now),
        }
    }

    /// Ends the sessions of a browser that signs out: its session, and those whose ends its note names. The
    /// store is not asked when it was found to be down just now.
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
        let own = name.map(|name| self.end_to_keep(name, known, now));
        let noted = self.ended_note.read(jar, now).unwrap_or_default();
        let noted = noted.into_iter().filter(|ended| {
            let is_own = Some(&*ended.name) == name;
            !is_own && !self.unrecorded.recorded.contains_key(&ended.name)
        });
        let ends: Vec<_> = own.into_iter().chain(noted).collect();
        for ended in ends {
            let is_own = Some(&*ended.name) == name;
            let session = session.filter(|_| is_own);
            if !is_store_down {
                match self.end(&ended.name, session, cause, now).await {
                    Ok(change) => {
                        // Those of the note were told of when their sign-out was not recorded.
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
            if ended.ends.saturating_add(seconds(MAX_DIFFERENCE) * 1000) <= milliseconds(now) {
                // It is over by itself at every node.
                continue;
            }
            is_refused_here &= self.keep_end(&ended, false);
            unrecorded.push(ended);
        }
        if !unrecorded.is_empty() {
            tracing::warn!(
                reason = "store_unavailable",
                "a sign-out is not recorded; it is tried again until the store has it"
            );
        }
        EndedSessions {
            end,
            cookies: self.ended_note.replace(jar, &unrecorded, now),
            is_recorded: unrecorded.is_empty(),
            is_refused_here,
        }
    }

    /// The note for a browser whose session has ended, if the store does not know it.
    pub(crate) fn note_if_unrecorded(
        &self,
        jar: &CookieJar<'_>,
        now: OffsetDateTime,
    ) -> Vec<SetCookie> {
        let name = self.name_in(jar);
        let Some(name) = name.filter(|name| self.unrecorded.has(name)) else {
            return vec![];
        };
        let mut ends = vec![self.end_to_keep(&name, None, now)];
        ends.extend(self.ended_note.read(jar, now).unwrap_or_default());
        self.ended_note.replace(jar, &ends, now)
    }

    /// Whether this browser has a note that names a session.
    pub(crate) fn has_ended_note(&self, jar: &CookieJar<'_>, now: OffsetDateTime) -> bool {
        let ends = self.ended_note.read(jar, now);
        ends.is_some_and(|ends| !ends.is_empty())
    }

    /// Takes over the ends that a browser's note names, without waiting for the store. Answers what removes
    /// the note, once this node has recorded all of them; one that names none is removed at once.
    pub(crate) fn take_over_note(self: &Arc<Self>, jar: &CookieJar<'_>) -> Option<SetCookie> {
        let now = self.unrecorded.clock.now();
        let ends = self.ended_note.read(jar, now)?;
        let mut is_recorded = true;
        for ended in &ends {
            if !self.unrecorded.recorded.contains_key(&ended.name) {
                is_recorded = false;
                self.keep_end(ended, true);
            }
        }
        is_recorded.then(|| self.ended_note.remove())
    }

    /// Whether this session has ended and the store may not know it.
    pub(crate) fn is_end_unrecorded(&self, name: &str) -> bool {
        self.unrecorded.has(name)
    }

    /// Keeps an end until the store has it. `false` when there is no room.
    fn keep_end(self: &Arc<Self>, ended: &Ended, at_once: bool) -> bool {
        let is_kept = self.unrecorded.add(ended);
        let mut queue = self.unrecorded.queue();
        let is_first = !queue.ends.is_empty() && !queue.is_task_running;
        queue.is_task_running |= is_first;
        queue.has_failed |= !at_once;
        drop(queue);
        if is_first {
            let pause = if at_once { Duration::ZERO } else { MIN_PAUSE };
            if !at_once {
                let now = milliseconds(self.unrecorded.clock.now());
                self.unrecorded.last_try.store(now, Ordering::Release);
            }
            let unrecorded = self.unrecorded.clone();
            observing::spawn(record_ends(Arc::downgrade(self), unrecorded, pause));
        } else if at_once {
            self.unrecorded.wake();
        }
        is_kept
    }

    /// Records what was kept. `false` when the store does not take it.
    async fn record_kept(&self) -> bool {
        let unrecorded = &self.unrecorded;
        unrecorded.drop_expired();
        while let Some(name) = unrecorded.next() {
            let now = unrecorded.clock.now();
            unrecorded
                .last_try
                .store(milliseconds(now), Ordering::Release);
            // It was told of when it was kept.
            match self.end(&name, None, EndCause::SignOut, now).await {
                Ok(_) => unrecorded.recorded(&name),
                Err(error) => {
                    tracing::debug!("{error}; the end of a session is tried again");
                    unrecorded.put_back(name);
                    return false;
                }
            }
        }
        true
    }

    /// The end of a session; without the session, as if it had begun now.
    ///
    /// It counts for the newest generation, which may not be at hand: a refresh may have moved when that ends.
    fn end_to_keep(&self, name: &str, session: Option<&Session>, now: OffsetDateTime) -> Ended {
        let lifetime =
            i64::try_from(self.settings.absolute_timeout.as_millis()).unwrap_or(i64::MAX);
        let started = session.map_or(milliseconds(now), |session| session.started);
        let latest = started.saturating_add(lifetime);
        Ended {
            name: name.to_owned(),
            ends: session.map_or(latest, |session| session.ends.max(latest)),
        }
    }
}

/// Records ends until there are none.
async fn record_ends(
    sessions: Weak<Sessions>,
    unrecorded: Arc<UnrecordedEnds>,
    mut pause: Duration,
) {
    let mut running = Running(Some(&unrecorded));
    loop {
        // Until a request finds the store answering.
        let _ = timeout(pause, unrecorded.wake.notified()).await;
        let Some(sessions) = sessions.upgrade() else {
            return;
        };
        if sessions.record_kept().await {
            // The queue says so already, and another task may have begun.
            running.0 = None;
            return;
        }
        pause = (pause * 2).clamp(MIN_PAUSE, MAX_PAUSE);
    }
}

/// The task that records ends. Should a store panic, the next end begins another, for all of them.
struct Running<'a>(Option<&'a UnrecordedEnds>);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Some(unrecorded) = self.0 {
            let mut queue = unrecorded.queue();
            queue.is_task_running = false;
            // With the one that it was about to record.
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
    fn of_200_000_ends_the_first_100_000_are_kept() {
        let ends = UnrecordedEnds::new(&Clock::standing_at(NOW));
        assert!(!ends.has("0"));
        for i in 0..200_000 {
            assert_eq!(ends.add(&ended(i)), i < 100_000, "{i}");
        }
        assert_eq!(ends.count.load(Ordering::Acquire), 100_000);
        // One that is there already takes no room.
        assert!(ends.add(&ended(99_999)));
        for (i, expected) in [(0, true), (99_999, true), (100_000, false)] {
            assert_eq!(ends.has(&i.to_string()), expected, "{i}");
        }

        // The oldest is recorded first, and leaves its room to another.
        let next = ends.next().unwrap();
        assert_eq!(&*next, "0");
        assert!(ends.has("0"));
        ends.recorded(&next);
        assert!(!ends.has("0"));
        assert!(ends.recorded.contains_key("0"));
        assert!(ends.add(&ended(100_000)));
        assert!(!ends.add(&ended(100_001)));
    }

    /// Two browsers with one session sign out in one moment of an outage.
    #[test]
    fn of_several_who_report_an_end_one_does() {
        let ends = UnrecordedEnds::new(&Clock::standing_at(NOW));
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
    async fn an_end_for_which_there_is_no_room_is_reported_once() {
        let key = SecretKey::from_bytes(vec![7; 32]).unwrap();
        let keys = KeyRing::new(&key, &[], "https://op.example", "app");
        let cookies = Cookies::new(keys, false);
        let clock = Clock::standing_at(NOW);
        let settings = SessionSettings::default();
        let mut sessions =
            Sessions::open(settings, &cookies, "https://op.example", None, &clock).unwrap();
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
            assert!(!sessions.keep_end(&sessions.end_to_keep("a", None, now), false));
        }
        // Not by a request that has reached the store either.
        assert_eq!(sessions.end("a", None, cause, now).await, Ok(None));
    }

    #[test]
    fn an_end_is_dropped_when_its_session_is_over_by_itself() {
        let clock = Clock::standing_at(NOW);
        let ends = UnrecordedEnds::new(&clock);
        assert!(ends.add(&ended(0)) && ends.add(&ended(1)));
        clock.advance(Duration::from_secs(60));
        assert!(!ends.has("0") && ends.has("1"));
        ends.drop_expired();
        assert_eq!(ends.count.load(Ordering::Acquire), 1);
        assert_eq!(ends.next().as_deref(), Some("1"));
        clock.advance(Duration::from_millis(1));
        ends.drop_expired();
        assert_eq!(ends.count.load(Ordering::Acquire), 0);
        assert_eq!(ends.next(), None);
    }

    /// A part of the store may be down.
    #[test]
    fn an_end_that_is_not_taken_keeps_no_other_from_being_tried() {
        let ends = UnrecordedEnds::new(&Clock::standing_at(NOW));
        assert!(ends.add(&ended(0)) && ends.add(&ended(1)));
        for expected in ["0", "1", "0"] {
            let next = ends.next().unwrap();
            assert_eq!(&*next, expected);
            ends.put_back(next);
        }
    }

    /// The task is gone with the end that it was about to record.
    #[test]
    fn a_store_that_panics_loses_no_end() {
        let ends = UnrecordedEnds::new(&Clock::standing_at(NOW));
        assert!(ends.add(&ended(0)) && ends.add(&ended(1)));
        ends.queue().is_task_running = true;
        let running = Running(Some(&ends));
        assert_eq!(ends.next().as_deref(), Some("0"));
        drop(running);
        assert!(!ends.queue().is_task_running);
        let mut names = [ends.next(), ends.next()].map(|name| name.unwrap().to_string());
        names.sort();
        assert_eq!(names, ["0", "1"]);
        assert_eq!(ends.next(), None);
    }

    #[rocket::async_test]
    async fn a_store_that_answers_is_tried_again_once_a_second() {
        let clock = Clock::standing_at(NOW);
        let ends = UnrecordedEnds::new(&clock);
        let is_woken = async || {
            ends.store_answered();
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

    /// The later end counts, by whatever note.
    #[test]
    fn an_end_is_kept_for_the_longest_time_that_was_named() {
        let clock = Clock::standing_at(NOW);
        let ends = UnrecordedEnds::new(&clock);
        let until = |seconds: i64| Ended {
            name: "a".to_owned(),
            ends: (NOW + seconds) * 1000,
        };
        for seconds in [10, 30, 20] {
            assert!(ends.add(&until(seconds)));
        }
        clock.advance(Duration::from_secs(29));
        assert!(ends.has("a"));
        clock.advance(Duration::from_secs(1));
        assert!(!ends.has("a"));
    }
}
