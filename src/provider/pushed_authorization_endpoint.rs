//! The pushed authorization request endpoint (RFC 9126): the app sends the authorization request there first, and the
//! browser carries only a reference to it.

use std::net::IpAddr;

use time::OffsetDateTime;
use url::Url;

use super::{Endpoint, Metadata, Provider, ProviderError, breaker::CountedOutages};
use crate::token::{Document, ProofKey};

/// The remedy for an error that [`demands_pushed_request`].
pub(crate) const PUSH_REQUESTS: &str = "set `oidc.pushed_authorization_requests = true`: the provider accepts this client's requests only when they are pushed";

/// Whether the `error_description` of an authorization error demands a pushed request. A provider may require it of
/// one client (RFC 9126 §6): the metadata does not say so, and there is no error code for it.
pub(crate) fn demands_pushed_request(description: &str) -> bool {
    let description = description.to_ascii_lowercase().replace('_', " ");
    let demands = ["only", "must", "require", "mandatory"];
    description.contains("pushed authorization") && demands.iter().any(|word| description.contains(word))
}

impl Provider {
    /// The endpoint to push authorization requests to; `None` unless the settings or the provider require it (§5).
    ///
    /// # Errors
    ///
    /// When pushing is required and the provider has no endpoint for it.
    pub(crate) fn pushed_authorization_request_endpoint<'m>(
        &self,
        metadata: &'m Metadata,
    ) -> Result<Option<&'m Url>, ProviderError> {
        let wanted = self.settings.pushed_authorization_requests || metadata.require_pushed_authorization_requests;
        match metadata.pushed_authorization_request_endpoint.as_ref() {
            _ if !wanted => Ok(None),
            Some(url) => Ok(Some(url)),
            None => Err(ProviderError::MetadataMember {
                member: "pushed_authorization_request_endpoint",
                expected: "an absolute address",
                actual: None,
            }),
        }
    }

    /// Pushes the authorization request in the query of a URL, and returns the URL that refers to it (§4), with a proof of
    /// the key that the tokens are to be bound to, if there is one. Anyone can begin a sign-in, so that the call counts
    /// for the client with this address.
    pub(crate) async fn push_authorization_request(
        &self,
        metadata: &Metadata,
        endpoint_url: &Url,
        request: &Url,
        key: Option<&ProofKey>,
        client: Option<IpAddr>,
        now: OffsetDateTime,
    ) -> Result<Url, ProviderError> {
        let endpoint = Endpoint::PushedAuthorizationRequest;
        let method = self.authentication_method(metadata);
        // The endpoint's own query is not part of the request, and client authentication adds the `client_id`.
        let own = metadata.authorization_endpoint()?;
        let own: Vec<_> = own.query_pairs().collect();
        let pairs: Vec<_> = request
            .query_pairs()
            .filter(|pair| pair.0 != "client_id" && !own.contains(pair))
            .collect();
        let form: Vec<(&str, &str)> = pairs.iter().map(|(n, v)| (&**n, &**v)).collect();
        let client_id = self.registration.client_id.as_str();
        let mut is_repeated = false;
        let push = async {
            let response = loop {
                // Each request has a proof and an assertion of its own.
                let authentication = self.authentication(method, endpoint_url, now).await?;
                let mut form = form.clone();
                if authentication.is_in_a_header() {
                    form.push(("client_id", client_id));
                }
                let proof = self.proof(key, "POST", endpoint_url, None, now);
                let push = self.post_proved_form(endpoint, endpoint_url, form, &authentication, proof);
                let response = push.await?;
                if !self.demands_nonce(key, endpoint_url, &response) || is_repeated {
                    break response;
                }
                is_repeated = true;
            };
            match response.status().as_u16() {
                200 | 201 => Ok(response),
                400..500 => Err(ProviderError::of_error_reply(endpoint, &response)),
                _ => Err(ProviderError::of_status(endpoint, &response)),
            }
        };
        let queue = &self.limits.pushed_authorization_requests;
        // A client's value, such as `login_hint`, may cause status 500.
        let counted = CountedOutages::AllButStatus500;
        let response = queue.run(client, counted, now, push).await?;
        // The success response to a pushed request (§2.2).
        let reply = Document::parse(response.body()).ok();
        let request_uri = reply.as_ref().and_then(|reply| reply.text("request_uri"));
        let request_uri = request_uri.ok_or_else(|| ProviderError::Malformed {
            endpoint,
            cause: "it has no `request_uri`".to_owned(),
        })?;
        let mut url = metadata.authorization_endpoint()?.clone();
        url.query_pairs_mut()
            .append_pair("client_id", client_id)
            .append_pair("request_uri", request_uri);
        Ok(url)
    }
}

#[cfg(test)]
mod tests {
    use super::demands_pushed_request;

    #[test]
    fn errors_that_demand_a_pushed_request() {
        for description in [
            "Pushed Authorization Request is only allowed.",
            "Pushed Authorization Request must be used",
            "pushed authorization is required.",
            "the client is registered with require_pushed_authorization_requests",
        ] {
            assert!(demands_pushed_request(description), "{description}");
        }
        for description in [
            "",
            "Pushed Authorization Request has expired",
            "Missing parameter: scope, which is required",
            "PAR",
        ] {
            assert!(!demands_pushed_request(description), "{description}");
        }
    }
}
