//! The Streamable HTTP transport: the headers of a request, and the responses. There is one JSON object for each
//! request, and no stream.

use std::convert::Infallible;

use base64::{Engine, prelude::BASE64_STANDARD};
use rocket::{
    Request, Responder,
    http::{Header, Status},
    request::{FromRequest, Outcome},
    serde::json::{Json, Value},
};

use super::message::{Reply, RpcError};

/// The response to a message.
#[derive(Responder)]
pub enum Answer {
    /// To a request, or to a body that is none.
    Reply((Status, Json<Reply>)),
    /// To a notification.
    #[response(status = 202)]
    Accepted(()),
    /// To a request that needs another token.
    Refused(Status),
}

impl Answer {
    pub fn result(id: Value, result: Value) -> Answer {
        Answer::Reply((Status::Ok, Json(Reply::new(Some(id), Ok(result)))))
    }

    pub fn error(status: Status, id: Option<Value>, error: RpcError) -> Answer {
        Answer::Reply((status, Json(Reply::new(id, Err(error)))))
    }
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

/// The headers that repeat parts of the body, for proxies that do not read it.
pub struct Mirrored {
    pub version: Option<String>,
    pub method: Option<String>,
    pub name: Option<String>,
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Mirrored {
    type Error = Infallible;

    async fn from_request(request: &'r Request<'_>) -> Outcome<Mirrored, Infallible> {
        // Two lines are one list (RFC 9110 §5.3), which is no valid value of any of these.
        let header = |name| {
            let lines: Vec<&str> = request.headers().get(name).collect();
            (!lines.is_empty()).then(|| lines.join(", "))
        };
        Outcome::Success(Mirrored {
            version: header("MCP-Protocol-Version"),
            method: header("Mcp-Method"),
            name: header("Mcp-Name").and_then(decoded),
        })
    }
}

/// The value of a header that has Base64 in it where a header could not have the text itself.
fn decoded(value: String) -> Option<String> {
    let encoded = value
        .strip_prefix("=?base64?")
        .and_then(|value| value.strip_suffix("?="));
    match encoded {
        Some(encoded) => String::from_utf8(BASE64_STANDARD.decode(encoded).ok()?).ok(),
        None => Some(value),
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
