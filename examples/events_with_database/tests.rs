//! The example as its people and its table see it.

use rocket::{
    http::{ContentType, Status},
    local::asynchronous::{Client, LocalResponse},
};
use rocket_openidconnect::testing::{TestClient, TestProvider, TestRequest, assert_guarded};
use serde_json::{Value, json};

use super::people::{People, Person};

/// The app on a database of its own, which is empty.
async fn app() -> Client {
    let people = People::open("sqlite::memory:").await.unwrap();
    let rocket = TestProvider::new().register(super::app(people));
    Client::tracked(rocket).await.unwrap()
}

fn alice() -> Value {
    json!({ "sub": "a1", "name": "Alice", "email": "alice@example.com", "groups": ["admin"] })
}

fn bob() -> Value {
    json!({ "sub": "b2", "name": "Bob", "email": "bob@example.com" })
}

async fn all(client: &Client) -> Vec<Person> {
    let people = client.rocket().state::<People>().unwrap();
    people.all().await.unwrap()
}

async fn text(response: LocalResponse<'_>) -> String {
    assert_eq!(response.status(), Status::Ok);
    response.into_string().await.unwrap()
}

#[rocket::async_test]
async fn only_the_start_page_is_public() {
    assert_guarded(&app().await, &["/"]).await;
}

#[rocket::async_test]
async fn whoever_signs_in_is_on_the_list_once() {
    let client = app().await;
    let first = text(client.sign_in("/me", alice()).await).await;
    assert!(first.contains("Hello, Alice") && first.contains("Your first visit"));
    client.sign_out("/").await;

    // The same person under another name, at another address.
    let renamed = json!({ "sub": "a1", "name": "Alice Liddell", "email": "al@example.com" });
    let second = text(client.sign_in("/me", renamed).await).await;
    assert!(second.contains("Your visit number 2."));
    let people = all(&client).await;
    assert_eq!(people.len(), 1);
    assert_eq!((&*people[0].subject, people[0].visits), ("a1", 2));
    assert_eq!(people[0].name.as_deref(), Some("Alice Liddell"));
    assert_eq!(people[0].email.as_deref(), Some("al@example.com"));

    // Another person at the same address.
    let other = json!({ "sub": "a2", "email": "al@example.com" });
    client.get("/me").signed_in_as(other).dispatch().await;
    assert_eq!(all(&client).await.len(), 2);
}

#[rocket::async_test]
async fn what_the_app_knows_of_a_person_outlives_a_session() {
    let client = app().await;
    client.sign_in("/me", bob()).await;
    let rename = client.post("/me").header(ContentType::Form);
    let renamed = rename.body("nickname=Bobby+%3Cb%3E").dispatch().await;
    assert_eq!(renamed.status(), Status::SeeOther);
    client.sign_out("/").await;
    let page = text(client.sign_in("/me", bob()).await).await;
    assert!(page.contains("Hello, Bobby &lt;b&gt;"), "{page}");

    let rename = client.post("/me").header(ContentType::Form);
    let empty = rename.body("nickname=").dispatch().await;
    assert_eq!(empty.status(), Status::UnprocessableEntity);
}

#[rocket::async_test]
async fn the_table_of_sessions_has_who_came_and_went_and_why() {
    let client = app().await;
    client.sign_in("/me", bob()).await;
    client.sign_out("/").await;
    client.sign_in("/me", bob()).await;
    let rp = client.rocket().state::<rocket_openidconnect::RelyingParty>();
    rp.unwrap().end_sessions("b2").await.unwrap();
    client.sign_in("/me", alice()).await;
    let page = text(client.get("/sessions").dispatch().await).await;
    let rows = page.split("</td></tr>").map(|row| {
        let cells = row.split("</td><td>").skip(1);
        cells.collect::<Vec<_>>().join(" ")
    });
    let rows: Vec<_> = rows.filter(|row| !row.is_empty()).collect();
    assert_eq!(
        rows,
        [
            "a1 began signed_in",
            "b2 ended ended_by_app",
            "b2 began signed_in",
            "b2 ended signed_out",
            "b2 began signed_in",
        ]
    );
    client.sign_out("/").await;
    client.sign_in("/me", bob()).await;
    let page = client.get("/sessions").dispatch().await;
    assert_eq!(page.status(), Status::Forbidden);
}

#[rocket::async_test]
async fn whoever_is_blocked_is_signed_out_and_stays_out() {
    let client = app().await;
    client.sign_in("/me", bob()).await;
    let bobs = all(&client).await[0].id;
    let block = || client.post(format!("/people/{bobs}/block"));
    assert_eq!(block().dispatch().await.status(), Status::Forbidden);
    assert_eq!(client.get("/me").dispatch().await.status(), Status::Ok);

    let list = client.get("/people").signed_in_as(alice()).dispatch().await;
    assert!(text(list).await.contains("bob@example.com"));
    let blocked = block().signed_in_as(alice()).dispatch().await;
    assert_eq!(blocked.status(), Status::SeeOther);
    assert_eq!(client.get("/me").dispatch().await.status(), Status::Unauthorized);
    let refused = client.attempt_sign_in("/me", bob()).await;
    assert_eq!(refused.status(), Status::Forbidden);
    let page = refused.into_string().await.unwrap();
    assert!(page.contains("Your access has been revoked."));
    assert!(all(&client).await[0].is_blocked);
}
