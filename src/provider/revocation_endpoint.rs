//! The revocation endpoint (RFC 7009), for tokens that are not needed any more.

use time::OffsetDateTime;

use super::{Endpoint, Metadata, Provider, ProviderError, breaker::CountedOutages};
use crate::{secret::Secret, settings::ProviderKind};

/// The `token_type_hint` of a revocation (RFC 7009 §2.1).
#[derive(Clone, Copy, Debug)]
pub(crate) enum TokenTypeHint {
    AccessToken,
    RefreshToken,
}

impl Provider {
    /// Revokes a token. Does nothing if the provider has no such endpoint.
    pub(crate) async fn revoke(
        &self,
        metadata: &Metadata,
        token: &Secret,
        hint: TokenTypeHint,
        now: OffsetDateTime,
    ) -> Result<(), ProviderError> {
        let endpoint = Endpoint::Revocation;
        let Some(url) = metadata.revocation_endpoint.as_ref() else {
            return Ok(());
        };
        if self.registration.kind() == ProviderKind::GitHub {
            return self.delete_github_token(url, token, hint, now).await;
        }

        let hint = match hint {
            TokenTypeHint::AccessToken => "access_token",
            TokenTypeHint::RefreshToken => "refresh_token",
        };
        let form = vec![("token", token.expose()), ("token_type_hint", hint)];
        // §2.1: the client authenticates as at the token endpoint, if it can.
        let listed = &metadata.revocation_endpoint_auth_methods_supported;
        let method = self.authentication_method_at(listed, metadata);
        let call = async {
            let authentication = self.authentication(method, url, now).await?;
            self.post_form(endpoint, url, form, &authentication).await
        };
        let reply = self.limits.revocation.run(None, CountedOutages::All, now, call).await?;
        match reply.status().as_u16() {
            // §2.2: also for an unknown token.
            200 | 204 => Ok(()),
            _ => Err(ProviderError::of_error_reply(endpoint, &reply)),
        }
    }
}
