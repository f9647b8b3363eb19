//! It adds to `sign_in`: metrics for Prometheus, rendered by a route of the app's own at `/metrics`, of sign-ins, refreshes
//! and requests with access tokens. `docs/prometheus` has a dashboard and alerts for them.
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
    Build, Rocket, State, get,
    http::Status,
    launch,
    response::content::{RawHtml, RawText},
    routes,
};
use rocket_openidconnect::{Bearer, LoggedIn, Oidc, OptionalUser, RelyingParty};

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

/// The user's claims as they are now at the provider.
#[get("/profile/now")]
async fn profile_now(user: LoggedIn) -> Result<String, Status> {
    let user = user.refresh().await.map_err(|_| Status::BadGateway)?;
    Ok(user.subject().to_owned())
}

#[get("/api/profile")]
fn api(token: Bearer) -> String {
    token.subject().unwrap_or_default().to_owned()
}

#[get("/metrics")]
fn metrics(recorder: &State<PrometheusHandle>) -> RawText<String> {
    recorder.run_upkeep();
    RawText(recorder.render())
}

/// Records what this process counts and times, for [`metrics`] to show. The buckets are those that OpenTelemetry advises for
/// the duration of requests.
fn recorder() -> PrometheusHandle {
    const BUCKETS: [f64; 14] = [
        0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    ];
    let requests = Matcher::Full("oidc_client_request_duration_seconds".to_owned());
    PrometheusBuilder::new()
        .set_buckets_for_metric(requests, &BUCKETS)
        .expect("there are buckets")
        .install_recorder()
        .expect("no other recorder is installed")
}

fn app(recorder: PrometheusHandle) -> Rocket<Build> {
    let oidc = Oidc::custom(|mut settings| {
        settings.audience = Some(vec!["https://profile.example.com".into()]);
        settings
    });
    rocket::build()
        .attach(oidc)
        .manage(recorder)
        .mount("/", routes![index, profile_now, profile, api, metrics])
}

#[launch]
fn rocket() -> _ {
    // Before the fairing, which says at liftoff what it counts.
    app(recorder())
}
