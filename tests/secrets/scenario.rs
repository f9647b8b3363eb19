//! Everything that secrets take part in: each way to sign in, to stay signed in, to be refused and to sign out.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_lc_rs::signature::Ed25519KeyPair;
use base64::{Engine, engine::general_purpose::STANDARD};
use rocket::{
    Build, Request, Rocket, get,
    http::{Method, Status},
    routes,
    serde::json::{Value, json},
};
use rocket_openidconnect::{
    __private::SessionCookies, ApiClient, Bearer, Events, LoggedIn, LoggedOut, LoginRedirect, NewSignIn, OptionalUser,
    Refused, RelyingParty, SessionChange, scopes,
};
use url::Url;

use crate::{
    common::{App, KEY, attempt_cookies, locked, opened_session},
    recorder::Secrets,
    records::session_cookie,
    server,
    support::{Browser, JwtParts, RecordedRequest, Reply, TestProvider},
};

const CLIENT_SECRET: &str = "correct horse battery staple";
const REQUEST_URI: &str = "urn:ietf:params:oauth:request_uri:6esc_11ACC5bwc014ltc14eY22c";

scopes! {
    NotesWrite = "notes:write";
}

#[get("/api")]
async fn api(token: Bearer) -> String {
    let exchanged = token.exchange("orders", &["read"]).await;
    rocket::info!("{exchanged:?} {:?}", token.tokens_for("orders", &[]));
    format!("{token:?}")
}

/// What a careless app writes into its log of its calls.
#[get("/other-apis")]
async fn other_apis(user: LoggedIn, rp: &RelyingParty) -> &'static str {
    let of_user = user.access_token_for("https://orders.example.com", &["read"]).await;
    let of_client = rp.client_token(&["read"], None).await;
    let client = ApiClient::new("http://127.0.0.1:9/orders").unwrap();
    let tokens = user.tokens_for("https://orders.example.com", &["read"]);
    let called = client.send(client.get("?open=true").unwrap(), &tokens).await;
    rocket::info!("{of_user:?} {of_client:?} {client:?} {tokens:?} {:?}", called.map(drop));
    "called"
}

#[get("/api/write")]
fn write(_token: Bearer<NotesWrite>) -> &'static str {
    "written"
}

/// What a careless app writes into its log.
#[get("/debug")]
async fn debug(user: LoggedIn, visitor: OptionalUser) -> &'static str {
    rocket::info!("{user:?} {visitor:?} {:?}", user.access_token());
    "debug"
}

/// What a careless app writes into its log of what it is told.
struct Careless;

#[rocket::async_trait]
impl Events for Careless {
    async fn before_login_redirect(&self, _: &Request<'_>, login: &mut LoginRedirect<'_>) {
        rocket::info!("{login:?}");
    }

    async fn after_authorize(&self, _: &Request<'_>, sign_in: &mut NewSignIn<'_>) -> Result<(), Refused> {
        rocket::info!("{sign_in:?} {:?}", sign_in.access_token());
        Ok(())
    }

    async fn after_logout(&self, _: &Request<'_>, logout: &LoggedOut<'_>) {
        rocket::info!("{logout:?}");
    }

    async fn session_changed(&self, _: Option<&Request<'_>>, change: &SessionChange) {
        rocket::info!("{change:?}");
    }
}

/// A provider, an app and a browser, and the tokens that the provider gave away.
struct Scene {
    provider: TestProvider,
    app: App,
    browser: Browser,
    tokens: Arc<Mutex<Vec<Value>>>,
}

pub async fn run(secrets: &mut Secrets) {
    secrets.add("secret_key", KEY);
    secrets.add("client_secret", CLIENT_SECRET);
    for store in ["cookie", "memory"] {
        let scene = Scene::open(&[("oidc.session.store", json!(store))]).await;
        scene.sign_in_refresh_and_out(secrets).await;
        scene.sign_in_and_be_signed_out(secrets).await;
        scene.fail_to_sign_in(secrets).await;
        scene.end(secrets);
    }
    let scene = Scene::open(&[("oidc.audience", json!(TestProvider::API))]).await;
    scene.call_the_api(secrets).await;
    scene.end(secrets);
    post_the_response(secrets).await;
    push_the_request_with_a_key(secrets).await;
    bind_tokens_to_a_key(secrets).await;
    over_the_network(secrets).await;
}

impl Scene {
    async fn open(settings: &[(&str, Value)]) -> Scene {
        let provider = TestProvider::start().await;
        Scene::at(provider, settings).await
    }

    async fn at(provider: TestProvider, settings: &[(&str, Value)]) -> Scene {
        let app = App::public(&provider).with("oidc.client_secret", CLIENT_SECRET);
        let app = settings
            .iter()
            .fold(app, |app, (key, value)| app.with(key, value))
            .with("log_level", "normal")
            .with("oidc.frontchannel_logout", true)
            .with("secret_key", KEY);
        let tokens: Arc<Mutex<Vec<Value>>> = Arc::default();
        let given = tokens.clone();
        provider.on_token_response(move |reply: &mut Reply| {
            locked(&given).extend(serde_json::from_slice::<Value>(&reply.body).ok());
        });
        let browser = Browser::open(rocket(&app)).await;
        Scene {
            provider,
            app,
            browser,
            tokens,
        }
    }

    /// Signs in with UserInfo, refreshes, is refused a refresh for a while, and signs out everywhere.
    async fn sign_in_refresh_and_out(&self, secrets: &mut Secrets) {
        let callback = self.browser.begin_sign_in(&self.provider, "/me").await;
        secrets.add("code", callback.param("code").unwrap());
        self.keep_cookies(secrets);
        let path = callback.path_and_query();
        let page = self.browser.arrive_from_provider(&path).await;
        page.redirects_to("/me");
        assert_eq!(self.provider.count("/userinfo"), 1);
        self.browser.visit("/me").await.is(Status::Ok);
        self.browser.visit("/debug").await.is(Status::Ok);
        self.keep_session(secrets).await;
        // The response once more.
        let page = self.browser.arrive_from_provider(&path).await;
        page.redirects_to("/");

        self.app.advance(Duration::from_secs(285));
        self.browser.visit("/me").await.is(Status::Ok);
        assert_eq!(self.provider.count("/token"), 2);
        self.keep_session(secrets).await;
        self.browser.visit("/other-apis").await.is(Status::Ok);
        assert_eq!(self.provider.count("/token"), 4);
        self.keep_session(secrets).await;
        self.provider.on_refresh_response(|reply| *reply = Reply::status(500));
        self.app.advance(Duration::from_secs(285));
        self.browser.visit("/me").await.is(Status::Ok);

        let page = self.browser.submit("/oidc/logout", "").await;
        self.keep_cookies(secrets);
        let page = self.browser.follow(&self.provider, page).await;
        secrets.add("state", state_of(&self.provider.last_request("/end_session")));
        page.is(Status::Ok).sees("\"logged_in\":false");
        self.provider.until_requested("/revoke", 2).await;
        self.provider.on_refresh_response(|_| ());
    }

    /// Signs in, and is signed out by the back channel, by the front channel and at a refresh.
    async fn sign_in_and_be_signed_out(&self, secrets: &mut Secrets) {
        let post = async |token: &str| {
            let form = [("Content-Type", "application/x-www-form-urlencoded")];
            let body = format!("logout_token={token}");
            let browser = self.browser.another();
            let path = "/oidc/backchannel-logout";
            browser.request(Method::Post, path, &form, &body).await
        };
        self.sign_in(secrets).await;
        let tokens = [
            self.provider.logout_token(|token| token.break_signature = true),
            self.provider.logout_token(|token| token.set("nonce", "n")),
            self.provider.logout_token(|_| ()),
        ];
        for (token, status) in tokens.iter().zip([400, 400, 200]) {
            secrets.add("logout_token", token);
            assert_eq!(post(token).await.status, status);
        }
        assert_eq!(post(&tokens[2]).await.status, 400);
        self.browser.visit("/me").await.is(Status::SeeOther);

        self.sign_in(secrets).await;
        let issuer = self.provider.issuer();
        let frame = format!("/oidc/frontchannel-logout?iss={issuer}&sid=none");
        self.browser.fetch(&frame).await.is(Status::Ok);
        self.provider.revoke_refresh_tokens();
        self.app.advance(Duration::from_secs(285));
        self.browser.visit("/me").await.is(Status::SeeOther);
        self.keep_cookies(secrets);
    }

    /// Every failure that has a secret at hand.
    async fn fail_to_sign_in(&self, secrets: &mut Secrets) {
        type Change = fn(&mut JwtParts);
        let changes: [Change; 6] = [
            |token| token.set("nonce", "another nonce"),
            |token| token.set("at_hash", "another hash"),
            |token| token.set("aud", "other"),
            |token| token.set("exp", 1),
            |token| token.set("exp", "soon"),
            |token| token.break_signature = true,
        ];
        for change in changes {
            self.provider.on_id_token(change);
            let page = self.browser.sign_in(&self.provider, "/me").await;
            page.is(Status::BadGateway);
        }
        self.provider.on_id_token(|_| ());
        let given = self.tokens.clone();
        let keep = move |reply: &Reply| {
            locked(&given).extend(serde_json::from_slice::<Value>(&reply.body).ok());
        };
        let replies: [fn(&mut Reply); 4] = [
            |reply| reply.edit(|reply| drop(reply.insert("access_token".into(), json!(5)))),
            |reply| reply.edit(|reply| drop(reply.insert("token_type".into(), json!("DPoP")))),
            |reply| reply.edit(|reply| drop(reply.remove("id_token"))),
            |reply| *reply = Reply::error(400, "invalid_grant", "the code is spent"),
        ];
        for change in replies {
            let keep = keep.clone();
            self.provider.on_token_response(move |reply| {
                keep(reply);
                change(reply);
            });
            let page = self.browser.sign_in(&self.provider, "/me").await;
            assert!([400, 502].contains(&page.status), "{page:#?}");
        }
        self.provider.on_token_response(move |reply| keep(reply));
        self.provider
            .on_user_info(|reply| *reply = Reply::json(json!({ "sub": "mallory" })));
        let page = self.browser.sign_in(&self.provider, "/me").await;
        page.is(Status::BadGateway);
        self.provider.on_user_info(|_| ());

        let callback = self.browser.begin_sign_in(&self.provider, "/me").await;
        secrets.add("code", callback.param("code").unwrap());
        self.keep_cookies(secrets);
        let state = callback.param("state").unwrap().to_owned();
        let wrong = format!("{}{}", &state[..8], "x".repeat(state.len() - 8));
        for bad in [
            callback.clone().set("state", &wrong),
            callback.clone().add("state", &state),
            callback.clone().set("iss", "https://other.example"),
            callback.clone().set("code", ""),
        ] {
            let path = bad.path_and_query();
            let page = self.browser.arrive_from_provider(&path).await;
            page.is(Status::BadRequest);
        }
    }

    /// Tokens that are accepted and refused, as JWTs and by introspection.
    async fn call_the_api(&self, secrets: &mut Secrets) {
        self.sign_in(secrets).await;
        let call = async |path: &str, token: &str| {
            let value = format!("Bearer {token}");
            let headers = [("Authorization", &*value)];
            self.browser.another().fetch_with(path, &headers).await
        };
        let scope = "notes:read";
        let token = self.provider.access_token(scope, |_| ());
        secrets.add("access_token", &token);
        for (path, status) in [("/api", 200), ("/api", 200), ("/api/write", 403)] {
            assert_eq!(call(path, &token).await.status, status);
        }
        type Change = fn(&mut JwtParts);
        let changes: [Change; 5] = [
            |token| token.set("exp", 1),
            |token| token.set("aud", "other"),
            |token| token.set("iss", "https://other.example"),
            |token| token.set("nbf", "soon"),
            |token| token.break_signature = true,
        ];
        for change in changes {
            let token = self.provider.access_token(scope, change);
            secrets.add("access_token", &token);
            assert_eq!(call("/api", &token).await.status, 401);
        }
        let opaque = "an-opaque-token-of-somebody";
        secrets.add("access_token", opaque);
        assert_eq!(call("/api", opaque).await.status, 401);
        self.provider
            .on_introspection(move |reply| *reply = Reply::text("text/plain", opaque));
        let other = format!("{opaque}-else");
        assert_eq!(call("/api", &other).await.status, 502);
        assert_eq!(call("/api", "two tokens-in-one-header").await.status, 400);
        secrets.add("access_token", "tokens-in-one-header");
        assert_eq!(self.provider.count("/introspect"), 2);
    }

    async fn sign_in(&self, secrets: &mut Secrets) {
        let page = self.browser.sign_in(&self.provider, "/me").await;
        page.is(Status::Ok);
        self.keep_session(secrets).await;
    }

    /// The browser's cookies, and the session in them.
    async fn keep_session(&self, secrets: &mut Secrets) {
        self.keep_cookies(secrets);
        let keys = SessionCookies::new(KEY, &self.provider.issuer(), "app").unwrap();
        let cookie = session_cookie(&self.browser);
        let id = keys.decrypt_id(cookie.value()).unwrap_or_else(|| {
            let session = opened_session(&self.browser, &self.provider);
            session["id"].as_str().unwrap().to_owned()
        });
        secrets.add("session", &id);
    }

    fn keep_cookies(&self, secrets: &mut Secrets) {
        for (_, value) in self.browser.cookies() {
            // Behind the id of a browser is a count, and behind a session nothing.
            secrets.add("cookie", value.split('.').next().unwrap());
        }
    }

    /// What the provider saw and gave.
    fn end(&self, secrets: &mut Secrets) {
        for reply in locked(&self.tokens).iter() {
            for name in ["access_token", "refresh_token", "id_token"] {
                if let Some(token) = reply[name].as_str() {
                    secrets.add(name, token);
                }
            }
        }
        for request in self.provider.requests() {
            for (name, value) in request.query.iter().chain(&request.form) {
                let kind = match name.as_str() {
                    "code" => "code",
                    "code_verifier" => "code_verifier",
                    "client_assertion" => "assertion",
                    "id_token_hint" => "id_token",
                    "nonce" => "nonce",
                    "refresh_token" => "refresh_token",
                    "state" => "state",
                    "token" => "access_token",
                    _ => continue,
                };
                if value.len() >= 16 {
                    secrets.add(kind, value);
                }
            }
            if let Some(value) = request.header("authorization") {
                secrets.add("client_secret", value.rsplit(' ').next().unwrap());
            }
        }
    }
}

/// Form Post Response Mode.
async fn post_the_response(secrets: &mut Secrets) {
    let scene = Scene::open(&[("oidc.response_mode", json!("form_post"))]).await;
    let callback = scene.browser.begin_sign_in(&scene.provider, "/me").await;
    let form = callback.form();
    let page = scene.browser.submit_from_provider("/oidc/authorize", &form).await;
    let query = page.location.unwrap();
    secrets.add("sealed", query.strip_prefix("?sealed=").unwrap());
    scene.keep_cookies(secrets);
    let page = scene
        .browser
        .arrive_from_provider(&format!("/oidc/authorize{query}"))
        .await;
    page.redirects_to("/me");
    scene.keep_session(secrets).await;
    scene.end(secrets);
}

/// PAR and private_key_jwt, to the end.
async fn push_the_request_with_a_key(secrets: &mut Secrets) {
    let key = Ed25519KeyPair::generate().unwrap();
    let pkcs8 = STANDARD.encode(key.to_pkcs8v1().unwrap());
    secrets.add("private key", &pkcs8);
    secrets.add("request_uri", REQUEST_URI);
    let file = tempfile::NamedTempFile::new().unwrap();
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{pkcs8}\n-----END PRIVATE KEY-----\n");
    std::fs::write(file.path(), pem).unwrap();

    let provider = TestProvider::start().await;
    let endpoint = format!("{}/par", provider.issuer());
    provider.metadata(|metadata| {
        let name = "pushed_authorization_request_endpoint";
        metadata.insert(name.into(), endpoint.into());
    });
    let reply = Reply::json(json!({ "request_uri": REQUEST_URI, "expires_in": 60 }));
    provider.on_path("/par", reply.with_status(201));
    let settings = [
        ("oidc.pushed_authorization_requests", json!(true)),
        ("oidc.token_endpoint_auth_method", json!("private_key_jwt")),
        ("oidc.private_key_file", json!(file.path())),
    ];
    let scene = Scene::at(provider, &settings).await;
    let page = scene.browser.visit("/oidc/login?next=/me").await;
    assert!(page.location.unwrap().contains("request_uri="));
    scene.keep_cookies(secrets);
    // What the provider would find under the reference.
    let mut url = Url::parse(&format!("{}/authorize", scene.provider.issuer())).unwrap();
    let pushed = scene.provider.last_request("/par");
    let parameters = pushed.form.iter();
    let parameters = parameters.filter(|(name, _)| !name.starts_with("client_assertion"));
    url.query_pairs_mut().extend_pairs(parameters);
    let callback = scene.provider.authorize(url.as_str());
    let path = callback.path_and_query();
    let page = scene.browser.arrive_from_provider(&path).await;
    page.redirects_to("/me");
    scene.keep_session(secrets).await;
    scene.end(secrets);
}

/// Bound tokens, with a nonce of the provider, and a refusal of the provider to bind one.
async fn bind_tokens_to_a_key(secrets: &mut Secrets) {
    let provider = TestProvider::start().await;
    provider.bind_tokens(&["ES256"]);
    provider.demand_nonce("a-nonce");
    let scene = Scene::at(provider, &[("oidc.dpop", json!("required"))]).await;
    scene.sign_in(secrets).await;
    let session = opened_session(&scene.browser, &scene.provider);
    let seed = session["proof_key"].as_str().and_then(|key| key.strip_prefix("ES256."));
    secrets.add("proof key", seed.expect("a key"));
    scene.browser.visit("/debug").await.is(Status::Ok);
    scene
        .provider
        .on_refresh_response(|reply| reply.set("token_type", "Bearer"));
    scene.app.advance(Duration::from_secs(285));
    scene.browser.visit("/me").await.is(Status::Ok);
    for request in scene.provider.requests() {
        if let Some(proof) = request.header("dpop") {
            secrets.add("proof", proof);
        }
    }
    scene.end(secrets);
}

/// Rocket's server below us sees the requests as they come.
async fn over_the_network(secrets: &mut Secrets) {
    let scene = Scene::open(&[]).await;
    scene.sign_in(secrets).await;
    let cookies: Vec<_> = scene.browser.cookies();
    let cookies = cookies.iter().map(|(name, value)| format!("{name}={value}"));
    let cookies = cookies.collect::<Vec<_>>().join("; ");
    let callback = scene.browser.begin_sign_in(&scene.provider, "/oidc/login").await;
    secrets.add("code", callback.param("code").unwrap());
    secrets.add("state", callback.param("state").unwrap());
    scene.keep_cookies(secrets);
    assert_eq!(attempt_cookies(&scene.browser).len(), 1);

    let server = server::Server::start(rocket(&scene.app)).await;
    let me = server.get("/me", &[("Cookie", &cookies)]).await;
    assert!(me.starts_with("HTTP/1.1 200 "), "{me}");
    let path = callback.path_and_query();
    let back = server.get(&path, &[("Cookie", &cookies)]).await;
    assert!(back.starts_with("HTTP/1.1 303 "), "{back}");
    let token = scene.provider.access_token("notes:read", |_| ());
    secrets.add("access_token", &token);
    let value = format!("Bearer {token}");
    let api = server.get("/api", &[("Authorization", &value)]).await;
    assert!(api.starts_with("HTTP/1.1 401 "), "{api}");
    server.stop().await;
    scene.end(secrets);
}

fn rocket(app: &App) -> Rocket<Build> {
    app.rocket_with(Careless)
        .mount("/", routes![api, write, other_apis, debug])
}

fn state_of(request: &RecordedRequest) -> &str {
    request.query_value("state").unwrap()
}
