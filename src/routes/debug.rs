//! `GET {mount}/debug`: the developer page, for the debug profile and requests from this machine only.

use std::borrow::Cow;

use rocket::{Request, http::Status, route::Outcome};
use serde_json::{Map, Value, json};
use time::{OffsetDateTime, macros::format_description};

use super::{RouteContext, html};
use crate::{
    guard::current_session,
    pages::debug,
    printable::printable,
    provider::{Metadata, Provider},
    relying_party::{Refusals, RejectedRequest},
    session::CurrentSession,
    settings::{ProviderKind, SessionSettings, is_loopback},
};

/// Headers that a proxy adds: the client may then be another machine.
const PROXY_HEADERS: [&str; 4] = ["Forwarded", "X-Forwarded-For", "X-Real-IP", "Via"];

/// Whether the request comes over loopback, to a loopback host name: another name may be an attacker's that resolves
/// to this address (DNS rebinding).
fn is_from_this_machine(request: &Request<'_>) -> bool {
    let host = request.host().map(|host| format!("http://{host}/"));
    let host = host.and_then(|host| url::Url::parse(&host).ok());
    let is_debug = request.rocket().config().profile == rocket::Config::DEBUG_PROFILE;
    let remote = request.remote().map(|remote| remote.ip().to_canonical());
    is_debug
        && remote.is_some_and(|address| address.is_loopback())
        && host.is_some_and(|host| is_loopback(&host))
        && !PROXY_HEADERS.iter().any(|name| request.headers().contains(name))
}

impl<'r> RouteContext<'r, '_> {
    pub(super) async fn debug(&self) -> Outcome<'r> {
        if is_from_this_machine(self.request) {
            Outcome::Success(html(Status::Ok, self.debug_page().await))
        } else {
            Outcome::Error(Status::NotFound)
        }
    }

    async fn debug_page(&self) -> String {
        let session = match current_session(self.request).await {
            Ok(session) => {
                let mut shown = session_json(session, &self.rp.settings.session);
                if self.rp.events.has_several_providers {
                    shown["provider"] = json!(&*session.provider);
                }
                format!("{shown:#}")
            }
            Err(reason) => format!("{reason} ({})", reason.reason()),
        };
        let mut sections = vec![(Cow::Borrowed("Session"), session)];
        if let Some(client) = self.rp.client() {
            let provider = client.provider;
            let metadata = match provider.metadata(self.now).await {
                Ok(metadata) => metadata_text(&metadata),
                Err(error) => format!("{error}\n{}", error.remedy()),
            };
            let kind = provider.registration.kind();
            sections.extend([
                ("Provider".into(), kind.describe().to_owned()),
                ("Provider's metadata".into(), metadata),
            ]);
            if kind == ProviderKind::OpenIdConnect {
                sections.push(("Provider's keys".into(), keys(provider)));
            }
        }
        // Of several providers, no one is asked for this page.
        let several = self.rp.providers().into_iter().flat_map(|it| &it.of_settings);
        for (name, client) in several.filter_map(|rp| Some((rp.provider_name(), rp.client()?))) {
            let provider = client.provider;
            let Some(metadata) = provider.cached_metadata() else {
                let text = "not read yet: it is read at the first sign-in or token".to_owned();
                sections.push((format!("Metadata of {name}").into(), text));
                continue;
            };
            let metadata = metadata_text(&metadata);
            sections.extend([
                (format!("Metadata of {name}").into(), metadata),
                (format!("Keys of {name}").into(), keys(provider)),
            ]);
        }
        let rejected = self.rp.rejected_requests.list();
        if !rejected.is_empty() {
            let rejected = rejected.iter().map(rejected_text).collect::<Vec<_>>().join("\n\n");
            sections.push(("Requests of other origins, rejected with 403".into(), rejected));
        }
        sections.push(("Settings".into(), format!("{:#?}", self.rp.settings)));
        let refusals = self.rp.attempts.refusals().map(Refusals::list).unwrap_or_default();
        debug::page(&self.rp.attempts.list(), &refusals, &sections)
    }
}

fn metadata_text(metadata: &Metadata) -> String {
    let mut metadata = json!(metadata);
    if let Some(members) = metadata.as_object_mut() {
        members.retain(|_, value| !value.is_null());
    }
    format!("{metadata:#}")
}

/// A request that a page of another origin sent, with the remedy.
fn rejected_text(rejected: &RejectedRequest) -> String {
    let RejectedRequest {
        at,
        request,
        site,
        origin,
        cause,
        remedy,
    } = rejected;
    let (at, request) = (date(at.unix_timestamp()), printable(request));
    let (site, origin) = (printable(site), printable(origin));
    format!("{at} {request}\nSec-Fetch-Site: {site}\nOrigin: {origin}\n{cause}\nRemedy: {remedy}.")
}

/// The claims and times of a session, without tokens.
fn session_json(session: &CurrentSession, settings: &SessionSettings) -> Value {
    let started = session.started();
    let tokens = session.tokens();
    json!({
        "kind": session.kind,
        "issuer": &*session.issuer,
        "claims": session.claims.as_map(),
        "data": session.data,
        "started": date(started.unix_timestamp()),
        "seen": date(session.seen()),
        "idle until": date(session.seen().saturating_add_unsigned(settings.idle_timeout.as_secs())),
        "ends": date(started.unix_timestamp().saturating_add_unsigned(settings.absolute_timeout.as_secs())),
        "access token ends": tokens.and_then(|tokens| tokens.access_token_expires_at).map(date),
        "refresh due": session.refresh_due.map(date),
        "refreshed": session.generation - 1,
    })
}

fn date(seconds: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC");
    time.format(format).unwrap_or_default()
}

/// `kid`, `kty`, `alg` and `use` of each key, and why a key is not used.
fn keys(provider: &Provider) -> String {
    let Some((document, skipped, at)) = provider.fetched_keys() else {
        return "not fetched yet: they are fetched when the first token is verified".to_owned();
    };
    let keys = document["keys"].as_array().into_iter().flatten();
    let keys = keys.enumerate().map(|(index, key)| {
        let member = |name: &str| (name.to_owned(), key[name].clone());
        let mut row = Map::from_iter(["kid", "kty", "alg", "use"].map(member));
        if let Some((_, reason)) = skipped.iter().find(|(skipped, _)| *skipped == index) {
            row.insert("not used".to_owned(), reason.clone().into());
        }
        Value::Object(row).to_string()
    });
    let keys = keys.collect::<Vec<_>>().join("\n");
    format!("fetched {}\n{keys}", date(at.unix_timestamp()))
}
