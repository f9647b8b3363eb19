//! What the setting `profile` turns on, and what takes precedence over it.

use rocket_openidconnect::settings::{Dpop, DpopTokens, SecurityProfile, SigningAlgorithm};

use super::{extract, refusals::refused};

const ALGORITHMS: [SigningAlgorithm; 3] = [
    SigningAlgorithm::PS256,
    SigningAlgorithm::ES256,
    SigningAlgorithm::EdDSA,
];

#[test]
fn fapi2_turns_on_what_it_demands() {
    let settings = extract("[default.oidc]\nprofile = \"fapi2\"", &[]).unwrap();
    assert_eq!(settings.profile, Some(SecurityProfile::Fapi2));
    assert!(settings.pushed_authorization_requests);
    assert_eq!(settings.id_token_signing_algs.as_deref(), Some(&ALGORITHMS[..]));
    assert_eq!(settings.access_token_signing_algs.as_deref(), Some(&ALGORITHMS[..]));
    assert_eq!(
        (settings.dpop, settings.dpop_tokens, settings.require_bound_tokens),
        (Dpop::Required, DpopTokens::Required, true)
    );
}

/// With mutual TLS, tokens are bound to certificates, and an API accepts both kinds.
#[test]
fn certificates_take_the_place_of_keys() {
    let toml = "[default.oidc]\nprofile = \"fapi2\"\ntls_client_certificate = \"client.pem\"\n\
                tls_client_key = \"client.key\"\n[default.oidc.client_certificate]\nproxies = [\"10.0.0.5\"]\n\
                format = \"nginx\"";
    let settings = extract(toml, &[]).unwrap();
    assert_eq!(
        (settings.dpop, settings.dpop_tokens, settings.require_bound_tokens),
        (Dpop::Off, DpopTokens::Accepted, true)
    );
}

#[test]
fn a_variable_turns_it_on_too() {
    let settings = extract("", &[("OIDC_PROFILE", "fapi2")]).unwrap();
    assert!(settings.pushed_authorization_requests);
}

#[test]
fn explicit_settings_take_precedence() {
    let toml = "[default.oidc]\nprofile = \"fapi2\"\nid_token_signing_algs = \"ES256\"";
    let settings = extract(toml, &[("OIDC_PUSHED_AUTHORIZATION_REQUESTS", "false")]).unwrap();
    assert_eq!(
        settings.id_token_signing_algs.as_deref(),
        Some(&[SigningAlgorithm::ES256][..])
    );
    assert!(!settings.pushed_authorization_requests);
}

#[test]
fn each_of_several_providers_has_its_own() {
    let toml = "[default.oidc.providers.bank]\nprofile = \"fapi2\"\n[default.oidc.providers.other]\n";
    let settings = extract(toml, &[]).unwrap();
    assert!(settings.providers["bank"].pushed_authorization_requests);
    assert!(!settings.providers["other"].pushed_authorization_requests);
}

#[test]
fn oauth21_turns_nothing_on() {
    let settings = extract("[default.oidc]\nprofile = \"oauth21\"", &[]).unwrap();
    assert_eq!(settings.profile, Some(SecurityProfile::OAuth21));
    assert!(!settings.pushed_authorization_requests);
    assert_eq!(settings.id_token_signing_algs, None);
}

#[test]
fn another_profile_is_refused() {
    refused(
        "[default.oidc]\nprofile = \"fapi\"",
        &[],
        "`default.oidc.profile` in Rocket.toml: unknown value \"fapi\"",
        "write `oauth21` or `fapi2`",
    );
}
