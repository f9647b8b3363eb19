//! Which tokens guards accept, with and without a certificate, and beside proofs.

use rocket::{
    http::Header,
    serde::json::{Value, json},
};
use rocket_openidconnect::{Clock, Oidc};

use super::app::{Answer, Api, CLIENT, OTHER, PROXY, header, thumbprint};
use crate::{
    common::{App, NOW},
    dpop::app::{proof, thumbprint as thumbprint_of_key},
    support::{SigningKey, TestProvider},
};

const CERTIFICATE: &str = "a token that is bound to a key or to a client certificate is required";

#[rocket::async_test]
async fn a_client_with_a_certificate_may_send_a_bearer_token() {
    let api = Api::open("nginx").await;
    let bearer = api.token(json!(null));
    for values in [&[][..], &[""], &[&header("nginx", CLIENT)]] {
        api.send(&bearer, values).await.is_accepted();
    }
}

#[rocket::async_test]
async fn a_route_demands_a_bound_token() {
    let api = Api::open("nginx").await;
    let own = header("nginx", CLIENT);
    let answer = api.send_from(PROXY, "/bound", &api.token(json!(null)), &[&own]).await;
    answer.is_refused(401, "access_token_unbound", "a bearer token");
    assert!(answer.challenges[0].contains(CERTIFICATE), "{answer:?}");
    assert!(answer.challenges[0].starts_with("Bearer "), "{answer:?}");
    let answer = api.send_from(PROXY, "/bound", &api.bound_token(), &[&own]).await;
    answer.is_accepted();
    let answer = api.send_from(PROXY, "/bound", &api.bound_token(), &[]).await;
    answer.is_refused(401, "access_token_no_certificate", "no certificate");
}

#[rocket::async_test]
async fn every_route_demands_a_bound_token() {
    let api = Api::with("rfc9440", json!({ "require_bound_tokens": true })).await;
    let own = header("rfc9440", CLIENT);
    for values in [&[][..], &[&*own]] {
        let answer = api.send(&api.token(json!(null)), values).await;
        answer.is_refused(401, "access_token_unbound", "a bearer token");
    }
    api.send(&api.bound_token(), &[&own]).await.is_accepted();
}

/// The settings say nothing about certificates: the token is refused, and not taken for a bearer token.
#[rocket::async_test]
async fn without_the_setting_no_token_of_a_certificate_is_accepted() {
    let api = Api::with("nginx", json!({ "client_certificate": {}, "dpop_tokens": "accepted" })).await;
    for (peer, values) in [
        (PROXY, &[][..]),
        (PROXY, &[&*header("nginx", CLIENT)]),
        ("192.0.2.1", &["forged"]),
    ] {
        let answer = api.send_from(peer, "/notes", &api.bound_token(), values).await;
        answer.is_refused(401, "access_token_no_certificate", peer);
    }
}

#[rocket::async_test]
async fn other_confirmations_are_refused() {
    let api = Api::open("nginx").await;
    let own = thumbprint(CLIENT);
    for cnf in [
        json!({}),
        json!([own]),
        json!({ "x5t#S256": "" }),
        json!({ "x5t#S256": null }),
        json!({ "x5t#S256": [own] }),
        json!({ "x5t#S256": format!("{own}=") }),
        json!({ "x5t#S256": super::app::hash(CLIENT) }),
        json!({ "x5t#S256": own, "kid": "1" }),
        json!({ "x5t": own }),
        json!({ "X5T#S256": own }),
    ] {
        let answer = api.send(&api.token(cnf.clone()), &[&header("nginx", CLIENT)]).await;
        answer.is_refused(401, "access_token_confirmation", &cnf.to_string());
    }
    let answer = api
        .send(
            &api.token(json!({ "x5t#S256": thumbprint(OTHER) })),
            &[&header("nginx", CLIENT)],
        )
        .await;
    answer.is_refused(401, "access_token_other_certificate", "another certificate");
}

/// A token of a key and a certificate needs both.
#[rocket::async_test]
async fn both_bindings_are_proved() {
    let api = Api::with("nginx", json!({ "dpop_tokens": "accepted" })).await;
    let key = thumbprint_of_key(&SigningKey::Ec);
    let token = |certificate: &str| api.token(json!({ "jkt": key, "x5t#S256": thumbprint(certificate) }));
    let send = async |scheme: &str, token: &str, is_proved: bool, value: Option<&str>| {
        let mut request = api.client.get("/bound").remote(format!("{PROXY}:1").parse().unwrap());
        request.add_header(Header::new("Authorization", format!("{scheme} {token}")));
        if is_proved {
            let proof = proof("https://api.example.com/bound", token);
            request.add_header(Header::new("DPoP", proof.compact()));
        }
        if let Some(value) = value {
            request.add_header(Header::new(api.header, value.to_owned()));
        }
        Answer::to(request).await
    };
    let (both, own) = (token(CLIENT), header("nginx", CLIENT));
    for _ in 0..2 {
        send("DPoP", &both, true, Some(&own)).await.is_accepted();
        let answer = send("DPoP", &both, true, None).await;
        answer.is_refused(401, "access_token_no_certificate", "no certificate");
        let answer = send("DPoP", &both, true, Some(&header("nginx", OTHER))).await;
        answer.is_refused(401, "access_token_other_certificate", "another certificate");
        let answer = send("Bearer", &both, true, Some(&own)).await;
        answer.is_refused(401, "access_token_bound", "as a bearer token");
        let answer = send("DPoP", &both, false, Some(&own)).await;
        assert_eq!(
            (answer.status, answer.reason.as_deref()),
            (401, Some("dpop_proof_missing"))
        );
    }
    let answer = send("DPoP", &api.bound_token(), true, Some(&own)).await;
    answer.is_refused(401, "access_token_unbound", "bound to a certificate alone");
    send("Bearer", &api.bound_token(), false, Some(&own))
        .await
        .is_accepted();
}

#[rocket::async_test]
async fn proofs_that_are_required_are_not_replaced_by_certificates() {
    let api = Api::with("nginx", json!({ "dpop_tokens": "required" })).await;
    let answer = api.send(&api.bound_token(), &[&header("nginx", CLIENT)]).await;
    answer.is_refused(401, "access_token_unbound", "no proof");
}

/// A tenant has the settings of the app, and a provider of its own.
#[rocket::async_test]
async fn each_tenant_compares_the_certificate_of_its_requests() {
    let (provider, other) = (TestProvider::start().await, TestProvider::start().await);
    let tenant = |provider: &TestProvider, host: &str| {
        json!({
            "issuer": provider.issuer(), "client_id": "app", "client_secret": "hush",
            "audience": TestProvider::API, "base_url": format!("https://{host}"),
        })
    };
    let app = App::client(&provider)
        .with_all(json!({ "issuer": null, "client_id": null, "client_secret": null }))
        .with("oidc.base_url", "https://api.example.com")
        .with(
            "oidc.client_certificate",
            json!({ "format": "nginx", "proxies": [PROXY] }),
        )
        .with(
            "oidc.providers",
            json!({ "acme": tenant(&provider, "acme.example"), "beta": tenant(&other, "beta.example") }),
        );
    let fairing = Oidc::fairing().clock(Clock::fixed_at(NOW));
    let fairing = fairing.provider_for(|request: &rocket::Request<'_>| {
        let host = request.headers().get_one("Host")?;
        Some(host.split('.').next()?.to_owned())
    });
    let rocket = app.bare().attach(fairing).attach(super::app::reasons());
    let rocket = rocket.mount("/", rocket::routes![super::app::notes]);
    let client = rocket::local::asynchronous::Client::untracked(rocket).await.unwrap();
    let token = |provider: &TestProvider| {
        provider.set_time(NOW);
        provider.access_token("notes:read", |token| {
            token.set("cnf", json!({ "x5t#S256": thumbprint(CLIENT) }));
        })
    };
    let send = async |host: &'static str, token: &str, peer: &str, pem: &str| {
        let mut request = client.get("/notes").remote(format!("{peer}:1").parse().unwrap());
        request.add_header(Header::new("Host", host));
        request.add_header(Header::new("Authorization", format!("Bearer {token}")));
        request.add_header(Header::new("X-SSL-Client-Cert", header("nginx", pem)));
        Answer::to(request).await
    };
    for (host, own, others) in [("acme.example", &provider, &other), ("beta.example", &other, &provider)] {
        let token_of = token(own);
        send(host, &token_of, PROXY, CLIENT).await.is_accepted();
        let answer = send(host, &token_of, PROXY, OTHER).await;
        answer.is_refused(401, "access_token_other_certificate", host);
        let answer = send(host, &token_of, "192.0.2.1", CLIENT).await;
        answer.is_refused(400, "client_certificate_untrusted", host);
        let answer = send(host, &token(others), PROXY, CLIENT).await;
        answer.is_refused(401, "access_token_iss", host);
    }
}

/// A local request in place of a connection to Rocket's own TLS.
#[cfg(feature = "mtls")]
#[rocket::async_test]
async fn the_certificate_of_the_connection_counts() {
    let api = Api::with(
        "nginx",
        json!({
            "client_certificate": { "tls": true, "format": "nginx", "proxies": [PROXY] },
            "rocket_tls": true,
        }),
    )
    .await;
    let send = async |token: &str, connection: Option<&str>, value: Option<&str>| {
        let mut request = api.client.get("/notes").remote(format!("{PROXY}:1").parse().unwrap());
        request.add_header(Header::new("Authorization", format!("Bearer {token}")));
        if let Some(value) = value {
            request.add_header(Header::new(api.header, value.to_owned()));
        }
        if let Some(pem) = connection {
            request = request.identity(pem.as_bytes());
        }
        Answer::to(request).await
    };
    let (bound, bearer, own) = (api.bound_token(), api.token(json!(null)), header("nginx", CLIENT));
    send(&bound, Some(CLIENT), None).await.is_accepted();
    send(&bound, Some(CLIENT), Some("")).await.is_accepted();
    send(&bound, Some(CLIENT), Some(&own)).await.is_accepted();
    send(&bound, None, Some(&own)).await.is_accepted();
    let answer = send(&bound, None, None).await;
    answer.is_refused(401, "access_token_no_certificate", "none");
    let answer = send(&bound, Some(OTHER), None).await;
    answer.is_refused(401, "access_token_other_certificate", "another");
    // Also where one of both is the right one, and where no token needs it.
    for token in [&bound, &bearer] {
        for (connection, value) in [(OTHER, &own), (CLIENT, &header("nginx", OTHER))] {
            let answer = send(token, Some(connection), Some(value)).await;
            answer.is_refused(400, "client_certificate_differs", "two certificates");
        }
    }
}

#[rocket::async_test]
async fn the_metadata_says_that_bound_tokens_are_accepted() {
    let api = Api::open("nginx").await;
    let response = api.client.get("/.well-known/oauth-protected-resource").dispatch().await;
    let metadata: Value = response.into_json().await.unwrap();
    assert_eq!(metadata["tls_client_certificate_bound_access_tokens"], true);
}
