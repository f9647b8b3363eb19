//! Several issuers: each speaks for itself, by its own keys.

use serde_json::{Value, json};

use super::app::{Api, refused};
use crate::{
    common::NOW,
    support::{JwtParts, SigningKey, TestProvider},
};

/// An API of two issuers. The partner signs with another RSA key than the first.
struct Two {
    api: Api,
    partner: TestProvider,
}

impl Two {
    async fn open() -> Two {
        Two::with(json!({})).await
    }

    async fn with(settings: Value) -> Two {
        let partner = TestProvider::start().await;
        partner.set_time(NOW);
        partner.rotate_rsa_key();
        let mut all = json!({ "issuers": { "partner": {
            "issuer": partner.issuer(), "audience": "partner-api",
        } } });
        let Value::Object(more) = settings else {
            panic!("settings are an object, not {settings}")
        };
        all.as_object_mut().unwrap().extend(more);
        Two {
            api: Api::with(all).await,
            partner,
        }
    }

    /// A token of the partner, changed in one way.
    fn theirs(&self, change: impl FnOnce(&mut JwtParts)) -> String {
        self.partner.access_token("notes:read", |token| {
            token.set("aud", "partner-api");
            token.sign_with(SigningKey::NextRsa);
            change(token);
        })
    }
}

/// The first issuer's key is published, known and good, and says nothing for the partner.
#[rocket::async_test]
async fn access_token_signed_by_the_key_of_another_issuer() {
    let two = Two::open().await;
    let api = &two.api;
    assert_eq!(api.whoami(|_| ()).await.status, 200);
    assert_eq!(api.call("/whoami", &two.theirs(|_| ())).await.status, 200);

    let unknown = refused("the token is signed with an unknown key");
    let wrong = refused("the signature of the token is wrong");
    let with_first_key = two.theirs(|token| token.sign_with(SigningKey::Rsa));
    assert_eq!(api.call("/whoami", &with_first_key).await, unknown);
    for kid in [Some("rsa-2"), None] {
        let disguised = two.theirs(|token| {
            token.signing = SigningKey::Rsa;
            match kid {
                Some(kid) => token.set_header("kid", kid),
                None => token.remove_header("kid"),
            }
        });
        assert_eq!(api.call("/whoami", &disguised).await, wrong, "{kid:?}");
    }
    // And the other way round.
    let with_partners_key = api.whoami(|token| token.sign_with(SigningKey::NextRsa));
    assert_eq!(with_partners_key.await, unknown);
    let first = api.provider.issuer();
    let for_first = two.theirs(|token| {
        token.set("iss", first);
        token.set("aud", TestProvider::API);
    });
    assert_eq!(api.call("/whoami", &for_first).await, unknown);
}

/// The issuer is chosen before any key is read: a stranger's token asks nobody.
#[rocket::async_test]
async fn access_token_of_an_unknown_issuer_causes_no_request() {
    let two = Two::open().await;
    let (first, partner) = (two.api.provider.issuer(), two.partner.issuer());
    let before = (two.api.provider.requests().len(), two.partner.requests().len());
    for iss in ["https://evil.example", "", "https://op.example/\u{1b}[2J"] {
        let answer = two.api.whoami(|token| token.set("iss", iss)).await;
        assert_eq!(answer, refused("the token comes from another issuer"));
        let line = format!(
            "DEBUG: the access token is rejected: the token is issued by {iss:?}, \
             expected one of [{first:?}, {partner:?}]"
        );
        let lines = two.api.log.debug_lines();
        assert!(lines.contains(&line), "{line:?} is not in {lines:#?}");
    }
    let odd = two.api.whoami(|token| token.set("iss", json!([first]))).await;
    assert_eq!(odd, refused("a claim of the token is missing or of the wrong type"));
    let without = two.api.whoami(|token| token.remove("iss")).await;
    assert_eq!(without, odd);
    let after = (two.api.provider.requests().len(), two.partner.requests().len());
    assert_eq!(after, before);
}

/// A flood of unknown keys at one issuer is nothing to the other.
#[rocket::async_test]
async fn unknown_keys_of_one_issuer_do_not_cool_the_other_down() {
    let two = Two::open().await;
    let unknown = two.theirs(|token| token.set_header("kid", "unknown"));
    assert_eq!(two.api.call("/whoami", &unknown).await.status, 401);
    assert_eq!(two.partner.count("/jwks"), 2);
    assert_eq!(two.api.provider.count("/jwks"), 0);
    assert_eq!(two.api.whoami(|_| ()).await.status, 200);
    two.api.provider.rotate_rsa_key();
    let next = two.api.whoami(|token| token.sign_with(SigningKey::NextRsa));
    assert_eq!(next.await.status, 200);
}

/// The issuer that the client is registered at is the one to ask about opaque tokens.
#[rocket::async_test]
async fn opaque_tokens_are_of_the_first_issuer() {
    let two = Two::open().await;
    let answer = two.api.call("/whoami", "opaque").await;
    assert_eq!(answer, refused("the token is not active"));
    assert_eq!(two.api.provider.count("/introspect"), 1);
    assert_eq!(two.partner.count("/introspect"), 0);
}

/// An issuer's keys change for its own tokens alone.
#[rocket::async_test]
async fn tokens_of_one_issuer_outlive_the_keys_of_the_other() {
    let two = Two::open().await;
    let theirs = two.theirs(|_| ());
    assert_eq!(two.api.call("/person", &theirs).await.body, "Alice Liddell");
    two.api.provider.rotate_rsa_key();
    let next = two.api.whoami(|token| token.sign_with(SigningKey::NextRsa));
    assert_eq!(next.await.status, 200);
    assert_eq!(two.api.call("/person", &theirs).await.body, "Alice Liddell");
    // UserInfo is asked at the issuer of the token, once.
    assert_eq!(two.partner.count("/userinfo"), 1);
    assert_eq!(two.api.provider.count("/userinfo"), 0);
}

/// Both are told to clients that look for a provider.
#[rocket::async_test]
async fn the_metadata_names_every_issuer() {
    let two = Two::open().await;
    let answer = two.api.call_with("/.well-known/oauth-protected-resource", &[]).await;
    let metadata: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(
        metadata["authorization_servers"],
        json!([two.api.provider.issuer(), two.partner.issuer()])
    );
}

/// One that gives clients no token is left out, and its tokens are accepted all the same.
#[rocket::async_test]
async fn the_metadata_names_the_issuers_that_clients_get_tokens_from() {
    let listed = async |own: bool, partner: bool| {
        let mut two = Two::open().await;
        let issuers = json!({ "partner": {
            "issuer": two.partner.issuer(), "audience": "partner-api", "authorization_server": partner,
        } });
        two.api = Api::with(json!({ "issuers": issuers, "authorization_server": own })).await;
        assert_eq!(two.api.call("/whoami", &two.theirs(|_| ())).await.status, 200);
        assert_eq!(two.api.whoami(|_| ()).await.status, 200);
        let path = "/.well-known/oauth-protected-resource";
        let answer = two.api.call_with(path, &[]).await;
        assert_eq!(answer.status, 200);
        let metadata: Value = serde_json::from_str(&answer.body).unwrap();
        let servers = metadata.get("authorization_servers").cloned();
        let issuers = [two.api.provider.issuer(), two.partner.issuer()];
        servers.map(|servers| issuers.map(|it| servers.as_array().unwrap().contains(&json!(it))))
    };
    assert_eq!(listed(true, false).await, Some([true, false]));
    assert_eq!(listed(false, true).await, Some([false, true]));
    // An empty list would be no list (RFC 9728 §2).
    assert_eq!(listed(false, false).await, None);
}

/// Identity tokens are no tokens that a client gets for this API: their issuer is listed where a setting says so.
#[rocket::async_test]
async fn the_metadata_names_no_issuer_of_identity_tokens_by_itself() {
    for (setting, is_listed) in [(None, false), (Some(true), true), (Some(false), false)] {
        for is_own in [true, false] {
            let table = |is_this: bool| {
                let mut table = json!({});
                if is_this {
                    table["accepts"] = json!("identity_tokens");
                    if let Some(setting) = setting {
                        table["authorization_server"] = json!(setting);
                    }
                }
                table
            };
            let (mut settings, mut partner) = (table(is_own), table(!is_own));
            let other = TestProvider::start().await;
            partner["issuer"] = json!(other.issuer());
            partner["audience"] = json!("partner-api");
            settings["issuers"] = json!({ "partner": partner });
            let api = Api::with(settings).await;
            let path = "/.well-known/oauth-protected-resource";
            let answer = api.call_with(path, &[]).await;
            let metadata: Value = serde_json::from_str(&answer.body).unwrap();
            let (own, other) = (api.provider.issuer(), other.issuer());
            let expected = match (is_listed, is_own) {
                (true, _) => vec![own, other],
                (false, true) => vec![other],
                (false, false) => vec![own],
            };
            let servers = &metadata["authorization_servers"];
            assert_eq!(*servers, json!(expected), "{setting:?} {is_own}");
        }
    }
}

/// What the log says of one issuer says nothing of another.
#[rocket::async_test]
async fn warnings_for_operators_are_logged_for_each_issuer() {
    let two = Two::open().await;
    let from_launch = two.api.log.lines().len();
    let ill = |token: &mut JwtParts| token.set("desk", "four");
    let own = two.api.provider.access_token("notes:read", ill);
    let tokens = [own, two.theirs(ill)];
    for _ in 0..50 {
        for token in &tokens {
            assert_eq!(two.api.call("/staff", token).await.status, 401);
        }
    }
    let lines = two.api.log.lines().split_off(from_launch);
    let errors = lines.iter().filter(|line| line.starts_with("ERROR: "));
    assert_eq!(errors.count(), 2, "{lines:#?}");
    assert_eq!(lines[0], lines[2]);
}
