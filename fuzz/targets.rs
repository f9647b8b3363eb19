//! What must hold whatever comes from outside: the bodies of the fuzz targets, which `tests/properties.rs`
//! runs too, on any toolchain.

#![allow(dead_code, reason = "each fuzz target uses one of them")]

use std::sync::OnceLock;

use rocket::{
    Config,
    figment::Figment,
    get,
    http::{Header, Status},
    local::blocking::Client,
    routes,
};
use rocket_openidconnect::{
    __private::{
        AccessTokens, SessionCookies, accepts_metadata, accepts_response, attempt, browser, client_certificate,
        dpop_proof, is_bearer, object, rejects_token, target_uri, token_reply, usable_keys,
    },
    LoggedIn, Oidc,
    settings::CertificateFormat,
};

const NOW: i64 = 1_700_000_000;
const KEYS: &[u8] = br#"{"keys":[
    {"kty":"OKP","crv":"Ed25519","kid":"ed","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
    {"kty":"EC","crv":"P-256","kid":"ec","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
     "y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;

fn tokens() -> AccessTokens {
    AccessTokens::new(KEYS, "https://op.example", "api")
}

/// The `Authorization` header: one token of the right characters, or none.
pub fn authorization_header(data: &[u8]) {
    let Ok(value) = std::str::from_utf8(data) else {
        return;
    };
    if is_bearer(value) {
        let (scheme, token) = value.split_once(' ').expect("a scheme and a token");
        assert!(scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("dpop"));
        let token = token.trim_matches(' ');
        assert!(!token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic() && b != b','));
    }
}

/// The `WWW-Authenticate` header of another API: what rejects a token names the scheme and the error.
pub fn challenge(data: &[u8]) {
    if let Ok(value) = std::str::from_utf8(data)
        && rejects_token(value)
    {
        let lower = value.to_ascii_lowercase();
        assert!(lower.contains("bearer") && lower.contains("error") && value.contains("invalid_token"));
    }
}

/// The header in which a proxy reports a client certificate: what is accepted is one sequence of DER, whole, which is in the
/// header.
pub fn certificate_header(data: &[u8]) {
    let Ok(value) = std::str::from_utf8(data) else {
        return;
    };
    for format in [
        CertificateFormat::Rfc9440,
        CertificateFormat::Nginx,
        CertificateFormat::Envoy,
    ] {
        let Some(der) = client_certificate(format, value) else {
            continue;
        };
        if der.is_empty() {
            assert!(value.trim_matches([' ', '\t']).is_empty());
            continue;
        }
        assert!(der.len() < value.len() && value.len() <= 16 * 1024);
        let (length, header) = match der[1] {
            short @ 0..=0x7f => (usize::from(short), 2),
            0x81 => (usize::from(der[2]), 3),
            _ => (usize::from(der[2]) << 8 | usize::from(der[3]), 4),
        };
        assert_eq!((der[0], der.len()), (0x30, header + length));
    }
}

/// The header `DPoP`: a proof is accepted if it is the one of RFC 9449 §7.1, which no other key can sign. Also the URI in a
/// proof, whose normal form is its own.
pub fn proof(data: &[u8]) {
    const URI: &str = "https://resource.example.org/protectedresource";
    const TOKEN: &str = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU";
    const THUMBPRINT: &str = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Some((thumbprint, jti)) = dpop_proof(text, URI, TOKEN, 1_562_262_618) {
        assert!(!jti.is_empty());
        assert!(thumbprint != THUMBPRINT || jti == "e1j3V_bKic8-LAEB");
    }
    if let Some(normal) = target_uri(text) {
        assert_eq!(target_uri(&normal).as_deref(), Some(&*normal));
        assert!(normal.starts_with("http") && normal.is_ascii() && !normal.contains(['?', '#', '\\', ' ']));
    }
}

/// The query of a callback: no response is accepted for an attempt that nobody could guess.
pub fn authorization_response(data: &[u8]) {
    if let Ok(query) = std::str::from_utf8(data) {
        assert!(!accepts_response(query));
    }
}

/// What `state` holds when it is decrypted, and the cookie that binds it to a browser.
pub fn sign_in_attempt(data: &[u8]) {
    if let Some(return_to) = attempt(data) {
        self::return_to(return_to.as_bytes());
        assert!(return_to == "/" || data.ends_with(return_to.as_bytes()));
    }
    if let Ok(value) = std::str::from_utf8(data)
        && let Some(text) = browser(value)
    {
        assert_eq!(text[..22], value[..22]);
        assert_eq!(browser(&text), Some(text));
    }
}

/// The `Cookie` header: nobody is signed in by cookies that the app did not encrypt. Names end in what
/// the app's names end in.
pub fn cookie_header(data: &[u8]) {
    thread_local! {
        static APP: Client = app();
    }

    let Ok(value) = std::str::from_utf8(data) else {
        return;
    };
    APP.with(|app| {
        let mut request = app.get("/me");
        request.add_header(Header::new("Cookie", value.to_owned()));
        for pair in value.split(';') {
            if let Some((name, value)) = pair.split_once('=') {
                let name = own_name(name.trim(), &session_cookies().client_tag());
                request = request.cookie((name, value.trim().to_owned()));
            }
        }
        assert_eq!(request.dispatch().status(), Status::Unauthorized);
    });
}

/// `oidc_session_1` with the tag of a client is `oidc_session_<tag>_1`.
fn own_name(name: &str, tag: &str) -> String {
    for kind in ["oidc_session", "oidc_browser"] {
        if let Some(rest) = name.strip_prefix(kind) {
            return format!("{kind}_{tag}{rest}");
        }
    }
    name.to_owned()
}

/// An app at a provider that it never asks.
fn app() -> Client {
    #[get("/me")]
    fn me(user: LoggedIn) -> String {
        user.subject().to_owned()
    }

    let mut figment = Figment::from(Config::debug_default()).merge(("log_level", "off"));
    for (member, value) in [
        ("client_id", "app"),
        ("issuer", "https://op.example"),
        ("auth_uri", "https://op.example/a"),
        ("token_uri", "https://op.example/t"),
        ("jwks_uri", "https://op.example/j"),
    ] {
        figment = figment.merge((format!("oidc.client_secrets.{member}"), value));
    }
    let rocket = rocket::custom(figment).attach(Oidc::fairing()).mount("/", routes![me]);
    Client::untracked(rocket).expect("it launches")
}

/// Replies of GitHub: a user has a number, an address is not empty, and any form becomes an object.
pub fn github_user(data: &[u8]) {
    let (subject, address, is_object) = rocket_openidconnect::__private::github_replies(data);
    if let Some(subject) = subject {
        assert_eq!(subject.parse::<u64>().expect("a number").to_string(), subject);
        assert_ne!(subject, "0");
    }
    assert_ne!(address.as_deref(), Some(""));
    assert!(is_object);
}

/// Introspection replies: only those that say `"active": true` are accepted.
pub fn introspection(data: &[u8]) {
    if tokens().accept_introspection(data, NOW) {
        let object = object(data).expect("an object");
        assert!(object.contains("\"active\":true"), "{object}");
    }
}

/// Objects from outside: what was read reads the same once more, but for the last digit of a fraction.
pub fn json(data: &[u8]) {
    if let Some(json) = object(data) {
        let again = object(json.as_bytes()).expect("what was written can be read");
        let digit_then = |byte| {
            json.as_bytes()
                .windows(2)
                .any(|w| w[0].is_ascii_digit() && w[1] == byte)
        };
        if !digit_then(b'.') && !digit_then(b'e') {
            assert_eq!(again, json);
        }
    }
}

/// JWT access tokens: nothing is accepted that the keys did not sign.
pub fn jwt(data: &[u8]) {
    if let Some(token) = token(data) {
        assert!(!tokens().accept(&token, NOW));
    }
}

/// Key sets: read or refused, and bounded.
pub fn key_set(data: &[u8]) {
    if let Some(usable) = usable_keys(data) {
        assert!(usable <= 2_000);
    }
}

/// Logout tokens: nothing is accepted that the keys did not sign.
pub fn logout_token(data: &[u8]) {
    if let Some(token) = token(data) {
        assert!(!tokens().accept_logout_token(&token, NOW));
    }
}

/// Metadata: accepted only for the issuer that was asked.
pub fn metadata(data: &[u8]) {
    assert!(!accepts_metadata(data, "https://nobody.example"));
    accepts_metadata(data, "https://op.example");
}

/// URLs of Redis: hosts that can be connected to, or an error.
pub fn redis_url(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Some(hosts) = rocket_openidconnect::__private::redis_hosts(text) else {
        return;
    };
    assert!(hosts.len() <= 64);
    assert_eq!(
        hosts.is_empty(),
        text.starts_with("unix:///") || text.starts_with("unix://") && text.contains("@/")
    );
    for (name, port) in hosts {
        assert!(port != 0 && !name.is_empty() && name.len() <= 253 && text.contains(&name));
        assert!(
            name.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte))
        );
    }
}

/// Return addresses: always a path of this app.
pub fn return_to(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let address = rocket_openidconnect::__private::return_to(text);
    assert!(address == "/" || address == text);
    assert!(address.starts_with('/') && !address.starts_with("//"));
    assert!(address.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\'));
}

/// What is in encrypted cookies, which another version may have written; and texts that were never encrypted.
pub fn sealed_text(data: &[u8]) {
    let keys = session_cookies();
    keys.reads(data);
    if let Ok(text) = std::str::from_utf8(data) {
        assert_eq!(keys.decrypt(text), None);
    }
}

/// The keys of [`app`]'s client.
pub fn session_cookies() -> &'static SessionCookies {
    static KEYS: OnceLock<SessionCookies> = OnceLock::new();
    KEYS.get_or_init(|| SessionCookies::new(&"07".repeat(32), "https://op.example", "app").expect("32 bytes in hex"))
}

/// Token replies: accepted only with an access token in them.
pub fn token_response(data: &[u8]) {
    if let Some(access_token) = token_reply(data) {
        assert!(!access_token.is_empty());
    }
}

/// UserInfo replies: about the person who was asked about, or refused.
pub fn user_info(data: &[u8]) {
    if let Some(claims) = rocket_openidconnect::__private::user_info(data, "alice") {
        assert_eq!(claims.get::<String>("sub").as_deref(), Some("alice"));
    }
}

/// The first byte says how the rest is a token: as it is, or as the parts of one, divided by zeros.
fn token(data: &[u8]) -> Option<String> {
    let (how, rest) = data.split_first()?;
    match how % 2 {
        0 => std::str::from_utf8(rest).ok().map(str::to_owned),
        _ => {
            let parts: Vec<String> = rest.splitn(3, |byte| *byte == 0).map(base64url).collect();
            Some(parts.join("."))
        }
    }
}

fn base64url(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - chunk.len()));
        for i in 0..=chunk.len() {
            text.push(DIGITS[(bits >> (18 - 6 * i) & 63) as usize] as char);
        }
    }
    text
}
