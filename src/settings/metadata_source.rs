//! Where the provider's endpoints come from: discovery, the client secrets, the settings of a further issuer, or the
//! documentation of GitHub.

use url::Url;

/// The source of the provider's endpoints.
#[derive(Clone, Debug)]
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
    /// From the documentation of GitHub, which is not an OpenID provider.
    GitHub {
        authorization_endpoint: Url,
        token_endpoint: Url,
        user_endpoint: Url,
        revocation_endpoint: Url,
    },
    /// Only keys, for a further issuer whose tokens are accepted and which is not contacted otherwise.
    Keys {
        jwks_uri: Url,
    },
}
