//! A provider that is like Sign in with Apple: a form with a one-time `user`, a client secret that the app makes, no
//! UserInfo.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use rocket::{
    Request,
    http::Status,
    serde::json::{Value, json},
};
use rocket_openidconnect::{Events, NewSignIn, Refused};

use crate::{
    common::{App, NOW, locked, opened_session},
    support::{Browser, Page, RecordedRequest, TestProvider},
};

const TEAM: &str = "A1B2C3D4E5";
const KEY: &str = "F6G7H8I9J0";
const USER: &str = r#"{"name":{"firstName":"Zoë","lastName":"O'Hara"},"email":"zoe@example.com"}"#;

/// The app's registration at Apple: a key in a file.
struct Client {
    key: EcdsaKeyPair,
    file: tempfile::NamedTempFile,
}

impl Client {
    fn new() -> Client {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let pkcs8 = STANDARD.encode(key.to_pkcs8v1().unwrap());
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{pkcs8}\n-----END PRIVATE KEY-----\n");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), pem).unwrap();
        Client { key, file }
    }

    fn app(&self, provider: &TestProvider) -> App {
        App::public(provider)
            .with("oidc.provider", json!({ "name": "apple", "team_id": TEAM }))
            .with("oidc.scopes", "openid email name")
            .with("oidc.private_key_file", self.file.path())
            .with("oidc.private_key_id", KEY)
    }

    /// The claims of the request's client secret, as Apple verifies it.
    fn secret(&self, request: &RecordedRequest) -> Value {
        assert_eq!(request.header("authorization"), None);
        assert_eq!(request.form_value("client_assertion"), None);
        assert_eq!(request.form_value("client_id"), Some("app"));
        let secret = request.form_value("client_secret").unwrap();
        let (input, signature) = secret.rsplit_once('.').unwrap();
        let (header, claims) = input.split_once('.').unwrap();
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).unwrap();
        let header: Value = serde_json::from_slice(&decode(header)).unwrap();
        assert_eq!(header, json!({ "typ": "JWT", "alg": "ES256", "kid": KEY }));
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.key.public_key().as_ref())
            .verify(input.as_bytes(), &decode(signature))
            .unwrap();
        serde_json::from_slice(&decode(claims)).unwrap()
    }
}

async fn apple() -> TestProvider {
    let provider = TestProvider::start().await;
    provider.metadata(|metadata| {
        metadata.insert(
            "token_endpoint_auth_methods_supported".into(),
            json!(["client_secret_post"]),
        );
        for member in ["userinfo_endpoint", "end_session_endpoint", "introspection_endpoint"] {
            metadata.remove(member);
        }
    });
    provider.on_id_token(|token| {
        token.set("email", "relay@privaterelay.appleid.com");
        token.set("email_verified", "true");
    });
    provider
}

/// First name, last name and address, if the browser posted any.
type Said = Option<[Option<String>; 3]>;

/// What `after_authorize` was given, in order.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<Said>>>);

impl Heard {
    fn all(&self) -> Vec<Said> {
        std::mem::take(&mut locked(&self.0))
    }
}

#[rocket::async_trait]
impl Events for Heard {
    async fn after_authorize(&self, _: &Request<'_>, sign_in: &mut NewSignIn<'_>) -> Result<(), Refused> {
        let user = sign_in.unverified_user();
        let text = |text: Option<&str>| text.map(str::to_owned);
        locked(&self.0).push(user.map(|user| [user.first_name(), user.last_name(), user.email()].map(text)));
        assert_eq!(sign_in.claims().value("name"), None);
        let email: Option<String> = sign_in.claims().get("email");
        assert_eq!(email.as_deref(), Some("relay@privaterelay.appleid.com"));
        match sign_in.subject() {
            "mallory" => Err(Refused::new("No.")),
            _ => Ok(()),
        }
    }
}

/// Signs in with a posted response, to which `change` adds.
async fn post(browser: &Browser, provider: &TestProvider, change: impl FnOnce(String) -> String) -> Page {
    let callback = browser.begin_sign_in(provider, "/oidc/login?next=/me").await;
    let posted = browser
        .submit_from_provider("/oidc/authorize", &change(callback.form()))
        .await;
    let Some(query) = posted.location.clone() else {
        return posted;
    };
    browser.arrive_from_provider(&format!("/oidc/authorize{query}")).await
}

fn with_user(form: &str, user: &str) -> String {
    let user: String = url::form_urlencoded::byte_serialize(user.as_bytes()).collect();
    format!("{form}&user={user}")
}

#[rocket::async_test]
async fn a_user_signs_in_for_the_first_time_and_again() {
    let (provider, client, heard) = (apple().await, Client::new(), Heard::default());
    let app = client.app(&provider);
    let browser = Browser::open(app.rocket_with(heard.clone())).await;
    let page = post(&browser, &provider, |form| with_user(&form, USER)).await;
    page.is(Status::SeeOther).redirects_to("/me");
    browser.visit("/me").await.is(Status::Ok).sees("alice");
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(
        heard.all(),
        [Some([some("Zoë"), some("O'Hara"), some("zoe@example.com")])]
    );
    // It is neither in the address nor in the session.
    let session = opened_session(&browser, &provider).to_string();
    for word in ["Zoë", "O'Hara", "zoe@example.com"] {
        assert!(!session.contains(word), "{session}");
    }

    assert_eq!(
        client.secret(&provider.last_request("/token")),
        json!({ "iss": TEAM, "sub": "app", "aud": provider.issuer(), "iat": NOW, "exp": NOW + 300 })
    );
    assert_eq!(provider.count("/userinfo"), 0);

    post(&browser, &provider, |form| form).await.redirects_to("/me");
    assert_eq!(heard.all(), [None]);
}

#[rocket::async_test]
async fn the_request_asks_for_a_form() {
    let (provider, client) = (apple().await, Client::new());
    let browser = client.app(&provider).open().await;
    let page = browser.visit("/oidc/login").await;
    let url = url::Url::parse(page.location.as_deref().unwrap()).unwrap();
    let parameter = |name: &str| {
        let mut pairs = url.query_pairs();
        pairs
            .find(|(other, _)| other == name)
            .map(|(_, value)| value.into_owned())
    };
    assert_eq!(parameter("response_mode").as_deref(), Some("form_post"));
    assert_eq!(parameter("scope").as_deref(), Some("openid email name"));
    assert_eq!(parameter("code_challenge_method").as_deref(), Some("S256"));
}

/// Neither a refresh, which Apple throttles, nor the end of the user's consent at a sign-out.
#[rocket::async_test]
async fn a_session_keeps_the_id_token_alone() {
    let (provider, client) = (apple().await, Client::new());
    let app = client.app(&provider);
    let browser = app.open().await;
    post(&browser, &provider, |form| form).await.redirects_to("/me");
    app.advance(Duration::from_secs(3_500));
    browser.visit("/me").await.is(Status::Ok).sees("alice");
    browser.submit("/oidc/logout", "").await;
    assert_eq!((provider.count("/token"), provider.count("/revoke")), (1, 0));
}

#[rocket::async_test]
async fn each_request_has_a_secret_of_its_own() {
    let (provider, client, heard) = (apple().await, Client::new(), Heard::default());
    let app = client.app(&provider);
    let browser = Browser::open(app.rocket_with(heard)).await;
    app.advance(Duration::from_secs(100));
    provider.user_claims(json!({ "sub": "mallory" }));
    post(&browser, &provider, |form| with_user(&form, USER))
        .await
        .is(Status::Forbidden);
    provider.until_requested("/revoke", 1).await;
    for path in ["/token", "/revoke"] {
        let claims = client.secret(&provider.last_request(path));
        assert_eq!((&claims["iat"], &claims["exp"]), (&json!(NOW + 100), &json!(NOW + 400)));
    }
}

#[rocket::async_test]
async fn a_user_field_that_cannot_be_used_is_ignored() {
    let nested = format!("{{\"email\":{}{}}}", "[".repeat(500), "]".repeat(500));
    let (longest, too_long) = ("a".repeat(1_012), "a".repeat(1_013));
    let (provider, client, heard) = (apple().await, Client::new(), Heard::default());
    let browser = Browser::open(client.app(&provider).rocket_with(heard.clone())).await;
    let email = |text: &str| Some([None, None, Some(text.to_owned())]);
    for (user, expected) in [
        ("", None),
        ("alice", None),
        ("{", None),
        ("[]", None),
        ("null", None),
        (r#"{"name":"Zoë"}"#, None),
        (r#"{"name":{"firstName":{"sub":"admin"}},"email":["a@b.c"]}"#, None),
        (r#"{"email":"a@b.c\r\nBcc: d@e.f"}"#, None),
        (r#"{"sub":"admin","groups":["admin"],"email":"a@b.c"}"#, email("a@b.c")),
        (&format!(r#"{{"email":"{longest}"}}"#), email(&longest)),
        (&format!(r#"{{"email":"{too_long}"}}"#), None),
        (&"x".repeat(7_000), None),
        (&nested, None),
    ] {
        let page = post(&browser, &provider, |form| with_user(&form, user)).await;
        page.is(Status::SeeOther).redirects_to("/me");
        assert_eq!(heard.all(), [expected], "{user}");
        browser.visit("/me").await.is(Status::Ok).sees("alice").sees_no("admin");
    }
}

/// More than any response has: the form is refused as a whole, without being read to its end.
#[rocket::async_test]
async fn a_megabyte_in_the_form() {
    let (provider, client) = (apple().await, Client::new());
    let app = client.app(&provider);
    let browser = app.open().await;
    for change in [
        |form: String| with_user(&form, &"x".repeat(1 << 20)),
        |form: String| with_user(&with_user(&form, USER), USER),
    ] {
        post(&browser, &provider, change).await.is(Status::BadRequest);
    }
    assert_eq!(
        app.failures(),
        [
            "the posted body is not a form with an authorization response",
            "`user` appears more than once in the response"
        ]
    );
    assert_eq!(provider.count("/token"), 0);
}

/// The name gives way to what the sign-in needs.
#[rocket::async_test]
async fn a_user_field_that_does_not_fit_beside_a_long_state() {
    let (provider, client, heard) = (apple().await, Client::new(), Heard::default());
    let app = client.app(&provider).with("oidc.max_state_length", 4_000);
    let browser = Browser::open(app.rocket_with(heard.clone())).await;
    let user = format!(r#"{{"email":"{}"}}"#, "é".repeat(500));
    let path = format!("/oidc/login?next=/me?{}", "x".repeat(1_900));
    for (path, expected) in [("/oidc/login?next=/me", true), (&path, false)] {
        let callback = browser.begin_sign_in(&provider, path).await;
        let form = with_user(&callback.form(), &user);
        let posted = browser.submit_from_provider("/oidc/authorize", &form).await;
        let query = posted.location.clone().unwrap();
        let page = browser.arrive_from_provider(&format!("/oidc/authorize{query}")).await;
        page.is(Status::SeeOther).redirects_to("/me");
        assert_eq!(heard.all().iter().map(Option::is_some).collect::<Vec<_>>(), [expected]);
    }
}
