//! The kind of a provider: OpenID Connect, or GitHub, which is a plain OAuth 2.0 provider.

use super::{KnownProvider, MetadataSource, Registration, Settings};

/// The protocol of a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProviderKind {
    /// Users come with a verified ID token.
    OpenIdConnect,
    /// Users come from GitHub's API, without an ID token.
    GitHub,
}

impl ProviderKind {
    /// The name for the report and the debug page.
    pub(crate) fn describe(self) -> &'static str {
        match self {
            ProviderKind::OpenIdConnect => "OpenID Connect",
            ProviderKind::GitHub => "GitHub, plain OAuth 2.0 without ID tokens",
        }
    }
}

impl Registration {
    pub(crate) fn kind(&self) -> ProviderKind {
        match self.metadata {
            MetadataSource::GitHub { .. } => ProviderKind::GitHub,
            _ => ProviderKind::OpenIdConnect,
        }
    }
}

impl Settings {
    /// The kind of the provider at which users sign in.
    pub(crate) fn provider_kind(&self) -> ProviderKind {
        match &self.provider {
            Some(preset) if preset.name == KnownProvider::GitHub => ProviderKind::GitHub,
            _ => ProviderKind::OpenIdConnect,
        }
    }
}
