//! What a client can ask for, and the two tools.

use rocket::{
    http::Status,
    serde::json::{Value, json},
};

use super::{
    message::{Message, RpcError},
    notes::{MAX_LEN, Notes},
    revision::{Era, LEGACY, VERSIONS, server_info},
    transport::Answer,
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
pub fn answer(message: Message, era: Era, caller: &Caller, notes: &Notes) -> Answer {
    let Some(id) = message.id else {
        // `notifications/initialized` and the like: nothing is to be done.
        return Answer::Accepted(());
    };
    let result = match (era, &*message.method) {
        (Era::Legacy, "initialize") => initialize(&message.params),
        (Era::Legacy, "ping") => json!({}),
        (Era::Modern, "server/discover") => era.cacheable(discover()),
        (_, "tools/list") => era.cacheable(list()),
        (_, "tools/call") => match call(&message.params, caller, notes) {
            Called::Result(result) => result,
            Called::Error(error) => return Answer::error(Status::Ok, Some(id), error),
            Called::NeedsMore => return Answer::Refused(Status::Forbidden),
        },
        (era, method) => {
            let status = match era {
                Era::Legacy => Status::Ok,
                Era::Modern => Status::NotFound,
            };
            return Answer::error(status, Some(id), RpcError::method_not_found(method));
        }
    };
    Answer::result(id, era.complete(result))
}

/// The handshake: the client's revision of the protocol, or else the newest that has one.
fn initialize(params: &Value) -> Value {
    let requested = params["protocolVersion"].as_str().unwrap_or_default();
    let spoken = LEGACY.into_iter().find(|version| *version == requested);
    json!({
        "protocolVersion": spoken.unwrap_or(LEGACY[0]),
        "capabilities": { "tools": {} },
        "serverInfo": server_info(),
    })
}

/// What a client may ask before anything else, or never.
fn discover() -> Value {
    json!({ "supportedVersions": VERSIONS, "capabilities": { "tools": {} } })
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
