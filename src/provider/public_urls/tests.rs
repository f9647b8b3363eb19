use super::*;
use crate::settings::MetadataSource;

fn urls(internal: &[&str], proxies: &[(&str, &str)]) -> PublicUrls {
    let internal: Vec<String> = internal.iter().map(|host| host.to_string()).collect();
    let variable = |name: &str| {
        let found = proxies.iter().find(|(variable, _)| *variable == name);
        found.map(|(_, value)| value.to_string())
    };
    PublicUrls::new(InternalProviderHosts::new(&internal), ProxyNames::of(variable))
}

fn is_called(urls: &PublicUrls, url: &str) -> bool {
    let parsed = Url::parse(url).unwrap();
    match urls.check(Endpoint::Token, &parsed) {
        Ok(()) => true,
        Err(ProviderError::NotPublic { endpoint, url: shown }) => {
            assert_eq!((endpoint, &*shown), (Endpoint::Token, &*excerpt(parsed.as_str())));
            false
        }
        Err(error) => panic!("{url}: {error}"),
    }
}

/// Literal addresses in every spelling, and names of this machine.
#[test]
fn hosts_that_are_not_public() {
    let urls = urls(&[], &[]);
    for host in [
        "127.0.0.1",
        "127.1",
        "127.0.0.1.",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "017700000001",
        "0x7f.1",
        "127%2e0%2e0%2e1",
        "\u{ff11}\u{ff12}\u{ff17}.0.0.1",
        "127\u{3002}0\u{3002}0\u{3002}1",
        "0.0.0.0",
        "0",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "3232235777",
        "169.254.169.254",
        "0xa9fea9fe",
        "0251.0376.0251.0376",
        "100.64.0.1",
        "100.127.255.255",
        "192.0.0.1",
        "192.0.2.1",
        "198.51.100.1",
        "203.0.113.1",
        "192.88.99.1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "[::]",
        "[::1]",
        "[0:0:0:0:0:0:0:1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:a9fe:a9fe]",
        "[::ffff:192.0.2.1]",
        "[::ffff:0:8.8.8.8]",
        "[::8.8.8.8]",
        "[64:ff9b::169.254.169.254]",
        "[64:ff9b::127.0.0.1]",
        "[64:ff9b::192.0.2.1]",
        "[64:ff9b:1::8.8.8.8]",
        "[100::1]",
        "[2001::1]",
        "[2001:2::1]",
        "[2001:db8::1]",
        "[2002:7f00:1::]",
        "[2002:808:808::1]",
        "[3fff::1]",
        "[4000::1]",
        "[5f00::1]",
        "[fc00::1]",
        "[fd00:ec2::254]",
        "[fe80::1]",
        "[febf::1]",
        "[fec0::1]",
        "[ff02::1]",
        "localhost",
        "LOCALHOST",
        "localhost.",
        "a.b.localhost",
        "a.localhost.",
        "localhost.localdomain",
        "ip6-localhost",
        "\u{24db}ocalhost",
    ] {
        for port in ["", ":443", ":8443"] {
            let url = format!("https://{host}{port}/x");
            assert!(!is_called(&urls, &url), "{url}");
        }
    }
    for host in [
        "op.example",
        "op.example.",
        "8.8.8.8",
        "100.63.255.255",
        "100.128.0.1",
        "[2606:4700::1111]",
        "[2001:200::1]",
        "[::ffff:8.8.8.8]",
        "[64:ff9b::8.8.8.8]",
        "localhost.example",
        "b\u{fc}cher.example",
        "metadata.internal",
    ] {
        for port in ["", ":22", ":8443"] {
            let url = format!("https://{host}{port}/x");
            assert!(is_called(&urls, &url), "{url}");
        }
    }
}

#[test]
fn only_https_without_credentials() {
    let urls = urls(&[], &[]);
    for url in [
        "http://op.example/token",
        "http://127.0.0.1/token",
        "http://localhost:8080/token",
        "ftp://op.example/token",
        "file:///etc/passwd",
        "data:text/plain,x",
        "javascript:alert(1)",
        "gopher://op.example:6379/_x",
        "https://user@op.example/token",
        "https://user:password@op.example/token",
        "https://:password@op.example/token",
        "https://op.example@127.0.0.1/token",
        "https://op.example\\@127.0.0.1/token@",
    ] {
        // In the last, the backslash ends the host.
        let expected = url.contains('\\');
        assert_eq!(is_called(&urls, url), expected, "{url}");
    }
}

#[test]
fn an_internal_host_is_exempt_and_on_loopback_without_tls() {
    let urls = urls(&["sso.corp", "10.1.2.3", "127.0.0.1", "localhost", "fd00::1"], &[]);
    for (url, expected) in [
        ("https://sso.corp/token", true),
        ("https://sso.corp:8443/token", true),
        ("http://sso.corp/token", false),
        ("https://10.1.2.3/token", true),
        ("https://0xa010203/token", true),
        ("http://10.1.2.3/token", false),
        ("https://10.1.2.4/token", false),
        ("https://[::ffff:10.1.2.3]/token", false),
        ("https://[fd00::1]/token", true),
        ("http://127.0.0.1:9400/token", true),
        ("http://localhost:9400/token", true),
        ("https://localhost/token", true),
        ("http://127.0.0.2/token", false),
        ("http://[::1]/token", false),
        ("http://a.localhost/token", false),
        ("http://localhost./token", false),
        ("ftp://localhost/token", false),
        ("http://user@localhost/token", false),
        ("https://169.254.169.254/token", false),
        ("https://op.example/token", true),
    ] {
        assert_eq!(is_called(&urls, url), expected, "{url}");
    }
}

/// The resolver accepts a proxy's name at any address, so that no provider may have it.
#[test]
fn a_provider_does_not_have_the_name_of_a_proxy() {
    for (variable, value, name) in [
        ("HTTPS_PROXY", "http://Proxy.corp:3128", "proxy.corp"),
        ("https_proxy", "proxy.corp:3128", "proxy.corp"),
        ("ALL_PROXY", "https://user:password@proxy.corp/", "proxy.corp"),
        ("all_proxy", "proxy", "proxy"),
    ] {
        let proxies = [(variable, value)];
        let others = urls(&[], &proxies);
        assert!(
            others.proxies.has("PROXY.corp") || others.proxies.has("proxy"),
            "{value}"
        );
        assert!(!is_called(&others, &format!("https://{name}/token")), "{value}");
        assert!(is_called(&others, "https://op.example/token"), "{value}");
        let listed = urls(&[name], &proxies);
        assert!(is_called(&listed, &format!("https://{name}/token")), "{value}");
    }
    // Those for plain http are not asked.
    assert!(is_called(
        &urls(&[], &[("HTTP_PROXY", "http://proxy.corp")]),
        "https://proxy.corp"
    ));
}

fn registered(urls: &PublicUrls, issuer: &str) -> Result<PublicUrls, String> {
    let registration = Registration::public(issuer, "app", None).unwrap();
    urls.of_registration(&registration).map_err(|error| error.to_string())
}

#[test]
fn the_issuer_of_a_registration() {
    let urls = urls(&["127.0.0.1"], &[]);
    for issuer in [
        "https://op.example",
        "https://op.example/",
        "https://op.example:8443/realms/a",
        "https://OP.example/a",
        "http://127.0.0.1:9400",
    ] {
        assert!(registered(&urls, issuer).is_ok(), "{issuer}");
    }
    for (issuer, shown) in [
        ("http://op.example", "http://op.example/"),
        ("https://10.0.0.1", "https://10.0.0.1/"),
        ("https://0251.0376.0251.0376", "https://169.254.169.254/"),
        ("https://localhost", "https://localhost/"),
        ("http://localhost:9400", "http://localhost:9400/"),
        ("https://user@op.example", "https://user@op.example"),
        ("https://op.example?a=b", "https://op.example?a=b"),
        ("https://op.example/#", "https://op.example/#"),
        ("https://op.example\\a", "https://op.example\\\\a"),
        ("https:op.example", "https:op.example"),
        (" https://op.example", " https://op.example"),
        ("https://op.exa\tmple", "https://op.exa\\tmple"),
        ("https://op.example/\n", "https://op.example/\\n"),
    ] {
        let expected = format!("the provider's metadata is at `{shown}`, which is not a public https URL");
        assert_eq!(registered(&urls, issuer).unwrap_err(), expected, "{issuer:?}");
    }
}

#[test]
fn a_registration_names_no_endpoints() {
    let urls = urls(&[], &[]);
    let url = |text: &str| Url::parse(text).unwrap();
    let registration = Registration::public("https://op.example/a", "app", None).unwrap();
    assert!(urls.of_registration(&registration).is_ok());
    for metadata in [
        MetadataSource::Discovery {
            url: url("https://op.example/.well-known/openid-configuration"),
        },
        MetadataSource::Discovery {
            url: url("https://other.example/a/.well-known/openid-configuration"),
        },
        MetadataSource::Keys {
            jwks_uri: url("https://op.example/jwks"),
        },
        MetadataSource::Given {
            authorization_endpoint: url("https://op.example/authorize"),
            token_endpoint: url("https://op.example/token"),
            userinfo_endpoint: None,
            jwks_uri: url("https://op.example/jwks"),
        },
    ] {
        let registration = Registration {
            metadata,
            ..registration.clone()
        };
        let found = urls.of_registration(&registration).map(drop).unwrap_err();
        assert_eq!(found.reason(), "provider_address", "{registration:?}");
    }
    let registration = Registration {
        introspection_endpoint: Some(url("https://op.example/introspect")),
        ..registration
    };
    assert!(matches!(
        urls.of_registration(&registration),
        Err(ProviderError::NotPublic { .. })
    ));
}

/// Somebody's metadata cannot have requests sent into the network of the app.
#[test]
fn only_an_internal_issuer_has_internal_endpoints() {
    let urls = urls(&["sso.corp", "127.0.0.1"], &[]);
    let outside = registered(&urls, "https://op.example").unwrap();
    let inside = registered(&urls, "https://sso.corp/realms/a").unwrap();
    for url in [
        "https://sso.corp/token",
        "https://127.0.0.1/token",
        "http://127.0.0.1:9400/token",
    ] {
        assert_eq!(
            (is_called(&outside, url), is_called(&inside, url)),
            (false, true),
            "{url}"
        );
    }
    // A name that is not listed may be public: the resolver decides.
    for urls in [&outside, &inside] {
        assert!(is_called(urls, "https://tokens.example/token"));
        assert!(!is_called(urls, "https://10.0.0.1/token"));
    }
}
