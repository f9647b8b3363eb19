//! The pushed authorization request endpoint (RFC 9126): the authorization request goes there first, so
//! that the browser carries a reference to it and nothing else.

use std::net::IpAddr;

use serde::Deserialize;
use time::OffsetDateTime;
use url::Url;

use super::{Endpoint, Metadata, Provider, ProviderError};

/// What is said of a pushed request in success (§2.2).
#[derive(Default, Deserialize)]
#[serde(default)]
struct Reply {
    request_uri: Option<String>,
}

impl Provider {
    /// Where authorization requests are pushed: nowhere, unless settings or provider want it (§5).
    ///
    /// # Errors
    ///
    /// When they are to be pushed and the provider has no endpoint for it.
    pub(crate) fn pushed_authorization_request_endpoint<'m>(
        &self,
        metadata: &'m Metadata,
    ) -> Result<Option<&'m Url>, ProviderError> {
        let further = metadata.additional_metadata();
        let wanted = self.settings.pushed_authorization_requests
            || further.require_pushed_authorization_requests;
        match &further.pushed_authorization_request_endpoint {
            _ if !wanted => Ok(None),
            Some(url) => Ok(Some(url)),
            None => Err(ProviderError::Malformed {
                endpoint: Endpoint::Metadata,
                cause: "it has no `pushed_authorization_request_endpoint`".to_owned(),
            }),
        }
    }

    /// Pushes the authorization request that an address would carry, and answers the address that refers
    /// to it (§4). Anybody can begin a sign-in: it is for a client with this address.
    pub(crate) async fn push_authorization_request(
        &self,
        metadata: &Metadata,
        endpoint_url: &Url,
        request: &Url,
        client: Option<IpAddr>,
        now: OffsetDateTime,
    ) -> Result<Url, ProviderError> {
        let pushing = self.push(metadata, endpoint_url, request, now);
        let queue = &self.limits.pushed_authorization_requests;
        queue.run(client, now, pushing).await
    }

    async fn push(
        &self,
        metadata: &Metadata,
        endpoint_url: &Url,
        request: &Url,
        now: OffsetDateTime,
    ) -> Result<Url, ProviderError> {
        let endpoint = Endpoint::PushedAuthorizationRequest;
        let method = self.authentication_method(metadata);
        let authentication = self.authentication(method, endpoint_url, now);
        // The authorization endpoint's own query is no part of the request, and the client names itself
        // when it authenticates.
        let own = metadata.authorization_endpoint().url();
        let own: Vec<_> = own.query_pairs().collect();
        let pairs: Vec<_> = request
            .query_pairs()
            .filter(|pair| pair.0 != "client_id" && !own.contains(pair))
            .collect();
        let mut form: Vec<(&str, &str)> = pairs.iter().map(|(n, v)| (&**n, &**v)).collect();
        let client_id = self.registration.client_id.as_str();
        if authentication.is_in_a_header() {
            form.push(("client_id", client_id));
        }
        let response = self
            .post_form(endpoint, endpoint_url, form, &authentication)
            .await?;

        let status = response.status().as_u16();
        let reply: Reply = serde_json::from_slice(response.body()).unwrap_or_default();
        match (status, reply) {
            (
                200 | 201,
                Reply {
                    request_uri: Some(request_uri),
                },
            ) => {
                let mut url = metadata.authorization_endpoint().url().clone();
                url.query_pairs_mut()
                    .append_pair("client_id", client_id)
                    .append_pair("request_uri", &request_uri);
                Ok(url)
            }
            (200 | 201, _) => Err(ProviderError::Malformed {
                endpoint,
                cause: "it has no `request_uri`".to_owned(),
            }),
            (400..500, _) => Err(ProviderError::of_error_reply(endpoint, &response)),
            _ => Err(ProviderError::of_status(endpoint, &response)),
        }
    }
}
