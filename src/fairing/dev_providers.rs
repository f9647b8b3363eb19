//! Starts the development providers of the settings, each on its own loopback listener.

use super::LaunchError;
use crate::{
    clock::Clock,
    dev_provider::{CLIENT_ID, DevClient, DevProvider},
    secret::Secret,
    settings::{DevProviderSettings, ResourceParameter, RocketConfig, Settings, SettingsError, TokenExchange},
};

/// Starts the development provider if the settings enable it, or each one in the table `providers`, and fills in the
/// client's registration at it.
pub(crate) async fn start_dev_providers(
    settings: &mut Settings,
    rocket_config: &RocketConfig,
    clock: &Clock,
) -> Result<Vec<DevProvider>, LaunchError> {
    let mut started = vec![];
    if let Some(wanted) = settings.dev_provider_to_start(rocket_config)?.cloned() {
        started.push(start(settings, &wanted, rocket_config, clock).await?);
    }
    settings.separate_dev_provider_ports();
    let of_providers = settings.of_providers();
    let wanted = of_providers.iter().map(|own| own.dev_provider_to_start(rocket_config));
    let wanted: Vec<_> = wanted.collect();
    let mistakes = wanted.iter().filter_map(|wanted| wanted.as_ref().err());
    SettingsError::all(mistakes.flat_map(SettingsError::each))?;
    for (own, wanted) in of_providers.iter().zip(wanted) {
        let Some(wanted) = wanted? else { continue };
        let mut own = own.clone();
        started.push(start(&mut own, wanted, rocket_config, clock).await?);
        if let Some(kept) = settings.providers.get_mut(own.provider_name()) {
            kept.client_id = own.client_id;
            kept.client_secret = own.client_secret;
            kept.client_secret_issuer = None;
            kept.resource_parameter = own.resource_parameter;
            kept.token_exchange = own.token_exchange;
            kept.issuer = own.issuer;
        }
    }
    Ok(started)
}

/// Starts one, for a client with these settings.
async fn start(
    settings: &mut Settings,
    wanted: &DevProviderSettings,
    rocket_config: &RocketConfig,
    clock: &Clock,
) -> Result<DevProvider, LaunchError> {
    let site = settings.site(rocket_config)?;
    // Use the credentials in the settings, so that another process can be the same client.
    let client_id = settings.client_id.take();
    let client_id = client_id.unwrap_or_else(|| CLIENT_ID.to_owned());
    let client_secret = settings.client_secret.take().unwrap_or_else(Secret::random);
    let client = DevClient::new(settings, client_id.clone(), client_secret.clone(), site);
    settings.client_id = Some(client_id);
    settings.client_secret = Some(client_secret);
    settings.client_secret_issuer = None;
    // Whatever the real one has: this one has the standards.
    settings.resource_parameter = ResourceParameter::Resource;
    settings.token_exchange = TokenExchange::Standard;

    let provider = DevProvider::start(wanted, client, clock.clone()).await?;
    settings.issuer = Some(provider.issuer().to_owned());
    Ok(provider)
}
