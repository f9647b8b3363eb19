//! It adds to `sign_in`: metrics for Prometheus, rendered by a route of the app's own at `/metrics`.
//!
//! ```sh
//! cargo run --example metrics --features dev-provider,metrics
//! ```
//!
//! Numbers tell strangers how busy the app is: let a proxy keep `/metrics` inside, or guard it.

#[cfg(test)]
mod tests;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use rocket::{
    Build, Rocket, State, get, launch,
    response::content::{RawHtml, RawText},
    routes,
};
use rocket_openidconnect::{LoggedIn, Oidc, OptionalUser, RelyingParty};

#[get("/")]
fn index(visitor: OptionalUser, rp: &RelyingParty) -> RawHtml<String> {
    let (address, text) = if visitor.logged_in() {
        (rp.logout_url("/"), "Sign out")
    } else {
        (rp.login_url("/profile"), "Sign in")
    };
    RawHtml(format!(
        "<!DOCTYPE html><title>Metrics</title>\
         <p><a href=\"{address}\">{text}</a></p><p><a href=\"/metrics\">Metrics</a></p>"
    ))
}

#[get("/profile")]
fn profile(user: LoggedIn) -> String {
    user.subject().to_owned()
}

#[get("/metrics")]
fn metrics(recorder: &State<PrometheusHandle>) -> RawText<String> {
    recorder.run_upkeep();
    RawText(recorder.render())
}

/// Records what this process counts and times, for [`metrics`] to show.
fn recorder() -> PrometheusHandle {
    let calls = Matcher::Full("oidc_provider_request_duration_seconds".to_owned());
    PrometheusBuilder::new()
        .set_buckets_for_metric(calls, &[0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0])
        .expect("there are buckets")
        .install_recorder()
        .expect("no other recorder is installed")
}

fn app(recorder: PrometheusHandle) -> Rocket<Build> {
    rocket::build()
        .attach(Oidc::fairing())
        .manage(recorder)
        .mount("/", routes![index, profile, metrics])
}

#[launch]
fn rocket() -> _ {
    // Before the fairing, which says at liftoff what it counts.
    app(recorder())
}
