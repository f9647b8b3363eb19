//! The pages, as browsers in two languages see them.

use rocket::{
    http::{Header, Status},
    local::blocking::Client,
};
use rocket_openidconnect::{SignInFailureKind, testing::TestProvider};

use super::german;

const GERMAN: &str = "de-DE,de;q=0.9,en;q=0.8";
const ENGLISH: &str = "en-GB,en;q=0.9,de;q=0.8";

fn app() -> Client {
    Client::tracked(TestProvider::new().register(super::rocket())).expect("the example launches")
}

/// The status and the page at this path.
fn visit(
    client: &Client,
    path: &str,
    language: &'static str,
    headers: &[(&'static str, &'static str)],
) -> (u16, String) {
    let mut request = client
        .get(path.to_owned())
        .header(Header::new("Accept-Language", language));
    for (name, value) in headers {
        request.add_header(Header::new(*name, *value));
    }
    let response = request.dispatch();
    (response.status().code, response.into_string().unwrap_or_default())
}

#[test]
fn each_page_is_in_the_language_of_the_browser() {
    const SCRIPT: [(&str, &str); 2] = [("Sec-Fetch-Mode", "cors"), ("Sec-Fetch-Dest", "empty")];
    let client = app();
    for (path, headers, status, in_german, in_english) in [
        (
            "/oidc/authorize?code=x&state=0123456789",
            &[][..],
            400,
            "<h1>Anmeldung fehlgeschlagen</h1>",
            "<h1>Sign-in failed</h1>",
        ),
        ("/oidc/logout", &[], 200, "<h1>Abmelden?</h1>", "<h1>Sign out?</h1>"),
        (
            "/oidc/login",
            &SCRIPT,
            403,
            "<h1>Keine eigene Seite</h1>",
            "<h1>Not a page load</h1>",
        ),
    ] {
        for (language, expected, lang) in [
            (GERMAN, in_german, "de"),
            (ENGLISH, in_english, "en"),
            ("fr", in_english, "en"),
        ] {
            let (found, page) = visit(&client, path, language, headers);
            assert_eq!(found, status, "{path}");
            assert!(page.contains(expected), "{path} in {language}: {page}");
            assert!(page.contains(&format!("<html lang=\"{lang}\">")), "{page}");
        }
    }
}

#[test]
fn a_sign_out_of_another_site_is_rejected_in_german() {
    let client = app();
    let request = client
        .post("/oidc/logout")
        .header(Header::new("Accept-Language", GERMAN));
    let answer = request.header(Header::new("Origin", "https://evil.example")).dispatch();
    assert_eq!(answer.status(), Status::Forbidden);
    let page = answer.into_string().unwrap();
    assert!(page.contains("<h1>Nicht abgemeldet</h1>"), "{page}");
    // The button of the page signs out.
    assert!(page.contains("<button class=\"button\">Abmelden</button>"), "{page}");
}

#[test]
fn each_kind_of_failure_has_a_text() {
    let kinds = [
        SignInFailureKind::Cancelled,
        SignInFailureKind::StartAgain,
        SignInFailureKind::CookiesBlocked,
        SignInFailureKind::NotAllowed,
        SignInFailureKind::TryLater,
        SignInFailureKind::NotSetUp,
        SignInFailureKind::Mismatch,
        SignInFailureKind::NotVerified,
    ];
    let mut texts = kinds.map(german::explanation).to_vec();
    texts.sort_unstable();
    texts.dedup();
    assert_eq!(texts.len(), kinds.len());
}
