//! The exact responses to clients of both eras, and to calls without a token and with one that is not
//! sufficient.

use rocket::{
    http::{ContentType, Header, Status},
    local::blocking::{Client, LocalResponse},
    serde::json::{Value, from_str, json},
};
use rocket_openidconnect::testing::{TestProvider, TestRequest, assert_guarded};

const RESOURCE: &str = "http://localhost:8000/mcp";
const METADATA: &str = "/.well-known/oauth-protected-resource/mcp";
/// All revisions, the newest first.
const VERSIONS: [&str; 4] = ["2026-07-28", "2025-11-25", "2025-06-18", "2025-03-26"];

/// Headers that repeat what the body says.
const VERSION: (&str, &str) = ("MCP-Protocol-Version", "2026-07-28");
const CALL: (&str, &str) = ("Mcp-Method", "tools/call");
const ADD: (&str, &str) = ("Mcp-Name", "add_note");

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

type Headers<'a> = [(&'static str, &'a str)];

/// Posts a body with a token of these claims.
fn dispatch<'c>(client: &'c Client, claims: Value, headers: &Headers<'_>, body: &str) -> LocalResponse<'c> {
    let mut request = client.post("/mcp").header(ContentType::JSON).body(body).bearer(claims);
    for (name, value) in headers {
        request.add_header(Header::new(*name, (*value).to_owned()));
    }
    request.dispatch()
}

/// The same: the status, and the body if it is JSON.
fn post(client: &Client, headers: &Headers<'_>, body: &str) -> (u16, Value) {
    let response = dispatch(client, writer(), headers, body);
    let status = response.status().code;
    let body = response.into_string().unwrap_or_default();
    (status, from_str(&body).unwrap_or_default())
}

/// A request of a revision with a handshake.
fn legacy(method: &str, params: Value) -> String {
    json!({ "jsonrpc": "2.0", "id": "one", "method": method, "params": params }).to_string()
}

/// A request of 2026-07-28.
fn modern(method: &str, mut params: Value) -> String {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": { "name": "tests", "version": "1" },
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    legacy(method, params)
}

fn result(result: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": "one", "result": result })
}

/// A result of 2026-07-28.
fn complete(mut outcome: Value) -> Value {
    let server = json!({ "name": "notes", "version": env!("CARGO_PKG_VERSION") });
    outcome["resultType"] = json!("complete");
    outcome["_meta"] = json!({ "io.modelcontextprotocol/serverInfo": server });
    result(outcome)
}

fn error(code: i32, message: &str) -> Value {
    json!({ "jsonrpc": "2.0", "id": "one", "error": { "code": code, "message": message } })
}

fn unsupported(requested: &str) -> Value {
    let mut reply = error(-32022, "this protocol version is not supported");
    reply["error"]["data"] = json!({ "supported": VERSIONS, "requested": requested });
    reply
}

/// To what has no `id`, or none that can be read.
fn without_id(mut reply: Value) -> Value {
    reply.as_object_mut().unwrap().remove("id");
    reply
}

/// The result of a tool, or its error.
fn tool_result(text: &str, is_error: bool) -> Value {
    json!({ "content": [{ "type": "text", "text": text }], "isError": is_error })
}

/// Calls a tool as a client of a revision with a handshake.
fn call(client: &Client, claims: Value, name: &str, arguments: Value) -> Value {
    let message = legacy("tools/call", json!({ "name": name, "arguments": arguments }));
    let response = dispatch(client, claims, &[], &message);
    assert_eq!(response.status(), Status::Ok);
    response.into_json::<Value>().unwrap()["result"].take()
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
    let discover = client
        .post("/mcp")
        .header(Header::new(VERSION.0, VERSION.1))
        .body(modern("server/discover", json!({})));
    for request in [client.post("/mcp"), client.get("/mcp"), client.delete("/mcp"), discover] {
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
    let ping = legacy("ping", json!({}));
    for other in ["http://localhost:8000", "http://localhost:8000/mcp/", "app"] {
        let claims = json!({ "sub": "alice", "scope": "notes:read", "aud": other });
        let response = dispatch(&client, claims, &[], &ping);
        assert_eq!(response.status(), Status::Unauthorized, "{other}");
        assert!(challenge(&response).contains("error=\"invalid_token\""));
    }
    let claims = json!({ "sub": "alice", "scope": "notes:read", "aud": RESOURCE });
    assert_eq!(dispatch(&client, claims, &[], &ping).status(), Status::Ok);
}

#[test]
fn a_client_with_a_handshake_speaks_its_revision_or_the_newest() {
    let client = app();
    for (wanted, spoken) in [
        ("2025-11-25", "2025-11-25"),
        ("2025-06-18", "2025-06-18"),
        ("2025-03-26", "2025-03-26"),
        ("2024-11-05", "2025-11-25"),
        // That one has no handshake.
        ("2026-07-28", "2025-11-25"),
    ] {
        let params = json!({ "protocolVersion": wanted, "capabilities": {}, "clientInfo": {} });
        let expected = result(json!({
            "protocolVersion": spoken,
            "capabilities": { "tools": {} },
            "serverInfo": { "name": "notes", "version": env!("CARGO_PKG_VERSION") },
        }));
        assert_eq!(
            post(&client, &[], &legacy("initialize", params)),
            (200, expected),
            "{wanted}"
        );
    }
    let ping = legacy("ping", json!({}));
    for version in &VERSIONS[1..] {
        let headers = [("MCP-Protocol-Version", *version)];
        assert_eq!(post(&client, &headers, &ping), (200, result(json!({}))), "{version}");
    }
    // A client may declare such a revision in `_meta` too.
    let meta = json!({ "io.modelcontextprotocol/protocolVersion": "2025-11-25" });
    let declared = legacy("ping", json!({ "_meta": meta }));
    let headers = [("MCP-Protocol-Version", "2025-11-25")];
    assert_eq!(post(&client, &headers, &declared), (200, result(json!({}))));
    for version in ["1999-12-31", "2026-07-29", "", "2025-11-25 2025-06-18", "DRAFT-2026-v1"] {
        let headers = [("MCP-Protocol-Version", version)];
        assert_eq!(post(&client, &headers, &ping), (400, unsupported(version)), "{version}");
    }
    let twice = [
        ("MCP-Protocol-Version", "2025-11-25"),
        ("MCP-Protocol-Version", "2025-06-18"),
    ];
    assert_eq!(
        post(&client, &twice, &ping),
        (400, unsupported("2025-11-25, 2025-06-18"))
    );
}

/// Each request of 2026-07-28 has all that the handshake negotiated before.
#[test]
fn a_client_without_a_handshake_is_answered_at_once() {
    let client = app();
    let headers = [VERSION, ("Mcp-Method", "server/discover")];
    let expected = complete(json!({
        "supportedVersions": VERSIONS,
        "capabilities": { "tools": {} },
        "ttlMs": 300_000,
        "cacheScope": "private",
    }));
    assert_eq!(
        post(&client, &headers, &modern("server/discover", json!({}))),
        (200, expected)
    );

    let headers = [VERSION, ("Mcp-Method", "tools/list")];
    let (status, reply) = post(&client, &headers, &modern("tools/list", json!({})));
    let tools = reply["result"]["tools"].clone();
    let expected = json!({ "tools": tools, "ttlMs": 300_000, "cacheScope": "private" });
    assert_eq!((status, reply), (200, complete(expected)));
    // The same tools as ever, without what is new.
    let older = post(&client, &[], &legacy("tools/list", json!({})));
    assert_eq!(older, (200, result(json!({ "tools": tools }))));

    let list = modern("tools/call", json!({ "name": "list_notes", "arguments": {} }));
    let headers = [VERSION, CALL, ("Mcp-Name", "list_notes")];
    let expected = complete(tool_result("There are no notes.", false));
    assert_eq!(post(&client, &headers, &list), (200, expected.clone()));
    // Header names have no case, and a name may be encoded.
    let headers = [
        ("mcp-protocol-version", "2026-07-28"),
        ("MCP-METHOD", "tools/call"),
        ("mcp-name", "=?base64?bGlzdF9ub3Rlcw==?="),
    ];
    assert_eq!(post(&client, &headers, &list), (200, expected));
}

#[test]
fn headers_match_the_body() {
    let client = app();
    let version = |value| ("MCP-Protocol-Version", value);
    let method = |value| ("Mcp-Method", value);
    let name = |value| ("Mcp-Name", value);
    let add = json!({ "name": "add_note", "arguments": { "text": "Buy milk" } });
    let add = modern("tools/call", add);
    let nameless = modern("tools/call", json!({}));

    let cases: &[(&str, &str, &Headers<'_>)] = &[
        ("MCP-Protocol-Version", &add, &[]),
        ("MCP-Protocol-Version", &add, &[CALL, ADD]),
        ("MCP-Protocol-Version", &add, &[version("2025-11-25"), CALL, ADD]),
        ("MCP-Protocol-Version", &add, &[version("1999-12-31"), CALL, ADD]),
        ("MCP-Protocol-Version", &add, &[VERSION, VERSION, CALL, ADD]),
        ("Mcp-Method", &add, &[VERSION]),
        ("Mcp-Method", &add, &[VERSION, ADD]),
        ("Mcp-Method", &add, &[VERSION, method("tools/list"), ADD]),
        ("Mcp-Method", &add, &[VERSION, method("TOOLS/CALL"), ADD]),
        ("Mcp-Method", &add, &[VERSION, CALL, method("tools/list"), ADD]),
        ("Mcp-Name", &add, &[VERSION, CALL]),
        ("Mcp-Name", &add, &[VERSION, CALL, name("list_notes")]),
        ("Mcp-Name", &add, &[VERSION, CALL, name("Add_note")]),
        ("Mcp-Name", &add, &[VERSION, CALL, name("list_notes"), ADD]),
        ("Mcp-Name", &add, &[VERSION, CALL, ADD, name("list_notes")]),
        ("Mcp-Name", &add, &[VERSION, CALL, name("=?base64?bGlzdF9ub3Rlcw==?=")]),
        ("Mcp-Name", &add, &[VERSION, CALL, name("=?base64?YWRk*?=")]),
        ("Mcp-Name", &add, &[VERSION, CALL, name("=?base64?/w==?=")]),
        ("Mcp-Name", &add, &[VERSION, CALL, name("=?base64?=")]),
        ("Mcp-Name", &add, &[VERSION, CALL, name("=?BASE64?YWRkX25vdGU=?=")]),
        ("Mcp-Name", &nameless, &[VERSION, CALL, ADD]),
    ];
    for (header, body, headers) in cases {
        let expected = error(-32020, &format!("{header} is missing or does not match the body"));
        assert_eq!(post(&client, headers, body), (400, expected), "{headers:?}");
    }
    // Nothing was carried out.
    let nothing = tool_result("There are no notes.", false);
    assert_eq!(call(&client, reader(), "list_notes", json!({})), nothing);
}

#[test]
fn a_request_declares_its_version_and_capabilities() {
    let client = app();
    let headers = [VERSION, ("Mcp-Method", "tools/list")];
    let expected = error(
        -32602,
        "`_meta` must have io.modelcontextprotocol/protocolVersion and io.modelcontextprotocol/clientCapabilities",
    );
    let (version, capabilities) = (
        "io.modelcontextprotocol/protocolVersion",
        "io.modelcontextprotocol/clientCapabilities",
    );
    for meta in [
        json!(null),
        json!({}),
        json!([]),
        json!({ capabilities: {} }),
        json!({ version: 20260728, capabilities: {} }),
        json!({ version: "2026-07-28" }),
        json!({ version: "2026-07-28", capabilities: null }),
        json!({ version: "2026-07-28", capabilities: [] }),
    ] {
        let message = legacy("tools/list", json!({ "_meta": meta }));
        assert_eq!(post(&client, &headers, &message), (400, expected.clone()), "{meta}");
    }
    let message = json!({ "jsonrpc": "2.0", "id": "one", "method": "tools/list" }).to_string();
    assert_eq!(post(&client, &headers, &message), (400, expected));
    // Who the client is may be left out.
    let meta = json!({ version: "2026-07-28", capabilities: {} });
    let message = legacy("tools/list", json!({ "_meta": meta }));
    assert_eq!(post(&client, &headers, &message).0, 200);
}

/// A client of a later revision learns which ones it can go back to.
#[test]
fn an_unknown_version_is_answered_with_the_known_ones() {
    let client = app();
    let message = modern("server/discover", json!({})).replace("2026-07-28", "2027-03-01");
    let headers = [
        ("MCP-Protocol-Version", "2027-03-01"),
        ("Mcp-Method", "server/discover"),
    ];
    assert_eq!(post(&client, &headers, &message), (400, unsupported("2027-03-01")));
}

#[test]
fn each_era_has_its_methods() {
    let client = app();
    for method in ["initialize", "ping", "prompts/list", "subscriptions/listen", ""] {
        let expected = error(-32601, &format!("there is no method {method:?}"));
        let headers = [VERSION, ("Mcp-Method", method)];
        assert_eq!(
            post(&client, &headers, &modern(method, json!({}))),
            (404, expected),
            "{method}"
        );
    }
    for method in ["server/discover", "prompts/list", ""] {
        let expected = error(-32601, &format!("there is no method {method:?}"));
        assert_eq!(
            post(&client, &[], &legacy(method, json!({}))),
            (200, expected),
            "{method}"
        );
    }
    let expected = (200, error(-32602, "there is no tool \"rm\""));
    let rm = json!({ "name": "rm" });
    assert_eq!(post(&client, &[], &legacy("tools/call", rm.clone())), expected);
    let headers = [VERSION, CALL, ("Mcp-Name", "rm")];
    assert_eq!(post(&client, &headers, &modern("tools/call", rm)), expected);
}

/// Nothing is done, whatever it asks for. 2026-07-28 does not define its headers.
#[test]
fn a_notification_is_accepted() {
    let client = app();
    let initialized = r#"{ "jsonrpc": "2.0", "method": "notifications/initialized" }"#;
    let add = json!({ "name": "add_note", "arguments": { "text": "Buy milk" } });
    let add = json!({ "jsonrpc": "2.0", "method": "tools/call", "params": add }).to_string();
    let all: [&Headers<'_>; 3] = [&[], &[("MCP-Protocol-Version", "2025-11-25")], &[VERSION]];
    for headers in all {
        for message in [initialized, &add] {
            let response = dispatch(&client, writer(), headers, message);
            assert_eq!(response.status(), Status::Accepted, "{headers:?}");
            assert_eq!(response.into_string().unwrap_or_default(), "");
        }
    }
    let headers = [("MCP-Protocol-Version", "1999-12-31")];
    let expected = without_id(unsupported("1999-12-31"));
    assert_eq!(post(&client, &headers, initialized), (400, expected));
    let nothing = tool_result("There are no notes.", false);
    assert_eq!(call(&client, reader(), "list_notes", json!({})), nothing);
}

#[test]
fn notes_are_added_and_listed_each_person_their_own() {
    let client = app();
    let (_, list) = post(&client, &[], &legacy("tools/list", json!({})));
    let tools = list["result"]["tools"].as_array().unwrap();
    let names: Vec<_> = tools.iter().map(|tool| &tool["name"]).collect();
    assert_eq!(names, ["list_notes", "add_note"]);

    let nothing = tool_result("There are no notes.", false);
    assert_eq!(call(&client, reader(), "list_notes", json!({})), nothing);
    for text in ["Buy milk", "Write to Bob"] {
        let added = call(&client, writer(), "add_note", json!({ "text": text }));
        assert_eq!(added, tool_result("The note is saved.", false));
    }
    let both = tool_result("Buy milk\nWrite to Bob", false);
    assert_eq!(call(&client, reader(), "list_notes", json!({})), both);
    let bob = json!({ "sub": "bob", "scope": "notes:read" });
    assert_eq!(call(&client, bob, "list_notes", json!({})), nothing);

    let refusal = tool_result("`text` must have between 1 and 500 characters.", true);
    for arguments in [json!({}), json!({ "text": "" }), json!({ "text": "x".repeat(501) })] {
        assert_eq!(call(&client, writer(), "add_note", arguments), refusal);
    }
    assert_eq!(call(&client, reader(), "list_notes", json!({})), both);
}

/// The tool decides, and the guard's challenge names all that the client has to ask for.
#[test]
fn a_tool_that_needs_another_scope_says_so() {
    let client = app();
    let add = json!({ "name": "add_note", "arguments": { "text": "Buy milk" } });
    let headers = [VERSION, CALL, ADD];
    for response in [
        dispatch(&client, reader(), &[], &legacy("tools/call", add.clone())),
        dispatch(&client, reader(), &headers, &modern("tools/call", add)),
    ] {
        assert_eq!(response.status(), Status::Forbidden);
        assert_eq!(
            challenge(&response),
            format!(
                "Bearer realm=\"api\", error=\"insufficient_scope\", \
                 error_description=\"the token does not allow this\", scope=\"notes:read notes:write\", \
                 resource_metadata=\"http://localhost:8000{METADATA}\""
            )
        );
    }
    let nothing = tool_result("There are no notes.", false);
    assert_eq!(call(&client, reader(), "list_notes", json!({})), nothing);
}

#[test]
fn a_body_that_is_not_a_message_is_rejected() {
    let client = app();
    let not_json = without_id(error(-32700, "the body is not JSON, or too large"));
    let no_message = without_id(error(
        -32600,
        "the body is not one JSON-RPC 2.0 request or notification",
    ));
    let too_large = legacy("ping", json!({ "padding": "x".repeat(1 << 20) }));
    let too_deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    for (body, expected) in [
        ("", &not_json),
        ("{", &not_json),
        ("\u{feff}{}", &not_json),
        (&too_large, &not_json),
        (&too_deep, &not_json),
        ("null", &no_message),
        ("[]", &no_message),
        // A batch, which only 2025-03-26 has.
        (r#"[{ "jsonrpc": "2.0", "id": 1, "method": "ping" }]"#, &no_message),
        // The members of a message, without their names.
        (r#"["2.0", 1, "ping", {}]"#, &no_message),
        (r#"{ "id": 1, "method": "ping" }"#, &no_message),
        (r#"{ "jsonrpc": "1.0", "id": 1, "method": "ping" }"#, &no_message),
        (
            r#"{ "jsonrpc": { "2.0": null }, "id": 1, "method": "ping" }"#,
            &no_message,
        ),
        (r#"{ "jsonrpc": "2.0", "id": [], "method": "ping" }"#, &no_message),
        (r#"{ "jsonrpc": "2.0", "id": null, "method": "ping" }"#, &no_message),
        (r#"{ "jsonrpc": "2.0", "id": 1.5, "method": "ping" }"#, &no_message),
        (r#"{ "jsonrpc": "2.0", "id": 1, "method": 1 }"#, &no_message),
        (
            r#"{ "jsonrpc": "2.0", "id": 1, "method": "ping", "params": [] }"#,
            &no_message,
        ),
        (r#"{ "jsonrpc": "2.0", "id": 1 }"#, &no_message),
        // A response: this server asks nothing.
        (r#"{ "jsonrpc": "2.0", "id": 1, "result": {} }"#, &no_message),
    ] {
        let all: [&Headers<'_>; 2] = [&[], &[VERSION, ("Mcp-Method", "ping")]];
        for headers in all {
            assert_eq!(&post(&client, headers, body), &(400, expected.clone()), "{body:.80}");
        }
    }
    for id in ["1", "-1", "18446744073709551615", r#""""#] {
        let ping = format!(r#"{{ "jsonrpc": "2.0", "id": {id}, "method": "ping", "params": null }}"#);
        let id: Value = from_str(id).unwrap();
        let pong = json!({ "jsonrpc": "2.0", "id": id, "result": {} });
        assert_eq!(post(&client, &[], &ping), (200, pong));
    }
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
    let ping = legacy("ping", json!({}));
    for origin in ["https://evil.example", "null", "http://localhost:8000"] {
        let response = dispatch(&client, reader(), &[("Origin", origin)], &ping);
        assert_eq!(response.status(), Status::Forbidden, "{origin}");
    }
}
