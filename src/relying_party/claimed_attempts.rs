//! The attempts whose code was sent, so that none is sent twice.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque, hash_map::Entry},
    net::IpAddr,
    sync::Arc,
};

use crate::code_flow::AttemptId;

/// How many attempts are claimed at a time: about 100 bytes each. A claim lives as long as its `state`.
const MAX_CLAIMS: usize = 100_000;
/// How many results wait for identical callbacks at a time. Each holds a session.
const MAX_RESULTS: usize = 10_000;

/// The attempts that were claimed on this node. A claim is never evicted: it ends when `state` is too old.
pub(super) struct ClaimedAttempts<R> {
    max_claims: usize,
    claims: HashMap<AttemptId, Claim<R>>,
    /// When claims end.
    ends: BinaryHeap<Reverse<(i64, AttemptId)>>,
    /// How many claims each client has.
    clients: HashMap<Option<IpAddr>, usize>,
    /// Until when results are kept, oldest first.
    results: VecDeque<(i64, AttemptId)>,
    /// The latest time that was seen: what ended by then may be gone.
    latest: i64,
}

/// An attempt that was claimed.
struct Claim<R> {
    /// A digest of the code.
    code: [u8; 32],
    client: Option<IpAddr>,
    result: Option<Arc<R>>,
    /// The code was not sent after all: it may be claimed again.
    is_released: bool,
}

/// What became of a claim.
pub(super) enum Claimed<R> {
    /// It is the first: its code may be sent.
    First(Arc<R>),
    /// The same callback came before, and this is its result.
    Before(Arc<R>),
    /// The attempt was claimed, and there is no result for this callback.
    Used,
    /// The attempt is too old.
    TooOld,
    /// There are as many claims as there may be, of all clients or of this one, until this time.
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

    /// Claims an attempt that ends at this time, for this code. One client has a quarter of all claims, so
    /// that it cannot keep the others from signing in.
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
                let result = claim.result.as_ref().filter(|_| claim.code == code);
                return result.map_or(Claimed::Used, |result| Claimed::Before(result.clone()));
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

    /// Gives a claim back whose code was not sent.
    pub(super) fn release(&mut self, id: AttemptId) {
        if let Some(claim) = self.claims.get_mut(&id) {
            claim.is_released = true;
            claim.result = None;
        }
    }

    /// Keeps a result that is there now until this time.
    pub(super) fn keep_result(&mut self, id: AttemptId, until: i64) {
        self.results.push_back((until, id));
        if self.results.len() > MAX_RESULTS {
            self.drop_oldest_result();
        }
    }

    /// Drops what is over by now.
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
