//! The app that is registered at a test provider, and its relying party at each provider.

use std::sync::Arc;

use rocket::{Orbit, Request, Rocket};

use super::{TestProvider, runtime::block_on};
use crate::relying_party::{NoProvider, Providers, RelyingParty};

/// The test provider at which the app is registered.
#[track_caller]
pub(super) fn test_provider(rocket: &Rocket<Orbit>) -> &TestProvider {
    let provider = rocket.state();
    provider.expect("the app is not registered: launch the `Rocket` that `TestProvider::register` returns")
}

/// The relying party of the app, which with several providers has no sign-in of its own.
#[track_caller]
pub(super) fn relying_party(rocket: &Rocket<Orbit>) -> &Arc<RelyingParty> {
    let rp = rocket.state();
    rp.expect("the app has no sign-in: `resource_server_only` is set")
}

/// The relying party at the provider with this name, or the app's at its only provider.
#[track_caller]
pub(super) fn relying_party_at(rocket: &Rocket<Orbit>, name: &str) -> Arc<RelyingParty> {
    let app = relying_party(rocket);
    let Some(providers) = app.providers() else {
        assert!(
            name == app.provider_name(),
            "there is no provider `{name}`: the app has only one, without the table `oidc.providers`"
        );
        return app.clone();
    };
    match block_on(providers.named(name, None)) {
        Ok(rp) => rp,
        Err(NoProvider::Unknown) => panic!("there is no provider `{name}`: {}", names(providers)),
        Err(NoProvider::Undecided) => panic!("the app's `provider_source` failed for the provider `{name}`"),
    }
}

/// The relying party at the only provider, or at the first one that a user can choose.
#[track_caller]
pub(super) fn first_relying_party(rocket: &Rocket<Orbit>) -> Arc<RelyingParty> {
    let app = relying_party(rocket);
    match app.providers() {
        None => app.clone(),
        Some(providers) => {
            let first = providers.of_settings.first().cloned();
            first.expect("the app finds its providers by its `provider_source`: name one, as with `signed_in_at`")
        }
    }
}

/// The relying party that serves a request: that of its tenant, in an app with `provider_for`.
#[track_caller]
pub(super) fn relying_party_of(request: &Request<'_>) -> Arc<RelyingParty> {
    let providers = relying_party(request.rocket()).providers();
    let Some((providers, by)) = providers.and_then(|it| Some((it, it.chosen_by.as_ref()?))) else {
        return first_relying_party(request.rocket());
    };
    match block_on(providers.chosen(&**by, request, None)) {
        Ok(rp) => rp,
        Err(_) => panic!(
            "the app's `provider_for` chooses none of its providers for this request: {}. Add the headers by which it \
             decides, such as `Host`, first; or name a provider, as with `signed_in_at`",
            names(providers)
        ),
    }
}

/// The names of the providers, for a panic.
fn names(providers: &Providers) -> String {
    let names = providers
        .of_settings
        .iter()
        .map(|rp| format!("`{}`", rp.provider_name()));
    let names = names.collect::<Vec<_>>().join(", ");
    match (&providers.of_source, names.is_empty()) {
        (None, _) => format!("the table `oidc.providers` has {names}"),
        (Some(_), true) => "the app's `provider_source` does not find it".to_owned(),
        (Some(_), false) => format!("the table `oidc.providers` has {names}, and `provider_source` does not find it"),
    }
}
