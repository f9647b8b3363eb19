//! Every sentence that refuses a setting, with its key, its origin and its remedy.

use super::extract;

#[track_caller]
pub fn refused(toml: &str, variables: &[(&str, &str)], error: &str, remedy: &str) {
    let found = extract(toml, variables).unwrap_err();
    assert_eq!((found.to_string().as_str(), found.remedy()), (error, remedy));
}

#[test]
fn unknown_keys_are_refused_with_the_nearest() {
    refused(
        "[default.oidc]\nclientid = \"x\"",
        &[],
        "`default.oidc.clientid` in Rocket.toml: there is no setting `clientid` in `oidc`",
        "write `client_id` instead, or remove `clientid`",
    );
    refused(
        "[debug.oidc.session]\nidel_timeout = 1",
        &[],
        "`debug.oidc.session.idel_timeout` in Rocket.toml: there is no setting `idel_timeout` in `oidc.session`",
        "write `idle_timeout` instead, or remove `idel_timeout`",
    );
    for (before, now) in [
        ("idle", "idle_timeout"),
        ("lifetime", "absolute_timeout"),
        ("url", "store_url"),
    ] {
        refused(
            &format!("[debug.oidc.session]\n{before} = 1"),
            &[],
            &format!("`debug.oidc.session.{before}` in Rocket.toml: there is no setting `{before}` in `oidc.session`"),
            &format!("write `{now}` instead, or remove `{before}`"),
        );
    }
    refused(
        "[debug.oidc.dev_provider]\nzebra = 1",
        &[],
        "`debug.oidc.dev_provider.zebra` in Rocket.toml: there is no setting `zebra` in \
         `oidc.dev_provider`",
        "remove `zebra`",
    );
    refused(
        "",
        &[("ROCKET_OIDC", "{isuer=\"https://a.example\"}")],
        "`oidc.isuer` in environment variable ROCKET_OIDC: there is no setting `isuer` in `oidc`",
        "write `issuer` instead, or remove `isuer`",
    );
    refused(
        "[default.oidc.client_secrets.web]\nclient_secert = \"hush\"",
        &[],
        "`default.oidc.client_secrets.web.client_secert` in Rocket.toml: there is no member \
         `client_secert`",
        "write `client_secret` instead, or remove `client_secert`",
    );
}

#[test]
fn wrong_types_are_refused() {
    for (line, key, cause, remedy) in [
        (
            "enabled = \"yes\"",
            "enabled",
            "expected `true` or `false`, found the string \"yes\"",
            "write for example `enabled = true`",
        ),
        (
            "client_id = 12",
            "client_id",
            "expected a string, found the number `12`",
            "write for example `client_id = \"…\"`",
        ),
        (
            "client_secret = 12345",
            "client_secret",
            "expected a string, found another type",
            "put the value in quotes",
        ),
        (
            "client_secret = { a = 1 }",
            "client_secret",
            "expected a string, found a table",
            "write for example `client_secret = \"…\"`",
        ),
        (
            "client_secret = \" \"",
            "client_secret",
            "the value is empty",
            "set a value, or remove it",
        ),
        (
            "client_secret_file = 12345",
            "client_secret_file",
            "expected the path of a file, found a number",
            "write for example `client_secret_file = \"secrets/file\"`",
        ),
        (
            "client_secrets = 12345",
            "client_secrets",
            "expected the path of a client_secrets.json, or the same as a table, found a number",
            "write for example `client_secrets = \"client_secrets.json\"`",
        ),
        (
            "client_secrets = { client_secret = 12345 }",
            "client_secrets.client_secret",
            "expected a string, found another type",
            "put the value in quotes",
        ),
        (
            "client_secrets = \"{web={client_secret=hush\"",
            "client_secrets",
            "the value is neither a path nor a table",
            "write the path of a client_secrets.json, or its content as a table",
        ),
        (
            "base_url = \"app.example.com\"",
            "base_url",
            "\"app.example.com\" is not an absolute URL",
            "write the whole URL, as in `https://app.example.com`",
        ),
        (
            "server_metadata_url = \"https://me:hush@a.example\"",
            "server_metadata_url",
            "a URL with an `@` is not accepted",
            "remove the user name and password, up to the `@`",
        ),
        (
            "overwrite_redirect_uri = \"https://App.example.com/cb\"",
            "overwrite_redirect_uri",
            "\"https://App.example.com/cb\" would be sent as `https://app.example.com/cb`",
            "write `https://app.example.com/cb`, here and in the registration at the provider",
        ),
        (
            "scopes = [\"openid\", 1]",
            "scopes.1",
            "expected a string, found the number `1`",
            "correct this element of `scopes`",
        ),
        (
            "scopes = [\"openid email\"]",
            "scopes",
            "\"openid email\" contains a space",
            "write each word as a separate element",
        ),
        (
            "clock_skew = -5",
            "clock_skew",
            "\"-5\" is negative",
            "write seconds, or numbers with the units `d`, `h`, `m`, `s` and `ms` in this order, as in \
          `90`, `10m` or `1h30m`",
        ),
        (
            "clock_skew = 1.5",
            "clock_skew",
            "expected seconds, or a duration such as `10m`, found the number `1.5`",
            "write for example `clock_skew = \"10m\"`",
        ),
        (
            "session = { max_cookies = -1 }",
            "session.max_cookies",
            "expected a whole number, found the number `-1`",
            "write for example `max_cookies = 2`",
        ),
        (
            "previous_secret_keys = 5",
            "previous_secret_keys",
            "expected a list of strings, or words in one string, found a number",
            "write for example `previous_secret_keys = [\"…\", \"…\"]`",
        ),
        (
            "sign_in_timeout = \"soon\"",
            "sign_in_timeout",
            "\"soon\" is not a duration",
            "write seconds, or numbers with the units `d`, `h`, `m`, `s` and `ms` in this order, as in \
          `90`, `10m` or `1h30m`",
        ),
        (
            "max_state_length = \"long\"",
            "max_state_length",
            "expected a whole number, found the string \"long\"",
            "write for example `max_state_length = 2`",
        ),
        (
            "session = { cookie = 5 }",
            "session.cookie",
            "expected a string, found the number `5`",
            "write for example `cookie = \"…\"`",
        ),
        (
            "session = { refresh_grace = -1 }",
            "session.refresh_grace",
            "\"-1\" is negative",
            "write seconds, or numbers with the units `d`, `h`, `m`, `s` and `ms` in this order, as in \
          `90`, `10m` or `1h30m`",
        ),
        (
            "session = { max_generations = -1 }",
            "session.max_generations",
            "expected a whole number, found the number `-1`",
            "write for example `max_generations = 2`",
        ),
        (
            "testing_profile = \"alice\"",
            "testing_profile",
            "expected a table, found the string \"alice\"",
            "write for example `testing_profile = { … = \"…\" }`",
        ),
        (
            "dev_provider = 9400",
            "dev_provider",
            "expected `true`, `false` or a table, found the number `9400`",
            "write for example `dev_provider = true`",
        ),
        (
            "dev_provider = { port = 70000 }",
            "dev_provider.port",
            "expected a port from 0 to 65535, found the number `70000`",
            "write for example `port = 9400`",
        ),
        (
            "token_endpoint_auth_method = \"basic\"",
            "token_endpoint_auth_method",
            "unknown value \"basic\"",
            "write `client_secret_basic`, `client_secret_post`, `private_key_jwt`, `tls_client_auth`, `self_signed_tls_client_auth` or `none`",
        ),
    ] {
        let error = format!("`debug.oidc.{key}` in Rocket.toml: {cause}");
        refused(&format!("[debug.oidc]\n{line}"), &[], &error, remedy);
    }
}

#[test]
fn wrong_values_are_refused() {
    let algorithms = "use one of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA, HS256, \
                      spelled exactly so";
    for (line, key, cause, remedy) in [
        (
            "scopes = \"profile openid2\"",
            "scopes",
            "the scope `openid` is missing, found \"profile openid2\"",
            "add `openid` to `scopes`, for example `scopes = \"openid email profile\"`",
        ),
        (
            "scopes = \"openid é\"",
            "scopes",
            "\"é\" is not a scope",
            "write scopes in printable ASCII, without quotes and backslashes",
        ),
        (
            "mount = \"oidc/\"",
            "mount",
            "\"oidc/\" is not a path to mount at",
            "write a path such as `/oidc`: it starts with `/`, does not end with one, and is made of \
          letters, digits and `.`, `_`, `~`, `-`",
        ),
        (
            "session = { idle_timeout = 0 }",
            "session.idle_timeout",
            "the duration is zero",
            "write a longer duration",
        ),
        (
            "session = { idle_timeout = \"2h\", absolute_timeout = \"1h\" }",
            "session.idle_timeout",
            "7200s is longer than `oidc.session.absolute_timeout`, 3600s",
            "set `session.idle_timeout` to at most `session.absolute_timeout`",
        ),
        (
            "session = { max_cookies = 6 }",
            "session.max_cookies",
            "expected 1 to 5, found 6",
            "write 1 to 5",
        ),
        (
            "session = { cookie = \"__Host-session\" }",
            "session.cookie",
            "\"__Host-session\" is not the name of a cookie",
            "write up to 64 letters, digits, `-`, `_` and `.`, without a prefix such as `__Host-`",
        ),
        (
            "session = { cookie = \"a;b\" }",
            "session.cookie",
            "\"a;b\" is not the name of a cookie",
            "write up to 64 letters, digits, `-`, `_` and `.`, without a prefix such as `__Host-`",
        ),
        (
            "session = { refresh_interval = 0 }",
            "session.refresh_interval",
            "the duration is zero",
            "write a longer duration",
        ),
        (
            "session = { max_generations = 0 }",
            "session.max_generations",
            "expected 1 or more, found 0",
            "write 1 or more",
        ),
        (
            "sign_in_timeout = 0",
            "sign_in_timeout",
            "the duration is zero",
            "write a longer duration",
        ),
        (
            "max_state_length = 199",
            "max_state_length",
            "expected 200 to 4000, found 199",
            "write 200 to 4000",
        ),
        (
            "max_state_length = 4001",
            "max_state_length",
            "expected 200 to 4000, found 4001",
            "write 200 to 4000",
        ),
        (
            "previous_secret_keys = [\"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\", \"hush\"]",
            "previous_secret_keys",
            "fewer than 32 bytes",
            "list former values of `secret_key`, each as it was set",
        ),
        (
            "previous_secret_keys = \"hush!\"",
            "previous_secret_keys",
            "neither base64 nor hex",
            "list former values of `secret_key`, each as it was set",
        ),
        (
            "session = { store = \"disk\" }",
            "session.store",
            "unknown value \"disk\"",
            "write `cookie`, `memory`, `redis` or `sql`",
        ),
        (
            "session = { store = \"redis\" }",
            "session.store",
            "`redis`, and the URL of Redis is missing",
            "set `session.store_url` to `redis://host:6379`, or the like",
        ),
        (
            "session = { store_url = \"http://user:hush@localhost\" }",
            "session.store_url",
            "it is the URL of neither a Redis server nor a SQL database",
            "write a URL that begins with `redis://`, `redis+sentinel://`, `redis-cluster://`, `sqlite://`, `postgres://` \
             or the like",
        ),
        (
            "session = { store = \"redis\", store_url = \"postgres://user:hush@localhost\" }",
            "session.store_url",
            "it is not the URL of a Redis server",
            "set `session.store_url` to `redis://host:6379`, or the like",
        ),
        (
            "session = { store = \"redis\", store_url = \"redis://\" }",
            "session.store_url",
            "it has no host",
            "set `session.store_url` to `redis://host:6379`, or the like",
        ),
        (
            "session = { store_url = \"redis://:hush@a,b\" }",
            "session.store_url",
            "it has several hosts",
            "write `redis-cluster://host,host` for a cluster, or `redis+sentinel://host,host/master_name` for Sentinel",
        ),
        (
            "session = { store_url = \"redis+sentinel://:hush@a,b\" }",
            "session.store_url",
            "it has no master name behind its hosts",
            "write `redis+sentinel://host,host/master_name`, with the name in `sentinel monitor` of the Sentinels",
        ),
        (
            "session = { store_url = \"rediss-cluster://:hush@a,b/1\" }",
            "session.store_url",
            "it names another database than 0, which a cluster does not have",
            "remove the number behind the hosts",
        ),
        (
            "session = { store_url = \"unix://hush\" }",
            "session.store_url",
            "it is not `unix://` and the absolute path of a socket",
            "write `unix:///run/redis/redis.sock`, and `?db=1` behind it for another database than 0",
        ),
        (
            "session = { store_url = \"redis://a\", sentinel_password = \"hush\" }",
            "session.sentinel_password",
            "it is set, and `session.store_url` is not the URL of Sentinels",
            "remove it, or set `session.store_url` to `redis+sentinel://host,host/master_name`",
        ),
        (
            "session = { sentinel_username = \"app\" }",
            "session.sentinel_username",
            "it is set, and `session.store_url` is not the URL of Sentinels",
            "remove it, or set `session.store_url` to `redis+sentinel://host,host/master_name`",
        ),
        (
            "session = { store_url = \"redis+sentinel://a/m\", sentinel_username = \"app\" }",
            "session.sentinel_username",
            "it is set, and `session.sentinel_password` is missing",
            "set `session.sentinel_password`, or remove `session.sentinel_username`",
        ),
        (
            "session = { store = \"sql\" }",
            "session.store",
            "`sql`, and the URL of the database is missing",
            "set `session.store_url` to `sqlite://sessions.db`, `postgres://user@host/database`, or the like",
        ),
        (
            "session = { store = \"sql\", store_url = \"redis://user:hush@localhost\" }",
            "session.store_url",
            "it is not the URL of a SQL database",
            "set `session.store_url` to `sqlite://sessions.db`, `postgres://user@host/database`, or the like",
        ),
        (
            "session = { store = \"sql\", store_url = \"sqlite:sessions.db\" }",
            "session.store_url",
            "it is not the URL of a SQL database",
            "set `session.store_url` to `sqlite://sessions.db`, `postgres://user@host/database`, or the like",
        ),
        (
            "session = { store = \"sql\", store_url = \"sqlite://:memory:\" }",
            "session.store_url",
            "it is not `sqlite://` and the path of a file",
            "write for example `sqlite://sessions.db`, or `sqlite:///var/lib/app/sessions.db`",
        ),
        (
            "session = { store_url = \"sqlite://sessions.db?mode=ro\" }",
            "session.store_url",
            "it is not `sqlite://` and the path of a file",
            "write for example `sqlite://sessions.db`, or `sqlite:///var/lib/app/sessions.db`",
        ),
        (
            "session = { store = \"sql\", store_url = \"postgres://user:hush@localhost:port/a\" }",
            "session.store_url",
            "it is not the URL of a PostgreSQL database",
            "set `session.store_url` to `sqlite://sessions.db`, `postgres://user@host/database`, or the like",
        ),
        (
            "session = { store = \"sql\", store_url = \"postgres://localhost/a?sslmode=require&password=hush\" }",
            "session.store_url",
            "it has an unknown parameter",
            "choose from sslmode, sslrootcert, sslcert, sslkey, host, application_name, options, \
             statement-cache-capacity",
        ),
        (
            "session = { store_url = \"rediss://user:hush@localhost/#insecure\" }",
            "session.store_url",
            "it ends in a fragment, such as `#insecure`",
            "remove it; trust the server's certificate on this machine, on Linux with `SSL_CERT_FILE`",
        ),
        (
            "session = { store = \"memory\", store_url = \"redis://localhost\" }",
            "session.store_url",
            "a URL is set, and `session.store` is `memory`",
            "remove it, or set `session.store` to `redis`, `sql` or `cookie`",
        ),
        (
            "session = { max_sessions = 0 }",
            "session.max_sessions",
            "expected 1 or more, found 0",
            "write 1 or more",
        ),
        (
            "session = { cache = \"all\" }",
            "session.cache",
            "expected `true`, `false` or a whole number, found the string \"all\"",
            "write for example `cache = true`",
        ),
        (
            "session = { max_per_user = 0 }",
            "session.max_per_user",
            "expected 1 or more, found 0",
            "write 1 or more",
        ),
        (
            "session = { tokens = \"access_token code\" }",
            "session.tokens",
            "unknown value \"code\"",
            "write `access_token`, `refresh_token` or `id_token`",
        ),
        (
            "http = { max_body = 0 }",
            "http.max_body",
            "expected 1 or more, found 0",
            "write 1 or more",
        ),
        (
            "id_token_signing_algs = [\"none\"]",
            "id_token_signing_algs",
            "\"none\" is not a signature algorithm that this crate accepts",
            algorithms,
        ),
        (
            "id_token_signing_algs = []",
            "id_token_signing_algs",
            "the list is empty",
            "list at least one, or remove it",
        ),
        (
            "extra_authorization_parameters = { state = \"x\" }",
            "extra_authorization_parameters.state",
            "`state` is set by the sign-in itself",
            "remove `state`",
        ),
        (
            "extra_authorization_parameters = { claims = { a = 1 } }",
            "extra_authorization_parameters.claims",
            "expected a string, a number, a boolean or a list of strings",
            "write `claims` as one of these",
        ),
        (
            "extra_authorization_parameters = { max_age = \"1h\" }",
            "extra_authorization_parameters.max_age",
            "expected seconds as a whole number, found \"1h\"",
            "write for example `max_age = 3600`",
        ),
        (
            "silent = true\nextra_authorization_parameters = { prompt = \"consent login\" }",
            "extra_authorization_parameters",
            "every sign-in demands a new authentication, which `silent` cannot do",
            "remove `silent`, or `prompt = \"login\"` and `max_age = 0`",
        ),
        (
            "silent = true\nextra_authorization_parameters = { max_age = 0 }",
            "extra_authorization_parameters",
            "every sign-in demands a new authentication, which `silent` cannot do",
            "remove `silent`, or `prompt = \"login\"` and `max_age = 0`",
        ),
        (
            "silent = true\nclear_site_data = \"cache *\"",
            "clear_site_data",
            "it removes the cookie by which `silent` does not sign a user in again after a sign-out",
            "remove `silent`, or `cookies` and `*`",
        ),
        (
            "silent = true\nclear_site_data = [\"cookies\"]",
            "clear_site_data",
            "it removes the cookie by which `silent` does not sign a user in again after a sign-out",
            "remove `silent`, or `cookies` and `*`",
        ),
        (
            "post_logout_redirect_uri = \"//evil.example\"",
            "post_logout_redirect_uri",
            "\"//evil.example\" is neither a local path nor an https URL",
            "write a path such as `/goodbye`, or an absolute URL with `https`",
        ),
        (
            "testing_profile = { name = \"Alice\" }",
            "testing_profile",
            "`sub` is missing, empty or not a string",
            "add `sub`, for example `testing_profile = { sub = \"alice\" }`",
        ),
        (
            "dev_provider = { users = [{ sub = \"a\" }, { sub = \"a\" }] }",
            "dev_provider.users",
            "two users have `sub` \"a\"",
            "give each user a unique `sub`, a string",
        ),
        (
            "issuer = \"http://a.example\"",
            "issuer",
            "`http://a.example/` is neither `https` nor on loopback",
            "use a URL with `https`; in a closed network, list `a.example` in `insecure_http_hosts`",
        ),
        (
            "issuer = \"https://a.example/t/.well-known/openid-configuration\"",
            "issuer",
            "`https://a.example/t/.well-known/openid-configuration` is the address of the provider's metadata, not \
             the issuer",
            "write `https://a.example/t`",
        ),
        (
            "issuer = \"https://a.example/.well-known/openid-configuration/\"",
            "issuer",
            "`https://a.example/.well-known/openid-configuration/` is the address of the provider's metadata, not \
             the issuer",
            "write `https://a.example`",
        ),
        (
            "issuer = \"https://a.example/.well-known/oauth-authorization-server/t\"",
            "issuer",
            "`https://a.example/.well-known/oauth-authorization-server/t` is the address of the provider's \
             metadata, not the issuer",
            "write `https://a.example/t`",
        ),
        (
            "client_secret = \"two\\nlines\"",
            "client_secret",
            "the value contains or is surrounded by a line break or another invisible character",
            "write the value alone, on one line",
        ),
        (
            "client_id = \"a\\uFEFFb\"",
            "client_id",
            "the value contains or is surrounded by a line break or another invisible character",
            "write the value alone, on one line",
        ),
        (
            "server_metadata_url = \"http://a.example/m\"",
            "server_metadata_url",
            "`http://a.example/m` is neither `https` nor on loopback",
            "use a URL with `https`; in a closed network, list `a.example` in `insecure_http_hosts`",
        ),
    ] {
        let error = format!("`default.oidc.{key}` in Rocket.toml: {cause}");
        refused(&format!("[default.oidc]\n{line}"), &[], &error, remedy);
    }
}

#[test]
fn errors_name_the_variable() {
    for (name, value, error, remedy) in [
        (
            "OIDC_SCOPES",
            "email",
            "`oidc.scopes` in environment variable OIDC_SCOPES: the scope `openid` is missing, found \
          \"email\"",
            "add `openid` to `scopes`, for example `scopes = \"openid email profile\"`",
        ),
        (
            "OIDC_ENABLED",
            "maybe",
            "`oidc.enabled` in environment variable OIDC_ENABLED: expected `true` or `false`, found the \
          string \"maybe\"",
            "write for example `OIDC_ENABLED=true`",
        ),
        (
            "OIDC_SESSION__IDLE_TIMEOUT",
            "soon",
            "`oidc.session.idle_timeout` in environment variable OIDC_SESSION__IDLE_TIMEOUT: \"soon\" is not a duration",
            "write seconds, or numbers with the units `d`, `h`, `m`, `s` and `ms` in this order, as in \
          `90`, `10m` or `1h30m`",
        ),
        (
            "OIDC_SESSION",
            "{idle_timeout=soon}",
            "`oidc.session.idle_timeout` in environment variable OIDC_SESSION: \"soon\" is not a duration",
            "write seconds, or numbers with the units `d`, `h`, `m`, `s` and `ms` in this order, as in \
          `90`, `10m` or `1h30m`",
        ),
        (
            "OIDC_CLIENT_SECRET",
            "",
            "`oidc.client_secret` in environment variable OIDC_CLIENT_SECRET: the value is empty",
            "set a value, or remove it",
        ),
        (
            "OIDC_CLIENT_SECRETS",
            "{\"web\":{\"client_secret\":\"hush\"",
            "`oidc.client_secrets` in environment variable OIDC_CLIENT_SECRETS: the value starts like a table or list, but is neither",
            "correct the value of OIDC_CLIENT_SECRETS, in JSON or as `{key=\"value\"}`",
        ),
        (
            "ROCKET_OIDC",
            "{client_secret=12345}",
            "`oidc.client_secret` in environment variable ROCKET_OIDC: expected a string, found another \
          type",
            "put the value in quotes",
        ),
        (
            "ROCKET_OIDC",
            "{client_secret=\"hush\"",
            "`oidc` in environment variable ROCKET_OIDC: expected a table, found another value",
            "write for example `ROCKET_OIDC={enabled=false}`",
        ),
    ] {
        refused("", &[(name, value)], error, remedy);
    }
}

#[test]
fn an_error_has_key_origin_and_cause_apart() {
    let error = extract("[debug.oidc]\nmount = \"\"", &[]).unwrap_err();
    assert_eq!(error.key(), "debug.oidc.mount");
    assert_eq!(error.origin(), Some("Rocket.toml"));
    assert_eq!(error.cause(), "the value is empty");
}

#[test]
fn a_file_that_is_no_toml() {
    refused(
        "[default.oidc\n",
        &[],
        "`default.oidc` in Rocket.toml: TOML parse error at line 1, column 14",
        "correct the syntax of the file there",
    );
}
