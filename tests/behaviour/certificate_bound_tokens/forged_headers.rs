//! Headers that are each wrong in one thing: none of them is a certificate, and none is ignored.

use rocket::{http::Header, serde::json::json};

use super::app::{Answer, Api, CLIENT, FORMATS, OTHER, PROXY, base64, hash, header, thumbprint, url_encoded};

const MALFORMED: &str = "client_certificate_header";
const UNTRUSTED: &str = "client_certificate_untrusted";

/// What is wrong, and the value.
type Wrong = Vec<(&'static str, String)>;

/// What no format accepts.
fn wrong_in_any_format() -> Wrong {
    vec![
        ("the text of nothing", "forged".to_owned()),
        ("the certificate of another format", CLIENT.replace('\n', " ")),
        ("a thumbprint", thumbprint(CLIENT)),
        ("a digest", hash(CLIENT)),
        ("a subject", "CN=client".to_owned()),
        ("nginx's word for a good certificate", "SUCCESS".to_owned()),
        ("nginx's word for none", "NONE".to_owned()),
        ("a null of JSON", "null".to_owned()),
        ("a hyphen", "-".to_owned()),
        ("quotes alone", "\"\"".to_owned()),
        ("16 kB of letters", "A".repeat(16 * 1024)),
        ("more than 16 kB", "A".repeat(16 * 1024 + 1)),
        ("more than 16 kB of spaces", " ".repeat(16 * 1024 + 1)),
    ]
}

fn wrong_in_rfc9440() -> Wrong {
    let der = base64(CLIENT);
    vec![
        ("no colons", der.clone()),
        ("no colon before", format!("{der}:")),
        ("no colon after", format!(":{der}")),
        ("quotes", format!("\":{der}:\"")),
        ("a parameter", format!(":{der}:;a=1")),
        ("two items", format!(":{der}:, :{der}:")),
        ("two items, one of them empty", format!(":{der}:, ")),
        ("two byte sequences", format!(":{der}::{der}:")),
        ("an empty byte sequence", "::".to_owned()),
        ("one colon", ":".to_owned()),
        (
            "the alphabet of base64url",
            format!(":{}:", der.replace('/', "_").replace('+', "-")),
        ),
        ("a space in it", format!(":{} {}:", &der[..40], &der[40..])),
        ("no padding", format!(":{}:", der.trim_end_matches('='))),
        ("more padding", format!(":{der}==:")),
        ("the last byte missing", format!(":{}:", &der[..der.len() - 4])),
        ("a byte more", format!(":{}:", der.replace("==", "A="))),
        ("the PEM", format!(":{}:", CLIENT.replace('\n', ""))),
        (
            "two certificates in it",
            format!(":{}{}:", der.trim_end_matches('='), base64(OTHER)),
        ),
        ("the first bytes alone", ":MIIBODCB:".to_owned()),
    ]
}

fn wrong_in_nginx() -> Wrong {
    let encoded = url_encoded(CLIENT);
    vec![
        ("not encoded", CLIENT.replace('\n', " ")),
        (
            "with tabs for lines, as in $ssl_client_cert",
            CLIENT.replace('\n', "\t"),
        ),
        ("encoded twice", url_encoded(&encoded)),
        ("two certificates", url_encoded(&format!("{CLIENT}{CLIENT}"))),
        ("a chain", url_encoded(&format!("{CLIENT}{OTHER}"))),
        ("text before", url_encoded(&format!("subject=CN\n{CLIENT}"))),
        ("text after", url_encoded(&format!("{CLIENT}subject=CN"))),
        ("a line after", url_encoded(&format!("{CLIENT}\n\n"))),
        (
            "a key after",
            url_encoded(&format!("{CLIENT}-----BEGIN PRIVATE KEY-----")),
        ),
        ("no end", url_encoded(&CLIENT.replace("-----END CERTIFICATE-----", ""))),
        (
            "no begin",
            url_encoded(&CLIENT.replace("-----BEGIN CERTIFICATE-----", "")),
        ),
        (
            "another label",
            url_encoded(&CLIENT.replace("CERTIFICATE", "PUBLIC KEY")),
        ),
        (
            "a trusted certificate of OpenSSL",
            url_encoded(&CLIENT.replace("CERT", "TRUSTED CERT")),
        ),
        (
            "a header in the PEM",
            url_encoded(&CLIENT.replacen('\n', "\nA: b\n\n", 1)),
        ),
        ("a space in the base64", url_encoded(&CLIENT.replace("MIIB", "MI IB"))),
        (
            "an empty body",
            url_encoded("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"),
        ),
        ("a letter less", url_encoded(&CLIENT.replace("MIIB", "MII"))),
        ("an escape without a digit", encoded.replacen("%0A", "%0", 1)),
        ("an escape that is not hexadecimal", encoded.replacen("%0A", "%0G", 1)),
        ("an escape that is not ASCII", encoded.replacen("%0A", "%8A", 1)),
        ("an escape at the end", format!("{encoded}%")),
        ("a null byte", format!("{encoded}%00")),
        ("quotes", format!("\"{encoded}\"")),
        ("a list", format!("{encoded},{encoded}")),
        ("a list, one of them empty", format!("{encoded},")),
        ("a bare DER", base64(CLIENT)),
    ]
}

fn wrong_in_envoy() -> Wrong {
    let cert = url_encoded(CLIENT);
    let element = header("envoy", CLIENT);
    vec![
        ("two elements", format!("{element},{element}")),
        (
            "two elements, the own one last",
            format!("{},{element}", header("envoy", OTHER)),
        ),
        (
            "two elements, the first without a certificate",
            format!("By=spiffe://a,{element}"),
        ),
        ("an element and nothing", format!("{element},")),
        ("nothing and an element", format!(",{element}")),
        ("no certificate", format!("Hash={};Subject=\"CN=client\"", hash(CLIENT))),
        ("an empty certificate", "Cert=\"\"".to_owned()),
        ("two certificates", format!("Cert=\"{cert}\";Cert=\"{cert}\"")),
        (
            "two certificates by another letter case",
            format!("Cert=\"{cert}\";cert=\"{cert}\""),
        ),
        (
            "two digests",
            format!("Hash={0};Hash={0};Cert=\"{cert}\"", hash(CLIENT)),
        ),
        ("the digest of another", format!("Hash={};Cert=\"{cert}\"", hash(OTHER))),
        ("an empty digest", format!("Hash=;Cert=\"{cert}\"")),
        ("a chain for a certificate", format!("Chain=\"{cert}\"")),
        (
            "a chain in the certificate",
            format!("Cert=\"{}\"", url_encoded(&format!("{CLIENT}{OTHER}"))),
        ),
        (
            "a certificate that is not encoded",
            format!("Cert=\"{}\"", CLIENT.replace('\n', " ")),
        ),
        ("a quote without an end", format!("Cert=\"{cert}")),
        ("text after the quote", format!("Cert=\"{cert}\"x")),
        ("a semicolon at the end", format!("{element};")),
        ("two semicolons", format!("By=a;;Cert=\"{cert}\"")),
        ("a name without a value", format!("By;Cert=\"{cert}\"")),
        ("a value without a name", format!("=a;Cert=\"{cert}\"")),
        ("a space in a name", format!("By=a; Cert=\"{cert}\"")),
        ("a colon for the equals sign", format!("Cert:\"{cert}\"")),
        ("a certificate in the subject", format!("Subject=\"Cert={cert}\"")),
        ("an escaped quote", format!("Subject=\"a\\\";Cert=\"{cert}\"")),
        ("the format of nginx", cert),
    ]
}

#[rocket::async_test]
async fn a_header_that_is_wrong_in_one_thing_is_refused() {
    let mut count = 0;
    for (format, own) in FORMATS
        .into_iter()
        .zip([wrong_in_rfc9440(), wrong_in_nginx(), wrong_in_envoy()])
    {
        let api = Api::open(format).await;
        let (bound, bearer) = (api.bound_token(), api.token(json!(null)));
        api.send(&bound, &[&header(format, CLIENT)]).await.is_accepted();
        for (what, value) in wrong_in_any_format().into_iter().chain(own) {
            let why = format!("{format}, {what}");
            // Whatever the token is: a header that is not understood is not ignored.
            for token in [&bound, &bearer] {
                api.send(token, &[&value]).await.is_refused(400, MALFORMED, &why);
            }
            let lines = api.log.all_lines().join("\n");
            assert!(value.len() < 20 || !lines.contains(&value), "{why}");
            count += 1;
        }
        api.send(&bound, &[&header(format, CLIENT)]).await.is_accepted();
    }
    assert!(count >= 60, "{count}");
}

#[rocket::async_test]
async fn each_spelling_of_a_good_header_is_accepted() {
    let cert = url_encoded(CLIENT);
    let of_envoy = CLIENT
        .replace('\n', "%0A")
        .replace(' ', "%20")
        .replace('+', "%2B")
        .replace('=', "%3D");
    for (format, value) in [
        ("rfc9440", format!("  {}\t", header("rfc9440", CLIENT))),
        (
            "nginx",
            cert.replace("%0A", "%0a").replace("%2B", "%2b").replace("%2F", "%2f"),
        ),
        (
            "nginx",
            cert.replace("%2F", "/").replace("%3D", "=").replace("%2B", "+"),
        ),
        ("nginx", url_encoded(CLIENT.trim_end())),
        ("nginx", url_encoded(&CLIENT.replace('\n', "\r\n"))),
        ("envoy", format!("Cert={of_envoy}")),
        ("envoy", format!("By=spiffe://a;cert=\"{cert}\"")),
        ("envoy", format!("Hash={};CERT=\"{cert}\"", hash(CLIENT).to_uppercase())),
        (
            "envoy",
            format!("Subject=\"CN=\\\"a\\\",O=b;c\";Cert=\"{cert}\";URI=;DNS=a;DNS=b"),
        ),
        ("envoy", format!("Chain=\"{cert}\";Cert=\"{cert}\"")),
    ] {
        let api = Api::open(format).await;
        api.send(&api.bound_token(), &[&value]).await.is_accepted();
    }
}

#[rocket::async_test]
async fn two_headers_are_refused() {
    for format in FORMATS {
        let api = Api::open(format).await;
        let (own, other) = (header(format, CLIENT), header(format, OTHER));
        for values in [
            [&*own, &own],
            [&own, &other],
            [&other, &own],
            [&own, ""],
            ["", &own],
            ["", ""],
        ] {
            let answer = api.send(&api.bound_token(), &values).await;
            answer.is_refused(400, MALFORMED, format);
        }
    }
}

/// The peer is that of the connection: headers about the client's address say nothing.
#[rocket::async_test]
async fn a_stranger_reports_no_certificate() {
    for format in FORMATS {
        let api = Api::open(format).await;
        let (bound, bearer, own) = (api.bound_token(), api.token(json!(null)), header(format, CLIENT));
        for peer in [
            "10.0.1.5",
            "127.0.0.1",
            "192.0.2.1",
            "::2",
            "2001:db8::1",
            "::ffff:10.0.1.5",
            "unknown",
        ] {
            for (token, value) in [(&bound, &*own), (&bearer, &own), (&bound, ""), (&bearer, "forged")] {
                let answer = api.send_from(peer, "/notes", token, &[value]).await;
                answer.is_refused(400, UNTRUSTED, peer);
            }
            api.send_from(peer, "/notes", &bearer, &[]).await.is_accepted();
        }
        for proxy in [PROXY, "10.0.0.255", "::1", "::ffff:10.0.0.5"] {
            api.send_from(proxy, "/notes", &bound, &[&own]).await.is_accepted();
        }
        for name in ["X-Real-IP", "X-Forwarded-For", "Forwarded", "Client-IP"] {
            let mut request = api.client.get("/notes").remote("192.0.2.1:1".parse().unwrap());
            request.add_header(Header::new("Authorization", format!("Bearer {bound}")));
            request.add_header(Header::new(name, PROXY));
            request.add_header(Header::new(api.header, own.clone()));
            Answer::to(request).await.is_refused(400, UNTRUSTED, name);
        }
    }
}

/// One header in one format is configured: others are not read, by whatever peer.
#[rocket::async_test]
async fn other_headers_are_ignored() {
    let api = Api::open("nginx").await;
    for peer in [PROXY, "192.0.2.1"] {
        for (name, format) in [
            ("Client-Cert", "rfc9440"),
            ("X-Forwarded-Client-Cert", "envoy"),
            ("X-Client-Cert", "nginx"),
            ("X_SSL_Client_Cert", "nginx"),
            ("SSL_CLIENT_CERT", "nginx"),
        ] {
            let send = |token: String| {
                let mut request = api.client.get("/notes").remote(format!("{peer}:1").parse().unwrap());
                request.add_header(Header::new("Authorization", format!("Bearer {token}")));
                request.add_header(Header::new(name, header(format, CLIENT)));
                Answer::to(request)
            };
            send(api.token(json!(null))).await.is_accepted();
            let answer = send(api.bound_token()).await;
            answer.is_refused(401, "access_token_no_certificate", name);
        }
    }
}

#[rocket::async_test]
async fn the_header_has_the_name_of_the_setting() {
    let settings = json!({
        "client_certificate": { "format": "nginx", "proxies": [PROXY], "header": "X-Amzn-Mtls-Clientcert-Leaf" },
    });
    let api = Api::with("nginx", settings).await;
    let send = |name: &'static str| {
        let mut request = api.client.get("/notes").remote(format!("{PROXY}:1").parse().unwrap());
        request.add_header(Header::new("Authorization", format!("Bearer {}", api.bound_token())));
        request.add_header(Header::new(name, header("nginx", CLIENT)));
        Answer::to(request)
    };
    send("x-amzn-mtls-clientcert-leaf").await.is_accepted();
    let answer = send("X-SSL-Client-Cert").await;
    answer.is_refused(401, "access_token_no_certificate", "the default name");
}
