//! The messages of the Model Context Protocol: JSON-RPC 2.0, one in a request.

use rocket::serde::{
    Deserialize, Serialize,
    json::{self, Value},
};

/// What a client says: a request, or a notification if it has no `id`.
#[derive(Deserialize)]
#[serde(crate = "rocket::serde")]
pub struct Message {
    #[serde(rename = "jsonrpc")]
    _version: Version,
    pub id: Option<Id>,
    pub method: String,
    #[serde(default)]
    pub params: Value,
}

#[derive(Deserialize, Serialize)]
#[serde(crate = "rocket::serde")]
enum Version {
    #[serde(rename = "2.0")]
    Two,
}

#[derive(Deserialize, Serialize)]
#[serde(crate = "rocket::serde", untagged)]
pub enum Id {
    Number(i64),
    Text(String),
}

/// What the server says to a request.
#[derive(Serialize)]
#[serde(crate = "rocket::serde")]
pub struct Reply {
    jsonrpc: Version,
    id: Option<Id>,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Serialize)]
#[serde(crate = "rocket::serde", rename_all = "lowercase")]
enum Outcome {
    Result(Value),
    Error(RpcError),
}

/// An error of the protocol (JSON-RPC 2.0 §5.1).
#[derive(Serialize)]
#[serde(crate = "rocket::serde")]
pub struct RpcError {
    code: i32,
    message: String,
}

impl RpcError {
    pub fn method_not_found(method: &str) -> RpcError {
        RpcError {
            code: -32601,
            message: format!("there is no method {method:?}"),
        }
    }

    pub fn invalid_params(message: impl Into<String>) -> RpcError {
        RpcError {
            code: -32602,
            message: message.into(),
        }
    }
}

impl Reply {
    pub fn new(id: Id, outcome: Result<Value, RpcError>) -> Reply {
        Reply {
            jsonrpc: Version::Two,
            id: Some(id),
            outcome: match outcome {
                Ok(result) => Outcome::Result(result),
                Err(error) => Outcome::Error(error),
            },
        }
    }

    /// To a body that is no message, so that nobody knows whom to reply to.
    pub fn to_malformed(error: &json::Error<'_>) -> Reply {
        let is_json = matches!(error, json::Error::Parse(_, error) if error.is_data());
        let (code, message) = if is_json {
            (-32600, "the body is not a JSON-RPC 2.0 message")
        } else {
            (-32700, "the body is not JSON")
        };
        Reply {
            jsonrpc: Version::Two,
            id: None,
            outcome: Outcome::Error(RpcError {
                code,
                message: message.to_owned(),
            }),
        }
    }
}
