//! Classifies errors of the token endpoint during a refresh.

use std::time::Duration;

use super::{Endpoint, ProviderError, error::standard_code, outage::is_outage};

/// The consequence of a failed refresh for the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RefreshVerdict {
    /// The refresh token is invalid, expired or revoked: the session ends.
    Ends,
    /// An outage: the session stays, and the refresh is retried.
    Waits {
        /// The `Retry-After` of the provider, if present; at most five minutes.
        retry_after: Option<Duration>,
    },
    /// The client is rejected, for every session: sessions stay, and an error is logged.
    OperatorsFault,
    /// The provider rejects this session only, or gives no known reason: the user signs in again.
    AsksForSignIn,
}

impl RefreshVerdict {
    /// Classifies a failed refresh request, or a failure to read the metadata before it.
    ///
    /// A status about the server takes precedence over the body; otherwise the error code takes precedence over the
    /// status, because providers send errors with 200, 400, 401 and 403 alike.
    pub(crate) fn of(error: &ProviderError) -> RefreshVerdict {
        match error {
            ProviderError::Refused {
                status, retry_after, ..
            }
            | ProviderError::Status {
                status, retry_after, ..
            } if is_outage(*status) => RefreshVerdict::Waits {
                retry_after: *retry_after,
            },
            ProviderError::Refused { error, retry_after, .. } => RefreshVerdict::of_code(error, *retry_after),
            // A proxy in front of the endpoint sends an HTML page for 4xx; the endpoint sends JSON.
            ProviderError::Status {
                endpoint: Endpoint::Token,
                status: 400..500,
                is_json: true,
                ..
            } => RefreshVerdict::AsksForSignIn,
            ProviderError::Status { retry_after, .. } => RefreshVerdict::Waits {
                retry_after: *retry_after,
            },
            ProviderError::Malformed { .. } => RefreshVerdict::Waits { retry_after: None },
            error if error.is_retryable() => RefreshVerdict::Waits {
                retry_after: error.retry_after(),
            },
            _ => RefreshVerdict::OperatorsFault,
        }
    }

    /// Classifies an error code ([RFC 6749 §5.2]).
    ///
    /// [RFC 6749 §5.2]: https://www.rfc-editor.org/rfc/rfc6749#section-5.2
    fn of_code(code: &str, retry_after: Option<Duration>) -> RefreshVerdict {
        match standard_code(code) {
            "invalid_grant" => RefreshVerdict::Ends,
            // §4.1.2.1 defines these for the authorization endpoint; providers send them here too.
            "temporarily_unavailable" | "server_error" => RefreshVerdict::Waits { retry_after },
            // RFC 9449 §8: the nonce of the first response had expired when the second request arrived.
            "use_dpop_nonce" => RefreshVerdict::Waits { retry_after },
            // RFC 9449 §5: a wrong clock, which concerns all sessions.
            "invalid_dpop_proof" => RefreshVerdict::OperatorsFault,
            // §5.2: the request lacks a parameter, repeats one, or is otherwise malformed. It is the same request for
            // all sessions, so that a new sign-in does not fix it.
            "invalid_request" | "unsupported_grant_type" => RefreshVerdict::OperatorsFault,
            // `invalid_client`, `unauthorized_client`, and provider-specific codes.
            code if code.contains("client") => RefreshVerdict::OperatorsFault,
            _ => RefreshVerdict::AsksForSignIn,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader, Read, Write},
        net::TcpListener,
        sync::Arc,
        thread,
    };

    use time::OffsetDateTime;
    use url::Url;

    use super::*;
    use crate::{
        provider::Provider,
        secret::Secret,
        settings::{MetadataSource, Reach, Registration, Settings},
    };

    /// Refreshes at a token endpoint that responds with these bytes, or closes the connection if there are none.
    async fn refresh(answer: String) -> ProviderError {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        let server = thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream);
            let mut length = 0;
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                let line = line.trim().to_ascii_lowercase();
                if let Some(value) = line.strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                if line.is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            reader.into_inner().write_all(answer.as_bytes()).unwrap();
        });

        let at = |path: &str| base.join(path).unwrap();
        let registration = Registration {
            reach: Reach::Operator,
            issuer: base.to_string(),
            tenants: None,
            client_id: "app".to_owned(),
            client_secret: Some(Secret::new("hush")),
            client_key: None,
            client_identity: None,
            secret_issuer: None,
            metadata: MetadataSource::Given {
                authorization_endpoint: at("authorize"),
                token_endpoint: at("token"),
                userinfo_endpoint: None,
                jwks_uri: at("jwks"),
            },
            introspection_endpoint: None,
        };
        let provider = Provider::new(registration, None, Arc::new(Settings::default())).unwrap();
        let provider = Arc::new(provider);
        let now = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let metadata = provider.metadata(now).await.unwrap();
        let refreshed = provider.refresh(&metadata, &Secret::new("rt"), None, now).await;
        server.join().unwrap();
        refreshed.expect_err("an error")
    }

    /// The verdict on a response with this status, these further headers and this body.
    async fn verdict(status: u16, headers: &str, body: &str) -> RefreshVerdict {
        let length = body.len();
        let answer =
            format!("HTTP/1.1 {status} -\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n{body}");
        RefreshVerdict::of(&refresh(answer).await)
    }

    const WAITS: RefreshVerdict = RefreshVerdict::Waits { retry_after: None };

    fn waits(seconds: u64) -> RefreshVerdict {
        RefreshVerdict::Waits {
            retry_after: Some(Duration::from_secs(seconds)),
        }
    }

    #[tokio::test]
    async fn every_reply_has_its_verdict() {
        use RefreshVerdict::{AsksForSignIn, Ends, OperatorsFault};

        for (status, body, expected) in [
            // The refresh token is rejected.
            (400, r#"{"error":"invalid_grant"}"#, Ends),
            (400, r#"{"error":"invalid_grant","error_description":7}"#, Ends),
            (200, r#"{"error":"bad_refresh_token"}"#, Ends),
            (
                400,
                r#"{"error":"invalid_grant","error_description":null,"suberror":"bad_token"}"#,
                Ends,
            ),
            (401, r#"{"error":"invalid_grant"}"#, Ends),
            (200, r#"{"error":"invalid_grant"}"#, Ends),
            // The client is rejected.
            (401, r#"{"error":"invalid_client"}"#, OperatorsFault),
            (400, r#"{"error":"invalid_client"}"#, OperatorsFault),
            (400, r#"{"error":"unauthorized_client"}"#, OperatorsFault),
            (400, r#"{"error":"unsupported_grant_type"}"#, OperatorsFault),
            (400, r#"{"error":"invalid_request"}"#, OperatorsFault),
            (400, r#"{"error":"invalid_dpop_proof"}"#, OperatorsFault),
            (400, r#"{"error":"use_dpop_nonce"}"#, WAITS),
            (200, r#"{"ok":false,"error":"bad_client_secret"}"#, OperatorsFault),
            (200, r#"{"error":"incorrect_client_credentials"}"#, OperatorsFault),
            // The user has to act.
            (400, r#"{"error":"interaction_required"}"#, AsksForSignIn),
            (400, r#"{"error":"login_required"}"#, AsksForSignIn),
            (400, r#"{"error":"consent_required"}"#, AsksForSignIn),
            (400, r#"{"error":"account_selection_required"}"#, AsksForSignIn),
            (400, r#"{"error":"invalid_scope"}"#, AsksForSignIn),
            (403, r#"{"error":"access_denied"}"#, AsksForSignIn),
            (401, r#"{"error":"invalid_token"}"#, AsksForSignIn),
            (200, r#"{"ok":false,"error":"invalid_refresh_token"}"#, AsksForSignIn),
            (400, r#"{"ok":false}"#, AsksForSignIn),
            (400, "{}", AsksForSignIn),
            (400, r#" {"error":""} "#, AsksForSignIn),
            (
                400,
                r#"{"error":{"code":190,"message":"Session has expired"}}"#,
                AsksForSignIn,
            ),
            (401, r#"{"message":"Unauthorized"}"#, AsksForSignIn),
            (404, r#"{"error":"Realm does not exist"}"#, AsksForSignIn),
            (418, r#"{"access_token":"at"}"#, AsksForSignIn),
            // Not a response of the token endpoint.
            (400, "<html>Bad Request</html>", WAITS),
            (400, "", WAITS),
            (400, r#""invalid_grant""#, WAITS),
            (400, r#"[{"error":"invalid_grant"}]"#, WAITS),
            (400, "null", WAITS),
            (400, r#"{"error":"invalid_grant""#, WAITS),
            (401, "Unauthorized", WAITS),
            (403, "<h1>Forbidden</h1>", WAITS),
            (404, "<h1>Not Found</h1>", WAITS),
            (407, "", WAITS),
            (503, "<html>", WAITS),
            (503, "", WAITS),
            (503, r#"{"error":"invalid_grant"}"#, WAITS),
            (500, r#"{"error":"invalid_client"}"#, WAITS),
            (500, r#"{"ok":false}"#, WAITS),
            (502, "Bad Gateway", WAITS),
            (504, "", WAITS),
            (599, "{}", WAITS),
            (429, r#"{"error":"invalid_grant"}"#, WAITS),
            (429, "", WAITS),
            (408, r#"{"error":"login_required"}"#, WAITS),
            (408, "", WAITS),
            (400, r#"{"error":"temporarily_unavailable"}"#, WAITS),
            (400, r#"{"error":"server_error"}"#, WAITS),
            (302, "", WAITS),
            (204, "", WAITS),
            // Status 200 without tokens.
            (200, "<html>Sign in to the guest network</html>", WAITS),
            (200, "", WAITS),
            (200, r#"{"ok":false}"#, WAITS),
            (200, r#"{"access_token":""}"#, WAITS),
        ] {
            assert_eq!(verdict(status, "", body).await, expected, "{status} {body}");
        }
    }

    #[tokio::test]
    async fn the_providers_wait_is_kept_for_five_minutes_at_most() {
        for (status, headers, body, expected) in [
            (503, "Retry-After: 17\r\n", "", waits(17)),
            (429, "Retry-After: 86400\r\n", r#"{"error":"slow_down"}"#, waits(300)),
            (408, "retry-after: 0\r\n", "", waits(0)),
            (400, "Retry-After: 5\r\n", "<html>", waits(5)),
            (
                400,
                "Retry-After: 5\r\n",
                r#"{"error":"temporarily_unavailable"}"#,
                waits(5),
            ),
            (503, "Retry-After: tomorrow\r\n", "", WAITS),
            (
                400,
                "Retry-After: 5\r\n",
                r#"{"error":"invalid_grant"}"#,
                RefreshVerdict::Ends,
            ),
        ] {
            assert_eq!(verdict(status, headers, body).await, expected, "{status} {headers}");
        }
    }

    #[tokio::test]
    async fn without_an_answer_the_session_waits() {
        for answer in ["", "HTTP/1.1 200 -\r\nContent-Length: 9\r\n\r\n{", "hello\r\n\r\n"] {
            let error = refresh(answer.to_owned()).await;
            assert!(matches!(error, ProviderError::Unreachable { .. }), "{error}");
            assert_eq!(RefreshVerdict::of(&error), WAITS);
        }
        let after = Duration::from_secs(2);
        for endpoint in [Endpoint::Token, Endpoint::Metadata] {
            let error = ProviderError::Timeout { endpoint, after };
            assert_eq!(RefreshVerdict::of(&error), WAITS);
            let error = ProviderError::TooLarge { endpoint, limit: 1 };
            assert_eq!(RefreshVerdict::of(&error), WAITS);
        }
        let error = ProviderError::Unavailable {
            retry_after: after,
            last: None,
        };
        assert_eq!(RefreshVerdict::of(&error), waits(2));
    }

    /// The metadata could not be read: a new sign-in would fail too.
    #[test]
    fn errors_of_the_metadata_ask_for_no_sign_in() {
        let endpoint = Endpoint::Metadata;
        let status = ProviderError::Status {
            endpoint,
            status: 404,
            is_json: true,
            retry_after: None,
        };
        assert_eq!(RefreshVerdict::of(&status), WAITS);
        for error in [
            ProviderError::IssuerMismatch {
                expected: "a".to_owned(),
                actual: "b".to_owned(),
            },
            ProviderError::NotHttps {
                endpoint,
                url: "http://op.example".to_owned(),
            },
            ProviderError::Address { endpoint },
        ] {
            assert_eq!(RefreshVerdict::of(&error), RefreshVerdict::OperatorsFault, "{error}");
        }
    }

    /// The log shows the provider's error code, whatever the status.
    #[tokio::test]
    async fn a_refusal_with_status_200_is_shown() {
        let body = r#"{"ok":false,"error":"bad_client_secret"}"#;
        let answer = format!("HTTP/1.1 200 -\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        assert_eq!(
            refresh(answer).await.to_string(),
            "the provider's token endpoint rejected the request with `bad_client_secret`: "
        );
    }
}
