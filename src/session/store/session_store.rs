//! What a session store must do, and what it gets to see.

use std::{fmt, sync::Arc, time::Duration};

/// What a request that finds the store unreachable is told to wait.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(5);

/// A place for sessions, and for notes that the nodes of an app share.
///
/// A store keeps what it is given and judges nothing: values are encrypted under the app's `secret_key`, ids
/// and index_keys are digests or keyed hashes, and who reads the store learns nothing about anybody. What it must do well
/// is [`replace`](Self::replace), [`lock`](Self::lock), [`put_end_if_unchanged`](Self::put_end_if_unchanged) and
/// [`put_entry_if_larger`](Self::put_entry_if_larger): each happens as a whole or not at all, whoever else asks for the same at
/// the same time.
///
/// A `life` says how long an entry is needed, from now. Dropping it then is the store's part; answering
/// with one that is over does no harm, because each value holds its own times and is judged by them.
///
/// Whether a store keeps its promises is found by the `contract` in this module (feature `testing`).
#[rocket::async_trait]
pub trait SessionStore: Send + Sync + 'static {
    /// Initialises the store at launch, for example by creating tables.
    ///
    /// _Default:_ does nothing
    ///
    /// # Errors
    ///
    /// When it cannot be used as it is set up, which aborts the launch. A store that is only down is no error.
    async fn prepare(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Keeps a session that is new.
    ///
    /// # Errors
    ///
    /// When it may not have been kept.
    async fn create(&self, session: &StoredSession, life: Duration) -> Result<(), StoreError>;

    /// The session with this id; `None` when there is none. Shared, for a store that has it at hand.
    ///
    /// # Errors
    ///
    /// When that cannot be known. It is answered with 503, never by signing a person out.
    async fn load(&self, id: &str) -> Result<Option<Arc<StoredSession>>, StoreError>;

    /// Replaces the session with the same id, if its version is the one before `session.version`. `false`
    /// when it is not, or when there is no such session: nothing has changed then.
    ///
    /// # Errors
    ///
    /// When the store cannot say which.
    async fn replace(&self, session: &StoredSession, life: Duration) -> Result<bool, StoreError>;

    /// Removes the session with this id; `false` when there was none.
    ///
    /// # Errors
    ///
    /// When it may still be there.
    async fn remove(&self, id: &str) -> Result<bool, StoreError>;

    /// The ids of all sessions that name this owner. Ids of sessions that are gone do no harm.
    ///
    /// # Errors
    ///
    /// When they cannot be known.
    async fn ids_by_index_key(&self, owner: &str) -> Result<Vec<String>, StoreError>;

    /// Keeps a note under this name, in place of any that is there.
    ///
    /// # Errors
    ///
    /// When it may not have been kept.
    async fn put_entry(&self, name: &str, value: &str, life: Duration) -> Result<(), StoreError>;

    /// Keeps a note under this name, in place of any that is there: that sessions of a person have ended. It
    /// is a note as any other for [`entries`](Self::entries), [`entries_with_ttl`](Self::entries_with_ttl) and
    /// [`lock`](Self::lock).
    ///
    /// A store that drops entries when it is full drops none of these for an entry of another method: else who
    /// makes many of those brings ended sessions back.
    ///
    /// _Default:_ [`put_entry`](Self::put_entry), for a store that drops nothing before its life is over
    ///
    /// # Errors
    ///
    /// When it may not have been kept.
    async fn put_end(&self, name: &str, value: &str, life: Duration) -> Result<(), StoreError> {
        self.put_entry(name, value, life).await
    }

    /// Keeps a note as [`put_end`](Self::put_end) does, unless another note than `known` is there. Answers
    /// whether it was kept. Of many who do so at once with one `known`, `true` is for one.
    ///
    /// The app may end the user's sessions while it is asked about a sign-in of this user. That sign-in has read
    /// the ends that are noted. One that another node has noted since must not be overwritten: it ends the
    /// sign-in too.
    ///
    /// _Default:_ none, because nothing that is made of the other methods is atomic
    ///
    /// # Errors
    ///
    /// When it may not have been kept.
    async fn put_end_if_unchanged(
        &self,
        name: &str,
        known: Option<&str>,
        value: &str,
        life: Duration,
    ) -> Result<bool, StoreError>;

    /// Keeps a note under this name if there is none. Of many who claim a name at once, `true` is for one.
    ///
    /// # Errors
    ///
    /// When the store cannot say who has it.
    async fn lock(&self, name: &str, value: &str, life: Duration) -> Result<bool, StoreError>;

    /// Keeps a number as a note under this name, unless a number that is as large or larger is there.
    /// Answers whether it was kept. Of many who do so at once, the largest number stays.
    ///
    /// # Errors
    ///
    /// When the store cannot say which is kept.
    async fn put_entry_if_larger(
        &self,
        name: &str,
        number: u64,
        life: Duration,
    ) -> Result<bool, StoreError>;

    /// The notes under these names, in this order; numbers in decimal digits.
    ///
    /// # Errors
    ///
    /// When they cannot be known.
    async fn entries(&self, names: &[&str]) -> Result<Vec<Option<String>>, StoreError>;

    /// The notes under these names, in this order, each with how long it is still kept, by the store's own
    /// clock. A note and its time are of one moment; those of two names need not be. From it and the life that
    /// a note says it was kept for, its age is known, and no clock of two nodes is compared.
    ///
    /// # Errors
    ///
    /// When they cannot be known.
    async fn entries_with_ttl(
        &self,
        names: &[&str],
    ) -> Result<Vec<Option<(String, Duration)>>, StoreError>;

    /// Drops the note under this name, if it has this value.
    ///
    /// # Errors
    ///
    /// When it may still be there.
    async fn unlock(&self, name: &str, value: &str) -> Result<(), StoreError>;
}

/// A session as a store sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredSession {
    /// Names the session: 43 characters of base64url. It is no secret: the browser has another.
    pub id: String,
    /// 1 at first, one more each time it is replaced.
    pub version: u64,
    /// Who is signed in, encrypted: text in base64url, 1 to 8 KB as a rule.
    pub value: String,
    /// Under what else the session is found: one name for the person, one for the session at the provider, or
    /// that it has no name there. At most two, of 43 characters each, and the same for as long as the session lives.
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

/// The store did not do its part.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreError {
    /// The word of the database or of the operating system, without any value.
    pub cause: String,
    /// Whether the app asked for a user by `sub` alone, where users of two tenants may have the same.
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
    /// With the word of the database or of the operating system. It is logged: leave out addresses with
    /// passwords, and all values.
    pub fn new(cause: impl Into<String>) -> StoreError {
        StoreError {
            cause: cause.into(),
            is_ambiguous: false,
        }
    }

    /// Of a question that names a user by `sub` alone, where the issuer is a template.
    pub(crate) fn of_ambiguous_subject() -> StoreError {
        StoreError {
            cause: "a `sub` alone identifies no user where the issuer is a template".to_owned(),
            is_ambiguous: true,
        }
    }

    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        if self.is_ambiguous {
            return "call `end_sessions_at` or `sessions_at`, with `User::issuer` of the user";
        }
        let says = |code: &str| self.cause.ends_with(code);
        if says("NOAUTH") {
            return "set `oidc.session.store_url` to an address with the password, such as `redis://user:password@host:6379`";
        }
        if ["WRONGPASS", "AuthenticationFailed", "28P01", "28000"]
            .into_iter()
            .any(says)
        {
            return "correct the user and the password in `oidc.session.store_url`";
        }
        if says("NOPERM") {
            return "allow the user in `oidc.session.store_url` the keys `~oidc:*` and the commands `+@read +@write +@scripting +@transaction +@connection`";
        }
        if says("READONLY") || says("25006") {
            return "set `oidc.session.store_url` to the primary: it is the address of a read-only replica";
        }
        if says("42501") {
            return "allow the user in `oidc.session.store_url` to read and write the tables `oidc_*`";
        }
        "check that the session store runs and that this machine can reach it; the address of Redis or of the SQL database is `oidc.session.store_url`"
    }
}
