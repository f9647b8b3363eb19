//! The pages of the example, in plain HTML.

use rocket::{http::RawStr, response::content::RawHtml};
use rocket_openidconnect::{SessionInfo, User};

/// For a visitor who is signed out.
pub fn welcome(login_url: &str) -> RawHtml<String> {
    page(&format!(
        "<h1>Where are you signed in?</h1><p>Sign in with two browsers, and look.</p>\
         <p><a class=\"button\" id=\"sign-in\" href=\"{}\">Sign in</a></p>",
        escape(login_url)
    ))
}

/// For a visitor who is signed in.
pub fn welcome_back(user: &User, logout_url: &str) -> RawHtml<String> {
    page(&format!(
        "<h1>Hello, {}</h1><p><a class=\"button\" href=\"/sessions\">Your sessions</a></p>{}",
        escape(user.name().unwrap_or(user.subject())),
        button(logout_url, "Sign out")
    ))
}

/// The sessions of a person, that of this browser first.
pub fn sessions(user: &User, sessions: &[SessionInfo], logout_url: &str) -> RawHtml<String> {
    let (own, others): (Vec<_>, Vec<_>) = sessions.iter().partition(|session| session.id == user.session_id());
    let own: String = own
        .into_iter()
        .map(|session| {
            let name = escape(&session.data::<String>("name").unwrap_or_default());
            format!(
                "<li><div>{}<p class=\"quiet\">This browser</p></div>{}</li>\
                 <li><form method=\"post\" action=\"/sessions/name\"><label for=\"name\">A name for this browser</label>\
                 <div class=\"row\"><input id=\"name\" name=\"name\" value=\"{name}\" maxlength=\"40\">\
                 <button class=\"button plain\">Keep</button></div></form></li>",
                description(session),
                button(logout_url, "Sign out")
            )
        })
        .collect();
    let end_all = if others.is_empty() {
        "<p>You are signed in nowhere else.</p>".to_owned()
    } else {
        button("/sessions/end-others", "End all other sessions")
    };
    let others: String = others
        .into_iter()
        .map(|session| {
            let path = format!("/sessions/{}/end", session.id);
            format!("<li><div>{}</div>{}</li>", description(session), button(&path, "End"))
        })
        .collect();
    page(&format!(
        "<h1>Your sessions</h1><ul class=\"list\">{own}{others}</ul>{end_all}<p><a href=\"/\">Start page</a></p>"
    ))
}

/// Where and when. The browser chose its own description.
fn description(session: &SessionInfo) -> String {
    let text = |name| session.data::<String>(name);
    let browser = text("name").or_else(|| text("user_agent")).unwrap_or_default();
    format!(
        "<strong>{}</strong><p class=\"quiet\">{} · signed in {} · last used {}</p>",
        escape(&browser),
        escape(&text("address").unwrap_or_else(|| "an unknown address".into())),
        time(session.started),
        time(session.last_seen),
    )
}

fn time(time: time::OffsetDateTime) -> String {
    let (date, clock) = (time.date(), time.time());
    format!("{date}, {:02}:{:02} UTC", clock.hour(), clock.minute())
}

fn button(action: &str, text: &str) -> String {
    format!(
        "<form method=\"post\" action=\"{}\"><button class=\"button plain\">{text}</button></form>",
        escape(action)
    )
}

fn escape(text: &str) -> String {
    RawStr::new(text).html_escape().into_owned()
}

fn page(body: &str) -> RawHtml<String> {
    RawHtml(format!(
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>Your sessions</title><style>{}</style></head><body><main>{body}</main></body></html>",
        include_str!("../style.css")
    ))
}
