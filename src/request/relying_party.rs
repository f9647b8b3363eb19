//! Which of several relying parties serves a request.

use rocket::Request;

use super::RequestState;
use crate::{
    relying_party::{NoProvider, Providers, RelyingParty},
    resource_server::ResourceServer,
    session::NoSession,
};

/// The relying party that serves a request: that of its provider, in an app whose tenants have one each; otherwise the
/// app's.
pub(crate) async fn relying_party<'r>(
    request: &'r Request<'_>,
    app: &'r RelyingParty,
) -> Result<&'r RelyingParty, NoProvider> {
    match tenants(app) {
        None => Ok(app),
        Some(providers) => Box::pin(tenant(request, app, providers)).await,
    }
}

impl From<NoProvider> for NoSession {
    fn from(none: NoProvider) -> NoSession {
        match none {
            NoProvider::Unknown => NoSession::NoProvider,
            NoProvider::Undecided => NoSession::ProviderUndecided,
        }
    }
}

/// The relying party whose session a request carries.
pub(crate) async fn relying_party_of_session<'r>(
    request: &'r Request<'_>,
    app: &'r RelyingParty,
) -> Result<&'r RelyingParty, NoSession> {
    let here = relying_party(request, app).await?;
    let Some(providers) = here.providers() else {
        return Ok(here);
    };
    let name = here.sessions.provider_in(request.cookies()).ok_or(NoSession::Absent)?;
    let of_session = &RequestState::of(request).provider;
    if of_session.get().is_none() {
        let client = app.client_address(request);
        let _ = of_session.set(Box::pin(providers.named(name, client)).await);
    }
    match of_session.get() {
        Some(Ok(rp)) => Ok(rp),
        // Without its provider, the session has no keys.
        None | Some(Err(NoProvider::Unknown)) => Err(NoSession::Unreadable),
        Some(Err(NoProvider::Undecided)) => Err(NoSession::ProviderUndecided),
    }
}

/// The resource server for a request, as [`relying_party`].
pub(crate) async fn resource_server<'r>(request: &'r Request<'_>) -> Result<Option<&'r ResourceServer>, NoProvider> {
    let rocket = request.rocket();
    let app = rocket.state::<ResourceServer>();
    let rp = rocket.state::<RelyingParty>();
    match rp.and_then(|rp| Some((rp, tenants(rp)?))) {
        None => Ok(app),
        Some((rp, providers)) => {
            let here = Box::pin(tenant(request, rp, providers)).await?;
            Ok(here.resource_server.as_deref())
        }
    }
}

/// The providers of an app whose tenants have one each.
fn tenants(app: &RelyingParty) -> Option<&Providers> {
    app.providers()
        .map(|providers| &**providers)
        .filter(|providers| providers.chosen_by.is_some())
}

/// Asks the app once for each request.
async fn tenant<'r>(
    request: &'r Request<'_>,
    app: &RelyingParty,
    providers: &Providers,
) -> Result<&'r RelyingParty, NoProvider> {
    let tenant = &RequestState::of(request).provider;
    if tenant.get().is_none()
        && let Some(by) = &providers.chosen_by
    {
        let chosen = providers.chosen(&**by, request, app.client_address(request)).await;
        let _ = tenant.set(chosen);
    }
    match tenant.get() {
        Some(Ok(rp)) => Ok(rp),
        Some(Err(none)) => Err(*none),
        None => Err(NoProvider::Unknown),
    }
}
