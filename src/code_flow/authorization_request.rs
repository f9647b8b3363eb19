//! The authorization request (OpenID Connect Core 1.0 §3.1.2.1), as an address to send the browser to.

use openidconnect::{
    AuthenticationFlow, CsrfToken, Nonce, PkceCodeChallenge, PkceCodeVerifier, Scope,
    core::CoreResponseType,
};
use url::Url;

use super::AttemptSecrets;
use crate::{
    provider::SignInClient,
    settings::{ResponseMode, Settings},
};

/// Code flow with PKCE S256, `state` and `nonce`, always.
pub(crate) fn authorization_request(
    client: &SignInClient,
    settings: &Settings,
    secrets: &AttemptSecrets,
    login_hint: Option<&str>,
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
    // The client adds `openid` by itself.
    for scope in settings.scopes.iter().filter(|scope| *scope != "openid") {
        request = request.add_scope(Scope::new(scope.clone()));
    }
    if settings.response_mode == ResponseMode::FormPost {
        request = request.add_extra_param("response_mode", "form_post");
    }
    for (name, value) in settings.authorization_parameters() {
        if name != "login_hint" || login_hint.is_none() {
            request = request.add_extra_param(name, value);
        }
    }
    if let Some(login_hint) = login_hint {
        request = request.add_extra_param("login_hint", login_hint.to_owned());
    }
    request.url().0
}
