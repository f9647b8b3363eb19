//! Against real counterparts: npm `oidc-provider` and a real Chromium. `scripts/interop` installs
//! them and runs these tests.

mod browser;
mod browser_sign_in;
mod node_provider;
mod sign_in;
mod walker;
