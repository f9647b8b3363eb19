//! `sign_in` signs a user in, or panics.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rocket::{
    get,
    http::Status,
    local::{asynchronous, blocking::Client},
    routes,
    serde::json::json,
};
use rocket_openidconnect::{
    LoggedIn,
    testing::{TestClient, TestProvider},
};

use crate::app::rocket;

/// A page for everyone, which no redirect takes to sign-in.
#[get("/public")]
fn public(user: Option<LoggedIn>) -> String {
    user.map_or_else(|| "nobody".to_owned(), |user| user.subject().to_owned())
}

#[test]
fn sign_in_signs_in_whatever_the_page_needs() {
    let client = Client::tracked(TestProvider::new().register(rocket().mount("/", routes![public]))).unwrap();
    let page = client.sign_in("/public", json!({ "sub": "alice" }));
    assert_eq!(page.into_string().unwrap(), "alice");
    // Another user signs in with the browser.
    let page = client.sign_in("/public", json!({ "sub": "bob" }));
    assert_eq!(page.into_string().unwrap(), "bob");
    // A page that does not exist.
    let page = client.sign_in("/nothing", json!({ "sub": "ann" }));
    assert_eq!(page.status(), Status::NotFound);
    assert_eq!(client.get("/public").dispatch().into_string().unwrap(), "ann");
}

#[test]
fn a_sign_in_after_which_no_user_is_signed_in_panics() {
    let message = |client: &Client| {
        let signing_in = AssertUnwindSafe(|| drop(client.sign_in("/public", json!({ "sub": "mallory" }))));
        *catch_unwind(signing_in).unwrap_err().downcast::<String>().unwrap()
    };
    let app = || TestProvider::new().register(rocket().mount("/", routes![public]));
    let expected = "no user is signed in after `sign_in(\"/public\", …)`, whose last response is 403 Forbidden: see the \
                    log; the client must be tracked. For a sign-in that is to fail, use `attempt_sign_in`";
    // The app refuses mallory.
    let client = Client::tracked(app()).unwrap();
    assert_eq!(message(&client), expected);
    // Also where another user stays signed in.
    client.sign_in("/public", json!({ "sub": "alice" }));
    assert_eq!(message(&client), expected);
    let page = client.attempt_sign_in("/public", json!({ "sub": "mallory" }));
    assert_eq!(page.status(), Status::Forbidden);
    // Cookies are lost.
    let untracked = Client::untracked(app()).unwrap();
    let text = message(&untracked);
    assert!(text.starts_with("no user is signed in after `sign_in("), "{text}");
}

#[rocket::async_test]
async fn the_asynchronous_client_signs_in_and_panics_too() {
    let app = TestProvider::new().register(rocket().mount("/", routes![public]));
    let client = asynchronous::Client::tracked(app).await.unwrap();
    let page = client.sign_in("/public", json!({ "sub": "alice" })).await;
    assert_eq!(page.into_string().await.unwrap(), "alice");
    let refused = client.attempt_sign_in("/public", json!({ "sub": "mallory" })).await;
    assert_eq!(refused.status(), Status::Forbidden);
    drop(refused);
    let signing_in = rocket::tokio::spawn(async move {
        drop(client.sign_in("/public", json!({ "sub": "mallory" })).await);
    });
    let panic = signing_in.await.unwrap_err().into_panic();
    let text = panic.downcast::<String>().unwrap();
    assert!(text.contains("attempt_sign_in"), "{text}");
}
