//! Every sentence of a refusal: for the log, for the caller, and for who is to mend it.

use super::*;

/// What an error says to whom.
#[track_caller]
fn says(error: impl Into<AccessTokenError>, logged: &str, description: &'static str, remedy: &'static str) {
    let error = error.into();
    assert_eq!(
        (&*error.to_string(), error.description(), error.facts().remedy),
        (logged, description, remedy)
    );
    // RFC 6750 §3: what a quoted string can hold.
    let plain = |c: char| matches!(c, ' ' | '!' | '#'..='[' | ']'..='~');
    assert!(description.chars().all(plain), "{description}");
}

fn text(text: &str) -> String {
    text.to_owned()
}

const REPORT: &str = "report this to the provider: its token is not a well-formed signed JWT";
const NO_JWT: &str = "the token is not a well-formed signed JWT";
const KEYS: &str =
    "check that the provider publishes its signing keys at its `jwks_uri`, and see the log for keys that were skipped";
const CLOCKS: &str = "synchronise the clocks of this machine and of the provider, or raise `clock_skew`";
const CLAIM: &str = "a claim of the token is missing or of the wrong type";
const STANDARD: &str = "have the provider send the claim as its standard requires";

#[test]
fn of_what_is_no_jwt() {
    says(
        AccessTokenError::TooLong {
            max: 16384,
            actual: 16385,
        },
        "the access token has 16385 bytes, more than 16384",
        "the token is too long",
        "have the provider put less into access tokens, or issue opaque ones",
    );
    says(
        JwsError::Parts { actual: 5 },
        "expected a signed JWT of 3 parts, found 5",
        NO_JWT,
        "have the provider send signed tokens that are not encrypted for this client",
    );
    says(
        JwsError::Base64 { part: "payload" },
        "the payload of the token is not base64url without padding",
        NO_JWT,
        REPORT,
    );
    let json = JsonError::Syntax { line: 1, column: 2 };
    says(
        JwsError::Header(json.clone()),
        "the header of the token cannot be parsed: not valid JSON: parsing failed at line 1, column 2",
        NO_JWT,
        REPORT,
    );
    says(
        JwsError::Payload(json.clone()),
        "the payload of the token cannot be parsed: not valid JSON: parsing failed at line 1, column 2",
        NO_JWT,
        REPORT,
    );
    says(
        JwsError::HeaderMember {
            member: "kid",
            actual: "a number",
        },
        "the header member \"kid\" of the token is a number, not a string",
        NO_JWT,
        REPORT,
    );
    says(
        JwsError::CriticalExtension,
        "the token requires header extensions (\"crit\"), of which none is supported",
        NO_JWT,
        REPORT,
    );
    says(
        JwsError::MissingAlgorithm,
        "the header of the token has no \"alg\"",
        NO_JWT,
        REPORT,
    );
    says(
        AccessTokenError::Opaque,
        "the token is not a JWT, and opaque tokens are not accepted",
        "the token is not a JWT",
        "have the provider issue JWT access tokens for this API, or give it an introspection endpoint and set `client_id`; see `token_validation`",
    );
    says(
        AccessTokenError::Introspection(json),
        "the introspection response cannot be parsed: not valid JSON: parsing failed at line 1, column 2",
        "the token is not active",
        "report this to the provider: what it sent is not a well-formed JSON object",
    );
}

#[test]
fn of_a_signature() {
    says(
        JwsError::UnknownAlgorithm { actual: text("none") },
        "the token is signed with \"none\", which is never accepted",
        "the token is signed with an algorithm that is not accepted",
        "have the provider sign with RS256, ES256 or another algorithm that is supported",
    );
    says(
        JwsError::AlgorithmNotAllowed {
            expected: vec![RS256, ES256],
            actual: SigningAlgorithm::HS256,
        },
        "the token is signed with HS256, expected RS256, ES256",
        "the token is signed with an algorithm that is not accepted",
        "have the provider sign access tokens with a key pair, by RS256 or ES256: whoever verifies HS256 can also sign with it, so no setting accepts it",
    );
    says(
        JwsError::AlgorithmNotAllowed {
            expected: vec![RS256],
            actual: ES256,
        },
        "the token is signed with ES256, expected RS256",
        "the token is signed with an algorithm that is not accepted",
        "if the provider signs access tokens with it, name it in `access_token_signing_algs`",
    );
    says(
        JwsError::UnknownKey { kid: text("new") },
        "the provider's key set has no usable key \"new\"",
        "the token is signed with an unknown key",
        KEYS,
    );
    says(
        JwsError::NoFittingKey {
            algorithm: RS256,
            kid: Some(text("ec")),
        },
        "the provider's key set has no key for RS256 named \"ec\"",
        "the token is signed with an unknown key",
        KEYS,
    );
    says(
        JwsError::BadSignature {
            algorithm: RS256,
            kid: None,
        },
        "the RS256 signature of the token is wrong",
        "the signature of the token is wrong",
        "refuse the token; if it came from the provider itself, check that its `jwks_uri` shows its current keys",
    );
}

#[test]
fn of_a_claim() {
    says(
        ClaimError::Missing { claim: "aud" },
        "the claim \"aud\" is missing",
        CLAIM,
        "have the provider put this API into `aud` (an audience mapper, or a resource indicator); for Amazon Cognito, set `audience_claim = \"client_id\"`",
    );
    says(
        ClaimError::Missing { claim: "exp" },
        "the claim \"exp\" is missing",
        CLAIM,
        STANDARD,
    );
    says(
        wrong_type("sub", "a string", "a number"),
        "the claim \"sub\" is a number, not a string",
        CLAIM,
        STANDARD,
    );
    says(ClaimError::EmptySubject, "the claim \"sub\" is empty", CLAIM, STANDARD);
    says(
        ClaimError::Expired { exp: 1, now: 2 },
        "the token expired at 1, it is now 2 (seconds since 1970)",
        "the token has expired",
        "get a new token; if it was new, synchronise the clocks of this machine and of the provider",
    );
    says(
        ClaimError::NotYetValid { nbf: 2, now: 1 },
        "the token is valid from 2, it is only 1 now (seconds since 1970)",
        "the token is not valid yet",
        CLOCKS,
    );
    says(
        ClaimError::IssuedInTheFuture { iat: 2, now: 1 },
        "the token was issued at 2, it is only 1 now (seconds since 1970)",
        "the token is not valid yet",
        CLOCKS,
    );
    says(
        ClaimError::Issuer {
            expected: text("https://a.example"),
            actual: text("https://b.example"),
        },
        "the token is issued by \"https://b.example\", expected \"https://a.example\"",
        "the token comes from another issuer",
        "set `issuer` to exactly what the provider's metadata calls `issuer`, with or without a trailing slash",
    );
    says(
        AccessTokenError::UnknownIssuer {
            expected: vec![text("https://a.example")],
            actual: text("https://b.example"),
        },
        "the token is issued by \"https://b.example\", expected one of [\"https://a.example\"]",
        "the token comes from another issuer",
        "to accept tokens of that issuer, add it to the table `issuers`",
    );
    says(
        AccessTokenError::Audience {
            expected: vec![text("api")],
            actual: vec![text("other")],
        },
        "the token is meant for [\"other\"], expected one of [\"api\"]",
        "the token is meant for another API",
        "ask the provider for a token for this API, or set `audience` to what it puts into `aud`",
    );
    says(
        AccessTokenError::NoSubject,
        "the token has neither \"sub\" nor \"client_id\"",
        "the token names neither a user nor a client",
        "have the provider put `sub` or `client_id` into its access tokens; lightweight tokens lack them",
    );
}

#[test]
fn of_another_use() {
    says(
        AccessTokenError::TokenType {
            expected: "\"at+jwt\"",
            actual: Some(text("JWT")),
        },
        "the token is of type \"JWT\", expected \"at+jwt\"",
        "the token is not an access token",
        "send an access token; if the provider does not name its type, set `require_at_jwt = false`",
    );
    says(
        AccessTokenError::TokenType {
            expected: "\"at+jwt\"",
            actual: None,
        },
        "the token is of no type, expected \"at+jwt\"",
        "the token is not an access token",
        "send an access token; if the provider does not name its type, set `require_at_jwt = false`",
    );
    says(
        AccessTokenError::AnotherUse {
            reason: text("it has \"events\""),
        },
        "the token is not an access token: it has \"events\"",
        "the token is not an access token",
        "send the access token; if this issuer's access tokens look like its ID tokens, set `token_validation = \"introspection\"`; to accept its identity tokens, such as those of a CI job or a workload, set `accepts = \"identity_tokens\"` for it, and `audience` to another value than the client id",
    );
    says(
        AccessTokenError::UnknownUse {
            setting: text("oidc.issuers.ci.accepts"),
            accepts: Accepts::AccessTokens,
        },
        "the token does not show that it is an access token, and `oidc.issuers.ci.accepts` is \"access_tokens\"",
        "the token does not show that it is an access token",
        "have the provider add a scope, or the type `at+jwt`; or set `accepts` of this issuer: to `identity_tokens` for identity tokens, such as those of a CI job or a workload, or to `untyped_tokens` for access tokens without such a mark",
    );
    says(
        AccessTokenError::UnknownUseForClient,
        "the token does not show that it is an access token, and its audience is the client id, as that of an ID token",
        "the token does not show that it is an access token",
        "set `audience` to an identifier of this API that is not the client id, and have the provider put it into `aud`",
    );
    says(
        AccessTokenError::NoAudience {
            expected: vec![text("api")],
        },
        "the introspection response has no \"aud\", expected one of [\"api\"]",
        "the token has no audience",
        "have the provider name this API in the `aud` of its introspection responses; if every token that it reports as active may be used here, set `insecure_introspection_without_audience = true`",
    );
    says(
        AccessTokenError::Bound,
        "the token is bound to a key by \"cnf\", and the request has no proof of that key",
        "the token is bound to a key, which the request does not prove",
        "set `dpop_tokens = \"accepted\"` and have the client send `Authorization: DPoP …` with a proof, or have the provider issue bearer tokens for this API",
    );
    says(
        AccessTokenError::Unbound,
        "the token is bound to no key, and was sent with the scheme DPoP",
        "the token is not bound to a key",
        "send `Authorization: Bearer …`, or have the client send a proof to the token endpoint so that the provider binds the token",
    );
    says(
        AccessTokenError::ProofRequired,
        "the token was sent as a bearer token, and a proof of possession is required",
        "a token that is bound to a key is required",
        "send a token that is bound to a key with `Authorization: DPoP …` and a proof",
    );
    says(
        AccessTokenError::BindingRequired,
        "the token is bound to nothing, and one that is bound to a key or to a client certificate is required",
        "a token that is bound to a key or to a client certificate is required",
        "have the provider bind the token to the client's certificate, or by DPoP to its key",
    );
    says(
        AccessTokenError::OtherKey,
        "the token is bound to another key than the one of the proof",
        "the token is bound to another key",
        "sign the proof with the key whose proof the client sent to the token endpoint",
    );
    says(
        AccessTokenError::Confirmation {
            cause: text("it is empty"),
        },
        "the \"cnf\" of the token is not accepted: it is empty",
        "the token is bound in a way that is not accepted",
        "have the provider bind the token by DPoP (`jkt`), by a client certificate (`x5t#S256`) or by both, or issue bearer tokens for this API",
    );
    says(
        AccessTokenError::NoCertificate,
        "the token is bound to a client certificate by \"cnf\", and the request has none",
        "the token is bound to a client certificate, which the request does not have",
        "have the client send its certificate, and set the table `client_certificate`, by which this API learns of it from Rocket's TLS or from a proxy",
    );
    says(
        AccessTokenError::OtherCertificate,
        "the token is bound to another client certificate than the one of the request",
        "the token is bound to another client certificate",
        "have the client connect with the certificate that it had at the token endpoint, or get another token",
    );
    says(
        AccessTokenError::Inactive,
        "the provider reports that the token is not active",
        "the token is not active",
        "have the client get a new token",
    );
    says(
        AccessTokenError::Disabled,
        "a token cannot be checked while OpenID Connect is disabled",
        "tokens are not accepted at the moment",
        "set `enabled = true`, or send no token",
    );
}
