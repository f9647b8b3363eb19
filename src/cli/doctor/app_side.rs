//! The app's own side: its cookies, its session store, and where the provider reaches it.

use std::sync::Arc;

use serde_json::Value;
use url::Url;

use super::{Doctor, reach::Found};
use crate::{
    Clock, ProviderError,
    cookies::Cookies,
    provider::{Endpoint, Provider, http_client::is_loopback},
    session::Sessions,
    settings::{Settings, Site},
};

impl Doctor {
    /// The session's cookie and whether browsers will send it, and the session store.
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
                return self
                    .report
                    .failure(CHECK, error.to_string(), error.remedy());
            }
        };
        self.cookie(&sessions.describe_cookie(), site, is_debug);
        let work = sessions.store.notes(&["rocket-oidc doctor"]);
        match self.terminal.wait("asking the session store", work).await {
            Ok(_) => {
                self.report.ok(CHECK, sessions.describe());
                if let Some(size) = sessions.describe_size() {
                    self.report.ok("session size", size);
                }
            }
            Err(error) => self
                .report
                .failure(CHECK, error.to_string(), error.remedy()),
        }
    }

    /// The session cookie's attributes, and whether browsers will send it.
    fn cookie(&mut self, cookie: &str, site: &Site, is_debug: bool) {
        const CHECK: &str = "cookies";
        let base_url = site.base_url.as_str().trim_end_matches('/');
        let finding = format!("{cookie}, for {base_url}");
        match (site.secure, is_loopback(&site.base_url)) {
            (true, _) => self.report.ok(CHECK, finding),
            (false, true) if is_debug => self.report.ok(CHECK, finding),
            (false, true) => self.report.warning(
                CHECK,
                format!("{finding}, which only this machine reaches"),
                "set `base_url` to the public address of the app, with https",
            ),
            (false, false) => self.report.warning(
                CHECK,
                format!("{finding}, without TLS: whoever is on the way reads them"),
                "set `base_url` to an address with https",
            ),
        }
    }

    /// Whether the provider could tell the app that a session has ended
    /// (Back-Channel Logout 1.0 §2.8: what is no logout token is refused with 400).
    pub(super) async fn backchannel_logout(
        &mut self,
        provider: &Provider,
        found: &Found,
        site: &Site,
    ) {
        const CHECK: &str = "back-channel logout";
        if found.document.get("backchannel_logout_supported") != Some(&Value::Bool(true)) {
            let finding =
                "the provider does not announce it; sessions end when a refresh is refused";
            return self.report.ok(CHECK, finding);
        }
        let mount = site.mount.trim_end_matches('/');
        let Ok(url) = Url::join(&site.base_url, &format!("{mount}/backchannel-logout")) else {
            return;
        };
        let work = provider.post_nothing(Endpoint::Metadata, &url);
        let answer = self.terminal.wait("asking the app", work).await;
        match answer.map(|reply| reply.status().as_u16()) {
            Ok(400) => self.report.ok(CHECK, format!("the app answers at {url}")),
            Ok(status) => self.report.failure(
                CHECK,
                format!("{url} answers with status {status}, not 400 as the app would"),
                "check `base_url`, `mount`, and that the proxy before the app leads POST there",
            ),
            // Nothing is wrong with the address: this machine would not call it.
            Err(ProviderError::NotHttps { .. }) => {
                let finding = format!("{url} is not called, because it is plain http");
                let remedy = "set `base_url` to an address with https";
                self.report.warning(CHECK, finding, remedy);
            }
            Err(error) => self.report.warning(
                CHECK,
                match error {
                    ProviderError::Unreachable { cause, .. } => {
                        format!("nobody answers at {url}: {cause}")
                    }
                    _ => format!("nobody answers at {url}"),
                },
                "start the app, and run this again; the provider must reach it there too",
            ),
        }
    }
}
