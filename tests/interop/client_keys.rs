//! The client's keys at npm `oidc-provider`, which reads them from the app's `jwks.json` and caches them for as long as
//! that says: a roll-over by `rocket-oidc keys rotate`, with an app that is restarted after each step.

use std::{fs, path::Path};

use rocket::{get, routes, serde::json::json};
use rocket_openidconnect::{LoggedIn, Oidc};

use crate::{
    example::{Example, free_port},
    node_provider::NodeProvider,
    tool::Tool,
    visitor::Visitor,
};

/// Set for a process of this test that is the app.
const IS_APP: &str = "CLIENT_KEYS_APP";
const FILE: &str = "client_keys.json";

#[get("/me")]
fn me(user: LoggedIn) -> String {
    user.subject().to_owned()
}

/// Does nothing unless it is started as the app.
#[rocket::async_test]
#[ignore = "an app that other tests start: run scripts/interop"]
async fn client_keys_app() {
    if std::env::var(IS_APP).is_err() {
        return;
    }
    let rocket = rocket::build().attach(Oidc::fairing()).mount("/", routes![me]);
    rocket.launch().await.expect("it runs until it is killed");
}

struct World {
    tool: Tool,
    port: u16,
    provider_port: String,
}

impl World {
    fn new() -> World {
        let tool = Tool::new();
        let ran = tool.run(&["keys", "new"]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        World {
            tool,
            port: free_port(),
            provider_port: free_port().to_string(),
        }
    }

    fn origin(&self) -> String {
        format!("http://localhost:{}", self.port)
    }

    /// A provider that has read no keys yet: what it caches ends with its process.
    async fn provider(&self) -> NodeProvider {
        let origin = self.origin();
        let clients = json!([{
            "client_id": "keys",
            "token_endpoint_auth_method": "private_key_jwt",
            "token_endpoint_auth_signing_alg": "ES256",
            "jwks_uri": format!("{origin}/oidc/jwks.json"),
            "redirect_uris": [format!("{origin}/oidc/authorize")],
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
        }]);
        NodeProvider::start(&[("CLIENTS", &clients.to_string()), ("PORT", &self.provider_port)]).await
    }

    fn app(&self, provider: &NodeProvider) -> Example {
        let file = self.tool.file(FILE);
        let environment = [
            (IS_APP, "1"),
            ("OIDC_ISSUER", provider.issuer()),
            ("OIDC_CLIENT_ID", "keys"),
            ("OIDC_PRIVATE_KEY_FILE", path(&file)),
            ("OIDC_BASE_URL", &self.origin()),
        ];
        Example::of_test("client_keys::client_keys_app", self.port, &environment)
    }

    fn rotate(&self) -> String {
        let ran = self.tool.run(&["keys", "rotate", FILE, "--now"]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        ran.stdout
    }

    /// The status of the page after a sign-in, in a browser of its own.
    async fn sign_in(&self) -> u16 {
        let answer = Visitor::new().sign_in(&self.origin(), "/me", "alice").await;
        if answer.status == 200 {
            assert_eq!(answer.body, "alice");
        }
        answer.status
    }
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[rocket::async_test]
#[ignore = "needs Node.js: run scripts/interop"]
async fn no_step_of_a_roll_over_is_refused() {
    let world = World::new();
    let provider = world.provider().await;
    let app = world.app(&provider);
    assert_eq!(world.sign_in().await, 200);
    app.stop();

    assert!(world.rotate().starts_with("step 1 of 3"));
    let app = world.app(&provider);
    assert_eq!(world.sign_in().await, 200);
    // Time passes, and the provider reads the keys again.
    drop(provider);
    let provider = world.provider().await;
    assert_eq!(world.sign_in().await, 200);
    app.stop();

    // From here on it has both keys in its cache, and reads nothing.
    for step in ["step 2 of 3", "step 3 of 3"] {
        assert!(world.rotate().starts_with(step));
        let app = world.app(&provider);
        assert_eq!(world.sign_in().await, 200, "{step}");
        app.stop();
    }
    let keys: rocket::serde::json::Value =
        rocket::serde::json::from_str(&fs::read_to_string(world.tool.file(FILE)).unwrap()).unwrap();
    assert_eq!(keys["keys"].as_array().unwrap().len(), 1);
}

/// Why there are three steps, and an hour between them: the provider has the former keys in its cache.
#[rocket::async_test]
#[ignore = "needs Node.js: run scripts/interop"]
async fn a_key_that_signs_before_the_provider_has_read_it_is_refused() {
    let world = World::new();
    let provider = world.provider().await;
    let app = world.app(&provider);
    assert_eq!(world.sign_in().await, 200);
    app.stop();
    world.rotate();
    world.rotate();
    let app = world.app(&provider);
    assert_eq!(world.sign_in().await, 502);
    assert!(app.has_logged("invalid_client"));
}
