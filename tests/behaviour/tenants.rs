//! One issuer for each tenant of a template, as Microsoft Entra ID has it: sign-in, refresh, sign-out and APIs.

use std::sync::{Arc, Mutex};

use rocket::{
    Build, Request, Rocket, State, get,
    http::Status,
    routes,
    serde::json::{Value, json},
};
use rocket_openidconnect::{Authorized, LoggedIn, Policy, RelyingParty, User, UserKey};

use crate::{
    bearer::app::{Answer, Api, refused},
    common::{App, Log, NOW, assert_signed_out, frontchannel_logout, launch_failure, locked},
    records::DUE,
    support::{Browser, JwtParts, SigningKey, TestProvider, case},
};

const ONE: &str = "8eaef023-2b34-4da1-9baa-8bc8c9d6a490";
const TWO: &str = "82229342-1101-4ab6-817b-70c0747630f3";
/// In no list.
const STRANGER: &str = "6574d610-008d-4501-83cd-8dfe9dfa0e07";
const PERSONAL: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";

/// A provider of many tenants. It signs in for the one that is set.
struct Entra {
    provider: TestProvider,
    tenant: Arc<Mutex<String>>,
}

impl Entra {
    async fn start() -> Entra {
        let provider = TestProvider::start().await;
        let template = template(&provider);
        provider.metadata(|metadata| drop(metadata.insert("issuer".into(), json!(template))));
        let entra = Entra {
            provider,
            tenant: Arc::new(Mutex::new(ONE.to_owned())),
        };
        entra.id_tokens(|_| ());
        entra
    }

    fn template(&self) -> String {
        template(&self.provider)
    }

    fn issuer_of(&self, tenant: &str) -> String {
        self.template().replace("{tenantid}", tenant)
    }

    /// Whose people sign in from now on.
    fn sign_in_for(&self, tenant: &str) {
        *locked(&self.tenant) = tenant.to_owned();
    }

    /// Issues ID tokens with this change.
    fn id_tokens(&self, change: impl Fn(&mut JwtParts) + Send + Sync + 'static) {
        let (tenant, template) = (self.tenant.clone(), self.template());
        self.provider.on_id_token(move |token| {
            of_tenant(token, &template, &locked(&tenant));
            change(token);
        });
    }

    fn app(&self, tenants: Value) -> App {
        App::new(&self.provider)
            .with("oidc.issuer", self.template())
            .with("oidc.server_metadata_url", metadata_url(&self.provider))
            .with("oidc.tenants", tenants)
    }
}

fn template(provider: &TestProvider) -> String {
    format!("{}/{{tenantid}}/v2.0", provider.issuer())
}

fn metadata_url(provider: &TestProvider) -> String {
    format!("{}{}", provider.issuer(), TestProvider::DISCOVERY)
}

fn of_tenant(token: &mut JwtParts, template: &str, tenant: &str) {
    token.set("iss", template.replace("{tenantid}", tenant));
    token.set("tid", tenant);
}

#[get("/issuer")]
fn issuer(user: LoggedIn) -> String {
    user.issuer().to_owned()
}

#[get("/end?<tenant>&<sub>")]
async fn end(rp: &RelyingParty, template: &State<String>, tenant: &str, sub: &str) -> String {
    let issuer = template.replace("{tenantid}", tenant);
    let listed = rp.sessions_of_user(&UserKey::of_only_provider(&issuer, sub)).await;
    let listed = listed.map(|sessions| sessions.map(|sessions| sessions.len()));
    let ended = rp.end_sessions_of_user(&UserKey::of_only_provider(&issuer, sub)).await;
    format!("{listed:?} {ended:?}")
}

#[get("/ambiguous")]
async fn ambiguous(rp: &RelyingParty) -> String {
    let ended = rp.end_sessions("alice").await.unwrap_err();
    let listed = rp.sessions_of("alice").await.unwrap_err();
    assert_eq!(ended, listed);
    format!("{ended}; {}", ended.remedy())
}

async fn open(entra: &Entra, app: &App) -> Browser {
    Browser::open(launched(entra, app)).await
}

fn launched(entra: &Entra, app: &App) -> Rocket<Build> {
    let rocket = app.rocket().manage(entra.template());
    rocket.mount("/", routes![issuer, end, ambiguous])
}

async fn issuer_seen(browser: &Browser) -> String {
    browser.visit("/issuer").await.is(Status::Ok).body.clone()
}

// ---- Sign-in.

#[rocket::async_test]
async fn a_person_of_an_accepted_tenant_signs_in_and_is_of_its_issuer() {
    for store in ["cookie", "memory"] {
        for tenants in [json!([ONE, TWO]), json!(ONE.to_uppercase()), json!("any")] {
            let entra = Entra::start().await;
            let app = entra.app(tenants).with("oidc.session.store", store);
            let browser = open(&entra, &app).await;
            let page = browser.sign_in(&entra.provider, "/me").await;
            page.is(Status::Ok).sees("alice");
            assert_eq!(issuer_seen(&browser).await, entra.issuer_of(ONE), "{store}");
            // Not from the cache, too.
            assert_eq!(issuer_seen(&browser).await, entra.issuer_of(ONE), "{store}");
        }
    }
}

#[rocket::async_test]
async fn a_user_of_another_tenant_sees_why_they_are_refused() {
    let entra = Entra::start().await;
    let app = entra.app(json!([ONE]));
    let browser = open(&entra, &app).await;
    entra.sign_in_for(STRANGER);
    let page = browser.sign_in(&entra.provider, "/me").await;
    page.is(Status::Forbidden)
        .sees("Your organisation does not have access to this site.");
    assert_signed_out(&browser).await;
    let error =
        format!("the ID token is rejected: the token is of the tenant {STRANGER:?}, which `tenants` does not accept");
    assert_eq!(app.failures(), [error]);
}

#[rocket::async_test]
async fn every_organisation_is_without_personal_accounts() {
    let entra = Entra::start().await;
    entra.sign_in_for(PERSONAL);
    for (tenants, status) in [
        (json!("any"), Status::Forbidden),
        (json!(["any", PERSONAL]), Status::Ok),
        (json!([PERSONAL]), Status::Ok),
    ] {
        let browser = open(&entra, &entra.app(tenants)).await;
        let page = browser.sign_in(&entra.provider, "/me").await;
        page.is(status);
    }
}

#[rocket::async_test]
async fn an_id_token_whose_tenant_is_not_that_of_its_issuer() {
    type Change = fn(&mut JwtParts, &str);
    let changes: [(Change, &str); 11] = [
        (|token, _| token.remove("tid"), "the claim \"tid\" is missing"),
        (
            |token, _| token.set("tid", TWO),
            "the token is issued by \"…/ONE/v2.0\", expected \"…/TWO/v2.0\" for its tenant (\"tid\")",
        ),
        (
            |token, template| token.set("iss", template.replace("{tenantid}", TWO)),
            "the token is issued by \"…/TWO/v2.0\", expected \"…/ONE/v2.0\" for its tenant (\"tid\")",
        ),
        (
            |token, template| token.set("iss", template),
            "the token is issued by \"…/{tenantid}/v2.0\", expected \"…/ONE/v2.0\" for its tenant (\"tid\")",
        ),
        (
            |token, template| token.set("iss", template.replace("{tenantid}", &ONE.to_uppercase())),
            "the token is issued by \"…/8EAEF023-2B34-4DA1-9BAA-8BC8C9D6A490/v2.0\", expected \"…/ONE/v2.0\" for its tenant (\"tid\")",
        ),
        (
            |token, _| token.set("iss", format!("https://login.microsoftonline.us/{ONE}/v2.0")),
            "the token is issued by \"https://login.microsoftonline.us/ONE/v2.0\", expected \"…/ONE/v2.0\" for its tenant (\"tid\")",
        ),
        (
            |token, _| token.set("iss", "https://evil.example/v2.0"),
            "the token is issued by \"https://evil.example/v2.0\", expected \"…/ONE/v2.0\" for its tenant (\"tid\")",
        ),
        (
            |token, template| of_tenant(token, template, "{tenantid}"),
            "the tenant of the token is \"{tenantid}\" (\"tid\"), expected a GUID in lower case",
        ),
        (
            |token, template| of_tenant(token, template, "x/../common"),
            "the tenant of the token is \"x/../common\" (\"tid\"), expected a GUID in lower case",
        ),
        (
            |token, template| of_tenant(token, template, &ONE.to_uppercase()),
            "the tenant of the token is \"8EAEF023-2B34-4DA1-9BAA-8BC8C9D6A490\" (\"tid\"), expected a GUID in lower case",
        ),
        (
            |token, _| token.set("tid", json!([ONE])),
            "the claim \"tid\" is an array, not a string",
        ),
    ];
    for (change, expected) in changes {
        case(expected);
        let entra = Entra::start().await;
        let template = entra.template();
        entra.id_tokens(move |token| change(token, &template));
        let app = entra.app(json!(["any", ONE]));
        let browser = open(&entra, &app).await;
        let page = browser.sign_in(&entra.provider, "/me").await;
        page.is(Status::BadGateway);
        assert_signed_out(&browser).await;
        let [failure] = &app.failures()[..] else {
            panic!("one sign-in failed: {:?}", app.failures());
        };
        let failure = failure.replace(&entra.provider.issuer(), "…");
        let failure = failure.replace(ONE, "ONE").replace(TWO, "TWO");
        assert_eq!(failure, format!("the ID token is rejected: {expected}"));
    }
}

/// Without a template, one tenant's issuer is exactly that.
#[rocket::async_test]
async fn an_issuer_without_a_template_accepts_no_other() {
    let entra = Entra::start().await;
    let exact = entra.issuer_of(ONE);
    entra
        .provider
        .metadata(|it| drop(it.insert("issuer".into(), json!(exact))));
    let app = App::new(&entra.provider)
        .with("oidc.issuer", &exact)
        .with("oidc.server_metadata_url", metadata_url(&entra.provider));
    let browser = open(&entra, &app).await;
    let page = browser.sign_in(&entra.provider, "/me").await;
    page.is(Status::Ok);
    browser.forget_cookies();
    entra.sign_in_for(TWO);
    let page = browser.sign_in(&entra.provider, "/me").await;
    page.is(Status::BadGateway);
}

#[rocket::async_test]
async fn a_key_of_another_tenant() {
    let one = |entra: &Entra| entra.issuer_of(ONE);
    let two = |entra: &Entra| entra.issuer_of(TWO);
    let shared = |entra: &Entra| entra.template();
    type IssuerOfKey = fn(&Entra) -> String;
    let cases: [(IssuerOfKey, Status); 4] = [
        (one, Status::Ok),
        (shared, Status::Ok),
        (two, Status::BadGateway),
        (|_| String::new(), Status::BadGateway),
    ];
    for (of_key, status) in cases {
        let entra = Entra::start().await;
        let of_key = of_key(&entra);
        let set_issuer = of_key.clone();
        entra.provider.on_jwks(move |reply| {
            reply.edit(|set| {
                for key in set["keys"].as_array_mut().unwrap() {
                    key["issuer"] = json!(set_issuer);
                }
            });
        });
        let app = entra.app(json!([ONE, TWO]));
        let browser = open(&entra, &app).await;
        let page = browser.sign_in(&entra.provider, "/me").await;
        page.is(status);
        if status != Status::Ok {
            let error = format!(
                "the ID token is rejected: the token is issued by {:?}, and signed by a key of {of_key:?}",
                entra.issuer_of(ONE)
            );
            assert_eq!(app.failures(), [error]);
        }
    }
}

/// Publishes the RSA key for this issuer, and the others for all tenants. ID tokens are signed with another one.
fn with_rsa_key_of(entra: &Entra, issuer: String) {
    let template = entra.template();
    entra.provider.on_jwks(move |reply| {
        reply.edit(|set| {
            for key in set["keys"].as_array_mut().unwrap() {
                let is_rsa = key["kty"] == json!("RSA");
                key["issuer"] = json!(if is_rsa { &issuer } else { &template });
            }
        });
    });
    entra.id_tokens(|token| token.sign_with(SigningKey::Ec));
}

#[rocket::async_test]
async fn signed_user_info_by_the_key_of_another_tenant() {
    for (tenant, status) in [(ONE, Status::Ok), (TWO, Status::BadGateway)] {
        let entra = Entra::start().await;
        with_rsa_key_of(&entra, entra.issuer_of(tenant));
        let iss = entra.issuer_of(ONE);
        entra.provider.user_info_as_jwt(move |jwt| jwt.set("iss", iss.as_str()));
        let app = entra.app(json!([ONE, TWO]));
        let browser = open(&entra, &app).await;
        browser.sign_in(&entra.provider, "/me").await.is(status);
        if status != Status::Ok {
            let error = format!(
                "the UserInfo response is rejected: the token is issued by {:?}, and signed by a key of {:?}",
                entra.issuer_of(ONE),
                entra.issuer_of(TWO)
            );
            assert_eq!(app.failures(), [error]);
        }
    }
}

#[rocket::async_test]
async fn a_logout_token_by_the_key_of_another_tenant() {
    let entra = Entra::start().await;
    with_rsa_key_of(&entra, entra.issuer_of(TWO));
    let app = entra
        .app(json!([ONE, TWO]))
        .with("oidc.id_token_signing_algs", "ES256 RS256");
    let browser = open(&entra, &app).await;
    browser.sign_in(&entra.provider, "/me").await.is(Status::Ok);
    let template = entra.template();
    let logout = async |signing: SigningKey| {
        let token = entra.provider.logout_token(|token| {
            of_tenant(token, &template, ONE);
            token.sign_with(signing);
        });
        browser.post_logout_token(&token).await
    };
    let page = logout(SigningKey::Rsa).await;
    page.is(Status::BadRequest);
    let expected = format!(
        "the logout token is rejected: the token is issued by {:?}, and signed by a key of {:?}",
        entra.issuer_of(ONE),
        entra.issuer_of(TWO)
    );
    assert_eq!(page.json::<Value>()["error_description"], json!(expected));
    browser.visit("/me").await.is(Status::Ok).sees("alice");
    logout(SigningKey::Ec).await.is(Status::Ok);
    assert_signed_out(&browser).await;
}

/// A refreshed ID token is judged as that of the sign-in is.
#[rocket::async_test]
async fn a_refreshed_id_token_by_the_key_of_another_tenant() {
    let entra = Entra::start().await;
    with_rsa_key_of(&entra, entra.issuer_of(TWO));
    let app = entra
        .app(json!([ONE, TWO]))
        .with("oidc.id_token_signing_algs", "ES256 RS256");
    let browser = open(&entra, &app).await;
    browser.sign_in(&entra.provider, "/me").await.is(Status::Ok);
    entra.id_tokens(|token| token.sign_with(SigningKey::Rsa));
    app.advance(DUE);
    let log = Log::listen();
    assert_signed_out(&browser).await;
    let expected = format!(
        "the token is issued by {:?}, and signed by a key of {:?}",
        entra.issuer_of(ONE),
        entra.issuer_of(TWO)
    );
    let lines = log.lines();
    assert!(lines.iter().any(|line| line.contains(&expected)), "{lines:#?}");
}

#[rocket::async_test]
async fn the_iss_of_a_response_is_that_of_an_accepted_tenant() {
    let entra = Entra::start().await;
    let app = entra.app(json!([ONE, TWO]));
    let refused = entra.issuer_of(STRANGER);
    for (iss, status) in [
        (entra.issuer_of(ONE), Status::SeeOther),
        (entra.template(), Status::SeeOther),
        (refused.clone(), Status::BadRequest),
        ("https://evil.example".to_owned(), Status::BadRequest),
    ] {
        let browser = open(&entra, &app).await;
        let page = browser.visit("/oidc/login?next=/me").await;
        let callback = entra.provider.authorize(page.location.as_deref().unwrap());
        let page = browser.visit(&callback.set("iss", &iss).path_and_query()).await;
        page.is(status);
    }
    let error = format!("the response's `iss` is `{refused}`, expected `{}`", entra.template());
    assert_eq!(app.failures()[0], error);
}

// ---- Users of several tenants.

#[rocket::async_test]
async fn one_sub_at_two_tenants_is_two_people() {
    let entra = Entra::start().await;
    let app = entra.app(json!([ONE, TWO])).with("oidc.session.store", "memory");
    let first = open(&entra, &app).await;
    first.sign_in(&entra.provider, "/me").await.is(Status::Ok);
    let second = first.another();
    entra.sign_in_for(TWO);
    second.sign_in(&entra.provider, "/me").await.is(Status::Ok);

    let ask = async |tenant: &str| {
        let path = format!("/end?tenant={tenant}&sub=alice");
        let page = first.another().visit(&path).await;
        page.is(Status::Ok).body.clone()
    };
    assert_eq!(ask(STRANGER).await, "Ok(Some(0)) Ok(Some(0))");
    assert_eq!(ask(TWO).await, "Ok(Some(1)) Ok(Some(1))");
    assert_signed_out(&second).await;
    first.visit("/me").await.is(Status::Ok).sees("alice");
    let page = first.visit("/ambiguous").await;
    assert_eq!(
        page.is(Status::Ok).body,
        "a `sub` alone does not identify a user where the issuer is a template; \
         call `end_sessions_of_user` or `sessions_of_user`, with `User::key` of the user"
    );
    first.visit("/me").await.is(Status::Ok).sees("alice");
}

/// A grant is one person's. Without a `sid`, the new session may be of the grant of before only if the person is.
#[rocket::async_test]
async fn signing_in_at_another_tenant_revokes_the_previous_tokens() {
    let entra = Entra::start().await;
    entra.id_tokens(|token| token.remove("sid"));
    let browser = open(&entra, &entra.app(json!([ONE, TWO]))).await;
    let page = browser.sign_in(&entra.provider, "/me").await;
    page.is(Status::Ok);
    entra.sign_in_for(TWO);
    let page = browser.sign_in(&entra.provider, "/oidc/login?next=/me").await;
    page.is(Status::Ok);
    assert_eq!(issuer_seen(&browser).await, entra.issuer_of(TWO));
    entra.provider.until_requested("/revoke", 2).await;
}

/// What was accepted under a longer list is nobody under a shorter one.
#[rocket::async_test]
async fn a_session_of_a_tenant_that_is_accepted_no_more() {
    let entra = Entra::start().await;
    let browser = open(&entra, &entra.app(json!([ONE, TWO]))).await;
    browser.sign_in(&entra.provider, "/me").await.is(Status::Ok);
    let cookies = browser.cookies();
    for (tenants, is_signed_in) in [(json!([ONE]), true), (json!([TWO]), false)] {
        let again = open(&entra, &entra.app(tenants)).await;
        for (name, value) in &cookies {
            again.set_cookie(rocket::http::Cookie::new(name.clone(), value.clone()));
        }
        if is_signed_in {
            again.visit("/me").await.is(Status::Ok).sees("alice");
        } else {
            assert_signed_out(&again).await;
        }
    }
}

// ---- Groups that do not fit into a token.

struct Staff;

impl Policy for Staff {
    async fn permits(user: &User, _: &Request<'_>) -> bool {
        user.groups().contains(&"staff")
    }
}

#[get("/staff")]
fn staff(user: Authorized<Staff>) -> String {
    user.subject().to_owned()
}

#[get("/groups")]
fn groups(user: LoggedIn) -> String {
    format!("{:?} {}", user.groups(), user.groups_overage())
}

/// A policy refuses a user with too many groups as one without; the app can tell them apart, also after a refresh.
#[rocket::async_test]
async fn a_user_with_more_groups_than_fit_into_the_token() {
    let overage = json!({
        "_claim_names": { "groups": "src1" },
        "_claim_sources": { "src1": { "endpoint": "https://graph.microsoft.com/v1.0/users/x/getMemberObjects" } },
    });
    for (store, claims) in [
        ("cookie", json!(null)),
        ("memory", json!(null)),
        ("cookie", json!("email groups")),
    ] {
        let entra = Entra::start().await;
        entra.provider.on_user_info(|reply| reply.remove("groups"));
        let issue = |claims: Value| {
            entra.id_tokens(move |token| {
                token.claims.remove("groups");
                token.claims.extend(claims.as_object().unwrap().clone());
            });
        };
        let mut app = entra.app(json!([ONE])).with("oidc.session.store", store);
        if !claims.is_null() {
            app = app.with("oidc.session.claims", claims);
        }
        let rocket = launched(&entra, &app).mount("/", routes![staff, groups]);
        let browser = Browser::open(rocket).await;
        issue(overage.clone());
        browser.sign_in(&entra.provider, "/me").await.is(Status::Ok);
        for (issued, seen, status) in [
            (overage.clone(), "[] true", Status::Forbidden),
            (json!({}), "[] false", Status::Forbidden),
            (json!({ "groups": ["staff"] }), "[\"staff\"] false", Status::Ok),
            (json!({ "hasgroups": true }), "[] true", Status::Forbidden),
        ] {
            issue(issued);
            app.advance(DUE);
            assert_eq!(browser.visit("/groups").await.is(Status::Ok).body, seen, "{store}");
            browser.visit("/staff").await.is(status);
        }
    }
}

/// Administrators of several organisations decide about groups: they count where the setting says so.
#[rocket::async_test]
async fn groups_of_several_tenants_count_where_the_setting_says_so() {
    for (tenants, trusts, seen) in [
        (json!([ONE]), None, "[\"staff\"] false"),
        (json!([ONE, TWO]), None, "[] false"),
        (json!("any"), None, "[] false"),
        (json!([ONE, TWO]), Some(true), "[\"staff\"] false"),
    ] {
        let entra = Entra::start().await;
        entra.provider.on_user_info(|reply| reply.remove("groups"));
        entra.id_tokens(|token| token.set("groups", json!(["staff"])));
        let mut app = entra.app(tenants.clone());
        if let Some(trusts) = trusts {
            app = app.with("oidc.trust_groups", trusts);
        }
        let rocket = launched(&entra, &app).mount("/", routes![staff, groups]);
        let browser = Browser::open(rocket).await;
        browser.sign_in(&entra.provider, "/me").await.is(Status::Ok);
        assert_eq!(browser.visit("/groups").await.body, seen, "{tenants} {trusts:?}");
    }
}

// ---- Refresh.

#[rocket::async_test]
async fn a_refresh_goes_on_for_the_same_tenant_alone() {
    for store in ["cookie", "memory"] {
        let entra = Entra::start().await;
        let app = entra.app(json!([ONE, TWO])).with("oidc.session.store", store);
        let browser = open(&entra, &app).await;
        browser.sign_in(&entra.provider, "/me").await.is(Status::Ok);
        app.advance(DUE);
        browser.visit("/me").await.is(Status::Ok).sees("alice");
        assert_eq!(entra.provider.count("/token"), 2);
        assert_eq!(issuer_seen(&browser).await, entra.issuer_of(ONE));

        entra.sign_in_for(TWO);
        app.advance(DUE);
        assert_signed_out(&browser).await;
        assert_eq!(entra.provider.count("/token"), 3);
    }
}

// ---- Sign-out by the provider.

#[rocket::async_test]
async fn a_logout_token_ends_sessions_of_its_tenant_alone() {
    for store in ["cookie", "memory"] {
        let entra = Entra::start().await;
        let app = entra.app(json!([ONE, TWO])).with("oidc.session.store", store);
        let first = open(&entra, &app).await;
        first.sign_in(&entra.provider, "/me").await.is(Status::Ok);
        let second = first.another();
        entra.sign_in_for(TWO);
        second.sign_in(&entra.provider, "/me").await.is(Status::Ok);

        type Change<'c> = &'c dyn Fn(&mut JwtParts);
        let logout = async |change: Change<'_>| {
            let token = entra.provider.logout_token(|token| {
                token.remove("sid");
                change(token);
            });
            first.post_logout_token(&token).await
        };
        let template = entra.template();
        let refusals: [(Change<'_>, String); 4] = [
            (
                &|token| of_tenant(token, &template, STRANGER),
                format!("the token is of the tenant {STRANGER:?}, which `tenants` does not accept"),
            ),
            (
                &|token| token.set("iss", template.replace("{tenantid}", TWO)),
                "the claim \"tid\" is missing".to_owned(),
            ),
            (
                &|token| {
                    of_tenant(token, &template, TWO);
                    token.set("tid", ONE);
                },
                format!(
                    "the token is issued by {:?}, expected {:?} for its tenant (\"tid\")",
                    entra.issuer_of(TWO),
                    entra.issuer_of(ONE)
                ),
            ),
            (
                &|token| token.set("iss", &*template),
                "the claim \"tid\" is missing".to_owned(),
            ),
        ];
        for (change, expected) in refusals {
            case(&expected);
            let page = logout(change).await;
            page.is(Status::BadRequest);
            let error = page.json::<Value>();
            let expected = format!("the logout token is rejected: {expected}");
            assert_eq!(error["error_description"], json!(expected));
        }
        for browser in [&first, &second] {
            browser.visit("/me").await.is(Status::Ok).sees("alice");
        }
        let page = logout(&|token| of_tenant(token, &template, TWO)).await;
        page.is(Status::Ok);
        assert_signed_out(&second).await;
        first.visit("/me").await.is(Status::Ok).sees("alice");
    }
}

#[rocket::async_test]
async fn a_frame_of_the_provider_names_the_tenant() {
    let entra = Entra::start().await;
    let app = entra.app(json!([ONE])).with("oidc.frontchannel_logout", true);
    let browser = open(&entra, &app).await;
    browser.sign_in(&entra.provider, "/me").await.is(Status::Ok);
    let frame = async |issuer: &str| {
        let path = frontchannel_logout(issuer, "sid-1");
        browser.another().visit(&path).await.status
    };
    assert_eq!(frame(&entra.issuer_of(TWO)).await, 400);
    browser.visit("/me").await.is(Status::Ok).sees("alice");
    assert_eq!(frame(&entra.issuer_of(ONE)).await, 200);
    assert_signed_out(&browser).await;
}

// ---- APIs.

/// An API of a template, and a tenant's token for it.
async fn api(tenants: Value) -> Api {
    let provider = TestProvider::start().await;
    let template = template(&provider);
    provider.metadata(|metadata| drop(metadata.insert("issuer".into(), json!(template))));
    let url = metadata_url(&provider);
    let settings = json!({
        "issuer": template, "server_metadata_url": url, "tenants": tenants,
    });
    Api::at(provider, settings).await
}

async fn ask(api: &Api, tenant: &str, change: impl FnOnce(&mut JwtParts)) -> Answer {
    let template = template(&api.provider);
    api.whoami(|token| {
        of_tenant(token, &template, tenant);
        change(token);
    })
    .await
}

#[rocket::async_test]
async fn an_access_token_of_an_accepted_tenant() {
    let api = api(json!([ONE, TWO])).await;
    for tenant in [ONE, TWO] {
        let answer = ask(&api, tenant, |_| ()).await;
        assert_eq!(answer.status, 200);
        let body: Value = rocket::serde::json::from_str(&answer.body).unwrap();
        let issuer = template(&api.provider).replace("{tenantid}", tenant);
        assert_eq!(body["iss"], json!(issuer));
    }
}

/// As groups.
#[rocket::async_test]
async fn roles_of_several_tenants_count_where_the_setting_says_so() {
    let partner = TestProvider::start().await;
    partner.set_time(NOW);
    let template_of_partner = template(&partner);
    partner.metadata(|metadata| drop(metadata.insert("issuer".into(), json!(template_of_partner))));
    let further = |tenants: Value, more: Value| {
        let mut table = json!({
            "issuer": template_of_partner, "server_metadata_url": metadata_url(&partner), "tenants": tenants,
            "audience": "partner-api",
        });
        table.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "roles_claim": "roles", "issuers": { "partner": table } })
    };
    let own = |tenants: Value, more: Value| {
        let mut settings = json!({ "roles_claim": "roles", "tenants": tenants });
        settings
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        settings
    };
    for (settings, is_further, counts) in [
        (own(json!([ONE]), json!({})), false, true),
        (own(json!([ONE, TWO]), json!({})), false, false),
        (own(json!("any"), json!({})), false, false),
        (own(json!([ONE, TWO]), json!({ "trust_groups": true })), false, true),
        (further(json!([ONE]), json!({})), true, true),
        (further(json!([ONE, TWO]), json!({})), true, false),
        (further(json!("any"), json!({})), true, false),
        // The table of the issuer says it.
        (
            further(json!([ONE, TWO]), json!({ "roles_claim": "roles" })),
            true,
            true,
        ),
    ] {
        let change = |token: &mut JwtParts| token.set("roles", json!(["admin"]));
        let answer = if is_further {
            let token = partner.access_token("notes:read", |token| {
                token.set("aud", "partner-api");
                of_tenant(token, &template_of_partner, ONE);
                change(token);
            });
            Api::with(settings.clone()).await.call("/whoami", &token).await
        } else {
            let provider = TestProvider::start().await;
            let template = template(&provider);
            provider.metadata(|metadata| drop(metadata.insert("issuer".into(), json!(template))));
            let mut settings = settings.clone();
            settings["issuer"] = json!(template);
            settings["server_metadata_url"] = json!(metadata_url(&provider));
            ask(&Api::at(provider, settings).await, ONE, change).await
        };
        assert_eq!(answer.status, 200, "{settings}");
        let body: Value = rocket::serde::json::from_str(&answer.body).unwrap();
        let has_role = body["scopes"].to_string().contains("admin");
        assert_eq!(has_role, counts, "{settings}: {body}");
    }
}

#[rocket::async_test]
async fn an_access_token_of_a_wrong_tenant() {
    let api = api(json!([ONE, TWO])).await;
    let template = template(&api.provider);
    let stranger = refused("the token comes from a tenant that is not accepted");
    assert_eq!(ask(&api, STRANGER, |_| ()).await, stranger);
    let another = refused("the token comes from another issuer");
    assert_eq!(ask(&api, ONE, |token| token.set("tid", TWO)).await, another);
    let of_two = template.replace("{tenantid}", TWO);
    let answer = ask(&api, ONE, |token| token.set("iss", of_two)).await;
    assert_eq!(answer, another);
    for iss in [
        &*template,
        &template.replace("{tenantid}", "x/../common"),
        &api.provider.issuer(),
    ] {
        let answer = ask(&api, ONE, |token| token.set("iss", iss)).await;
        assert_eq!(answer, another, "{iss}");
    }
    let missing = refused("a claim of the token is missing or of the wrong type");
    assert_eq!(ask(&api, ONE, |token| token.remove("tid")).await, missing);
    let upper = ONE.to_uppercase();
    let answer = ask(&api, ONE, |token| token.set("tid", upper)).await;
    assert_eq!(answer, missing);
}

#[rocket::async_test]
async fn an_access_token_by_the_key_of_another_tenant() {
    let api = api(json!([ONE, TWO])).await;
    let of_key = template(&api.provider).replace("{tenantid}", TWO);
    api.provider.on_jwks(move |reply| {
        reply.edit(|set| {
            for key in set["keys"].as_array_mut().unwrap() {
                key["issuer"] = json!(of_key);
            }
        });
    });
    assert_eq!(ask(&api, TWO, |_| ()).await.status, 200);
    let refused = refused("the token is signed with the key of another issuer");
    assert_eq!(ask(&api, ONE, |_| ()).await, refused);
}

/// Tokens of version 1 have another template, whose keys name no issuer.
#[rocket::async_test]
async fn a_further_issuer_is_a_template_of_its_own() {
    let partner = TestProvider::start().await;
    partner.set_time(NOW);
    let v1 = format!("{}/{{tenantid}}/", partner.issuer());
    partner.metadata(|metadata| drop(metadata.insert("issuer".into(), json!(v1))));
    let api = Api::with(json!({ "issuers": { "v1": {
        "issuer": v1, "server_metadata_url": metadata_url(&partner), "tenants": [ONE],
        "audience": "partner-api",
    } } }))
    .await;
    let theirs = |tenant: &str| {
        partner.access_token("notes:read", |token| {
            token.set("aud", "partner-api");
            of_tenant(token, &v1, tenant);
        })
    };
    assert_eq!(api.call("/whoami", &theirs(ONE)).await.status, 200);
    let stranger = refused("the token comes from a tenant that is not accepted");
    assert_eq!(api.call("/whoami", &theirs(TWO)).await, stranger);
    assert_eq!(api.whoami(|_| ()).await.status, 200);
}

#[rocket::async_test]
async fn an_introspection_reply_names_its_tenant() {
    for (tenant, expected) in [
        (Some(ONE), 200),
        (Some(STRANGER), 401),
        // Nothing else says which tenant it is.
        (None, 401),
    ] {
        let api = api(json!([ONE])).await;
        let template = template(&api.provider);
        let token = api.provider.access_token("notes:read", |_| ());
        api.provider.on_introspection(move |reply| {
            reply.edit(|members| {
                *members = json!({
                    "active": true, "sub": "alice", "client_id": "client", "scope": "notes:read",
                    "aud": TestProvider::API, "exp": NOW + 300,
                })
                .as_object()
                .unwrap()
                .clone();
                if let Some(tenant) = tenant {
                    let issuer = template.replace("{tenantid}", tenant);
                    members.insert("iss".into(), json!(issuer));
                    members.insert("tid".into(), json!(tenant));
                }
            });
        });
        drop(token);
        let answer = api.call("/whoami", "opaque").await;
        assert_eq!(answer.status, expected, "{tenant:?}");
    }
}

/// Clients cannot get a token from a template.
#[rocket::async_test]
async fn clients_are_sent_to_the_tenants() {
    for (tenants, expected) in [(json!([TWO, ONE]), vec![TWO, ONE]), (json!(["any"]), vec!["any"])] {
        let provider = TestProvider::start().await;
        let template = template(&provider);
        provider.metadata(|metadata| drop(metadata.insert("issuer".into(), json!(template))));
        let settings = json!({
            "issuer": template, "server_metadata_url": metadata_url(&provider),
            "tenants": tenants, "resource": "http://localhost:8000/v1",
        });
        let api = Api::at(provider, settings).await;
        let request = api.client.get("/.well-known/oauth-protected-resource/v1");
        let answer = Answer::to(request).await;
        let body: Value = rocket::serde::json::from_str(&answer.body).unwrap();
        let expected: Vec<_> = expected
            .into_iter()
            .map(|tenant| match tenant {
                "any" => api.provider.issuer(),
                tenant => template.replace("{tenantid}", tenant),
            })
            .collect();
        assert_eq!(body["authorization_servers"], json!(expected));
    }
}

// ---- Launch.

#[rocket::async_test]
async fn accepted_tenants_are_reported_at_liftoff() {
    let entra = Entra::start().await;
    let log = Log::listen();
    let browser = open(&entra, &entra.app(json!(["any", PERSONAL]))).await;
    drop(browser);
    let lines = log.lines_with_report();
    for expected in [
        format!("INFO: tenants: every organisation, {PERSONAL}"),
        "WARN: `tenants`: `any` accepts every user of every organisation at the provider, and anyone can create an organisation".to_owned(),
        format!("WARN: `tenants`: {PERSONAL} accepts every personal Microsoft account, and anyone can create one"),
    ] {
        assert!(lines.contains(&expected), "{expected:?} is not in {lines:#?}");
    }
}

#[rocket::async_test]
async fn a_template_without_tenants_does_not_launch() {
    let entra = Entra::start().await;
    let app = App::new(&entra.provider)
        .with("oidc.issuer", entra.template())
        .with("oidc.server_metadata_url", metadata_url(&entra.provider));
    let (kind, lines) = launch_failure(app.rocket()).await;
    assert_eq!(kind, "failed fairings: OpenID Connect");
    assert_eq!(
        lines,
        [
            "ERROR: `oidc.tenants`: it is not set, and the issuer is a template: the accepted tenants are unknown",
            "INFO: list the ids of the tenants, or `any` for every organisation",
        ]
    );
}

/// The setting names the issuer of `organizations`, as people write it, and the metadata is that of all tenants.
#[rocket::async_test]
async fn the_metadata_of_all_tenants_without_a_template_in_the_settings() {
    let entra = Entra::start().await;
    let app = App::new(&entra.provider);
    let (_, lines) = launch_failure(app.rocket()).await;
    let error = format!(
        "ERROR: the metadata's issuer is `{}`, expected `{}`",
        entra.template(),
        entra.provider.issuer()
    );
    assert_eq!(
        lines[..2],
        [
            error,
            "INFO: set `oidc.issuer` to the template in the metadata, `oidc.server_metadata_url` to the URL of that metadata, and `oidc.tenants` to the accepted tenants".to_owned(),
        ]
    );
}
