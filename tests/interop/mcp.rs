//! `examples/mcp_server` with the official clients of the Model Context Protocol, at npm `oidc-provider`: a client
//! knows the server's address, and finds, registers and asks for everything else by itself.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Lines, Write},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
};

use serde_json::{Value, json};
use url::Url;

use crate::{
    example::{Example, free_port},
    node_provider::NodeProvider,
    walker::{Person, Walker},
};

/// The client that knows 2026-07-28, and the one before it.
const CLIENT: &str = "@modelcontextprotocol/client";
const EARLIER_CLIENT: &str = "@modelcontextprotocol/sdk";

/// Where the client has its metadata, by which it is known at every provider.
const CLIENT_ID: &str = "https://client.example/mcp.json";

/// `tests/interop/mcp/client.mjs`, gone when dropped.
struct McpClient {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl McpClient {
    fn start(server: &str, arguments: &[&str]) -> McpClient {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/mcp");
        assert!(
            directory.join("node_modules").is_dir(),
            "the client is not installed: `scripts/interop` installs what these tests need"
        );
        let mut process = Command::new("node")
            .args(["client.mjs", server])
            .args(arguments)
            .env("CLIENT_ID", CLIENT_ID)
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("`node` is installed: `scripts/interop` says how");
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        McpClient { process, lines }
    }

    /// What the client says next, which is about `word`.
    fn says(&mut self, word: &str) -> String {
        let line = self.lines.next().expect("the client goes on").unwrap();
        let told = line.strip_prefix(word);
        told.unwrap_or_else(|| panic!("{line}, expected {word}"))
            .trim()
            .to_owned()
    }

    fn says_json(&mut self, word: &str) -> Value {
        serde_json::from_str(&self.says(word)).unwrap()
    }

    /// Alice does what the client asks a person for; yields the parameters of its authorization request.
    async fn is_authorized_by(&mut self, walker: &mut Walker) -> BTreeMap<String, String> {
        let request = self.says("AUTHORIZE");
        let callback = walker.walk(&request, Person::SignsIn("alice")).await;
        assert!(callback.as_str().contains("?code="), "{callback}");
        writeln!(self.process.stdin.as_mut().unwrap(), "{callback}").unwrap();
        Url::parse(&request).unwrap().query_pairs().into_owned().collect()
    }
}

impl Drop for McpClient {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A client signs in, looks around, and adds a note, for which it needs another scope. Yields its client id.
async fn uses_the_server(provider_environment: &[(&str, &str)], arguments: &[&str], revision: &str) -> String {
    let port = free_port();
    let resource = format!("http://localhost:{port}/mcp");
    let provider_environment = [provider_environment, &[("API_AUDIENCE", &resource)]].concat();
    let provider = NodeProvider::start(&provider_environment).await;
    let environment = [
        ("OIDC_DEV_PROVIDER", "false"),
        ("OIDC_ISSUER", provider.issuer()),
        ("OIDC_CLIENT_ID", "notes-api"),
    ];
    let _app = Example::start("mcp_server", port, &environment);
    let mut client = McpClient::start(&resource, arguments);
    let mut alice = Walker::new();

    // It asks for the scope in the challenge, for this resource.
    let asked = client.is_authorized_by(&mut alice).await;
    assert_eq!((&*asked["resource"], &*asked["scope"]), (&*resource, "notes:read"));
    assert_eq!(asked["code_challenge_method"], "S256");
    let server = json!({
        "revision": revision, "name": "notes", "version": env!("CARGO_PKG_VERSION"), "capabilities": { "tools": {} },
    });
    assert_eq!(client.says_json("SERVER"), server);
    assert_eq!(client.says_json("TOOLS"), json!(["list_notes", "add_note"]));
    assert_eq!(client.says_json("FAILED"), json!({ "code": -32602 }));
    assert_eq!(client.says("SCOPE"), "notes:read");
    // A tool that needs another one says so, and the client asks for both.
    let asked = client.is_authorized_by(&mut alice).await;
    assert_eq!(
        (&*asked["resource"], &*asked["scope"]),
        (&*resource, "notes:read notes:write")
    );

    let content = |text: &str| json!([{ "type": "text", "text": text }]);
    assert_eq!(client.says_json("CALLED")["content"], content("The note is saved."));
    assert_eq!(client.says("SCOPE"), "notes:read notes:write");
    assert_eq!(client.says_json("CALLED")["content"], content("Buy milk"));
    asked["client_id"].clone()
}

/// Providers that read such documents.
fn documents() -> String {
    json!({ CLIENT_ID: {
        "client_id": CLIENT_ID,
        "client_name": "MCP client",
        "application_type": "native",
        "redirect_uris": ["http://127.0.0.1:1/callback"],
        "grant_types": ["authorization_code"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "none",
    } })
    .to_string()
}

#[rocket::async_test]
#[ignore = "needs Node.js: run scripts/interop"]
async fn an_mcp_client_is_known_by_its_document() {
    let documents = documents();
    let provider = [("CLIENT_DOCUMENTS", &*documents), ("REGISTRATION", "false")];
    for (client, revision) in [(CLIENT, "2026-07-28"), (EARLIER_CLIENT, "2025-11-25")] {
        let client_id = uses_the_server(&provider, &[client], revision).await;
        assert_eq!(client_id, CLIENT_ID);
    }
}

/// Where a provider reads no documents.
#[rocket::async_test]
#[ignore = "needs Node.js: run scripts/interop"]
async fn an_mcp_client_registers_by_itself() {
    for (client, revision) in [(CLIENT, "2026-07-28"), (EARLIER_CLIENT, "2025-11-25")] {
        let client_id = uses_the_server(&[], &[client], revision).await;
        assert!(!client_id.contains("://"), "{client_id}");
    }
}

#[rocket::async_test]
#[ignore = "needs Node.js: run scripts/interop"]
async fn an_mcp_client_speaks_an_older_revision() {
    for revision in ["2025-06-18", "2025-03-26"] {
        uses_the_server(&[], &[CLIENT, revision], revision).await;
    }
}
