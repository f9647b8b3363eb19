//! What is read of a metadata document, and what becomes of what cannot be read.

use serde_json::{Map, Value, json};

use super::*;

const ISSUER: &str = "https://op.example";

fn document() -> Map<String, Value> {
    json!({
        "issuer": ISSUER,
        "authorization_endpoint": "https://op.example/authorize",
        "token_endpoint": "https://op.example/token",
        "jwks_uri": "https://op.example/jwks",
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
    })
    .as_object()
    .unwrap()
    .clone()
}

fn accepted(document: &Map<String, Value>) -> Result<Metadata, String> {
    accepted_text(&Value::Object(document.clone()).to_string())
}

fn accepted_text(document: &str) -> Result<Metadata, String> {
    accepted_for(document, Need::SignIn)
}

fn accepted_for(document: &str, need: Need) -> Result<Metadata, String> {
    let addresses = AddressPolicy::of_issuer(ISSUER);
    accept(document.as_bytes(), ISSUER, need, &addresses).map_err(|error| error.to_string())
}

/// The document without endpoints for a sign-in, and with these members, for an API.
fn for_an_api(members: &str) -> Result<Metadata, String> {
    responding_with(r#"["id_token"]"#, members)
}

/// The same with these response types.
fn responding_with(types: &str, members: &str) -> Result<Metadata, String> {
    let jwks_uri = "https://op.example/jwks";
    let text =
        format!(r#"{{"issuer":"{ISSUER}","jwks_uri":"{jwks_uri}","response_types_supported":{types}{members}}}"#);
    accepted_for(&text, Need::Keys)
}

/// The document with one member more.
fn with(member: &str, value: Value) -> Result<Metadata, String> {
    let mut document = document();
    document.insert(member.into(), value);
    accepted(&document)
}

/// The document as text, with this in the place of the metadata's last brace.
fn with_text(members: &str) -> Result<Metadata, String> {
    let text = Value::Object(document()).to_string();
    accepted_text(&format!("{},{members}}}", text.strip_suffix('}').unwrap()))
}

#[test]
fn discovery_issuer_mismatch() {
    assert_eq!(
        with("issuer", json!("https://op.example/")).unwrap_err(),
        "the metadata's issuer is `https://op.example/`, expected `https://op.example`"
    );
}

#[test]
fn a_member_that_is_needed() {
    for (member, expected) in [
        ("issuer", "a string"),
        ("authorization_endpoint", "an absolute address"),
        ("token_endpoint", "an absolute address"),
        ("jwks_uri", "an absolute address"),
    ] {
        let fails = |value: Option<Value>, actual: &str| {
            let mut document = document();
            match value {
                Some(value) => document.insert(member.into(), value),
                None => document.remove(member),
            };
            let error = accepted(&document).unwrap_err();
            let cause = format!("the member `{member}` of the provider's metadata is {actual}, expected {expected}");
            assert_eq!(error, cause);
        };
        fails(None, "missing");
        fails(Some(Value::Null), "missing");
        fails(Some(json!("")), "missing");
        fails(Some(json!(["https://op.example"])), "an array");
        fails(Some(json!(7)), "a number");
        fails(Some(json!({})), "an object");
        fails(Some(json!(false)), "a boolean");
        if member != "issuer" {
            fails(Some(json!("/relative")), "another string");
            fails(Some(json!("mailto:op@op.example")), "another string");
        }
    }
}

#[test]
fn the_remedy_is_about_the_member() {
    let error = |document: &Map<String, Value>| {
        accept(
            Value::Object(document.clone()).to_string().as_bytes(),
            ISSUER,
            Need::SignIn,
            &AddressPolicy::of_issuer(ISSUER),
        )
        .unwrap_err()
    };
    let mut without = document();
    without.remove("token_endpoint");
    assert_eq!(
        error(&without).remedy(),
        "correct the member at the provider, or set `auth_uri`, `token_uri` and `jwks_uri` in `oidc.client_secrets`"
    );
    assert_eq!(
        error(&Map::new()).remedy(),
        "set `oidc.issuer` or `oidc.server_metadata_url` to the URL of an OpenID provider"
    );
}

#[test]
fn endpoints_without_tls_are_refused() {
    for (member, name) in [
        ("authorization_endpoint", "authorization endpoint"),
        ("token_endpoint", "token endpoint"),
        ("jwks_uri", "key set"),
        ("userinfo_endpoint", "UserInfo endpoint"),
        ("introspection_endpoint", "introspection endpoint"),
        ("revocation_endpoint", "revocation endpoint"),
        ("end_session_endpoint", "end session endpoint"),
        (
            "pushed_authorization_request_endpoint",
            "pushed authorization request endpoint",
        ),
    ] {
        assert_eq!(
            with(member, json!("http://op.example/x")).unwrap_err(),
            format!(
                "the provider's {name} is at `http://op.example/x`, plain http, and its issuer is https: the provider does not know that it is behind TLS"
            )
        );
        assert_eq!(
            with(member, json!("https://169.254.169.254/x")).unwrap_err(),
            format!(
                "the provider's {name} is at `https://169.254.169.254/x`, a loopback or private address that no setting names"
            )
        );
    }
}

/// GitHub Actions and Firebase leave the endpoints out, Kubernetes names a URN, SPIRE an empty text.
#[test]
fn an_api_needs_keys_alone() {
    for endpoint in [
        "",
        r#","authorization_endpoint":"""#,
        r#","authorization_endpoint":null,"token_endpoint":null"#,
        r#","authorization_endpoint":"urn:kubernetes:programmatic_authorization""#,
        r#","authorization_endpoint":"/authorize""#,
        r#","authorization_endpoint":7"#,
    ] {
        let metadata = for_an_api(endpoint).unwrap();
        assert!(metadata.issues_only_identity_tokens, "{endpoint}");
        for (member, error) in [
            ("authorization_endpoint", metadata.authorization_endpoint()),
            ("token_endpoint", metadata.token_endpoint()),
        ] {
            assert_eq!(
                error.unwrap_err().to_string(),
                format!("the member `{member}` of the provider's metadata is missing, expected an absolute address")
            );
        }
    }
    let keys = |jwks_uri: &str| {
        let mut document = document();
        document.insert("jwks_uri".into(), json!(jwks_uri));
        accepted_for(&Value::Object(document).to_string(), Need::Keys).unwrap_err()
    };
    assert_eq!(
        keys(""),
        "the member `jwks_uri` of the provider's metadata is missing, expected an absolute address"
    );
    assert_eq!(
        keys("http://op.example/x"),
        "the provider's key set is at `http://op.example/x`, plain http, and its issuer is https: the provider does not know that it is behind TLS"
    );
}

/// Whoever issues tokens to clients may issue ID tokens. What is there twice may be such an endpoint.
#[test]
fn issuers_with_endpoints_may_sign_people_in() {
    for member in [
        r#""authorization_endpoint":"https://op.example/authorize""#,
        r#""authorization_endpoint":"","authorization_endpoint":"https://op.example/authorize""#,
        r#""authorization_endpoint":"https://op.example/authorize","authorization_endpoint":"urn:x:y""#,
        r#""token_endpoint":"https://op.example/token""#,
        r#""token_endpoint":"/token""#,
        r#""token_endpoint":"https://op.example/token","token_endpoint":"""#,
        r#""token_endpoint":"https://op.example/token","token_endpoint":null"#,
        r#""device_authorization_endpoint":"https://op.example/device""#,
        r#""backchannel_authentication_endpoint":"https://op.example/ciba""#,
        r#""backchannel_authentication_endpoint":"/ciba""#,
    ] {
        let metadata = for_an_api(&format!(",{member}")).unwrap();
        assert!(!metadata.issues_only_identity_tokens, "{member}");
    }
    assert!(!accepted(&document()).unwrap().issues_only_identity_tokens);
}

/// At a user pool of Amazon Cognito without a domain people sign in by the SDK: its endpoints are empty.
#[test]
fn issuers_with_other_response_types_may_sign_people_in() {
    let empty = r#","authorization_endpoint":"","token_endpoint":"","userinfo_endpoint":"""#;
    for (types, expected) in [
        (r#"["id_token"]"#, true),
        (r#""id_token""#, true),
        (r#"["code","token"]"#, false),
        (r#"["id_token","code"]"#, false),
        (r#"["id_token token"]"#, false),
        (r#""id_token token""#, false),
        (r#"["id_token"],"response_types_supported":["code"]"#, false),
        ("[]", false),
        (r#""""#, false),
        ("null", false),
        ("7", false),
    ] {
        let metadata = responding_with(types, empty).unwrap();
        assert_eq!(metadata.issues_only_identity_tokens, expected, "{types}");
    }
    let text = format!(r#"{{"issuer":"{ISSUER}","jwks_uri":"https://op.example/jwks"}}"#);
    let metadata = accepted_for(&text, Need::Keys).unwrap();
    assert!(!metadata.issues_only_identity_tokens);
}

/// Nothing is known of the endpoints of an issuer whose keys alone are set.
#[test]
fn keys_alone() {
    let addresses = AddressPolicy::of_issuer("spiffe://op.example");
    let of_keys = |text| {
        let jwks_uri = Url::parse(text).unwrap();
        of_settings(&MetadataSource::Keys { jwks_uri }, &addresses).unwrap()
    };
    let metadata = of_keys("https://10.0.0.1:6443/jwks").unwrap();
    assert!(!metadata.issues_only_identity_tokens);
    assert_eq!(metadata.signing_algorithms(), SigningAlgorithm::ASYMMETRIC);
    assert_eq!(
        of_keys("http://op.example/jwks").unwrap_err().to_string(),
        "the provider's key set is at `http://op.example/jwks`, which is neither https nor loopback"
    );
}

#[test]
fn an_endpoint_that_a_sign_in_can_do_without_is_absent_when_it_cannot_be_used() {
    for value in [
        Value::Null,
        json!(""),
        json!("/userinfo"),
        json!("userinfo"),
        json!(["https://op.example/userinfo"]),
        json!({}),
        json!(7),
        json!(true),
    ] {
        for (member, read) in [
            (
                "userinfo_endpoint",
                (|it| it.userinfo_endpoint.as_ref()) as fn(&Metadata) -> Option<&Url>,
            ),
            ("introspection_endpoint", |it| it.introspection_endpoint.as_ref()),
            ("revocation_endpoint", |it| it.revocation_endpoint.as_ref()),
            ("end_session_endpoint", |it| it.end_session_endpoint.as_ref()),
            ("pushed_authorization_request_endpoint", |it| {
                it.pushed_authorization_request_endpoint.as_ref()
            }),
        ] {
            let metadata = with(member, value.clone()).unwrap();
            assert_eq!(read(&metadata), None, "{member} {value}");
        }
    }
}

#[test]
fn a_list_may_be_a_string() {
    let methods = |value: Value| {
        let metadata = with("token_endpoint_auth_methods_supported", value).unwrap();
        metadata
            .token_endpoint_auth_methods_supported
            .as_deref()
            .map(|methods| methods.join("|"))
    };
    for (value, expected) in [
        (json!("client_secret_basic"), Some("client_secret_basic")),
        (json!(" a  b,c, d "), Some("a|b|c|d")),
        (json!(["a", 7, null, "b c", ["d"]]), Some("a|b c")),
        (json!([]), Some("")),
        (json!(""), None),
        (json!(" , "), None),
        (json!({"a": 1}), None),
        (json!(7), None),
        (json!(true), None),
        (Value::Null, None),
    ] {
        assert_eq!(methods(value.clone()).as_deref(), expected, "{value}");
    }
}

#[test]
fn a_flag_may_be_a_word() {
    for (value, expected) in [
        (json!(true), true),
        (json!("true"), true),
        (json!("True"), true),
        (json!(false), false),
        (json!("false"), false),
        (json!(""), false),
        (json!("yes"), false),
        (json!(1), false),
        (json!([true]), false),
        (Value::Null, false),
    ] {
        let metadata = with("require_pushed_authorization_requests", value.clone()).unwrap();
        assert_eq!(metadata.require_pushed_authorization_requests, expected, "{value}");
    }
}

#[test]
fn algorithms_are_those_that_are_asymmetric_and_known() {
    use SigningAlgorithm::{ES256, PS256, RS256};
    for (listed, expected) in [
        (json!(["HS256", "XX1", "ES256"]), vec![ES256]),
        (json!("PS256 ES256"), vec![PS256, ES256]),
        (json!(["HS256", "none"]), vec![RS256]),
        (json!([]), vec![RS256]),
        (json!(7), vec![RS256]),
        (Value::Null, vec![RS256]),
    ] {
        let metadata = with("id_token_signing_alg_values_supported", listed.clone()).unwrap();
        assert_eq!(metadata.signing_algorithms(), expected, "{listed}");
    }
    let metadata = with("userinfo_signing_alg_values_supported", json!(["ES256", "none"]));
    assert_eq!(metadata.unwrap().userinfo_signing_algorithms(), [ES256]);
}

/// Whatever is in members that nobody reads.
#[test]
fn what_is_not_used_is_ignored() {
    for value in ["null", "\"\"", "\"J\\ud83d\"", "7", "[[]]", "{\"a\":1,\"a\":2}"] {
        for member in ["claims_supported", "op_policy_uri", "ui_locales_supported", "x"] {
            with_text(&format!("\"{member}\":{value}")).unwrap();
        }
    }
    with_text(r#""op_tos_uri":"a","op_tos_uri":"b""#).unwrap();
}

#[test]
fn a_member_that_is_there_twice() {
    let twice = |value: &str| with_text(&format!("\"token_endpoint\":{value}"));
    assert!(twice("\"https://op.example/token\"").is_ok());
    for other in ["\"https://evil.example/token\"", "null", "\"\""] {
        assert_eq!(
            twice(other).unwrap_err(),
            "the member `token_endpoint` of the provider's metadata is present twice, with different values, expected an absolute address"
        );
    }
    let userinfo = |value| format!("\"userinfo_endpoint\":\"https://op.example/{value}\"");
    let metadata = with_text(&format!("{},{}", userinfo("a"), userinfo("b"))).unwrap();
    assert_eq!(metadata.userinfo_endpoint.as_ref(), None);
    let metadata = with_text(&format!("{},{}", userinfo("a"), userinfo("a"))).unwrap();
    assert!(metadata.userinfo_endpoint.as_ref().is_some());
}

#[test]
fn an_address_with_half_of_a_surrogate_pair() {
    let metadata = with_text(r#""userinfo_endpoint":"https://op.example/\ud83d""#).unwrap();
    assert_eq!(metadata.userinfo_endpoint.as_ref(), None);
    let text = Value::Object(document()).to_string();
    assert_eq!(
        accepted_text(&text.replace("/jwks", r"/\udc00")).unwrap_err(),
        "the member `jwks_uri` of the provider's metadata is a string with an unpaired surrogate, which is not a character, expected an absolute address"
    );
}

#[test]
fn a_byte_order_mark_is_skipped() {
    let text = Value::Object(document()).to_string();
    accepted_text(&format!("\u{feff}{text}")).unwrap();
}

#[test]
fn what_is_no_metadata() {
    for (text, cause) in [
        ("<html>", "not valid JSON: parsing failed at line 1, column 1"),
        ("[]", "expected a JSON object, found an array"),
    ] {
        assert_eq!(
            accepted_text(text).unwrap_err(),
            format!("the provider's metadata sent an invalid response: {cause}")
        );
    }
}

/// The documents of many products, in their shapes. Of each, the members that are used are read exactly, or as `read`
/// says.
#[test]
#[cfg(feature = "cli")]
fn products() {
    const USED: [&str; 18] = [
        "code_challenge_methods_supported",
        "authorization_endpoint",
        "token_endpoint",
        "jwks_uri",
        "userinfo_endpoint",
        "registration_endpoint",
        "introspection_endpoint",
        "introspection_endpoint_auth_methods_supported",
        "revocation_endpoint",
        "end_session_endpoint",
        "pushed_authorization_request_endpoint",
        "require_pushed_authorization_requests",
        "authorization_response_iss_parameter_supported",
        "token_endpoint_auth_methods_supported",
        "id_token_signing_alg_values_supported",
        "dpop_signing_alg_values_supported",
        "grant_types_supported",
        "scopes_supported",
    ];

    let mut products = 0;
    for line in include_str!("products.jsonl").lines() {
        let mut line: Value = serde_json::from_str(line).unwrap();
        let product = line["product"].as_str().unwrap().to_owned();
        let document = line["metadata"].as_object().unwrap();
        let mut expected = json!({
            "require_pushed_authorization_requests": false,
            "authorization_response_iss_parameter_supported": false,
            "userinfo_signing_alg_values_supported": [],
            "id_token_signing_alg_values_supported": [],
        });
        for name in USED.iter().chain(&["userinfo_signing_alg_values_supported"]) {
            if let Some(value) = document.get(*name).filter(|value| !value.is_null()) {
                expected[*name] = value.clone();
            }
        }
        let issuer = document["issuer"].as_str().unwrap();
        let text = line["metadata"].to_string();
        let addresses = AddressPolicy::of_issuer(issuer);
        let metadata = accept(text.as_bytes(), issuer, Need::SignIn, &addresses)
            .unwrap_or_else(|error| panic!("{product}: {error}"));
        if let Value::Object(read) = line["read"].take() {
            for (name, value) in read {
                expected[name] = value;
            }
        }
        let drop_nulls = |value: Value| {
            let members = value.as_object().unwrap().clone().into_iter();
            members.filter(|(_, value)| !value.is_null()).collect::<Map<_, _>>()
        };
        let read = serde_json::to_value(metadata).unwrap();
        assert_eq!(drop_nulls(read), drop_nulls(expected), "{product}");
        products += 1;
    }
    assert!(products >= 40, "{products}");
}
