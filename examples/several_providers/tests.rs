//! The example as a visitor sees it.

use rocket::{
    http::{Accept, Status},
    local::blocking::{Client, LocalResponse},
};
use rocket_openidconnect::testing::assert_guarded;

/// The example, with development providers on free ports.
fn app() -> Client {
    let figment = super::figment()
        .merge(("oidc.providers.work.dev_provider.port", 0))
        .merge(("oidc.providers.club.dev_provider.port", 0));
    Client::tracked(super::app(figment)).expect("the example launches")
}

fn visit<'c>(client: &'c Client, path: &'c str) -> LocalResponse<'c> {
    client.get(path).header(Accept::HTML).dispatch()
}

/// What the browser is asked to load by the link with this id.
fn link(page: &str, id: &str) -> String {
    let (_, rest) = page.split_once(&format!("id={id} href=\"")).expect("the link");
    let link = rest.split('"').next().unwrap();
    link.replace("&#x2F;", "/").replace("&amp;", "&").replace("&#x3D;", "=")
}

fn location(response: LocalResponse<'_>) -> String {
    assert_eq!(response.status(), Status::SeeOther);
    response.headers().get_one("Location").unwrap().to_owned()
}

#[test]
fn only_the_start_page_is_public() {
    assert_guarded(&app(), &["/"]);
}

#[test]
fn each_link_leads_to_its_provider() {
    let client = app();
    let page = visit(&client, "/").into_string().unwrap();
    let mut issuers = vec![];
    for name in ["work", "club"] {
        let path = link(&page, name);
        assert_eq!(path, format!("/oidc/login/{name}?next=%2Fprofile"));
        let request = location(visit(&client, &path));
        assert!(request.contains(&format!("%2Foidc%2Fauthorize%2F{name}&")), "{request}");
        issuers.push(request.split("/authorize").next().unwrap().to_owned());
    }
    assert!(issuers.iter().all(|issuer| issuer.starts_with("http://localhost:")));
    assert_ne!(issuers[0], issuers[1]);
}

#[test]
fn a_guarded_page_lets_the_user_choose() {
    let client = app();
    let login = location(visit(&client, "/profile"));
    assert_eq!(login, "/oidc/login?next=%2Fprofile");
    let chooser = visit(&client, &login).into_string().unwrap();
    let work = chooser.find("Sign in with Example Ltd").expect("the employer");
    let club = chooser.find("Sign in with Chess Club").expect("the club");
    assert!(work < club);
}
