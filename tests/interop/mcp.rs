//! `examples/mcp_server` with the official client of the Model Context Protocol, at npm `oidc-provider`: the
//! client is told the server's address, and finds, registers and asks for everything else by itself.

use std::{
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

/// `tests/interop/mcp/client.mjs`, gone when dropped.
struct McpClient {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl McpClient {
    fn start(server: &str) -> McpClient {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/mcp");
        assert!(
            directory.join("node_modules").is_dir(),
            "the client is not installed: `scripts/interop` installs what these tests need"
        );
        let mut process = Command::new("node")
            .args(["client.mjs", server])
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

    /// Alice does what the client asks a person for; yields what it asked the provider for.
    async fn is_authorized_by(&mut self, walker: &mut Walker) -> (String, String) {
        let request = self.says("AUTHORIZE");
        let callback = walker.walk(&request, Person::SignsIn("alice")).await;
        assert!(callback.as_str().contains("?code="), "{callback}");
        writeln!(self.process.stdin.as_mut().unwrap(), "{callback}").unwrap();
        let request = Url::parse(&request).unwrap();
        let parameter = |name: &str| {
            let mut pairs = request.query_pairs();
            pairs.find(|(key, _)| key == name).unwrap().1.into_owned()
        };
        (parameter("resource"), parameter("scope"))
    }
}

impl Drop for McpClient {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[rocket::async_test]
#[ignore = "needs Node.js: run scripts/interop"]
async fn an_mcp_client_finds_its_way_by_itself() {
    let port = free_port();
    let resource = format!("http://localhost:{port}/mcp");
    let provider = NodeProvider::start(&[("API_AUDIENCE", &resource)]).await;
    let environment = [
        ("OIDC_DEV_PROVIDER", "false"),
        ("OIDC_ISSUER", provider.issuer()),
        ("OIDC_CLIENT_ID", "notes-api"),
    ];
    let _app = Example::start("mcp_server", port, &environment);
    let mut client = McpClient::start(&resource);
    let mut alice = Walker::new();

    // It asks for the scope in the challenge, for this resource.
    let asked = client.is_authorized_by(&mut alice).await;
    assert_eq!(asked, (resource.clone(), "notes:read".to_owned()));
    assert_eq!(client.says_json("TOOLS"), json!(["list_notes", "add_note"]));
    assert_eq!(client.says("SCOPE"), "notes:read");
    // A tool that needs another one says so, and the client asks for both.
    let asked = client.is_authorized_by(&mut alice).await;
    assert_eq!(asked, (resource, "notes:read notes:write".to_owned()));

    let told = |text: &str| json!({ "content": [{ "type": "text", "text": text }], "isError": false });
    assert_eq!(client.says_json("CALLED"), told("The note is saved."));
    assert_eq!(client.says("SCOPE"), "notes:read notes:write");
    assert_eq!(client.says_json("CALLED"), told("Buy milk"));
}
