//! `GET {mount}/debug`: the developer page, for the debug profile and requests from this machine only.

use std::collections::BTreeSet;

use rocket::{Request, http::Status, route::Outcome};
use serde_json::{Map, Value, json};
use time::{OffsetDateTime, macros::format_description};

use super::{RouteContext, html};
use crate::{
    guard::current_session,
    pages::debug::{self, Section},
    printable::printable,
    provider::{Metadata, Provider},
    relying_party::Entries,
    session::{CurrentSession, NoSession},
    settings::{ProviderKind, SessionSettings, ShownSetting, is_loopback},
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
        let mut sections = vec![];
        let log = self.rp.events.developer_log.entries();
        match current_session(self.request).await {
            Ok(session) => {
                let mut shown = session_json(session, &self.rp.settings.session);
                if self.rp.events.has_several_providers {
                    shown["provider"] = json!(&*session.provider);
                }
                sections.push(Section::text("Session", format!("{shown:#}")));
            }
            Err(reason) => sections.push(Section::text(
                "Why this browser is signed out",
                format!("{reason} ({})\n{}", reason.reason(), advice(*reason)),
            )),
        }
        let own = self.rp.sessions.name_in(self.request.cookies());
        sections.push(ends(&log, own.as_deref()));
        sections.push(matrix(self.request, &log));
        sections.push(tokens(&log));
        sections.push(refusals(&log));
        sections.push(rejected(&log));
        if let Some(client) = self.rp.client() {
            let provider = client.provider;
            let metadata = match provider.metadata(self.now).await {
                Ok(metadata) => metadata_text(&metadata),
                Err(error) => format!("{error}\n{}", error.remedy()),
            };
            let kind = provider.registration.kind();
            sections.extend([
                Section::text("Provider", kind.describe().to_owned()),
                Section::text("Provider's metadata", metadata).closed(),
            ]);
            if kind == ProviderKind::OpenIdConnect {
                sections.push(Section::text("Provider's keys", keys(provider)));
            }
        }
        // Of several providers, no one is asked for this page.
        let several = self.rp.providers().into_iter().flat_map(|it| &it.of_settings);
        for (name, client) in several.filter_map(|rp| Some((rp.provider_name(), rp.client()?))) {
            let provider = client.provider;
            let Some(metadata) = provider.cached_metadata() else {
                let text = "not read yet: it is read at the first sign-in or token".to_owned();
                sections.push(Section::text(format!("Metadata of {name}"), text));
                continue;
            };
            let metadata = metadata_text(&metadata);
            sections.extend([
                Section::text(format!("Metadata of {name}"), metadata).closed(),
                Section::text(format!("Keys of {name}"), keys(provider)),
            ]);
        }
        let (set, left): (Vec<_>, Vec<_>) = self
            .rp
            .settings
            .shown()
            .into_iter()
            .partition(|row| row.origin.is_some());
        let row = |it: ShownSetting| [it.key, it.value, it.origin.unwrap_or_default(), it.default];
        let of_default = |it: ShownSetting| [it.key, it.value];
        sections.extend([
            Section::table(
                "Settings",
                ["setting", "value", "from", "default"],
                set.into_iter().map(row),
                "All settings have their defaults.",
            ),
            Section::table(
                "Settings with their defaults",
                ["setting", "value"],
                left.into_iter().map(of_default),
                "None.",
            )
            .closed(),
        ]);
        debug::page(&self.rp.attempts.list(), &sections)
    }
}

/// What to look at when a request has no session.
fn advice(reason: NoSession) -> &'static str {
    match reason {
        NoSession::Absent => {
            "There was no sign-in with this browser, its session has ended (see below), or the browser did not keep its cookies: \
             another host name than that of `base_url`, or `Secure` cookies over plain http."
        }
        NoSession::Unreadable => {
            "`secret_key`, the issuer or the client changed since the sign-in. Without `secret_key`, it changes at each launch \
             of the debug profile."
        }
        NoSession::Idle => "No request for `session.idle_timeout`.",
        NoSession::LifetimeEnded => {
            "`session.absolute_timeout` after the sign-in, or at the end that the provider set."
        }
        NoSession::Ended => {
            "See the ends of sessions below. After a restart of the app, what is in its memory has ended."
        }
        NoSession::Superseded => "The session was refreshed in another copy of this browser's cookies.",
        NoSession::RefreshRefused => "The provider refused the refresh token: see the log for its error.",
        NoSession::SignInRequired => "The provider asks for a sign-in before it refreshes the session.",
        NoSession::RefreshUnavailable => "The session goes on once the provider responds again.",
        NoSession::UnknownKey => "Give all nodes the same `secret_key` and `previous_secret_keys`.",
        NoSession::CrossOrigin => "A page of another origin sent this request: see the rejected requests below.",
        NoSession::StoreUnavailable => "The session goes on once the store at `session.store_url` responds again.",
        NoSession::NoProvider => "The app's `provider_for` returned no provider for this request.",
        NoSession::ProviderUndecided => "The app's `provider_for` or its provider source failed.",
        NoSession::Disabled => "`enabled = false`: sign in at `{mount}/login` to be the testing profile again.",
    }
}

/// The last ends of sessions; `own` is the name of the session in this browser's cookies.
fn ends(log: &Entries, own: Option<&str>) -> Section<'static> {
    let rows = log.ends.iter().map(|(at, change)| {
        let of_this_browser = change.session_id().is_some() && change.session_id() == own;
        [
            date(at.unix_timestamp()),
            format!(
                "{}{}",
                change.reason(),
                if of_this_browser { ", of this browser" } else { "" }
            ),
            change.sentence().unwrap_or_default().to_owned(),
            printable(change.subject().unwrap_or("not known")),
        ]
    });
    Section::table(
        "Latest ends of sessions",
        ["time", "reason", "what", "user"],
        rows,
        "No session has ended since the app started.",
    )
}

/// The guards and scopes of each route: those that ran, because Rocket does not tell which guards a signature has.
fn matrix(request: &Request<'_>, log: &Entries) -> Section<'static> {
    let mut seen = BTreeSet::new();
    // Those of this crate are known.
    let is_own = |name: &str| name.starts_with("oidc_");
    let routes = request.rocket().routes();
    let routes = routes.filter(|route| !route.name.as_deref().is_some_and(is_own));
    let routes = routes.map(|route| {
        let key = format!("{} {}", route.method, route.uri);
        let guards = log.guards.get(&key).into_iter().flatten();
        let (mut names, mut scopes) = (vec![], vec![]);
        for (guard, of_guard) in guards {
            seen.insert(*guard);
            names.push(short(guard));
            scopes.extend(of_guard.clone());
        }
        let or = |list: Vec<String>, none: &str| match &list[..] {
            [] => none.to_owned(),
            list => list.join(", "),
        };
        let name = route.name.as_deref().unwrap_or("without a name").to_owned();
        [key, name, or(names, "none yet"), or(scopes, "-")]
    });
    let mut rows: Vec<_> = routes.collect();
    // `&RelyingParty` lets every request pass.
    let unseen = log
        .declared
        .iter()
        .filter(|guard| !guard.starts_with('&') && !seen.contains(*guard));
    let unseen = unseen.map(|guard| {
        let route = "a route without a request yet".to_owned();
        [route, "-".to_owned(), short(guard), "-".to_owned()]
    });
    rows.extend(unseen);
    Section::table(
        "Guards and scopes of routes",
        ["route", "handler", "guards that ran", "scopes"],
        rows,
        "There are no routes.",
    )
}

fn tokens(log: &Entries) -> Section<'static> {
    let rows = log.tokens.iter().map(|token| {
        [
            date(token.at.unix_timestamp()),
            token.route.clone(),
            token.outcome.to_owned(),
            token.text.clone(),
        ]
    });
    Section::table(
        "Latest access tokens",
        ["time", "route", "outcome", "client and scopes, or cause"],
        rows,
        "No request with an access token since the app started.",
    )
}

fn refusals(log: &Entries) -> Section<'static> {
    let rows = log.refusals.iter().map(|refusal| {
        let missed = refusal
            .missed
            .iter()
            .map(|(cause, remedy)| format!("{cause}. Remedy: {remedy}."));
        [
            date(refusal.at.unix_timestamp()),
            refusal.path.clone(),
            short(refusal.policy),
            missed.collect::<Vec<_>>().join("\n"),
        ]
    });
    Section::table(
        "Latest refusals by policies",
        ["time", "path", "policy", "claims that it looked for in vain"],
        rows,
        "No policy has refused a user since the app started.",
    )
}

fn rejected(log: &Entries) -> Section<'static> {
    let rows = log.rejected.iter().map(|rejected| {
        [
            date(rejected.at.unix_timestamp()),
            printable(&rejected.request),
            printable(&rejected.site),
            printable(&rejected.origin),
            format!("{}. Remedy: {}.", rejected.cause, rejected.remedy),
        ]
    });
    Section::table(
        "Requests of other origins, rejected with 403",
        ["time", "request", "Sec-Fetch-Site", "Origin", "cause"],
        rows,
        "None since the app started.",
    )
}

/// The name of a type without the paths of its modules.
fn short(name: &str) -> String {
    let mut short = String::new();
    for part in name.split_inclusive(['<', '>', ',', ' ', '(', ')', '&']) {
        let start = part.rfind("::").map_or(0, |at| at + 2);
        short.push_str(&part[start..]);
    }
    short
}

fn metadata_text(metadata: &Metadata) -> String {
    let mut metadata = json!(metadata);
    if let Some(members) = metadata.as_object_mut() {
        members.retain(|_, value| !value.is_null());
    }
    format!("{metadata:#}")
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

#[cfg(test)]
mod tests {
    use super::short;

    #[test]
    fn a_guard_is_shown_by_its_last_names() {
        for (name, expected) in [
            ("a::b::LoggedIn<c::Claims, ()>", "LoggedIn<Claims, ()>"),
            (
                "a::Bearer<app::Read, a::Claims, (a::Fresh<5>, a::Acr<b::Gold>)>",
                "Bearer<Read, Claims, (Fresh<5>, Acr<Gold>)>",
            ),
            ("Plain", "Plain"),
        ] {
            assert_eq!(short(name), expected);
        }
    }
}
