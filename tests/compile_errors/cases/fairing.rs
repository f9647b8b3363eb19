//! What the fairing takes.

use rocket_openidconnect::Oidc;

struct Mine;

fn main() {
    let _ = Oidc::fairing().session_store(Mine);
    let _ = Oidc::fairing().events(Mine);
    let _ = Oidc::fairing().pages(Mine);
    let _ = Oidc::fairing().provider_for(Mine);
    let _ = Oidc::fairing().provider_source(Mine);
    let _ = Oidc::fairing().client_signer(Mine);
}
