//! An app with several providers, in Chromium: two npm `oidc-provider`s and the development provider.

mod mix_up;
mod world;

use std::env;

use rocket::{Request, get, response::Redirect, routes, serde::json::Json};
use rocket_openidconnect::{Acr, Claims, LoggedIn, Oidc, OptionalUser, RelyingParty, UserKey, acr_values};

use self::world::{Differences, World, count, wait_for};
use crate::{
    browser::Browser,
    example::{Example, free_port},
    visitor::Visitor,
    walker::Person,
};

/// The test that is the app, and the app whose development provider the other one uses.
const TEST: &str = "several_providers::an_app";
/// Set in the environment of the app: whether its tenants have a provider each, by host.
const HAS_TENANTS: &str = "INTEROP_SEVERAL_PROVIDERS";
/// What a user has who signed in where the app asked for it.
const SECOND_FACTOR: &str = "urn:example:loa:2";

acr_values! { SecondFactor = "urn:example:loa:2"; }

#[get("/")]
fn index(visitor: OptionalUser) -> String {
    visitor
        .user()
        .map_or("nobody".to_owned(), |user| user.key().to_string())
}

#[get("/who")]
fn who(user: LoggedIn) -> String {
    format!("{} {}", user.provider(), user.subject())
}

#[get("/second")]
fn second(user: LoggedIn<Claims, Acr<SecondFactor>>) -> String {
    format!("{} {} with two factors", user.provider(), user.subject())
}

#[get("/again")]
fn again(rp: &RelyingParty, user: LoggedIn) -> Redirect {
    let url = rp.sign_in_url().provider(user.provider()).next("/second");
    Redirect::to(url.prompt("login").acr_values([SECOND_FACTOR]).to_string())
}

/// How many sessions a user has.
#[get("/sessions?<key>")]
async fn sessions(rp: &RelyingParty, key: &str) -> Json<Option<usize>> {
    let key: UserKey = key.parse().expect("a key");
    let sessions = rp.sessions_of_user(&key).await.expect("the store is in memory");
    Json(sessions.map(|sessions| sessions.len()))
}

/// Does nothing unless it is started as an app.
#[rocket::async_test]
#[ignore = "an app that other tests start: run scripts/interop"]
async fn an_app() {
    let Ok(has_tenants) = env::var(HAS_TENANTS) else {
        return;
    };
    let mut fairing = Oidc::fairing();
    if has_tenants == "true" {
        fairing = fairing.provider_for(|request: &Request<'_>| {
            let host = request.host()?.domain().as_str().to_owned();
            Some(host.strip_suffix(".localhost")?.to_owned())
        });
    }
    let rocket = rocket::build()
        .attach(fairing)
        .mount("/", routes![index, who, second, again, sessions]);
    rocket.launch().await.expect("it runs until it is killed");
}

#[rocket::async_test]
#[ignore = "needs Node.js and Chromium: run scripts/interop"]
async fn a_user_chooses_and_a_sign_in_elsewhere_ends_the_former_session() {
    let (port, dev_port) = (free_port(), free_port());
    // The development provider of another app, which has the same client.
    let redirect_uri = format!("http://localhost:{port}/oidc/authorize/dev");
    let dev_provider = format!("{{port={dev_port}}}");
    let environment = [
        (HAS_TENANTS, "false"),
        ("OIDC_DEV_PROVIDER", &*dev_provider),
        ("OIDC_CLIENT_ID", "app"),
        ("OIDC_CLIENT_SECRET", "shared"),
        ("OIDC_OVERWRITE_REDIRECT_URI", &redirect_uri),
    ];
    let _dev = Example::of_test(TEST, free_port(), &environment);
    let differences = Differences {
        dev_provider: Some(dev_port),
        ..Differences::default()
    };
    let world = World::at(port, differences).await;
    let browser = Browser::start().await;

    browser.goto(&world.url("/who")).await;
    assert_eq!(browser.current_url().await, world.url("/oidc/login?next=%2Fwho"));
    assert_eq!(browser.text("h1").await, "Sign in");
    assert_eq!(browser.text("#sign-in-b").await, "Sign in with Company & Sons");
    browser.screenshot("several-providers-chooser").await;

    world.sign_in(&browser, "a", "alice").await;
    let at_a = format!("a {} alice", world.a.issuer());
    assert_eq!(world.sessions_of(&at_a).await, 1);

    // The same `sub` at another provider is another user.
    world.sign_in(&browser, "b", "alice").await;
    let at_b = format!("b {} alice", world.b.issuer());
    assert_eq!(world.sessions_of(&at_a).await, 0);
    assert_eq!(world.sessions_of(&at_b).await, 1);

    browser.goto(&world.url("/oidc/login?next=/who")).await;
    browser.click("#sign-in-dev").await;
    browser.click("button[value=alice]").await;
    browser.wait_for_url(|url| url == world.url("/who")).await;
    assert_eq!(browser.text("body").await, "dev alice");
    assert_eq!(world.sessions_of(&at_b).await, 0);
    let cookies = browser.cookies().await;
    let sessions = cookies.iter().filter(|cookie| cookie.name.starts_with("oidc_session_"));
    assert_eq!(sessions.count(), 1);
}

/// RFC 9700 §4.4.
#[rocket::async_test]
#[ignore = "needs Node.js: run scripts/interop"]
async fn an_answer_at_the_redirect_uri_of_the_other_provider_is_rejected_and_no_code_is_sent() {
    let world = World::start().await;
    let mut visitor = Visitor::new();
    let mut callbacks = vec![];
    for (name, provider) in [("a", &world.a), ("b", &world.b)] {
        let login = world.url(&format!("/oidc/login/{name}?next=/who"));
        let request = visitor.visit(&login).await.location.expect("the provider's URL");
        assert!(request.starts_with(provider.issuer()), "{request}");
        let callback = visitor.walker.walk(&request, Person::SignsIn("alice")).await;
        assert_eq!(callback.path(), format!("/oidc/authorize/{name}"));
        callbacks.push(callback);
    }
    for (callback, others) in callbacks.iter().zip(["/oidc/authorize/b", "/oidc/authorize/a"]) {
        for path in [others, "/oidc/authorize"] {
            let mut wrong = callback.clone();
            wrong.set_path(path);
            assert_eq!(visitor.visit(wrong.as_str()).await.status, 400, "{wrong}");
        }
    }
    assert!(world.app.has_logged("redirect_uri_mismatch"));
    for provider in [&world.a, &world.b] {
        assert_eq!(count(provider, "grant.success").await, 0);
        assert_eq!(count(provider, "grant.error").await, 0);
    }
    // They were not spoilt.
    let answer = visitor.visit(callbacks[1].as_str()).await;
    assert_eq!(answer.location.as_deref(), Some("/who"));
    assert_eq!(visitor.visit(&world.url("/who")).await.body, "b alice");
    assert_eq!(
        (
            count(&world.a, "grant.success").await,
            count(&world.b, "grant.success").await
        ),
        (0, 1)
    );
}

#[rocket::async_test]
#[ignore = "needs Node.js and Chromium: run scripts/interop"]
async fn step_up_stays_at_the_provider_of_the_session() {
    let world = World::start().await;
    let browser = Browser::start().await;
    let (second, again) = (world.url("/second"), world.url("/again"));

    // This one is not trusted with the value, and is not asked.
    world.sign_in(&browser, "a", "alice").await;
    browser.goto(&second).await;
    assert_eq!(browser.text("h1").await, "Sign-in failed");
    assert!(world.app.has_logged("acr_not_trusted"));
    browser.goto(&world.url("/who")).await;
    assert_eq!(browser.text("body").await, "a alice");

    // Where a session without the second factor is, the other one answers at once with what it has.
    world.sign_in(&browser, "b", "alice").await;
    let before = (
        count(&world.a, "grant.success").await,
        count(&world.b, "grant.success").await,
    );
    browser.goto(&second).await;
    assert_eq!(browser.text("h1").await, "Sign-in failed");
    assert!(world.app.has_logged("id_token_acr"));
    let after = (
        count(&world.a, "grant.success").await,
        count(&world.b, "grant.success").await,
    );
    assert_eq!(after, (before.0, before.1 + 1));

    browser.goto(&again).await;
    let url = browser.wait_for_url(|url| url.starts_with(world.b.issuer())).await;
    assert!(url.contains("/interaction/"), "{url}");
    world.b.sign_in(&browser, "alice").await;
    browser.wait_for_url(|url| url == second).await;
    assert_eq!(browser.text("body").await, "b alice with two factors");
}

#[rocket::async_test]
#[ignore = "needs Node.js and Chromium: run scripts/interop"]
async fn a_user_signs_out_at_the_provider_of_the_session() {
    let world = World::start().await;
    let browser = Browser::start().await;
    for (name, provider) in [("a", &world.a), ("b", &world.b)] {
        world.sign_in(&browser, name, "alice").await;
        browser.goto(&world.url("/oidc/logout")).await;
        browser.click("#sign-out").await;
        browser.wait_for_url(|url| url.starts_with(provider.issuer())).await;
        browser.click("button[value=yes]").await;
        browser.wait_for_url(|url| url == world.url("/")).await;
        assert_eq!(browser.text("body").await, "nobody");
        // The provider asks again.
        browser.goto(&world.url(&format!("/oidc/login/{name}?next=/who"))).await;
        browser.wait_for_url(|url| url.contains("/interaction/")).await;
    }
}

/// The user ends the session at the provider's own page, which tells the app.
#[rocket::async_test]
#[ignore = "needs Node.js and Chromium: run scripts/interop"]
async fn a_logout_token_ends_sessions_of_its_own_provider_alone() {
    for (path, event, is_ended) in [("a", "backchannel.success", true), ("b", "backchannel.error", false)] {
        let differences = Differences {
            logout_tokens_of_a_to: Some(path),
            ..Differences::default()
        };
        let world = World::with(differences).await;
        let (at_a, at_b) = (Browser::start().await, Browser::start().await);
        world.sign_in(&at_a, "a", "alice").await;
        world.sign_in(&at_b, "b", "alice").await;

        at_a.goto(&format!("{}/session/end", world.a.issuer())).await;
        at_a.click("button[value=yes]").await;
        wait_for(&world.a, event).await;
        at_a.goto(&world.url("/")).await;
        let expected = if is_ended {
            "nobody".to_owned()
        } else {
            format!("a {} alice", world.a.issuer())
        };
        assert_eq!(at_a.text("body").await, expected);
        at_b.goto(&world.url("/who")).await;
        assert_eq!(at_b.text("body").await, "b alice");
    }
}

#[rocket::async_test]
#[ignore = "needs Node.js and Chromium: run scripts/interop"]
async fn a_user_of_one_tenant_is_nobody_at_another() {
    let world = World::with(Differences {
        has_tenants: true,
        ..Differences::default()
    })
    .await;
    let browser = Browser::start().await;
    let at = |tenant: &str, path: &str| world.app.at(&format!("{tenant}.localhost"), path);
    browser.goto(&at("a", "/who")).await;
    // There is nothing to choose.
    browser.wait_for_url(|url| url.starts_with(world.a.issuer())).await;
    world.a.sign_in(&browser, "alice").await;
    browser.wait_for_url(|url| url == at("a", "/who")).await;
    assert_eq!(browser.text("body").await, "a alice");

    browser.goto(&at("b", "/")).await;
    assert_eq!(browser.text("body").await, "nobody");
    browser.goto(&at("b", "/who")).await;
    browser.wait_for_url(|url| url.starts_with(world.b.issuer())).await;
    world.b.sign_in(&browser, "bob").await;
    browser.wait_for_url(|url| url == at("b", "/who")).await;
    assert_eq!(browser.text("body").await, "b bob");
    browser.goto(&at("a", "/who")).await;
    assert_eq!(browser.text("body").await, "a alice");

    // The cookies of both at each host: those of the other one are nobody's.
    let cookies = browser.cookies().await;
    for (tenant, other) in [("a", "b"), ("b", "a")] {
        let theirs = cookies
            .iter()
            .find(|cookie| cookie.name.starts_with("oidc_session_") && cookie.domain == format!("{other}.localhost"));
        let theirs = theirs.expect("the session of the other tenant");
        let request = crate::patience::client().get(format!("http://localhost:{}/", world.port));
        let request = request.header("Host", format!("{tenant}.localhost:{}", world.port));
        let request = request.header("Cookie", format!("{}={}", theirs.name, theirs.value));
        assert_eq!(request.send().await.unwrap().text().await.unwrap(), "nobody");
    }
    // A link on another site leads to the page: there is no choice that it could make.
    let other = Browser::start().await;
    other
        .goto(&format!("{}/.well-known/openid-configuration", world.a.issuer()))
        .await;
    other.execute(&format!("location.href = '{}'", at("b", "/who"))).await;
    other.wait_for_url(|url| url.starts_with(world.b.issuer())).await;

    // A host of no tenant.
    browser.goto(&world.url("/")).await;
    assert_eq!(browser.text("body").await, "nobody");
    let login = crate::patience::client()
        .get(world.url("/oidc/login"))
        .send()
        .await
        .unwrap();
    assert_eq!(login.status(), 404);
    // Each signs out alone.
    browser.goto(&at("a", "/oidc/logout")).await;
    browser.click("#sign-out").await;
    browser.wait_for_url(|url| url.starts_with(world.a.issuer())).await;
    browser.click("button[value=yes]").await;
    browser.wait_for_url(|url| url == at("a", "/")).await;
    assert_eq!(browser.text("body").await, "nobody");
    browser.goto(&at("b", "/who")).await;
    assert_eq!(browser.text("body").await, "b bob");
}

#[rocket::async_test]
#[ignore = "needs Node.js: run scripts/interop"]
async fn a_shared_redirect_uri_works_at_providers_that_send_iss() {
    let world = World::with(Differences {
        shares_redirect_uri: true,
        ..Differences::default()
    })
    .await;
    let mut visitor = Visitor::new();
    for (name, provider, other) in [("a", &world.a, &world.b), ("b", &world.b, &world.a)] {
        let login = world.url(&format!("/oidc/login/{name}?next=/who"));
        let request = visitor.visit(&login).await.location.expect("the provider's URL");
        let callback = visitor.walker.walk(&request, Person::SignsIn("alice")).await;
        assert_eq!(callback.path(), "/oidc/authorize");
        let of = |iss: Option<&str>| {
            let mut changed = callback.clone();
            let pairs: Vec<_> = callback.query_pairs().filter(|(key, _)| key != "iss").collect();
            changed.query_pairs_mut().clear().extend_pairs(pairs);
            if let Some(iss) = iss {
                changed.query_pairs_mut().append_pair("iss", iss);
            }
            changed
        };
        assert_eq!(
            of(Some(provider.issuer())).query_pairs().count(),
            callback.query_pairs().count()
        );
        for wrong in [of(None), of(Some(other.issuer()))] {
            assert_eq!(visitor.visit(wrong.as_str()).await.status, 400, "{wrong}");
        }
        assert_eq!(count(provider, "grant.success").await, 0);
        let answer = visitor.visit(callback.as_str()).await;
        assert_eq!(answer.location.as_deref(), Some("/who"));
        assert_eq!(visitor.visit(&world.url("/who")).await.body, format!("{name} alice"));
    }
}

/// Chromium says by `Sec-Fetch-Site` that a page of another site is the origin.
#[rocket::async_test]
#[ignore = "needs Node.js and Chromium: run scripts/interop"]
async fn a_sign_in_that_another_site_begins_waits_for_a_button() {
    let world = World::start().await;
    let browser = Browser::start().await;
    // A page of the site 127.0.0.1.
    browser
        .goto(&format!("{}/.well-known/openid-configuration", world.a.issuer()))
        .await;
    let login = world.url("/oidc/login/b?next=/who");
    browser.execute(&format!("location.href = '{login}'")).await;
    browser.wait_for_url(|url| url == login).await;
    browser.screenshot("several-providers-confirmation").await;
    assert_eq!(browser.text("#confirm").await, "Sign in with Company & Sons");
    browser.click("#confirm").await;
    browser.wait_for_url(|url| url.starts_with(world.b.issuer())).await;
    world.b.sign_in(&browser, "alice").await;
    browser.wait_for_url(|url| url == world.url("/who")).await;
    assert_eq!(browser.text("body").await, "b alice");
}

/// Each attempt names its provider, and one browser may have several.
#[rocket::async_test]
#[ignore = "needs Node.js: run scripts/interop"]
async fn attempts_at_two_providers_in_one_browser_do_not_disturb_each_other() {
    let world = World::start().await;
    let mut visitor = Visitor::new();
    let mut callbacks = vec![];
    for name in ["a", "b"] {
        let login = world.url(&format!("/oidc/login/{name}?next=/who"));
        let request = visitor.visit(&login).await.location.expect("the provider's URL");
        callbacks.push(visitor.walker.walk(&request, Person::SignsIn("alice")).await);
    }
    for (callback, name) in callbacks.iter().zip(["a", "b"]).rev() {
        let answer = visitor.visit(callback.as_str()).await;
        assert_eq!(answer.location.as_deref(), Some("/who"));
        assert_eq!(visitor.visit(&world.url("/who")).await.body, format!("{name} alice"));
    }
    // Its session was replaced: the identical callback gives it back to nobody.
    let again = visitor.visit(callbacks[1].as_str()).await;
    assert_eq!(again.location.as_deref(), Some("/who"));
    assert_eq!(visitor.visit(&world.url("/who")).await.body, "a alice");
    let at_b = format!("b {} alice", world.b.issuer());
    assert_eq!(world.sessions_of(&at_b).await, 0);
}

#[rocket::async_test]
#[ignore = "needs Chromium: run scripts/interop"]
async fn the_example_signs_in_at_both_development_providers() {
    let (work, club) = (free_port().to_string(), free_port().to_string());
    let environment = [
        ("OIDC_PROVIDERS__WORK__DEV_PROVIDER__PORT", &*work),
        ("OIDC_PROVIDERS__CLUB__DEV_PROVIDER__PORT", &*club),
    ];
    let app = Example::start("several_providers", free_port(), &environment);
    let browser = Browser::start().await;
    let at = |path: &str| app.at("localhost", path);
    for (name, port, title) in [("work", &work, "Alice Liddell"), ("club", &club, "Alice of the club")] {
        browser.goto(&at("/profile")).await;
        if name == "club" {
            // Still signed in at the other one.
            browser.goto(&at("/oidc/login?next=/profile")).await;
        }
        browser.screenshot("several-providers-example").await;
        browser.click(&format!("#sign-in-{name}")).await;
        browser.wait_for_url(|url| url.contains(&format!(":{port}/"))).await;
        browser.click("button[value=alice]").await;
        browser.wait_for_url(|url| url == at("/profile")).await;
        assert_eq!(browser.text("h1").await, title);
        assert_eq!(browser.text("#provider").await, name);
        let key = format!("{name} http://localhost:{port} alice");
        assert_eq!(browser.text("#key").await, key);
        // `admin` counts where the settings trust the provider's groups.
        browser.goto(&at("/admin")).await;
        let is_administrator = browser.source().await.contains("may do everything");
        assert_eq!(is_administrator, name == "work");
    }
    browser.goto(&at("/profile")).await;
    browser.click("#sign-out").await;
    browser.wait_for_url(|url| url == at("/")).await;
    assert_eq!(browser.text("#work").await, "Employees");
}
