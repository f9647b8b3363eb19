//! The tool at a provider whose answers lead to another host: nothing goes there, and nothing is lost.

use serde_json::{Value, json};

use crate::{
    support::{ForeignHost, Reply, TestProvider},
    tool::{Ran, Tool},
};

const FILE: &str = "client_secrets.json";
const ELSEWHERE: &str = "/register/c1/elsewhere";

/// A provider that registers everybody as `c1`, manages that client at another place, and leads to the
/// host from this path.
async fn astray(path: &str, status: u16) -> (TestProvider, ForeignHost) {
    let provider = TestProvider::start().await;
    let endpoint = format!("{}/register", provider.issuer());
    provider.metadata(|it| drop(it.insert("registration_endpoint".into(), json!(endpoint))));
    provider.on_path("/register", Reply::json(client(&provider, "/register/c1")));
    provider.on_path("/register/c1", Reply::json(client(&provider, ELSEWHERE)));
    let foreign = ForeignHost::like(&provider).await;
    provider.on_path(path, foreign.redirect(status, path));
    (provider, foreign)
}

fn client(provider: &TestProvider, place: &str) -> Value {
    json!({
        "client_id": "c1",
        "client_secret": "registered-secret-0123456789",
        "registration_access_token": format!("token-of-{place}"),
        "registration_client_uri": format!("{}{place}", provider.issuer()),
    })
}

/// Registers, with what a provider may want for it.
fn register(tool: &Tool, provider: &TestProvider) -> Ran {
    let issuer = provider.issuer();
    let arguments = ["register", &issuer, "https://app.example"];
    let token = "--initial-access-token=initial-token";
    tool.run(&[&arguments[..], &[token]].concat())
}

#[track_caller]
fn fails(ran: &Ran, cause: &str, remedy: &str) {
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert_eq!(ran.stderr, format!("error: {cause}\n       → {remedy}\n"));
    assert_eq!(ran.stdout, "");
}

/// What the registration endpoint's redirect comes to.
#[track_caller]
fn fails_at_registration(ran: &Ran, status: u16) {
    fails(
        ran,
        &format!("the provider's registration endpoint responded with status {status}"),
        "check the provider's log for this request",
    );
}

#[rocket::async_test]
async fn nobody_is_registered_by_metadata_from_elsewhere() {
    for status in ForeignHost::REDIRECTS {
        let (provider, foreign) = astray(TestProvider::DISCOVERY, status).await;
        let tool = Tool::new();
        let ran = register(&tool, &provider);
        foreign.was_asked_nothing();
        let cause = format!("the provider's metadata responded with status {status}");
        let url = format!("{}{}", provider.issuer(), TestProvider::DISCOVERY);
        fails(
            &ran,
            &cause,
            &format!("check ISSUER: its metadata is expected at {url}"),
        );
        assert_eq!(provider.count(TestProvider::DISCOVERY), 1);
        assert_eq!(tool.files(), [""; 0]);
    }
}

/// The initial access token, and the client's metadata.
#[rocket::async_test]
async fn nobody_is_registered_elsewhere() {
    for status in ForeignHost::REDIRECTS {
        let (provider, foreign) = astray("/register", status).await;
        let tool = Tool::new();
        let ran = register(&tool, &provider);
        foreign.was_asked_nothing();
        fails_at_registration(&ran, status);
        assert_eq!(provider.count("/register"), 1);
        assert_eq!(tool.files(), [""; 0]);
    }
}

/// The registration access token, and the client's secret: to read, to change, to delete.
#[rocket::async_test]
async fn a_registration_is_managed_nowhere_else() {
    for (option, path, method, kept) in [
        ("--update", "/register/c1", "GET", "/register/c1"),
        // What the answer before it brought is kept.
        ("--update", ELSEWHERE, "PUT", ELSEWHERE),
        ("--delete", "/register/c1", "DELETE", "/register/c1"),
    ] {
        for status in ForeignHost::REDIRECTS {
            let (provider, foreign) = astray(path, status).await;
            let tool = Tool::new();
            assert_eq!(register(&tool, &provider).code, Some(0));
            let issuer = provider.issuer();
            let ran = match option {
                "--delete" => tool.run(&["register", option]),
                _ => tool.run(&["register", &issuer, "https://app.example", option]),
            };
            foreign.was_asked_nothing();
            fails_at_registration(&ran, status);
            assert_eq!(provider.count(path), 1);
            assert_eq!(provider.last_request(path).method, method);
            assert_eq!(tool.files(), [FILE]);
            let token = &tool.web(FILE)["registration_access_token"];
            assert_eq!(*token, format!("token-of-{kept}"));
        }
    }
}

/// The client's secret, where the doctor tries it.
#[rocket::async_test]
async fn the_doctor_goes_nowhere_else() {
    let log = "check the provider's log for this request";
    for (path, check, verdict, finding, remedy) in [
        (
            TestProvider::DISCOVERY,
            "metadata",
            "failure",
            "the provider's metadata responded with status {status} (at {url})",
            "correct `oidc.issuer`, or set `oidc.server_metadata_url` to the URL of the metadata",
        ),
        (
            "/jwks",
            "keys",
            "failure",
            "the provider's key set responded with status {status} (at {url})",
            log,
        ),
        (
            "/token",
            "client authentication",
            "failure",
            "the provider's token endpoint responded with status {status}",
            log,
        ),
        (
            "/revoke",
            "revocation",
            "warning",
            "the provider's revocation endpoint responded with status {status}; tokens stay valid after sign-out",
            log,
        ),
        (
            "/introspect",
            "introspection",
            "warning",
            "the provider's introspection endpoint responded with status {status}; \
             only APIs that accept opaque tokens need it",
            log,
        ),
    ] {
        for status in ForeignHost::REDIRECTS {
            let (provider, foreign) = astray(path, status).await;
            // It would ask the app, and whoever is at that address on this machine.
            provider.metadata(|metadata| drop(metadata.remove("backchannel_logout_supported")));
            let mut tool = Tool::new();
            tool.env("OIDC_ISSUER", provider.issuer())
                .env("OIDC_CLIENT_ID", "client")
                .env("OIDC_CLIENT_SECRET", "doctor-secret-0123456789");
            let report = tool.report(&["doctor"]);
            foreign.was_asked_nothing();
            let url = format!("{}{path}", provider.issuer());
            let finding = finding.replace("{status}", &status.to_string()).replace("{url}", &url);
            assert_eq!(
                *report.check(check),
                json!({ "check": check, "verdict": verdict, "finding": finding, "remedy": remedy })
            );
            assert_eq!(report.code, Some(i32::from(verdict == "failure")));
        }
    }
}
