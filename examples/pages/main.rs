//! Pages of the sign-in in the languages of the app. It adds to `sign_in`: `Pages`, here German beside the built-in
//! English, as the browser asks for by `Accept-Language`.

mod german;
#[cfg(test)]
mod tests;

use rocket::{Build, Rocket, get, http::RawStr, launch, response::content::RawHtml, routes};
use rocket_openidconnect::{LoggedIn, Oidc, OptionalUser, RelyingParty};

#[get("/")]
fn index(visitor: OptionalUser, rp: &RelyingParty) -> RawHtml<String> {
    RawHtml(match visitor.user() {
        Some(_) => format!(
            "<!DOCTYPE html><title>Pages</title><a href=\"{}\">Sign out</a>",
            rp.logout_url("/")
        ),
        None => format!(
            "<!DOCTYPE html><title>Pages</title><a href=\"{}\">Sign in</a>",
            rp.login_url("/profile")
        ),
    })
}

#[get("/profile")]
fn profile(user: LoggedIn) -> RawHtml<String> {
    let name = RawStr::new(user.name().unwrap_or(user.subject()));
    RawHtml(format!(
        "<!DOCTYPE html><title>Pages</title>Hello {}",
        name.html_escape()
    ))
}

#[launch]
fn rocket() -> Rocket<Build> {
    rocket::build()
        .attach(Oidc::fairing().pages(german::InTheirLanguage))
        .mount("/", routes![index, profile])
}
