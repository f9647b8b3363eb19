//! The Streamable HTTP transport: what a request must have, and how it is answered. There is one JSON object
//! for each request, and no stream.

use rocket::{
    Request, Responder,
    http::{Header, Status},
    request::{FromRequest, Outcome},
    serde::json::Json,
};

use super::message::Reply;

/// The revisions of the protocol that this server speaks, the newest first.
pub const VERSIONS: [&str; 3] = ["2025-11-25", "2025-06-18", "2025-03-26"];

/// What is answered to a message.
#[derive(Responder)]
pub enum Answer {
    /// To a request, whatever came of it.
    Reply(Json<Reply>),
    /// To a notification.
    #[response(status = 202)]
    Accepted(()),
    /// To what is no message.
    #[response(status = 400)]
    Malformed(Json<Reply>),
    /// To a request that needs another token.
    Refused(Status),
}

/// A request that no page of another site made, as far as its browser tells. Clients that are no browsers send
/// no `Origin`, and a name that was made to resolve to here has another.
pub struct KnownOrigin;

#[rocket::async_trait]
impl<'r> FromRequest<'r> for KnownOrigin {
    type Error = &'static str;

    async fn from_request(request: &'r Request<'_>) -> Outcome<KnownOrigin, &'static str> {
        if !request.headers().contains("Origin") {
            Outcome::Success(KnownOrigin)
        } else {
            Outcome::Error((Status::Forbidden, "web pages may not call this server"))
        }
    }
}

/// A request of a revision that is spoken here. Before 2025-06-18 clients did not tell.
pub struct KnownVersion;

#[rocket::async_trait]
impl<'r> FromRequest<'r> for KnownVersion {
    type Error = &'static str;

    async fn from_request(request: &'r Request<'_>) -> Outcome<KnownVersion, &'static str> {
        let version = request.headers().get_one("MCP-Protocol-Version");
        if version.is_none_or(|version| VERSIONS.contains(&version)) {
            Outcome::Success(KnownVersion)
        } else {
            Outcome::Error((Status::BadRequest, "this protocol version is not supported"))
        }
    }
}

/// 405, with what is allowed.
#[derive(Responder)]
#[response(status = 405)]
pub struct MethodNotAllowed {
    body: (),
    allow: Header<'static>,
}

impl Default for MethodNotAllowed {
    fn default() -> MethodNotAllowed {
        MethodNotAllowed {
            body: (),
            allow: Header::new("Allow", "POST"),
        }
    }
}
