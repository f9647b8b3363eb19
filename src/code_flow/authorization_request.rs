//! The authorization request (OpenID Connect Core 1.0 §3.1.2.1), as a URL to redirect the browser to.

use openidconnect::{
    AuthenticationFlow, CsrfToken, Nonce, PkceCodeChallenge, PkceCodeVerifier, Scope, core::CoreResponseType,
};
use url::Url;

use super::{AttemptSecrets, SignInParameters};
use crate::{
    provider::SignInClient,
    settings::{ResponseMode, Settings},
};

/// Builds the authorization URL: always code flow with `state` and `nonce`, and with PKCE S256 unless the settings omit
/// it. `parameters` override those of the settings.
pub(crate) fn authorization_request(
    client: &SignInClient,
    settings: &Settings,
    secrets: &AttemptSecrets,
    parameters: &SignInParameters,
) -> Url {
    let (state, nonce) = (secrets.state.clone(), secrets.nonce.clone());

    let mut request = client.authorize_url(
        AuthenticationFlow::<CoreResponseType>::AuthorizationCode,
        move || CsrfToken::new(state.expose().to_owned()),
        move || Nonce::new(nonce.expose().to_owned()),
    );
    if !settings.insecure_omit_pkce {
        let code_verifier = PkceCodeVerifier::new(secrets.code_verifier.expose().to_owned());
        request = request.set_pkce_challenge(PkceCodeChallenge::from_code_verifier_sha256(&code_verifier));
    }
    // The `openidconnect` client adds `openid` itself.
    let additional = parameters
        .scopes()
        .filter(|scope| !settings.scopes.iter().any(|other| other == scope));
    let scopes = settings.scopes.iter().map(String::as_str).chain(additional);
    for scope in scopes.filter(|scope| *scope != "openid") {
        request = request.add_scope(Scope::new(scope.to_owned()));
    }
    if settings.response_mode == ResponseMode::FormPost {
        request = request.add_extra_param("response_mode", "form_post");
    }
    let sent: Vec<_> = parameters.to_send().collect();
    let is_replaced = |name: &str| sent.iter().any(|(other, _)| *other == name);
    for (name, value) in settings.authorization_parameters() {
        if !is_replaced(&name) {
            request = request.add_extra_param(name, value);
        }
    }
    for (name, value) in &sent {
        request = request.add_extra_param(name.to_string(), value.to_string());
    }
    request.url().0
}
