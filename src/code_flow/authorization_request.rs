//! The authorization request (OpenID Connect Core 1.0 §3.1.2.1), as an address to send the browser to.

use openidconnect::{
    AuthenticationFlow, CsrfToken, Nonce, PkceCodeChallenge, PkceCodeVerifier, Scope,
    core::CoreResponseType,
};
use url::Url;

use super::PendingSignIn;
use crate::{provider::SignInClient, settings::Settings};

/// Code flow with PKCE S256, `state` and `nonce`, always.
pub(crate) fn authorization_request(
    client: &SignInClient,
    settings: &Settings,
    pending: &PendingSignIn,
) -> Url {
    let (state, nonce) = (pending.state.clone(), pending.nonce.clone());
    let code_verifier = PkceCodeVerifier::new(pending.code_verifier.expose().to_owned());

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
    for (name, value) in settings.authorization_parameters() {
        request = request.add_extra_param(name, value);
    }
    request.url().0
}
