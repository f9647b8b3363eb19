//! The proofs that were used, so that none is used twice (RFC 9449 §11.1).

use std::{
    collections::{BTreeMap, HashMap, HashSet, hash_map::Entry},
    fmt,
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use time::OffsetDateTime;

use crate::{
    keys::{digest, digest_name},
    session::store::{SessionStore, StoreError},
    token::{AccessToken, DpopProof, MAX_AHEAD},
};

/// The maximum difference between the clocks of two nodes.
const MAX_CLOCK_SKEW: Duration = Duration::from_secs(60);

/// The proofs of an app that were used and have not expired. One is never evicted for another.
///
/// This node records each proof in memory, and in the store that all nodes share, if there is one.
pub(crate) struct ProofRecord {
    used: Mutex<UsedProofs>,
    shared: Option<Arc<dyn SessionStore>>,
}

/// Why a proof is not recorded, and so not accepted.
#[derive(Debug)]
pub(super) enum NotRecorded {
    /// It was used before.
    Used,
    /// The user and client of the token have too many, until this time.
    TooMany { until: i64 },
    /// All clients together have too many, until this time.
    Full { until: i64 },
    /// The shared store does not respond.
    Store(StoreError),
}

impl ProofRecord {
    /// For at most this many proofs, which expire `max_age` after they were made at the latest. With `has_tenants`, the
    /// providers of tenants do not trust each other.
    pub(crate) fn new(
        max_proofs: usize,
        max_age: Duration,
        has_tenants: bool,
        shared: Option<Arc<dyn SessionStore>>,
    ) -> ProofRecord {
        ProofRecord {
            used: Mutex::new(UsedProofs::new(max_proofs, max_age, has_tenants)),
            shared,
        }
    }

    /// Whether other nodes know the proofs that were used here.
    pub(crate) fn is_shared(&self) -> bool {
        self.shared.is_some()
    }

    /// Records a verified proof of the key that this verified token is bound to, once.
    pub(super) async fn add(
        &self,
        proof: &DpopProof,
        token: &AccessToken,
        now: OffsetDateTime,
    ) -> Result<(), NotRecorded> {
        let now = now.unix_timestamp();
        let key = [&*proof.thumbprint, &proof.jti];
        let holder = [
            token.issuer(),
            token.subject().unwrap_or(""),
            token.client_id().unwrap_or(""),
        ];
        self.used
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .add(&key, &holder, proof.ends, now)?;
        if let Some(store) = &self.shared {
            let seconds = proof.ends.saturating_sub(now).max(1).unsigned_abs();
            let ttl = Duration::from_secs(seconds) + MAX_CLOCK_SKEW;
            let name = digest_name("DPoP proof", &key);
            let is_first = store.lock(&name, "1", ttl).await.map_err(NotRecorded::Store)?;
            if !is_first {
                return Err(NotRecorded::Used);
            }
        }
        Ok(())
    }
}

impl fmt::Debug for ProofRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProofRecord(…)")
    }
}

/// The proofs that were used at this node: digests of key and `jti`. About 100 bytes each.
struct UsedProofs {
    max_proofs: usize,
    /// The maximum of one issuer; all of them without tenants.
    max_of_issuer: usize,
    /// In seconds: how long after its use a proof expires at the latest.
    window: i64,
    digests: HashSet<u128>,
    /// By the second at which they expire.
    ends: BTreeMap<i64, Vec<UsedProof>>,
    /// The number of proofs of each holder and issuer.
    counts: HashMap<u64, usize>,
    hasher: RandomState,
    /// The latest time: what expired by then may be removed.
    latest: i64,
}

struct UsedProof {
    digest: u128,
    holder: u64,
    issuer: u64,
}

impl UsedProofs {
    fn new(max_proofs: usize, max_age: Duration, has_tenants: bool) -> UsedProofs {
        UsedProofs {
            max_proofs,
            max_of_issuer: if has_tenants { max_proofs / 4 } else { max_proofs },
            window: max_age.as_secs().cast_signed() + MAX_AHEAD as i64 + 1,
            digests: HashSet::new(),
            ends: BTreeMap::new(),
            counts: HashMap::new(),
            hasher: RandomState::new(),
            latest: i64::MIN,
        }
    }

    /// Adds a proof that expires at `ends`. A holder, the user and client of an issuer, has at most a sixteenth of all, so
    /// that it does not keep others from using the API.
    fn add(&mut self, key: &[&str; 2], holder: &[&str; 3], ends: i64, now: i64) -> Result<(), NotRecorded> {
        self.sweep(now);
        // It may have been removed by a request that has a later time.
        if ends <= self.latest {
            return Err(NotRecorded::Used);
        }
        let digest = u128::from_be_bytes(digest("DPoP proof", key)[..16].try_into().unwrap_or_default());
        if self.digests.contains(&digest) {
            return Err(NotRecorded::Used);
        }
        let issuer = self.hasher.hash_one(holder[0]);
        let holder = self.hasher.hash_one(holder);
        let until = self.ends.keys().next().copied().unwrap_or(now);
        let count = |of| self.counts.get(&of).copied().unwrap_or(0);
        if count(holder) >= self.max_proofs / 16 {
            return Err(NotRecorded::TooMany { until });
        }
        if self.digests.len() >= self.max_proofs {
            return Err(NotRecorded::Full { until });
        }
        if count(issuer) >= self.max_of_issuer {
            return Err(NotRecorded::TooMany { until });
        }
        self.digests.insert(digest);
        for of in [holder, issuer] {
            *self.counts.entry(of).or_default() += 1;
        }
        let proof = UsedProof { digest, holder, issuer };
        self.ends.entry(ends).or_default().push(proof);
        Ok(())
    }

    /// Removes expired proofs.
    fn sweep(&mut self, now: i64) {
        // The clock was ahead, and is set back: proofs that were removed must not be used again, and new ones must be
        // accepted before the clock is where it was.
        if self.latest > now.saturating_add(self.window) {
            self.latest = now.saturating_add(self.window);
        }
        self.latest = self.latest.max(now);
        while let Some(entry) = self.ends.first_entry()
            && *entry.key() <= now
        {
            for proof in entry.remove() {
                self.digests.remove(&proof.digest);
                self.uncount(proof.holder);
                self.uncount(proof.issuer);
            }
        }
    }

    fn uncount(&mut self, of: u64) {
        if let Entry::Occupied(mut count) = self.counts.entry(of) {
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

    const ALICE: [&str; 3] = ["https://op.example", "alice", "app"];

    fn proofs(max: usize, has_tenants: bool) -> UsedProofs {
        UsedProofs::new(max, Duration::from_secs(60), has_tenants)
    }

    fn add(proofs: &mut UsedProofs, key: [&str; 2], holder: [&str; 3], ends: i64, now: i64) -> String {
        match proofs.add(&key, &holder, ends, now) {
            Ok(()) => "recorded".to_owned(),
            Err(NotRecorded::Used) => "used".to_owned(),
            Err(NotRecorded::TooMany { until }) => format!("too many until {until}"),
            Err(NotRecorded::Full { until }) => format!("full until {until}"),
            Err(NotRecorded::Store(error)) => error.to_string(),
        }
    }

    #[test]
    fn a_proof_is_used_once_by_its_key() {
        let proofs = &mut proofs(100, false);
        assert_eq!(add(proofs, ["key", "jti"], ALICE, 61, 0), "recorded");
        assert_eq!(add(proofs, ["key", "jti"], ALICE, 61, 0), "used");
        // Also with another user's token: the key is the client's.
        assert_eq!(add(proofs, ["key", "jti"], ["other", "bob", "app"], 61, 60), "used");
        assert_eq!(add(proofs, ["other key", "jti"], ALICE, 61, 60), "recorded");
        assert_eq!(add(proofs, ["key", "other jti"], ALICE, 71, 60), "recorded");
        assert_eq!(add(proofs, ["keyj", "ti"], ALICE, 71, 60), "recorded");
        proofs.sweep(71);
        assert_eq!(
            (proofs.digests.len(), proofs.counts.len(), proofs.ends.len()),
            (0, 0, 0)
        );
    }

    /// By a request whose time was read before that of the request that removed it.
    #[test]
    fn an_expired_proof_is_not_used_again() {
        let proofs = &mut proofs(100, false);
        assert_eq!(add(proofs, ["key", "a"], ALICE, 61, 0), "recorded");
        assert_eq!(add(proofs, ["key", "b"], ALICE, 121, 61), "recorded");
        assert_eq!(proofs.digests.len(), 1);
        for now in [60, 61, 0] {
            assert_eq!(add(proofs, ["key", "a"], ALICE, 61, now), "used");
        }
    }

    /// A clock that was an hour ahead removes what it takes for old.
    #[test]
    fn a_clock_that_is_set_back_replays_nothing() {
        let proofs = &mut proofs(100, false);
        assert_eq!(add(proofs, ["key", "a"], ALICE, 61, 0), "recorded");
        assert_eq!(add(proofs, ["key", "b"], ALICE, 3_661, 3_600), "recorded");
        assert_eq!(add(proofs, ["key", "a"], ALICE, 61, 5), "used");
        assert_eq!(add(proofs, ["key", "c"], ALICE, 66, 5), "used");
        // Every proof that may have been removed has expired.
        assert_eq!(add(proofs, ["key", "d"], ALICE, 5 + 71, 5), "used");
        assert_eq!(add(proofs, ["key", "d"], ALICE, 16 + 61, 16), "recorded");
    }

    #[test]
    fn a_holder_has_a_sixteenth_and_nothing_is_evicted() {
        let proofs = &mut proofs(64, false);
        let names: Vec<_> = (0..16).map(|i| format!("user {i}")).collect();
        for (i, name) in names.iter().enumerate() {
            let holder = ["https://op.example", &**name, "app"];
            for jti in ["a", "b", "c", "d"] {
                assert_eq!(add(proofs, [name, jti], holder, 61 + i as i64, 0), "recorded");
            }
            assert_eq!(add(proofs, [name, "e"], holder, 61, 0), "too many until 61");
        }
        // The other client of a user, and the other user of a client.
        for holder in [
            ["https://op.example", "user 1", "other"],
            ["https://op.example", "bob", "app"],
        ] {
            assert_eq!(add(proofs, ["key", "a"], holder, 61, 0), "full until 61");
        }
        assert_eq!(add(proofs, ["user 15", "d"], ALICE, 80, 60), "used");
        assert_eq!(add(proofs, ["key", "a"], ALICE, 122, 61), "recorded");
        assert_eq!(proofs.digests.len(), 61);
    }

    /// A tenant's provider makes up as many users as it likes.
    #[test]
    fn a_provider_of_a_tenant_has_a_quarter() {
        for (has_tenants, expected) in [(true, "too many until 61"), (false, "recorded")] {
            let proofs = &mut proofs(64, has_tenants);
            for i in 0..16 {
                let user = i.to_string();
                let holder = ["https://hostile.example", &*user, "app"];
                assert_eq!(add(proofs, ["key", &user], holder, 61, 0), "recorded");
            }
            let holder = ["https://hostile.example", "one more", "app"];
            assert_eq!(add(proofs, ["key", "more"], holder, 61, 0), expected);
            assert_eq!(add(proofs, ["key", "alice"], ALICE, 61, 0), "recorded");
        }
    }
}
