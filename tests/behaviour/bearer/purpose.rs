//! What a token is for, at a running API: which tokens of a provider, and of issuers that sign nobody in, are accepted.

use serde_json::{Value, json};

use super::app::{Answer, Api, refused};
use crate::{
    common::NOW,
    support::{JwtParts, Reply, SigningKey, TestProvider, case},
};

const ANOTHER: &str = "the token is not an access token";
const UNKNOWN: &str = "the token does not show that it is an access token";

/// A token of nothing but these claims, and those that every token has.
fn bare(provider: &TestProvider, claims: Value) -> String {
    provider.access_token("", |token| {
        token.remove_header("typ");
        for claim in ["sub", "client_id", "jti", "scope"] {
            token.remove(claim);
        }
        let Value::Object(claims) = claims else {
            panic!("claims are an object, not {claims}")
        };
        token.claims.extend(claims);
    })
}

fn id_token(aud: &str) -> Value {
    json!({"sub": "alice", "aud": aud, "nonce": "x", "at_hash": "y", "auth_time": NOW})
}

/// The two lines in the log about a token that is refused.
fn assert_logged(api: &Api, error: &str, remedy: &str) {
    let said = [
        format!("DEBUG: the access token is rejected: {error}"),
        format!("DEBUG: {remedy}"),
    ];
    let lines = api.log.debug_lines();
    assert!(lines.windows(2).any(|pair| pair == said), "{lines:#?}");
}

/// An issuer of identity tokens alone, as GitHub Actions, Firebase, Kubernetes and SPIRE describe themselves.
async fn issuer_of_identity_tokens(authorization_endpoint: Option<&str>) -> TestProvider {
    let provider = TestProvider::start().await;
    provider.set_time(NOW);
    provider.metadata(|metadata| {
        let keep = ["issuer", "jwks_uri", "id_token_signing_alg_values_supported"];
        metadata.retain(|name, _| keep.contains(&name.as_str()));
        metadata.insert("response_types_supported".into(), json!(["id_token"]));
        if let Some(endpoint) = authorization_endpoint {
            metadata.insert("authorization_endpoint".into(), json!(endpoint));
        }
    });
    provider
}

fn job() -> Value {
    json!({"sub": "repo:octo/app:ref:refs/heads/main", "repository": "octo/app", "nbf": NOW})
}

#[rocket::async_test]
async fn id_token_for_another_client_that_is_the_audience() {
    let api = Api::with(json!({ "audience": "project" })).await;
    let answer = api.call("/whoami", &bare(&api.provider, id_token("project"))).await;
    assert_eq!(answer, refused(ANOTHER));
    assert_logged(
        &api,
        "the token is not an access token: it has \"at_hash\"",
        "send the access token; if this issuer's access tokens look like its ID tokens, set \
         `token_validation = \"introspection\"`; to accept its identity tokens, such as those of a CI job or a \
         workload, set `accepts = \"identity_tokens\"` for it, and `audience` to another value than the client id",
    );
    let access = bare(
        &api.provider,
        json!({"sub": "alice", "aud": "project", "scope": "notes:read", "nonce": "x"}),
    );
    assert_eq!(api.call("/notes", &access).await.status, 200);
}

#[rocket::async_test]
async fn authorization_response_and_action_token() {
    let api = Api::open().await;
    for claims in [
        json!({"aud": TestProvider::API, "sub": "alice", "code": "x", "state": "y"}),
        json!({"aud": TestProvider::API, "sub": "alice", "typ": "execute-actions"}),
        json!({"aud": TestProvider::API, "sub": "alice", "typ": "Refresh", "scope": "notes:read"}),
    ] {
        let token = bare(&api.provider, claims.clone());
        assert_eq!(api.call("/whoami", &token).await, refused(ANOTHER), "{claims}");
    }
}

/// A token without any sign is refused with the setting that could let it in.
#[rocket::async_test]
async fn untyped_token() {
    let claims = json!({"aud": TestProvider::API, "sub": "auth0|7", "azp": "spa"});
    let api = Api::open().await;
    let answer = api.call("/whoami", &bare(&api.provider, claims.clone())).await;
    assert_eq!(answer, refused(UNKNOWN));
    assert_logged(
        &api,
        "the token does not show that it is an access token, and `oidc.accepts` is \"access_tokens\"",
        "have the provider add a scope, or the type `at+jwt`; or set `accepts` of this issuer: to \
         `identity_tokens` for identity tokens, such as those of a CI job or a workload, or to \
         `untyped_tokens` for access tokens without such a mark",
    );

    let api = Api::with(json!({ "accepts": "untyped_tokens", "resource_server_only": true })).await;
    let token = bare(&api.provider, claims);
    for _ in 0..2 {
        assert_eq!(api.call("/whoami", &token).await.status, 200);
    }
    let line = format!(
        "INFO: issuer: {}, for the audience {}, also tokens without a mark of their type (`accepts`)",
        api.provider.issuer(),
        TestProvider::API
    );
    let lines = api.log.lines_with_report();
    assert!(lines.contains(&line), "{lines:#?}");
    let id_token = bare(&api.provider, id_token("client"));
    assert_eq!(api.call("/whoami", &id_token).await.status, 401);
}

/// App-only tokens of Entra ID have the client id as audience, and no scope.
#[rocket::async_test]
async fn app_only_token_for_the_client_id() {
    let api = Api::with(json!({ "audience": null, "roles_claim": "roles" })).await;
    let app_only = |change: &dyn Fn(&mut Value)| {
        let mut claims = json!({
            "aud": "client", "azp": "client", "azpacr": "1", "oid": "8", "sub": "8", "tid": "9",
            "roles": ["notes:read"], "ver": "2.0",
        });
        change(&mut claims);
        bare(&api.provider, claims)
    };
    assert_eq!(api.call("/notes", &app_only(&|_| ())).await.status, 200);
    let without = app_only(&|claims| drop(claims.as_object_mut().unwrap().remove("azpacr")));
    assert_eq!(api.call("/notes", &without).await, refused(UNKNOWN));
    assert_logged(
        &api,
        "the token does not show that it is an access token, and its audience is the client id, as that of an ID token",
        "set `audience` to an identifier of this API that is not the client id, and have the provider put it into `aud`",
    );
}

/// An API needs `issuer` and keys, whether the issuer is its provider or one of several.
#[rocket::async_test]
async fn issuers_without_a_sign_in() {
    for endpoint in [None, Some(""), Some("urn:kubernetes:programmatic_authorization")] {
        case(&format!("{endpoint:?}"));
        let issuer = issuer_of_identity_tokens(endpoint).await;
        let api = Api::at(
            issuer.clone(),
            json!({ "resource_server_only": true, "client_secret": null }),
        )
        .await;
        let token = bare(&issuer, job());
        for _ in 0..2 {
            assert_eq!(api.call("/whoami", &token).await.status, 200, "{endpoint:?}");
        }
        let line = format!(
            "INFO: issuer: {}, for the audience {}, also identity tokens, because it has no endpoint to sign in at",
            issuer.issuer(),
            TestProvider::API
        );
        let lines = api.log.lines_with_report();
        assert!(lines.contains(&line), "{lines:#?}");

        let api = Api::with(json!({ "issuers": { "ci": {
            "issuer": issuer.issuer(), "audience": TestProvider::API,
        } } }))
        .await;
        assert_eq!(api.call("/whoami", &token).await.status, 200, "{endpoint:?}");
        let bound = issuer.access_token("", |token| {
            token.remove_header("typ");
            token.set("cnf", json!({"jkt": "A".repeat(43)}));
        });
        assert_eq!(
            api.call("/whoami", &bound).await,
            refused("the token is bound to a key, which the request does not prove")
        );
        let elsewhere = bare(&issuer, json!({"sub": "x", "aud": "https://other.example"}));
        assert_eq!(api.call("/whoami", &elsewhere).await.status, 401);
    }
}

/// Whoever signs people in there may have an ID token signed for any audience.
#[rocket::async_test]
async fn identity_token_of_a_provider_that_signs_people_in() {
    let google = TestProvider::start().await;
    google.set_time(NOW);
    let claims = json!({
        "aud": TestProvider::API, "azp": "1123", "sub": "1123", "email": "x@y.iam.gserviceaccount.com",
        "email_verified": true,
    });
    let token = bare(&google, claims.clone());
    let settings = |more: Value| {
        let mut issuer = json!({"issuer": google.issuer(), "audience": TestProvider::API});
        let more = more.as_object().unwrap().clone();
        issuer.as_object_mut().unwrap().extend(more);
        json!({ "issuers": { "google": issuer } })
    };
    let api = Api::with(settings(json!({}))).await;
    assert_eq!(api.call("/whoami", &token).await, refused(UNKNOWN));
    let line = "DEBUG: the access token is rejected: the token does not show that it is an access token, \
                and `oidc.issuers.google.accepts` is \"access_tokens\"";
    let lines = api.log.debug_lines();
    assert!(lines.iter().any(|found| found == line), "{lines:#?}");

    let api = Api::with(settings(json!({ "accepts": "identity_tokens" }))).await;
    assert_eq!(api.call("/whoami", &token).await.status, 200);
    // Of the person's sign-in too, which is what the setting says.
    let person = bare(&google, id_token(TestProvider::API));
    assert_eq!(api.call("/whoami", &person).await.status, 200);

    // The same as the app's own provider.
    let api = Api::at(google.clone(), json!({})).await;
    assert_eq!(api.call("/whoami", &token).await, refused(UNKNOWN));
    let api = Api::at(google.clone(), json!({ "accepts": "identity_tokens" })).await;
    assert_eq!(api.call("/whoami", &token).await.status, 200);
    let own = bare(&google, id_token("client"));
    assert_eq!(api.call("/whoami", &own).await.status, 401);
}

/// The keys alone: an `iss` that nobody can be called by, and no metadata that says what the issuer does.
#[rocket::async_test]
async fn issuer_with_keys_alone() {
    let keys = TestProvider::start().await;
    keys.set_time(NOW);
    for iss in ["spiffe://example.org", "accounts.google.com"] {
        case(iss);
        let token = |change: &dyn Fn(&mut JwtParts)| {
            keys.access_token("", |token| {
                token.set_header("typ", "JOSE");
                token.set("iss", iss);
                token.set("sub", "spiffe://example.org/cart");
                for claim in ["client_id", "jti", "scope"] {
                    token.remove(claim);
                }
                token.sign_with(SigningKey::Ec);
                change(token);
            })
        };
        let settings = |accepts: &str| {
            json!({ "issuers": { "mesh": {
                "issuer": iss, "audience": TestProvider::API, "accepts": accepts,
                "jwks_uri": format!("{}/jwks", keys.issuer()),
            } } })
        };
        let api = Api::with(settings("access_tokens")).await;
        assert_eq!(api.call("/whoami", &token(&|_| ())).await, refused(UNKNOWN));
        let api = Api::with(settings("identity_tokens")).await;
        assert_eq!(api.call("/whoami", &token(&|_| ())).await.status, 200);
        let stranger = token(&|token| token.set("iss", "spiffe://evil.example"));
        assert_eq!(
            api.call("/whoami", &stranger).await,
            refused("the token comes from another issuer")
        );
        let nameless = token(&|token| token.remove("iss"));
        assert_eq!(api.call("/whoami", &nameless).await.status, 401);
        let forged = token(&|token| token.break_signature = true);
        assert_eq!(api.call("/whoami", &forged).await.status, 401);
        // Clients that look for a provider are not sent there.
        let metadata = api.call_with("/.well-known/oauth-protected-resource", &[]).await;
        let metadata: Value = serde_json::from_str(&metadata.body).unwrap();
        assert_eq!(metadata["authorization_servers"], json!([api.provider.issuer()]));
    }
    assert_eq!(keys.count(TestProvider::DISCOVERY), 0);
}

/// The metadata says it first, not the cache.
#[rocket::async_test]
async fn an_issuer_that_begins_to_sign_people_in() {
    let issuer = issuer_of_identity_tokens(None).await;
    let api = Api::with(json!({ "issuers": { "ci": {
        "issuer": issuer.issuer(), "audience": TestProvider::API,
    } } }))
    .await;
    let long_lived = |provider: &TestProvider| {
        let mut claims = job();
        claims["exp"] = json!(NOW + 3 * 86_400);
        bare(provider, claims)
    };
    let token = long_lived(&issuer);
    assert_eq!(api.call("/whoami", &token).await.status, 200);
    issuer.metadata(|metadata| {
        let endpoint = format!("{}/device", metadata["issuer"].as_str().unwrap());
        metadata.insert("device_authorization_endpoint".into(), json!(endpoint));
    });
    // Metadata is read again after a day, beside a request.
    let day = std::time::Duration::from_secs(86_400);
    api.clock.advance(day - std::time::Duration::from_secs(10));
    assert_eq!(api.call("/whoami", &token).await.status, 200);
    api.clock.advance(std::time::Duration::from_secs(10));
    assert_eq!(api.call("/whoami", &token).await.status, 200);
    issuer.until_requested(TestProvider::DISCOVERY, 2).await;
    let changed = async {
        while api.call("/whoami", &token).await.status == 200 {
            rocket::tokio::task::yield_now().await;
        }
    };
    let limit = std::time::Duration::from_secs(10);
    rocket::tokio::time::timeout(limit, changed).await.unwrap();
    assert_eq!(api.call("/whoami", &token).await, refused(UNKNOWN));
}

/// A key's own `alg` counts beside what the metadata lists for ID tokens.
#[rocket::async_test]
async fn algorithm_that_the_key_names() {
    let provider = TestProvider::start().await;
    provider.metadata(|metadata| {
        metadata["id_token_signing_alg_values_supported"] = json!(["RS256"]);
    });
    let api = Api::at(provider.clone(), json!({})).await;
    let by_ec = |token: &mut JwtParts| token.sign_with(SigningKey::Ec);
    assert_eq!(api.whoami(by_ec).await.status, 200);
    let not_accepted = refused("the token is signed with an algorithm that is not accepted");
    let hs256 = |token: &mut JwtParts| {
        token.sign_with(SigningKey::Hs256(b"correct horse".to_vec()));
    };
    assert_eq!(api.whoami(hs256).await, not_accepted);
    assert_logged(
        &api,
        "the token is signed with HS256, expected RS256",
        "have the provider sign access tokens with a key pair, by RS256 or ES256: whoever verifies HS256 \
         can also sign with it, so no setting accepts it",
    );
    // A setting is the operator's word.
    let api = Api::at(provider, json!({ "access_token_signing_algs": "RS256" })).await;
    assert_eq!(api.whoami(by_ec).await, not_accepted);
}

#[rocket::async_test]
async fn roles_in_several_places() {
    const ZITADEL: &str = "urn:zitadel:iam:org:project:roles";
    let partner = TestProvider::start().await;
    partner.set_time(NOW);
    let api = Api::with(json!({
        "roles_claim": [ZITADEL, "realm_access.roles", "/resource_access/my.app/roles"],
        "issuers": { "partner": {
            "issuer": partner.issuer(), "audience": TestProvider::API, "roles_claim": "groups",
        } },
    }))
    .await;
    let scopes = async |token: String| {
        let answer = api.call("/whoami", &token).await;
        let body: Value = serde_json::from_str(&answer.body).unwrap();
        body["scopes"].clone()
    };
    let roles = |token: &mut JwtParts| {
        token.set(ZITADEL, json!({"admin": {"1": "x"}, "off": false}));
        token.set("realm_access", json!({"roles": ["realm"]}));
        token.set("resource_access", json!({"my.app": {"roles": ["client role"]}}));
        token.set("groups", json!(["group"]));
    };
    let own = api.provider.access_token("a", roles);
    assert_eq!(scopes(own).await, json!(["a", "admin", "realm", "client role"]));
    let theirs = partner.access_token("a", roles);
    assert_eq!(scopes(theirs).await, json!(["a", "group"]));
    let zitadel = api.provider.access_token("", |token| {
        token.set(ZITADEL, json!({"admin": {"1": "x"}}));
    });
    assert_eq!(api.call("/admin", &zitadel).await.status, 200);
}

/// Amazon Cognito names the client alone.
#[rocket::async_test]
async fn client_id_as_audience() {
    let cognito = |provider: &TestProvider, client_id: &str| {
        let token_use = json!({
            "sub": "alice", "client_id": client_id, "token_use": "access", "scope": "notes:read", "jti": "1",
        });
        provider.access_token("", |token| {
            token.remove_header("typ");
            token.remove("aud");
            token.claims.extend(token_use.as_object().unwrap().clone());
        })
    };
    let api = Api::with(json!({ "audience": "spa" })).await;
    let missing = refused("a claim of the token is missing or of the wrong type");
    assert_eq!(api.call("/notes", &cognito(&api.provider, "spa")).await, missing);
    let api = Api::with(json!({ "audience": "spa", "audience_claim": "client_id" })).await;
    for _ in 0..2 {
        let token = cognito(&api.provider, "spa");
        assert_eq!(api.call("/notes", &token).await.status, 200);
    }
    assert_eq!(
        api.call("/notes", &cognito(&api.provider, "other")).await,
        refused("the token is meant for another API")
    );
    // Where there is an `aud`, it counts.
    let elsewhere = api.provider.access_token("notes:read", |token| {
        token.set("client_id", "spa");
        token.set("aud", "other");
    });
    assert_eq!(
        api.call("/notes", &elsewhere).await,
        refused("the token is meant for another API")
    );
    let mut id_token = id_token("spa");
    id_token["token_use"] = json!("id");
    let id_token = bare(&api.provider, id_token);
    assert_eq!(api.call("/notes", &id_token).await, refused(ANOTHER));
}

/// Sign-in still needs its endpoints.
#[rocket::async_test]
async fn an_app_that_signs_people_in_needs_the_endpoints() {
    let provider = issuer_of_identity_tokens(None).await;
    let clock = rocket_openidconnect::Clock::fixed_at(NOW);
    let rocket = super::app::rocket(&provider, json!({}), &clock);
    let (_, lines) = crate::common::launch_failure(rocket).await;
    assert!(lines[0].contains("authorization_endpoint"), "{lines:#?}");
}

/// By introspection, the provider was asked about an access token; what shows another use is refused all the same.
#[rocket::async_test]
async fn introspection_of_an_id_token() {
    let api = Api::with(json!({ "audience": "spa" })).await;
    let reply = |more: Value| {
        let mut reply = json!({"active": true, "sub": "alice", "aud": "spa", "client_id": "spa"});
        let more = more.as_object().unwrap().clone();
        reply.as_object_mut().unwrap().extend(more);
        Reply::json(reply)
    };
    for (token, more, accepted) in [
        ("a", json!({"scope": ["openid"], "cid": "spa"}), false),
        ("b", json!({"at_hash": "x"}), false),
        (
            "c",
            json!({"token_use": "refresh_token", "token_type": "Bearer"}),
            false,
        ),
        ("d", json!({"scope": "openid notes:read", "nonce": "x"}), true),
        ("e", json!({"scope": "openid", "token_type": "Bearer"}), true),
    ] {
        api.provider.on_path("/introspect", reply(more.clone()));
        let answer: Answer = api.call("/whoami", token).await;
        if accepted {
            assert_eq!(answer.status, 200, "{more}");
        } else {
            assert_eq!(answer, refused(ANOTHER), "{more}");
        }
    }
}
