//! Checks of the app's side: cookies, session store, and the URLs at which the provider and clients reach it.

use std::{sync::Arc, time::Duration};

use serde_json::Value;
use url::Url;

use super::{Doctor, reach::Found};
use crate::{
    clock::Clock,
    cookies::Cookies,
    printable::printable,
    provider::{Endpoint, Provider, ProviderError},
    secret::Secret,
    session::{
        Sessions,
        store::{SessionStore, StoreError, StoredSession},
    },
    settings::{Settings, Site, is_loopback, resource_identifier},
    token::parse_object,
};

/// The protected resource metadata of an API, as the settings publish it.
struct ProtectedResource<'a> {
    /// The name of the check in the report.
    check: String,
    resource: &'a Url,
    /// Whether the settings declare an API.
    is_api: bool,
    /// The settings that define its URL.
    settings: String,
}

impl Doctor {
    /// Checks the session cookie, whether browsers will send it, and the session store.
    pub(super) async fn session(
        &mut self,
        settings: &Arc<Settings>,
        site: &Site,
        cookies: &Cookies,
        issuer: &str,
        is_debug: bool,
    ) {
        const CHECK: &str = "session store";
        let session = settings.session.clone();
        let sessions = match Sessions::open(session, cookies, issuer, None, &Clock::default()) {
            Ok(sessions) => sessions,
            Err(error) => {
                return self.report.failure(CHECK, error.to_string(), error.remedy());
            }
        };
        self.cookie(&sessions.describe_cookie(), site, is_debug);
        let work = try_out(&*sessions.store, !sessions.is_in_cookies());
        match self.terminal.wait("calling the session store", work).await {
            Ok(()) => {
                self.report.ok(CHECK, sessions.describe());
                if let Some(size) = sessions.describe_size() {
                    self.report.ok("session size", size);
                }
            }
            Err(Unusable { finding, error }) => {
                self.report.failure(CHECK, finding, error.remedy());
            }
        }
    }

    /// Checks that the redirect URI has the path of the callback route. A proxy may rewrite the path.
    pub(super) fn callback(&mut self, site: &Site) {
        let (uri, path) = (&site.redirect_uri, &site.callback_path);
        if uri.path() == path {
            return;
        }
        let remedy = match uri.path().strip_suffix("/authorize") {
            Some("") => "set `mount` to `/`".to_owned(),
            Some(mount) => {
                format!("set `mount` to `{mount}`, or configure the proxy to forward this path to {path}")
            }
            None => format!(
                "configure the proxy in front of the app to forward it to {path}, or register another \
                             redirect URI"
            ),
        };
        let finding = format!("the path of {uri} is not the callback path {path}");
        self.report.warning("callback", finding, remedy);
    }

    /// Checks that clients find the metadata of each API (RFC 9728 §3), if it is published. If no setting declares an
    /// API, the app may have none, and a failure is not reported.
    pub(super) async fn protected_resources(
        &mut self,
        provider: &Provider,
        settings: &Settings,
        base_url: Option<&Url>,
    ) {
        if !settings.resource_metadata {
            return;
        }
        if let Some(resource) = settings.resource.as_ref().or(base_url) {
            let is_alone = settings.resource_server_only && settings.apis.is_empty();
            let published = ProtectedResource {
                check: "resource metadata".to_owned(),
                resource,
                is_api: is_alone || settings.resource.is_some(),
                settings: "`resource`, `base_url`".to_owned(),
            };
            self.protected_resource(provider, published).await;
        }
        for (name, api) in &settings.apis {
            let published = ProtectedResource {
                check: format!("apis.{name} resource metadata"),
                resource: &api.resource,
                is_api: true,
                settings: format!("`apis.{name}.resource`"),
            };
            self.protected_resource(provider, published).await;
        }
    }

    async fn protected_resource(&mut self, provider: &Provider, published: ProtectedResource<'_>) {
        let ProtectedResource {
            check,
            resource,
            is_api,
            settings,
        } = published;
        let check = &*check;
        let identifier = resource_identifier(resource);
        let origin = resource.origin().ascii_serialization();
        let path = identifier.strip_prefix(&origin).unwrap_or_default();
        let url = format!("{origin}/.well-known/oauth-protected-resource{path}");
        let Ok(url) = Url::parse(&url) else {
            return;
        };
        let work = provider.visit(Endpoint::Metadata, &url);
        let reply = match self.terminal.wait("calling the app", work).await {
            Ok(reply) => reply,
            Err(_) if !is_api => return,
            Err(ProviderError::NotHttps { .. }) => {
                let finding = format!("{url} was not requested, because it is plain http");
                let remedy = format!("set {} to an https URL", settings.replace(", ", " or "));
                return self.report.warning(check, finding, remedy);
            }
            Err(error) => {
                let why = match error {
                    ProviderError::Unreachable { cause, .. } => format!(": {cause}"),
                    _ => String::new(),
                };
                let finding = format!("no response from {url}{why}");
                let remedy = "start the app and run this command again; clients need access to this URL too";
                return self.report.warning(check, finding, remedy);
            }
        };
        let remedy = format!(
            "check {settings}, and that the proxy in front of the app forwards GET requests to this \
                              path"
        );
        let document = parse_object(reply.body()).unwrap_or_default();
        let found = document.get("resource").and_then(Value::as_str);
        match (reply.status().as_u16(), found) {
            (200, Some(found)) if found == identifier => {
                self.report.ok(check, format!("the app responds at {url}"));
            }
            _ if !is_api => {}
            (200, Some(found)) => {
                let found = printable(found);
                let finding = format!("{url} has the `resource` {found}, expected {identifier}");
                self.report.failure(check, finding, remedy);
            }
            (200, None) => {
                let finding = format!("{url} responds with something other than the metadata");
                self.report.failure(check, finding, remedy);
            }
            (status, _) => {
                let finding = format!("{url} responds with status {status}");
                self.report.failure(check, finding, remedy);
            }
        }
    }

    /// Checks the session cookie's attributes, and whether browsers will send it.
    fn cookie(&mut self, cookie: &str, site: &Site, is_debug: bool) {
        const CHECK: &str = "cookies";
        let base_url = site.base_url.as_str().trim_end_matches('/');
        let finding = format!("{cookie}, for {base_url}");
        match (site.secure, is_loopback(&site.base_url)) {
            (true, _) => self.report.ok(CHECK, finding),
            (false, true) if is_debug => self.report.ok(CHECK, finding),
            (false, true) => self.report.warning(
                CHECK,
                format!("{finding}, which is reachable from this machine only"),
                "set `base_url` to the public https URL of the app",
            ),
            (false, false) => self.report.warning(
                CHECK,
                format!("{finding}, without TLS: anyone on the network path can read them"),
                "set `base_url` to an https URL",
            ),
        }
    }

    /// Checks whether the provider could notify the app that a session has ended (Back-Channel Logout 1.0 §2.8: the
    /// app rejects an invalid logout token with 400).
    pub(super) async fn backchannel_logout(&mut self, provider: &Provider, found: &Found, site: &Site) {
        const CHECK: &str = "back-channel logout";
        if found.document.get("backchannel_logout_supported") != Some(&Value::Bool(true)) {
            let finding = "not supported by the provider; sessions end when a refresh is rejected";
            return self.report.ok(CHECK, finding);
        }
        let mount = site.mount.trim_end_matches('/');
        let Ok(url) = Url::join(&site.base_url, &format!("{mount}/backchannel-logout")) else {
            return;
        };
        let work = provider.post_nothing(Endpoint::Metadata, &url);
        let answer = self.terminal.wait("calling the app", work).await;
        match answer.map(|reply| reply.status().as_u16()) {
            Ok(400) => self.report.ok(CHECK, format!("the app responds at {url}")),
            Ok(status) => self.report.failure(
                CHECK,
                format!("{url} responds with status {status}, expected the app's 400"),
                "check `base_url`, `mount`, and that the proxy in front of the app forwards POST requests to this path",
            ),
            // The URL may be right, but this machine does not call plain http.
            Err(ProviderError::NotHttps { .. }) => {
                let finding = format!("{url} was not requested, because it is plain http");
                let remedy = "set `base_url` to an https URL";
                self.report.warning(CHECK, finding, remedy);
            }
            Err(error) => self.report.warning(
                CHECK,
                match error {
                    ProviderError::Unreachable { cause, .. } => {
                        format!("no response from {url}: {cause}")
                    }
                    _ => format!("no response from {url}"),
                },
                "start the app and run this command again; the provider needs access to this URL too",
            ),
        }
    }
}

/// A failed operation of a session store, and its error.
struct Unusable {
    finding: String,
    error: StoreError,
}

/// Tries the operations that the app needs: writes, reads and deletes an entry, and a session if the store holds
/// sessions. Leaves nothing behind.
async fn try_out(store: &dyn SessionStore, has_sessions: bool) -> Result<(), Unusable> {
    const TTL: Duration = Duration::from_secs(60);
    let cannot = |what: &'static str| {
        move |error: StoreError| Unusable {
            finding: format!("{what}: {}", error.cause),
            error,
        }
    };
    let wrong = |finding: &str| Unusable {
        finding: finding.to_owned(),
        error: StoreError::new(finding),
    };
    let id = Secret::random().expose().to_owned();
    let name = format!("rocket-oidc doctor {id}");
    let read = async || store.entries(&[&name]).await;

    read().await.map_err(|error| Unusable {
        finding: error.to_string(),
        error,
    })?;
    let written = store.put_entry(&name, "written", TTL).await;
    written.map_err(cannot("an entry cannot be written"))?;
    let found = read().await.map_err(cannot("an entry cannot be read"))?;
    let deleted = store.unlock(&name, "written").await;
    if found != [Some("written".to_owned())] {
        return Err(wrong("an entry that was written was not found"));
    }
    deleted.map_err(cannot("an entry cannot be deleted"))?;
    if read().await.map_err(cannot("an entry cannot be read"))? != [None] {
        return Err(wrong("an entry that was deleted was still found"));
    }
    if !has_sessions {
        return Ok(());
    }

    let session = StoredSession {
        id,
        version: 1,
        value: "rocket-oidc doctor".to_owned(),
        index_keys: vec![Secret::random().expose().to_owned()],
    };
    let written = store.create(&session, TTL).await;
    written.map_err(cannot("a session cannot be written"))?;
    let found = store.load(&session.id).await;
    let next = StoredSession {
        version: 2,
        ..session.clone()
    };
    let replaced = store.replace(&next, TTL).await;
    let deleted = store.remove(&session.id).await;
    let found = found.map_err(cannot("a session cannot be read"))?;
    if found.as_deref() != Some(&session) {
        return Err(wrong("a session that was written was not found"));
    }
    if !replaced.map_err(cannot("a session cannot be replaced"))? {
        return Err(wrong("a session that was written cannot be replaced"));
    }
    if deleted.map_err(cannot("a session cannot be deleted"))? {
        Ok(())
    } else {
        Err(wrong("a session that was written was not found"))
    }
}
