//! The app's signers, each for one provider.

use std::sync::Arc;

use super::LaunchError;
use crate::{
    client_key::{AttachedSigner, ClientSigner},
    settings::{ProviderKind, Settings},
};

/// A signer, and the name of its provider among several.
pub(super) type NamedSigner = (Option<String>, Arc<dyn ClientSigner>);

/// Gives each signer to the settings of its provider.
pub(super) fn attach_signers(
    settings: &mut Settings,
    signers: &[NamedSigner],
    has_source: bool,
) -> Result<(), LaunchError> {
    for (name, signer) in signers {
        let refused = |cause: String, remedy: &str| LaunchError::ClientSigner {
            provider: name.clone(),
            cause,
            remedy: remedy.to_owned(),
        };
        let has_several = has_source || !settings.providers.is_empty();
        let of_provider = match name {
            None if has_several => None,
            None => Some(&mut *settings),
            Some(name) => settings.providers.get_mut(name),
        };
        let Some(of_provider) = of_provider else {
            let cause = match name {
                None => "the app has several providers".to_owned(),
                Some(name) => format!("there is no provider `{name}` in `oidc.providers`"),
            };
            return Err(refused(
                cause,
                "name a table of `oidc.providers` with `Oidc::client_signer_for`; an app with one provider calls \
                 `Oidc::client_signer`",
            ));
        };
        if of_provider.provider_kind() == ProviderKind::GitHub {
            let cause = "GitHub has no client authentication by a key".to_owned();
            return Err(refused(cause, "remove the signer"));
        }
        let attached = AttachedSigner::new(signer.clone());
        let attached = attached.map_err(|cause| refused(cause, "correct what the `ClientSigner` says of its key"))?;
        if of_provider.client_signer.replace(attached).is_some() {
            return Err(refused("it is the second one".to_owned(), "remove one of the two"));
        }
    }
    Ok(())
}
