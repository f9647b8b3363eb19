//! `rocket-oidc register`, against a provider whose registration endpoint is scripted.

#[cfg(unix)]
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::{
    support::{Reply, TestProvider},
    tool::{Ran, Tool},
};

const SECRET: &str = "registered-secret-0123456789";
const TOKEN: &str = "registration-token-0123456789";
const FILE: &str = "client_secrets.json";

/// A provider that registers everybody as `c1`.
async fn provider() -> TestProvider {
    let provider = TestProvider::start().await;
    let endpoint = format!("{}/register", provider.issuer());
    provider.metadata(|it| drop(it.insert("registration_endpoint".into(), json!(endpoint))));
    provider.on_path("/register", Reply::json(client(&provider)).with_status(201));
    provider
}

fn client(provider: &TestProvider) -> Value {
    json!({
        "client_id": "c1",
        "client_secret": SECRET,
        "client_secret_expires_at": 0,
        "registration_access_token": TOKEN,
        "registration_client_uri": format!("{}/register/c1", provider.issuer()),
        "redirect_uris": ["https://app.example/oidc/authorize"],
        "token_endpoint_auth_method": "client_secret_basic",
        "client_name": "app.example",
        "a_member_of_its_own": 7,
    })
}

fn register(tool: &Tool, provider: &TestProvider, arguments: &[&str]) -> Ran {
    let issuer = provider.issuer();
    tool.run(&[&["register", &issuer, "https://app.example"], arguments].concat())
}

fn body(provider: &TestProvider, path: &str) -> Value {
    serde_json::from_str(&provider.last_request(path).body).unwrap()
}

#[rocket::async_test]
async fn what_is_asked_for_and_what_is_kept() {
    let (provider, tool) = (provider().await, Tool::new());
    let ran = register(&tool, &provider, &[]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(ran.stderr, "");
    assert_eq!(
        body(&provider, "/register"),
        json!({
            "application_type": "web",
            "client_name": "app.example",
            "redirect_uris": ["https://app.example/oidc/authorize"],
            "response_types": ["code"],
            "grant_types": ["authorization_code", "refresh_token"],
            "token_endpoint_auth_method": "client_secret_basic",
        })
    );
    assert_eq!(provider.last_request("/register").bearer(), None);
    assert_eq!(
        tool.web(FILE),
        json!({
            "issuer": provider.issuer(),
            "client_id": "c1",
            "client_secret": SECRET,
            "client_secret_expires_at": 0,
            "redirect_uris": ["https://app.example/oidc/authorize"],
            "token_endpoint_auth_method": "client_secret_basic",
            "registration_access_token": TOKEN,
            "registration_client_uri": format!("{}/register/c1", provider.issuer()),
        })
    );
    assert_eq!(tool.files(), [FILE]);
    #[cfg(unix)]
    {
        let metadata = tool.file(FILE).metadata().unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    }
    assert!(ran.stdout.contains("client_secrets = \"client_secrets.json\""));
    assert!(!ran.stdout.contains(SECRET) && !ran.stdout.contains(TOKEN));
}

/// A final slash: the app is there, below a path. Without one, it is the redirect URI itself.
#[rocket::async_test]
async fn an_app_below_a_path() {
    let (provider, tool) = (provider().await, Tool::new());
    let issuer = provider.issuer();
    let ran = tool.run(&[
        "register",
        &issuer,
        "https://example.com/team/",
        "--backchannel-logout",
        "--post-logout=/",
    ]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let registered = body(&provider, "/register");
    assert_eq!(
        registered["redirect_uris"],
        json!(["https://example.com/team/oidc/authorize"])
    );
    assert_eq!(
        registered["post_logout_redirect_uris"],
        json!(["https://example.com/team/"])
    );
    let backchannel = "https://example.com/team/oidc/backchannel-logout";
    assert_eq!(registered["backchannel_logout_uri"], json!(backchannel));
    assert!(
        ran.stdout.contains("\nbase_url = \"https://example.com/team\"\n"),
        "{}",
        ran.stdout
    );
}

#[rocket::async_test]
async fn every_option_has_its_effect() {
    let (provider, tool) = (provider().await, Tool::new());
    let issuer = provider.issuer();
    let arguments = [
        "register",
        &issuer,
        "https://app.example",
        "https://www.app.example/back",
        "--mount=/auth",
        "--name=Notes",
        "--scope=openid notes:read",
        "--introspection",
        "--dpop",
        "--backchannel-logout",
        "--post-logout=/bye",
        "--initial-access-token=-",
        "--output=other.json",
    ];
    let ran = tool.run_with(&arguments, "initial-token\n");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(provider.last_request("/register").bearer(), Some("initial-token"));
    assert_eq!(
        body(&provider, "/register"),
        json!({
            "application_type": "web",
            "client_name": "Notes",
            "redirect_uris": ["https://app.example/auth/authorize", "https://www.app.example/back"],
            "response_types": ["code"],
            "grant_types": ["authorization_code", "refresh_token"],
            "token_endpoint_auth_method": "client_secret_basic",
            "scope": "openid notes:read",
            "post_logout_redirect_uris": ["https://app.example/bye", "https://www.app.example/bye"],
            "backchannel_logout_uri": "https://app.example/auth/backchannel-logout",
            "backchannel_logout_session_required": true,
            "dpop_bound_access_tokens": true,
        })
    );
    let introspection = &tool.web("other.json")["token_introspection_uri"];
    assert_eq!(*introspection, format!("{issuer}/introspect"));
    // The provider registered something else.
    assert_eq!(
        ran.stderr.lines().collect::<Vec<_>>(),
        [
            "warning: the provider did not register https://app.example/auth/authorize",
            "warning: the provider did not register https://www.app.example/back",
            "warning: a client has only one back-channel logout URI: \
             https://app.example/auth/backchannel-logout",
        ]
    );
    for line in [
        "client_secrets = \"other.json\"",
        "mount = \"/auth\"",
        "dpop = \"required\"",
        "scopes = \"openid notes:read\"",
        "post_logout_redirect_uri = \"/bye\"",
        "introspection_auth_method = \"client_secret_basic\"",
    ] {
        assert!(ran.stdout.lines().any(|it| it == line), "{line}: {}", ran.stdout);
    }
}

/// The setting `insecure_http_hosts` for the tool, and for the app.
#[rocket::async_test]
async fn a_provider_of_a_closed_network_is_asked_by_plain_http() {
    let tool = Tool::new();
    let issuer = "http://keycloak.invalid:8080/realms/notes";
    let refused = |arguments: &[&str], cause: &str, remedy: &str| {
        let all = [&["register", issuer, "https://app.example"][..], arguments].concat();
        let ran = tool.run(&all);
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.stderr.contains(cause), "{cause}: {ran:?}");
        assert!(ran.stderr.contains(remedy), "{remedy}: {ran:?}");
    };
    let cause = format!("`{issuer}` is neither `https` nor on loopback");
    refused(
        &[],
        &cause,
        "in a closed network pass `--insecure-http-host keycloak.invalid`",
    );
    // Exact names alone.
    refused(
        &["--insecure-http-host=invalid"],
        &cause,
        "list `keycloak.invalid` in `insecure_http_hosts`",
    );
    refused(
        &["--insecure-http-host=*.invalid"],
        "is not a host",
        "insecure_http_hosts",
    );
    // Nobody is there, and it was asked.
    refused(
        &["--insecure-http-host=keycloak.invalid"],
        "not reachable",
        "check that the provider is running",
    );

    // What is printed has it. At loopback nobody needs it.
    let provider = provider().await;
    let ran = tool.run(&[
        "register",
        &provider.issuer(),
        "https://app.example",
        "--insecure-http-host=keycloak",
        "--insecure-http-host=10.0.0.7",
    ]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let line = "insecure_http_hosts = \"keycloak 10.0.0.7\"";
    assert!(ran.stdout.lines().any(|it| it == line), "{}", ran.stdout);
}

/// The default of `introspection_auth_method` stays where the client has that method.
#[rocket::async_test]
async fn introspection_is_authenticated_as_registered() {
    let (provider, tool) = (provider().await, Tool::new());
    let mut other = client(&provider);
    other["token_endpoint_auth_method"] = json!("client_secret_post");
    provider.on_path("/register", Reply::json(other).with_status(201));
    let ran = register(&tool, &provider, &["--introspection"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(!ran.stdout.contains("introspection_auth_method"), "{ran:?}");
}

#[rocket::async_test]
async fn a_public_client_has_no_secret() {
    let (provider, tool) = (provider().await, Tool::new());
    let mut public = client(&provider);
    // Some providers send one all the same.
    public["token_endpoint_auth_method"] = json!("none");
    provider.on_path("/register", Reply::json(public).with_status(201));
    let ran = register(&tool, &provider, &["--public-client"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let asked = &body(&provider, "/register")["token_endpoint_auth_method"];
    assert_eq!(asked, "none");
    assert_eq!(tool.web(FILE).get("client_secret"), None);
}

#[rocket::async_test]
async fn a_file_that_is_there_stays() {
    let (provider, tool) = (provider().await, Tool::new());
    tool.write(FILE, "{\"web\":{\"client_id\":\"old\"}}");
    let ran = register(&tool, &provider, &[]);
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.stderr.starts_with("error: `client_secrets.json` already exists\n"),
        "{}",
        ran.stderr
    );
    assert_eq!(tool.web(FILE)["client_id"], "old");
    assert_eq!(provider.count("/register"), 0);

    let ran = register(&tool, &provider, &["--force"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(tool.web(FILE)["client_id"], "c1");
    #[cfg(unix)]
    {
        let metadata = tool.file(FILE).metadata().unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    }
    assert_eq!(tool.files(), [FILE]);
}

const WITHOUT_TOKEN: &str = "get an initial access token from the provider's administrator and pass it with \
                             `--initial-access-token`, or register the app in the provider's console";

#[rocket::async_test]
async fn a_refused_token_to_register_with() {
    let (provider, tool) = (provider().await, Tool::new());
    for (code, remedy) in [
        (
            "invalid_token",
            "use the token that the provider issued for this: `--initial-access-token` to \
             register, the one in the file to change a registration",
        ),
        (
            "insufficient_scope",
            "correct what the provider reports, or register the client in its console",
        ),
    ] {
        provider.on_path("/register", Reply::error(403, code, "no"));
        let ran = register(&tool, &provider, &["--initial-access-token=used-up"]);
        assert_eq!(ran.code, Some(1));
        assert_eq!(
            ran.stderr,
            format!(
                "error: the provider's registration endpoint rejected the request with `{code}`: no\n       \
                 → {remedy}\n"
            )
        );
        assert!(!format!("{ran:?}").contains("used-up"));
    }
}

/// Keycloak registers its own scopes alone, of which `openid` is none.
#[rocket::async_test]
async fn a_scope_that_the_provider_does_not_register() {
    let (provider, tool) = (provider().await, Tool::new());
    let words = "Policy 'Allowed Client Scopes' rejected request to client-registration service. \
                 Details: Not permitted to use specified clientScope";
    provider.on_path("/register", Reply::error(403, "insufficient_scope", words));
    let arguments = ["--initial-access-token=token", "--scope=openid email"];
    let ran = register(&tool, &provider, &arguments);
    assert_eq!(ran.code, Some(1));
    assert_eq!(
        ran.stderr,
        format!(
            "error: the provider's registration endpoint rejected the request with `insufficient_scope`: \
             {words}\n       → omit `--scope` and set the app's `scopes` by hand, as some providers do not register \
             `openid`; or create the scopes at the provider first\n"
        )
    );
    let words = "the access token lacks the scope `clients`";
    provider.on_path("/register", Reply::error(403, "insufficient_scope", words));
    for arguments in [&arguments[..], &arguments[..1]] {
        let ran = register(&tool, &provider, arguments);
        assert!(ran.stderr.contains("→ correct what the provider reports"), "{ran:?}");
    }
}

#[rocket::async_test]
async fn a_refused_registration_leaves_nothing() {
    let (provider, tool) = (provider().await, Tool::new());
    for (reply, cause, remedy) in [
        (
            Reply::error(400, "invalid_redirect_uri", "no"),
            "the provider's registration endpoint rejected the request with `invalid_redirect_uri`: no",
            "use redirect URIs that the provider accepts for this kind of application; see \
             `--application-type`",
        ),
        (
            Reply::status(401),
            "the provider's registration endpoint rejected the request with `invalid_token`: status 401",
            WITHOUT_TOKEN,
        ),
        (
            Reply::error(
                403,
                "insufficient_scope",
                "Policy 'Trusted Hosts' rejected request to client-registration service. Details: \
                 Host not trusted.",
            ),
            "the provider's registration endpoint rejected the request with `insufficient_scope`: Policy \
             'Trusted Hosts' rejected request to client-registration service. Details: Host not \
             trusted.",
            WITHOUT_TOKEN,
        ),
        (
            Reply::json(json!({ "client_secret": SECRET })).with_status(201),
            "the provider's registration endpoint sent an invalid response: it has no `client_id`",
            "check the provider's log for this request",
        ),
    ] {
        provider.on_path("/register", reply);
        let ran = register(&tool, &provider, &[]);
        assert_eq!(ran.code, Some(1));
        assert_eq!(ran.stderr, format!("error: {cause}\n       → {remedy}\n"));
        assert_eq!(ran.stdout, "");
        assert_eq!(tool.files(), [""; 0]);
    }
}

#[rocket::async_test]
async fn an_issuer_without_metadata() {
    let (provider, tool) = (provider().await, Tool::new());
    let issuer = format!("{}/realms/x", provider.issuer());
    let ran = tool.run(&["register", &issuer, "https://app.example"]);
    assert_eq!(ran.code, Some(1));
    assert_eq!(
        ran.stderr,
        format!(
            "error: the provider's metadata responded with status 404\n       → check ISSUER: its metadata is expected \
             at {issuer}/.well-known/openid-configuration\n"
        )
    );
    let other = "https://other.example/";
    provider.metadata(|it| drop(it.insert("issuer".into(), json!(other))));
    let ran = tool.run(&["register", &provider.issuer(), "https://app.example"]);
    assert!(
        ran.stderr
            .ends_with("→ pass the issuer exactly as the provider spells it, including a trailing slash\n")
    );
    assert_eq!(provider.count("/register"), 0);
}

/// The metadata of both spellings is at one address, and the file has the provider's.
#[rocket::async_test]
async fn a_slash_at_the_issuers_end_is_the_providers() {
    let (provider, tool) = (provider().await, Tool::new());
    let plain = provider.issuer();
    let slash = format!("{plain}/");
    let ran = tool.run(&["register", &slash, "https://app.example"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(tool.web(FILE)["issuer"], plain);
    let ran = tool.run(&["register", &slash, "https://app.example", "--force"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");

    provider.metadata(|it| drop(it.insert("issuer".into(), json!(slash))));
    let ran = tool.run(&["register", &plain, "https://app.example", "--force"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(tool.web(FILE)["issuer"], slash);
}

/// As Flask-OIDC's page has it: the redirect URI whole, and a slash at the issuer's end.
#[rocket::async_test]
async fn a_redirect_uri_says_where_the_app_is_mounted() {
    let (provider, tool) = (provider().await, Tool::new());
    let issuer = format!("{}/", provider.issuer());
    for (url, asked, mount) in [
        ("https://app.example/authorize", &[][..], Some("/")),
        ("https://app.example/auth/authorize", &[], Some("/auth")),
        ("https://app.example/oidc/authorize", &[], None),
        ("https://app.example", &["--mount=/"], Some("/")),
    ] {
        let uri = match url {
            "https://app.example" => "https://app.example/authorize",
            url => url,
        };
        let mut registered = client(&provider);
        registered["redirect_uris"] = json!([uri]);
        provider.on_path("/register", Reply::json(registered).with_status(201));
        let ran = tool.run(&[&["register", &issuer, url, "--force"], asked].concat());
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
        assert_eq!(body(&provider, "/register")["redirect_uris"], json!([uri]));
        let lines: Vec<&str> = ran.stdout.lines().collect();
        let settings = lines.iter().position(|line| *line == "[default.oidc]");
        let mut expected = vec![r#"client_secrets = "client_secrets.json""#.to_owned()];
        expected.extend(mount.map(|mount| format!("mount = {mount:?}")));
        expected.push(String::new());
        let from = settings.unwrap() + 1;
        assert_eq!(lines[from..from + expected.len()], expected, "{}", ran.stdout);
    }
}

#[rocket::async_test]
async fn what_is_printed_is_what_the_doctor_accepts() {
    let (provider, tool) = (provider().await, Tool::new());
    let mut registered = client(&provider);
    registered["redirect_uris"] = json!(["https://app.example/authorize"]);
    provider.on_path("/register", Reply::json(registered).with_status(201));
    let issuer = format!("{}/", provider.issuer());
    let ran = tool.run(&["register", &issuer, "https://app.example/authorize"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let (_, settings) = ran.stdout.split_once("Set in Rocket.toml:\n\n").unwrap();
    let (settings, _) = settings.split_once("\n\nThen run").unwrap();
    tool.write("Rocket.toml", settings);
    let report = tool.report(&["doctor"]);
    assert_eq!(report.with("failure"), [""; 0], "{report:#?}");
    assert_eq!(report.check("redirect URI")["finding"], "https://app.example/authorize");
    assert!(!report.with("warning").contains(&"callback"));

    // Without the mount point the callback would be 404.
    tool.write(
        "Rocket.toml",
        "[default.oidc]\nclient_secrets = \"client_secrets.json\"\n",
    );
    let report = tool.report(&["doctor"]);
    let check = report.check("callback");
    assert_eq!(
        (check["finding"].as_str(), check["remedy"].as_str()),
        (
            Some("the path of https://app.example/authorize is not the callback path /oidc/authorize"),
            Some("set `mount` to `/`")
        )
    );
}

/// A proxy may lead it to the app all the same.
#[rocket::async_test]
async fn a_redirect_uri_that_the_app_does_not_answer_at() {
    let (provider, tool) = (provider().await, Tool::new());
    let mut registered = client(&provider);
    registered["redirect_uris"] = json!(["https://app.example/cb"]);
    provider.on_path("/register", Reply::json(registered).with_status(201));
    let issuer = provider.issuer();
    let ran = tool.run(&["register", &issuer, "https://app.example/cb"]);
    assert_eq!(ran.code, Some(0));
    assert_eq!(
        ran.stderr,
        "warning: the app's callback path is /oidc/authorize, not that of https://app.example/cb\n         \
         → configure the proxy to forward it, or register a redirect URI that ends in /oidc/authorize\n"
    );
}

/// RFC 7591 §3.2.1: what is registered is what the answer says.
#[rocket::async_test]
async fn what_was_answered_is_what_is_registered() {
    let (provider, tool) = (provider().await, Tool::new());
    let mut registered = client(&provider);
    registered["redirect_uris"] = json!(["https://app.example/other", "https://app.example/oidc/authorize"]);
    registered["grant_types"] = json!(["authorization_code"]);
    registered["response_types"] = json!(["code"]);
    registered["token_endpoint_auth_method"] = json!("client_secret_post");
    registered["scope"] = json!("profile notes:read");
    registered["application_type"] = json!("native");
    registered["post_logout_redirect_uris"] = json!([]);
    provider.on_path("/register", Reply::json(registered).with_status(201));
    let arguments = [
        "--scope=openid notes:read notes:write",
        "--post-logout",
        "--contact=ops@app.example",
    ];
    let ran = register(&tool, &provider, &arguments);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(body(&provider, "/register")["contacts"], json!(["ops@app.example"]));
    assert_eq!(
        ran.stdout,
        "registered the client c1
  application type         native (http on loopback: for development)
  redirect URI             https://app.example/other
  redirect URI             https://app.example/oidc/authorize
  response type            code
  grant types              authorization_code
  client authentication    client_secret_post
  PKCE                     S256
  scopes                   profile notes:read
  contacts                 ops@app.example (requested; not confirmed by the provider)
  post-logout redirect URI none
wrote client_secrets.json, which contains secrets: keep it out of version control

Set in Rocket.toml:

[default.oidc]
client_secrets = \"client_secrets.json\"
scopes = \"openid notes:read\"
token_endpoint_auth_method = \"client_secret_post\"

Then run `rocket-oidc doctor`.
"
    );
    assert_eq!(
        ran.stderr.lines().collect::<Vec<_>>(),
        [
            "warning: the provider did not register the grant type refresh_token: sessions are not refreshed",
            "warning: the provider did not register the scopes openid notes:write",
            "warning: the provider did not register the post-logout redirect URI https://app.example/",
            "warning: the provider requires client authentication with client_secret_post",
            "         → set `token_endpoint_auth_method` to `client_secret_post`",
        ]
    );
    // The app sends the first.
    assert_eq!(
        tool.web(FILE)["redirect_uris"],
        json!(["https://app.example/oidc/authorize", "https://app.example/other"])
    );
}

/// Whatever a provider answers, the app takes the file, or it is not there.
#[rocket::async_test]
async fn the_app_takes_every_file() {
    let (provider, tool) = (provider().await, Tool::new());
    let asked = json!(["https://app.example/oidc/authorize"]);
    for (uris, kept) in [
        (Value::Null, &asked),
        (json!([]), &asked),
        (json!("https://app.example/oidc/authorize"), &asked),
        (json!([7, null, "urn:ietf:wg:oauth:2.0:oob"]), &asked),
        (
            json!(["https://a@app.example/cb", "app:/cb", "https://app.example/cb"]),
            &json!(["https://app.example/cb"]),
        ),
    ] {
        let mut registered = client(&provider);
        registered["redirect_uris"] = uris.clone();
        provider.on_path("/register", Reply::json(registered).with_status(201));
        let ran = register(&tool, &provider, &["--force"]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert_eq!(tool.web(FILE)["redirect_uris"], *kept, "{uris}");
        let mut app = Tool::new();
        app.write(FILE, &std::fs::read_to_string(tool.file(FILE)).unwrap());
        app.env("OIDC_CLIENT_SECRETS", FILE);
        let report = app.report(&["doctor"]);
        assert_eq!(report.check("settings")["verdict"], "ok", "{report:#?}");
    }

    std::fs::remove_file(tool.file(FILE)).unwrap();
    let mut registered = client(&provider);
    registered["client_secret"] = json!("two\nlines");
    provider.on_path("/register", Reply::json(registered).with_status(201));
    let ran = register(&tool, &provider, &[]);
    assert_eq!(ran.code, Some(1));
    let [draft] = &tool.files()[..] else {
        panic!("{:?}", tool.files());
    };
    assert_ne!(draft, FILE);
    assert_eq!(
        ran.stderr,
        format!(
            "error: the app would reject the registration: `oidc.client_secrets`: \
             `web.client_secret` in `{draft}`: the value contains or is \
             surrounded by a line break or another invisible character\n       → delete the client in the provider's console, or with `rocket-oidc register \
             --delete --output {draft}`\n"
        )
    );
    assert!(!format!("{ran:?}").contains("lines"));
    provider.on_path("/register/c1", Reply::status(204));
    let ran = tool.run(&["register", "--delete", "--output", draft]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(tool.files(), [""; 0]);
}

#[rocket::async_test]
async fn a_refusal_in_the_servers_words() {
    let (provider, tool) = (provider().await, Tool::new());
    let reply = |status, kind: &str, text: &str| Reply::text(kind, text).with_status(status);
    const CONTACT: &str = "pass the address of a contact, such as `--contact ops@example.com`";
    const OTHER: &str = "correct what the provider reports, or register the client in its console";
    for (reply, words, remedy) in [
        (
            reply(400, "text/plain", "Contacts are required.\n"),
            "`status 400`: Contacts are required.",
            CONTACT,
        ),
        (
            reply(400, "text/html", "<html><h1>Bad</h1><p>no such name</p>"),
            "`status 400`: Bad no such name",
            OTHER,
        ),
        (
            Reply::error(400, "invalid_client_metadata", "contacts: must not be empty"),
            "`invalid_client_metadata`: contacts: must not be empty",
            CONTACT,
        ),
        (
            reply(409, "application/problem+json", "{\"title\":\"taken\"}"),
            "`status 409`: {\"title\":\"taken\"}",
            OTHER,
        ),
    ] {
        provider.on_path("/register", reply);
        let ran = register(&tool, &provider, &[]);
        assert_eq!(ran.code, Some(1));
        assert_eq!(
            ran.stderr,
            format!(
                "error: the provider's registration endpoint rejected the request with {words}\n       → {remedy}\n"
            )
        );
        assert_eq!(tool.files(), [""; 0]);
    }
}

#[rocket::async_test]
async fn a_directory_that_is_not_there_is_found_before_anybody_is_registered() {
    let (provider, tool) = (provider().await, Tool::new());
    let ran = register(&tool, &provider, &["--output=none/here.json"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("cannot be written: "), "{}", ran.stderr);
    assert_eq!(provider.count("/register"), 0);
}

#[rocket::async_test]
async fn without_an_endpoint_a_person_is_told_what_to_enter() {
    let (provider, tool) = (TestProvider::start().await, Tool::new());
    let ran = register(&tool, &provider, &["--scope=openid email", "--post-logout"]);
    assert_eq!(ran.code, Some(1));
    assert_eq!(
        ran.stdout,
        format!(
            "{issuer} has no registration endpoint. Create a client in its console with

  application type         web (redirect URIs with https)
  redirect URI             https://app.example/oidc/authorize
  response type            code
  grant types              authorization_code, refresh_token
  client authentication    client_secret_basic
  PKCE                     S256
  scopes                   openid email
  post-logout redirect URI https://app.example/

Then set in Rocket.toml:

[default.oidc]
issuer = \"{issuer}\"
client_id = \"…\"
base_url = \"https://app.example\"
scopes = \"openid email\"

Set the client secret in the environment variable OIDC_CLIENT_SECRET.
",
            issuer = provider.issuer()
        )
    );
    assert_eq!(tool.files(), [""; 0]);
}

#[rocket::async_test]
async fn addresses_that_no_application_has() {
    let (provider, tool) = (provider().await, Tool::new());
    let issuer = provider.issuer();
    for (urls, cause) in [
        (
            &["https://app.example", "http://localhost:8000"][..],
            "error: https://app.example/oidc/authorize belongs to a `web` application and \
             http://localhost:8000/oidc/authorize to a `native` one, but a client has one type\n",
        ),
        (
            &["http://app.example"],
            "error: http://app.example/oidc/authorize is plain http and not on loopback, which no application type \
             permits\n",
        ),
        (
            &["https://app.example/#top"],
            "error: `oidc.base_url`: `https://app.example/#top` has more than scheme, host, port and \
             path\n",
        ),
    ] {
        let ran = tool.run(&[&["register", &issuer], urls].concat());
        assert_eq!(ran.code, Some(1));
        assert!(ran.stderr.starts_with(cause), "{}", ran.stderr);
    }
    assert_eq!(provider.count("/register"), 0);

    let both = ["https://app.example", "http://localhost:8000"];
    let given = [&["register", &issuer, "--application-type=web"], &both[..]].concat();
    assert_eq!(tool.run(&given).code, Some(0));
    assert_eq!(body(&provider, "/register")["application_type"], "web");
}

#[rocket::async_test]
async fn an_update_keeps_what_it_does_not_decide() {
    let (provider, tool) = (provider().await, Tool::new());
    assert_eq!(register(&tool, &provider, &["--backchannel-logout"]).code, Some(0));

    // The provider hands out a new token with each reply (RFC 7592 §3).
    let mut current = client(&provider);
    current["registration_access_token"] = json!("second-token");
    current["backchannel_logout_uri"] = json!("https://app.example/oidc/backchannel-logout");
    provider.on_path("/register/c1", Reply::json(current));
    let ran = register(&tool, &provider, &["--update", "--name=Notes"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");

    let requests = provider.requests_to("/register/c1");
    let seen: Vec<_> = requests.iter().map(|it| (it.method.as_str(), it.bearer())).collect();
    assert_eq!(seen, [("GET", Some(TOKEN)), ("PUT", Some("second-token"))]);
    assert_eq!(
        body(&provider, "/register/c1"),
        json!({
            "client_id": "c1",
            "client_secret": SECRET,
            "application_type": "web",
            "client_name": "Notes",
            "redirect_uris": ["https://app.example/oidc/authorize"],
            "response_types": ["code"],
            "grant_types": ["authorization_code", "refresh_token"],
            "token_endpoint_auth_method": "client_secret_basic",
            "a_member_of_its_own": 7,
        })
    );
    assert_eq!(tool.web(FILE)["registration_access_token"], "second-token");
    assert_eq!(tool.files(), [FILE]);
}

#[rocket::async_test]
async fn an_update_that_fails_keeps_the_token_that_counts() {
    let (provider, tool) = (provider().await, Tool::new());
    assert_eq!(register(&tool, &provider, &[]).code, Some(0));
    let other = TestProvider::start().await;
    let mut current = client(&provider);
    current["registration_access_token"] = json!("second-token");
    // Where the registration is now refuses to be changed.
    current["registration_client_uri"] = json!(format!("{}/gone", other.issuer()));
    provider.on_path("/register/c1", Reply::json(current));
    let ran = register(&tool, &provider, &["--update"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("responded with status 404"), "{}", ran.stderr);
    assert_eq!(tool.web(FILE)["registration_access_token"], "second-token");
}

#[rocket::async_test]
async fn an_update_is_of_the_issuer_in_the_file() {
    let (provider, tool) = (provider().await, Tool::new());
    tool.write(FILE, "{\"web\":{\"issuer\":\"https://other.example\"}}");
    let ran = register(&tool, &provider, &["--update"]);
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.stderr
            .starts_with("error: `client_secrets.json` is a registration at the issuer \"https://other.example\"\n"),
        "{}",
        ran.stderr
    );
}

#[rocket::async_test]
async fn a_deleted_registration_takes_its_file_along() {
    let (provider, tool) = (provider().await, Tool::new());
    assert_eq!(register(&tool, &provider, &[]).code, Some(0));

    provider.on_path("/register/c1", Reply::status(401));
    let ran = tool.run(&["register", "--delete"]);
    assert_eq!(ran.code, Some(1));
    assert_eq!(tool.files(), [FILE]);

    provider.on_path("/register/c1", Reply::status(204));
    let ran = tool.run(&["register", "--delete"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let request = provider.last_request("/register/c1");
    assert_eq!((request.method.as_str(), request.bearer()), ("DELETE", Some(TOKEN)));
    assert_eq!(tool.files(), [""; 0]);

    let ran = tool.run(&["register", "--delete"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("cannot be read"), "{}", ran.stderr);
}

#[test]
fn arguments_that_make_no_sense() {
    let tool = Tool::new();
    for arguments in [
        &["register"][..],
        &["register", "https://op.example"],
        &["register", "https://op.example", "no address"],
        &["register", "--update", "--delete"],
        &["frobnicate"],
    ] {
        assert_eq!(tool.run(arguments).code, Some(2), "{arguments:?}");
    }
}

/// A provider leads nobody to an address of a private network that no setting names, with or without a token. Its own
/// host, which is one here, is what the issuer names.
#[rocket::async_test]
async fn registrations_go_to_no_private_address() {
    const PRIVATE: &str = "configure the provider to publish its public host names";
    let refuses = |ran: &Ran, url: &str| {
        let cause = format!(
            "error: the provider's registration endpoint is at `{url}`, a loopback or private address that no setting names\n       → {PRIVATE}"
        );
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.stderr.starts_with(&cause), "{ran:?}");
        assert_eq!(ran.stdout, "");
    };
    for (named, url) in [
        ("https://10.0.0.1/register", "https://10.0.0.1/register"),
        ("https://2852039166/register", "https://169.254.169.254/register"),
        ("https://[fd00::1]/register", "https://[fd00::1]/register"),
    ] {
        let (provider, tool) = (provider().await, Tool::new());
        provider.metadata(|it| drop(it.insert("registration_endpoint".into(), json!(named))));
        let ran = register(&tool, &provider, &["--initial-access-token=initial-token"]);
        refuses(&ran, url);
        assert_eq!(tool.files(), [""; 0]);
        assert_eq!(provider.requests().len(), 1);

        // Where a client is managed, the provider names as well.
        provider.be_honest();
        let endpoint = format!("{}/register", provider.issuer());
        provider.metadata(|it| drop(it.insert("registration_endpoint".into(), json!(endpoint))));
        let mut astray = client(&provider);
        astray["registration_client_uri"] = json!(named);
        provider.on_path("/register", Reply::json(astray).with_status(201));
        assert_eq!(register(&tool, &provider, &[]).code, Some(0));
        let requests = provider.requests().len();
        refuses(&register(&tool, &provider, &["--update"]), url);
        refuses(&tool.run(&["register", "--delete"]), url);
        assert_eq!(provider.count("/register"), 1);
        assert!(provider.requests().len() <= requests + 2);
        assert_eq!(tool.files(), [FILE]);
    }
}

#[rocket::async_test]
async fn one_of_several_providers() {
    let (provider, tool) = (provider().await, Tool::new());
    let mut reply = client(&provider);
    reply["redirect_uris"] = json!(["https://app.example/auth/authorize/acme"]);
    provider.on_path("/register", Reply::json(reply).with_status(201));
    let arguments = [
        "--provider=acme",
        "--mount=/auth",
        "--backchannel-logout",
        "--post-logout=/bye",
    ];
    let ran = register(&tool, &provider, &arguments);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let sent = body(&provider, "/register");
    assert_eq!(
        sent["redirect_uris"],
        json!(["https://app.example/auth/authorize/acme"])
    );
    assert_eq!(
        sent["backchannel_logout_uri"],
        "https://app.example/auth/backchannel-logout/acme"
    );
    let settings = "[default.oidc]\nmount = \"/auth\"\n\n[default.oidc.providers.acme]\n\
                    client_secrets = \"client_secrets.json\"\npost_logout_redirect_uri = \"/bye\"\n";
    assert!(ran.stdout.contains(settings), "{}", ran.stdout);

    // A redirect URI as a whole says where the app is mounted.
    let issuer = provider.issuer();
    let whole = "https://app.example/auth/authorize/acme";
    let ran = tool.run(&["register", &issuer, whole, "--provider=acme", "--force"]);
    assert!(ran.stdout.contains("[default.oidc]\nmount = \"/auth\"\n"), "{ran:?}");

    let ran = register(&tool, &provider, &["--provider=No Name"]);
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.stderr.contains("\"No Name\" is not a name for a provider"),
        "{ran:?}"
    );
}

#[rocket::async_test]
async fn the_console_of_one_of_several_providers() {
    let (provider, tool) = (TestProvider::start().await, Tool::new());
    let ran = register(&tool, &provider, &["--provider=acme"]);
    assert_eq!(ran.code, Some(1));
    let settings = format!(
        "[default.oidc]\nbase_url = \"https://app.example\"\n\n[default.oidc.providers.acme]\nissuer = \"{}\"\n\
         client_id = \"…\"\n\nSet the client secret in the environment variable OIDC_PROVIDERS__ACME__CLIENT_SECRET.",
        provider.issuer()
    );
    assert!(ran.stdout.contains(&settings), "{}", ran.stdout);
}

/// What is printed is a working file, beside what the file has already.
#[rocket::async_test]
async fn settings_beside_a_development_provider_are_for_a_release() {
    for (file, expected) in [
        (
            "[debug.oidc]\ndev_provider = true\n",
            "\n[release.oidc]\nclient_secrets = ",
        ),
        (
            "[debug.oidc.dev_provider]\nport = 0\n",
            "\n[release.oidc]\nclient_secrets = ",
        ),
        (
            "[default.oidc]\ndev_provider = true\n",
            "\n[release.oidc]\ndev_provider = false\nclient_secrets = ",
        ),
        (
            "[debug.oidc]\ndev_provider = false\n",
            "\n[default.oidc]\nclient_secrets = ",
        ),
    ] {
        let (provider, tool) = (provider().await, Tool::new());
        tool.write("Rocket.toml", file);
        let ran = register(&tool, &provider, &["--initial-access-token=token"]);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        assert!(ran.stdout.contains(expected), "{file}: {}", ran.stdout);
    }
}
