//! The authorization request (OpenID Connect Core 1.0 §3.1.2.1), as a URL to redirect the browser to.

use openidconnect::{
    AuthenticationFlow, CsrfToken, Nonce, PkceCodeChallenge, PkceCodeVerifier, Scope, core::CoreResponseType,
};
use url::Url;

use super::{AttemptSecrets, SignInParameters};
use crate::{
    provider::SignInClient,
    settings::{ProviderKind, ResponseMode, Settings},
    token::ProofKey,
};

/// Builds the authorization URL: always code flow with `state` and `nonce`, and with PKCE S256 unless the settings omit
/// it. `parameters` override those of the settings. With a proof key, the code is bound to it
/// ([RFC 9449 §10](https://www.rfc-editor.org/rfc/rfc9449#section-10)).
pub(crate) fn authorization_request(
    client: &SignInClient,
    settings: &Settings,
    secrets: &AttemptSecrets,
    parameters: &SignInParameters,
    proof_key: Option<&ProofKey>,
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
    if let Some(key) = proof_key {
        request = request.add_extra_param("dpop_jkt", key.thumbprint().to_owned());
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
    let url = request.url().0;
    match settings.provider_kind() {
        ProviderKind::OpenIdConnect => url,
        ProviderKind::GitHub => github_request(&url),
    }
}

/// The request of plain OAuth 2.0 (RFC 6749 §4.1.1): without `nonce` and the scope `openid`, which the `openidconnect`
/// client adds; `login_hint` has
/// [GitHub's name](https://docs.github.com/en/apps/oauth-apps/building-oauth-apps/authorizing-oauth-apps).
fn github_request(url: &Url) -> Url {
    let mut request = url.clone();
    let mut query = request.query_pairs_mut();
    query.clear();
    for (name, value) in url.query_pairs() {
        match &*name {
            "nonce" => {}
            "scope" => {
                let scopes: Vec<&str> = value.split(' ').filter(|scope| *scope != "openid").collect();
                if !scopes.is_empty() {
                    query.append_pair("scope", &scopes.join(" "));
                }
            }
            "login_hint" => drop(query.append_pair("login", &value)),
            name => drop(query.append_pair(name, &value)),
        }
    }
    drop(query);
    request
}
