//! Several providers in one app, each with a relying party of its own: its own keys, settings and sessions.

use std::{error::Error, fmt, net::IpAddr, sync::Arc};

use rocket::Request;

use super::{
    RelyingParty,
    provider_source::{NoProvider, SourcedProviders},
};
use crate::token::LogoutToken;

/// Decides which provider a request belongs to, in an app whose tenants have a provider each: see
/// [`Oidc::provider_for`](crate::Oidc::provider_for). A function from a request to a name is one, too.
///
/// ```
/// use rocket::Request;
/// use rocket_openidconnect::{Oidc, ProviderFor};
///
/// struct Domains;
///
/// #[rocket::async_trait]
/// impl ProviderFor for Domains {
///     async fn provider_for(
///         &self,
///         request: &Request<'_>,
///     ) -> Result<Option<String>, Box<dyn std::error::Error + Send + Sync>> {
///         let host = request.host().map(|host| host.domain().as_str().to_owned());
///         Ok(match host { Some(host) => tenant_of(&host).await?, None => None })
///     }
/// }
///
/// let fairing = Oidc::fairing().provider_for(Domains);
/// # async fn tenant_of(_: &str) -> Result<Option<String>, std::io::Error> { Ok(None) }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not choose the provider of a request",
    label = "expected a type that implements `ProviderFor`",
    note = "implement it, with `#[rocket::async_trait]` above the `impl`, or pass a function of the request that returns a name"
)]
#[rocket::async_trait]
pub trait ProviderFor: Send + Sync + 'static {
    /// The name of the provider whose users may use the app in this request.
    ///
    /// `Ok(None)` means that the request has no user: guards respond with 401, routes with 404.
    ///
    /// # Errors
    ///
    /// An error means that it cannot be decided now: guards and routes respond with 503.
    async fn provider_for(&self, request: &Request<'_>) -> Result<Option<String>, Box<dyn Error + Send + Sync>>;
}

#[rocket::async_trait]
impl<F> ProviderFor for F
where
    F: Fn(&Request<'_>) -> Option<String> + Send + Sync + 'static,
{
    async fn provider_for(&self, request: &Request<'_>) -> Result<Option<String>, Box<dyn Error + Send + Sync>> {
        Ok(self(request))
    }
}

/// The providers of an app that has several.
#[derive(Default)]
pub(crate) struct Providers {
    /// Those of the settings, in the order in which a user chooses.
    pub(crate) of_settings: Vec<Arc<RelyingParty>>,
    /// Those that the app finds at run time.
    pub(crate) of_source: Option<SourcedProviders>,
    /// Decides for each request, in an app whose tenants have a provider each.
    pub(crate) chosen_by: Option<Arc<dyn ProviderFor>>,
}

impl Providers {
    /// Whether there may be more than one.
    pub(crate) fn are_several(&self) -> bool {
        self.of_settings.len() > 1 || self.of_source.is_some()
    }

    /// The relying party of the provider with this name in the settings.
    pub(crate) fn in_settings(&self, name: &str) -> Option<&Arc<RelyingParty>> {
        self.of_settings.iter().find(|rp| rp.provider_name() == name)
    }

    /// The relying party of the provider with this name. `client` is the address of the client whose request names it,
    /// which limits the lookups of names that the app's source does not know.
    pub(crate) async fn named(&self, name: &str, client: Option<IpAddr>) -> Result<Arc<RelyingParty>, NoProvider> {
        match (self.in_settings(name), &self.of_source) {
            (Some(rp), _) => Ok(rp.clone()),
            (None, Some(source)) => source.named(name, client).await,
            (None, None) => Err(NoProvider::Unknown),
        }
    }

    /// The relying parties in the settings whose provider has this issuer.
    pub(crate) fn of_issuer(&self, issuer: &str) -> impl Iterator<Item = &Arc<RelyingParty>> {
        self.of_settings.iter().filter(move |rp| rp.is_of_issuer(issuer))
    }

    /// The relying party for which a logout token claims to be. The claim is not verified.
    pub(crate) fn of_logout_token(&self, token: &str) -> Option<&Arc<RelyingParty>> {
        let (issuer, audience) = LogoutToken::unverified_parties(token)?;
        let is_for = |rp: &&Arc<RelyingParty>| {
            let client = rp.client();
            client.is_some_and(|client| audience.contains(&client.provider.registration.client_id))
        };
        self.of_issuer(&issuer).find(is_for)
    }

    /// The relying party for a request, in an app whose tenants have a provider each.
    pub(crate) async fn chosen(
        &self,
        by: &dyn ProviderFor,
        request: &Request<'_>,
        client: Option<IpAddr>,
    ) -> Result<Arc<RelyingParty>, NoProvider> {
        match by.provider_for(request).await {
            Ok(Some(name)) => self.named(&name, client).await,
            Ok(None) => Err(NoProvider::Unknown),
            Err(error) => {
                tracing::error!(reason = "provider_undecided", "`provider_for` failed: {error}");
                Err(NoProvider::Undecided)
            }
        }
    }
}

impl fmt::Debug for Providers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.of_settings.iter().map(|rp| rp.provider_name());
        f.debug_list().entries(names).finish()
    }
}
