//! What a client can ask for, and the two tools.

use rocket::{
    http::Status,
    serde::json::{Json, Value, json},
};

use super::{
    message::{Message, Reply, RpcError},
    notes::{MAX_LEN, Notes},
    transport::{Answer, VERSIONS},
};

/// Whom a request speaks for.
pub struct Caller {
    pub owner: String,
    pub may_write: bool,
}

/// What came of a tool.
enum Called {
    /// Also when it did not work: that is for the model to read.
    Result(Value),
    /// The token does not allow this tool.
    NeedsMore,
    Error(RpcError),
}

/// Answers a message.
pub fn answer(message: Message, caller: &Caller, notes: &Notes) -> Answer {
    let Some(id) = message.id else {
        // `notifications/initialized` and the like: nothing is to be done.
        return Answer::Accepted(());
    };
    let outcome = match &*message.method {
        "initialize" => Ok(initialize(&message.params)),
        "ping" => Ok(json!({})),
        "tools/list" => Ok(list()),
        "tools/call" => match call(&message.params, caller, notes) {
            Called::Result(result) => Ok(result),
            Called::Error(error) => Err(error),
            Called::NeedsMore => return Answer::Refused(Status::Forbidden),
        },
        method => Err(RpcError::method_not_found(method)),
    };
    Answer::Reply(Json(Reply::new(id, outcome)))
}

/// The client's revision of the protocol, or else the newest of ours.
fn initialize(params: &Value) -> Value {
    let wanted = params["protocolVersion"].as_str().unwrap_or_default();
    let spoken = VERSIONS.into_iter().find(|version| *version == wanted);
    json!({
        "protocolVersion": spoken.unwrap_or(VERSIONS[0]),
        "capabilities": { "tools": {} },
        "serverInfo": { "name": "notes", "version": env!("CARGO_PKG_VERSION") },
    })
}

fn list() -> Value {
    json!({ "tools": [
        {
            "name": "list_notes",
            "description": "Lists the notes of the signed-in user.",
            "inputSchema": { "type": "object", "additionalProperties": false },
            "annotations": { "readOnlyHint": true },
        },
        {
            "name": "add_note",
            "description": "Adds a note.",
            "inputSchema": {
                "type": "object",
                "properties": { "text": { "type": "string", "minLength": 1, "maxLength": MAX_LEN } },
                "required": ["text"],
                "additionalProperties": false,
            },
            "annotations": { "readOnlyHint": false, "destructiveHint": false },
        },
    ] })
}

fn call(params: &Value, caller: &Caller, notes: &Notes) -> Called {
    let text = params["arguments"]["text"].as_str().unwrap_or_default();
    match params["name"].as_str().unwrap_or_default() {
        "list_notes" => {
            let own = notes.of(&caller.owner);
            if own.is_empty() {
                told("There are no notes.", false)
            } else {
                told(&own.join("\n"), false)
            }
        }
        "add_note" if !caller.may_write => Called::NeedsMore,
        "add_note" if text.is_empty() || text.chars().count() > MAX_LEN => {
            told(&format!("`text` must have between 1 and {MAX_LEN} characters."), true)
        }
        "add_note" => {
            notes.add(&caller.owner, text);
            told("The note is saved.", false)
        }
        name => Called::Error(RpcError::invalid_params(format!("there is no tool {name:?}"))),
    }
}

fn told(text: &str, is_error: bool) -> Called {
    Called::Result(json!({
        "content": [{ "type": "text", "text": text }],
        "isError": is_error,
    }))
}
