//! The example as an MCP client meets it: without a token, with one, and with one that is not enough.

use rocket::{
    http::{Header, Status},
    local::blocking::{Client, LocalResponse},
    serde::json::{Value, json},
};
use rocket_openidconnect::testing::{TestProvider, TestRequest, assert_guarded};

const RESOURCE: &str = "http://localhost:8000/mcp";
const METADATA: &str = "/.well-known/oauth-protected-resource/mcp";

fn app() -> Client {
    Client::untracked(TestProvider::new().register(super::rocket())).expect("the example launches")
}

/// Who may read, and who may write too.
fn reader() -> Value {
    json!({ "sub": "alice", "scope": "notes:read" })
}

fn writer() -> Value {
    json!({ "sub": "alice", "scope": "notes:read notes:write" })
}

/// Posts a message with a token of these claims.
fn post<'c>(client: &'c Client, claims: Value, message: &Value) -> LocalResponse<'c> {
    let request = client.post("/mcp").json(message).bearer(claims);
    request.dispatch()
}

/// The reply to a request.
fn ask(client: &Client, claims: Value, method: &str, params: Value) -> Value {
    let message = json!({ "jsonrpc": "2.0", "id": "one", "method": method, "params": params });
    let response = post(client, claims, &message);
    assert_eq!(response.status(), Status::Ok);
    let reply: Value = response.into_json().unwrap();
    assert_eq!((&reply["jsonrpc"], &reply["id"]), (&json!("2.0"), &json!("one")));
    reply
}

fn call(client: &Client, claims: Value, name: &str, arguments: Value) -> Value {
    let params = json!({ "name": name, "arguments": arguments });
    ask(client, claims, "tools/call", params)["result"].take()
}

/// What a tool says when all is well, or not.
fn told(text: &str, is_error: bool) -> Value {
    json!({ "content": [{ "type": "text", "text": text }], "isError": is_error })
}

fn challenge(response: &LocalResponse<'_>) -> String {
    let value = response.headers().get_one("WWW-Authenticate");
    value.expect("a challenge").to_owned()
}

#[test]
fn nothing_is_public() {
    assert_guarded(&app(), &[]);
}

/// From the refusal to the provider's address, as RFC 9728 §5 has it.
#[test]
fn a_client_without_a_token_finds_its_way() {
    let client = app();
    for request in [client.post("/mcp"), client.get("/mcp"), client.delete("/mcp")] {
        let response = request.dispatch();
        assert_eq!(response.status(), Status::Unauthorized);
        assert_eq!(
            challenge(&response),
            format!(
                "Bearer realm=\"api\", scope=\"notes:read\", \
                 resource_metadata=\"http://localhost:8000{METADATA}\""
            )
        );
    }
    let metadata: Value = client.get(METADATA).dispatch().into_json().unwrap();
    assert_eq!(
        metadata,
        json!({
            "resource": RESOURCE,
            "authorization_servers": [TestProvider::ISSUER],
            "bearer_methods_supported": ["header"],
            "scopes_supported": ["notes:read", "notes:write"],
        })
    );
    let of_the_root = client.get("/.well-known/oauth-protected-resource").dispatch();
    assert_eq!(of_the_root.status(), Status::NotFound);
}

#[test]
fn a_token_for_another_resource_is_refused() {
    let client = app();
    for other in ["http://localhost:8000", "http://localhost:8000/mcp/", "app"] {
        let claims = json!({ "sub": "alice", "scope": "notes:read", "aud": other });
        let ping = json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" });
        let response = post(&client, claims, &ping);
        assert_eq!(response.status(), Status::Unauthorized, "{other}");
        assert!(challenge(&response).contains("error=\"invalid_token\""));
    }
    let claims = json!({ "sub": "alice", "scope": "notes:read", "aud": RESOURCE });
    assert_eq!(ask(&client, claims, "ping", json!({}))["result"], json!({}));
}

#[test]
fn it_speaks_the_revision_of_the_client_or_its_own_newest() {
    let client = app();
    for (wanted, spoken) in [
        ("2025-11-25", "2025-11-25"),
        ("2025-06-18", "2025-06-18"),
        ("2025-03-26", "2025-03-26"),
        ("2024-11-05", "2025-11-25"),
    ] {
        let params = json!({ "protocolVersion": wanted, "capabilities": {}, "clientInfo": {} });
        let reply = ask(&client, reader(), "initialize", params);
        assert_eq!(reply["result"]["protocolVersion"], spoken);
        assert_eq!(reply["result"]["capabilities"], json!({ "tools": {} }));
    }
    let initialized = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    let response = post(&client, reader(), &initialized);
    assert_eq!(response.status(), Status::Accepted);
    assert_eq!(response.into_string().unwrap_or_default(), "");

    for (header, status) in [("2025-06-18", 200), ("1999-12-31", 400)] {
        let ping = json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" });
        let request = client.post("/mcp").json(&ping).bearer(reader());
        let request = request.header(Header::new("MCP-Protocol-Version", header));
        assert_eq!(request.dispatch().status().code, status, "{header}");
    }
}

#[test]
fn notes_are_added_and_listed_each_person_their_own() {
    let client = app();
    let list = ask(&client, reader(), "tools/list", json!({}));
    let tools = list["result"]["tools"].as_array().unwrap();
    let names: Vec<_> = tools.iter().map(|tool| &tool["name"]).collect();
    assert_eq!(names, ["list_notes", "add_note"]);

    let nothing = told("There are no notes.", false);
    assert_eq!(call(&client, reader(), "list_notes", json!({})), nothing);
    for text in ["Buy milk", "Write to Bob"] {
        let added = call(&client, writer(), "add_note", json!({ "text": text }));
        assert_eq!(added, told("The note is saved.", false));
    }
    let both = told("Buy milk\nWrite to Bob", false);
    assert_eq!(call(&client, reader(), "list_notes", json!({})), both);
    let bob = json!({ "sub": "bob", "scope": "notes:read" });
    assert_eq!(call(&client, bob, "list_notes", json!({})), nothing);

    let refusal = told("`text` must have between 1 and 500 characters.", true);
    for arguments in [json!({}), json!({ "text": "" }), json!({ "text": "x".repeat(501) })] {
        assert_eq!(call(&client, writer(), "add_note", arguments), refusal);
    }
    assert_eq!(call(&client, reader(), "list_notes", json!({})), both);
}

/// The tool decides, and the guard's challenge names all that the client has to ask for.
#[test]
fn a_tool_that_needs_another_scope_says_so() {
    let client = app();
    let message = json!({
        "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": { "name": "add_note", "arguments": { "text": "Buy milk" } },
    });
    let response = post(&client, reader(), &message);
    assert_eq!(response.status(), Status::Forbidden);
    assert_eq!(
        challenge(&response),
        format!(
            "Bearer realm=\"api\", error=\"insufficient_scope\", \
             error_description=\"the token does not allow this\", scope=\"notes:read notes:write\", \
             resource_metadata=\"http://localhost:8000{METADATA}\""
        )
    );
    let nothing = told("There are no notes.", false);
    assert_eq!(call(&client, reader(), "list_notes", json!({})), nothing);
}

#[test]
fn what_is_no_message_is_told_so() {
    let client = app();
    for (body, code) in [
        ("{", -32700),
        ("[]", -32600),
        (r#"{ "id": 1, "method": "ping" }"#, -32600),
        (r#"{ "jsonrpc": "1.0", "id": 1, "method": "ping" }"#, -32600),
        (r#"{ "jsonrpc": "2.0", "id": [], "method": "ping" }"#, -32600),
        (r#"{ "jsonrpc": "2.0", "id": 1 }"#, -32600),
    ] {
        let response = client.post("/mcp").body(body).bearer(reader()).dispatch();
        assert_eq!(response.status(), Status::BadRequest, "{body}");
        let reply: Value = response.into_json().unwrap();
        assert_eq!((&reply["id"], &reply["error"]["code"]), (&Value::Null, &json!(code)));
    }
    let unknown = ask(&client, reader(), "prompts/list", json!({}));
    assert_eq!(unknown["error"]["code"], -32601);
    let unknown = ask(&client, reader(), "tools/call", json!({ "name": "rm" }));
    assert_eq!(unknown["error"]["code"], -32602);
}

/// There is no stream to listen to and no session to end; and no page of a browser may call.
#[test]
fn other_methods_and_pages_are_refused() {
    let client = app();
    for request in [client.get("/mcp"), client.delete("/mcp")] {
        let response = request.bearer(reader()).dispatch();
        assert_eq!(response.status(), Status::MethodNotAllowed);
        assert_eq!(response.headers().get_one("Allow"), Some("POST"));
    }
    let ping = json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" });
    let request = client.post("/mcp").json(&ping).bearer(reader());
    let request = request.header(Header::new("Origin", "https://evil.example"));
    assert_eq!(request.dispatch().status(), Status::Forbidden);
}
