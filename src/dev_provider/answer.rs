//! The responses and the request parameters of the endpoints.

use std::collections::HashMap;

use rocket::{
    Request, Response,
    http::{ContentType, Status},
    response::{Responder, Result as Responded},
};
use serde_json::{Value, json};
use url::{Url, form_urlencoded};

use super::pages;

/// A response: JSON, a page, or a redirect to the app. It is never cached.
pub(super) enum Answer {
    Json(Status, Value),
    Page(Status, String),
    Redirect(Url),
    /// 401 with a challenge.
    Challenge(&'static str, Value),
}

impl<'r> Responder<'r, 'static> for Answer {
    fn respond_to(self, request: &'r Request<'_>) -> Responded<'static> {
        let mut response = match self {
            Answer::Json(status, body) => {
                let mut response = (ContentType::JSON, body.to_string()).respond_to(request)?;
                response.set_status(status);
                response
            }
            Answer::Page(status, body) => {
                let mut response = (ContentType::HTML, body).respond_to(request)?;
                response.set_status(status);
                response.set_raw_header(
                    "Content-Security-Policy",
                    "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
                );
                response
            }
            Answer::Redirect(url) => Response::build()
                .status(Status::SeeOther)
                .raw_header("Location", String::from(url))
                .finalize(),
            Answer::Challenge(challenge, body) => {
                let mut response = (ContentType::JSON, body.to_string()).respond_to(request)?;
                response.set_status(Status::Unauthorized);
                response.set_raw_header("WWW-Authenticate", challenge);
                response
            }
        };
        response.set_raw_header("Cache-Control", "no-store");
        Ok(response)
    }
}

/// The error response of a JSON endpoint (RFC 6749 §5.2).
pub(super) fn refused(error: &str, description: &str) -> Answer {
    let body = json!({ "error": error, "error_description": description });
    Answer::Json(Status::BadRequest, body)
}

/// The error page of an invalid request.
pub(super) fn bad_request(text: &str) -> Answer {
    Answer::Page(Status::BadRequest, pages::message("This sign-in cannot continue", text))
}

/// The parameters of a query or a form.
pub(super) fn parameters(text: &str) -> HashMap<String, String> {
    form_urlencoded::parse(text.as_bytes()).into_owned().collect()
}
