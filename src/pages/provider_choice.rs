//! The page on which the user chooses a provider.

use serde::Serialize;
use url::Url;

use super::{document, escape};

/// What the page shows on which the user chooses the provider to sign in with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ProviderChoice {
    /// The providers in the order of the settings.
    pub providers: Vec<ProviderLink>,
    /// The page of this app to which the browser goes after the sign-in. It is part of each provider's
    /// [`url`](ProviderLink::url) already.
    pub next: String,
}

/// One provider of a [`ProviderChoice`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ProviderLink {
    /// The name of the provider in the settings.
    pub name: String,
    /// The name that users read.
    pub label: String,
    /// The URL of its logo: `https`, or a path of this site. The built-in page shows no other.
    pub logo: Option<String>,
    /// The path and query that begin the sign-in, escaped as a URL: the target of the button, which is a link.
    pub url: String,
}

/// The built-in page.
pub(super) fn page(choice: &ProviderChoice) -> String {
    let links: String = choice.providers.iter().map(link).collect();
    document(
        "Sign in",
        &format!("<h1>Sign in</h1><ul class=\"choice\" role=\"list\">{links}</ul>"),
    )
}

fn link(provider: &ProviderLink) -> String {
    // The text beside the logo names the provider: `alt` is empty.
    let logo = provider.logo.as_deref().filter(|logo| source(logo).is_some());
    let logo = logo.map(|logo| {
        let logo = escape(logo);
        format!("<img src=\"{logo}\" alt=\"\" width=\"24\" height=\"24\" referrerpolicy=\"no-referrer\">")
    });
    format!(
        "<li><a class=\"button\" id=\"sign-in-{}\" href=\"{}\">{}Sign in with {}</a></li>",
        escape(&provider.name),
        escape(&provider.url),
        logo.unwrap_or_default(),
        escape(&provider.label),
    )
}

/// The directives of the page's `Content-Security-Policy` beside the usual ones: the origins of the logos.
pub(super) fn policy(choice: &ProviderChoice) -> String {
    let logos = choice.providers.iter().filter_map(|provider| provider.logo.as_deref());
    let mut sources: Vec<_> = logos.filter_map(source).collect();
    sources.sort_unstable();
    sources.dedup();
    if sources.is_empty() {
        return "form-action 'none'; ".to_owned();
    }
    format!("img-src {}; form-action 'none'; ", sources.join(" "))
}

/// The source expression ([CSP §2.3.1](https://www.w3.org/TR/CSP3/#framework-directive-source-list)) that allows this
/// logo; `None` for a logo that the page does not show.
fn source(logo: &str) -> Option<String> {
    let here = Url::parse("https://this-site.invalid/").ok()?;
    let url = here.join(logo).ok()?;
    if url.origin() == here.origin() {
        return logo.starts_with('/').then(|| "'self'".to_owned());
    }
    // A URL's host may have characters that separate directives, and a source expression has no IPv6 address.
    let is_host = |host: &str| {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        host.bytes().all(is_allowed)
    };
    let is_allowed = url.scheme() == "https" && logo.starts_with("https://") && url.host_str().is_some_and(is_host);
    is_allowed.then(|| url.origin().ascii_serialization())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider(name: &str, label: &str, logo: Option<&str>) -> ProviderLink {
        ProviderLink {
            name: name.to_owned(),
            label: label.to_owned(),
            logo: logo.map(str::to_owned),
            url: format!("/oidc/login/{name}?next=%2Fme&a=b"),
        }
    }

    fn choice(providers: Vec<ProviderLink>) -> ProviderChoice {
        ProviderChoice {
            providers,
            next: "/me".to_owned(),
        }
    }

    #[test]
    fn the_providers_in_their_order() {
        let page = page(&choice(vec![
            provider("work", "Acme", Some("/logos/acme.svg")),
            provider("google", "Google", None),
        ]));
        let start = "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\">";
        assert!(page.starts_with(start), "{page}");
        assert!(page.contains("<title>Sign in</title>"), "{page}");
        assert!(
            page.ends_with(
                "<main><h1>Sign in</h1><ul class=\"choice\" role=\"list\">\
                 <li><a class=\"button\" id=\"sign-in-work\" href=\"&#x2F;oidc&#x2F;login&#x2F;work?next=%2Fme&amp;a=b\">\
                 <img src=\"&#x2F;logos&#x2F;acme.svg\" alt=\"\" width=\"24\" height=\"24\" referrerpolicy=\"no-referrer\">\
                 Sign in with Acme</a></li>\
                 <li><a class=\"button\" id=\"sign-in-google\" href=\"&#x2F;oidc&#x2F;login&#x2F;google?next=%2Fme&amp;a=b\">\
                 Sign in with Google</a></li></ul></main></body></html>"
            ),
            "{page}"
        );
    }

    #[test]
    fn text_is_escaped() {
        let evil = "\"<>&'";
        let page = page(&choice(vec![provider(evil, evil, Some("/\"<>&'"))]));
        let escaped = "&quot;&lt;&gt;&amp;&#x27;";
        let link = format!(
            "<li><a class=\"button\" id=\"sign-in-{escaped}\" href=\"&#x2F;oidc&#x2F;login&#x2F;{escaped}?next=%2Fme&amp;a=b\">\
             <img src=\"&#x2F;{escaped}\" alt=\"\" width=\"24\" height=\"24\" referrerpolicy=\"no-referrer\">\
             Sign in with {escaped}</a></li>"
        );
        assert!(page.contains(&link), "{page}");
    }

    #[test]
    fn the_policy_allows_the_logos_that_are_shown() {
        for (logo, expected) in [
            ("/logo.png", Some("'self'")),
            ("https://cdn.example/a/logo.png?x=1", Some("https://cdn.example")),
            ("https://cdn.example:8443/logo.png", Some("https://cdn.example:8443")),
            ("https://CDN.example:443/logo.png", Some("https://cdn.example")),
            (
                "https://user:password@cdn.example/logo.png",
                Some("https://cdn.example"),
            ),
            ("http://cdn.example/logo.png", None),
            ("//cdn.example/logo.png", None),
            ("/\\cdn.example/logo.png", None),
            ("/\t/cdn.example/logo.png", None),
            ("logo.png", None),
            ("", None),
            ("data:image/png;base64,AAAA", None),
            ("javascript:alert(1)", None),
            ("https://[::1]/logo.png", None),
            ("https://a;script-src/logo.png", None),
            ("https://a,b/logo.png", None),
            ("https:logo.png", None),
            (" https://cdn.example/logo.png", None),
        ] {
            assert_eq!(source(logo).as_deref(), expected, "{logo:?}");
            let choice = choice(vec![provider("a", "A", Some(logo))]);
            let expected = expected.map(|source| format!("img-src {source}; form-action 'none'; "));
            assert_eq!(
                policy(&choice),
                expected.clone().unwrap_or("form-action 'none'; ".to_owned())
            );
            assert_eq!(page(&choice).contains("<img "), expected.is_some(), "{logo:?}");
        }
    }

    #[test]
    fn the_policy_names_an_origin_once() {
        let logos = [
            "https://b.example/1",
            "/2",
            "https://a.example/3",
            "https://b.example/4",
            "/5",
        ];
        let providers = logos.map(|logo| provider("a", "A", Some(logo))).to_vec();
        let expected = "img-src 'self' https://a.example https://b.example; form-action 'none'; ";
        assert_eq!(policy(&choice(providers)), expected);
        assert_eq!(policy(&choice(vec![provider("a", "A", None)])), "form-action 'none'; ");
    }

    #[test]
    fn a_template_gets_every_field() {
        let json = serde_json::to_value(choice(vec![provider("work", "Acme", None)])).unwrap();
        let expected = serde_json::json!({
            "providers": [{ "name": "work", "label": "Acme", "logo": null, "url": "/oidc/login/work?next=%2Fme&a=b" }],
            "next": "/me",
        });
        assert_eq!(json, expected);
    }
}
