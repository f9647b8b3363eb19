//! A hostile provider, which sends the browser on to an honest one (mix-up, RFC 9700 §4.4).

use rocket::{State, get, http::uri::Origin, response::Redirect, routes, tokio};
use url::{Url, form_urlencoded};

use super::world::{Differences, World, count};
use crate::{browser::Browser, example::free_port, patience, support::TestProvider};

/// What the hostile provider knows of the honest one.
struct Honest {
    authorization_endpoint: String,
    redirect_uri: String,
}

/// The request of the app, but for the redirect URI, which is the one that the honest provider knows.
#[get("/authorize")]
fn authorize(request: &Origin<'_>, honest: &State<Honest>) -> Redirect {
    let query = request.query().map_or("", |query| query.as_str());
    let pairs = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name != "redirect_uri");
    let mut url = Url::parse(&honest.authorization_endpoint).unwrap();
    url.query_pairs_mut()
        .extend_pairs(pairs)
        .append_pair("redirect_uri", &honest.redirect_uri);
    Redirect::to(url.to_string())
}

/// A user chooses the hostile provider, signs in at the honest one, and no code is sent to either.
#[rocket::async_test]
#[ignore = "needs Node.js and Chromium: run scripts/interop"]
async fn a_hostile_provider_gets_no_code_of_an_honest_one() {
    for (shares_redirect_uri, path, reason) in [
        (false, "/oidc/authorize/b", "redirect_uri_mismatch"),
        (true, "/oidc/authorize", "response_iss_mismatch"),
    ] {
        let (port, hostile, own) = (free_port(), TestProvider::start().await, free_port());
        hostile.metadata(|metadata| {
            metadata.insert(
                "authorization_endpoint".into(),
                format!("http://127.0.0.1:{own}/authorize").into(),
            );
        });
        let differences = Differences {
            shares_redirect_uri,
            hostile: Some(hostile.port()),
            ..Differences::default()
        };
        let world = World::at(port, differences).await;
        let figment = rocket::Config::figment()
            .merge(("port", own))
            .merge(("log_level", "off"));
        let rocket = rocket::custom(figment).mount("/", routes![authorize]).manage(Honest {
            authorization_endpoint: format!("{}/auth", world.b.issuer()),
            redirect_uri: world.url(path),
        });
        tokio::spawn(rocket.launch());
        while patience::client()
            .get(format!("http://127.0.0.1:{own}/"))
            .send()
            .await
            .is_err()
        {
            tokio::task::yield_now().await;
        }

        let browser = Browser::start().await;
        browser.goto(&world.url("/oidc/login?next=/who")).await;
        browser.click("#sign-in-hostile").await;
        browser.wait_for_url(|url| url.starts_with(world.b.issuer())).await;
        world.b.sign_in(&browser, "alice").await;
        browser.wait_for_url(|url| url.starts_with(&world.url(path))).await;
        assert_eq!(browser.text("h1").await, "Sign-in failed");
        assert!(world.app.has_logged(reason), "{}", world.app.log());
        assert_eq!(hostile.count("/token"), 0);
        assert_eq!(
            (
                count(&world.b, "grant.success").await,
                count(&world.b, "grant.error").await
            ),
            (0, 0)
        );
        browser.goto(&world.url("/")).await;
        assert_eq!(browser.text("body").await, "nobody");

        // The user's own sign-in there is not spoilt.
        browser.goto(&world.url("/oidc/login/b?next=/who")).await;
        browser.wait_for_url(|url| url == world.url("/who")).await;
        assert_eq!(browser.text("body").await, "b alice");
    }
}
