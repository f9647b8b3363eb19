//! Checks that the provider's other endpoints exist and respond.

use url::Url;

use super::{Doctor, now, registration::remedy};
use crate::{
    provider::{Endpoint, Metadata, Provider, ProviderError, TokenTypeHint},
    relying_party::PostLogout,
    secret::Secret,
    settings::{Site, TokenValidation},
    token::{Accepts, Document},
};

impl Doctor {
    /// Reports which tokens of an issuer an API accepts in addition to access tokens.
    pub(super) fn accepts(&mut self, accepts: Accepts, metadata: &Metadata, prefix: &str) {
        if let Some(tokens) = accepts.describe(metadata.issues_only_identity_tokens) {
            self.report.ok(&format!("{prefix}accepts"), format!("also {tokens}"));
        }
    }

    /// Reports whether tokens are bound to keys (DPoP).
    pub(super) fn binding(&mut self, provider: &Provider, metadata: &Metadata) {
        if let Some(binding) = provider.describe_binding(Some(metadata)) {
            self.report.ok("bound tokens", binding);
        }
    }

    pub(super) async fn user_info(&mut self, provider: &Provider, metadata: &Metadata) {
        const CHECK: &str = "UserInfo";
        if !provider.settings.user_info_enabled {
            return self.report.ok(CHECK, "not requested: `user_info_enabled` is `false`");
        }
        let Some(endpoint) = metadata.userinfo_endpoint.as_ref() else {
            return self
                .report
                .ok(CHECK, "not requested: the provider has no UserInfo endpoint");
        };
        // Core §5.3.3: the endpoint rejects a request without a token.
        self.visit(provider, CHECK, Endpoint::UserInfo, endpoint).await;
    }

    pub(super) async fn end_session(&mut self, provider: &Provider, metadata: &Metadata, site: &Site) {
        const CHECK: &str = "sign-out";
        if !provider.settings.rp_initiated_logout {
            return self
                .report
                .ok(CHECK, "ends the app's session only: `rp_initiated_logout` is `false`");
        }
        match metadata.end_session_endpoint.as_ref() {
            Some(url) => self.post_logout(provider, url, site).await,
            None => self.report.ok(
                CHECK,
                "ends the app's session only: the provider has no end-session endpoint",
            ),
        }
    }

    /// Requests a sign-out without a session, with the address to come back to: a provider refuses one that is not registered
    /// ([RP-Initiated Logout 1.0 §3](https://openid.net/specs/openid-connect-rpinitiated-1_0.html#RedirectionAfterLogout)).
    async fn post_logout(&mut self, provider: &Provider, url: &Url, site: &Site) {
        const CHECK: &str = "sign-out";
        /// What pages about it contain, in lower case.
        const WORDS: [&str; 3] = ["post_logout_redirect_uri", "redirect_uri", "redirect uri"];
        let redirect_uri = PostLogout::new(&provider.settings, site).redirect_uri;
        let client_id = &provider.registration.client_id;
        let mut asked = url.clone();
        asked
            .query_pairs_mut()
            .append_pair("client_id", client_id)
            .append_pair("post_logout_redirect_uri", &redirect_uri);
        let work = provider.visit(Endpoint::EndSession, &asked);
        let reply = match self.terminal.wait("calling the end-session endpoint", work).await {
            Ok(reply) => reply,
            Err(error) => return self.report.error(CHECK, error),
        };
        let page = String::from_utf8_lossy(reply.body()).to_ascii_lowercase();
        match reply.status().as_u16() {
            404 | 405 | 500.. => self.report_status(CHECK, url, reply.status().as_u16()),
            status @ 400..500 if WORDS.iter().any(|word| page.contains(word)) => self.report.warning(
                CHECK,
                format!("{redirect_uri} is rejected (status {status}): users do not come back after a sign-out"),
                format!(
                    "register exactly this post-logout redirect URI for `{client_id}` (`rocket-oidc register --update \
                     --post-logout`, or the provider's console), or set `post_logout_redirect_uri` to a registered one"
                ),
            ),
            _ => self.report.ok(CHECK, url.as_str()),
        }
    }

    fn report_status(&mut self, check: &str, url: &Url, status: u16) {
        self.report.warning(
            check,
            format!("{url} responds with status {status}"),
            "check the provider's log; its metadata lists this URL",
        );
    }

    /// Checks that an endpoint responds to a `GET` without parameters.
    async fn visit(&mut self, provider: &Provider, check: &str, endpoint: Endpoint, url: &Url) {
        let work = provider.visit(endpoint, url);
        let asking = format!("calling the {endpoint}");
        match self.terminal.wait(&asking, work).await {
            Ok(reply) => match reply.status().as_u16() {
                status @ (404 | 405 | 500..) => self.report_status(check, url, status),
                _ => self.report.ok(check, url.as_str()),
            },
            Err(error) => self.report.error(check, error),
        }
    }

    /// RFC 7009 §2.2: revoking an unknown token succeeds.
    pub(super) async fn revocation(&mut self, provider: &Provider, metadata: &Metadata) {
        const CHECK: &str = "revocation";
        let Some(url) = metadata.revocation_endpoint.as_ref() else {
            return self.report.ok(
                CHECK,
                "tokens stay valid after sign-out: the provider has no revocation endpoint",
            );
        };
        let token = Secret::random();
        let work = provider.revoke(metadata, &token, TokenTypeHint::RefreshToken, now());
        let answer = self.terminal.wait("calling the revocation endpoint", work);
        match answer.await {
            Ok(()) => self.report.ok(CHECK, url.as_str()),
            Err(error) => {
                let finding = format!("{error}; tokens stay valid after sign-out");
                let remedy = remedy(&error, provider, metadata);
                self.report.warning(CHECK, finding, remedy);
            }
        }
    }

    /// RFC 7662 §2.2: an unknown token is not active.
    pub(super) async fn introspection(&mut self, provider: &Provider, metadata: &Metadata) {
        const CHECK: &str = "introspection";
        let validation = provider.settings.token_validation;
        if !provider.registration.may_introspect(&provider.settings) || validation == TokenValidation::Jwt {
            return;
        }
        let is_needed = validation == TokenValidation::Introspection;
        let Some(endpoint) = provider.introspection_endpoint(Some(metadata)) else {
            if is_needed {
                self.report.failure(
                    CHECK,
                    "`token_validation` is `introspection`, but the provider has no introspection endpoint",
                    "set `token_validation` to `jwt`, or add `token_introspection_uri` to the client secrets",
                );
            }
            return;
        };
        let token = Secret::random();
        let work = provider.introspect(&endpoint, token.expose(), false, None, now());
        let answer = self.terminal.wait("calling the introspection endpoint", work);
        let error = match answer.await {
            Ok(body) if is_inactive(&body) => return self.report.ok(CHECK, endpoint.url),
            Ok(_) => ProviderError::Malformed {
                endpoint: Endpoint::Introspection,
                cause: "the response for an unknown token lacks `\"active\": false`".to_owned(),
            },
            Err(error) => error,
        };
        if is_needed {
            self.report.error(CHECK, error);
        } else {
            let finding = format!("{error}; only APIs that accept opaque tokens need it");
            self.report.warning(CHECK, finding, error.remedy());
        }
    }
}

fn is_inactive(body: &[u8]) -> bool {
    Document::parse(body).is_ok_and(|reply| reply.value("active") == Some(&serde_json::Value::Bool(false)))
}
