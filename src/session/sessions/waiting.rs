//! The futures that wait for the end of a session: by the names of its ends, and by when it is to be looked at next.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use rocket::futures::future::FusedFuture;
use tokio::sync::{Notify, oneshot};

use super::{Sessions, seconds};
use crate::session::{EarlierEnds, EndCause, NoSession, SessionEnd};

/// How often a session is looked at that nothing is known about, in milliseconds: less than the minute for which a
/// generation of a session in cookies is kept at least. Up to a quarter is taken off, so that sessions that were looked
/// at together are not looked at together again.
const LOOK_INTERVAL: i64 = 45_000;
/// When a session is looked at again that could not be looked at, in milliseconds.
const RETRY_INTERVAL: i64 = 5_000;

/// A future that completes when a session has ended: what [`User::ended`](crate::User::ended) returns. It is `Send`,
/// `Unpin` and `'static`; after its completion it may be polled again. Dropping it costs nothing.
#[must_use = "it does nothing unless it is awaited"]
pub struct SessionEnded {
    waiting: Arc<Waiting>,
    id: u64,
    end: oneshot::Receiver<SessionEnd>,
    ended: Option<SessionEnd>,
}

impl SessionEnded {
    /// The future of a session that nothing ends.
    pub(crate) fn never() -> SessionEnded {
        let waiting = Arc::new(Waiting::default());
        let times = Times {
            generation: 0,
            ends: i64::MAX,
            idle: None,
            overdue: None,
        };
        waiting.add(None, times).0
    }
}

/// All that wait, for all providers of the app.
#[derive(Default)]
pub(super) struct Waiting {
    state: Mutex<State>,
    /// Their number. While it is 0, the end of a session does not lock the state.
    count: AtomicUsize,
    /// Wakes the task: one is to be looked at, or none is left.
    pub(super) changed: Notify,
}

#[derive(Default)]
struct State {
    waiters: HashMap<u64, Waiter>,
    /// By the names of their sessions and the index keys.
    names: BTreeSet<(Key, u64)>,
    /// By when they are to be looked at, in milliseconds since 1970.
    due: BTreeSet<(i64, u64)>,
    last_id: u64,
    is_task_running: bool,
    is_shut_down: bool,
}

/// A prefix of a name: names are digests of 32 bytes in base64url, the name of a session with 4 bytes of its client first.
type Key = [u8; 24];

struct Waiter {
    /// `None` for the testing profile, which is in no store.
    watched: Option<Arc<Watched>>,
    end: oneshot::Sender<SessionEnd>,
    /// `None` while it is being looked at.
    due: Option<i64>,
    times: Times,
    /// How its session ended, if it is not valid any more.
    cause: Option<EndCause>,
    /// Since when it could not be looked at, in milliseconds since 1970.
    failing_since: Option<i64>,
}

/// The session of a waiter.
pub(super) struct Watched {
    pub(super) sessions: Arc<Sessions>,
    pub(super) name: Arc<str>,
    /// For a session in cookies, the index keys of its user and its provider's session.
    pub(super) index_keys: Box<[String]>,
    pub(super) earlier_ends: EarlierEnds,
}

/// When a session is not valid any more, in milliseconds since 1970; by its newest known generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) generation: u64,
    pub(super) ends: i64,
    /// Of a session in a store.
    pub(super) idle: Option<i64>,
    /// When its refresh is overdue by more than `session.refresh_grace`.
    pub(super) overdue: Option<i64>,
}

/// What was found about a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It has not ended.
    Session(Times),
    Ended(NoSession),
    /// That is not known now.
    Unknown(NoSession),
}

impl Waiting {
    /// Adds a waiter for a session, to be looked at now. Also returns whether the task is to be started.
    pub(super) fn add(self: &Arc<Self>, watched: Option<Watched>, times: Times) -> (SessionEnded, bool) {
        let (sender, end) = oneshot::channel();
        let mut state = self.state();
        state.last_id += 1;
        let id = state.last_id;
        let is_shut_down = state.is_shut_down;
        if !is_shut_down {
            let is_stored = watched.is_some();
            let waiter = Waiter {
                watched: watched.map(Arc::new),
                end: sender,
                due: None,
                times,
                cause: None,
                failing_since: None,
            };
            for key in waiter.keys() {
                state.names.insert((key, id));
            }
            state.waiters.insert(id, waiter);
            if is_stored {
                state.schedule(id, i64::MIN);
            }
            self.count.store(state.waiters.len(), Ordering::SeqCst);
        }
        let is_first = !is_shut_down && !std::mem::replace(&mut state.is_task_running, true);
        drop(state);
        self.changed.notify_one();
        let ended = SessionEnded {
            waiting: self.clone(),
            id,
            end,
            ended: is_shut_down.then_some(SessionEnd::SHUTDOWN),
        };
        (ended, is_first)
    }

    /// The sessions with these names have ended. Those with these index keys may have, and are looked at: a session
    /// that began after the end was recorded goes on.
    pub(super) fn ended(&self, names: &[impl AsRef<str>], cause: EndCause) {
        // The end is recorded before the number is read, and a waiter is counted before its session is looked at.
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut state = self.state();
        for name in names.iter().map(AsRef::as_ref) {
            let key = key(name);
            let ids = state.names.range((key, 0)..=(key, u64::MAX));
            let ids: Vec<_> = ids.map(|(_, id)| *id).collect();
            for id in ids {
                let Some(waiter) = state.waiters.get_mut(&id) else {
                    continue;
                };
                let is_own = waiter.watched.as_ref().is_some_and(|watched| *watched.name == *name);
                if is_own {
                    self.end(&mut state, id, SessionEnd::by(cause));
                } else {
                    waiter.cause = Some(cause);
                    state.schedule(id, i64::MIN);
                    self.changed.notify_one();
                }
            }
        }
    }

    /// All are to be looked at: there may have been ends that are not known here.
    pub(super) fn look_at_all(&self) {
        let mut state = self.state();
        let stored = state.waiters.iter().filter(|(_, waiter)| waiter.watched.is_some());
        let ids: Vec<_> = stored.map(|(id, _)| *id).collect();
        for id in ids {
            state.schedule(id, i64::MIN);
        }
    }

    /// Takes those that are to be looked at by now, at most so many. Each is to be [settled](Self::settle).
    pub(super) fn take_due(&self, now: i64, max: usize) -> Vec<(u64, Arc<Watched>, Times)> {
        let mut state = self.state();
        let due = state.due.range(..=(now, u64::MAX)).take(max);
        let due: Vec<_> = due.copied().collect();
        let mut taken = Vec::with_capacity(due.len());
        for (time, id) in due {
            state.due.remove(&(time, id));
            if let Some(waiter) = state.waiters.get_mut(&id) {
                waiter.due = None;
                taken.extend(waiter.watched.clone().map(|watched| (id, watched, waiter.times)));
            }
        }
        taken
    }

    /// When the next is to be looked at.
    pub(super) fn next_due(&self) -> Option<i64> {
        self.state().due.first().map(|(due, _)| *due)
    }

    /// Takes what was found about a session: its waiter ends, or is to be looked at later. `failing_since` is since when
    /// the whole store could not be read.
    pub(super) fn settle(&self, id: u64, found: Found, now: i64, failing_since: Option<i64>) {
        let mut state = self.state();
        let Some(waiter) = state.waiters.get_mut(&id) else {
            return;
        };
        match waiter.judge(id, found, now, failing_since) {
            Err(end) => self.end(&mut state, id, end),
            // While it was looked at, an end was recorded, which may not have been seen: the next look is due.
            Ok(_) if waiter.due.is_some() => {}
            Ok(next) => state.schedule(id, next),
        }
    }

    /// Ends all, and those that are added from now on.
    pub(super) fn shut_down(&self) {
        let mut state = self.state();
        state.is_shut_down = true;
        let ids: Vec<_> = state.waiters.keys().copied().collect();
        for id in ids {
            self.end(&mut state, id, SessionEnd::SHUTDOWN);
        }
    }

    /// Whether the task may stop, as none waits.
    pub(super) fn is_done(&self) -> bool {
        let mut state = self.state();
        state.is_task_running = !state.waiters.is_empty();
        !state.is_task_running
    }

    /// The task was interrupted: the next waiter starts another, which looks at all.
    pub(super) fn interrupted(&self) {
        self.state().is_task_running = false;
        self.look_at_all();
    }

    fn end(&self, state: &mut State, id: u64, end: SessionEnd) {
        if let Some(waiter) = self.remove(state, id) {
            // The receiver is gone if the future is being dropped.
            let _ = waiter.end.send(end);
        }
    }

    fn remove(&self, state: &mut State, id: u64) -> Option<Waiter> {
        let waiter = state.waiters.remove(&id)?;
        for key in waiter.keys() {
            state.names.remove(&(key, id));
        }
        if let Some(due) = waiter.due {
            state.due.remove(&(due, id));
        }
        self.count.store(state.waiters.len(), Ordering::SeqCst);
        if state.waiters.is_empty() {
            *state = State {
                last_id: state.last_id,
                is_task_running: state.is_task_running,
                is_shut_down: state.is_shut_down,
                ..State::default()
            };
            self.changed.notify_one();
        }
        Some(waiter)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Sets when a waiter is to be looked at.
    fn schedule(&mut self, id: u64, due: i64) {
        if let Some(waiter) = self.waiters.get_mut(&id) {
            if let Some(before) = waiter.due.replace(due) {
                self.due.remove(&(before, id));
            }
            self.due.insert((due, id));
        }
    }
}

impl Waiter {
    /// The keys of its session's name and index keys.
    fn keys(&self) -> Vec<Key> {
        let Some(watched) = &self.watched else {
            return vec![];
        };
        let index_keys = watched.index_keys.iter().map(|name| key(name));
        index_keys.chain([key(&watched.name)]).collect()
    }

    /// When to look next, or why its session is not valid any more.
    fn judge(&mut self, id: u64, found: Found, now: i64, failing_since: Option<i64>) -> Result<i64, SessionEnd> {
        match found {
            Found::Ended(reason) => Err(self.cause.map_or(SessionEnd::found(reason), SessionEnd::by)),
            Found::Session(times) => {
                self.times = times;
                self.failing_since = None;
                // Unless it came while the session was looked at.
                self.cause = self.cause.filter(|_| self.due.is_some());
                if let Some(reason) = times.over(now) {
                    return Err(SessionEnd::found(reason));
                }
                let early = (id % 16).cast_signed() * (LOOK_INTERVAL / 64);
                let times = [Some(times.ends), times.idle, times.overdue];
                let next = now.saturating_add(LOOK_INTERVAL - early);
                Ok(times.into_iter().flatten().fold(next, i64::min))
            }
            Found::Unknown(reason) => {
                let since = *self.failing_since.get_or_insert(failing_since.unwrap_or(now));
                let sessions = self.watched.as_ref().map(|watched| &watched.sessions);
                let grace = sessions.map_or(0, |sessions| seconds(sessions.settings.refresh_grace));
                let limit = since.saturating_add(grace.saturating_mul(1_000));
                if self.times.ends <= now {
                    return Err(SessionEnd::found(NoSession::LifetimeEnded));
                }
                if limit <= now {
                    return Err(SessionEnd::found(reason));
                }
                Ok(now.saturating_add(RETRY_INTERVAL).min(limit).min(self.times.ends))
            }
        }
    }
}

impl Times {
    /// Why the session is not valid any more.
    fn over(&self, now: i64) -> Option<NoSession> {
        let is_past = |time: Option<i64>| time.is_some_and(|time| time <= now);
        if is_past(Some(self.ends)) {
            Some(NoSession::LifetimeEnded)
        } else if is_past(self.idle) {
            Some(NoSession::Idle)
        } else if is_past(self.overdue) {
            Some(NoSession::RefreshUnavailable)
        } else {
            None
        }
    }
}

/// The first bytes of a name; two names with the same are distinguished by the look at the session.
fn key(name: &str) -> Key {
    let mut key = [0; 24];
    for (byte, of_name) in key.iter_mut().zip(name.bytes()) {
        *byte = of_name;
    }
    key
}

impl Future for SessionEnded {
    type Output = SessionEnd;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<SessionEnd> {
        if let Some(end) = self.ended {
            return Poll::Ready(end);
        }
        let end = ready!(Pin::new(&mut self.end).poll(context));
        // The sender is dropped with the whole app.
        let end = end.unwrap_or(SessionEnd::SHUTDOWN);
        self.ended = Some(end);
        Poll::Ready(end)
    }
}

/// It is never terminated: after its completion, it is ready at once.
impl FusedFuture for SessionEnded {
    fn is_terminated(&self) -> bool {
        false
    }
}

impl Drop for SessionEnded {
    fn drop(&mut self) {
        if self.ended.is_none() {
            let mut state = self.waiting.state();
            self.waiting.remove(&mut state, self.id);
        }
    }
}

impl fmt::Debug for SessionEnded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionEnded")
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}
