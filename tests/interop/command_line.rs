//! The command-line tool at npm `oidc-provider`: from a registration to an app that signs in with it, and
//! what the doctor says when one thing is wrong.

use crate::{
    example::{Example, free_port},
    node_provider::{CLIENT_SECRET, NodeProvider},
    tool::{Ran, Tool},
    visitor::Visitor,
};

const FILE: &str = "client_secrets.json";

/// An app's directory, and the port that it is going to have.
struct App {
    tool: Tool,
    port: u16,
}

impl App {
    fn new() -> App {
        App {
            tool: Tool::new(),
            port: free_port(),
        }
    }

    fn url(&self) -> String {
        format!("http://localhost:{}", self.port)
    }

    fn register(&self, provider: &NodeProvider, arguments: &[&str]) -> Ran {
        let url = self.url();
        let all = [&["register", provider.issuer(), &url], arguments].concat();
        let ran = self.tool.run_with(&all, "initial-token");
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert_eq!(ran.stderr, "");
        ran
    }

    /// Writes what `register` said into `Rocket.toml`.
    fn settings(&self, registered: &Ran) {
        let (_, settings) = registered.stdout.split_once("Rocket.toml:\n").unwrap();
        let (settings, _) = settings.split_once("\nThen ").unwrap();
        self.tool.write("Rocket.toml", settings);
    }

    /// The reference application, with the file and nothing else.
    fn start(&self) -> Example {
        let file = self.tool.file(FILE);
        let environment = [("OIDC_CLIENT_SECRETS", file.to_str().unwrap())];
        Example::start("notes", self.port, &environment)
    }

    async fn signs_in(&self, user: &'static str) {
        let mut visitor = Visitor::new();
        let answer = visitor.sign_in(&self.url(), "/me", user).await;
        assert_eq!(answer.status, 200);
        let me: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(me["sub"], user);
    }
}

#[rocket::async_test]
#[ignore = "needs Node.js: run scripts/interop"]
async fn a_registered_app_signs_in_and_the_doctor_is_green() {
    let provider = NodeProvider::start(&[("REGISTRATION_TOKEN", "initial-token")]).await;
    let mut app = App::new();
    let registered = app.register(
        &provider,
        &[
            "--scope=openid profile email",
            "--initial-access-token=-",
            "--post-logout",
            "--backchannel-logout",
            "--introspection",
        ],
    );
    let _running = app.start();
    app.signs_in("alice").await;

    app.settings(&registered);
    let port = app.port.to_string();
    app.tool.env("ROCKET_PORT", port);
    let report = app.tool.report(&["doctor"]);
    assert_eq!(report.code, Some(0), "{report:#?}");
    assert_eq!(report.with("failure"), [""; 0]);
    assert_eq!(report.with("warning"), [""; 0], "{report:#?}");
    assert_eq!(
        report.check("back-channel logout")["finding"],
        format!("the app responds at {}/oidc/backchannel-logout", app.url())
    );
}

#[rocket::async_test]
#[ignore = "needs Node.js: run scripts/interop"]
async fn the_doctor_is_red_after_one_change() {
    let provider = NodeProvider::start(&[]).await;
    let mut app = App::new();
    let registered = app.register(&provider, &[]);
    app.settings(&registered);
    assert_eq!(app.tool.report(&["doctor"]).code, Some(0));

    app.tool.env("OIDC_CLIENT_SECRET", "wrong");
    app.tool.report(&["doctor"]).fails_at(
        "client authentication",
        "the provider's token endpoint rejected the request with `invalid_client`: client authentication \
         failed (client_secret_basic)",
        "check `oidc.client_id`, `oidc.client_secret` and `oidc.token_endpoint_auth_method`",
    );
    let secret = app.tool.web(FILE)["client_secret"].clone();
    app.tool.env("OIDC_CLIENT_SECRET", secret.as_str().unwrap());

    let url = app.url();
    app.tool.env("OIDC_OVERWRITE_REDIRECT_URI", format!("{url}/elsewhere"));
    let client_id = app.tool.web(FILE)["client_id"].clone();
    app.tool.report(&["doctor"]).fails_at(
        "redirect URI",
        &format!(
            "{url}/elsewhere is rejected: the authorization endpoint responds with status 400, and its page \
             contains `invalid_redirect_uri`"
        ),
        &format!(
            "register exactly this redirect URI for `{}` (`rocket-oidc register --update`, or the provider's \
             console), or change `base_url`, `mount` or `overwrite_redirect_uri` to match a registered one",
            client_id.as_str().unwrap()
        ),
    );
    app.tool
        .env("OIDC_OVERWRITE_REDIRECT_URI", format!("{url}/oidc/authorize"));

    let issuer = provider.issuer().to_owned();
    app.tool.env("OIDC_ISSUER", format!("{issuer}/"));
    app.tool.report(&["doctor"]).fails_at(
        "metadata",
        &format!("the metadata's issuer is `{issuer}`, expected `{issuer}/`"),
        &format!("set `oidc.issuer` to `{issuer}` if that is the intended provider"),
    );
    app.tool.env("OIDC_ISSUER", &issuer);

    app.tool.env("OIDC_BASE_URL", "http://app.example");
    app.tool.env("ROCKET_SECRET_KEY", "a".repeat(64));
    app.tool.report(&["doctor", "--profile", "release"]).fails_at(
        "settings",
        "`oidc.base_url` in environment variable OIDC_BASE_URL: `http://app.example/` is not \
             `https`",
        "use a URL with `https`; plain `http` is accepted only on loopback and in the debug profile",
    );
    app.tool.env("OIDC_BASE_URL", &url);
    let report = app.tool.report(&["doctor"]);
    assert_eq!(report.code, Some(0), "{report:#?}");

    drop(provider);
    let report = app.tool.report(&["doctor"]);
    assert_eq!(report.with("failure"), ["connection"]);
    assert_eq!(
        report.check("connection")["remedy"],
        "start the provider, or correct host and port in `oidc.issuer`"
    );
}

#[rocket::async_test]
#[ignore = "needs Node.js: run scripts/interop"]
async fn the_doctor_sees_a_moved_clock() {
    let provider = NodeProvider::start(&[("CLOCK_AHEAD", "600")]).await;
    let app = App::new();
    let registered = app.register(&provider, &[]);
    app.settings(&registered);
    let report = app.tool.report(&["doctor"]);
    assert_eq!(report.with("failure"), ["clock"], "{report:#?}");
    let finding = report.check("clock")["finding"].as_str().unwrap();
    assert!(
        finding
            .ends_with("s behind the provider's, and `clock_skew` allows 60 s: tokens look expired, or not valid yet"),
        "{finding}"
    );
}

/// An update moves the app to another address, with a token that changes each time; then nobody is left.
#[rocket::async_test]
#[ignore = "needs Node.js: run scripts/interop"]
async fn a_registration_is_updated_and_deleted() {
    let provider = NodeProvider::start(&[("ROTATE_REGISTRATION_TOKEN", "1")]).await;
    let mut app = App::new();
    app.register(&provider, &["--name=Before"]);
    let before = app.tool.web(FILE);

    app.port = free_port();
    let registered = app.register(&provider, &["--update", "--name=After", "--post-logout"]);
    let after = app.tool.web(FILE);
    assert_eq!(after["client_id"], before["client_id"]);
    assert_eq!(after["client_secret"], before["client_secret"]);
    assert_ne!(after["registration_access_token"], before["registration_access_token"]);
    assert_eq!(
        after["redirect_uris"],
        serde_json::json!([format!("{}/oidc/authorize", app.url())])
    );
    let running = app.start();
    app.signs_in("bob").await;
    drop(running);

    let ran = app.tool.run(&["register", "--delete"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(app.tool.files(), [""; 0]);
    app.settings(&registered);
    app.tool.write(FILE, &serde_json::json!({ "web": after }).to_string());
    let report = app.tool.report(&["doctor"]);
    assert!(report.with("failure").contains(&"client authentication"), "{report:#?}");
}

#[rocket::async_test]
#[ignore = "needs Node.js: run scripts/interop"]
async fn a_public_client_signs_in_too() {
    let provider = NodeProvider::start(&[]).await;
    let app = App::new();
    let registered = app.register(&provider, &["--public-client"]);
    assert_eq!(app.tool.web(FILE).get("client_secret"), None);
    let _running = app.start();
    app.signs_in("alice").await;
    app.settings(&registered);
    let report = app.tool.report(&["doctor"]);
    assert_eq!(report.with("failure"), [""; 0], "{report:#?}");
}

#[rocket::async_test]
#[ignore = "needs Node.js: run scripts/interop"]
async fn a_provider_that_registers_nobody_is_said_so() {
    let provider = NodeProvider::start(&[("REGISTRATION", "0")]).await;
    let app = App::new();
    let url = app.url();
    let ran = app.tool.run(&["register", provider.issuer(), &url]);
    assert_eq!(ran.code, Some(1));
    let first = format!("{} has no registration endpoint. ", provider.issuer());
    assert!(ran.stdout.starts_with(&first), "{}", ran.stdout);
    assert!(ran.stdout.contains(&format!("{url}/oidc/authorize\n")));

    let provider = NodeProvider::start(&[("REGISTRATION_TOKEN", "initial-token")]).await;
    let ran = app.tool.run(&["register", provider.issuer(), &url]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("--initial-access-token"), "{}", ran.stderr);
    assert_eq!(app.tool.files(), [""; 0]);
}

/// A token of the real provider, judged online and offline.
#[rocket::async_test]
#[ignore = "needs Node.js: run scripts/interop"]
async fn tokens_are_judged() {
    let provider = NodeProvider::start(&[]).await;
    let http = crate::patience::client();
    let token = async |resource: &str| -> String {
        let form = format!("grant_type=client_credentials&scope=notes:read&resource={resource}");
        let response = http
            .post(format!("{}/token", provider.issuer()))
            .basic_auth("notes-api", Some(CLIENT_SECRET))
            .header("Content-Type", "application/x-www-form-urlencoded")
            .body(form)
            .send()
            .await
            .unwrap();
        let reply: serde_json::Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
        reply["access_token"].as_str().unwrap().to_owned()
    };
    let mut tool = Tool::new();
    tool.env("OIDC_ISSUER", provider.issuer())
        .env("OIDC_CLIENT_ID", "notes-api")
        .env("OIDC_CLIENT_SECRET", CLIENT_SECRET)
        .env("OIDC_INTROSPECTION_AUTH_METHOD", "client_secret_basic")
        .env("OIDC_AUDIENCE", "https://api.notes.test");
    let jwt = token("https://api.notes.test").await;
    let opaque = token("https://opaque.notes.test").await;
    let keys = crate::patience::get(format!("{}/jwks", provider.issuer()));
    tool.write("jwks.json", &keys.await.unwrap().text().await.unwrap());

    assert_eq!(tool.report(&["token", &jwt]).code, Some(0));
    let report = tool.report(&["token", &opaque]);
    assert_eq!(report.with("failure"), ["introspection"]);
    tool.env("OIDC_AUDIENCE", "https://opaque.notes.test");
    assert_eq!(tool.report(&["token", &opaque]).code, Some(0));
    assert_eq!(tool.report(&["token", &jwt]).with("failure"), ["aud"]);

    drop(provider);
    tool.env("OIDC_AUDIENCE", "https://api.notes.test");
    let report = tool.report(&["token", &jwt, "--jwks", "jwks.json"]);
    assert_eq!(report.code, Some(0), "{report:#?}");
}
