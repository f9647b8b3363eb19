//! It adds to `sign_in`: two nodes of one app, which share `secret_key` and sessions in Redis. Whoever is signed in
//! at one is signed in at the other, and signed out at both. `README.md` beside this shows how to start them.

mod pages;
#[cfg(test)]
mod tests;

use rocket::{
    Build, Config, Rocket, State, fairing::AdHoc, get, launch, response::content::RawHtml, routes, serde::Deserialize,
};
use rocket_openidconnect::{Oidc, OptionalUser, Readiness, RelyingParty};

/// Where the nodes are, for links between them.
#[derive(Deserialize)]
#[serde(crate = "rocket::serde")]
struct Nodes {
    #[serde(default)]
    nodes: Vec<String>,
}

/// Which node answers, and whom it knows.
#[get("/")]
async fn index(visitor: OptionalUser, config: &Config, nodes: &State<Nodes>, rp: &RelyingParty) -> RawHtml<String> {
    match visitor.user() {
        Some(user) => {
            // Of all nodes; unknown while Redis is not reachable.
            let sessions = rp.sessions_of(user.subject()).await.ok().flatten();
            let count = sessions.map(|sessions| sessions.len());
            pages::known(config.port, user, count, &nodes.nodes, &rp.logout_url("/"))
        }
        None => pages::unknown(config.port, &nodes.nodes, &rp.login_url("/")),
    }
}

/// For the load balancer: whether this node can serve users.
#[get("/ready")]
fn ready(readiness: Readiness) -> Readiness {
    readiness
}

fn app(rocket: Rocket<Build>) -> Rocket<Build> {
    rocket
        .attach(Oidc::fairing())
        .attach(AdHoc::config::<Nodes>())
        .mount("/", routes![index, ready])
}

#[launch]
fn rocket() -> Rocket<Build> {
    app(rocket::build())
}
