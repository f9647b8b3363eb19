//! Security profiles: FAPI 2.0 and OAuth 2.1, as demands on the provider's metadata. Those on the settings are in
//! `settings::security_profile`.

use super::{Metadata, Provider, ProviderError};
use crate::settings::{Dpop, SecurityProfile};

/// One demand of a profile on the metadata.
pub(crate) struct MetadataDemand {
    /// The member of the metadata.
    pub member: &'static str,
    /// What it must have, with the section that demands it.
    pub expected: String,
    pub is_met: bool,
}

impl Provider {
    /// Checks that the provider meets the demands of the profile in the settings.
    pub(super) fn check_profile(&self, metadata: &Metadata) -> Result<(), ProviderError> {
        let Some(profile) = self.settings.profile else {
            return Ok(());
        };
        let demands = self.profile_demands(profile, metadata).into_iter();
        let lacking = demands.filter(|demand| !demand.is_met);
        let lacking = lacking.map(|demand| format!("`{}` must {}", demand.member, demand.expected));
        let lacking: Vec<String> = lacking.collect();
        if lacking.is_empty() {
            return Ok(());
        }
        Err(ProviderError::Profile {
            profile: profile.as_str(),
            lacking: lacking.join("; "),
        })
    }

    /// The demands of a profile on the metadata, and whether each is met.
    pub(crate) fn profile_demands(&self, profile: SecurityProfile, metadata: &Metadata) -> Vec<MetadataDemand> {
        let demand = |member, expected: &str, is_met| MetadataDemand {
            member,
            expected: expected.to_owned(),
            is_met,
        };
        let challenges = &metadata.code_challenge_methods_supported;
        let mut demands = vec![demand(
            "code_challenge_methods_supported",
            "list `S256` (FAPI 2.0 §5.3.2.2, 5; OAuth 2.1 §7.5.2)",
            challenges.iter().any(|method| method == "S256"),
        )];
        if profile != SecurityProfile::Fapi2 {
            return demands;
        }
        let method = self.authentication_method(metadata).as_str();
        let methods = metadata.token_endpoint_auth_methods_supported.iter().flatten();
        let algorithms = metadata.signing_algorithms();
        demands.extend([
            demand(
                "pushed_authorization_request_endpoint",
                "be there (FAPI 2.0 §5.3.2.2, 2)",
                metadata.pushed_authorization_request_endpoint.is_some(),
            ),
            demand(
                "authorization_response_iss_parameter_supported",
                "be `true` (FAPI 2.0 §5.3.2.2, 7)",
                metadata.authorization_response_iss_parameter_supported,
            ),
            demand(
                "token_endpoint_auth_methods_supported",
                &format!("list `{method}` (FAPI 2.0 §5.3.2.1, 6)"),
                methods.into_iter().any(|listed| listed == method),
            ),
            demand(
                "id_token_signing_alg_values_supported",
                "list `PS256`, `ES256` or `EdDSA` (FAPI 2.0 §5.4.1)",
                algorithms.iter().any(|algorithm| profile.accepts_algorithm(*algorithm)),
            ),
        ]);
        demands.push(if self.settings.dpop == Dpop::Required {
            let has_algorithm = matches!(self.proof_algorithm(metadata), Ok(Some(_)));
            let expected = "list `ES256` or `EdDSA` (FAPI 2.0 §5.3.2.1, 5)";
            demand("dpop_signing_alg_values_supported", expected, has_algorithm)
        } else {
            let is_bound = metadata.tls_client_certificate_bound_access_tokens;
            let expected = "be `true` (FAPI 2.0 §5.3.2.1, 5)";
            demand("tls_client_certificate_bound_access_tokens", expected, is_bound)
        });
        demands
    }
}
