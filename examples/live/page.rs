//! The page: what comes by the socket and by the stream, and how each closed.

use rocket::response::content::RawHtml;
use rocket_openidconnect::User;

pub fn signed_out(login_url: &str) -> RawHtml<String> {
    page(&format!(
        "<p>Sign in, and open this page in two tabs.</p><p><a class=\"button\" id=\"sign-in\" href=\"{login_url}\">Sign in</a></p>"
    ))
}

pub fn live(user: &User, logout_url: &str) -> RawHtml<String> {
    let name = escaped(user.name().unwrap_or(user.subject()));
    page(&format!(
        "<p>Hello, {name}</p>\
         <table><tr><th>WebSocket</th><td id=\"socket\">connects</td></tr>\
         <tr><th>Events</th><td id=\"events\">connects</td></tr></table>\
         <form method=\"post\" action=\"{logout_url}\"><button class=\"button plain\" id=\"sign-out\">Sign out</button></form>\
         <script>{}</script>",
        include_str!("page.js")
    ))
}

fn page(body: &str) -> RawHtml<String> {
    RawHtml(format!(
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>Live</title>\
         <style>{}</style></head><body><main><h1>Live</h1>{body}</main></body></html>",
        include_str!("../style.css")
    ))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
