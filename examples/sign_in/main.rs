//! The smallest app with sign-in: a page for everybody, a page for people who are signed in, and the
//! way out. It runs on the development provider, which the repository's `Rocket.toml` asks for.

mod pages;
#[cfg(test)]
mod tests;

use rocket::{Build, Rocket, fairing::AdHoc, get, launch, response::content::RawHtml, routes};
use rocket_openidconnect::{LoggedIn, Oidc, OptionalUser, RelyingParty};

#[get("/")]
fn index(visitor: OptionalUser, rp: &RelyingParty) -> RawHtml<String> {
    match visitor.user() {
        Some(user) => pages::welcome_back(user, &rp.logout_url("/")),
        None => pages::welcome(&rp.login_url("/profile")),
    }
}

#[get("/profile")]
fn profile(user: LoggedIn, rp: &RelyingParty) -> RawHtml<String> {
    pages::profile(&user, &rp.logout_url("/"))
}

#[launch]
fn rocket() -> Rocket<Build> {
    rocket::build()
        .attach(Oidc::fairing())
        .attach(AdHoc::on_liftoff("Address", |rocket| {
            Box::pin(async {
                let port = rocket.config().port;
                println!("\n   Open http://localhost:{port} and sign in.\n");
            })
        }))
        .mount("/", routes![index, profile])
}
