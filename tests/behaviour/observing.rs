//! What operators see: events with their reason codes, in their spans.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex},
    thread::{self, ThreadId},
    time::Duration,
};

use rocket::{http::Status, serde::json::json};
use tracing::{field::Field, span};

use crate::{
    bearer::app::Api,
    common::{App, NOW, expect_listeners, locked},
    support::{Reply, TestProvider},
};

/// The events of this crate that have a reason: `spans: reason`, and of a call the endpoint and status.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    names: Vec<&'static str>,
    /// A refresh is a task, which may still be in its span while the request goes on.
    open: HashMap<ThreadId, Vec<u64>>,
    events: Vec<String>,
}

impl Seen {
    fn listen() -> (Seen, tracing::subscriber::DefaultGuard) {
        expect_listeners();
        let seen = Seen::default();
        let guard = tracing::subscriber::set_default(seen.clone());
        (seen, guard)
    }

    /// The events since the last time.
    fn events(&self) -> Vec<String> {
        std::mem::take(&mut locked(&self.0).events)
    }
}

impl tracing::Subscriber for Seen {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        // A span at `info` prints a line in Rocket's own logger.
        metadata.target().starts_with("rocket_openidconnect")
            && (metadata.is_event() || *metadata.level() == tracing::Level::DEBUG)
    }

    fn new_span(&self, span: &span::Attributes<'_>) -> span::Id {
        let mut state = locked(&self.0);
        state.names.push(span.metadata().name());
        span::Id::from_u64(state.names.len() as u64)
    }

    fn enter(&self, id: &span::Id) {
        let mut state = locked(&self.0);
        let open = state.open.entry(thread::current().id()).or_default();
        open.push(id.into_u64());
    }

    fn exit(&self, id: &span::Id) {
        let mut state = locked(&self.0);
        let open = state.open.entry(thread::current().id()).or_default();
        let at = open.iter().rposition(|open| *open == id.into_u64());
        open.remove(at.unwrap());
    }

    fn event(&self, event: &tracing::Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let Some(reason) = fields.reason else { return };
        let mut state = locked(&self.0);
        let open = state.open.get(&thread::current().id());
        let spans = open.into_iter().flatten();
        let spans = spans.map(|id| state.names[*id as usize - 1]);
        let spans = spans.collect::<Vec<_>>().join("/");
        let call = fields.call.join(" ");
        assert_eq!(fields.has_ms, !call.is_empty());
        let line = format!("{spans}: {reason} {call}");
        let at = fields.provider.map(|name| format!(" at {name}"));
        state
            .events
            .push(format!("{}{}", line.trim_end(), at.unwrap_or_default()));
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
}

#[derive(Default)]
struct Fields {
    reason: Option<String>,
    call: Vec<String>,
    has_ms: bool,
    /// Among several.
    provider: Option<String>,
}

impl tracing::field::Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "reason" => self.reason = Some(value.to_owned()),
            "provider" => self.provider = Some(value.to_owned()),
            "endpoint" => self.call.push(value.to_owned()),
            // Of an access token: it names no user.
            "issuer" => {}
            other => panic!("{other} = {value}"),
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "status" => self.call.push(value.to_string()),
            "ms" => self.has_ms = value < 60_000,
            other => panic!("{other} = {value}"),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        assert_eq!(field.name(), "message");
        let _ = value;
    }
}

#[rocket::async_test]
async fn sign_in_refresh_and_logout_are_traced() {
    let (seen, _guard) = Seen::listen();
    let provider = TestProvider::start().await;
    let app = App::new(&provider).with("oidc.session.store", "memory");
    let browser = app.open().await;
    assert_eq!(seen.events(), ["provider_call: answered metadata 200"]);

    browser.sign_in(&provider, "/me").await.is(Status::Ok);
    assert_eq!(
        seen.events(),
        [
            "sign_in/provider_call: answered jwks 200",
            "sign_in: sign_in_begun",
            "sign_in/provider_call: answered token 200",
            "sign_in/provider_call: answered userinfo 200",
            "sign_in: signed_in",
        ]
    );

    app.advance(Duration::from_secs(285));
    browser.visit("/me").await.is(Status::Ok);
    assert_eq!(
        seen.events(),
        ["refresh/provider_call: answered token 200", "refresh: refreshed",]
    );

    provider.on_refresh_response(|reply| *reply = Reply::status(500));
    app.advance(Duration::from_secs(285));
    browser.visit("/me").await.is(Status::Ok);
    assert_eq!(
        seen.events(),
        ["refresh/provider_call: answered token 500", "refresh: provider_status",]
    );

    // What is revoked is revoked beside the request.
    browser.submit("/oidc/logout", "").await.is(Status::SeeOther);
    let mut events = seen.events();
    events.retain(|event| !event.contains("revocation"));
    assert_eq!(events, ["logout: signed_out"]);
}

#[rocket::async_test]
async fn failures_are_traced_with_the_check_that_failed() {
    let (seen, _guard) = Seen::listen();
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = app.open().await;
    // The tokens of a sign-in that fails are revoked beside it, at some time.
    let events = || {
        let mut events = seen.events();
        events.retain(|event| !event.contains("revocation"));
        events
    };

    provider.on_id_token(|token| token.set("exp", 1));
    browser.sign_in(&provider, "/me").await.is(Status::BadGateway);
    assert_eq!(events().last().unwrap(), "sign_in: id_token_expired");
    provider.be_honest();

    let callback = browser.begin_sign_in(&provider, "/me").await;
    let path = callback.error("access_denied").path_and_query();
    browser.arrive_from_provider(&path).await.is(Status::BadRequest);
    assert_eq!(events().last().unwrap(), "sign_in: access_denied");

    browser.sign_in(&provider, "/me").await.is(Status::Ok);
    provider.revoke_refresh_tokens();
    app.advance(Duration::from_secs(285));
    events();
    browser.visit("/me").await.is(Status::SeeOther);
    assert_eq!(
        events(),
        [
            "refresh/provider_call: answered token 400",
            "refresh: invalid_grant",
            "refresh: refresh_refused",
        ]
    );
}

#[rocket::async_test]
async fn logout_by_the_provider_is_traced() {
    let (seen, _guard) = Seen::listen();
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = app.open().await;
    browser.sign_in(&provider, "/me").await.is(Status::Ok);
    seen.events();
    let token = provider.logout_token(|_| ());
    browser.post_logout_token(&token).await.is(Status::Ok);
    browser.post_logout_token(&token).await.is(Status::BadRequest);
    browser.visit("/me").await.is(Status::SeeOther);
    assert_eq!(
        seen.events(),
        [
            "logout: backchannel_logout",
            ": logout_token_replayed",
            ": session_ended",
        ]
    );
}

#[rocket::async_test]
async fn decisions_about_access_tokens_are_traced() {
    // Listens by itself first; from here on, this does.
    let api = Api::with(json!({ "token_validation": "auto" })).await;
    let (seen, _guard) = Seen::listen();
    let token = api.provider.access_token("notes:read", |_| ());
    api.call("/notes", &token).await;
    api.call("/notes", &token).await;
    api.call("/admin", &token).await;
    api.call_with("/notes", &[]).await;
    api.call("/notes", "opaque").await;
    let late = api.provider.access_token("notes:read", |token| token.set("exp", 1));
    api.call("/notes", &late).await;
    assert_eq!(
        seen.events(),
        [
            "bearer/provider_call: answered jwks 200",
            ": accepted",
            ": accepted",
            ": insufficient_scope",
            ": no_token",
            "bearer/provider_call: answered introspection 200",
            ": access_token_inactive",
            ": access_token_expired",
        ]
    );

    api.provider.stop();
    api.call("/notes", "another").await;
    assert_eq!(
        seen.events(),
        [
            "bearer/provider_call: provider_unreachable introspection",
            ": provider_unreachable",
        ]
    );
}

/// In an app with one provider, no line has that field: see the other tests.
#[rocket::async_test]
async fn events_name_the_provider_among_several() {
    let (seen, _guard) = Seen::listen();
    let (one, two) = (TestProvider::start().await, TestProvider::start().await);
    two.set_time(NOW);
    let table =
        |provider: &TestProvider| json!({ "issuer": provider.issuer(), "client_id": "app", "client_secret": "hush" });
    let app = App::new(&one)
        .with_all(json!({ "issuer": null, "client_id": null, "client_secret": null }))
        .with_all(json!({ "providers": { "default": table(&one), "two": table(&two) }, "session.store": "memory" }));
    let browser = app.open().await;
    assert_eq!(seen.events(), [""; 0]);
    browser.sign_in(&two, "/oidc/login/two?next=/me").await.is(Status::Ok);
    assert_eq!(
        seen.events(),
        [
            "sign_in/provider_call: answered metadata 200 at two",
            "sign_in/provider_call: answered jwks 200 at two",
            "sign_in: sign_in_begun at two",
            "sign_in/provider_call: answered token 200 at two",
            "sign_in/provider_call: answered userinfo 200 at two",
            "sign_in: signed_in at two",
        ]
    );

    app.advance(Duration::from_secs(285));
    two.set_time(NOW + 285);
    browser.visit("/me").await.is(Status::Ok);
    assert_eq!(
        seen.events(),
        [
            "refresh/provider_call: answered token 200 at two",
            "refresh: refreshed at two",
        ]
    );
    two.on_refresh_response(|reply| *reply = Reply::status(500));
    app.advance(Duration::from_secs(285));
    browser.visit("/me").await.is(Status::Ok);
    assert_eq!(
        seen.events(),
        [
            "refresh/provider_call: answered token 500 at two",
            "refresh: provider_status at two",
        ]
    );
    browser.submit("/oidc/logout", "").await.is(Status::SeeOther);
    let mut events = seen.events();
    events.retain(|event| !event.contains("revocation"));
    assert_eq!(events, ["logout: signed_out at two"]);

    // A table may have the name that the only provider has in an app without the table.
    let callback = browser.begin_sign_in(&one, "/oidc/login/default").await;
    seen.events();
    let path = callback.error("access_denied").path_and_query();
    browser.arrive_from_provider(&path).await.is(Status::BadRequest);
    assert_eq!(seen.events(), ["sign_in: access_denied at default"]);
}
