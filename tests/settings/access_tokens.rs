//! The settings behind `Bearer`: what they hold, and what is refused.

use rocket_openidconnect::settings::{
    Accepts, AudienceClaim, CacheSize, IntrospectionAuthMethod, SigningAlgorithm, TokenValidation,
};

use super::{extract, refusals::refused};

#[test]
fn the_defaults_accept_jwts_and_opaque_tokens_for_the_client_id() {
    let settings = extract("", &[]).unwrap();
    assert_eq!(settings.audience, None);
    assert_eq!(settings.access_token_signing_algs, None);
    assert!(!settings.require_at_jwt && settings.resource_metadata);
    assert_eq!(settings.token_validation, TokenValidation::Auto);
    assert_eq!(settings.introspection_auth_method, None);
    assert_eq!(settings.token_cache, CacheSize::Flag(true));
    assert!(settings.roles_claim.is_empty());
    assert_eq!(settings.accepts, Accepts::AccessTokens);
    assert_eq!(settings.audience_claim, AudienceClaim::Aud);
    assert!(!settings.insecure_introspection_without_audience);
    assert!(settings.issuers.is_empty() && settings.scopes_supported.is_empty());
    assert_eq!(settings.realm, "api");
    assert_eq!(settings.resource, None);
    assert!(settings.authorization_server.is_none() && settings.apis.is_empty());
}

#[test]
fn every_setting_in_a_file() {
    let toml = r#"
        [default.oidc]
        audience = ["https://api.example.com", "notes"]
        access_token_signing_algs = "RS256 EdDSA"
        require_at_jwt = true
        token_validation = "jwt"
        introspection_auth_method = "bearer"
        token_cache = 500
        roles_claim = "realm_access.roles groups"
        accepts = "untyped_tokens"
        audience_claim = "client_id"
        insecure_introspection_without_audience = true
        realm = "the notes, read & written"
        resource_metadata = false
        resource = "https://api.example.com/v1"
        scopes_supported = ["notes:read", "notes:write"]
        authorization_server = false

        [default.oidc.apis.orders]
        resource = "https://api.example.com/orders"
        audience = "orders all"
        scopes_supported = "orders:read"

        [default.oidc.apis.stock]
        resource = "https://stock.example.com"

        [default.oidc.issuers.partner]
        issuer = "https://partner.example.com"
        audience = "https://api.example.com"
        apis = { orders = "a b", stock = ["c"] }
        authorization_server = false
        server_metadata_url = "https://partner.example.com/metadata"

        [default.oidc.issuers.other]
        issuer = "https://other.example.com"
        audience = ["a", "b"]

        [default.oidc.issuers.mesh]
        issuer = "spiffe://example.org"
        audience = "a"
        jwks_uri = "https://mesh.example.com/keys"
        accepts = "identity_tokens"
        audience_claim = "client_id"
        roles_claim = ["/x/my.app"]
    "#;
    let settings = extract(toml, &[]).unwrap();
    let words = |words: Option<Vec<String>>| words.unwrap().join(" ");
    assert_eq!(words(settings.audience), "https://api.example.com notes");
    assert_eq!(
        settings.access_token_signing_algs.unwrap(),
        [SigningAlgorithm::RS256, SigningAlgorithm::EdDSA]
    );
    assert!(settings.require_at_jwt && !settings.resource_metadata);
    assert_eq!(settings.token_validation, TokenValidation::Jwt);
    assert_eq!(
        settings.introspection_auth_method,
        Some(IntrospectionAuthMethod::Bearer)
    );
    assert_eq!(settings.token_cache, CacheSize::Entries(500));
    assert_eq!(settings.roles_claim, ["realm_access.roles", "groups"]);
    assert_eq!(settings.accepts, Accepts::UntypedTokens);
    assert_eq!(settings.audience_claim, AudienceClaim::ClientId);
    assert!(settings.insecure_introspection_without_audience);
    let mesh = &settings.issuers["mesh"];
    assert_eq!(mesh.issuer, "spiffe://example.org");
    let keys = mesh.jwks_uri.as_ref().unwrap().as_str();
    assert_eq!(keys, "https://mesh.example.com/keys");
    assert_eq!(mesh.accepts, Accepts::IdentityTokens);
    assert_eq!(mesh.audience_claim, AudienceClaim::ClientId);
    assert_eq!(mesh.roles_claim.as_deref().unwrap(), ["/x/my.app"]);
    assert_eq!(settings.realm, "the notes, read & written");
    assert_eq!(settings.resource.unwrap().as_str(), "https://api.example.com/v1");
    assert_eq!(settings.scopes_supported, ["notes:read", "notes:write"]);
    let [other, partner] = ["other", "partner"].map(|name| &settings.issuers[name]);
    assert_eq!(other.issuer, "https://other.example.com");
    assert_eq!(other.audience, ["a", "b"]);
    assert_eq!(other.server_metadata_url, None);
    let listed = [settings.authorization_server, partner.authorization_server];
    assert_eq!(listed, [Some(false), Some(false)]);
    assert!(other.authorization_server.is_none() && other.apis.is_empty());
    assert_eq!(partner.apis["orders"], ["a", "b"]);
    assert_eq!(partner.apis["stock"], ["c"]);
    let [orders, stock] = ["orders", "stock"].map(|name| &settings.apis[name]);
    assert_eq!(orders.resource.as_str(), "https://api.example.com/orders");
    assert_eq!(words(orders.audience.clone()), "orders all");
    assert_eq!(orders.scopes_supported, ["orders:read"]);
    assert_eq!(stock.resource.as_str(), "https://stock.example.com/");
    assert!(stock.audience.is_none() && stock.scopes_supported.is_empty());
    assert_eq!(partner.audience, ["https://api.example.com"]);
    assert_eq!(
        partner.server_metadata_url.as_ref().unwrap().as_str(),
        "https://partner.example.com/metadata"
    );
}

#[test]
fn every_setting_in_the_environment() {
    let settings = extract(
        "",
        &[
            ("OIDC_AUDIENCE", "https://api.example.com notes"),
            ("OIDC_ACCESS_TOKEN_SIGNING_ALGS", "[\"ES256\"]"),
            ("OIDC_REQUIRE_AT_JWT", "true"),
            ("OIDC_TOKEN_VALIDATION", "jwt"),
            ("OIDC_INTROSPECTION_AUTH_METHOD", "client_secret_basic"),
            ("OIDC_TOKEN_CACHE", "false"),
            ("OIDC_ROLES_CLAIM", "0123"),
            ("OIDC_REALM", "true"),
            ("OIDC_RESOURCE_METADATA", "False"),
            ("OIDC_RESOURCE", "https://api.example.com"),
            ("OIDC_SCOPES_SUPPORTED", "notes:read notes:write"),
            ("OIDC_ISSUERS__PARTNER__ISSUER", "https://partner.example.com"),
            ("OIDC_ISSUERS__PARTNER__AUDIENCE", "a b"),
            (
                "OIDC_ISSUERS__PARTNER__SERVER_METADATA_URL",
                "https://partner.example.com/metadata",
            ),
            ("OIDC_ISSUERS__PARTNER__AUTHORIZATION_SERVER", "false"),
            ("OIDC_ISSUERS__PARTNER__APIS__ORDERS", "c d"),
            ("OIDC_AUTHORIZATION_SERVER", "FALSE"),
            ("OIDC_APIS__ORDERS__RESOURCE", "https://api.example.com/orders"),
            ("OIDC_APIS__ORDERS__AUDIENCE", "[\"orders\"]"),
            ("OIDC_APIS__ORDERS__SCOPES_SUPPORTED", "orders:read"),
        ],
    )
    .unwrap();
    assert_eq!(settings.audience.unwrap(), ["https://api.example.com", "notes"]);
    assert_eq!(settings.access_token_signing_algs.unwrap(), [SigningAlgorithm::ES256]);
    assert!(settings.require_at_jwt && !settings.resource_metadata);
    assert_eq!(settings.token_validation, TokenValidation::Jwt);
    let partner = &settings.issuers["partner"];
    let listed = [settings.authorization_server, partner.authorization_server];
    assert_eq!(listed, [Some(false), Some(false)]);
    assert_eq!(settings.issuers["partner"].apis["orders"], ["c", "d"]);
    let orders = &settings.apis["orders"];
    assert_eq!(orders.resource.as_str(), "https://api.example.com/orders");
    assert_eq!(orders.audience.as_deref(), Some(&["orders".to_owned()][..]));
    assert_eq!(orders.scopes_supported, ["orders:read"]);
    assert_eq!(
        settings.introspection_auth_method,
        Some(IntrospectionAuthMethod::ClientSecretBasic)
    );
    assert_eq!(settings.token_cache, CacheSize::Flag(false));
    assert_eq!(settings.roles_claim, ["0123"]);
    let roles = |text| extract("", &[("OIDC_ROLES_CLAIM", text)]).unwrap().roles_claim;
    assert_eq!(roles(r#"["a","b.c"]"#), ["a", "b.c"]);
    assert_eq!(roles("a b.c"), ["a", "b.c"]);
    assert_eq!(settings.realm, "true");
    assert_eq!(settings.scopes_supported, ["notes:read", "notes:write"]);
    let partner = &settings.issuers["partner"];
    assert_eq!(partner.issuer, "https://partner.example.com");
    assert_eq!(partner.audience, ["a", "b"]);
    assert!(partner.server_metadata_url.is_some());

    let table = r#"{partner={issuer="https://partner.example.com",audience=["a"]}}"#;
    let settings = extract("", &[("OIDC_ISSUERS", table), ("OIDC_TOKEN_CACHE", "7")]).unwrap();
    assert_eq!(settings.issuers["partner"].audience, ["a"]);
    assert_eq!(settings.token_cache, CacheSize::Entries(7));
    let table = r#"{issuer="https://partner.example.com",audience="a"}"#;
    let settings = extract("", &[("OIDC_ISSUERS__PARTNER", table)]).unwrap();
    assert_eq!(settings.issuers["partner"].audience, ["a"]);
    let settings = extract("[default.oidc]\ntoken_cache = true", &[]).unwrap();
    assert_eq!(settings.token_cache, CacheSize::Flag(true));
}

#[test]
fn wrong_values_are_refused() {
    let algorithms = "list algorithms with a public key, or remove it";
    let realm = "write it in printable ASCII, without quotes and backslashes";
    let (empty, one) = ("the list is empty", "list at least one, or remove it");
    let path = "write a path of letters, digits and `.`, `_`, `~`, `-`, such as `/v1`";
    let resource = "write scheme, host and path of the API (RFC 9728 §1.2)";
    for (line, key, cause, remedy) in [
        (
            "token_validation = \"both\"",
            "token_validation",
            "unknown value \"both\"",
            "write `auto`, `jwt` or `introspection`",
        ),
        (
            "introspection_auth_method = \"private_key_jwt\"",
            "introspection_auth_method",
            "unknown value \"private_key_jwt\"",
            "write `client_secret_post`, `client_secret_basic` or `bearer`",
        ),
        (
            "token_cache = \"10000\"",
            "token_cache",
            "expected `true`, `false` or a whole number, found the string \"10000\"",
            "write for example `token_cache = true`",
        ),
        (
            "token_cache = -1",
            "token_cache",
            "expected `true`, `false` or a whole number, found the number `-1`",
            "write for example `token_cache = true`",
        ),
        (
            "token_cache = 4294967296",
            "token_cache",
            "expected `true`, `false` or a whole number, found the number `4294967296`",
            "write for example `token_cache = true`",
        ),
        (
            "require_at_jwt = \"yes\"",
            "require_at_jwt",
            "expected `true` or `false`, found the string \"yes\"",
            "write for example `require_at_jwt = true`",
        ),
        (
            "roles_claim = [\"groups\", \"/a~b\"]",
            "roles_claim",
            "\"/a~b\" is not a JSON Pointer",
            "write `~0` for `~` and `~1` for `/` in a name (RFC 6901)",
        ),
        (
            "accepts = \"id_tokens\"",
            "accepts",
            "unknown value \"id_tokens\"",
            "write `access_tokens`, `identity_tokens` or `untyped_tokens`",
        ),
        (
            "audience_claim = \"azp\"",
            "audience_claim",
            "unknown value \"azp\"",
            "write `aud` or `client_id`",
        ),
        ("audience = []", "audience", empty, one),
        ("audience = \" \"", "audience", empty, one),
        (
            "access_token_signing_algs = [\"RS256\", \"HS256\"]",
            "access_token_signing_algs",
            "\"HS256\" is not an algorithm that access tokens may be signed with",
            algorithms,
        ),
        (
            "access_token_signing_algs = \"none\"",
            "access_token_signing_algs",
            "\"none\" is not a signature algorithm that this crate accepts",
            "use one of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA, HS256, spelled exactly so",
        ),
        (
            "access_token_signing_algs = []",
            "access_token_signing_algs",
            empty,
            one,
        ),
        (
            "realm = \"a \\\"quoted\\\" realm\"",
            "realm",
            "\"a \\\"quoted\\\" realm\" is not allowed in a challenge",
            realm,
        ),
        (
            "realm = \"a\\\\b\"",
            "realm",
            "\"a\\\\b\" is not allowed in a challenge",
            realm,
        ),
        (
            "realm = \"a\\r\\nSet-Cookie: x=y\"",
            "realm",
            "\"a\\r\\nSet-Cookie: x=y\" is not allowed in a challenge",
            realm,
        ),
        ("realm = \"é\"", "realm", "\"é\" is not allowed in a challenge", realm),
        (
            "scopes_supported = [\"notes\\\"read\"]",
            "scopes_supported",
            "\"notes\\\"read\" is not a scope",
            "write scopes in printable ASCII, without quotes and backslashes",
        ),
        (
            "resource = \"https://api.example.com/?x=1\"",
            "resource",
            "`https://api.example.com/?x=1` has a query or a fragment",
            resource,
        ),
        (
            "resource = \"https://api.example.com/#x\"",
            "resource",
            "`https://api.example.com/#x` has a query or a fragment",
            resource,
        ),
        (
            "resource = \"https://api.example.com/a b\"",
            "resource",
            "no metadata can be served for the path `/a%20b`",
            path,
        ),
        (
            "resource = \"https://api.example.com/v1//notes\"",
            "resource",
            "no metadata can be served for the path `/v1//notes`",
            path,
        ),
        (
            "resource = \"https://api.example.com/<id>\"",
            "resource",
            "no metadata can be served for the path `/%3Cid%3E`",
            path,
        ),
        (
            "resource = \"urn:example:api\"",
            "resource",
            "\"urn:example:api\" is not an absolute URL",
            "write the whole URL, as in `https://app.example.com`",
        ),
    ] {
        let error = format!("`default.oidc.{key}` in Rocket.toml: {cause}");
        refused(&format!("[default.oidc]\n{line}"), &[], &error, remedy);
    }
}

#[test]
fn an_issuer_is_whole_and_one() {
    let partner =
        |more: &str| format!("[default.oidc]\nissuer = \"https://a.example\"\n[default.oidc.issuers.partner]\n{more}");
    for (more, key, cause, remedy) in [
        (
            "audience = \"api\"",
            "issuers.partner",
            "`issuer` is missing",
            "add `issuer`",
        ),
        (
            "issuer = \"https://b.example\"\naudience = []",
            "issuers.partner.audience",
            "no audience is set, so no token could be accepted",
            "set it to the `aud` of that issuer's tokens for this API",
        ),
        (
            "issuer = \"https://a.example\"\naudience = \"api\"",
            "issuers.partner.issuer",
            "\"https://a.example\" is `oidc.issuer` already",
            "remove `issuers.partner`",
        ),
        (
            "issuer = \"http://b.example\"\naudience = \"api\"",
            "issuers.partner.issuer",
            "`http://b.example/` is neither `https` nor on loopback",
            "use a URL with `https`; in a closed network, list `b.example` in `insecure_http_hosts`",
        ),
        (
            "issuer = \"b.example\"\naudience = \"api\"",
            "issuers.partner.issuer",
            "\"b.example\" is not an absolute URL",
            "set it to exactly the issuer in the provider's metadata, such as \
             `https://accounts.example.com`",
        ),
        (
            "issuer = \"https://b.example\"\naudience = \"api\"\nserver_metadata_url = \"http://b.example/m\"",
            "issuers.partner.server_metadata_url",
            "`http://b.example/m` is neither `https` nor on loopback",
            "use a URL with `https`; in a closed network, list `b.example` in `insecure_http_hosts`",
        ),
        (
            "issuer = \"https://b.example\"\naudience = \"api\"\n[default.oidc.issuers.again]\nissuer = \"https://b.example\"\naudience = \"other\"",
            "issuers.partner.issuer",
            "\"https://b.example\" is `oidc.issuers.again` already",
            "remove `issuers.partner`",
        ),
        (
            "issuer = \"https://b.example\"\napis = { orders = \"x\" }",
            "issuers.partner.apis.orders",
            "there is no API `oidc.apis.orders`",
            "add a table `oidc.apis.orders`, or remove this",
        ),
        (
            "issuer = \"https://b.example\"\napis = { orders = \"\" }\n[default.oidc.apis.orders]\nresource = \"https://c.example\"",
            "issuers.partner.apis.orders",
            "the list is empty",
            "list at least one, or remove it",
        ),
    ] {
        let error = format!("`default.oidc.{key}` in Rocket.toml: {cause}");
        refused(&partner(more), &[], &error, remedy);
    }
}

/// An issuer without an audience says so, wherever it is from.
#[test]
fn an_issuer_without_an_audience_is_refused() {
    refused(
        "[default.oidc.issuers.partner]\nissuer = \"https://b.example\"",
        &[],
        "`oidc.issuers.partner.audience`: no audience is set, so no token could be accepted",
        "set it to the `aud` of that issuer's tokens for this API",
    );
}

/// Introspection asks the one provider, which knows nothing about the tokens of others.
#[test]
fn introspection_alone_is_for_one_issuer() {
    let toml = |validation: &str| {
        format!(
            "[default.oidc]\nissuer = \"https://a.example\"\nclient_id = \"a\"\n\
             token_validation = \"{validation}\"\n\
             [default.oidc.issuers.partner]\nissuer = \"https://b.example\"\naudience = \"api\""
        )
    };
    refused(
        &toml("introspection"),
        &[],
        "`default.oidc.token_validation` in Rocket.toml: every token is introspected at `oidc.issuer`, which does not know the tokens of `oidc.issuers.partner`",
        "set `token_validation = \"auto\"`, or remove `issuers.partner`",
    );
    for validation in ["auto", "jwt"] {
        assert!(extract(&toml(validation), &[]).is_ok(), "{validation}");
    }
}

#[test]
fn an_api_is_whole_and_one() {
    for (more, key, cause, remedy) in [
        (
            "audience = \"a\"",
            "apis.orders",
            "`resource` is missing",
            "add `resource`",
        ),
        (
            "resource = \"https://a.example/#x\"",
            "apis.orders.resource",
            "`https://a.example/#x` has a query or a fragment",
            "write scheme, host and path of the API (RFC 9728 §1.2)",
        ),
        (
            "resource = \"https://a.example/<id>\"",
            "apis.orders.resource",
            "no metadata can be served for the path `/%3Cid%3E`",
            "write a path of letters, digits and `.`, `_`, `~`, `-`, such as `/v1`",
        ),
        (
            "resource = \"https://a.example\"\naudience = []",
            "apis.orders.audience",
            "the list is empty",
            "list at least one, or remove it",
        ),
        (
            "resource = \"https://a.example\"\nscopes_supported = [\"a\\\"\"]",
            "apis.orders.scopes_supported",
            "\"a\\\"\" is not a scope",
            "write scopes in printable ASCII, without quotes and backslashes",
        ),
        (
            "resource = \"https://own.example/\"",
            "apis.orders.resource",
            "`https://own.example/` is the resource of `oidc.resource` already",
            "give each API its own URL",
        ),
        (
            "resource = \"https://b.example\"\n[default.oidc.apis.again]\nresource = \"https://b.example/\"",
            "apis.orders.resource",
            "`https://b.example/` is the resource of `oidc.apis.again` already",
            "give each API its own URL",
        ),
        (
            "resource = \"https://b.example\"\naudiense = \"b\"",
            "apis.orders.audiense",
            "there is no setting `audiense` in `oidc.apis.orders`",
            "write `audience` instead, or remove `audiense`",
        ),
    ] {
        let error = format!("`default.oidc.{key}` in Rocket.toml: {cause}");
        let toml = format!("[default.oidc]\nresource = \"https://own.example\"\n[default.oidc.apis.orders]\n{more}");
        refused(&toml, &[], &error, remedy);
    }
}

#[test]
fn errors_name_the_variable() {
    for (variable, value, key, cause, remedy) in [
        (
            "OIDC_TOKEN_VALIDATION",
            "JWT",
            "token_validation",
            "unknown value \"JWT\"",
            "write `auto`, `jwt` or `introspection`",
        ),
        (
            "OIDC_TOKEN_CACHE",
            "maybe",
            "token_cache",
            "expected `true`, `false` or a whole number, found the string \"maybe\"",
            "write for example `OIDC_TOKEN_CACHE=true`",
        ),
        (
            "OIDC_ISSUERS__PARTNER__AUDIENCE",
            "a",
            "issuers.partner",
            "`issuer` is missing",
            "add `issuer`",
        ),
        (
            "OIDC_ACCESS_TOKEN_SIGNING_ALGS",
            "RS256 HS256",
            "access_token_signing_algs",
            "\"HS256\" is not an algorithm that access tokens may be signed with",
            "list algorithms with a public key, or remove it",
        ),
    ] {
        // What a table lacks is told of the table.
        let name = variable.trim_end_matches("__AUDIENCE");
        let error = format!("`oidc.{key}` in environment variable {name}: {cause}");
        refused("", &[(variable, value)], &error, remedy);
    }
}

/// With `jwks_uri`, nobody is called by the issuer's name.
#[test]
fn issuers_that_are_no_address_need_their_keys() {
    let with =
        |issuer: &str, more: &str| format!("[default.oidc.issuers.x]\nissuer = \"{issuer}\"\naudience = \"a\"\n{more}");
    let keys = "jwks_uri = \"https://keys.example.com/\"";
    for issuer in [
        "spiffe://example.org",
        "accounts.google.com",
        "http://adfs.example.com/adfs/services/trust",
        "kubernetes/serviceaccount",
    ] {
        assert!(extract(&with(issuer, keys), &[]).is_ok(), "{issuer}");
        assert!(extract(&with(issuer, ""), &[]).is_err(), "{issuer}");
    }
    refused(
        &with("spiffe://example.org", "jwks_uri = \"http://keys.example.com/\""),
        &[],
        "`default.oidc.issuers.x.jwks_uri` in Rocket.toml: `http://keys.example.com/` is neither `https` nor on loopback",
        "use a URL with `https`; in a closed network, list `keys.example.com` in `insecure_http_hosts`",
    );
    let metadata = "server_metadata_url = \"https://op.example.com/metadata\"";
    refused(
        &with("https://op.example.com", &format!("{keys}\n{metadata}")),
        &[],
        "`default.oidc.issuers.x.server_metadata_url` in Rocket.toml: `jwks_uri` is set too, so no metadata is read",
        "remove one of them",
    );
    refused(
        &with("https://op.example.com", "roles_claim = \"/a~\""),
        &[],
        "`default.oidc.issuers.x.roles_claim` in Rocket.toml: \"/a~\" is not a JSON Pointer",
        "write `~0` for `~` and `~1` for `/` in a name (RFC 6901)",
    );
}

#[test]
fn unknown_keys_of_an_issuer_are_refused() {
    refused(
        "[default.oidc.issuers.partner]\nissuer = \"https://b.example\"\naudiense = \"api\"",
        &[],
        "`default.oidc.issuers.partner.audiense` in Rocket.toml: there is no setting `audiense` in `oidc.issuers.partner`",
        "write `audience` instead, or remove `audiense`",
    );
}
