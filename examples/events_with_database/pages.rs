//! The pages of the example, in plain HTML.

use rocket::{http::RawStr, response::content::RawHtml};

use super::people::{Change, Person};

/// For somebody who is signed out.
pub fn welcome(login_url: &str) -> RawHtml<String> {
    page(&format!(
        "<h1>Do we know you?</h1><p>Whoever signs in is put on a list, once.</p>\
         <p><a class=\"button\" href=\"{}\">Sign in</a></p>",
        escape(login_url)
    ))
}

/// A person's own row.
pub fn me(person: &Person, is_admin: bool, logout_url: &str) -> RawHtml<String> {
    let visits = match person.visits {
        1 => "Your first visit. Welcome!".to_owned(),
        visits => format!("Your visit number {visits}."),
    };
    let list = if is_admin {
        "<p><a href=\"/people\">All people</a> <a href=\"/sessions\">All sessions</a></p>"
    } else {
        ""
    };
    let name = escape(person.display_name());
    page(&format!(
        "<h1>Hello, {name}</h1><p class=\"quiet\">{visits}</p>\
         <form method=\"post\" action=\"/me\"><label for=\"nickname\">What should we call you?</label>\
         <div class=\"row\"><input id=\"nickname\" name=\"nickname\" value=\"{name}\" maxlength=\"40\" required>\
         <button class=\"button\">Keep</button></div></form>{list}\
         <form method=\"post\" action=\"{}\"><button class=\"button plain\">Sign out</button></form>",
        escape(logout_url)
    ))
}

/// The list.
pub fn people(people: &[Person], own: i64) -> RawHtml<String> {
    let rows: String = people
        .iter()
        .map(|person| {
            let action = match (person.is_blocked, person.id == own) {
                (true, _) => "<span class=\"quiet\">blocked</span>".to_owned(),
                (false, true) => "<span class=\"quiet\">you</span>".to_owned(),
                (false, false) => format!(
                    "<form method=\"post\" action=\"/people/{}/block\">\
                     <button class=\"button plain\">Block</button></form>",
                    person.id
                ),
            };
            format!(
                "<tr><td>{}</td><td>{}</td><td>{}</td><td>{action}</td></tr>",
                escape(person.display_name()),
                escape(person.email.as_deref().unwrap_or_default()),
                person.visits,
            )
        })
        .collect();
    page(&format!(
        "<h1>People</h1><div class=\"scroll\"><table><tr><th>Name</th><th>Address</th><th>Visits</th><th></th></tr>\
         {rows}</table></div><p><a href=\"/me\">Back</a></p>"
    ))
}

/// What became of sessions, the latest first.
pub fn sessions(changes: &[Change]) -> RawHtml<String> {
    let rows: String = changes
        .iter()
        .map(|change| {
            format!(
                "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
                escape(&change.at),
                escape(change.subject.as_deref().unwrap_or("?")),
                escape(&change.what),
                escape(&change.reason),
            )
        })
        .collect();
    page(&format!(
        "<h1>Sessions</h1><div class=\"scroll\"><table><tr><th>When</th><th>Who</th><th></th><th>Why</th></tr>\
         {rows}</table></div><p><a href=\"/me\">Back</a></p>"
    ))
}

fn escape(text: &str) -> String {
    RawStr::new(text).html_escape().into_owned()
}

fn page(body: &str) -> RawHtml<String> {
    RawHtml(format!(
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>People</title><style>{}</style></head><body><main>{body}</main></body></html>",
        include_str!("../style.css")
    ))
}
