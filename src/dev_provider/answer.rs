//! The responses and the request parameters of the endpoints.

use std::{collections::HashMap, io::Cursor};

use rocket::{
    Request, Response,
    http::{ContentType, Status},
    response::{Responder, Result as Responded},
};
use serde_json::{Value, json};
use url::{Url, form_urlencoded};

use super::{Op, pages};

const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";

/// A response: JSON, a page, or a redirect to the app. It is never cached.
pub(super) enum Answer {
    Json(Status, Value),
    Page(Status, String),
    /// The error page of an invalid request, with this text.
    BadRequest(String),
    Redirect(Url),
    /// 401 with a challenge.
    Challenge(&'static str, Value),
}

impl<'r> Responder<'r, 'static> for Answer {
    fn respond_to(self, request: &'r Request<'_>) -> Responded<'static> {
        let mut response = Response::build();
        response.raw_header("Cache-Control", "no-store");
        let (content_type, body) = match self {
            Answer::Json(status, body) => {
                response.status(status);
                (ContentType::JSON, body.to_string())
            }
            Answer::Page(status, page) => {
                response.status(status).raw_header("Content-Security-Policy", POLICY);
                (ContentType::HTML, page)
            }
            Answer::BadRequest(text) => {
                response.status(Status::BadRequest);
                response.raw_header("Content-Security-Policy", POLICY);
                let label = request.rocket().state::<Op>().and_then(|op| op.client.label());
                let page = pages::message(label, "This sign-in cannot continue", &text);
                (ContentType::HTML, page)
            }
            Answer::Redirect(url) => {
                response.status(Status::SeeOther);
                return response.raw_header("Location", String::from(url)).ok();
            }
            Answer::Challenge(challenge, body) => {
                response.status(Status::Unauthorized);
                response.raw_header("WWW-Authenticate", challenge);
                (ContentType::JSON, body.to_string())
            }
        };
        response
            .header(content_type)
            .sized_body(body.len(), Cursor::new(body))
            .ok()
    }
}

/// The error response of a JSON endpoint (RFC 6749 §5.2).
pub(super) fn refused(error: &str, description: &str) -> Answer {
    let body = json!({ "error": error, "error_description": description });
    Answer::Json(Status::BadRequest, body)
}

/// The error page of an invalid request.
pub(super) fn bad_request(text: &str) -> Answer {
    Answer::BadRequest(text.to_owned())
}

/// The parameters of a query or a form.
pub(super) fn parameters(text: &str) -> HashMap<String, String> {
    form_urlencoded::parse(text.as_bytes()).into_owned().collect()
}
