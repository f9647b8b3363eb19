//! The messages of the Model Context Protocol: JSON-RPC 2.0, one in a request.

use rocket::serde::{
    Serialize,
    json::{Value, json},
};

use super::revision::VERSIONS;

/// What a client sends: a request, or a notification if it has no `id`.
pub struct Message {
    pub id: Option<Value>,
    pub method: String,
    pub params: Value,
}

impl Message {
    /// JSON-RPC 2.0 §4, with what the protocol adds: an `id` is not null, and `params` is an object.
    pub fn parse(body: &Value) -> Result<Message, RpcError> {
        let is_id = |id: &Value| id.is_string() || id.is_i64() || id.is_u64();
        let (id, params) = (body.get("id"), &body["params"]);
        let is_message = body["jsonrpc"] == "2.0" && id.is_none_or(is_id) && (params.is_object() || params.is_null());
        match body["method"].as_str() {
            Some(method) if is_message => Ok(Message {
                id: id.cloned(),
                method: method.to_owned(),
                params: params.clone(),
            }),
            _ => Err(RpcError::invalid_request()),
        }
    }
}

/// The response to a request.
#[derive(Serialize)]
#[serde(crate = "rocket::serde")]
pub struct Reply {
    jsonrpc: &'static str,
    /// Left out if the request had none that can be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<Value>,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Serialize)]
#[serde(crate = "rocket::serde", rename_all = "lowercase")]
enum Outcome {
    Result(Value),
    Error(RpcError),
}

impl Reply {
    pub fn new(id: Option<Value>, outcome: Result<Value, RpcError>) -> Reply {
        Reply {
            jsonrpc: "2.0",
            id,
            outcome: match outcome {
                Ok(result) => Outcome::Result(result),
                Err(error) => Outcome::Error(error),
            },
        }
    }
}

/// An error of the protocol: the codes of JSON-RPC 2.0 §5.1, and two of its own.
#[derive(Serialize)]
#[serde(crate = "rocket::serde")]
pub struct RpcError {
    code: i32,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Value>,
}

impl RpcError {
    fn new(code: i32, message: impl Into<String>) -> RpcError {
        RpcError {
            code,
            message: message.into(),
            data: None,
        }
    }

    pub fn not_json() -> RpcError {
        RpcError::new(-32700, "the body is not JSON, or too large")
    }

    fn invalid_request() -> RpcError {
        RpcError::new(-32600, "the body is not one JSON-RPC 2.0 request or notification")
    }

    pub fn method_not_found(method: &str) -> RpcError {
        RpcError::new(-32601, format!("there is no method {method:?}"))
    }

    pub fn invalid_params(message: impl Into<String>) -> RpcError {
        RpcError::new(-32602, message)
    }

    pub fn header_mismatch(header: &str) -> RpcError {
        RpcError::new(-32020, format!("{header} is missing or does not match the body"))
    }

    pub fn unsupported_version(requested: &str) -> RpcError {
        RpcError {
            data: Some(json!({ "supported": VERSIONS, "requested": requested })),
            ..RpcError::new(-32022, "this protocol version is not supported")
        }
    }
}
