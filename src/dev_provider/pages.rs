//! The development provider's HTML pages.

use std::borrow::Cow;

use rocket::http::RawStr;
use serde_json::{Map, Value};

fn escape(text: &str) -> Cow<'_, str> {
    RawStr::new(text).html_escape()
}

/// One button per user, a form for custom claims, and a button to deny.
pub(super) fn choose_user(label: Option<&str>, request: &str, scope: &str, users: &[Map<String, Value>]) -> String {
    let buttons: String = users
        .iter()
        .map(|user| {
            let text = |claim: &str| user.get(claim).and_then(Value::as_str).filter(|text| !text.is_empty());
            let sub = text("sub").unwrap_or_default();
            let groups = user.get("groups").and_then(Value::as_array).into_iter().flatten();
            let groups: Vec<_> = groups.filter_map(Value::as_str).collect();
            format!(
                "<button class=\"user\" name=\"user\" value=\"{}\"><strong>{}</strong><span>{}</span><span class=\"groups\">{}</span></button>",
                escape(sub),
                escape(text("name").unwrap_or(sub)),
                escape(text("email").unwrap_or_default()),
                escape(&groups.join(" · ")),
            )
        })
        .collect();
    let hidden = format!("<input type=\"hidden\" name=\"request\" value=\"{}\">", escape(request));
    page(
        label,
        "Development sign-in",
        &format!(
            "<h1>Development sign-in</h1><p class=\"quiet\">The app requests <code>{}</code>. Choose a user.</p>\
             <form method=\"post\" action=\"/authorize\">{hidden}{buttons}</form>\
             <details><summary>Another user</summary>\
             <form method=\"post\" action=\"/authorize\">{hidden}\
             <label for=\"claims\">Claims, as JSON with <code>sub</code></label>\
             <textarea id=\"claims\" name=\"claims\" rows=\"6\">{{\n  &quot;sub&quot;: &quot;carol&quot;,\n  &quot;name&quot;: &quot;Carol&quot;,\n  &quot;groups&quot;: []\n}}</textarea>\
             <button class=\"go\">Sign in with these claims</button></form></details>\
             <form method=\"post\" action=\"/authorize\">{hidden}<button class=\"cancel\" name=\"cancel\" value=\"1\">Cancel</button></form>",
            escape(scope),
        ),
    )
}

/// The form that issues an access token for an API.
pub(super) fn tokens<'a>(
    label: Option<&str>,
    users: &[Map<String, Value>],
    audience: &[String],
    apis: impl Iterator<Item = &'a String>,
) -> String {
    let apis: String = apis.map(|name| format!("<option>{}</option>", escape(name))).collect();
    let apis = if apis.is_empty() {
        apis
    } else {
        format!(
            "<label for=\"api\">API, if another one</label>\
         <select id=\"api\" name=\"api\"><option></option>{apis}</select>"
        )
    };
    let options: String = users
        .iter()
        .filter_map(|user| user.get("sub")?.as_str())
        .map(|sub| format!("<option>{}</option>", escape(sub)))
        .collect();
    page(
        label,
        "Copy a token",
        &format!(
            "<h1>Copy a token</h1><p class=\"quiet\">An access token for <code>{}</code>.</p>\
             <form method=\"post\" action=\"/tokens\"><label for=\"user\">User</label>\
             <select id=\"user\" name=\"user\">{options}</select>{apis}\
             <label for=\"scope\">Scopes, separated by spaces</label>\
             <input id=\"scope\" name=\"scope\" placeholder=\"notes:read notes:write\" autofocus>\
             <button class=\"go\">Create a token</button></form>",
            escape(&audience.join(", ")),
        ),
    )
}

/// The issued token, and how to use it.
pub(super) fn token(label: Option<&str>, user: &str, scope: &str, token: &str, base_url: &str) -> String {
    page(
        label,
        "Copy a token",
        &format!(
            "<h1>A token for {}</h1><p class=\"quiet\">With the scopes <code>{}</code>. Valid for five minutes.</p>\
             <label for=\"token\">Token</label>\
             <textarea id=\"token\" readonly autofocus rows=\"8\">{}</textarea>\
             <label for=\"curl\">Example request</label>\
             <textarea id=\"curl\" readonly rows=\"5\">curl -i {} -H &#x27;Authorization: Bearer {}&#x27;</textarea>\
             <p><a href=\"/tokens\">Create another token</a></p>",
            escape(user),
            escape(scope),
            escape(token),
            escape(base_url),
            escape(token),
        ),
    )
}

pub(super) fn message(label: Option<&str>, title: &str, text: &str) -> String {
    page(
        label,
        title,
        &format!("<h1>{}</h1><p>{}</p>", escape(title), escape(text)),
    )
}

/// `label` is the name for people of one of several development providers.
fn page(label: Option<&str>, title: &str, body: &str) -> String {
    let label = label.map(|label| format!(" <strong>{}</strong>", escape(label)));
    let label = label.unwrap_or_default();
    format!(
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{}</title><style>{STYLE}</style></head><body>\
         <header class=\"banner\">Development provider{label}: anyone can sign in as anyone</header><main>{body}</main></body></html>",
        escape(title)
    )
}

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1f2328; --soft: #68707c; --paper: #fff; --ground: #f3f1ea;
  --line: #e3dfd3; --accent: #8a4b08; --on-accent: #fff }
@media (prefers-color-scheme: dark) { :root { --ink: #ece8df; --soft: #a39d90; --paper: #24221d;
  --ground: #191814; --line: #3a372f; --accent: #e0a458; --on-accent: #191814 } }
* { box-sizing: border-box } body { margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif }
.banner { margin: 0; padding: .55rem 1rem; text-align: center; background: var(--accent);
  color: var(--on-accent); font-size: .9rem; font-weight: 600 }
main { width: min(27rem, 100% - 2rem); margin: 3rem auto; padding: 2rem; background: var(--paper);
  border: 1px solid var(--line); border-radius: 14px }
h1 { margin: 0 0 .25rem; font-size: 1.4rem } .quiet { margin: 0 0 1.25rem; color: var(--soft) }
button { font: inherit; color: inherit; cursor: pointer; border-radius: 10px }
.user { display: grid; gap: .1rem; width: 100%; margin: 0 0 .6rem; padding: .8rem 1rem; text-align: left;
  background: none; border: 1px solid var(--line) } .user:hover, .user:focus { border-color: var(--accent) }
.user span { color: var(--soft); font-size: .9rem } .user .groups { font-size: .8rem }
details { margin: 1rem 0 } summary { cursor: pointer; color: var(--accent) }
label { display: block; margin: .75rem 0 .25rem; font-size: .9rem }
textarea { font: .85rem/1.4 ui-monospace, monospace; overflow-wrap: anywhere }
textarea, input:not([type=hidden]), select { width: 100%; padding: .6rem; color: inherit;
  background: var(--paper); border: 1px solid var(--line); border-radius: 10px }
input, select { font: inherit } a { color: var(--accent) }
.go { margin-top: .5rem; padding: .6rem 1rem; border: 0; background: var(--accent); color: var(--on-accent) }
.cancel { padding: 0; border: 0; background: none; color: var(--soft); text-decoration: underline }
";
