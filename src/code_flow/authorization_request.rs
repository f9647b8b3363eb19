//! The authorization request (OpenID Connect Core 1.0 §3.1.2.1), as a URL to redirect the browser to.

use openidconnect::{
    AuthenticationFlow, CsrfToken, Nonce, PkceCodeChallenge, PkceCodeVerifier, Scope, core::CoreResponseType,
};
use url::Url;

use super::AttemptSecrets;
use crate::{
    provider::SignInClient,
    settings::{ResponseMode, Settings},
};

/// Builds the authorization URL: always code flow with PKCE S256, `state` and `nonce`. `parameters` override
/// those of the settings.
pub(crate) fn authorization_request(
    client: &SignInClient,
    settings: &Settings,
    secrets: &AttemptSecrets,
    parameters: &[(String, String)],
) -> Url {
    let (state, nonce) = (secrets.state.clone(), secrets.nonce.clone());
    let code_verifier = PkceCodeVerifier::new(secrets.code_verifier.expose().to_owned());

    let mut request = client
        .authorize_url(
            AuthenticationFlow::<CoreResponseType>::AuthorizationCode,
            move || CsrfToken::new(state.expose().to_owned()),
            move || Nonce::new(nonce.expose().to_owned()),
        )
        .set_pkce_challenge(PkceCodeChallenge::from_code_verifier_sha256(&code_verifier));
    // The `openidconnect` client adds `openid` itself.
    for scope in settings.scopes.iter().filter(|scope| *scope != "openid") {
        request = request.add_scope(Scope::new(scope.clone()));
    }
    if settings.response_mode == ResponseMode::FormPost {
        request = request.add_extra_param("response_mode", "form_post");
    }
    let is_overridden = |name: &str| parameters.iter().any(|(other, _)| other == name);
    let of_settings = settings.authorization_parameters().into_iter();
    let of_settings = of_settings.filter(|(name, _)| !is_overridden(name));
    for (name, value) in of_settings.chain(parameters.iter().cloned()) {
        request = request.add_extra_param(name, value);
    }
    request.url().0
}
