//! Whether this node can serve users, for readiness probes.

use std::{fmt, io::Cursor, sync::Arc, time::Duration};

use rocket::{
    Request, Response,
    futures::future::join,
    http::{ContentType, Header, Status},
    response::{self, Responder},
};
use time::OffsetDateTime;
use tokio::sync::Mutex;

use super::{RelyingParty, Source};
use crate::{provider::Provider, resource_server::ResourceServer, session::Sessions};

/// The longest time that a probe waits for the provider, if metadata or keys were never read.
const PROVIDER_TIMEOUT: Duration = Duration::from_millis(500);
/// How long an answer of the store counts for all probes.
const STORE_INTERVAL: Duration = Duration::from_secs(1);
/// The longest time that a probe waits for the store.
const STORE_TIMEOUT: Duration = Duration::from_secs(1);

/// Whether this node of the app can serve users: it knows the provider's metadata and keys, and its session store
/// responds. It is a guard and a response, for the readiness probe of a load balancer or of Kubernetes:
///
/// ```
/// use rocket::get;
/// use rocket_openidconnect::Readiness;
///
/// #[get("/ready")]
/// fn ready(readiness: Readiness) -> Readiness {
///     readiness
/// }
/// ```
///
/// The response is 200 with `ready`, or 503 with what is missing, by name only: `not ready: store`. It is never stored by
/// caches.
///
/// - `metadata`, `keys`: of the app's provider. They count as known once they were read, so that an outage of the
///   provider later does not make every node of the app unready. While they are
///   missing, a probe has them read in the background, with the back-off of a sign-in, and waits half a second for it;
///   afterwards no probe calls the provider. Of several providers, and of the
///   setting `issuers`, none counts, because they are read when they are needed.
/// - `store`: the session store responds to a read within a second. It is asked once a second, however many probes
///   there are. Sessions in cookies without `session.store_url`, and in memory, are always there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readiness {
    missing: Vec<&'static str>,
}

impl Readiness {
    /// Whether nothing is missing.
    pub fn is_ready(&self) -> bool {
        self.missing.is_empty()
    }

    /// What is missing, of `metadata`, `keys` and `store`, in this order.
    pub fn missing(&self) -> &[&'static str] {
        &self.missing
    }

    /// The readiness of an app without sign-in, which accepts the access tokens of its provider.
    pub(crate) async fn of_api(server: &ResourceServer) -> Readiness {
        match server.own_provider() {
            Some(provider) => Readiness::of_provider(provider, server.needs_keys(), server.clock.now()).await,
            None => Readiness { missing: vec![] },
        }
    }

    async fn of_provider(provider: &Arc<Provider>, needs_keys: bool, now: OffsetDateTime) -> Readiness {
        let mut missing = provider.missing(needs_keys);
        if !missing.is_empty() {
            provider.read_missing(needs_keys, now, PROVIDER_TIMEOUT).await;
            missing = provider.missing(needs_keys);
        }
        Readiness { missing }
    }
}

/// `ready`, or `not ready: ` and what is missing.
impl fmt::Display for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_ready() {
            f.write_str("ready")
        } else {
            write!(f, "not ready: {}", self.missing.join(", "))
        }
    }
}

impl<'r> Responder<'r, 'static> for Readiness {
    fn respond_to(self, _: &'r Request<'_>) -> response::Result<'static> {
        let status = if self.is_ready() {
            Status::Ok
        } else {
            Status::ServiceUnavailable
        };
        let body = format!("{self}\n");
        Response::build()
            .status(status)
            .header(ContentType::Plain)
            .header(Header::new("Cache-Control", "no-store"))
            .sized_body(body.len(), Cursor::new(body))
            .ok()
    }
}

/// The last answer of the session store to a probe.
#[derive(Debug, Default)]
pub(crate) struct StoreProbe(Mutex<Option<Answer>>);

#[derive(Clone, Copy, Debug)]
struct Answer {
    at: OffsetDateTime,
    is_good: bool,
}

impl StoreProbe {
    /// Whether the store responds. One probe at a time asks it; the others wait for its answer.
    async fn is_good(&self, sessions: &Sessions, now: OffsetDateTime) -> bool {
        let mut last = self.0.lock().await;
        if let Some(answer) = *last
            && (now - answer.at).unsigned_abs() < STORE_INTERVAL
        {
            return answer.is_good;
        }
        let name = sessions.names.probe();
        let names = [&*name];
        let asked = tokio::time::timeout(STORE_TIMEOUT, sessions.store.entries(&names));
        let was_good = last.is_none_or(|answer| answer.is_good);
        let is_good = match asked.await {
            Ok(Ok(_)) => {
                if !was_good {
                    tracing::info!("the session store responds again; this node is ready");
                }
                true
            }
            Ok(Err(error)) => {
                if was_good {
                    tracing::warn!(reason = "store_unavailable", "{error}; this node is not ready");
                    tracing::info!("{}", error.remedy());
                }
                false
            }
            Err(_) => {
                if was_good {
                    let seconds = STORE_TIMEOUT.as_secs();
                    tracing::warn!(
                        reason = "store_unavailable",
                        "the session store did not respond within {seconds} s; this node is not ready"
                    );
                }
                false
            }
        };
        *last = Some(Answer { at: now, is_good });
        is_good
    }
}

impl RelyingParty {
    /// Whether this node can serve users. In an app whose tenants have a provider each, use the guard [`Readiness`]: a
    /// probe belongs to no tenant.
    pub async fn ready(&self) -> Readiness {
        let now = self.clock.now();
        let of_provider = async {
            match &self.source {
                // Of several providers, each is read when it is needed.
                Source::Provider(provider) if self.settings.provider_name.is_none() => {
                    Readiness::of_provider(provider, true, now).await
                }
                Source::Provider(_) | Source::Several(_) | Source::TestingProfile(_) => Readiness { missing: vec![] },
            }
        };
        let (mut readiness, is_store_good) = join(of_provider, self.readiness.is_good(&self.sessions, now)).await;
        if !is_store_good {
            readiness.missing.push("store");
        }
        readiness
    }
}
