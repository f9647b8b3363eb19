//! Adds to `sign_in`: a second provider. Users choose where to sign in, and the same `sub` at the other provider is another
//! user. It runs on two development providers.

#[cfg(test)]
mod tests;

use rocket::{
    Build, Request, Rocket,
    figment::{
        Figment,
        providers::{Format, Toml},
    },
    get,
    http::RawStr,
    launch,
    response::content::RawHtml,
    routes,
};
use rocket_openidconnect::{Authorized, LoggedIn, Oidc, OptionalUser, Policy, RelyingParty, User};

/// The page for everybody: a link for each provider, and one to the page on which users choose.
#[get("/")]
fn index(visitor: OptionalUser, rp: &RelyingParty) -> RawHtml<String> {
    if let Some(user) = visitor.user() {
        let text = format!("<p>You signed in at {}.</p>", escape(user.provider()));
        return page(&format!(
            "{text}<a href=/profile>Profile</a> <a href=/admin>Administration</a>"
        ));
    }
    let at = |provider| rp.sign_in_url().provider(provider).next("/profile").to_string();
    page(&format!(
        "<a id=work href=\"{}\">Employees</a> <a id=club href=\"{}\">Members</a> <a id=choose href=\"{}\">Choose</a>",
        escape(&at("work")),
        escape(&at("club")),
        escape(&rp.login_url("/profile")),
    ))
}

/// An app keeps its data about a user under `user.key()`: neither `sub` nor e-mail address is enough.
#[get("/profile")]
fn profile(user: LoggedIn, rp: &RelyingParty) -> RawHtml<String> {
    page(&format!(
        "<h1>{}</h1><p>Provider: <span id=provider>{}</span></p><p>Key: <code id=key>{}</code></p>\
         <form method=post action=\"{}\"><button id=sign-out>Sign out</button></form>",
        escape(user.name().unwrap_or(user.subject())),
        escape(user.provider()),
        escape(&user.key().to_string()),
        escape(&rp.logout_url("/")),
    ))
}

/// Administrators: `groups()` is empty for users of a provider whose settings do not have `trust_groups`.
struct Administrator;

impl Policy for Administrator {
    async fn permits(user: &User, _: &Request<'_>) -> bool {
        user.groups().contains(&"admin")
    }
}

#[get("/admin")]
fn admin(user: Authorized<Administrator>) -> RawHtml<String> {
    page(&format!("<p>{} may do everything.</p>", escape(user.subject())))
}

fn escape(text: &str) -> String {
    RawStr::new(text).html_escape().into_owned()
}

fn page(body: &str) -> RawHtml<String> {
    RawHtml(format!(
        "<!DOCTYPE html><html lang=en><meta charset=utf-8><title>Several providers</title><style>{}</style><main>{body}</main>",
        include_str!("../style.css")
    ))
}

/// Rocket's settings with those of this example.
fn figment() -> Figment {
    rocket::Config::figment().merge(Toml::string(include_str!("Rocket.toml")).nested())
}

fn app(figment: Figment) -> Rocket<Build> {
    rocket::custom(figment)
        .attach(Oidc::fairing())
        .mount("/", routes![index, profile, admin])
}

#[launch]
fn rocket() -> Rocket<Build> {
    app(figment())
}
