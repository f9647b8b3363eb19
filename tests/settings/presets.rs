//! The setting `provider`: what each preset stands for, letter by letter, and what goes before it.

use super::{extract, refusals::refused};

const TENANT: &str = "8eaef023-2b34-4da1-9baa-8bc8c9d6a490";

/// Reads both tables, and finds no difference but the preset's own.
#[track_caller]
fn expands_to(preset: &str, plain: &str) {
    let mut settings = extract(&format!("[default.oidc]\n{preset}"), &[]).unwrap();
    assert!(settings.provider.take().is_some());
    let expected = extract(&format!("[default.oidc]\n{plain}"), &[]).unwrap();
    assert_eq!(format!("{settings:?}"), format!("{expected:?}"));
}

#[test]
fn google_is_its_issuer() {
    let plain = r#"issuer = "https://accounts.google.com""#;
    expands_to(r#"provider = "google""#, plain);
    expands_to(r#"provider = { name = "google" }"#, plain);
}

/// How tokens for other APIs are requested there.
const MICROSOFT_TOKENS: &str = "resource_parameter = \"scope\"\ntoken_exchange = \"on_behalf_of\"";

#[test]
fn microsoft_is_the_issuer_of_a_directory_and_no_user_info() {
    expands_to(
        &format!("provider = {{ name = \"microsoft\", tenant = \"{TENANT}\" }}"),
        &format!(
            "issuer = \"https://login.microsoftonline.com/{TENANT}/v2.0\"\n\
             user_info_enabled = false\n{MICROSOFT_TOKENS}"
        ),
    );
}

/// Tokens and metadata have it in lower case, the portal of some tools in capitals.
#[test]
fn the_id_of_a_directory_is_in_lower_case() {
    expands_to(
        &format!(
            "provider = {{ name = \"microsoft\", tenant = \"{}\" }}",
            TENANT.to_uppercase()
        ),
        &format!(
            "issuer = \"https://login.microsoftonline.com/{TENANT}/v2.0\"\nuser_info_enabled = false\n{MICROSOFT_TOKENS}"
        ),
    );
}

/// They have a tenant of their own, so there is no template.
#[test]
fn microsoft_is_the_issuer_of_personal_accounts() {
    expands_to(
        "provider = { name = \"microsoft\", tenant = \"consumers\" }",
        &format!(
            "issuer = \"https://login.microsoftonline.com/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0\"\n\
             user_info_enabled = false\n{MICROSOFT_TOKENS}"
        ),
    );
}

/// Whose people sign in is for `tenants` to say.
#[test]
fn microsoft_is_a_template_for_several_directories() {
    for shared in ["organizations", "common"] {
        let preset = format!("provider = {{ name = \"microsoft\", tenant = \"{shared}\" }}");
        expands_to(
            &preset,
            &format!(
                "issuer = \"https://login.microsoftonline.com/{{tenantid}}/v2.0\"\n\
                 server_metadata_url = \"https://login.microsoftonline.com/{shared}/v2.0/.well-known/openid-configuration\"\n\
                 user_info_enabled = false\n{MICROSOFT_TOKENS}"
            ),
        );
        // The metadata of all is that of no issuer of one's own.
        let own = "issuer = \"https://login.partner.example\"";
        expands_to(
            &format!("{preset}\n{own}"),
            &format!("{own}\nuser_info_enabled = false\n{MICROSOFT_TOKENS}"),
        );
    }
}

#[test]
fn auth0_is_an_issuer_with_a_slash_and_the_audience() {
    let preset = r#"provider = { name = "auth0", domain = "example.eu.auth0.com" }"#;
    let issuer = "issuer = \"https://example.eu.auth0.com/\"\naccepts = \"untyped_tokens\"\n\
                  resource_parameter = \"audience\"";
    expands_to(preset, issuer);

    let one = r#"audience = "https://api.example.com""#;
    let parameter = r#"extra_authorization_parameters.audience = "https://api.example.com""#;
    expands_to(&format!("{preset}\n{one}"), &format!("{issuer}\n{one}\n{parameter}"));

    let two = r#"audience = ["https://a.example.com", "https://b.example.com"]"#;
    expands_to(&format!("{preset}\n{two}"), &format!("{issuer}\n{two}"));
}

#[test]
fn okta_is_an_org_or_a_custom_authorization_server() {
    for (preset, issuer) in [
        ("domain = \"example.okta.com\"", "https://example.okta.com"),
        (
            "domain = \"example.okta.com\", authorization_server = \"default\"",
            "https://example.okta.com/oauth2/default",
        ),
        (
            "domain = \"login.example.com\", authorization_server = \"aus9o8wzkhckw9TLa0h7\"",
            "https://login.example.com/oauth2/aus9o8wzkhckw9TLa0h7",
        ),
        // Only Okta's own names of its console are refused.
        ("domain = \"my-admin.example.com\"", "https://my-admin.example.com"),
    ] {
        expands_to(
            &format!("provider = {{ name = \"okta\", {preset} }}"),
            &format!("issuer = \"{issuer}\""),
        );
    }
}

#[test]
fn authentik_is_the_issuer_of_an_application_with_a_slash() {
    for url in [
        "https://sso.example.com",
        "https://sso.example.com/",
        "https://example.com/sso/",
    ] {
        expands_to(
            &format!("provider = {{ name = \"authentik\", url = \"{url}\", application = \"my-app\" }}"),
            &format!("issuer = \"{}/application/o/my-app/\"", url.trim_end_matches('/')),
        );
    }
}

#[test]
fn zitadel_is_its_url_without_a_slash() {
    for url in [
        "https://example.zitadel.cloud",
        "https://example.zitadel.cloud/",
        "http://localhost:8080",
    ] {
        expands_to(
            &format!("provider = {{ name = \"zitadel\", url = \"{url}\" }}"),
            &format!("issuer = \"{}\"", url.trim_end_matches('/')),
        );
    }
}

#[test]
fn gitlab_is_the_public_one_or_ones_own() {
    expands_to(r#"provider = "gitlab""#, r#"issuer = "https://gitlab.com""#);
    for url in ["https://gitlab.example.com/", "https://example.com/gitlab"] {
        expands_to(
            &format!("provider = {{ name = \"gitlab\", url = \"{url}\" }}"),
            &format!("issuer = \"{}\"", url.trim_end_matches('/')),
        );
    }
}

#[test]
fn cognito_is_the_issuer_of_a_user_pool_in_its_region() {
    for (user_pool, region) in [
        ("eu-central-1_aBcDeFgHi", "eu-central-1"),
        ("us-gov-west-1_0123456AZ", "us-gov-west-1"),
    ] {
        expands_to(
            &format!("provider = {{ name = \"cognito\", user_pool = \"{user_pool}\" }}"),
            &format!(
                "issuer = \"https://cognito-idp.{region}.amazonaws.com/{user_pool}\"\n\
                 audience_claim = \"client_id\"\n\
                 rp_initiated_logout = false"
            ),
        );
    }
}

const APPLE: &str = "issuer = \"https://appleid.apple.com\"\n\
                     response_mode = \"form_post\"\n\
                     user_info_enabled = false\n\
                     scopes = \"openid email\"\n\
                     session.tokens = \"id_token\"\n";

#[test]
fn apple_is_a_form_and_a_secret_that_the_app_makes() {
    let preset = "provider = { name = \"apple\", team_id = \"A1B2C3D4E5\" }";
    expands_to(preset, &format!("{APPLE}client_secret_issuer = \"A1B2C3D4E5\""));
    let own = "client_secret_issuer = \"F6G7H8I9J0\"";
    expands_to(&format!("{preset}\n{own}"), &format!("{APPLE}{own}"));
    // A secret that was made elsewhere.
    for own in [
        "client_secret = \"hush\"",
        "client_secret_file = \"/run/secret\"",
        "client_secrets = { client_id = \"app\", client_secret = \"hush\" }",
    ] {
        expands_to(&format!("{preset}\n{own}"), &format!("{APPLE}{own}"));
    }
    let own = "session.tokens = \"refresh_token\"\nsession.idle_timeout = 60";
    let expected = APPLE.replace("session.tokens = \"id_token\"", own);
    expands_to(
        &format!("{preset}\n{own}"),
        &format!("{expected}client_secret_issuer = \"A1B2C3D4E5\""),
    );
}

#[test]
fn linkedin_is_its_issuer_without_nonce_and_pkce() {
    expands_to(
        r#"provider = "linkedin""#,
        "issuer = \"https://www.linkedin.com/oauth\"\n\
         token_endpoint_auth_method = \"client_secret_post\"\n\
         insecure_accept_missing_nonce = true\n\
         insecure_omit_pkce = true",
    );
}

/// What LinkedIn lacks is no reason to do without it at another provider.
#[test]
fn another_issuer_is_not_relaxed_by_the_preset() {
    let own = "issuer = \"https://op.example\"";
    let method = "token_endpoint_auth_method = \"client_secret_post\"";
    expands_to(&format!("provider = \"linkedin\"\n{own}"), &format!("{own}\n{method}"));
    let own = "client_secrets = { client_id = \"app\", issuer = \"https://op.example\" }";
    expands_to(&format!("provider = \"linkedin\"\n{own}"), &format!("{own}\n{method}"));
    let own = "insecure_omit_pkce = false";
    expands_to(
        &format!("provider = \"linkedin\"\n{own}"),
        &format!("issuer = \"https://www.linkedin.com/oauth\"\n{method}\ninsecure_accept_missing_nonce = true\n{own}"),
    );
}

#[test]
fn keycloak_is_the_issuer_of_a_realm() {
    for url in [
        "https://sso.example.com",
        "https://sso.example.com/",
        "https://sso.example.com/auth/",
        "http://localhost:8080",
    ] {
        expands_to(
            &format!("provider = {{ name = \"keycloak\", url = \"{url}\", realm = \"staff\" }}"),
            &format!("issuer = \"{}/realms/staff\"", url.trim_end_matches('/')),
        );
    }
}

#[test]
fn explicit_settings_take_precedence_over_the_preset() {
    let microsoft = format!("provider = {{ name = \"microsoft\", tenant = \"{TENANT}\" }}");
    let own = "issuer = \"https://login.partner.example\"\nuser_info_enabled = true";
    expands_to(&format!("{microsoft}\n{own}"), &format!("{own}\n{MICROSOFT_TOKENS}"));
    let standards = "resource_parameter = \"resource\"\ntoken_exchange = \"standard\"";
    expands_to(&format!("{microsoft}\n{own}\n{standards}"), own);

    let auth0 = r#"provider = { name = "auth0", domain = "example.auth0.com" }"#;
    let own = "audience = \"a\"\nextra_authorization_parameters = { audience = \"b\", prompt = \"login\" }";
    expands_to(
        &format!("{auth0}\n{own}"),
        &format!(
            "{own}\nissuer = \"https://example.auth0.com/\"\naccepts = \"untyped_tokens\"\nresource_parameter = \"audience\""
        ),
    );
    let own = "accepts = \"access_tokens\"";
    expands_to(
        &format!("{auth0}\n{own}"),
        &format!("{own}\nissuer = \"https://example.auth0.com/\"\nresource_parameter = \"audience\""),
    );

    let secrets = r#"client_secrets = { client_id = "app", issuer = "https://op.example" }"#;
    expands_to(&format!("provider = \"google\"\n{secrets}"), secrets);
}

#[test]
fn a_profile_and_the_environment_go_before_the_preset() {
    let toml = "[default.oidc]\nprovider = \"google\"\n[debug.oidc]\nissuer = \"https://op.example\"";
    let settings = extract(toml, &[]).unwrap();
    assert_eq!(settings.issuer.as_deref(), Some("https://op.example"));

    let toml = "[default.oidc]\nprovider = \"google\"";
    let settings = extract(toml, &[("OIDC_ISSUER", "https://op.example")]).unwrap();
    assert_eq!(settings.issuer.as_deref(), Some("https://op.example"));
}

#[test]
fn the_environment_gives_a_preset() {
    let issuer = |variables: &[(&str, &str)]| extract("", variables).unwrap().issuer.unwrap();
    assert_eq!(issuer(&[("OIDC_PROVIDER", "google")]), "https://accounts.google.com");
    assert_eq!(
        issuer(&[("OIDC_PROVIDER", r#"{name="auth0",domain="example.auth0.com"}"#)]),
        "https://example.auth0.com/"
    );
    let members = [
        ("OIDC_PROVIDER__NAME", "keycloak"),
        ("OIDC_PROVIDER__URL", "https://sso.example.com"),
        ("OIDC_PROVIDER__REALM", "007"),
    ];
    assert_eq!(issuer(&members), "https://sso.example.com/realms/007");
}

#[test]
fn presets_refused() {
    for (toml, error, remedy) in [
        (
            r#"provider = "facebook""#,
            "unknown value \"facebook\"",
            "write `google`, `microsoft`, `auth0`, `okta`, `keycloak`, `authentik`, `zitadel`, `gitlab`, `cognito`, \
             `apple`, `linkedin` or `github`",
        ),
        (
            r#"provider = { name = "github", url = "https://github.com" }"#,
            "`url` is of GitHub Enterprise, and github.com is not",
            "remove `url`",
        ),
        (
            r#"provider = { name = "github", url = "https://ghe.example.com/api/v3" }"#,
            "`url` is not the address of a host alone",
            "write the address of the instance, such as `https://github.example.com`",
        ),
        (
            r#"provider = "microsoft""#,
            "the preset needs `tenant` too",
            "write `provider = { name = \"microsoft\", tenant = \"…\" }`",
        ),
        (
            r#"provider = { name = "microsoft", tenant = "Contoso.onmicrosoft.com" }"#,
            "the tenant \"Contoso.onmicrosoft.com\" is not the id of one directory",
            "write the directory (tenant) id, a GUID; `consumers` for personal accounts; for several directories, \
             write `organizations`, or `common` with personal accounts, and set `tenants`",
        ),
        (
            r#"provider = { name = "auth0", domain = "https://example.auth0.com" }"#,
            "\"https://example.auth0.com\" is not a domain",
            "write the domain alone, such as `example.eu.auth0.com`",
        ),
        (
            r#"provider = { name = "keycloak", url = "https://sso.example.com" }"#,
            "the preset needs `realm` too",
            "write `provider = { name = \"keycloak\", url = \"https://…\", realm = \"…\" }`",
        ),
        (
            r#"provider = { name = "keycloak", url = "https://sso.example.com", realm = "a b" }"#,
            "the realm \"a b\" is not a plain name",
            "set `issuer` to the issuer in the realm's metadata",
        ),
        (
            r#"provider = { name = "google", tenant = "common" }"#,
            "this preset has no `tenant`",
            "write `provider = \"google\"`",
        ),
        (
            r#"provider = { name = "auth0", domain = "example.auth0.com", authorization_server = "default" }"#,
            "this preset has no `authorization_server`",
            "write `provider = { name = \"auth0\", domain = \"…\" }`",
        ),
        (
            r#"provider = "okta""#,
            "the preset needs `domain` too",
            "write `provider = { name = \"okta\", domain = \"…\" }`",
        ),
        (
            r#"provider = { name = "okta", domain = "example-admin.okta.com" }"#,
            "\"example-admin.okta.com\" is the domain of Okta's admin console",
            "write `example.okta.com`",
        ),
        (
            r#"provider = { name = "okta", domain = "example-admin.oktapreview.com" }"#,
            "\"example-admin.oktapreview.com\" is the domain of Okta's admin console",
            "write `example.oktapreview.com`",
        ),
        (
            r#"provider = { name = "okta", domain = "example.okta.com", authorization_server = "oauth2/default" }"#,
            "the authorization server \"oauth2/default\" is not a plain name",
            "write the last part of its issuer, such as `default`",
        ),
        (
            r#"provider = { name = "authentik", url = "https://sso.example.com" }"#,
            "the preset needs `application` too",
            "write `provider = { name = \"authentik\", url = \"https://…\", application = \"…\" }`",
        ),
        (
            r#"provider = "zitadel""#,
            "the preset needs `url` too",
            "write `provider = { name = \"zitadel\", url = \"https://…\" }`",
        ),
        (
            r#"provider = { name = "zitadel", url = "https://example.zitadel.cloud/ui/console" }"#,
            "the issuer of a Zitadel has no path, and the URL has one",
            "write the URL of the instance, such as `https://example.zitadel.cloud`",
        ),
        (
            r#"provider = "cognito""#,
            "the preset needs `user_pool` too",
            "write `provider = { name = \"cognito\", user_pool = \"…\" }`",
        ),
        (
            r#"provider = "apple""#,
            "the preset needs `team_id` too",
            "write `provider = { name = \"apple\", team_id = \"…\" }`",
        ),
        (
            "provider = 7",
            "expected the name of a provider, or a table with `name`, found the number `7`",
            "write for example `provider = \"google\"`",
        ),
    ] {
        let toml = format!("[default.oidc]\n{toml}");
        let error = format!("`default.oidc.provider` in Rocket.toml: {error}");
        refused(&toml, &[], &error, remedy);
    }
    refused(
        "[default.oidc]\nprovider = { name = \"keycloak\", url = \"http://sso.example.com\", realm = \"staff\" }",
        &[],
        "`default.oidc.issuer` in the expansion of `provider`: \
         `http://sso.example.com/realms/staff` is neither `https` nor on loopback",
        "use a URL with `https`; in a closed network, list `sso.example.com` in `insecure_http_hosts`",
    );
}

/// Each would be another host, another path, or text that the provider never wrote.
#[test]
fn parameters_with_parts_of_another_url() {
    const NOT_PLAIN: [&str; 12] = [
        "a/b",
        "..",
        ".",
        "a/../b",
        "a#b",
        "a?b",
        "a@b",
        "a b",
        "a%2Fb",
        "a\\\\b",
        "{tenantid}",
        "ä",
    ];
    let presets: [(&str, &str, &str); 3] = [
        (
            r#"{ name = "keycloak", url = "https://sso.example.com", realm = "VALUE" }"#,
            "the realm VALUE is not a plain name",
            "set `issuer` to the issuer in the realm's metadata",
        ),
        (
            r#"{ name = "authentik", url = "https://sso.example.com", application = "VALUE" }"#,
            "the application VALUE is not a slug",
            "write the slug of the application, such as `my-app`",
        ),
        (
            r#"{ name = "okta", domain = "example.okta.com", authorization_server = "VALUE" }"#,
            "the authorization server VALUE is not a plain name",
            "write the last part of its issuer, such as `default`",
        ),
    ];
    for (preset, cause, remedy) in presets {
        for value in NOT_PLAIN {
            refused_value(preset, value, cause, remedy);
        }
    }
    for value in [
        "https://example.com",
        "example.com/",
        "example.com/x",
        "example.com#",
        "example.com?a",
        "user@example.com",
        "example.com:443",
        "example..com",
        ".example.com",
        "example.com.",
        "localhost",
        "bücher.example",
        "[::1]",
        "example.com\\\\@evil.example",
        "*.example.com",
    ] {
        refused_value(
            r#"{ name = "okta", domain = "VALUE" }"#,
            value,
            "VALUE is not a domain",
            "write the domain alone, such as `example.okta.com`",
        );
        refused_value(
            r#"{ name = "auth0", domain = "VALUE" }"#,
            value,
            "VALUE is not a domain",
            "write the domain alone, such as `example.eu.auth0.com`",
        );
    }
    for value in [
        "aBcDeFgHi",
        "eu-central-1",
        "eu-central-1_",
        "_aBc",
        "eu_aBc",
        "eu-central-1_a/b",
        "evil.example/-1_a",
        "eu-central-1_a_b",
        "eu--1_a",
        "a@-1_b",
        "arn:aws:cognito-idp:eu-central-1:1:userpool/eu-central-1_a",
    ] {
        refused_value(
            r#"{ name = "cognito", user_pool = "VALUE" }"#,
            value,
            "VALUE is not the id of a user pool",
            "write the user pool ID, such as `eu-central-1_aBcDeFgHi`",
        );
    }
    for value in ["A1B2C3D4E", "A1B2C3D4E5F", "A1B2C3D4E.", "com.example.app", "ÄÖÜßé"] {
        refused_value(
            r#"{ name = "apple", team_id = "VALUE" }"#,
            value,
            "VALUE is not a Team ID",
            "write the Team ID of the Apple developer account, ten letters and digits",
        );
    }
    for preset in [
        r#"{ name = "keycloak", url = "VALUE", realm = "staff" }"#,
        r#"{ name = "authentik", url = "VALUE", application = "app" }"#,
        r#"{ name = "zitadel", url = "VALUE" }"#,
        r#"{ name = "gitlab", url = "VALUE" }"#,
    ] {
        for url in [
            "https://sso.example.com/?a=b",
            "https://sso.example.com/#a",
            "https://sso.example.com/#",
        ] {
            let toml = format!("[default.oidc]\nprovider = {}", preset.replace("VALUE", url));
            refused(
                &toml,
                &[],
                &format!("`default.oidc.provider` in Rocket.toml: `{url}` has a query or a fragment"),
                "write scheme, host and path alone, such as `https://sso.example.com`",
            );
        }
        for url in [
            "https://user:hush@sso.example.com",
            "https://sso.example.com@evil.example",
        ] {
            let toml = format!("[default.oidc]\nprovider = {}", preset.replace("VALUE", url));
            refused(
                &toml,
                &[],
                "`default.oidc.provider.url` in Rocket.toml: a URL with an `@` is not accepted",
                "remove the user name and password, up to the `@`",
            );
        }
    }
}

#[track_caller]
fn refused_value(preset: &str, value: &str, cause: &str, remedy: &str) {
    let toml = format!("[default.oidc]\nprovider = {}", preset.replace("VALUE", value));
    let unescaped = value.replace("\\\\", "\\");
    let cause = cause.replace("VALUE", &format!("{unescaped:?}"));
    let error = format!("`default.oidc.provider` in Rocket.toml: {cause}");
    refused(&toml, &[], &error, remedy);
}

/// A name in another script is the host that a browser calls, and the URL's path what it comes to.
#[test]
fn a_url_is_what_is_called() {
    for (url, issuer) in [
        ("https://bücher.example", "https://xn--bcher-kva.example"),
        ("https://SSO.example.com", "https://sso.example.com"),
        ("https://sso.example.com/a/../b", "https://sso.example.com/b"),
        ("https://sso.example.com:443", "https://sso.example.com"),
    ] {
        expands_to(
            &format!("provider = {{ name = \"gitlab\", url = \"{url}\" }}"),
            &format!("issuer = \"{issuer}\""),
        );
    }
}

#[test]
fn github_is_its_issuer_and_scopes() {
    for (preset, issuer) in [
        (r#""github""#, "https://github.com/login/oauth"),
        (r#"{ name = "github" }"#, "https://github.com/login/oauth"),
        (
            r#"{ name = "github", url = "https://ghe.example.com/" }"#,
            "https://ghe.example.com/login/oauth",
        ),
    ] {
        let settings = extract(&format!("[default.oidc]\nprovider = {preset}"), &[]).unwrap();
        assert_eq!(settings.issuer.as_deref(), Some(issuer));
        assert_eq!(settings.scopes, ["read:user", "user:email"]);
    }
    let toml = "[default.oidc]\nprovider = \"github\"\nscopes = \"read:user read:org\"";
    assert_eq!(extract(toml, &[]).unwrap().scopes, ["read:user", "read:org"]);
    // The issuer itself may be repeated.
    let toml = "[default.oidc]\nprovider = \"github\"\nissuer = \"https://github.com/login/oauth\"";
    assert!(extract(toml, &[]).is_ok());
}

/// What has no effect is refused, and so is another issuer.
#[test]
fn settings_that_do_not_apply_to_github_are_refused() {
    const NOT_APPLICABLE: &str = "it does not apply to GitHub, a plain OAuth 2.0 provider without ID tokens";
    let refused = |setting: &str, key: &str, error: &str, remedy: &str| {
        let toml = format!("[default.oidc]\nprovider = \"github\"\n{setting}");
        refused(
            &toml,
            &[],
            &format!("`default.oidc.{key}` in Rocket.toml: {error}"),
            remedy,
        );
    };
    for (key, value) in [
        (
            "server_metadata_url",
            "\"https://github.com/login/oauth/.well-known/openid-configuration\"",
        ),
        ("tenants", "[\"any\"]"),
        ("private_key_file", "\"key.pem\""),
        ("token_endpoint_auth_method", "\"client_secret_basic\""),
        ("token_endpoint_auth_method", "\"none\""),
        ("id_token_signing_algs", "\"RS256\""),
        ("trusted_audiences", "\"a\""),
        ("user_info_enabled", "false"),
        ("user_info_optional", "true"),
        ("insecure_accept_missing_nonce", "true"),
        ("response_mode", "\"form_post\""),
        ("pushed_authorization_requests", "true"),
        ("frontchannel_logout", "true"),
        ("resource_server_only", "true"),
    ] {
        refused(
            &format!("{key} = {value}"),
            key,
            NOT_APPLICABLE,
            &format!("remove `{key}`"),
        );
    }
    let issuer = "the issuer of this provider is `https://github.com/login/oauth`, and cannot be another one";
    for other in [
        "https://op.example",
        "https://github.com",
        "https://github.com/login/oauth/",
    ] {
        let remedy = "remove `issuer`; for GitHub Enterprise, set `provider.url`";
        refused(&format!("issuer = \"{other}\""), "issuer", issuer, remedy);
    }
    refused(
        "scopes = \"openid user:email\"",
        "scopes",
        "GitHub has no scope `openid`",
        "remove `openid`, for example `scopes = \"read:user user:email\"`",
    );
    for name in ["max_age = 60", "acr_values = \"gold\""] {
        let (name_only, _) = name.split_once(' ').unwrap();
        refused(
            &format!("extra_authorization_parameters = {{ {name} }}"),
            "extra_authorization_parameters",
            &format!("GitHub does not state how or when a user authenticated, which `{name_only}` demands"),
            "remove it",
        );
    }
}

/// GitHub's users are those of its preset alone.
#[test]
fn no_other_provider_has_the_issuer_of_github() {
    const REMEDY: &str = "write `provider = \"github\"` to let users sign in with GitHub";
    for issuer in [
        "https://github.com",
        "https://github.com/",
        "https://github.com/login/oauth",
        "https://GitHub.com/login/oauth",
        "https://github.com./login/oauth",
        "https://github.com:8443/login/oauth",
        "https://api.github.com",
    ] {
        let error = format!("`{issuer}` is not an OpenID provider: GitHub issues no ID tokens to users");
        refused(
            &format!("[default.oidc]\nissuer = \"{issuer}\""),
            &[],
            &format!("`default.oidc.issuer` in Rocket.toml: {error}"),
            REMEDY,
        );
        for keys in ["", "\njwks_uri = \"https://op.example/jwks\""] {
            refused(
                &format!(
                    "[default.oidc]\nprovider = \"github\"\n[default.oidc.issuers.other]\nissuer = \"{issuer}\"\naudience = \"a\"{keys}"
                ),
                &[],
                &format!("`default.oidc.issuers.other.issuer` in Rocket.toml: {error}"),
                REMEDY,
            );
        }
    }
    // GitHub Actions is an OpenID provider of its own.
    let toml = "[default.oidc]\nissuer = \"https://token.actions.githubusercontent.com\"";
    assert!(extract(toml, &[]).is_ok());
}
