//! A session store that forwards each call to an inner store, and fails, holds or changes the calls that a test names.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rocket::tokio::{sync::Semaphore, task::yield_now, time::timeout};
use rocket_openidconnect::{
    Clock,
    store::{MemoryStore, SessionStore, StoreError, StoredSession},
};

use super::lock;

/// How long a test waits for something that is about to happen.
const PATIENCE: Duration = Duration::from_secs(10);

/// A session store as one node reaches it. Clones are the same connection; [`another`](Self::another) is that of
/// another node to the same inner store.
///
/// It has one fault at a time: a new one replaces the one before.
#[derive(Clone)]
pub struct TestStore {
    inner: Arc<dyn SessionStore>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    calls: Vec<Call>,
    refused_locks: usize,
    fault: Option<SetFault>,
}

/// A fault, and the calls that have it.
struct SetFault {
    calls: Calls,
    /// Which of these calls, counted from when the fault was set; `None` is each of them.
    number: Option<usize>,
    fault: Fault,
}

/// A method of [`SessionStore`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Create,
    Load,
    Replace,
    Remove,
    IdsByIndexKey,
    PutEntry,
    PutEnd,
    PutEndIfUnchanged,
    Lock,
    PutEntryIfLarger,
    Entries,
    EntriesWithTtl,
    Unlock,
}

enum Calls {
    All,
    Writes,
    Only(Call),
}

impl Calls {
    fn include(&self, call: Call) -> bool {
        match self {
            Calls::All => true,
            Calls::Writes => !matches!(
                call,
                Call::Load | Call::IdsByIndexKey | Call::Entries | Call::EntriesWithTtl
            ),
            Calls::Only(only) => call == *only,
        }
    }
}

#[derive(Clone)]
enum Fault {
    Fail(&'static str),
    Panic,
    LoseAnswer,
    Hold(Gate),
    HoldAnswer(Gate),
    FindSession(Arc<StoredSession>),
    WriteEnd(&'static str),
    OmitEntries(usize),
}

impl TestStore {
    /// Over a new store in memory, by the time of the machine.
    pub fn new() -> TestStore {
        TestStore::over(MemoryStore::new(100))
    }

    /// Over a new store in memory, by this clock.
    pub fn with_clock(clock: &Clock) -> TestStore {
        TestStore::over(MemoryStore::new(100).clock(clock.clone()))
    }

    /// Over this store.
    pub fn over(inner: impl SessionStore) -> TestStore {
        TestStore {
            inner: Arc::new(inner),
            state: Arc::default(),
        }
    }

    /// The connection of another node to the same inner store, with a fault and counts of its own.
    pub fn another(&self) -> TestStore {
        TestStore {
            inner: self.inner.clone(),
            state: Arc::default(),
        }
    }

    /// The store below, without faults and counts.
    pub fn inner(&self) -> &dyn SessionStore {
        &*self.inner
    }

    /// How many calls it had.
    pub fn calls(&self) -> usize {
        lock(&self.state).calls.len()
    }

    /// How many such calls it had. A sign-in offers its result to other nodes a moment later, by [`Call::PutEntry`].
    pub fn calls_of(&self, call: Call) -> usize {
        let state = lock(&self.state);
        state.calls.iter().filter(|made| **made == call).count()
    }

    /// Waits until the inner store no longer has this session.
    pub async fn until_removed(&self, id: &str) {
        let is_removed = async || self.inner.load(id).await.unwrap().is_none();
        until("the end of the session is recorded", is_removed).await;
    }

    /// Waits until one more call finds a lock taken.
    pub async fn until_lock_is_refused(&self) {
        let refused = || lock(&self.state).refused_locks;
        let before = refused();
        until("a lock is refused", async || refused() > before).await;
    }

    // ---- Faults.

    /// Forwards every call from now on.
    pub fn recover(&self) {
        lock(&self.state).fault = None;
    }

    /// Fails every call with this cause.
    pub fn fail_all(&self, cause: &'static str) {
        self.set(Calls::All, None, Fault::Fail(cause));
    }

    /// Fails every call that writes with this cause.
    pub fn fail_writes(&self, cause: &'static str) {
        self.set(Calls::Writes, None, Fault::Fail(cause));
    }

    /// Fails each such call with this cause.
    pub fn fail(&self, call: Call, cause: &'static str) {
        self.set(Calls::Only(call), None, Fault::Fail(cause));
    }

    /// Panics at every call that writes.
    pub fn panic_at_writes(&self) {
        self.set(Calls::Writes, None, Fault::Panic);
    }

    /// Does each such call and fails instead of the answer: "the answer is lost".
    pub fn lose_answers(&self, call: Call) {
        self.set(Calls::Only(call), None, Fault::LoseAnswer);
    }

    /// As [`lose_answers`](Self::lose_answers), of one such call: the first from now on is number 1.
    pub fn lose_answer(&self, call: Call, number: usize) {
        self.set(Calls::Only(call), Some(number), Fault::LoseAnswer);
    }

    /// Holds the next such call at the gate before it is done.
    pub fn hold(&self, call: Call, gate: &Gate) {
        self.set(Calls::Only(call), Some(1), Fault::Hold(gate.clone()));
    }

    /// Holds the answer of one such call at the gate: the first from now on is number 1.
    pub fn hold_answer(&self, call: Call, number: usize, gate: &Gate) {
        self.set(Calls::Only(call), Some(number), Fault::HoldAnswer(gate.clone()));
    }

    /// Finds this session in place of any that is asked for.
    pub fn find_session(&self, session: Arc<StoredSession>) {
        self.set(Calls::Only(Call::Load), None, Fault::FindSession(session));
    }

    /// Writes this text in place of each end.
    pub fn write_ends_as(&self, text: &'static str) {
        self.set(Calls::Only(Call::PutEnd), None, Fault::WriteEnd(text));
    }

    /// Leaves the last entries, so many, out of each answer to [`Call::Entries`] or [`Call::EntriesWithTtl`].
    pub fn omit_entries(&self, call: Call, count: usize) {
        self.set(Calls::Only(call), None, Fault::OmitEntries(count));
    }

    fn set(&self, calls: Calls, number: Option<usize>, fault: Fault) {
        lock(&self.state).fault = Some(SetFault { calls, number, fault });
    }

    /// Counts a call; answers its fault.
    fn begin(&self, call: Call) -> Option<Fault> {
        let mut state = lock(&self.state);
        state.calls.push(call);
        let set = state.fault.as_mut().filter(|set| set.calls.include(call))?;
        let Some(number) = &mut set.number else {
            return Some(set.fault.clone());
        };
        *number -= 1;
        if *number > 0 {
            return None;
        }
        state.fault.take().map(|set| set.fault)
    }

    async fn forward<T>(
        &self,
        call: Call,
        forwarded: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let fault = self.begin(call);
        with_fault(fault.as_ref(), forwarded).await
    }
}

/// What is left of a call that has this fault.
async fn with_fault<T>(
    fault: Option<&Fault>,
    forwarded: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    match fault {
        Some(Fault::Fail(cause)) => return Err(StoreError::new(*cause)),
        Some(Fault::Panic) => panic!("the test makes the store panic"),
        Some(Fault::Hold(gate)) => gate.wait().await,
        _ => {}
    }
    let answer = forwarded.await;
    match fault {
        Some(Fault::LoseAnswer) => return Err(StoreError::new("the answer is lost")),
        Some(Fault::HoldAnswer(gate)) => gate.wait().await,
        _ => {}
    }
    answer
}

/// The entries of an answer that has this fault.
fn without_omitted<T>(fault: Option<&Fault>, mut entries: Vec<T>) -> Vec<T> {
    if let Some(Fault::OmitEntries(count)) = fault {
        entries.truncate(entries.len().saturating_sub(*count));
    }
    entries
}

#[rocket::async_trait]
impl SessionStore for TestStore {
    async fn prepare(&self) -> Result<(), StoreError> {
        self.inner.prepare().await
    }

    async fn create(&self, session: &StoredSession, life: Duration) -> Result<(), StoreError> {
        self.forward(Call::Create, self.inner.create(session, life)).await
    }

    async fn load(&self, id: &str) -> Result<Option<Arc<StoredSession>>, StoreError> {
        let fault = self.begin(Call::Load);
        let found = with_fault(fault.as_ref(), self.inner.load(id)).await?;
        Ok(match fault {
            Some(Fault::FindSession(session)) => Some(session),
            _ => found,
        })
    }

    async fn replace(&self, session: &StoredSession, life: Duration) -> Result<bool, StoreError> {
        self.forward(Call::Replace, self.inner.replace(session, life)).await
    }

    async fn remove(&self, id: &str) -> Result<bool, StoreError> {
        self.forward(Call::Remove, self.inner.remove(id)).await
    }

    async fn ids_by_index_key(&self, index_key: &str) -> Result<Vec<String>, StoreError> {
        let forwarded = self.inner.ids_by_index_key(index_key);
        self.forward(Call::IdsByIndexKey, forwarded).await
    }

    async fn put_entry(&self, name: &str, value: &str, life: Duration) -> Result<(), StoreError> {
        let forwarded = self.inner.put_entry(name, value, life);
        self.forward(Call::PutEntry, forwarded).await
    }

    async fn put_end(&self, name: &str, value: &str, life: Duration) -> Result<(), StoreError> {
        let fault = self.begin(Call::PutEnd);
        let value = match fault {
            Some(Fault::WriteEnd(text)) => text,
            _ => value,
        };
        with_fault(fault.as_ref(), self.inner.put_end(name, value, life)).await
    }

    async fn put_end_if_unchanged(
        &self,
        name: &str,
        known: Option<&str>,
        value: &str,
        life: Duration,
    ) -> Result<bool, StoreError> {
        let forwarded = self.inner.put_end_if_unchanged(name, known, value, life);
        self.forward(Call::PutEndIfUnchanged, forwarded).await
    }

    async fn lock(&self, name: &str, value: &str, life: Duration) -> Result<bool, StoreError> {
        let fault = self.begin(Call::Lock);
        let forwarded = async {
            let locked = self.inner.lock(name, value, life).await;
            if locked == Ok(false) {
                lock(&self.state).refused_locks += 1;
            }
            locked
        };
        with_fault(fault.as_ref(), forwarded).await
    }

    async fn put_entry_if_larger(&self, name: &str, number: u64, life: Duration) -> Result<bool, StoreError> {
        let forwarded = self.inner.put_entry_if_larger(name, number, life);
        self.forward(Call::PutEntryIfLarger, forwarded).await
    }

    async fn entries(&self, names: &[&str]) -> Result<Vec<Option<String>>, StoreError> {
        let fault = self.begin(Call::Entries);
        let entries = with_fault(fault.as_ref(), self.inner.entries(names)).await?;
        Ok(without_omitted(fault.as_ref(), entries))
    }

    async fn entries_with_ttl(&self, names: &[&str]) -> Result<Vec<Option<(String, Duration)>>, StoreError> {
        let fault = self.begin(Call::EntriesWithTtl);
        let entries = with_fault(fault.as_ref(), self.inner.entries_with_ttl(names)).await?;
        Ok(without_omitted(fault.as_ref(), entries))
    }

    async fn unlock(&self, name: &str, value: &str) -> Result<(), StoreError> {
        self.forward(Call::Unlock, self.inner.unlock(name, value)).await
    }
}

/// Where a task waits until the test opens it. Clones are the same gate.
#[derive(Clone)]
pub struct Gate {
    arrivals: Arc<Semaphore>,
    was_reached: Arc<AtomicBool>,
    open: Arc<Semaphore>,
}

impl Gate {
    /// A closed gate.
    pub fn closed() -> Gate {
        Gate {
            arrivals: Arc::new(Semaphore::new(0)),
            was_reached: Arc::default(),
            open: Arc::new(Semaphore::new(0)),
        }
    }

    /// Waits until the gate is open.
    pub async fn wait(&self) {
        self.was_reached.store(true, Ordering::SeqCst);
        self.arrivals.add_permits(1);
        // A closed semaphore is an open gate.
        let _ = self.open.acquire().await;
    }

    /// Whether anything has come to the gate.
    pub fn was_reached(&self) -> bool {
        self.was_reached.load(Ordering::SeqCst)
    }

    /// Waits until one more task has come to the gate.
    pub async fn until_reached(&self) {
        let arrival = timeout(PATIENCE, self.arrivals.acquire()).await;
        arrival
            .expect("the gate is reached within ten seconds")
            .unwrap()
            .forget();
    }

    /// Lets go on who waits and who comes later.
    pub fn open(&self) {
        self.open.close();
    }
}

/// Waits until this is the case. Panics after ten seconds.
pub async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !is_so().await {
            yield_now().await;
        }
    };
    let waited = timeout(PATIENCE, waiting).await;
    waited.unwrap_or_else(|_| panic!("within ten seconds: {what}"));
}
