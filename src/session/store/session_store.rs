//! The trait of a session store, and the records that it stores.

use std::{fmt, sync::Arc, time::Duration};

/// The `Retry-After` of a response while the store is unreachable.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(5);

/// A key-value store for sessions, and for entries that the nodes of an app share.
///
/// A store does not interpret its values: they are encrypted under the app's `secret_key`, ids and index keys are
/// digests or keyed hashes, and a reader of the store learns nothing about users. [`replace`](Self::replace),
/// [`lock`](Self::lock), [`put_end_if_unchanged`](Self::put_end_if_unchanged) and
/// [`put_entry_if_larger`](Self::put_entry_if_larger) must be atomic under concurrent calls.
///
/// `ttl` is the lifetime of an entry, from now. The store should remove expired entries; returning one does no harm,
/// because each value contains its own times, which are checked.
///
/// Test an implementation with the `contract` in this module (feature `testing`).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a session store",
    label = "expected a type that implements `SessionStore`",
    note = "implement it, with `#[rocket::async_trait]` above the `impl`, or pass the store itself instead of a reference to it"
)]
#[rocket::async_trait]
pub trait SessionStore: Send + Sync + 'static {
    /// Initialises the store at launch, for example by creating tables.
    ///
    /// _Default:_ does nothing
    ///
    /// # Errors
    ///
    /// If its configuration makes it unusable, which aborts the launch. A store that is only down is not an error.
    async fn prepare(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Stores a new session.
    ///
    /// # Errors
    ///
    /// If it may not have been stored.
    async fn create(&self, session: &StoredSession, ttl: Duration) -> Result<(), StoreError>;

    /// Loads the session with this id; `None` if there is none. It is in an `Arc`, for stores that cache it.
    ///
    /// # Errors
    ///
    /// If that cannot be determined. The response is 503; the user is not signed out.
    async fn load(&self, id: &str) -> Result<Option<Arc<StoredSession>>, StoreError>;

    /// Replaces the session with the same id (compare-and-set), if its version is `session.version - 1`. Otherwise, or
    /// if there is no such session, returns `false` and changes nothing.
    ///
    /// # Errors
    ///
    /// If the outcome is unknown.
    async fn replace(&self, session: &StoredSession, ttl: Duration) -> Result<bool, StoreError>;

    /// Removes the session with this id. Returns `false` if there was none.
    ///
    /// # Errors
    ///
    /// If it may still exist.
    async fn remove(&self, id: &str) -> Result<bool, StoreError>;

    /// The ids of all sessions with this index key. Ids of removed sessions do no harm.
    ///
    /// # Errors
    ///
    /// If they cannot be determined.
    async fn ids_by_index_key(&self, index_key: &str) -> Result<Vec<String>, StoreError>;

    /// Stores an entry under this name, and replaces any existing one. A value has up to 90 KB where routes use
    /// [`Kept`](crate::Kept).
    ///
    /// # Errors
    ///
    /// If it may not have been stored.
    async fn put_entry(&self, name: &str, value: &str, ttl: Duration) -> Result<(), StoreError>;

    /// Stores the end of a user's sessions as an entry under this name, and replaces any existing one. It is an entry
    /// like any other for [`entries`](Self::entries), [`entries_with_ttl`](Self::entries_with_ttl) and
    /// [`lock`](Self::lock).
    ///
    /// A store that evicts entries when it is full must not evict these for entries of other methods: otherwise an
    /// attacker who creates many of those makes ended sessions valid again.
    ///
    /// _Default:_ [`put_entry`](Self::put_entry), for a store that evicts nothing before it expires
    ///
    /// # Errors
    ///
    /// If it may not have been stored.
    async fn put_end(&self, name: &str, value: &str, ttl: Duration) -> Result<(), StoreError> {
        self.put_entry(name, value, ttl).await
    }

    /// Stores an entry like [`put_end`](Self::put_end), unless an entry other than `known` exists. Returns whether it
    /// was stored. Of concurrent calls with the same `known`, only one returns `true`.
    ///
    /// The app may end a user's sessions while it is asked about a sign-in of this user. That sign-in has read the
    /// recorded ends. An end that another node has recorded since must not be overwritten: it applies to the sign-in
    /// too.
    ///
    /// _Default:_ none, because no combination of the other methods is atomic
    ///
    /// # Errors
    ///
    /// If it may not have been stored.
    async fn put_end_if_unchanged(
        &self,
        name: &str,
        known: Option<&str>,
        value: &str,
        ttl: Duration,
    ) -> Result<bool, StoreError>;

    /// Stores an entry under this name if there is none. Of concurrent calls, only one returns `true`.
    ///
    /// # Errors
    ///
    /// If it is unknown who holds the lock.
    async fn lock(&self, name: &str, value: &str, ttl: Duration) -> Result<bool, StoreError>;

    /// Stores a number as an entry under this name, unless an equal or larger number exists. Returns whether it was
    /// stored. Of concurrent calls, the largest number remains.
    ///
    /// # Errors
    ///
    /// If the outcome is unknown.
    async fn put_entry_if_larger(&self, name: &str, number: u64, ttl: Duration) -> Result<bool, StoreError>;

    /// The entries under these names, in this order; numbers in decimal digits.
    ///
    /// _Default:_ [`entries_with_ttl`](Self::entries_with_ttl), without the TTLs
    ///
    /// # Errors
    ///
    /// If they cannot be read.
    async fn entries(&self, names: &[&str]) -> Result<Vec<Option<String>>, StoreError> {
        let entries = self.entries_with_ttl(names).await?.into_iter();
        Ok(entries.map(|entry| entry.map(|(value, _)| value)).collect())
    }

    /// The entries under these names, in this order, each with its remaining TTL by the store's own clock. A value and
    /// its TTL are read atomically; those of two names need not be. Some values contain their original TTL: the
    /// difference is the entry's age, without comparing the clocks of two nodes.
    ///
    /// # Errors
    ///
    /// If they cannot be read.
    async fn entries_with_ttl(&self, names: &[&str]) -> Result<Vec<Option<(String, Duration)>>, StoreError>;

    /// Removes the entry under this name, if it has this value.
    ///
    /// # Errors
    ///
    /// If it may still exist.
    async fn unlock(&self, name: &str, value: &str) -> Result<(), StoreError>;
}

/// A session as a store sees it: an encrypted value with its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredSession {
    /// The primary key: 43 characters of base64url. It is not a secret: the browser's cookie has another id.
    pub id: String,
    /// 1 at first, incremented by each replacement.
    pub version: u64,
    /// The encrypted session: text in base64url, usually 1 to 8 KB.
    pub value: String,
    /// The index keys: one for the user, and one for the provider's session or for its absence. At most two, of 43
    /// characters each, and constant while the session lives.
    pub index_keys: Vec<String>,
}

impl StoredSession {
    /// A session with these fields, as a store reads it.
    pub fn new(
        id: impl Into<String>,
        version: u64,
        value: impl Into<String>,
        index_keys: Vec<String>,
    ) -> StoredSession {
        StoredSession {
            id: id.into(),
            version,
            value: value.into(),
            index_keys,
        }
    }
}

/// The error of a session store.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreError {
    /// The error of the database or of the operating system, without any stored value.
    pub cause: String,
    /// Whether the app asked for a user by `sub` alone, although users of two tenants may have the same `sub`.
    is_ambiguous: bool,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.is_ambiguous {
            f.write_str("the session store is not reachable: ")?;
        }
        f.write_str(&self.cause)
    }
}

impl std::error::Error for StoreError {}

impl StoreError {
    /// An error with this cause of the database or of the operating system. It is logged: leave out URLs with
    /// passwords, and all values.
    pub fn new(cause: impl Into<String>) -> StoreError {
        StoreError {
            cause: cause.into(),
            is_ambiguous: false,
        }
    }

    /// The error for a request that identifies a user by `sub` alone, where the issuer is a template.
    pub(crate) fn of_ambiguous_subject() -> StoreError {
        StoreError {
            cause: "a `sub` alone does not identify a user where the issuer is a template".to_owned(),
            is_ambiguous: true,
        }
    }

    /// How to fix it.
    pub fn remedy(&self) -> &'static str {
        if self.is_ambiguous {
            return "call `end_sessions_of_user` or `sessions_of_user`, with `User::key` of the user";
        }
        let says = |code: &str| self.cause.ends_with(code);
        if self.cause.contains("Sentinel") {
            return self.sentinel_remedy();
        }
        if says("NOAUTH") {
            return "set `oidc.session.store_url` to a URL with the password, such as `redis://user:password@host:6379`";
        }
        if ["WRONGPASS", "AuthenticationFailed", "28P01", "28000"]
            .into_iter()
            .any(says)
        {
            return "correct the user and the password in `oidc.session.store_url`";
        }
        if says("NOPERM") {
            return "grant the user in `oidc.session.store_url` the keys `~oidc:*` and the commands `+@read +@write +@scripting +@connection +role`, in a cluster also `+cluster|slots`";
        }
        if says("MOVED") || says("CROSSSLOT") {
            return "set `oidc.session.store_url` to `redis-cluster://host,host`: it is the URL of one node of a cluster";
        }
        if says("is not part of a cluster") {
            return "set `oidc.session.store_url` to `redis://host`: `redis-cluster://` is the URL of a cluster";
        }
        if says("CLUSTERDOWN") || says("no primary that responds") {
            return "check the cluster at `oidc.session.store_url` with `redis-cli --cluster check`: some of its slots have no primary";
        }
        if says("LOADING") {
            return "wait until the server at `oidc.session.store_url` has loaded its data";
        }
        if says("MASTERDOWN") {
            return "set `oidc.session.store_url` to the primary: it is the URL of a replica that has lost its primary";
        }
        if says("a command of Redis 7") {
            return "set `oidc.session.store_url` to Redis 7 or later, or Valkey, and that of a Sentinel to `redis+sentinel://host/master_name`";
        }
        if says("does not have this database") {
            return "correct the number of the database in `oidc.session.store_url`";
        }
        if says("READONLY") || says("25006") {
            return "set `oidc.session.store_url` to the primary: it is the URL of a read-only replica";
        }
        if says("42501") {
            return "allow the user in `oidc.session.store_url` to read and write the tables `oidc_*`";
        }
        "check that the session store at `oidc.session.store_url` is running and that this machine can reach it"
    }
    /// How to fix what a Sentinel answers, or that none does.
    fn sentinel_remedy(&self) -> &'static str {
        let says = |code: &str| self.cause.ends_with(code);
        if says("NOAUTH") || says("WRONGPASS") {
            return "correct `oidc.session.sentinel_username` and `oidc.session.sentinel_password`: the user and the password in `oidc.session.store_url` are for Redis itself";
        }
        if says("NOPERM") {
            return "grant the user in `oidc.session.sentinel_username` the commands `+@connection +sentinel|get-master-addr-by-name` at the Sentinels";
        }
        if says("knows the master name") {
            return "correct the master name in `oidc.session.store_url`: it is the name in `sentinel monitor` of the Sentinels";
        }
        if says("is a replica") {
            return "wait until the Sentinels in `oidc.session.store_url` have completed the failover";
        }
        if says("is not a Sentinel") {
            return "write the hosts and ports of Sentinels in `oidc.session.store_url`, or `redis://host` for a Redis without them";
        }
        "check that the Sentinels in `oidc.session.store_url` are running and that this machine can reach them"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_of_redis_has_a_remedy_of_its_own() {
        let causes = [
            "Redis returned NOAUTH",
            "AuthenticationFailed",
            "Redis returned NOPERM",
            "Redis returned READONLY",
            "Redis returned MOVED",
            "the Redis server is not part of a cluster",
            "Redis returned CLUSTERDOWN",
            "Redis returned LOADING",
            "Redis returned MASTERDOWN",
            "the server does not know a command of Redis 7",
            "the Redis server does not have this database",
            "Redis did not respond in time",
            "a Sentinel returned NOAUTH",
            "a Sentinel returned NOPERM",
            "no Sentinel knows the master name",
            "a host in the URL is not a Sentinel",
            "the server that the Sentinels name is a replica",
            "no Sentinel responded in time",
        ];
        let remedies: Vec<_> = causes.iter().map(|cause| StoreError::new(*cause).remedy()).collect();
        for (i, remedy) in remedies.iter().enumerate() {
            assert!(remedy.contains("`oidc.session."), "{}: {remedy}", causes[i]);
            let first = remedies.iter().position(|other| other == remedy);
            assert_eq!(first, Some(i), "{}: {remedy}", causes[i]);
        }
        for (cause, same) in [
            ("a Sentinel returned WRONGPASS", "a Sentinel returned NOAUTH"),
            ("connection refused", "Redis did not respond in time"),
            ("Redis returned WRONGPASS", "AuthenticationFailed"),
            (
                "a slot of the Redis cluster has no primary that responds",
                "Redis returned CLUSTERDOWN",
            ),
            (
                "no Sentinel is reachable: connection refused",
                "no Sentinel responded in time",
            ),
        ] {
            assert_eq!(
                StoreError::new(cause).remedy(),
                StoreError::new(same).remedy(),
                "{cause}"
            );
        }
    }
}
