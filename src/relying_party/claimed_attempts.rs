//! The sign-in attempts whose code was claimed, so that no code is sent to the provider twice.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque, hash_map::Entry},
    net::IpAddr,
    sync::Arc,
};

use crate::code_flow::AttemptId;

/// The maximum number of claims, each about 100 bytes. A claim has the TTL of its `state`.
const MAX_CLAIMS: usize = 100_000;
/// The maximum number of results that are kept for identical callbacks. Each holds a session.
const MAX_RESULTS: usize = 10_000;

/// The attempts that were claimed on this node. A claim is never evicted: it expires with its `state`.
pub(super) struct ClaimedAttempts<R> {
    max_claims: usize,
    claims: HashMap<AttemptId, Claim<R>>,
    /// The expiry times of claims.
    ends: BinaryHeap<Reverse<(i64, AttemptId)>>,
    /// The number of claims of each client.
    clients: HashMap<Option<IpAddr>, usize>,
    /// The expiry times of results, oldest first.
    results: VecDeque<(i64, AttemptId)>,
    /// The latest time passed to `sweep`: a claim that expired by then may have been removed.
    latest: i64,
}

/// A claimed attempt.
struct Claim<R> {
    /// The SHA-256 digest of the code.
    code: [u8; 32],
    client: Option<IpAddr>,
    result: Option<Arc<R>>,
    /// The code was not sent: the attempt may be claimed again.
    is_released: bool,
}

/// The result of claiming an attempt.
pub(super) enum Claimed<R> {
    /// This is the first claim: the code may be sent.
    First(Arc<R>),
    /// An identical callback claimed the attempt before; this is its result.
    Before(Arc<R>),
    /// An identical callback claimed the attempt before, and its result has expired.
    Late,
    /// The attempt was claimed with another code.
    Used,
    /// The attempt has expired.
    TooOld,
    /// The maximum number of claims is reached, in total or for this client, until this time.
    Full { until: i64 },
}

impl<R> ClaimedAttempts<R> {
    pub(super) fn new() -> ClaimedAttempts<R> {
        ClaimedAttempts::bounded(MAX_CLAIMS)
    }

    fn bounded(max_claims: usize) -> ClaimedAttempts<R> {
        ClaimedAttempts {
            max_claims,
            claims: HashMap::new(),
            ends: BinaryHeap::new(),
            clients: HashMap::new(),
            results: VecDeque::new(),
            latest: i64::MIN,
        }
    }

    /// Claims an attempt that expires at `ends`, with this code. One client may hold a quarter of all claims, so that
    /// it cannot keep other clients from signing in.
    pub(super) fn claim(
        &mut self,
        id: AttemptId,
        code: [u8; 32],
        client: Option<IpAddr>,
        ends: i64,
        now: i64,
        begin: impl FnOnce() -> R,
    ) -> Claimed<R> {
        self.sweep(now);
        if ends <= self.latest {
            return Claimed::TooOld;
        }
        let count = self.claims.len();
        let entry = match self.claims.entry(id) {
            Entry::Occupied(mut entry) => {
                let claim = entry.get_mut();
                if claim.is_released {
                    let result = Arc::new(begin());
                    (claim.code, claim.is_released) = (code, false);
                    claim.result = Some(result.clone());
                    return Claimed::First(result);
                }
                if claim.code != code {
                    return Claimed::Used;
                }
                let result = claim.result.as_ref();
                return result.map_or(Claimed::Late, |result| Claimed::Before(result.clone()));
            }
            Entry::Vacant(entry) => entry,
        };
        let of_client = self.clients.entry(client).or_default();
        if count >= self.max_claims || *of_client >= self.max_claims / 4 {
            if *of_client == 0 {
                self.clients.remove(&client);
            }
            let until = self.ends.peek().map_or(now, |Reverse((until, _))| *until);
            return Claimed::Full { until };
        }
        *of_client += 1;
        let result = Arc::new(begin());
        entry.insert(Claim {
            code,
            client,
            result: Some(result.clone()),
            is_released: false,
        });
        self.ends.push(Reverse((ends, id)));
        Claimed::First(result)
    }

    /// Releases a claim whose code was not sent.
    pub(super) fn release(&mut self, id: AttemptId) {
        if let Some(claim) = self.claims.get_mut(&id) {
            claim.is_released = true;
            claim.result = None;
        }
    }

    /// Keeps the current result of a claim until this time.
    pub(super) fn keep_result(&mut self, id: AttemptId, until: i64) {
        self.results.push_back((until, id));
        if self.results.len() > MAX_RESULTS {
            self.drop_oldest_result();
        }
    }

    /// Removes expired claims and results.
    pub(super) fn sweep(&mut self, now: i64) {
        self.latest = self.latest.max(now);
        while let Some(Reverse((ends, id))) = self.ends.peek().copied()
            && ends <= now
        {
            self.ends.pop();
            if let Some(claim) = self.claims.remove(&id) {
                self.uncount(claim.client);
            }
        }
        while let Some((until, _)) = self.results.front()
            && *until <= now
        {
            self.drop_oldest_result();
        }
    }

    fn drop_oldest_result(&mut self) {
        if let Some((_, id)) = self.results.pop_front()
            && let Some(claim) = self.claims.get_mut(&id)
        {
            claim.result = None;
        }
    }

    fn uncount(&mut self, client: Option<IpAddr>) {
        if let Entry::Occupied(mut count) = self.clients.entry(client) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code_flow::{BrowserId, ReturnTo, SignInAttempt};

    const ENDS: i64 = 1_800;

    fn id() -> AttemptId {
        let now = time::OffsetDateTime::UNIX_EPOCH;
        SignInAttempt::new(
            &BrowserId::random(),
            ReturnTo::home(&crate::settings::AppPaths::new("/", "/oidc", false)),
            false,
            now,
        )
        .id
    }

    fn address(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([192, 0, 2, last]))
    }

    /// The result of a claim as a short text; each result is a number.
    fn claim(
        claims: &mut ClaimedAttempts<u8>,
        id: AttemptId,
        code: u8,
        client: Option<IpAddr>,
        (ends, now): (i64, i64),
        result: u8,
    ) -> String {
        match claims.claim(id, [code; 32], client, ends, now, || result) {
            Claimed::First(result) => format!("first {result}"),
            Claimed::Before(result) => format!("before {result}"),
            Claimed::Late => "late".to_owned(),
            Claimed::Used => "used".to_owned(),
            Claimed::TooOld => "too old".to_owned(),
            Claimed::Full { until } => format!("full until {until}"),
        }
    }

    #[test]
    fn an_attempt_is_claimed_once() {
        let claims = &mut ClaimedAttempts::bounded(100);
        let (one, other) = (id(), id());
        assert_eq!(claim(claims, one, 1, None, (ENDS, 0), 7), "first 7");
        assert_eq!(claim(claims, one, 1, None, (ENDS, 0), 8), "before 7");
        assert_eq!(claim(claims, one, 1, address(1), (ENDS, 9), 8), "before 7");
        assert_eq!(claim(claims, one, 2, None, (ENDS, 0), 8), "used");
        assert_eq!(claim(claims, other, 1, None, (ENDS, 0), 9), "first 9");

        claims.keep_result(one, 60);
        assert_eq!(claim(claims, one, 1, None, (ENDS, 59), 8), "before 7");
        assert_eq!(claim(claims, one, 1, None, (ENDS, 60), 8), "late");
        assert_eq!(claim(claims, other, 1, None, (ENDS, 60), 8), "before 9");
        assert_eq!(claim(claims, one, 1, None, (ENDS, ENDS - 1), 8), "late");
    }

    /// Also for a callback whose time was read before that of another callback, which removed the claim.
    #[test]
    fn an_attempt_that_ended_is_not_claimed_again() {
        let claims = &mut ClaimedAttempts::bounded(100);
        let (one, other) = (id(), id());
        assert_eq!(claim(claims, one, 1, None, (ENDS, 0), 1), "first 1");
        assert_eq!(claim(claims, other, 1, None, (2 * ENDS, ENDS), 2), "first 2");
        assert_eq!(claims.claims.len(), 1);
        for now in [ENDS, ENDS - 1, 0] {
            assert_eq!(claim(claims, one, 1, None, (ENDS, now), 3), "too old");
        }
    }

    #[test]
    fn one_client_has_a_quarter_and_nothing_is_evicted() {
        let claims = &mut ClaimedAttempts::bounded(8);
        let ids: Vec<_> = (0..8).map(|_| id()).collect();
        for (i, two) in ids.chunks(2).enumerate() {
            let client = address(i as u8);
            for id in two {
                assert_eq!(claim(claims, *id, 1, client, (ENDS, 0), 0), "first 0");
            }
            let third = claim(claims, super::tests::id(), 1, client, (ENDS, 0), 0);
            assert_eq!(third, "full until 1800");
        }
        let full = claim(claims, id(), 1, address(9), (9_000, 10), 0);
        assert_eq!(full, "full until 1800");
        for id in &ids {
            assert_eq!(claim(claims, *id, 1, None, (ENDS, 10), 0), "before 0");
        }
        assert_eq!(claims.clients.len(), 4);
        // The first claim has expired, which makes room for any client.
        let next = claim(claims, id(), 1, address(9), (9_000, ENDS), 0);
        assert_eq!(next, "first 0");
        claims.sweep(9_000);
        assert_eq!((claims.claims.len(), claims.clients.len()), (0, 0));
        assert_eq!(claims.ends.len(), 0);
    }

    #[test]
    fn a_claim_whose_code_was_not_sent_is_claimed_again() {
        let claims = &mut ClaimedAttempts::bounded(4);
        let one = id();
        for times in 0..100 {
            let first = claim(claims, one, times, address(1), (ENDS, 0), times);
            assert_eq!(first, format!("first {times}"));
            claims.release(one);
        }
        // It still counts, once.
        assert_eq!((claims.ends.len(), claims.clients[&address(1)]), (1, 1));
        assert_eq!(claim(claims, id(), 1, address(1), (ENDS, 0), 0), "full until 1800");
        assert_eq!(claim(claims, one, 1, address(1), (ENDS, 0), 5), "first 5");
        assert_eq!(claim(claims, one, 1, address(1), (ENDS, 0), 6), "before 5");
    }

    #[test]
    fn results_are_bounded_and_the_oldest_is_evicted_first() {
        let claims = &mut ClaimedAttempts::bounded(5 * MAX_RESULTS);
        let ids: Vec<_> = (0..=MAX_RESULTS).map(|_| id()).collect();
        for id in &ids {
            assert_eq!(claim(claims, *id, 1, None, (ENDS, 0), 0), "first 0");
            claims.keep_result(*id, 60);
        }
        assert_eq!(claim(claims, ids[0], 1, None, (ENDS, 0), 0), "late");
        assert_eq!(claim(claims, ids[1], 1, None, (ENDS, 0), 0), "before 0");
        claims.sweep(60);
        assert_eq!(claims.results.len(), 0);
        assert!(claims.claims.values().all(|claim| claim.result.is_none()));
    }
}
