//! Concurrency limits for calls to one provider: a bounded queue for each kind of call, and a circuit breaker for the
//! kinds that anyone's request can cause. An attacker's calls do not open it.

use std::{
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use time::OffsetDateTime;

use super::{
    Endpoint, ProviderError,
    back_off::LogThrottle,
    breaker::{Breaker, CountedOutages},
};
use crate::fair_queue::{FairQueue, QueueSize};

/// The queue size for a kind of call that anyone can cause: how many run at a time, and how many run or wait. One
/// client has a quarter of both.
const ANY_REQUEST: QueueSize = QueueSize {
    running: 16,
    places: 128,
};
/// The queue size for calls of sign-ins and sessions, which have separate limits for each client.
const SESSIONS: QueueSize = QueueSize {
    running: 64,
    places: 1024,
};
/// The queue size for revocations of ended sessions, which come in bursts, as when a session store is back.
const REVOCATIONS: QueueSize = QueueSize {
    running: 64,
    places: 10_000,
};
/// The maximum wait of a revocation in the queue. No request waits for it.
const MAX_REVOCATION_WAIT: Duration = Duration::from_secs(600);
/// The `retry_after` of a call that finds the queue full: a place is free as soon as a call ends.
const BUSY_RETRY: Duration = Duration::from_secs(1);
/// The minimum interval between log messages about a full queue.
const LOG_PAUSE: Duration = Duration::from_secs(60);

/// The queues of one provider. Each kind of call has its own, so that none starves another.
#[derive(Debug)]
pub(super) struct CallLimits {
    pub(super) introspection: Queue,
    pub(super) bearer_user_info: Queue,
    pub(super) pushed_authorization_requests: Queue,
    pub(super) exchange: Queue,
    pub(super) refresh: Queue,
    pub(super) api_tokens: Queue,
    pub(super) token_exchange: Queue,
    pub(super) revocation: Queue,
}

impl CallLimits {
    /// No call of a request waits in the queue for longer than `max_wait`.
    pub(super) fn new(max_wait: Duration) -> CallLimits {
        CallLimits {
            introspection: Queue::for_any_request(Endpoint::Introspection, max_wait),
            bearer_user_info: Queue::for_any_request(Endpoint::UserInfo, max_wait),
            pushed_authorization_requests: Queue::for_any_request(Endpoint::PushedAuthorizationRequest, max_wait),
            exchange: Queue::new(Endpoint::Token, SESSIONS, max_wait),
            refresh: Queue::new(Endpoint::Token, SESSIONS, max_wait),
            api_tokens: Queue {
                breaker: Some(Mutex::default()),
                ..Queue::new(Endpoint::Token, SESSIONS, max_wait)
            },
            token_exchange: Queue {
                breaker: Some(Mutex::default()),
                ..Queue::with_shares(Endpoint::Token, SESSIONS, SESSIONS.quarter(), max_wait)
            },
            revocation: Queue::new(Endpoint::Revocation, REVOCATIONS, MAX_REVOCATION_WAIT),
        }
    }
}

/// The bounded queue of one kind of calls.
#[derive(Debug)]
pub(super) struct Queue {
    endpoint: Endpoint,
    queue: FairQueue,
    breaker: Option<Mutex<Breaker>>,
    logged: LogThrottle,
}

impl Queue {
    fn for_any_request(endpoint: Endpoint, max_wait: Duration) -> Queue {
        Queue {
            breaker: Some(Mutex::default()),
            ..Queue::with_shares(endpoint, ANY_REQUEST, ANY_REQUEST.quarter(), max_wait)
        }
    }

    fn new(endpoint: Endpoint, size: QueueSize, max_wait: Duration) -> Queue {
        Queue::with_shares(endpoint, size, size, max_wait)
    }

    fn with_shares(endpoint: Endpoint, size: QueueSize, of_client: QueueSize, max_wait: Duration) -> Queue {
        Queue {
            endpoint,
            queue: FairQueue::new(size, of_client, max_wait),
            breaker: None,
            logged: LogThrottle::default(),
        }
    }

    /// Runs a call for a client when it is its turn.
    ///
    /// # Errors
    ///
    /// [`ProviderError::Busy`] when the queue is full, or the wait times out; [`ProviderError::Unavailable`] while
    /// the breaker is open; else the error of the call.
    pub(super) async fn run<T>(
        &self,
        client: Option<IpAddr>,
        counted: CountedOutages,
        now: OffsetDateTime,
        call: impl Future<Output = Result<T, ProviderError>>,
    ) -> Result<T, ProviderError> {
        self.check(counted, now)?;
        let begun = Instant::now();
        let Some(_turn) = self.queue.turn(client).await else {
            return Err(self.busy(now));
        };
        let passed = |now: OffsetDateTime| now + Duration::from_secs(begun.elapsed().as_secs());
        // The breaker may have opened meanwhile.
        let admission = self.admit(counted, passed(now))?;
        let result = call.await;
        admission.ended(result.as_ref().err(), passed(now));
        result
    }

    fn busy(&self, now: OffsetDateTime) -> ProviderError {
        let error = ProviderError::Busy {
            endpoint: self.endpoint,
            retry_after: BUSY_RETRY,
        };
        if self.logged.passes(now, LOG_PAUSE) {
            tracing::warn!(reason = error.reason(), "{error}");
            tracing::info!("{}", error.remedy());
        }
        error
    }

    /// Fails while the breaker is open.
    fn check(&self, counted: CountedOutages, now: OffsetDateTime) -> Result<(), ProviderError> {
        match &self.breaker {
            Some(breaker) => lock(breaker).check(counted, now),
            None => Ok(()),
        }
    }

    /// Admits a call, or fails while the breaker is open.
    fn admit(&self, counted: CountedOutages, now: OffsetDateTime) -> Result<Admission<'_>, ProviderError> {
        let is_probe = match &self.breaker {
            Some(breaker) => lock(breaker).admit(counted, now)?,
            None => false,
        };
        Ok(Admission {
            queue: self,
            counted,
            is_probe,
        })
    }
}

/// A call that the breaker admitted.
struct Admission<'q> {
    queue: &'q Queue,
    counted: CountedOutages,
    is_probe: bool,
}

impl Admission<'_> {
    fn ended(mut self, error: Option<&ProviderError>, now: OffsetDateTime) {
        let Some(breaker) = &self.queue.breaker else {
            return;
        };
        let is_probe = std::mem::take(&mut self.is_probe);
        let opened = lock(breaker).ended(is_probe, self.counted, error, now);
        if let (Some(wait), Some(error)) = (opened, error) {
            let (reason, wait_s) = (error.reason(), wait.as_secs());
            tracing::warn!(reason, "{error}; the next attempt is due in {wait_s} s");
            tracing::info!("{}", error.remedy());
        }
    }
}

impl Drop for Admission<'_> {
    /// A cancelled probe has no result: the next call is the probe.
    fn drop(&mut self) {
        if let Some(breaker) = self.queue.breaker.as_ref().filter(|_| self.is_probe) {
            lock(breaker).probe_dropped();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use rocket::futures::{
        FutureExt,
        future::{join, join_all},
    };
    use tokio::sync::{Notify, Semaphore};

    use super::*;

    const ALL: CountedOutages = CountedOutages::All;

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_800_000_000 + seconds).unwrap()
    }

    fn address(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([192, 0, 2, last]))
    }

    fn queue(max_wait: Duration) -> Queue {
        Queue::for_any_request(Endpoint::Introspection, max_wait)
    }

    fn outage(retry_after: Option<u64>) -> ProviderError {
        status(503, retry_after)
    }

    fn status(status: u16, retry_after: Option<u64>) -> ProviderError {
        ProviderError::Status {
            endpoint: Endpoint::Introspection,
            status,
            is_json: false,
            retry_after: retry_after.map(Duration::from_secs),
        }
    }

    /// The result of a call as text: `made`, or why it was not made and how long to wait.
    async fn call(queue: &Queue, now: i64, result: Result<(), ProviderError>) -> String {
        call_with(queue, ALL, now, result).await
    }

    async fn call_with(queue: &Queue, counted: CountedOutages, now: i64, result: Result<(), ProviderError>) -> String {
        let made = AtomicUsize::new(0);
        let call = async {
            made.fetch_add(1, Ordering::Relaxed);
            result
        };
        let result = queue.run(address(1), counted, at(now), call).await;
        match (made.into_inner(), result) {
            (1, _) => "made".to_owned(),
            (_, Err(error)) => {
                let wait = error.retry_after().unwrap_or_default().as_secs();
                format!("{} {wait}", error.reason())
            }
            (made, result) => panic!("{made} calls, {result:?}"),
        }
    }

    #[tokio::test]
    async fn outages_in_a_row_open_the_breaker_and_one_probe_closes_it() {
        let queue = queue(Duration::from_secs(5));
        for _ in 0..4 {
            assert_eq!(call(&queue, 0, Err(outage(None))).await, "made");
        }
        // Any response closes the breaker, whatever its status.
        let refused = ProviderError::of_status(
            Endpoint::Introspection,
            &openidconnect::http::Response::builder()
                .status(404)
                .body(vec![])
                .unwrap(),
        );
        assert_eq!(call(&queue, 0, Err(refused.clone())).await, "made");
        for _ in 0..5 {
            assert_eq!(call(&queue, 0, Err(outage(None))).await, "made");
        }
        assert_eq!(call(&queue, 0, Ok(())).await, "provider_unavailable 1");
        // Each failed probe doubles the wait.
        assert_eq!(call(&queue, 1, Err(outage(None))).await, "made");
        assert_eq!(call(&queue, 2, Ok(())).await, "provider_unavailable 1");
        assert_eq!(call(&queue, 3, Err(outage(None))).await, "made");
        assert_eq!(call(&queue, 6, Ok(())).await, "provider_unavailable 1");
        // While a probe is in flight, it is the only call.
        let (asked, answered) = (Notify::new(), Notify::new());
        let probe = queue.run(address(1), ALL, at(7), async {
            asked.notify_one();
            answered.notified().await;
            Err::<(), _>(refused)
        });
        let others = async {
            asked.notified().await;
            for _ in 0..3 {
                assert_eq!(call(&queue, 7, Ok(())).await, "provider_unavailable 1");
            }
            answered.notify_one();
        };
        let (probe, ()) = join(probe, others).await;
        assert_eq!(probe.unwrap_err().reason(), "provider_status");
        for _ in 0..4 {
            assert_eq!(call(&queue, 7, Err(outage(None))).await, "made");
        }
        assert_eq!(call(&queue, 7, Ok(())).await, "made");
    }

    #[tokio::test]
    async fn the_providers_wait_opens_the_breaker_at_once() {
        let queue = queue(Duration::from_secs(5));
        assert_eq!(call(&queue, 0, Err(outage(Some(120)))).await, "made");
        assert_eq!(call(&queue, 1, Ok(())).await, "provider_unavailable 119");
        assert_eq!(call(&queue, 119, Ok(())).await, "provider_unavailable 1");
        assert_eq!(call(&queue, 120, Ok(())).await, "made");
        // Errors that are not outages do not open the breaker.
        let refused = ProviderError::Refused {
            endpoint: Endpoint::Introspection,
            status: 401,
            error: "invalid_client".to_owned(),
            description: String::new(),
            retry_after: Some(Duration::from_secs(60)),
        };
        for _ in 0..20 {
            assert_eq!(call(&queue, 121, Err(refused.clone())).await, "made");
        }
        // The clock is set back: the wait does not apply any more.
        assert_eq!(call(&queue, 200, Err(outage(Some(300)))).await, "made");
        assert_eq!(call(&queue, -100_000, Ok(())).await, "made");
    }

    /// Nothing was sent: it neither counts as an outage nor ends one.
    #[tokio::test]
    async fn a_failure_of_the_clients_signer_says_nothing_about_the_provider() {
        let queue = queue(Duration::from_secs(5));
        let signer = ProviderError::ClientSigner {
            cause: "it panicked".to_owned(),
        };
        for _ in 0..4 {
            assert_eq!(call(&queue, 0, Err(outage(None))).await, "made");
        }
        for _ in 0..20 {
            assert_eq!(call(&queue, 0, Err(signer.clone())).await, "made");
        }
        assert_eq!(call(&queue, 0, Err(outage(None))).await, "made");
        assert_eq!(call(&queue, 0, Ok(())).await, "provider_unavailable 1");
        // As the probe it decides nothing, and the next call is the probe.
        assert_eq!(call(&queue, 1, Err(signer)).await, "made");
        assert_eq!(call(&queue, 1, Ok(())).await, "made");
    }

    #[tokio::test]
    async fn what_may_be_about_one_call_opens_nothing() {
        use CountedOutages::{AllButStatus500, OnlyStatus429};

        let no_answer = ProviderError::Timeout {
            endpoint: Endpoint::Introspection,
            after: Duration::from_secs(5),
        };
        for (counted, error, opens) in [
            (ALL, status(500, None), true),
            (ALL, no_answer.clone(), true),
            (AllButStatus500, status(500, None), false),
            (AllButStatus500, outage(None), true),
            (AllButStatus500, no_answer.clone(), true),
            (OnlyStatus429, status(500, None), false),
            (OnlyStatus429, outage(None), false),
            (OnlyStatus429, no_answer, false),
            // A proxy sends it whenever its server fails.
            (OnlyStatus429, outage(Some(1)), false),
            (AllButStatus500, status(500, Some(1)), false),
            (AllButStatus500, status(503, Some(1)), true),
            (OnlyStatus429, status(429, None), true),
            (OnlyStatus429, status(429, Some(1)), true),
        ] {
            let queue = queue(Duration::from_secs(5));
            let mut last = String::new();
            for _ in 0..6 {
                last = call_with(&queue, counted, 0, Err(error.clone())).await;
            }
            assert_eq!(last != "made", opens, "{counted:?} {error:?}");
        }
    }

    /// A call that may not probe does not take the place of a probe, prolong the wait, or reset the count.
    #[tokio::test]
    async fn an_unproved_call_is_no_probe() {
        use CountedOutages::OnlyStatus429;

        let queue = queue(Duration::from_secs(5));
        for _ in 0..5 {
            let made = call_with(&queue, OnlyStatus429, 0, Err(status(500, None))).await;
            assert_eq!(made, "made");
            assert_eq!(call(&queue, 0, Err(outage(None))).await, "made");
        }
        let unavailable = "provider_unavailable 1";
        for counted in [ALL, OnlyStatus429] {
            assert_eq!(call_with(&queue, counted, 0, Ok(())).await, unavailable);
        }
        // The wait is over.
        for _ in 0..20 {
            let made = call_with(&queue, OnlyStatus429, 1, Err(status(500, None))).await;
            assert_eq!(made, "made");
        }
        let hanging = async || {
            let never = std::future::pending::<Result<(), ProviderError>>();
            queue.run(address(1), OnlyStatus429, at(1), never).await
        };
        let mut strangers = Box::pin(join_all((0..3).map(|_| hanging())));
        assert!((&mut strangers).now_or_never().is_none());
        assert_eq!(call(&queue, 1, Err(outage(None))).await, "made");
        assert_eq!(call(&queue, 2, Ok(())).await, unavailable);
        // One that does count prolongs the wait once.
        let waits = || async { Err::<(), _>(status(429, Some(9))) };
        let (first, second) = join(
            queue.run(address(2), OnlyStatus429, at(3), waits()),
            queue.run(address(2), OnlyStatus429, at(3), waits()),
        )
        .await;
        assert_eq!(first.unwrap_err().reason(), "provider_status");
        assert_eq!(second.unwrap_err().reason(), "provider_unavailable");
        assert_eq!(call(&queue, 11, Ok(())).await, unavailable);
        assert_eq!(call(&queue, 12, Ok(())).await, "made");
    }

    #[tokio::test]
    async fn a_probe_that_is_dropped_makes_room_for_another() {
        let queue = queue(Duration::from_secs(5));
        assert_eq!(call(&queue, 0, Err(outage(Some(1)))).await, "made");
        let never = std::future::pending::<Result<(), ProviderError>>();
        let mut probe = Box::pin(queue.run(address(1), ALL, at(1), never));
        assert!((&mut probe).now_or_never().is_none());
        assert_eq!(call(&queue, 1, Ok(())).await, "provider_unavailable 1");
        drop(probe);
        assert_eq!(call(&queue, 1, Ok(())).await, "made");
        assert!(queue.queue.is_empty());
    }

    /// One client gets at most a quarter, running or waiting; all clients together get at most the whole.
    #[tokio::test]
    async fn one_client_has_a_quarter() {
        let queue = queue(Duration::from_secs(60));
        let (running, most, made) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        let open = Semaphore::new(0);
        let ask = async |last: u8| {
            let call = async {
                made.fetch_add(1, Ordering::Relaxed);
                most.fetch_max(running.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                let _ = open.acquire().await;
                running.fetch_sub(1, Ordering::Relaxed);
                Ok(())
            };
            let result = queue.run(address(last), ALL, at(0), call).await;
            result.map_or_else(|error| error.reason(), |()| "made")
        };
        let all = (0..1000).map(|n| ask(if n < 300 { 1 } else { (n % 250) as u8 + 2 }));
        let (results, ()) = join(join_all(all), async {
            assert_eq!(running.load(Ordering::Relaxed), 16);
            open.add_permits(10_000);
        })
        .await;
        let of = |results: &[&str]| results.iter().filter(|result| **result == "made").count();
        assert_eq!(of(&results[..300]), 32);
        assert_eq!(of(&results[300..]), 96);
        assert!(results.iter().all(|it| ["made", "provider_busy"].contains(it)));
        assert_eq!(most.into_inner(), 16);
        assert_eq!(made.into_inner(), 128);
        assert!(queue.queue.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_in_the_queue_times_out() {
        let queue = queue(Duration::from_secs(5));
        let hang = || std::future::pending::<Result<(), ProviderError>>();
        let hanging = join_all((0..4).map(|_| queue.run(address(1), ALL, at(0), hang())));
        let mut hanging = Box::pin(hanging);
        assert!((&mut hanging).now_or_never().is_none());
        assert_eq!(call(&queue, 0, Ok(())).await, "provider_busy 1");
        // Another client does not wait at all.
        let other = queue.run(address(2), ALL, at(0), async { Ok(()) });
        assert!(other.await.is_ok());
    }
}
