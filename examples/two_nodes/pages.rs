//! The pages of the example, in plain HTML.

use rocket::{http::RawStr, response::content::RawHtml};
use rocket_openidconnect::User;

/// For somebody who is signed in.
pub fn known(port: u16, user: &User, sessions: Option<usize>, nodes: &[String], logout_url: &str) -> RawHtml<String> {
    let sessions = match sessions {
        Some(1) => "You have one session, at all nodes.".to_owned(),
        Some(count) => format!("You have {count} sessions, at all nodes."),
        None => "Nobody knows how many sessions you have.".to_owned(),
    };
    page(
        port,
        nodes,
        &format!(
            "<h1 id=\"who\">Hello, {}</h1><p>{sessions}</p>\
             <form method=\"post\" action=\"{}\"><button class=\"button plain\" id=\"sign-out\">Sign out</button></form>",
            escape(user.name().unwrap_or(user.subject())),
            escape(logout_url),
        ),
    )
}

/// For somebody who is signed out.
pub fn unknown(port: u16, nodes: &[String], login_url: &str) -> RawHtml<String> {
    page(
        port,
        nodes,
        &format!(
            "<h1 id=\"who\">Hello, stranger</h1><p>Sign in here, and the other node knows you too.</p>\
             <p><a class=\"button\" id=\"sign-in\" href=\"{}\">Sign in</a></p>",
            escape(login_url),
        ),
    )
}

fn escape(text: &str) -> String {
    RawStr::new(text).html_escape().into_owned()
}

fn page(port: u16, nodes: &[String], body: &str) -> RawHtml<String> {
    let links: String = nodes
        .iter()
        .map(|node| format!("<li><a href=\"{0}/\">{0}</a></li>", escape(node)))
        .collect();
    RawHtml(format!(
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>Node {port}</title><style>{}</style></head><body><main>\
         <p class=\"notice\" id=\"node\">Node {port} answers.</p>{body}\
         <h2>All nodes</h2><ul class=\"list\">{links}</ul></main></body></html>",
        include_str!("../style.css")
    ))
}
