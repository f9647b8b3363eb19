//! Checks of GitHub, which is not an OpenID provider: the API, the client, and what cannot be checked.

use std::sync::Arc;

use super::{Doctor, now};
use crate::{
    provider::{Endpoint, Provider},
    settings::Site,
};

impl Doctor {
    /// Checks GitHub and the app's registration there.
    pub(super) async fn github(&mut self, provider: &Arc<Provider>, site: Option<&Site>) {
        const CHECK: &str = "connection";
        let url = provider.first_url();
        let work = provider.visit(Endpoint::UserApi, url);
        let asked = now();
        let reply = match self.terminal.wait("calling GitHub's API", work).await {
            Ok(reply) => reply,
            Err(error) => {
                self.report.error(CHECK, error);
                return self.report.not_checked(&["clock", "client authentication"]);
            }
        };
        match reply.status().as_u16() {
            // The request has no access token.
            401 => self.report.ok(CHECK, format!("connected to {url}")),
            status => self.report.warning(
                CHECK,
                format!("{url} responds with status {status}, expected 401"),
                "check that `provider.url` is the address of GitHub Enterprise, or wait if it is a rate limit",
            ),
        }
        self.clock(reply.headers(), asked, provider.settings.clock_skew, "");
        let metadata = match provider.current_metadata().await {
            Ok(metadata) => metadata,
            Err(error) => return self.report.error("endpoints", error),
        };
        self.client_authentication(provider, &metadata).await;
        let scopes = provider.settings.scopes.join(" ");
        let finding = format!("{scopes}; a GitHub App has permissions instead, such as \"Email addresses\"");
        self.report.ok("scopes", finding);
        if let Some(site) = site {
            let finding = format!(
                "not checked, because GitHub shows its sign-in page first; register {} as the callback URL",
                site.redirect_uri
            );
            self.report.ok("redirect URI", finding);
        }
        let finding = "ends the app's session only, and revokes its access token: GitHub has no end-session endpoint";
        self.report.ok("sign-out", finding);
    }
}
