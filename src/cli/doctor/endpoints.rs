//! Checks that the provider's other endpoints exist and respond.

use time::OffsetDateTime;
use url::Url;

use super::{Doctor, registration::remedy};
use crate::{
    provider::{Endpoint, Metadata, Provider, ProviderError, TokenTypeHint},
    secret::Secret,
    settings::TokenValidation,
    token::{Accepts, Document},
};

impl Doctor {
    /// Reports which tokens of an issuer an API accepts in addition to access tokens.
    pub(super) fn accepts(&mut self, accepts: Accepts, metadata: &Metadata, prefix: &str) {
        let signs_nobody_in = metadata.issues_only_identity_tokens;
        if let Some(tokens) = accepts.describe(signs_nobody_in) {
            let check = format!("{prefix}accepts");
            self.report.ok(&check, format!("also {tokens}"));
        }
    }

    pub(super) async fn user_info(&mut self, provider: &Provider, metadata: &Metadata) {
        const CHECK: &str = "UserInfo";
        if !provider.settings.user_info_enabled {
            return self.report.ok(CHECK, "not asked (`user_info_enabled`)");
        }
        let Some(endpoint) = metadata.userinfo_endpoint.as_ref() else {
            return self.report.ok(CHECK, "not asked: the provider has no such endpoint");
        };
        // Core §5.3.3: the endpoint rejects a request without a token.
        self.visit(provider, CHECK, Endpoint::UserInfo, endpoint).await;
    }

    pub(super) async fn end_session(&mut self, provider: &Provider, metadata: &Metadata) {
        const CHECK: &str = "sign-out";
        if !provider.settings.rp_initiated_logout {
            return self
                .report
                .ok(CHECK, "ends the session here only (`rp_initiated_logout`)");
        }
        match metadata.end_session_endpoint.as_ref() {
            Some(url) => {
                self.visit(provider, CHECK, Endpoint::EndSession, url).await;
            }
            None => self.report.ok(
                CHECK,
                "ends the session here only: the provider has no end session endpoint",
            ),
        }
    }

    /// Checks that an endpoint responds to a `GET` without parameters.
    async fn visit(&mut self, provider: &Provider, check: &str, endpoint: Endpoint, url: &Url) {
        let work = provider.visit(endpoint, url);
        let asking = format!("asking the {endpoint}");
        match self.terminal.wait(&asking, work).await {
            Ok(reply) => match reply.status().as_u16() {
                status @ (404 | 405 | 500..) => self.report.warning(
                    check,
                    format!("{url} answers with status {status}"),
                    "look into the provider's log; its metadata names this address",
                ),
                _ => self.report.ok(check, url.as_str()),
            },
            Err(error) => self.report.failure(check, error.to_string(), error.remedy()),
        }
    }

    /// RFC 7009 §2.2: revoking an unknown token succeeds.
    pub(super) async fn revocation(&mut self, provider: &Provider, metadata: &Metadata, now: OffsetDateTime) {
        const CHECK: &str = "revocation";
        let Some(url) = metadata.revocation_endpoint.as_ref() else {
            return self.report.ok(
                CHECK,
                "tokens live on after sign-out: the provider has no such endpoint",
            );
        };
        let token = Secret::random();
        let work = provider.revoke(metadata, &token, TokenTypeHint::RefreshToken, now);
        let answer = self.terminal.wait("asking the revocation endpoint", work);
        match answer.await {
            Ok(()) => self.report.ok(CHECK, url.as_str()),
            Err(error) => {
                let finding = format!("{error}; tokens would live on after sign-out");
                let remedy = remedy(&error, provider, metadata);
                self.report.warning(CHECK, finding, remedy);
            }
        }
    }

    /// RFC 7662 §2.2: an unknown token is not active.
    pub(super) async fn introspection(&mut self, provider: &Provider, metadata: &Metadata, now: OffsetDateTime) {
        const CHECK: &str = "introspection";
        if !provider.registration.may_introspect(&provider.settings) {
            return;
        }
        let is_needed = provider.settings.token_validation == TokenValidation::Introspection;
        let endpoint = provider.introspection_endpoint(Some(metadata));
        let endpoint = match (provider.settings.token_validation, endpoint) {
            (TokenValidation::Jwt, _) => return,
            (_, Some(endpoint)) => endpoint,
            (TokenValidation::Introspection, None) => {
                return self.report.failure(
                    CHECK,
                    "`token_validation = \"introspection\"`, and the provider has no such endpoint",
                    "set `token_validation = \"jwt\"`, or name the endpoint in the client secrets",
                );
            }
            (TokenValidation::Auto, None) => return,
        };
        let token = Secret::random();
        let work = provider.introspect(&endpoint, token.expose(), false, None, now);
        let answer = self.terminal.wait("asking the introspection endpoint", work);
        let error = match answer.await {
            Ok(body) if is_inactive(&body) => return self.report.ok(CHECK, endpoint.url),
            Ok(_) => ProviderError::Malformed {
                endpoint: Endpoint::Introspection,
                cause: "it does not say `\"active\": false` of an unknown token".to_owned(),
            },
            Err(error) => error,
        };
        if is_needed {
            self.report.failure(CHECK, error.to_string(), error.remedy());
        } else {
            let finding = format!("{error}; only APIs that accept opaque tokens need it");
            self.report.warning(CHECK, finding, error.remedy());
        }
    }
}

fn is_inactive(body: &[u8]) -> bool {
    Document::parse(body).is_ok_and(|reply| reply.value("active") == Some(&serde_json::Value::Bool(false)))
}
