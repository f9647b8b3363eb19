//! Where the provider's endpoints come from: discovery, the client secrets, or the settings of a further issuer.

use url::Url;

/// The source of the provider's endpoints.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one in an app")]
pub(crate) enum MetadataSource {
    Discovery {
        url: Url,
    },
    /// From client secrets, without discovery.
    Given {
        authorization_endpoint: Url,
        token_endpoint: Url,
        userinfo_endpoint: Option<Url>,
        jwks_uri: Url,
    },
    /// Only keys, for a further issuer whose tokens are accepted and which is not contacted otherwise.
    Keys {
        jwks_uri: Url,
    },
}
