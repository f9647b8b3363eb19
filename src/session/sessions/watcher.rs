//! The task that waits for the ends of sessions with open sockets: it reads the feed of ends on other nodes, and looks
//! at a session when it may have ended. It runs while there is such a socket.

use std::{future::Future, panic::AssertUnwindSafe, pin::pin, sync::Arc, time::Duration};

use rocket::futures::{
    FutureExt,
    future::{join_all, select},
};
use time::OffsetDateTime;
use tokio::{task::yield_now, time::timeout};

use super::{
    Sessions, seconds,
    waiting::{Found, SessionEnded, Times, Waiting, Watched},
};
use crate::{
    clock::Clock,
    session::{
        CurrentSession, EndCause, NoSession, Session,
        end_feed::{EndFeed, FeedReader},
        milliseconds,
        store::StoreError,
    },
    tasks,
};

/// Maximum sessions that are looked at simultaneously, so that requests do not wait for the store behind them.
const MAX_LOOKS: usize = 16;
/// How long the task waits if nothing is to be done earlier, in milliseconds: then it notices a change of the system's
/// time.
const MAX_WAIT: i64 = 60_000;
/// Maximum time of a store for one look: an app's own store may have no limit.
const STORE_TIMEOUT: Duration = Duration::from_secs(10);

/// What waits for ends of sessions, and where it learns of them; shared by the providers of an app.
pub(super) struct Watcher {
    waiting: Arc<Waiting>,
    /// For a store that other nodes use too.
    feed: Option<EndFeed>,
    clock: Clock,
}

impl Watcher {
    pub(super) fn new(feed: Option<EndFeed>, clock: &Clock) -> Watcher {
        Watcher {
            waiting: Arc::default(),
            feed,
            clock: clock.clone(),
        }
    }

    /// The sessions with these names or index keys have ended: ends what waits for them here.
    pub(super) fn ended_here(&self, names: &[&str], cause: EndCause) {
        self.waiting.ended(names, cause);
    }

    /// The store has recorded the end of the sessions with these names or index keys: ends what waits for them, here
    /// and on other nodes.
    pub(super) async fn ended(&self, names: &[&str], cause: EndCause) {
        self.ended_here(names, cause);
        if let Some(feed) = &self.feed
            && let Err(error) = feed.publish(names, cause).await
        {
            tracing::debug!("{error}; other nodes close sockets of a session later");
        }
    }

    /// Runs while there is a waiter.
    async fn run(&self) {
        let waiting = &self.waiting;
        let mut reader = self.feed.as_ref().map(FeedReader::new);
        let mut failing_since = None;
        loop {
            let now = self.clock.now();
            let now_ms = milliseconds(now);
            if let Some(reader) = &mut reader
                && reader.next_read() <= now_ms
            {
                let is_first_failure = failing_since.is_none();
                match in_time(reader.read(now_ms)).await {
                    Ok(news) => {
                        failing_since = None;
                        for end in news.ends {
                            waiting.ended(&end.names, end.cause);
                        }
                        if news.is_incomplete {
                            waiting.look_at_all();
                        }
                    }
                    Err(error) => {
                        failing_since.get_or_insert(now_ms);
                        if is_first_failure {
                            tracing::warn!(
                                reason = "store_unavailable",
                                "{error}; the ends of sessions with open sockets are not known until it is"
                            );
                            tracing::info!("{}", error.remedy());
                        }
                    }
                }
            }
            let due = waiting.take_due(now_ms, MAX_LOOKS);
            if due.is_empty() {
                if waiting.is_done() {
                    return;
                }
                let next = [waiting.next_due(), reader.as_ref().map(FeedReader::next_read)];
                let next = next.into_iter().flatten().fold(now_ms + MAX_WAIT, i64::min);
                let next = now.saturating_add(time::Duration::milliseconds(next - now_ms));
                select(pin!(waiting.changed.notified()), pin!(self.clock.sleep_until(next))).await;
                continue;
            }
            let looks = due.into_iter().map(|(id, watched, times)| async move {
                if failing_since.is_some() {
                    return (id, Found::Unknown(NoSession::StoreUnavailable));
                }
                let found = in_time(watched.sessions.look(&watched, times, now)).await;
                let found = found.unwrap_or_else(|error| {
                    tracing::debug!("{error}; a session with an open socket is looked at again later");
                    Found::Unknown(NoSession::StoreUnavailable)
                });
                (id, found)
            });
            for (id, found) in join_all(looks).await {
                waiting.settle(id, found, now_ms, failing_since);
            }
            // A store in memory never waits.
            yield_now().await;
        }
    }
}

impl Sessions {
    /// A future that completes when this session has ended. It is looked at now too: it may have ended since it was
    /// read.
    pub(crate) fn wait_for_end(self: &Arc<Self>, current: &CurrentSession, is_stored: bool) -> SessionEnded {
        let index_keys = || {
            let (subject, sid) = self.index_keys_of(&current.issuer, &current.claims);
            [subject, sid].concat()
        };
        let watched = is_stored.then(|| Watched {
            sessions: self.clone(),
            name: current.shared_name(),
            index_keys: if self.is_in_cookies {
                index_keys().into()
            } else {
                Box::default()
            },
            earlier_ends: current.earlier_ends.clone(),
        });
        let (ended, is_first) = self.watcher.waiting.add(watched, self.times_of(current));
        if is_first {
            let watcher = self.watcher.clone();
            tasks::spawn(async move {
                let mut running = Running(Some(&watcher));
                watcher.run().await;
                // Another may run by now.
                running.0 = None;
            });
        }
        ended
    }

    /// This node stops: what waits for the end of a session ends now.
    pub(crate) fn stop_waiting(&self) {
        self.watcher.waiting.shut_down();
    }

    /// What is known about a session now.
    async fn look(&self, watched: &Watched, times: Times, now: OffsetDateTime) -> Result<Found, StoreError> {
        if self.unrecorded.contains(&watched.name) {
            return Ok(Found::Ended(NoSession::Ended));
        }
        if self.is_in_cookies {
            return self.look_in_cookies(watched, times, now).await;
        }
        Ok(match self.load(&watched.name).await? {
            Ok(session) => Found::Session(self.times_of(&session)),
            Err(reason) => Found::not_usable(reason),
        })
    }

    /// Whether a session in cookies has ended, and its times by its newest generation.
    async fn look_in_cookies(&self, watched: &Watched, times: Times, now: OffsetDateTime) -> Result<Found, StoreError> {
        let generation = self.names.generation(&watched.name);
        let mut names = vec![&*generation, &*watched.name];
        names.extend(watched.index_keys.iter().map(String::as_str));
        let entries = self.entries(&names).await?;
        let mut entries = entries.iter().map(Option::as_deref);
        let newest = entries.next().flatten().and_then(|entry| entry.parse().ok());
        let has_ended_itself = entries.next().flatten().is_some();
        if has_ended_itself || entries.flatten().any(|entry| !watched.earlier_ends.contains(entry)) {
            return Ok(Found::Ended(NoSession::Ended));
        }
        let Some(newest) = newest.filter(|newest| *newest > times.generation) else {
            return Ok(Found::Session(times));
        };
        Ok(match self.generation(&watched.name, newest, now).await {
            Ok(session) => Found::Session(self.times_of(&session)),
            // It is not kept any more: the times of an older one are not exceeded.
            Err(NoSession::Superseded) => Found::Session(times),
            Err(reason) => Found::not_usable(reason),
        })
    }

    fn times_of(&self, session: &Session) -> Times {
        let grace = seconds(self.settings.refresh_grace);
        let at = |time: i64| time.saturating_mul(1_000);
        let idle = || at(session.seen.saturating_add(seconds(self.settings.idle_timeout)));
        Times {
            generation: session.generation,
            ends: self.end_of(session),
            idle: (!self.is_in_cookies).then(idle),
            overdue: session.refresh_due.map(|due| at(due.saturating_add(grace))),
        }
    }
}

impl Found {
    fn not_usable(reason: NoSession) -> Found {
        if reason.is_outage() {
            Found::Unknown(reason)
        } else {
            Found::Ended(reason)
        }
    }
}

/// Guard of the running task, which a store that panics may interrupt.
struct Running<'a>(Option<&'a Watcher>);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Some(watcher) = self.0 {
            watcher.waiting.interrupted();
        }
    }
}

/// The result of the store, unless it takes too long or panics.
async fn in_time<T>(asked: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    match timeout(STORE_TIMEOUT, AssertUnwindSafe(asked).catch_unwind()).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Err(StoreError::new("it panicked")),
        Err(_) => Err(StoreError::new("it did not respond in time")),
    }
}
