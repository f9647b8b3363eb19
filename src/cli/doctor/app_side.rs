//! Checks of the app's side: cookies, session store, and the URLs at which the provider and clients reach it.

use std::{sync::Arc, time::Duration};

use serde_json::Value;
use url::Url;

use super::{Doctor, reach::Found};
use crate::{
    cli::Failure,
    clock::Clock,
    cookies::Cookies,
    printable::printable,
    provider::{Endpoint, Provider, ProviderError},
    relying_party::PostLogout,
    resource_server::metadata_urls,
    secret::Secret,
    session::{
        Sessions,
        store::{SessionStore, StoreError, StoredSession},
    },
    settings::{Settings, Site, is_loopback, resource_identifier},
    token::parse_object,
};

/// Not a certificate in any format.
const FORGED: &str = "forged by rocket-oidc doctor";

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
            Err(error) => return self.report.error(CHECK, error),
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
            Err(failure) => self.report.error(CHECK, failure),
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
            Some(mount) => format!("set `mount` to `{mount}`, or configure the proxy to forward this path to {path}"),
            None => format!("configure the proxy to forward this path to {path}, or register another redirect URI"),
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
            let is_api = is_alone || settings.resource.is_some();
            let by = ["`resource`", "`base_url`"];
            self.protected_resource(provider, "resource metadata", resource, is_api, settings, &by)
                .await;
        }
        for (name, api) in &settings.apis {
            let (check, by) = (
                format!("apis.{name} resource metadata"),
                format!("`apis.{name}.resource`"),
            );
            self.protected_resource(provider, &check, &api.resource, true, settings, &[&by])
                .await;
        }
    }

    /// The settings `by` define the URL. If no setting declares an API, `is_api` is `false`.
    async fn protected_resource(
        &mut self,
        provider: &Provider,
        check: &str,
        resource: &Url,
        is_api: bool,
        settings: &Settings,
        by: &[&str],
    ) {
        let identifier = resource_identifier(resource);
        let [url, standard] = metadata_urls(resource, settings);
        let work = provider.visit(Endpoint::Metadata, &url);
        let reply = match self.terminal.wait("calling the app", work).await {
            Ok(reply) => reply,
            Err(_) if !is_api => return,
            Err(error) => return self.app_unreachable(check, &url, error, "clients need", &by.join(" or ")),
        };
        let document = parse_object(reply.body()).unwrap_or_default();
        let found = document.get("resource").and_then(Value::as_str);
        let finding = match (reply.status().as_u16(), found) {
            (200, Some(found)) if found == identifier => {
                self.report.ok(check, format!("the app responds at {url}"));
                self.forged_certificate(provider, &url, settings).await;
                return self.standard_metadata(provider, check, (&url, &standard)).await;
            }
            _ if !is_api => return,
            (200, Some(found)) => format!("{url} has the `resource` {}, expected {identifier}", printable(found)),
            (200, None) => format!("{url} responds with something other than the metadata"),
            (status, _) => format!("{url} responds with status {status}"),
        };
        let settings = by.join(", ");
        let remedy =
            format!("check {settings}, and that the proxy in front of the app forwards GET requests to this path");
        self.report.failure(check, finding, remedy);
    }

    /// Sends a forged header of a client certificate: a proxy that passes it on would let clients name any certificate.
    async fn forged_certificate(&mut self, provider: &Provider, url: &Url, settings: &Settings) {
        const CHECK: &str = "client certificates";
        let own = &settings.client_certificate;
        if own.format.is_none() {
            return;
        }
        let header = own.header();
        let work = provider.visit_with(Endpoint::Metadata, url, (header, FORGED));
        let reply = match self.terminal.wait("calling the app", work).await {
            Ok(reply) => reply,
            Err(error) => return self.app_unreachable(CHECK, url, error, "clients need", "`base_url`"),
        };
        let reason = String::from_utf8_lossy(reply.body());
        match (reply.status().as_u16(), reason.trim()) {
            (200, _) => {
                let finding = format!("a forged `{header}` does not reach the app");
                self.report.ok(CHECK, finding);
            }
            (400, "client_certificate_untrusted") => self.report.warning(
                CHECK,
                format!("a forged `{header}` is refused, and so is any certificate: it comes from a peer that is not in `client_certificate.proxies`"),
                "if there is a proxy at this URL, add its address to `client_certificate.proxies`",
            ),
            (400, _) => self.report.failure(
                CHECK,
                format!("a forged `{header}` reaches the app by a trusted proxy: a client can name any certificate"),
                "have the proxy set this header in every request, in each `location`; see the page on deployment",
            ),
            (status, _) => self.report.warning(
                CHECK,
                format!("{url} responds with status {status} to a forged `{header}`"),
                "check that the proxy sets this header in every request",
            ),
        }
    }

    /// Checks that an app below a path is also found by clients that derive the URL from the identifier.
    async fn standard_metadata(&mut self, provider: &Provider, check: &str, (url, standard): (&Url, &Url)) {
        if url == standard {
            return;
        }
        let work = provider.visit(Endpoint::Metadata, standard);
        let reply = self.terminal.wait("calling the app", work).await;
        if reply.is_ok_and(|reply| reply.status() == 200) {
            return;
        }
        self.report.warning(
            check,
            format!("the metadata is not at {standard}, where clients look that have not called the API"),
            format!(
                "configure the proxy to forward {} to the app unchanged",
                standard.path()
            ),
        );
    }

    /// Checks that the proxy forwards the path of the app as the settings say: a route of the app, which redirects to one
    /// of its pages, is there.
    pub(super) async fn path(&mut self, provider: &Provider, settings: &Settings, site: &Site) {
        const CHECK: &str = "path";
        let (paths, base) = (&site.paths, site.paths.base());
        if base.is_empty() {
            return;
        }
        let url = site.url(&paths.route("logged-out"));
        let work = provider.visit(Endpoint::Metadata, &url);
        let reply = match self.terminal.wait("calling the app", work).await {
            Ok(reply) => reply,
            Err(error) => return self.app_unreachable(CHECK, &url, error, "users need", "`base_url`"),
        };
        let location = reply
            .headers()
            .get("location")
            .and_then(|location| location.to_str().ok());
        let target = location.and_then(|location| url.join(location).ok());
        let page = PostLogout::new(settings, site)
            .local_path
            .unwrap_or_else(|| paths.home());
        if target.as_ref().is_some_and(|target| target.path() == page) {
            let how = if paths.is_stripped() { "stripped" } else { "kept" };
            let finding = format!("the app responds at {url}; its proxy is expected to have {how} `{base}`");
            return self.report.ok(CHECK, finding);
        }
        let answer = match target {
            Some(target) => format!("a redirect to {}", printable(target.path())),
            None => format!("status {}", reply.status().as_u16()),
        };
        let finding = format!("{url} responds with {answer}, expected a redirect to {page}");
        let (does, setting) = if paths.is_stripped() {
            ("keeps", "remove `proxy_strips_path`")
        } else {
            ("removes", "set `proxy_strips_path = true`")
        };
        let remedy =
            format!("if the proxy {does} `{base}`, {setting}; otherwise check that it forwards this URL to the app");
        self.report.failure(CHECK, finding, remedy);
    }

    /// Reports that a URL of the app was not reached: the app may not run, and this machine does not call plain http.
    pub(super) fn app_unreachable(
        &mut self,
        check: &str,
        url: &Url,
        error: ProviderError,
        needed_by: &str,
        settings: &str,
    ) {
        let no_response = format!("no response from {url}");
        let remedy = format!("start the app and run this command again; {needed_by} access to this URL too");
        let (finding, remedy) = match error {
            ProviderError::NotHttps { .. } => (
                format!("{url} was not requested, because it is plain http"),
                format!("set {settings} to an https URL"),
            ),
            ProviderError::Unreachable { cause, .. } => (format!("{no_response}: {cause}"), remedy),
            _ => (no_response, remedy),
        };
        self.report.warning(check, finding, remedy);
    }

    /// Checks the session cookie's attributes, and whether browsers will send it.
    fn cookie(&mut self, cookie: &str, site: &Site, is_debug: bool) {
        const CHECK: &str = "cookies";
        let base_url = site.base_url.as_str().trim_end_matches('/');
        let finding = format!("{cookie}, for {base_url}");
        if site.secure || (is_debug && is_loopback(&site.base_url)) {
            return self.report.ok(CHECK, finding);
        }
        let problem = if is_loopback(&site.base_url) {
            "which is reachable from this machine only"
        } else {
            "without TLS: anyone on the network path can read them"
        };
        let remedy = "set `base_url` to the public https URL of the app";
        self.report.warning(CHECK, format!("{finding}, {problem}"), remedy);
    }

    /// Checks whether the provider could notify the app that a session has ended (Back-Channel Logout 1.0 §2.8: the
    /// app rejects an invalid logout token with 400).
    pub(super) async fn backchannel_logout(&mut self, provider: &Provider, found: &Found, site: &Site) {
        const CHECK: &str = "back-channel logout";
        if found.document.get("backchannel_logout_supported") != Some(&Value::Bool(true)) {
            let finding = "not supported by the provider; sessions end when a refresh is rejected";
            return self.report.ok(CHECK, finding);
        }
        let url = site.url(&site.paths.route("backchannel-logout"));
        let work = provider.post_nothing(Endpoint::Metadata, &url);
        let answer = self.terminal.wait("calling the app", work).await;
        match answer.map(|reply| reply.status().as_u16()) {
            Ok(400) => self.report.ok(CHECK, format!("the app responds at {url}")),
            Ok(status) => self.report.failure(
                CHECK,
                format!("{url} responds with status {status}, expected the app's 400"),
                "check `base_url`, `mount`, and that the proxy in front of the app forwards POST requests to this path",
            ),
            Err(error) => self.app_unreachable(CHECK, &url, error, "the provider needs", "`base_url`"),
        }
    }
}

/// Tries the operations that the app needs: writes, reads and deletes an entry, and a session if the store holds
/// sessions. Leaves nothing behind.
async fn try_out(store: &dyn SessionStore, has_sessions: bool) -> Result<(), Failure> {
    const TTL: Duration = Duration::from_secs(60);
    let cannot =
        |what: &'static str| move |error: StoreError| Failure::new(format!("{what}: {}", error.cause), error.remedy());
    let wrong = |finding: &str| Failure::new(finding, StoreError::new(finding).remedy());
    let id = Secret::random().expose().to_owned();
    let name = format!("rocket-oidc doctor {id}");
    let read = async || store.entries(&[&name]).await;

    read().await?;
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
