//! Providers that the app finds at run time, such as those of its tenants in a database.

use std::{
    error::Error,
    fmt,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use moka::{policy::EvictionPolicy, sync::Cache};
use url::Url;

use super::RelyingParty;
use crate::{
    clock::Clock,
    fair_queue::{FairQueue, QueueSize},
    secret::Secret,
    settings::is_provider_name,
};

/// Finds providers that are not in the settings: those that tenants have registered. Set it by
/// [`Oidc::provider_source`](crate::Oidc::provider_source).
///
/// It is asked when a name is needed: by a URL, by a session's cookie, or by
/// [`provider_for`](crate::Oidc::provider_for). An answer is used for a minute, and that a name is unknown for ten
/// seconds. Simultaneous requests ask once. The 2,000 providers that were used last keep their metadata and keys.
///
/// Anyone can make up names. Of names that are not among these providers, 16 are looked up at a time, four for one
/// client address; a request that finds the queue full, or waits longer than `http.timeout`, is responded to with 503.
///
/// ```
/// use rocket_openidconnect::{Oidc, ProviderRegistration, ProviderSource, Secret};
///
/// struct Tenants(Database);
///
/// #[rocket::async_trait]
/// impl ProviderSource for Tenants {
///     async fn registration(
///         &self,
///         name: &str,
///     ) -> Result<Option<ProviderRegistration>, Box<dyn std::error::Error + Send + Sync>> {
///         let Some(row) = self.0.tenant(name).await? else { return Ok(None) };
///         Ok(Some(
///             ProviderRegistration::new(&row.issuer, &row.client_id)
///                 .client_secret(row.client_secret)
///                 .label(&row.company),
///         ))
///     }
/// }
///
/// # fn fairing(database: Database) -> Oidc {
/// Oidc::fairing().provider_source(Tenants(database))
/// # }
/// # struct Database;
/// # struct Row { issuer: String, client_id: String, client_secret: Secret, company: String }
/// # impl Database {
/// #     async fn tenant(&self, _: &str) -> Result<Option<Row>, std::io::Error> { Ok(None) }
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a source of providers",
    label = "expected a type that implements `ProviderSource`",
    note = "implement it, with `#[rocket::async_trait]` above the `impl`"
)]
#[rocket::async_trait]
pub trait ProviderSource: Send + Sync + 'static {
    /// The registration at the provider with this name; `None` if there is none. Names have lowercase letters, digits,
    /// `-` and single `_`, at most 64; the source is not asked for others.
    ///
    /// When a registration is gone, is not usable, or has another issuer or client id, the sessions of its users end.
    /// Another secret ends nothing.
    ///
    /// # Errors
    ///
    /// An error means that it cannot be known now: guards and routes respond with 503.
    async fn registration(&self, name: &str) -> Result<Option<ProviderRegistration>, Box<dyn Error + Send + Sync>>;
}

/// The app's registration at a provider that is not in the settings: issuer, client and credentials.
///
/// Endpoints and keys come from the metadata of the issuer. Everything else is as in the table `oidc`, except that no
/// setting that makes the app less secure applies.
#[derive(Clone, PartialEq, Eq)]
pub struct ProviderRegistration {
    pub(crate) issuer: String,
    pub(crate) client_id: String,
    pub(crate) client_secret: Option<Secret>,
    pub(crate) private_key: Option<Secret>,
    pub(crate) label: Option<String>,
    pub(crate) base_url: Option<Url>,
    pub(crate) audience: Vec<String>,
}

impl ProviderRegistration {
    /// A public client with this id at this issuer.
    pub fn new(issuer: &str, client_id: &str) -> ProviderRegistration {
        ProviderRegistration {
            issuer: issuer.to_owned(),
            client_id: client_id.to_owned(),
            client_secret: None,
            private_key: None,
            label: None,
            base_url: None,
            audience: vec![],
        }
    }

    /// The client's secret.
    #[must_use]
    pub fn client_secret(mut self, secret: Secret) -> Self {
        self.client_secret = Some(secret);
        self
    }

    /// The client's private key, in PEM, as a JWK or as a JWK Set, which signs its assertions (`private_key_jwt`). Their
    /// audience is the issuer. Its public part is registered at the provider by upload: the app does not publish it.
    #[must_use]
    pub fn private_key(mut self, key: Secret) -> Self {
        self.private_key = Some(key);
        self
    }

    /// The name of the provider for people.
    ///
    /// _Default:_ its name in the app
    #[must_use]
    pub fn label(mut self, label: &str) -> Self {
        self.label = Some(label.to_owned());
        self
    }

    /// The public URL of the app for this provider's users, if tenants have hosts of their own: the redirect URI is
    /// below it.
    ///
    /// _Default:_ the setting `base_url`
    #[must_use]
    pub fn base_url(mut self, url: Url) -> Self {
        self.base_url = Some(url);
        self
    }

    /// The accepted `aud` of access tokens of this provider, for [`Bearer`](crate::Bearer) where
    /// [`Oidc::provider_for`](crate::Oidc::provider_for) chooses it.
    ///
    /// _Default:_ the client id
    #[must_use]
    pub fn audience(mut self, audience: &str) -> Self {
        self.audience.push(audience.to_owned());
        self
    }
}

/// Omits secrets.
impl fmt::Debug for ProviderRegistration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProviderRegistration")
            .field("issuer", &self.issuer)
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

/// Why a request has no provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoProvider {
    /// There is none of this name, or the app says that there is none.
    Unknown,
    /// The app could not decide.
    Undecided,
}

/// How long an answer of the source is used, in seconds.
const KNOWN_TTL: i64 = 60;
/// The minimum time between two errors in the log about the source, in seconds.
const REPORT_PAUSE: i64 = 10;
/// How long a name counts as unknown, in seconds.
const UNKNOWN_TTL: i64 = 10;
/// The maximum number of providers that are kept, with their metadata, keys and caches …
const MAX_KNOWN: u64 = 2_000;
/// … and of unknown names, which never displace them.
const MAX_UNKNOWN: u64 = 10_000;
/// How many names that are not known are looked up at a time, and how many wait. One client has a quarter of both.
const LOOKUPS: QueueSize = QueueSize {
    running: 16,
    places: 1_024,
};

/// Makes the relying party of a registration, or says what is wrong with it.
pub(crate) type MakeRelyingParty =
    Box<dyn Fn(&str, &ProviderRegistration) -> Result<RelyingParty, String> + Send + Sync>;

/// The providers of the app's source that were asked for.
pub(crate) struct SourcedProviders {
    source: Arc<dyn ProviderSource>,
    make: MakeRelyingParty,
    clock: Clock,
    /// How long the source may take.
    timeout: Duration,
    names: Names,
    /// The lookups of names that are not known, which anyone can make up.
    lookups: FairQueue,
    /// When a failure of the source was last logged as an error, in seconds since 1970.
    reported: AtomicI64,
}

/// The names that were asked for. Unknown ones have a cache of their own, so that they evict no provider.
struct Names {
    known: Cache<String, Arc<Slot>>,
    unknown: Cache<String, Arc<Slot>>,
}

impl Names {
    fn new(max_known: u64, max_unknown: u64) -> Names {
        let bounded = |max| {
            let cache = Cache::builder().max_capacity(max);
            cache.eviction_policy(EvictionPolicy::lru()).build()
        };
        Names {
            known: bounded(max_known),
            unknown: bounded(max_unknown),
        }
    }

    /// What is known of a name, and whether it was that of a provider.
    fn slot(&self, name: &str) -> (Arc<Slot>, bool) {
        match self.known.get(name) {
            Some(slot) => (slot, true),
            None => (self.unknown.get_with_by_ref(name, Arc::default), false),
        }
    }

    fn keep(&self, name: &str, slot: Arc<Slot>, is_known: bool) {
        let (to, from) = if is_known {
            (&self.known, &self.unknown)
        } else {
            (&self.unknown, &self.known)
        };
        to.insert(name.to_owned(), slot);
        from.invalidate(name);
    }
}

/// What is known of one name. Simultaneous requests ask the source once: the lock of `asking` is held meanwhile.
#[derive(Default)]
struct Slot {
    answer: Mutex<Option<Answer>>,
    asking: tokio::sync::Mutex<()>,
    /// The number of failed queries. A request that waited for one fails too, and does not query again.
    failures: AtomicU64,
}

#[derive(Clone)]
struct Answer {
    until: i64,
    found: Option<(ProviderRegistration, Arc<RelyingParty>)>,
}

impl Slot {
    /// The last answer, and the provider if it is still valid.
    fn read(&self, now: i64) -> (Option<Answer>, Option<Result<Arc<RelyingParty>, NoProvider>>) {
        let answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let valid = answer.as_ref().filter(|answer| now < answer.until);
        let valid = valid.map(|answer| match &answer.found {
            Some((_, rp)) => Ok(rp.clone()),
            None => Err(NoProvider::Unknown),
        });
        (answer, valid)
    }

    fn failed(&self) -> NoProvider {
        self.failures.fetch_add(1, Ordering::AcqRel);
        NoProvider::Undecided
    }
}

impl SourcedProviders {
    pub(crate) fn new(
        source: Arc<dyn ProviderSource>,
        make: MakeRelyingParty,
        clock: Clock,
        timeout: Duration,
    ) -> SourcedProviders {
        SourcedProviders {
            source,
            make,
            clock,
            timeout,
            names: Names::new(MAX_KNOWN, MAX_UNKNOWN),
            lookups: FairQueue::new(LOOKUPS, LOOKUPS.quarter(), timeout),
            reported: AtomicI64::new(i64::MIN),
        }
    }

    /// The relying party of the provider with this name. `client` is the address of the client that asks.
    pub(crate) async fn named(&self, name: &str, client: Option<IpAddr>) -> Result<Arc<RelyingParty>, NoProvider> {
        if !is_provider_name(name) {
            return Err(NoProvider::Unknown);
        }
        let (slot, is_known) = self.names.slot(name);
        if let (_, Some(valid)) = slot.read(self.now()) {
            return valid;
        }
        let failures = slot.failures.load(Ordering::Acquire);
        // Before the lock of the name: no request waits there for the turn of another client.
        let _turn = if is_known {
            None
        } else {
            let Some(turn) = self.lookups.turn(client).await else {
                self.report("too many names of providers are looked up");
                return Err(NoProvider::Undecided);
            };
            Some(turn)
        };
        let _asking = slot.asking.lock().await;
        let (former, valid) = slot.read(self.now());
        if let Some(valid) = valid {
            return valid;
        }
        if slot.failures.load(Ordering::Acquire) != failures {
            return Err(NoProvider::Undecided);
        }
        let found = match tokio::time::timeout(self.timeout, self.source.registration(name)).await {
            Ok(Ok(registration)) => registration.and_then(|registration| self.made(name, registration, former)),
            Ok(Err(error)) => {
                self.report(&format!("the provider `{name}` cannot be looked up: {error}"));
                return Err(slot.failed());
            }
            Err(_) => {
                let after = self.timeout;
                self.report(&format!("the source of providers did not respond in {after:?}"));
                return Err(slot.failed());
            }
        };
        let ttl = if found.is_some() { KNOWN_TTL } else { UNKNOWN_TTL };
        let until = self.now().saturating_add(ttl);
        self.names.keep(name, slot.clone(), found.is_some());
        let rp = found.as_ref().map(|(_, rp)| rp.clone());
        *slot.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(Answer { until, found });
        rp.ok_or(NoProvider::Unknown)
    }

    /// The relying party of a registration: the former one, with its metadata and keys, if nothing has changed.
    fn made(
        &self,
        name: &str,
        registration: ProviderRegistration,
        former: Option<Answer>,
    ) -> Option<(ProviderRegistration, Arc<RelyingParty>)> {
        let former = former.and_then(|answer| answer.found);
        if let Some(former) = former.filter(|(same, _)| *same == registration) {
            return Some(former);
        }
        match (self.make)(name, &registration) {
            Ok(rp) => Some((registration, Arc::new(rp))),
            Err(cause) => {
                tracing::error!(
                    reason = "provider_not_usable",
                    "the registration of the provider `{name}` is not usable: {cause}"
                );
                None
            }
        }
    }

    /// Logs a failure of the source. Anyone can make up names, so it is an error once in a while only.
    fn report(&self, failure: &str) {
        let (reason, now) = ("provider_undecided", self.now());
        let last = self.reported.load(Ordering::Relaxed);
        let is_due = now >= last.saturating_add(REPORT_PAUSE);
        let exchange = |to| {
            self.reported
                .compare_exchange(last, to, Ordering::Relaxed, Ordering::Relaxed)
        };
        if is_due && exchange(now).is_ok() {
            tracing::error!(reason, "{failure}");
        } else {
            tracing::debug!(reason, "{failure}");
        }
    }

    fn now(&self) -> i64 {
        self.clock.now().unix_timestamp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Anyone can make up names: they are bounded, and evict no provider.
    #[test]
    fn unknown_names_evict_no_provider() {
        let names = Names::new(2, 3);
        let (acme, is_known) = names.slot("acme");
        assert!(!is_known);
        names.keep("acme", acme.clone(), true);
        for n in 0..100 {
            let name = format!("made-up-{n}");
            let (slot, is_known) = names.slot(&name);
            assert!(!is_known);
            names.keep(&name, slot, false);
        }
        names.unknown.run_pending_tasks();
        assert_eq!(names.unknown.entry_count(), 3);
        let (kept, is_known) = names.slot("acme");
        assert!(is_known && Arc::ptr_eq(&kept, &acme));

        // A provider that is gone is an unknown name.
        names.keep("acme", acme, false);
        assert!(!names.slot("acme").1);
    }
}
