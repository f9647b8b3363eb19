//! The pages of the example, in plain HTML.

use rocket::{http::RawStr, response::content::RawHtml};
use rocket_openidconnect::User;

/// For somebody who is signed out.
pub fn welcome(login_url: &str) -> RawHtml<String> {
    page(&format!(
        "<h1>Hello, stranger</h1>\
         <p>This app does not know you yet. Sign in at the development provider as Alice or Bob, or as anybody you make up.</p>\
         <p><a class=\"button\" id=\"sign-in\" href=\"{}\">Sign in</a></p>",
        escape(login_url)
    ))
}

/// For somebody who is signed in.
pub fn welcome_back(user: &User, logout_url: &str) -> RawHtml<String> {
    page(&format!(
        "<h1>Hello, {}</h1><p>You are signed in.</p>\
         <p><a class=\"button\" href=\"/profile\">Your profile</a></p>{}",
        escape(user.name().unwrap_or(user.subject())),
        sign_out(logout_url)
    ))
}

/// What the provider says about the person.
pub fn profile(user: &User, logout_url: &str) -> RawHtml<String> {
    let name = user.name().unwrap_or(user.subject());
    let rows: String = user
        .claims()
        .iter()
        .map(|(claim, value)| {
            let value = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            format!(
                "<tr><th>{}</th><td>{}</td></tr>",
                escape(claim),
                escape(&value)
            )
        })
        .collect();
    page(&format!(
        "<p class=\"avatar\">{}</p><h1>{}</h1><p class=\"quiet\">{}</p>\
         <h2>What the provider says</h2><div class=\"scroll\"><table>{rows}</table></div>\
         <p><a href=\"/\">Start page</a></p>{}",
        escape(&name.chars().take(1).collect::<String>()),
        escape(name),
        escape(user.email().unwrap_or_default()),
        sign_out(logout_url)
    ))
}

fn sign_out(logout_url: &str) -> String {
    format!(
        "<form method=\"post\" action=\"{}\"><button class=\"button plain\" id=\"sign-out\">Sign out</button></form>",
        escape(logout_url)
    )
}

fn escape(text: &str) -> String {
    RawStr::new(text).html_escape().into_owned()
}

fn page(body: &str) -> RawHtml<String> {
    RawHtml(format!(
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>Sign in with Rocket</title><style>{STYLE}</style></head><body><main>{body}</main></body></html>"
    ))
}

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1d2433; --soft: #667085; --paper: #fff; --ground: #f4f5f8;
  --line: #e4e7ec; --accent: #3157d5; --on-accent: #fff }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaf0; --soft: #98a2b3; --paper: #1b2030;
  --ground: #12151f; --line: #2c3347; --accent: #7d9bff; --on-accent: #12151f } }
* { box-sizing: border-box }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; background: var(--ground);
  color: var(--ink); font: 16px/1.55 system-ui, sans-serif }
main { background: var(--paper); width: min(36rem, 100% - 2rem); margin: 2rem 1rem; padding: 2.25rem 2.5rem;
  border-radius: 16px; box-shadow: 0 10px 40px #0002 }
h1 { font-size: 1.6rem; margin: 0 0 .5rem } h2 { font-size: 1rem; margin: 1.75rem 0 .5rem }
a { color: var(--accent) } .quiet { color: var(--soft); margin-top: 0 }
.button { display: inline-block; border: 0; border-radius: 9px; padding: .65rem 1.25rem; font: inherit;
  font-weight: 600; background: var(--accent); color: var(--on-accent); text-decoration: none; cursor: pointer }
.plain { background: none; color: var(--ink); border: 1px solid var(--line) }
.avatar { width: 3.5rem; height: 3.5rem; margin: 0 0 1rem; border-radius: 50%; display: grid; place-items: center;
  background: var(--accent); color: var(--on-accent); font-size: 1.5rem; font-weight: 700 }
.scroll { overflow-x: auto } table { border-collapse: collapse; width: 100%; font-size: .9rem }
th, td { text-align: left; padding: .4rem .5rem; border-top: 1px solid var(--line); vertical-align: top;
  overflow-wrap: anywhere } th { color: var(--soft); font-weight: 500; white-space: nowrap }
";
