//! The pages of the example, in plain HTML.

use rocket::{http::RawStr, response::content::RawHtml};

use super::people::Person;

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
    let list = match is_admin {
        true => "<p><a href=\"/people\">All people</a></p>",
        false => "",
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

fn escape(text: &str) -> String {
    RawStr::new(text).html_escape().into_owned()
}

fn page(body: &str) -> RawHtml<String> {
    RawHtml(format!(
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>People</title><style>{STYLE}</style></head><body><main>{body}</main></body></html>"
    ))
}

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1d2433; --soft: #667085; --paper: #fff; --ground: #f4f5f8;
  --line: #e4e7ec; --accent: #0f766e; --on-accent: #fff }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaf0; --soft: #98a2b3; --paper: #1b2030;
  --ground: #12151f; --line: #2c3347; --accent: #2dd4bf; --on-accent: #12151f } }
* { box-sizing: border-box }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; background: var(--ground);
  color: var(--ink); font: 16px/1.55 system-ui, sans-serif }
main { background: var(--paper); width: min(40rem, 100% - 2rem); margin: 2rem 1rem; padding: 2.25rem 2.5rem;
  border-radius: 16px; box-shadow: 0 10px 40px #0002 }
h1 { font-size: 1.6rem; margin: 0 0 .5rem } a { color: var(--accent) } .quiet { color: var(--soft); margin-top: 0 }
form { margin: 1.25rem 0 } td form { margin: 0 } label { display: block; margin-bottom: .35rem }
.row { display: flex; gap: .5rem } input { flex: 1; min-width: 0; font: inherit; color: inherit; padding: .6rem .75rem;
  background: var(--paper); border: 1px solid var(--line); border-radius: 9px }
.button { display: inline-block; border: 0; border-radius: 9px; padding: .6rem 1.25rem; font: inherit;
  font-weight: 600; background: var(--accent); color: var(--on-accent); text-decoration: none; cursor: pointer }
.plain { background: none; color: var(--ink); border: 1px solid var(--line); padding: .4rem .9rem; font-weight: 500 }
.scroll { overflow-x: auto } table { border-collapse: collapse; width: 100%; margin: 1rem 0 }
th, td { text-align: left; padding: .55rem .5rem; border-top: 1px solid var(--line) } th { color: var(--soft);
  font-weight: 500 }
";
