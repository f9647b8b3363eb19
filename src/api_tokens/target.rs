//! What a token is requested for: an API and scopes.

use std::collections::BTreeSet;

use url::Url;

use super::ApiTokenError;
use crate::{printable::excerpt, scopes::is_scope, settings::ResourceParameter};

/// The maximum length of a resource, and of all scopes of a token.
const MAX_LENGTH: usize = 2_000;
/// Scopes about the user and the refresh token, which belong to no API.
const OPENID_SCOPES: [&str; 6] = ["openid", "profile", "email", "address", "phone", "offline_access"];

/// The API and the scopes of a token, with what it is bound to: a part of its key in the cache.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    /// The API, by the identifier that the provider knows.
    resource: Option<String>,
    scopes: BTreeSet<String>,
    binding: Binding,
}

/// What a token is bound to. Tokens that are bound to a key (DPoP, mutual TLS) never replace another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Binding {
    None,
    /// The proof key of its owner, which has one alone.
    ProofKey,
}

impl Target {
    /// A target by its resource indicator ([RFC 8707 §2]): an absolute URI without a fragment. Without one, the
    /// provider chooses by the scopes.
    ///
    /// [RFC 8707 §2]: https://www.rfc-editor.org/rfc/rfc8707#section-2
    pub(crate) fn of_resource(resource: Option<&str>, scopes: &[&str]) -> Result<Target, ApiTokenError> {
        let is_resource = |text: &str| {
            let is_absolute = Url::parse(text).is_ok_and(|url| url.fragment().is_none());
            is_absolute && text.len() <= MAX_LENGTH && text.bytes().all(|byte| byte.is_ascii_graphic())
        };
        match resource.filter(|resource| !is_resource(resource)) {
            Some(invalid) => Err(ApiTokenError::Resource {
                resource: excerpt(invalid),
            }),
            None => Target::new(resource, scopes),
        }
    }

    /// A target by its audience ([RFC 8693 §2.1]), a name that the provider knows.
    ///
    /// [RFC 8693 §2.1]: https://www.rfc-editor.org/rfc/rfc8693#section-2.1
    pub(crate) fn of_audience(audience: &str, scopes: &[&str]) -> Result<Target, ApiTokenError> {
        let is_visible = audience.bytes().all(|byte| byte.is_ascii_graphic());
        if audience.is_empty() || audience.len() > MAX_LENGTH || !is_visible {
            return Err(ApiTokenError::Audience {
                audience: excerpt(audience),
            });
        }
        Target::new(Some(audience), scopes)
    }

    fn new(resource: Option<&str>, scopes: &[&str]) -> Result<Target, ApiTokenError> {
        // A word, or several of them in one string, as settings accept them.
        let scopes: BTreeSet<_> = scopes.iter().flat_map(|words| words.split(' ')).collect();
        let scopes: BTreeSet<_> = scopes.into_iter().filter(|scope| !scope.is_empty()).collect();
        let length: usize = scopes.iter().map(|scope| scope.len() + 1).sum();
        if let Some(invalid) = scopes.iter().find(|scope| !is_scope(scope) || length > MAX_LENGTH) {
            return Err(ApiTokenError::Scope {
                scope: excerpt(invalid),
            });
        }
        Ok(Target {
            resource: resource.map(str::to_owned),
            scopes: scopes.into_iter().map(str::to_owned).collect(),
            binding: Binding::None,
        })
    }

    /// The same, of a token that is bound to the proof key of its owner.
    pub(crate) fn bound(mut self, is_bound: bool) -> Target {
        self.binding = if is_bound { Binding::ProofKey } else { Binding::None };
        self
    }

    /// The API, for a log line.
    pub(super) fn resource(&self) -> Option<&str> {
        self.resource.as_deref()
    }

    /// The parameters of a token request for it, as this provider names APIs.
    pub(crate) fn parameters(&self, parameter: ResourceParameter) -> Vec<(&'static str, String)> {
        match parameter {
            ResourceParameter::Resource => self.named_by("resource"),
            ResourceParameter::Audience => self.with_audience(),
            ResourceParameter::Scope => self.in_scope(),
        }
    }

    /// The parameters of a token request that names the API by `audience`.
    pub(crate) fn with_audience(&self) -> Vec<(&'static str, String)> {
        self.named_by("audience")
    }

    fn named_by(&self, name: &'static str) -> Vec<(&'static str, String)> {
        let resource = self.resource.iter().map(|resource| (name, resource.clone()));
        let scopes: Vec<_> = self.scopes.iter().map(String::as_str).collect();
        let scope = (!scopes.is_empty()).then(|| ("scope", scopes.join(" ")));
        resource.chain(scope).collect()
    }

    /// The scope that names the API too, as
    /// [Microsoft Entra ID](https://learn.microsoft.com/entra/identity-platform/scopes-oidc#the-default-scope) has it:
    /// `{resource}/{scope}`, or `{resource}/.default` for all that was consented to.
    pub(crate) fn in_scope(&self) -> Vec<(&'static str, String)> {
        let of_api = |scope: &str| match &self.resource {
            Some(resource) if !OPENID_SCOPES.contains(&scope) && !scope.contains("://") => {
                format!("{resource}/{scope}")
            }
            _ => scope.to_owned(),
        };
        let mut scopes: Vec<_> = self.scopes.iter().map(|scope| of_api(scope)).collect();
        let names_api = self.scopes.iter().any(|scope| !OPENID_SCOPES.contains(&scope.as_str()));
        if !names_api && self.resource.is_some() {
            scopes.push(of_api(".default"));
        }
        let scope = (!scopes.is_empty()).then(|| ("scope", scopes.join(" ")));
        scope.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(resource: Option<&str>, scopes: &[&str]) -> Result<Target, String> {
        Target::of_resource(resource, scopes).map_err(|error| error.to_string())
    }

    #[test]
    fn the_order_of_scopes_does_not_matter() {
        let api = Some("https://api.example");
        assert_eq!(target(api, &["b", "a"]), target(api, &["a b", "", "a"]));
        assert_ne!(target(api, &["a"]), target(api, &["a", "b"]));
        assert_ne!(target(api, &["a"]), target(Some("https://api.example/"), &["a"]));
        assert_ne!(target(api, &["a"]), target(None, &["a"]));
    }

    #[test]
    fn a_bound_token_is_not_a_bearer_token() {
        let target = || Target::of_resource(Some("https://api.example"), &["a"]).unwrap();
        assert_ne!(target(), target().bound(true));
        assert_eq!(target(), target().bound(false));
    }

    #[test]
    fn a_resource_is_an_absolute_uri_without_a_fragment() {
        for valid in [
            "https://api.example",
            "https://api.example/v1?x=1",
            "urn:example:api",
            "api://0-1",
        ] {
            assert!(target(Some(valid), &[]).is_ok(), "{valid}");
        }
        let long = format!("https://{}", "a".repeat(2_000));
        for invalid in [
            "",
            "api",
            "/api",
            "https://",
            "https://a.example/#x",
            "https://a.example/#",
            "https://a b",
            &long,
        ] {
            let error = target(Some(invalid), &[]).unwrap_err();
            let expected = format!(
                "the resource {:?} is not an absolute URI without a fragment",
                excerpt(invalid)
            );
            assert_eq!(error, expected);
        }
    }

    #[test]
    fn a_scope_is_a_word_of_the_standard() {
        for invalid in ["a\"b", "a\\b", "ä", "a\nb"] {
            let expected = format!(
                "the scope {:?} has characters that no scope may have, or is too long",
                excerpt(invalid)
            );
            assert_eq!(target(None, &["ok", invalid]), Err(expected));
        }
        let many: Vec<_> = (0..1_000).map(|i| format!("s{i}")).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        assert!(target(None, &many).is_err());
        assert!(target(None, &many[..300]).is_ok());
    }

    #[test]
    fn each_provider_names_the_api_in_its_own_way() {
        use ResourceParameter::{Audience, Resource, Scope};

        let api = Some("https://api.example");
        for (resource, scopes, parameter, expected) in [
            (
                api,
                &["b", "a"][..],
                Resource,
                &[("resource", "https://api.example"), ("scope", "a b")][..],
            ),
            (api, &[], Resource, &[("resource", "https://api.example")]),
            (None, &["a"], Resource, &[("scope", "a")]),
            (None, &[], Resource, &[]),
            (
                api,
                &["a"],
                Audience,
                &[("audience", "https://api.example"), ("scope", "a")],
            ),
            (api, &["a"], Scope, &[("scope", "https://api.example/a")]),
            (api, &[], Scope, &[("scope", "https://api.example/.default")]),
            (
                api,
                &["offline_access"],
                Scope,
                &[("scope", "offline_access https://api.example/.default")],
            ),
            (
                api,
                &["https://graph.example/x"],
                Scope,
                &[("scope", "https://graph.example/x")],
            ),
            (None, &["api://1/.default"], Scope, &[("scope", "api://1/.default")]),
            (None, &[], Scope, &[]),
        ] {
            let found = target(resource, scopes).unwrap().parameters(parameter);
            let found: Vec<_> = found.iter().map(|(name, value)| (*name, value.as_str())).collect();
            assert_eq!(found, expected, "{resource:?} {scopes:?} {parameter:?}");
        }
    }

    #[test]
    fn an_audience_is_any_visible_name() {
        for valid in ["orders", "https://orders.example", "urn:orders", "00000003-0000"] {
            assert!(Target::of_audience(valid, &["a"]).is_ok(), "{valid}");
        }
        for invalid in ["", "a b", "a\n", "ä", &"a".repeat(2_001)] {
            let error = Target::of_audience(invalid, &[]).unwrap_err().to_string();
            let expected = format!(
                "the audience {:?} is empty, too long, or has characters that no audience may have",
                excerpt(invalid)
            );
            assert_eq!(error, expected);
        }
    }
}
