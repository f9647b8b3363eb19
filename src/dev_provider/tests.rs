//! The development provider, without sockets, and once with.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rocket::{
    http::{
        ContentType, Header, Status,
        uri::{Authority, Host},
    },
    local::asynchronous::Client,
};
use serde_json::json;

use super::{signing::code_challenge, *};

const REDIRECT_URI: &str = "http://localhost:8000/oidc/authorize";
const VERIFIER: &str = "a-code-verifier-of-a-good-length-0123456789";

fn client() -> DevClient {
    DevClient {
        client_id: "dev".into(),
        client_secret: Secret::new("hush"),
        redirect_uri: REDIRECT_URI.into(),
        base_url: Url::parse("http://localhost:8000/").unwrap(),
        audience: vec!["https://api.example.com".into()],
        resource: None,
        apis: apis(json!({
            "orders": { "resource": "https://api.example.com/orders" },
            "stock": { "resource": "https://stock.example", "audience": "stock-api" },
        })),
        label: None,
    }
}

fn apis(json: serde_json::Value) -> BTreeMap<String, ApiSettings> {
    let figment = figment::Figment::from(("oidc.apis", json));
    Settings::extract(&figment).unwrap().apis
}

fn settings() -> DevProviderSettings {
    DevProviderSettings {
        port: 0,
        ..DevProviderSettings::default()
    }
}

async fn provider() -> Client {
    let key = SigningKey::new().unwrap();
    let op = Op::new(client(), settings().users, Arc::new(key), Clock::default());
    Client::untracked(rocket(0, op).unwrap()).await.unwrap()
}

fn request(change: (&str, &str)) -> String {
    let challenge = code_challenge(VERIFIER);
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in [
        ("client_id", "dev"),
        ("redirect_uri", REDIRECT_URI),
        ("response_type", "code"),
        ("scope", "openid email"),
        ("state", "the-state"),
        ("nonce", "the-nonce"),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
    ] {
        query.append_pair(name, if name == change.0 { change.1 } else { value });
    }
    format!("/authorize?{}", query.finish())
}

async fn post(client: &Client, path: &str, form: String) -> (Status, Value, Option<String>) {
    let response = client
        .post(path.to_owned())
        .header(ContentType::Form)
        .body(form)
        .dispatch()
        .await;
    let location = response.headers().get_one("Location").map(str::to_owned);
    let status = response.status();
    let text = response.into_string().await.unwrap_or_default();
    (status, serde_json::from_str(&text).unwrap_or_default(), location)
}

async fn new_code(client: &Client) -> String {
    code_for(client, request(("", ""))).await
}

/// A code for this authorization request, after a sign-in as alice.
async fn code_for(client: &Client, request: String) -> String {
    let page = client.get(request).dispatch().await.into_string().await.unwrap();
    let id = page
        .split("name=\"request\" value=\"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap();
    let (status, _, location) = post(client, "/authorize", format!("request={id}&user=alice")).await;
    assert_eq!(status, Status::SeeOther);
    let location = Url::parse(&location.unwrap()).unwrap();
    let find = |name: &str| {
        location
            .query_pairs()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.into_owned())
    };
    assert_eq!(find("state").as_deref(), Some("the-state"));
    find("code").unwrap()
}

fn exchange(code: &str, change: (&str, &str)) -> String {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in [
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", REDIRECT_URI),
        ("code_verifier", VERIFIER),
        ("client_id", "dev"),
        ("client_secret", "hush"),
    ] {
        form.append_pair(name, if name == change.0 { change.1 } else { value });
    }
    form.finish()
}

#[rocket::async_test]
async fn a_code_is_good_once_and_its_second_use_revokes_the_tokens() {
    let client = provider().await;
    let code = new_code(&client).await;
    let (status, tokens, _) = post(&client, "/token", exchange(&code, ("", ""))).await;
    assert_eq!(status, Status::Ok);
    let bearer = || {
        Header::new(
            "Authorization",
            format!("Bearer {}", tokens["access_token"].as_str().unwrap()),
        )
    };
    let me = client.get("/userinfo").header(bearer()).dispatch().await;
    let me: Value = serde_json::from_str(&me.into_string().await.unwrap()).unwrap();
    assert_eq!(me["sub"], "alice");

    let (status, error, _) = post(&client, "/token", exchange(&code, ("", ""))).await;
    assert_eq!((status, &error["error"]), (Status::BadRequest, &json!("invalid_grant")));
    let me = client.get("/userinfo").header(bearer()).dispatch().await;
    assert_eq!(me.status(), Status::Unauthorized);
}

#[rocket::async_test]
async fn the_token_endpoint_checks_everything() {
    let client = provider().await;
    for (change, error) in [
        (("code_verifier", "another"), "invalid_grant"),
        (("redirect_uri", "http://localhost:8000/"), "invalid_grant"),
        (("code", "code-x"), "invalid_grant"),
        (("client_secret", "wrong"), "invalid_client"),
        (("client_id", "other"), "invalid_client"),
        (("grant_type", "password"), "unsupported_grant_type"),
    ] {
        let code = new_code(&client).await;
        let (_, reply, _) = post(&client, "/token", exchange(&code, change)).await;
        assert_eq!(reply["error"], error, "{change:?}");
    }
}

#[rocket::async_test]
async fn a_refresh_token_rotates_and_its_reuse_ends_the_family() {
    let client = provider().await;
    let code = new_code(&client).await;
    let (_, tokens, _) = post(&client, "/token", exchange(&code, ("", ""))).await;
    let refresh = |token: &Value| {
        format!(
            "grant_type=refresh_token&client_id=dev&client_secret=hush&refresh_token={}",
            token.as_str().unwrap()
        )
    };
    let (status, next, _) = post(&client, "/token", refresh(&tokens["refresh_token"])).await;
    assert_eq!(status, Status::Ok);
    assert_ne!(next["refresh_token"], tokens["refresh_token"]);
    let (_, error, _) = post(&client, "/token", refresh(&tokens["refresh_token"])).await;
    assert_eq!(error["error"], "invalid_grant");
    let (_, error, _) = post(&client, "/token", refresh(&next["refresh_token"])).await;
    assert_eq!(error["error"], "invalid_grant");
}

#[rocket::async_test]
async fn introspection_and_revocation_know_the_token() {
    let client = provider().await;
    let code = new_code(&client).await;
    let (_, tokens, _) = post(&client, "/token", exchange(&code, ("", ""))).await;
    let form = format!(
        "client_id=dev&client_secret=hush&token={}",
        tokens["access_token"].as_str().unwrap()
    );
    let (_, before, _) = post(&client, "/introspect", form.clone()).await;
    assert_eq!((&before["active"], &before["sub"]), (&json!(true), &json!("alice")));
    assert_eq!(post(&client, "/revoke", form.clone()).await.0, Status::Ok);
    let (_, after, _) = post(&client, "/introspect", form).await;
    assert_eq!(after, json!({ "active": false }));
    assert_eq!(
        post(&client, "/introspect", "token=x".into()).await.0,
        Status::Unauthorized
    );
}

#[rocket::async_test]
async fn a_user_with_custom_claims_signs_in_if_they_have_a_sub() {
    let client = provider().await;
    let page = client.get(request(("scope", "openid groups"))).dispatch().await;
    let page = page.into_string().await.unwrap();
    let (_, rest) = page.split_once("name=\"request\" value=\"").unwrap();
    let (id, _) = rest.split_once('"').unwrap();
    let decide = |claims: &str| {
        let claims: String = url::form_urlencoded::byte_serialize(claims.as_bytes()).collect();
        post(&client, "/authorize", format!("request={id}&claims={claims}"))
    };
    for claims in ["", "{", "[]", "{\"name\": \"Zoe\"}", "{\"sub\": \"\"}", "{\"sub\": 1}"] {
        let (status, _, location) = decide(claims).await;
        assert_eq!((status, location), (Status::BadRequest, None), "{claims}");
    }

    let (_, _, location) = decide("{\"sub\": \"zoe\", \"groups\": [\"pilots\"]}").await;
    let location = Url::parse(&location.unwrap()).unwrap();
    let (_, code) = location.query_pairs().find(|(name, _)| name == "code").unwrap();
    let (_, tokens, _) = post(&client, "/token", exchange(&code, ("", ""))).await;
    let token = tokens["access_token"].as_str().unwrap();
    let bearer = Header::new("Authorization", format!("Bearer {token}"));
    let me = client.post("/userinfo").header(bearer).dispatch().await;
    let me: Value = serde_json::from_str(&me.into_string().await.unwrap()).unwrap();
    assert_eq!(me, json!({ "sub": "zoe", "groups": ["pilots"] }));
    let me = client.get("/userinfo").dispatch().await;
    assert_eq!(me.status(), Status::Unauthorized);
}

#[rocket::async_test]
async fn a_client_authenticates_once_and_for_everything() {
    let client = provider().await;
    let code = new_code(&client).await;
    let twice = client
        .post("/token")
        .header(ContentType::Form)
        .header(Header::new("Authorization", "Basic ZGV2Omh1c2g="))
        .body(exchange(&code, ("", "")))
        .dispatch()
        .await;
    assert_eq!(twice.status(), Status::BadRequest);

    let (_, tokens, _) = post(&client, "/token", exchange(&code, ("", ""))).await;
    let token = tokens["access_token"].as_str().unwrap();
    for path in ["/introspect", "/revoke"] {
        let form = format!("client_id=dev&client_secret=wrong&token={token}");
        let (status, body, _) = post(&client, path, form).await;
        assert_eq!(
            (status, &body["error"]),
            (Status::Unauthorized, &json!("invalid_client")),
            "{path}"
        );
    }
    let bearer = Header::new("Authorization", format!("Bearer {token}"));
    let me = client.get("/userinfo").header(bearer).dispatch().await;
    assert_eq!(me.status(), Status::Ok);
}

#[test]
fn codes_and_access_tokens_expire() {
    let grants = Grants::default();
    let request = grants::AuthorizationRequest::default();
    let code = |now| grants.new_code(request.clone(), Map::new(), now);
    assert!(grants.use_code(&code(0), 59).is_some());
    assert!(grants.use_code(&code(0), 60).is_none());

    let grant = grants.use_code(&code(0), 0).unwrap();
    let token = grants.issue(&grant, 0).0;
    let expires_at = grants.access_token(&token, 299).map(|(_, expires_at)| expires_at);
    assert_eq!(expires_at, Some(300));
    assert!(grants.access_token(&token, 300).is_none());
}

#[rocket::async_test]
async fn sign_out_redirects_to_the_app_only() {
    let client = provider().await;
    for (target, status, location) in [
        (
            "?post_logout_redirect_uri=http://localhost:8000/bye&state=s",
            Status::SeeOther,
            Some("http://localhost:8000/bye?state=s"),
        ),
        ("", Status::Ok, None),
        (
            "?post_logout_redirect_uri=http://evil.example/",
            Status::BadRequest,
            None,
        ),
        (
            "?post_logout_redirect_uri=http://localhost:8001/",
            Status::BadRequest,
            None,
        ),
    ] {
        let response = client.get(format!("/end_session{target}")).dispatch().await;
        assert_eq!(response.status(), status, "{target}");
        assert_eq!(response.headers().get_one("Location"), location);
    }
}

#[rocket::async_test]
async fn a_wrong_client_or_redirect_uri_is_never_sent_back() {
    let client = provider().await;
    for change in [("client_id", "other"), ("redirect_uri", "http://evil.example/")] {
        let response = client.get(request(change)).dispatch().await;
        assert_eq!(response.status(), Status::BadRequest, "{change:?}");
        assert_eq!(response.headers().get_one("Location"), None);
    }
}

#[rocket::async_test]
async fn a_wrong_request_is_sent_back_with_its_error() {
    let client = provider().await;
    for (change, error) in [
        (("response_type", "token"), "unsupported_response_type"),
        (("scope", "email"), "invalid_scope"),
        (("nonce", ""), "invalid_request"),
        (("state", ""), "invalid_request"),
        (("code_challenge", ""), "invalid_request"),
        (("code_challenge_method", "plain"), "invalid_request"),
    ] {
        let response = client.get(request(change)).dispatch().await;
        let location = response.headers().get_one("Location").unwrap();
        assert!(location.contains(&format!("error={error}")), "{change:?}: {location}");
    }
}

#[rocket::async_test]
async fn another_host_name_reaches_nothing() {
    let client = provider().await;
    for (host, status) in [
        ("localhost:9400", Status::Ok),
        ("127.0.0.1:9400", Status::Ok),
        ("evil.example", Status::NotFound),
    ] {
        let mut request = client.get("/jwks");
        let host = Host::new(Authority::parse(host).unwrap());
        request.inner_mut().set_host(host);
        assert_eq!(request.dispatch().await.status(), status);
    }
}

#[tokio::test]
async fn it_listens_until_it_is_dropped_and_reports_a_port_in_use() {
    let provider = DevProvider::start(&settings(), client(), Clock::default())
        .await
        .unwrap();
    let address = format!("{}/.well-known/openid-configuration", provider.issuer());
    let metadata = reqwest::get(&address).await.unwrap().text().await.unwrap();
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    assert_eq!(metadata["issuer"], provider.issuer());

    let port = Url::parse(provider.issuer()).unwrap().port().unwrap();
    let taken = DevProviderSettings { port, ..settings() };
    let error = DevProvider::start(&taken, client(), Clock::default())
        .await
        .unwrap_err();
    assert!(matches!(error, DevProviderError::Port { .. }), "{error}");
}

#[rocket::async_test]
async fn the_command_line_gets_a_token_for_the_api() {
    let client = provider().await;
    let ask = |secret: &str, grant: &str| {
        format!("grant_type={grant}&client_id=dev-cli&client_secret={secret}&scope=notes%3Aread&code=x")
    };
    let (status, reply, _) = post(&client, "/token", ask("dev-cli", "client_credentials")).await;
    assert_eq!((status, &reply["scope"]), (Status::Ok, &json!("notes:read")));
    let token = reply["access_token"].as_str().unwrap();
    let part = |i| {
        let bytes = URL_SAFE_NO_PAD.decode(token.split('.').nth(i).unwrap());
        serde_json::from_slice::<Value>(&bytes.unwrap()).unwrap()
    };
    let claims = part(1);
    assert_eq!(part(0)["typ"], "at+jwt");
    assert_eq!(
        (&claims["sub"], &claims["client_id"], &claims["aud"], &claims["scope"]),
        (
            &json!("dev-cli"),
            &json!("dev-cli"),
            &json!(["https://api.example.com"]),
            &json!("notes:read")
        )
    );
    let asked = format!("token={token}&client_id=dev&client_secret=hush");
    let (_, reply, _) = post(&client, "/introspect", asked).await;
    assert_eq!(
        (&reply["active"], &reply["client_id"]),
        (&json!(true), &json!("dev-cli"))
    );

    // RFC 8707: for one of the app's further APIs.
    let for_resource = |resource: &str| {
        let ask = ask("dev-cli", "client_credentials");
        post(&client, "/token", format!("{ask}&resource={resource}"))
    };
    for (resource, aud) in [
        ("https%3A%2F%2Fapi.example.com", "https://api.example.com"),
        ("http%3A%2F%2Flocalhost%3A8000", "https://api.example.com"),
        (
            "https%3A%2F%2Fapi.example.com%2Forders",
            "https://api.example.com/orders",
        ),
        ("https%3A%2F%2Fstock.example", "stock-api"),
        ("stock-api", "stock-api"),
    ] {
        let (_, reply, _) = for_resource(resource).await;
        let token = reply["access_token"].as_str().unwrap();
        let payload = token.split('.').nth(1).unwrap();
        let claims = URL_SAFE_NO_PAD.decode(payload).unwrap();
        let claims: Value = serde_json::from_slice(&claims).unwrap();
        assert_eq!(claims["aud"], json!([aud]), "{resource}");
    }
    let (status, reply, _) = for_resource("https%3A%2F%2Fevil.example").await;
    assert_eq!(
        (status, &reply["error"]),
        (Status::BadRequest, &json!("invalid_target"))
    );

    let (status, ..) = post(&client, "/token", ask("wrong", "client_credentials")).await;
    assert_eq!(status, Status::Unauthorized);
    let (_, reply, _) = post(&client, "/token", ask("dev-cli", "authorization_code")).await;
    assert_eq!(reply["error"], "unauthorized_client");
}

fn claims_of(reply: &Value) -> Value {
    let token = reply["access_token"].as_str().unwrap_or_else(|| panic!("{reply}"));
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice(&payload).unwrap()
}

/// RFC 8707 §2.2: what cannot be granted does not use the refresh token.
#[rocket::async_test]
async fn a_refresh_may_name_another_api() {
    let client = provider().await;
    let code = new_code(&client).await;
    let (_, reply, _) = post(&client, "/token", exchange(&code, ("", ""))).await;
    let refresh = async |token: &Value, more: &str| {
        let token = token.as_str().unwrap();
        let form = format!("grant_type=refresh_token&refresh_token={token}&client_id=dev&client_secret=hush{more}");
        post(&client, "/token", form).await.1
    };
    let first = &reply["refresh_token"];
    for (more, error) in [
        ("&resource=orders", "invalid_target"),
        ("&resource=https%3A%2F%2Forders.example%23x", "invalid_target"),
        ("&resource=https%3A%2F%2Forders.example&scope=admin", "invalid_scope"),
    ] {
        assert_eq!(refresh(first, more).await["error"], error);
    }
    let reply = refresh(first, "&resource=https%3A%2F%2Forders.example&scope=openid").await;
    let claims = claims_of(&reply);
    assert_eq!(
        (&claims["aud"], &claims["scope"]),
        (&json!(["https://orders.example"]), &json!("openid"))
    );
    assert_eq!(claims["client_id"], "dev");
    assert!(reply.get("id_token").is_none(), "{reply}");
    let reply = refresh(&reply["refresh_token"], "").await;
    assert!(reply["id_token"].is_string(), "{reply}");
}

/// RFC 8693.
#[rocket::async_test]
async fn a_token_is_exchanged_for_one_for_another_api() {
    const TYPE: &str = "urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aaccess_token";
    let client = provider().await;
    let form = "grant_type=client_credentials&client_id=dev-cli&client_secret=dev-cli&scope=notes%3Aread";
    let (_, subject, _) = post(&client, "/token", form.to_owned()).await;
    let ask = async |token: &str, audience: &str, kind: &str| {
        let grant = "urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange";
        let form = format!(
            "grant_type={grant}&client_id=dev&client_secret=hush&subject_token={token}&subject_token_type={kind}\
             &audience={audience}&scope=read"
        );
        post(&client, "/token", form).await.1
    };
    let token = subject["access_token"].as_str().unwrap();
    let reply = ask(token, "https%3A%2F%2Forders.example", TYPE).await;
    let claims = claims_of(&reply);
    assert_eq!(
        (&claims["aud"], &claims["scope"]),
        (&json!(["https://orders.example"]), &json!("read"))
    );
    assert_eq!(
        (&claims["sub"], &claims["client_id"]),
        (&json!("dev-cli"), &json!("dev"))
    );
    assert_eq!(
        reply["issued_token_type"],
        "urn:ietf:params:oauth:token-type:access_token"
    );
    assert_eq!(reply["token_type"], "Bearer");
    for (token, audience, kind, error) in [
        ("unknown", "https%3A%2F%2Forders.example", TYPE, "invalid_request"),
        (token, "orders", TYPE, "invalid_target"),
        (token, "https%3A%2F%2Forders.example", "id_token", "invalid_request"),
    ] {
        assert_eq!(ask(token, audience, kind).await["error"], error);
    }
}

#[rocket::async_test]
async fn a_token_can_be_copied_from_a_page() {
    let client = provider().await;
    let page = client.get("/tokens").dispatch().await.into_string().await.unwrap();
    assert!(page.contains("https:&#x2F;&#x2F;api.example.com"), "{page}");
    assert!(page.contains("<option>orders</option>"), "{page}");

    let copied = |form: &'static str| client.post("/tokens").body(form).dispatch();
    let page = copied("user=alice&scope=notes:read").await.into_string().await.unwrap();
    let token = page.split("rows=\"8\">").nth(1).unwrap().split('<').next().unwrap();
    let asked = format!("token={token}&client_id=dev&client_secret=hush");
    let (_, reply, _) = post(&client, "/introspect", asked).await;
    assert_eq!(
        (&reply["sub"], &reply["scope"]),
        (&json!("alice"), &json!("notes:read"))
    );
    let for_orders = copied("user=alice&scope=&api=orders").await;
    let page = for_orders.into_string().await.unwrap();
    let token = page.split("rows=\"8\">").nth(1).unwrap();
    let payload = token.split('.').nth(1).unwrap();
    let claims = URL_SAFE_NO_PAD.decode(payload).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!(claims["aud"], json!(["https://api.example.com/orders"]));
    for form in ["user=mallory&scope=x", "user=alice&scope=x&api=other"] {
        assert_eq!(copied(form).await.status(), Status::BadRequest, "{form}");
    }
}

const PAGE: &str = "http://localhost:8000/api-docs/oauth2-redirect.html";

/// What Swagger UI sends.
fn request_of_page(redirect_uri: &str, challenge: &str) -> String {
    let query = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("client_id", "api-docs")
        .append_pair("redirect_uri", redirect_uri)
        .append_pair("response_type", "code")
        .append_pair("scope", "notes:read")
        .append_pair("state", "the-state")
        .append_pair("code_challenge", challenge)
        .append_pair("code_challenge_method", "S256")
        .finish();
    format!("/authorize?{query}")
}

fn exchange_of_page(code: &str, change: (&str, &str)) -> String {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in [
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", PAGE),
        ("code_verifier", VERIFIER),
        ("client_id", "api-docs"),
        ("client_secret", ""),
    ] {
        form.append_pair(name, if name == change.0 { change.1 } else { value });
    }
    form.finish()
}

#[rocket::async_test]
async fn a_page_of_api_documentation_gets_an_access_token_only() {
    let client = provider().await;
    let code = code_for(&client, request_of_page(PAGE, &code_challenge(VERIFIER))).await;
    let (status, tokens, _) = post(&client, "/token", exchange_of_page(&code, ("", ""))).await;
    assert_eq!(status, Status::Ok);
    let names: Vec<_> = tokens.as_object().unwrap().keys().collect();
    assert_eq!(names, ["access_token", "expires_in", "scope", "token_type"]);
    let payload = tokens["access_token"].as_str().unwrap().split('.').nth(1).unwrap();
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
    let expected = json!(["alice", ["https://api.example.com"], "api-docs", "notes:read"]);
    let found = ["sub", "aud", "client_id", "scope"].map(|name| &claims[name]);
    assert_eq!(json!(found), expected);

    let (status, error, _) = post(&client, "/token", exchange_of_page(&code, ("", ""))).await;
    assert_eq!((status, &error["error"]), (Status::BadRequest, &json!("invalid_grant")));
}

#[rocket::async_test]
async fn a_client_without_a_secret_gets_nothing_else() {
    let client = provider().await;
    for (change, error) in [
        (("code_verifier", "another"), "invalid_grant"),
        (("redirect_uri", "http://localhost:8000/"), "invalid_grant"),
        (("client_secret", "hush"), "invalid_client"),
        (("client_id", "dev"), "invalid_client"),
        (("grant_type", "client_credentials"), "unauthorized_client"),
        (("grant_type", "refresh_token"), "unauthorized_client"),
    ] {
        let code = code_for(&client, request_of_page(PAGE, &code_challenge(VERIFIER))).await;
        let (_, reply, _) = post(&client, "/token", exchange_of_page(&code, change)).await;
        assert_eq!(reply["error"], error, "{change:?}");
    }
    // The app's code, which the page cannot use, and the other way round.
    let code = new_code(&client).await;
    let form = exchange_of_page(&code, ("redirect_uri", REDIRECT_URI));
    let (_, reply, _) = post(&client, "/token", form).await;
    assert_eq!(reply["error_description"], "the code is another client's");
    let code = code_for(&client, request_of_page(REDIRECT_URI, &code_challenge(VERIFIER))).await;
    let (_, reply, _) = post(&client, "/token", exchange(&code, ("", ""))).await;
    assert_eq!(reply["error_description"], "the code is another client's");
    for path in ["/introspect", "/revoke"] {
        let form = "client_id=api-docs&client_secret=&token=x".to_owned();
        assert_eq!(post(&client, path, form).await.0, Status::Unauthorized, "{path}");
    }
}

#[rocket::async_test]
async fn a_page_elsewhere_is_no_redirect_uri_and_reads_no_response() {
    let client = provider().await;
    for elsewhere in [
        "http://localhost:8001/api-docs/oauth2-redirect.html",
        "http://localhost:8000.evil.example/",
        "https://localhost:8000/",
        "http://localhost:8000/page#fragment",
        "/api-docs",
        "",
    ] {
        let request = request_of_page(elsewhere, &code_challenge(VERIFIER));
        let response = client.get(request).dispatch().await;
        assert_eq!(response.status(), Status::BadRequest, "{elsewhere}");
        assert_eq!(response.headers().get_one("Location"), None);
    }
    let response = client.get(request_of_page(PAGE, "")).dispatch().await;
    let location = response.headers().get_one("Location").unwrap();
    assert!(
        location.starts_with(&format!("{PAGE}?error=invalid_request")),
        "{location}"
    );

    let own = "http://localhost:8000";
    for (path, origin, allowed) in [
        ("/token", own, Some(own)),
        ("/.well-known/openid-configuration", own, Some(own)),
        ("/token", "http://localhost:8001", None),
        ("/token", "null", None),
        ("/authorize", own, None),
        ("/userinfo", own, None),
    ] {
        let request = client.options(path).header(Header::new("Origin", origin));
        let response = request.dispatch().await;
        let headers = response.headers();
        assert_eq!(
            headers.get_one("Access-Control-Allow-Origin"),
            allowed,
            "{path} {origin}"
        );
        assert_eq!(headers.get_one("Vary"), Some("Origin"));
    }
}
