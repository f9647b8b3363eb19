//! The error of a failed launch, for the operator.

use thiserror::Error;

#[cfg(feature = "dev-provider")]
use crate::dev_provider::DevProviderError;
use crate::{
    provider::ProviderError, resource_server::NotConfigured, session::store::StoreError, settings::SettingsError,
};

/// Why the app does not start. This is for the operator.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LaunchError {
    /// A setting is invalid or missing.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The provider responds, and its metadata is not usable.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// Rocket's `secret_key` is invalid.
    #[error("`secret_key` is invalid: {cause}")]
    SecretKey {
        /// What is wrong with it, without the value.
        cause: String,
    },
    /// Rocket's `secret_key` is missing, outside of the debug profile.
    #[error("`secret_key` is missing: outside of the debug profile Rocket does not launch without one")]
    NoSecretKey,
    /// The function given to [`Oidc::try_custom`](crate::Oidc::try_custom) failed.
    #[error("the app's own settings function failed: {cause}")]
    Custom {
        /// Its error.
        cause: String,
    },
    /// [`Oidc::provider_for`](crate::Oidc::provider_for) is set, and there is nothing that it could choose from.
    #[error("`Oidc::provider_for` is set, and there are no `oidc.providers`")]
    NoProviders,
    /// The signer of [`Oidc::client_signer`](crate::Oidc::client_signer) cannot be used.
    #[error("the `ClientSigner`{} cannot be used: {cause}", of_provider(provider.as_deref()))]
    ClientSigner {
        /// The provider that it was given for, among several.
        provider: Option<String>,
        /// Why.
        cause: String,
        /// What to do.
        remedy: String,
    },
    /// The session store cannot be used as configured. A store that is only down does not abort the launch.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The development provider did not start.
    #[error("the development provider did not start: {cause}")]
    DevProvider {
        /// Why.
        cause: String,
        /// What to do.
        remedy: String,
    },
}

impl LaunchError {
    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self {
            LaunchError::Settings(error) => error.remedy().to_string(),
            LaunchError::Provider(error) => error.remedy().to_owned(),
            LaunchError::SecretKey { .. } => "set `secret_key` to the output of `openssl rand -base64 32`".to_owned(),
            LaunchError::NoSecretKey => "set ROCKET_SECRET_KEY to the output of `openssl rand -base64 32`".to_owned(),
            LaunchError::Custom { .. } => "fix the function given to `Oidc::try_custom`".to_owned(),
            LaunchError::NoProviders => {
                "add a table `oidc.providers.NAME` for each tenant, or remove `provider_for`".to_owned()
            }
            LaunchError::Store(error) => error.remedy().to_owned(),
            LaunchError::ClientSigner { remedy, .. } | LaunchError::DevProvider { remedy, .. } => remedy.clone(),
        }
    }
}

fn of_provider(name: Option<&str>) -> String {
    name.map_or_else(String::new, |name| format!(" for the provider `{name}`"))
}

impl From<NotConfigured> for LaunchError {
    fn from(error: NotConfigured) -> LaunchError {
        match error {
            NotConfigured::Settings(error) => error.into(),
            NotConfigured::Provider(error) => error.into(),
        }
    }
}

#[cfg(feature = "dev-provider")]
impl From<DevProviderError> for LaunchError {
    fn from(error: DevProviderError) -> LaunchError {
        LaunchError::DevProvider {
            cause: error.to_string(),
            remedy: error.remedy().to_owned(),
        }
    }
}
