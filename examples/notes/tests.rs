//! The reference application, at a provider of the test; at a certified one it is tested in `tests/interop`.

use rocket::{
    Config,
    http::{Accept, Header, Status},
    local::blocking::{Client, LocalRequest},
    serde::json::{Value, json},
};
use rocket_openidconnect::{
    Endpoint,
    testing::{TestClient, TestProvider, TestRequest, assert_guarded},
};

fn app() -> Client {
    at(&TestProvider::new())
}

fn at(provider: &TestProvider) -> Client {
    let figment = super::figment().select(Config::DEBUG_PROFILE);
    // `OIDC_SCOPES` asks for them; see the policy.
    provider.send_unscoped(&["groups"]);
    Client::untracked(provider.register(super::app(figment))).expect("the example launches")
}

fn status(request: LocalRequest<'_>) -> Status {
    request.dispatch().status()
}

fn json_of(request: LocalRequest<'_>) -> Value {
    let response = request.dispatch();
    assert!(response.status().class().is_success(), "{}", response.status());
    response.into_json().unwrap()
}

#[test]
fn only_these_are_public() {
    assert_guarded(&app(), &["/", "/health"]);
}

#[test]
fn an_admin_sees_everything() {
    let ann = json!({ "sub": "ann", "name": "Ann", "email": "ann@example.com", "groups": ["admin"] });
    let client = app();
    let me = client.get("/me").signed_in_as(ann.clone()).dispatch();
    assert_eq!(me.headers().get_one("Cache-Control"), Some("no-store"));
    let me: Value = me.into_json().unwrap();
    for name in ["sub", "name", "email"] {
        assert_eq!(me[name], ann[name]);
    }
    assert_eq!(me["claims"]["groups"], ann["groups"]);
    assert_eq!(
        json_of(client.get("/admin").signed_in_as(ann)),
        json!({ "sub": "ann", "groups": ["admin"] })
    );
}

#[test]
fn who_is_no_admin_is_refused() {
    let bea = json!({ "sub": "bea", "groups": ["users"] });
    let client = app();
    let me = client.get("/me").signed_in_as(bea.clone());
    assert_eq!(status(me), Status::Ok);
    let admin = client.get("/admin").signed_in_as(bea);
    assert_eq!(status(admin), Status::Forbidden);
}

#[test]
fn a_stranger_is_sent_to_sign_in() {
    let client = app();
    let index = client.get("/").dispatch();
    assert_eq!(index.headers().get_one("Cache-Control"), None);
    let page = index.into_string().unwrap();
    assert!(page.contains("Not signed in"));
    let me = client.get("/me").header(Accept::HTML);
    assert_eq!(status(me), Status::SeeOther);
    assert_eq!(status(client.get("/me")), Status::Unauthorized);
}

/// A request of Ann's, who is signed in.
fn refresh(client: &Client) -> LocalRequest<'_> {
    client.post("/me/refresh").signed_in_as(json!({ "sub": "ann" }))
}

/// Which claims a refresh changed, but for those that are about the token.
fn changes(answer: &Value, kind: &str) -> Vec<String> {
    let names = answer[kind].as_array().unwrap().iter();
    let names = names.map(|name| name.as_str().unwrap().to_owned());
    names
        .filter(|name| !["iat", "exp", "jti"].contains(&name.as_str()))
        .collect()
}

#[test]
fn a_refresh_says_what_it_changed() {
    let provider = TestProvider::new();
    let figment = super::figment().select(Config::DEBUG_PROFILE);
    let app = provider.register(super::app(figment));
    let client = Client::tracked(app).expect("the example launches");
    // A provider that sends groups whatever the scopes are.
    provider.send_unscoped(&["groups"]);
    provider.on_id_token(|claims| {
        claims.insert("desk".into(), json!(4));
    });
    client.sign_in("/me", json!({ "sub": "ann", "groups": ["users", "admin"] }));
    provider.on_id_token(|claims| {
        claims.insert("groups".into(), json!(["users"]));
        claims.insert("zoneinfo".into(), json!("Europe/London"));
    });
    provider.clear_requests();
    let answer = json_of(client.post("/me/refresh"));
    assert_eq!(changes(&answer, "added"), ["zoneinfo"]);
    assert_eq!(changes(&answer, "removed"), ["desk"]);
    assert_eq!(changes(&answer, "changed"), ["groups"]);
    assert_eq!(answer["new_access_token"], true);
    assert_eq!(provider.requests_to(Endpoint::Token).len(), 1);
    let me = json_of(client.get("/me"));
    assert_eq!(me["claims"]["groups"], json!(["users"]));

    // Within 10 s there is no further refresh.
    assert_eq!(
        json_of(client.post("/me/refresh")),
        json!({ "added": [], "removed": [], "changed": [], "new_access_token": false })
    );
    assert_eq!(provider.requests_to(Endpoint::Token).len(), 1);
}

#[test]
fn only_the_own_page_refreshes() {
    let provider = TestProvider::new();
    let client = at(&provider);
    let status_with = |name: &'static str, value: &'static str| {
        let request = refresh(&client).header(Header::new(name, value));
        provider.clear_requests();
        let status = status(request);
        (status, provider.requests_to(Endpoint::Token).len())
    };
    for (name, value) in [
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Site", "same-site"),
        ("Origin", "https://evil.example"),
        ("Origin", "https://localhost:8000"),
        ("Origin", "http://localhost:8001"),
        ("Origin", "null"),
    ] {
        let answer = status_with(name, value);
        assert_eq!(answer, (Status::Forbidden, 0), "{name}: {value}");
    }
    for (name, value) in [
        ("Sec-Fetch-Site", "same-origin"),
        ("Sec-Fetch-Site", "none"),
        ("Origin", "http://localhost:8000"),
    ] {
        let answer = status_with(name, value);
        assert_eq!(answer, (Status::Ok, 1), "{name}: {value}");
    }
}

#[test]
fn a_refresh_that_fails_says_why() {
    let provider = TestProvider::new();
    let client = at(&provider);
    let error_of = |request: LocalRequest<'_>| {
        let response = request.dispatch();
        let status = response.status();
        let body: Value = response.into_json().unwrap();
        (status.code, body["error"].as_str().unwrap().to_owned())
    };
    let request = refresh(&client);
    provider.take_down();
    assert_eq!(error_of(request), (502, "refresh_failed".to_owned()));
    provider.recover();
    let request = refresh(&client);
    provider.revoke_all_of("ann");
    assert_eq!(error_of(request), (401, "refresh_refused".to_owned()));

    let figment = super::figment().select(Config::DEBUG_PROFILE);
    let figment = figment.merge(("oidc.session.tokens", "access_token id_token"));
    let app = TestProvider::new().register(super::app(figment));
    let client = Client::untracked(app).expect("the example launches");
    assert_eq!(error_of(refresh(&client)), (409, "no_refresh_token".to_owned()));

    let stranger = client.post("/me/refresh");
    assert_eq!(status(stranger), Status::Unauthorized);
}

/// The provider is down: the app starts, and answers all that needs no sign-in.
#[test]
fn health_does_not_need_the_provider() {
    let provider = TestProvider::new();
    provider.take_down();
    let client = at(&provider);
    assert_eq!(status(client.get("/health")), Status::Ok);
    assert_eq!(status(client.get("/me")), Status::Unauthorized);
    let login = client.get("/oidc/login").dispatch();
    assert_eq!(login.status(), Status::ServiceUnavailable);
    assert_eq!(login.headers().get_one("Retry-After"), Some("1"));
}

#[test]
fn notes_are_kept_by_author() {
    let client = app();
    let ann = json!({ "sub": "ann", "scope": "notes:read notes:write" });
    let note = json!({ "text": "Buy milk" });
    let add = client.post("/api/notes").json(&note).bearer(ann.clone());
    assert_eq!(status(add), Status::Created);
    let author = format!("{} ann", TestProvider::ISSUER);
    assert_eq!(
        json_of(client.get("/api/notes").bearer(ann)),
        json!([{ "author": author, "text": "Buy milk" }])
    );
    let bea = json!({ "sub": "bea", "scope": "notes:read" });
    assert_eq!(json_of(client.get("/api/notes").bearer(bea)), json!([]));
}

#[test]
fn the_api_refuses_a_token_without_the_scope() {
    let client = app();
    let bea = json!({ "sub": "bea", "scope": "notes:read" });
    let note = json!({ "text": "Buy milk" });
    let add = client.post("/api/notes").json(&note).bearer(bea).dispatch();
    assert_eq!(add.status(), Status::Forbidden);
    let challenge = add.headers().get_one("WWW-Authenticate").unwrap();
    assert!(
        challenge.starts_with(
            "Bearer realm=\"api\", error=\"insufficient_scope\", \
             error_description=\"the token does not allow this\", scope=\"notes:write\""
        ),
        "{challenge}"
    );
}

#[test]
fn either_is_for_people_and_for_tokens() {
    let client = app();
    let whoami = json!({ "sub": "ann", "client_id": "robot", "scope": "notes:read" });
    assert_eq!(json_of(client.get("/api/whoami").bearer(whoami.clone())), whoami);
    assert_eq!(
        json_of(client.get("/api/either").bearer(whoami)),
        json!({ "kind": "bearer", "sub": "ann" })
    );
    let ann = json!({ "sub": "ann" });
    assert_eq!(
        json_of(client.get("/api/either").signed_in_as(ann)),
        json!({ "kind": "user", "sub": "ann" })
    );
    assert_eq!(status(client.get("/api/either")), Status::Unauthorized);
}

/// Without any provider, the testing profile's `scope` stands for a token.
#[test]
fn the_api_serves_the_testing_profile() {
    let figment = super::figment()
        .select(Config::DEBUG_PROFILE)
        .merge(("oidc.enabled", false))
        .merge(("oidc.testing_profile", json!({ "sub": "ann", "scope": "notes:read" })));
    let client = Client::untracked(super::app(figment)).expect("the example launches");
    assert_eq!(
        json_of(client.get("/api/whoami")),
        json!({ "sub": "ann", "client_id": null, "scope": "notes:read" })
    );
    assert_eq!(json_of(client.get("/api/notes")), json!([]));
    let note = json!({ "text": "Buy milk" });
    let add = client.post("/api/notes").json(&note);
    assert_eq!(status(add), Status::Forbidden);
}

/// The other API, here: who its caller is.
#[test]
fn another_api_is_called_with_the_user_s_token() {
    let provider = TestProvider::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let api = std::thread::spawn(move || {
        use std::io::{BufRead, BufReader, Write};
        let (stream, _) = listener.accept().unwrap();
        let mut lines = BufReader::new(&stream).lines().map(Result::unwrap);
        let request: Vec<String> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
        (&stream)
            .write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
            .unwrap();
        request
    });
    let figment = super::figment().select(Config::DEBUG_PROFILE);
    let app = super::app_with_accounts(figment, format!("http://{address}/open-banking/accounts"));
    let client = Client::untracked(provider.register(app)).expect("the example launches");
    assert_eq!(client.get("/accounts").dispatch().status(), Status::Unauthorized);
    let answer = json_of(client.get("/accounts").signed_in_as(json!({ "sub": "ann" })));
    assert_eq!(answer, json!({ "status": 403, "body": "no" }));
    let request = api.join().unwrap();
    assert_eq!(request[0], "GET /open-banking/accounts HTTP/1.1");
    let authorization = request
        .iter()
        .find(|line| line.to_ascii_lowercase().starts_with("authorization: bearer "));
    assert!(authorization.is_some_and(|line| line.len() > 30), "{request:?}");
}
