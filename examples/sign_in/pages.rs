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
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            format!("<tr><th>{}</th><td>{}</td></tr>", escape(claim), escape(&value))
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
         <title>Sign in with Rocket</title><style>{}</style></head><body><main>{body}</main></body></html>",
        include_str!("../style.css")
    ))
}
