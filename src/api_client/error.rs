//! Why a call of another API has no response.

use std::error::Error;

use thiserror::Error as ThisError;

use crate::{api_tokens::ApiTokenError, facts::Facts, printable::printable};

/// Why a call of another API has no response.
///
/// A route can return it: the response has its [`status`](Self::status), and the app's catcher makes the body. No
/// variant holds a token, and none has the query of a URL.
#[derive(Clone, Debug, ThisError)]
#[non_exhaustive]
pub enum ApiCallError {
    /// There is no token.
    #[error(transparent)]
    Token(#[from] ApiTokenError),
    /// The base address of [`ApiClient::new`](crate::ApiClient::new) is not one.
    #[error("the base address {actual:?} is not an https URL, or http on loopback, without user, query and fragment")]
    BaseUrl {
        /// The beginning of its value.
        actual: String,
    },
    /// [`ApiClient::with_certificate_of`](crate::ApiClient::with_certificate_of) found no certificate of the client.
    #[error("the client has no certificate for the API")]
    NoCertificate,
    /// The request is not for the API. Nothing was sent.
    #[error("the request is for `{actual}`, and not for an address below `{base}`")]
    OtherAddress {
        /// The base address.
        base: String,
        /// The address of the request, without its query.
        actual: String,
    },
    /// The request is invalid. Nothing was sent.
    #[error("the request to the API is invalid: {cause}")]
    Request {
        /// What is wrong with it.
        cause: String,
    },
    /// The API did not respond in time.
    #[error("the API did not respond in time")]
    Timeout,
    /// The API is not reachable, or broke off its response.
    #[error("the API is not reachable: {cause}")]
    Unreachable {
        /// The error of the operating system, of TLS or of HTTP.
        cause: String,
    },
}

impl ApiCallError {
    /// The reason code, as listed in the manual.
    pub fn reason(&self) -> &'static str {
        self.facts().reason
    }

    /// The HTTP status of a response to this error: that of [`ApiTokenError`]; 502 and 504 for the API; 500 for what the
    /// app's code causes.
    pub fn status(&self) -> u16 {
        self.facts().status
    }

    /// How to fix it.
    pub fn remedy(&self) -> &'static str {
        self.facts().remedy
    }

    fn facts(&self) -> Facts<&'static str> {
        const CODE: &str = "correct the call in the app's code";
        const REACH: &str = "check that the API is running and reachable from this machine";
        let facts = |reason, status, remedy| Facts { reason, status, remedy };
        match self {
            ApiCallError::Token(error) => facts(error.reason(), error.status(), error.remedy()),
            ApiCallError::BaseUrl { .. } | ApiCallError::OtherAddress { .. } => facts("api_address", 500, CODE),
            ApiCallError::NoCertificate => facts(
                "api_no_certificate",
                500,
                "set `tls_client_certificate` and `tls_client_key`, or use `ApiClient::new`",
            ),
            ApiCallError::Request { .. } => facts("api_request", 500, CODE),
            ApiCallError::Timeout => facts("api_timeout", 504, REACH),
            ApiCallError::Unreachable { .. } => facts("api_unreachable", 502, REACH),
        }
    }
}

impl From<reqwest::Error> for ApiCallError {
    fn from(error: reqwest::Error) -> ApiCallError {
        if error.is_timeout() {
            return ApiCallError::Timeout;
        }
        let is_of_app = error.is_builder();
        let error = error.without_url();
        let mut innermost: &dyn Error = &error;
        while let Some(source) = innermost.source() {
            innermost = source;
        }
        let cause = printable(&innermost.to_string());
        if is_of_app {
            ApiCallError::Request { cause }
        } else {
            ApiCallError::Unreachable { cause }
        }
    }
}
