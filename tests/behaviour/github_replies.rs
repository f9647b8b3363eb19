//! What GitHub answers: errors with the status 200, forms, users, e-mail addresses and rate limits.

use rocket::{
    http::Status,
    serde::json::{Value, json},
};

use crate::{
    common::{Log, NOW},
    github::Test,
    support::{ForeignHost, GitHub, Reply, form_encoded, message},
};

#[rocket::async_test]
async fn errors_of_the_authorization_endpoint_are_in_the_response() {
    let test = Test::new().await;
    for (error, description) in [
        ("access_denied", "The user has denied your application access."),
        (
            "application_suspended",
            "Your application has been suspended. Contact support@github.com.",
        ),
        (
            "redirect_uri_mismatch",
            "The redirect_uri MUST match the registered callback URL for this application.",
        ),
    ] {
        let browser = test.open().await;
        let callback = test.callback(&browser, "/kind").await;
        let callback = callback.without("code").without("iss").set("error", error);
        let callback = callback
            .set("error_description", description)
            .set("error_uri", "/apps/x#y");
        let page = browser.arrive_from_provider(&callback.path_and_query()).await;
        page.is(Status::BadRequest);
        let expected = format!("the provider returned `{error}`: {description}");
        assert_eq!(test.app.failures().pop(), Some(expected));
    }
    assert_eq!(test.github.requests().len(), 0);
}

#[rocket::async_test]
async fn errors_of_the_token_endpoint_have_the_status_200() {
    let test = Test::new().await;
    for (error, description, status) in [
        (
            "incorrect_client_credentials",
            "The client_id and/or client_secret passed are incorrect.",
            502,
        ),
        ("redirect_uri_mismatch", "The redirect_uri MUST match.", 502),
        ("application_suspended", "Your application has been suspended.", 502),
        (
            "unverified_user_email",
            "The user's primary email has not been verified.",
            403,
        ),
    ] {
        let body =
            json!({"error": error, "error_description": description, "error_uri": "https://docs.example/a?b=c&d"});
        for reply in [Reply::json(body.clone()), form_encoded(&body)] {
            test.github.on_path(GitHub::TOKEN, reply);
            assert_eq!(
                test.failure().await,
                (
                    status,
                    format!("the provider's token endpoint rejected the request with `{error}`: {description}")
                )
            );
        }
    }
    assert_eq!(test.github.requests_to(GitHub::USER).len(), 0);
}

#[rocket::async_test]
async fn a_form_encoded_token_response_is_read_as_strictly_as_json() {
    let test = Test::new().await;
    let browser = test.open().await;
    let callback = test.callback(&browser, "/kind").await;
    // As if a proxy dropped the header `Accept`.
    test.github.on_path(
        GitHub::TOKEN,
        form_encoded(&json!({"access_token": "gho_x", "scope": "", "token_type": "bearer"})),
    );
    test.github
        .on_path(GitHub::USER, Reply::json(json!({"id": 7, "login": "seven"})));
    test.github.on_path(GitHub::ADDRESSES, message(404, "Not Found"));
    browser
        .arrive_from_provider(&callback.path_and_query())
        .await
        .is(Status::SeeOther)
        .redirects_to("/kind");
    assert_eq!(test.github.requests_to(GitHub::USER)[0].bearer(), Some("gho_x"));

    let form = |text: &str| Reply::text("application/x-www-form-urlencoded", text);
    for (reply, expected) in [
        (
            form("access_token=a&access_token=b&token_type=bearer"),
            "`access_token` is present twice, with different values",
        ),
        (form("token_type=bearer"), "`access_token` is missing"),
        (form(""), "`access_token` is missing"),
        (
            form("access_token=a&token_type=mac"),
            "`token_type` is `mac`, expected `Bearer`",
        ),
        (
            Reply::text("text/plain", "access_token=a&token_type=bearer"),
            "it is not a JSON object",
        ),
        (Reply::text("text/html", "<html>"), "it is not a JSON object"),
    ] {
        test.github.on_path(GitHub::TOKEN, reply);
        assert_eq!(
            test.failure().await,
            (
                502,
                format!("the provider's token endpoint sent an invalid response: {expected}")
            )
        );
    }
}

/// Nothing could verify one.
#[rocket::async_test]
async fn an_id_token_of_github_is_ignored() {
    let test = Test::new().await;
    let browser = test.open().await;
    let callback = test.callback(&browser, "/kind").await;
    let body = json!({"access_token": "gho_x", "token_type": "bearer", "id_token": "eyJ.e30.x"});
    test.github.on_path(GitHub::TOKEN, Reply::json(body));
    test.github
        .on_path(GitHub::USER, Reply::json(json!({"id": 7, "login": "seven"})));
    test.github.on_path(GitHub::ADDRESSES, Reply::json(json!([])));
    browser
        .arrive_from_provider(&callback.path_and_query())
        .await
        .is(Status::SeeOther);
    let me: Value = browser.visit("/me").await.json();
    assert_eq!(me, json!({"sub": "7", "preferred_username": "seven"}));
    let kind: Value = browser.visit("/kind").await.json();
    assert_eq!(kind["kind"], "oauth2");
}

#[rocket::async_test]
async fn the_email_is_the_primary_verified_address_or_absent() {
    let address = |email: &str, primary: bool, verified: bool| json!({"email": email, "primary": primary, "verified": verified, "visibility": "public"});
    let test = Test::new().await;
    for (addresses, expected) in [
        (json!([]), None),
        (json!([address("a@x", true, true)]), Some("a@x")),
        (
            json!([address("a@x", false, true), address("b@x", true, true)]),
            Some("b@x"),
        ),
        (json!([address("a@x", true, false), address("b@x", false, true)]), None),
        (json!([address("a@x", false, true)]), None),
        (json!([address("", true, true)]), None),
        (json!([{"email": "a@x", "primary": true}]), None),
        (json!([{"email": "a@x", "primary": "true", "verified": true}]), None),
        (json!([{"email": "a@x", "primary": true, "verified": 1}]), None),
        (json!([{"email": 7, "primary": true, "verified": true}]), None),
        (json!(["a@x", null, 7, [], {}]), None),
    ] {
        test.github.addresses(addresses.clone());
        let claims = test.claims().await;
        assert_eq!(claims.get("email").and_then(Value::as_str), expected, "{addresses}");
        let verified = expected.map(|_| json!(true));
        assert_eq!(claims.get("email_verified"), verified.as_ref(), "{addresses}");
    }

    for (body, expected) in [
        ("{}", "it is not a list of addresses"),
        ("null", "it is not a list of addresses"),
        ("7", "it is not a list of addresses"),
        (
            r#"[{"email":"a@x","primary":true,"verified":true},{"email":"b@x","primary":true,"verified":true}]"#,
            "several addresses are primary",
        ),
        (
            r#"[{"email":"a@x","email":"b@x","primary":true,"verified":true}]"#,
            "it is not a list of addresses",
        ),
    ] {
        test.github
            .on_path(GitHub::ADDRESSES, Reply::text("application/json", body));
        assert_eq!(
            test.failure().await,
            (
                502,
                format!("the provider's e-mail API sent an invalid response: {expected}")
            ),
            "{body}"
        );
    }
}

/// The scope was not granted (404), or the GitHub App lacks the permission (403).
#[rocket::async_test]
async fn without_access_to_the_addresses_there_is_no_email() {
    let test = Test::new().await;
    for reply in [
        message(404, "Not Found"),
        message(403, "Resource not accessible by integration"),
    ] {
        test.github.on_path(GitHub::ADDRESSES, reply);
        let log = Log::listen();
        let claims = test.claims().await;
        assert_eq!(claims.get("email"), None);
        assert_eq!(claims.get("email_verified"), None);
        log.has("WARN: the app may not read the user's e-mail addresses at GitHub; the user has no `email`");
    }
    let test = Test::new().await.with("oidc.scopes", "read:user");
    assert_eq!(test.claims().await.get("email"), None);
    assert_eq!(test.github.requests_to(GitHub::ADDRESSES).len(), 0);
}

#[rocket::async_test]
async fn the_id_is_a_positive_integer() {
    let test = Test::new().await;
    let expected = |actual: &str| {
        let cause = format!("`id` is {actual}, expected a positive integer");
        (
            502,
            format!("the provider's user API sent an invalid response: {cause}"),
        )
    };
    for (id, actual) in [
        ("\"583231\"", "a string"),
        ("583231.0", "a number"),
        ("5.8e5", "a number"),
        ("0", "a number"),
        ("-1", "a number"),
        ("18446744073709551616", "a number"),
        ("true", "a boolean"),
        ("[1]", "an array"),
        ("null", "missing"),
        ("1,\"id\":2", "present twice, with different values"),
    ] {
        let body = format!("{{\"login\":\"x\",\"id\":{id}}}");
        test.github.on_path(GitHub::USER, Reply::text("application/json", body));
        assert_eq!(test.failure().await, expected(actual), "{id}");
    }
    test.github.on_path(GitHub::USER, Reply::json(json!({"login": "x"})));
    assert_eq!(test.failure().await, expected("missing"));
    for id in ["1", "9007199254740993", "18446744073709551615"] {
        let body = format!("{{\"login\":\"x\",\"id\":{id}}}");
        test.github.on_path(GitHub::USER, Reply::text("application/json", body));
        assert_eq!(test.claims().await["sub"], id);
    }
}

#[rocket::async_test]
async fn an_incomplete_user_is_githubs_error() {
    let test = Test::new().await;
    for (body, expected) in [
        (r#"{"id":1}"#, "`login` is missing, expected a string"),
        (r#"{"id":1,"login":""}"#, "`login` is a string, expected a string"),
        (r#"{"id":1,"login":7}"#, "`login` is a number, expected a string"),
        (
            r#"{"id":1,"login":"x","suspended_at":"2026-01-01T00:00:00Z"}"#,
            "the account is suspended",
        ),
    ] {
        test.github.on_path(GitHub::USER, Reply::text("application/json", body));
        assert_eq!(
            test.failure().await,
            (
                502,
                format!("the provider's user API sent an invalid response: {expected}")
            ),
            "{body}"
        );
    }
    // What is only shown may be anything.
    let body = json!({"id": 1, "login": "x", "name": null, "avatar_url": 7, "html_url": ["a"], "email": "a@x"});
    test.github.on_path(GitHub::USER, Reply::json(body));
    test.github.on_path(GitHub::ADDRESSES, Reply::json(json!([])));
    assert_eq!(test.claims().await, json!({"sub": "1", "preferred_username": "x"}));

    let huge = " ".repeat(2 << 20);
    test.github.on_path(GitHub::USER, Reply::text("application/json", huge));
    let (status, error) = test.failure().await;
    assert_eq!(status, 502);
    assert!(
        error.starts_with("the provider's user API responded with more than "),
        "{error}"
    );
}

#[rocket::async_test]
async fn a_rate_limit_is_an_outage() {
    let test = Test::new().await;
    let reset = (NOW + 90).to_string();
    let far = (NOW + 3600).to_string();
    let past = (NOW - 5).to_string();
    let limited = |status: u16, headers: &[(&str, &str)]| {
        let reply = message(status, "API rate limit exceeded for user ID 583231.");
        headers
            .iter()
            .fold(reply, |reply, (name, value)| reply.with_header(name, value))
    };
    let none = ("X-RateLimit-Remaining", "0");
    for path in [GitHub::USER, GitHub::ADDRESSES] {
        let api = if path == GitHub::USER { "user API" } else { "e-mail API" };
        for (reply, seconds) in [
            (limited(403, &[none, ("X-RateLimit-Reset", &reset)]), 90),
            (limited(429, &[none, ("X-RateLimit-Reset", &reset)]), 90),
            (limited(403, &[none, ("X-RateLimit-Reset", &far)]), 300),
            (limited(403, &[none, ("X-RateLimit-Reset", &past)]), 1),
            (limited(403, &[none]), 60),
            (limited(403, &[("Retry-After", "17")]), 17),
            (limited(429, &[]), 60),
            (message(403, "You have exceeded a secondary rate limit."), 60),
        ] {
            test.github.on_path(path, reply);
            let browser = test.open().await;
            let page = test.come_back(&browser).await;
            page.is(Status::ServiceUnavailable);
            assert_eq!(page.header("retry-after"), Some(&*seconds.to_string()));
            assert_eq!(
                test.app.failures().pop().unwrap(),
                format!("the rate limit of the provider's {api} is exceeded; the next attempt is due in {seconds} s")
            );
        }
        test.github.honest(path);
    }
    for (reply, expected) in [
        (
            message(403, "Sorry. Your account was suspended."),
            (502, "responded with status 403"),
        ),
        (message(404, "Not Found"), (502, "responded with status 404")),
        (message(500, "Server Error"), (503, "responded with status 500")),
        (
            Reply::redirect("https://elsewhere.example/").with_status(301),
            (502, "responded with status 301"),
        ),
        (
            message(401, "Bad credentials"),
            (
                502,
                "sent an invalid response: the provider's user API does not accept the access token",
            ),
        ),
    ] {
        test.github.on_path(GitHub::USER, reply);
        let (status, cause) = expected;
        assert_eq!(
            test.failure().await,
            (status, format!("the provider's user API {cause}"))
        );
    }
}

#[rocket::async_test]
async fn the_access_token_goes_to_the_api_alone() {
    let test = Test::new().await;
    let foreign = ForeignHost::like(&test.provider).await;
    for status in ForeignHost::REDIRECTS {
        for path in [GitHub::USER, GitHub::ADDRESSES] {
            test.github.on_path(path, foreign.redirect(status, path));
            let browser = test.open().await;
            test.come_back(&browser).await.is(Status::BadGateway);
            test.github.honest(path);
        }
    }
    foreign.was_asked_nothing();
    for request in test.github.requests() {
        if request.bearer().is_some() {
            assert!(
                [GitHub::USER, GitHub::ADDRESSES].contains(&&*request.path),
                "{request:#?}"
            );
        }
    }
}
