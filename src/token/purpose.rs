//! The purpose check: whether a JWT or an introspection response is about an access token.
//!
//! A signature, an issuer and an audience do not distinguish an access token from other tokens. [RFC 9068] gives
//! access tokens a type of their own, which many providers do not use. So a token is accepted when a claim marks it
//! as an access token, or when the operator declares what this issuer's tokens are; never for the mere lack of a mark
//! of another kind.
//!
//! The first matching row decides. `aud` was matched before; of several matches, our client id counts.
//!
//! | | the token has | verdict |
//! |---|---|---|
//! | 1 | a header `typ` other than none, `JWT`, `JOSE`, `at+jwt` (with or without `application/`); or `events`; or a `cnf` that no proof confirms here | reject |
//! | 2 | an issuer of identity tokens: `accepts = "identity_tokens"`, or its fetched metadata has no endpoint that signs users in or issues tokens, and no response type but `id_token`; a matched `aud` that is not our client id; and no mark of a third kind: those of row 3 except the hashes and words for identity tokens | accept |
//! | 3 | `at_hash`, `c_hash`, `s_hash`, `response_type`, `htm`, `granted_scopes`, `code` (this one unless `at+jwt`); or a payload `typ`, `token_use`, `token_type`, `tokenType`, `tokenName` that is not a word for access | reject |
//! | 4 | only what an ID token has: a matched `aud` that is the token's own client, and `nonce` or OpenID's scopes alone; or no client at all, `nonce`, `auth_time` or `amr`, and OpenID's scopes alone. No mark of row 5 but those scopes and `cid` | reject |
//! | 5 | `at+jwt`, a word for access, `scope`, `scp`, `cid`, `gty`, `azpacr`, `appidacr`, `idtyp` | accept |
//! | 6 | `nonce`, `auth_time`, `amr` | reject |
//! | 7 | `client_id` with `jti` | accept |
//! | 8 | an issuer with `accepts = "untyped_tokens"`, and a matched `aud` that is not our client id | accept |
//! | 9 | anything else | reject |
//!
//! Introspection responses are checked by rows 1, 3 and 4 only: the provider was asked about an access token.
//!
//! [RFC 9068]: https://www.rfc-editor.org/rfc/rfc9068

use serde_json::{Map, Value};

use super::{Accepts, AccessTokenError, checks::is_media_type, json::type_name};
use crate::printable::excerpt;

/// The inputs of the purpose check besides the token itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Circumstances {
    pub(super) accepts: Accepts,
    /// Whether the issuer's fetched metadata has no endpoint that signs users in or issues tokens, and no response
    /// type but `id_token`.
    pub(super) signs_nobody_in: bool,
    /// Whether an access token must have the `typ` `at+jwt`.
    pub(super) requires_at_jwt: bool,
    pub(super) audience: MatchedAudience,
}

/// The owner of the matched audience, in order of precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum MatchedAudience {
    /// The client id of this app, which is the audience of our own ID tokens.
    OurClientId,
    /// The client that the token was issued to, which is the audience of its ID tokens.
    TokensOwnClient,
    /// Neither of them.
    Api,
    /// None: introspection may omit it where a setting allows that.
    Unknown,
}

/// The source of the claims about a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source<'a> {
    /// A JWT, with the `typ` of its header.
    Jwt {
        typ: Option<&'a str>,
    },
    Introspection,
}

/// The claims for the client id: RFC 9068, OpenID Connect, Microsoft Entra ID, Okta.
pub(super) const CLIENT_ID: [&str; 4] = ["client_id", "azp", "appid", "cid"];

/// Claims of row 3 that an ID token has (OpenID Connect Core 1.0 §3.3.2.11, FAPI 1.0 Part 2 §5.1).
const HASHES: [&str; 3] = ["at_hash", "c_hash", "s_hash"];
/// Claims of row 3 of other kinds of token: request objects, DPoP proofs (RFC 9449 §4.2), and the refresh tokens of
/// Cloud Foundry's UAA.
const OF_OTHER_TOKENS: [&str; 3] = ["response_type", "htm", "granted_scopes"];
/// The claims for the kind of a token: Keycloak, Cognito, RFC 7662 and ForgeRock, ForgeRock.
const WORDS: [&str; 5] = ["typ", "token_use", "token_type", "tokenType", "tokenName"];
const WORDS_FOR_ACCESS: [&str; 5] = ["Bearer", "DPoP", "access", "access_token", "access-token"];
/// The values of [`WORDS`] for an ID token: Keycloak and Cognito, ForgeRock.
const WORDS_FOR_IDENTITY: [&str; 4] = ["ID", "id_token", "id-token", "JWTToken"];
/// Marks of row 5 that no ID token has: Auth0; Microsoft Entra ID v2, v1 and optionally.
const OF_ACCESS_TOKENS: [&str; 4] = ["gty", "azpacr", "appidacr", "idtyp"];
/// OpenID Connect Core 1.0 §5.4, §11.
const SCOPES_OF_OPENID: [&str; 6] = ["openid", "profile", "email", "address", "phone", "offline_access"];
/// Claims of row 6 (OpenID Connect Core 1.0 §2).
const OF_ID_TOKENS: [&str; 3] = ["nonce", "auth_time", "amr"];

/// A token under the purpose check.
struct Token<'a> {
    source: Source<'a>,
    /// The non-empty claims that a row names: filtered once, because they are few and rows look up many.
    claims: Vec<(&'a str, &'a Value)>,
    circumstances: Circumstances,
    /// The name of the setting `accepts` of the token's issuer.
    setting: &'a str,
}

type Verdict = Result<(), AccessTokenError>;

/// A row of the table: returns its verdict if it matches.
type Row = fn(&Token<'_>) -> Option<Verdict>;

const ROWS_FOR_JWTS: [Row; 9] = [
    security_event,
    identity_token,
    no_required_type,
    another_kind,
    id_token_of_its_client,
    sign_of_access,
    sign_of_id_token,
    client_and_jti,
    untyped_token,
];
const ROWS_FOR_INTROSPECTION: [Row; 3] = [security_event, another_kind, id_token_of_its_client];

/// Row 1, the header: a `typ` of another kind of token is rejected
/// ([RFC 8725 §3.11](https://www.rfc-editor.org/rfc/rfc8725#section-3.11)).
pub(super) fn check_header_type(typ: Option<&str>) -> Result<(), AccessTokenError> {
    let is_of = |typ: &str| {
        let mut types = ["at+jwt", "jwt", "jose"].into_iter();
        types.any(|good| is_media_type(typ, good))
    };
    match typ {
        Some(typ) if !is_of(typ) => Err(AccessTokenError::TokenType {
            expected: "\"at+jwt\", \"JWT\", \"JOSE\" or none",
            actual: Some(excerpt(typ)),
        }),
        _ => Ok(()),
    }
}

/// Whether a claim for the kind of the token is `DPoP`: its `token_type` in an introspection response (RFC 9449 §6.2), or
/// its `typ` at Keycloak.
pub(super) fn is_dpop_token(claims: &Map<String, Value>) -> bool {
    let mut words = WORDS.iter().filter_map(|name| claims.get(*name));
    words.any(|word| is_word(word, &["DPoP"]))
}

/// Whether the header `typ` is `at+jwt` ([RFC 9068 §2.1](https://www.rfc-editor.org/rfc/rfc9068#section-2.1)).
pub(super) fn is_at_jwt(typ: Option<&str>) -> bool {
    typ.is_some_and(|typ| is_media_type(typ, "at+jwt"))
}

/// Checks the remaining rows. The verdict depends on the arguments alone, so that it can be cached with the
/// circumstances.
pub(super) fn check_purpose(
    source: Source<'_>,
    claims: &Map<String, Value>,
    circumstances: Circumstances,
    setting: &str,
) -> Result<(), AccessTokenError> {
    let claims = claims.iter().map(|(name, value)| (name.as_str(), value));
    let token = Token {
        source,
        claims: claims
            .filter(|(name, value)| is_in_a_row(name) && is_present(value))
            .collect(),
        circumstances,
        setting,
    };
    let rows = match source {
        Source::Jwt { .. } => &ROWS_FOR_JWTS[..],
        Source::Introspection => &ROWS_FOR_INTROSPECTION[..],
    };
    match (rows.iter().find_map(|row| row(&token)), source) {
        (Some(verdict), _) => verdict,
        (None, Source::Introspection) => Ok(()),
        (None, Source::Jwt { .. }) => Err(unknown_use(&token)),
    }
}

/// Row 1: a logout token (Back-Channel Logout 1.0 §2.4), or another security event token (RFC 8417 §2.2).
fn security_event(token: &Token<'_>) -> Option<Verdict> {
    token.has("events").then(|| another_use("it has \"events\"".to_owned()))
}

/// Row 2.
fn identity_token(token: &Token<'_>) -> Option<Verdict> {
    let Circumstances { accepts, audience, .. } = token.circumstances;
    let is_identity_issuer = accepts == Accepts::IdentityTokens || token.circumstances.signs_nobody_in;
    let is_ours = audience == MatchedAudience::OurClientId;
    let is_of_third_kind = || {
        let is_other_word = |word: &Value| !is_word(word, &WORDS_FOR_ACCESS) && !is_word(word, &WORDS_FOR_IDENTITY);
        token.other_claim().is_some() || token.words().any(|(_, word)| is_other_word(word))
    };
    (is_identity_issuer && !is_ours && !is_of_third_kind()).then_some(Ok(()))
}

/// The setting `require_at_jwt`, which does not apply to identity tokens.
fn no_required_type(token: &Token<'_>) -> Option<Verdict> {
    (token.circumstances.requires_at_jwt && !token.is_at_jwt()).then(|| {
        Err(AccessTokenError::TokenType {
            expected: "\"at+jwt\"",
            actual: token.typ().map(excerpt),
        })
    })
}

/// Row 3.
fn another_kind(token: &Token<'_>) -> Option<Verdict> {
    let hash = HASHES.into_iter().find(|name| token.has(name));
    if let Some(name) = hash.or_else(|| token.other_claim()) {
        return Some(another_use(format!("it has {name:?}")));
    }
    let (name, word) = token.words().find(|(_, word)| !is_word(word, &WORDS_FOR_ACCESS))?;
    let word = match word {
        Value::String(word) => excerpt(word),
        other => type_name(other).to_owned(),
    };
    Some(another_use(format!("its {name:?} is {word:?}")))
}

/// Row 4.
fn id_token_of_its_client(token: &Token<'_>) -> Option<Verdict> {
    if token.shows_access() {
        return None;
    }
    let scopes = token.scopes();
    let reason = match token.circumstances.audience {
        MatchedAudience::OurClientId | MatchedAudience::TokensOwnClient
            if scopes == Scopes::OfOpenId || (scopes == Scopes::None && token.has("nonce")) =>
        {
            "its audience is its own client, as that of an ID token, and it has no other scopes than OpenID's"
        }
        _ if scopes == Scopes::OfOpenId && token.has_any(&OF_ID_TOKENS) && !token.names_client() => {
            "it has claims of an ID token, names no client, and has no other scopes than OpenID's"
        }
        _ => return None,
    };
    Some(another_use(reason.to_owned()))
}

/// Row 5.
fn sign_of_access(token: &Token<'_>) -> Option<Verdict> {
    let is_shown = token.shows_access() || token.has("cid") || token.has("scope") || token.has("scp");
    is_shown.then_some(Ok(()))
}

/// Row 6.
fn sign_of_id_token(token: &Token<'_>) -> Option<Verdict> {
    let name = OF_ID_TOKENS.into_iter().find(|name| token.has(name))?;
    Some(another_use(format!("it has {name:?}, and no sign of an access token")))
}

/// Row 7: the claims that RFC 9068 §2.2 requires beyond those of every token.
fn client_and_jti(token: &Token<'_>) -> Option<Verdict> {
    (token.has("client_id") && token.has("jti")).then_some(Ok(()))
}

/// Row 8.
fn untyped_token(token: &Token<'_>) -> Option<Verdict> {
    let Circumstances { accepts, audience, .. } = token.circumstances;
    let is_ours = audience == MatchedAudience::OurClientId;
    (accepts == Accepts::UntypedTokens && !is_ours).then_some(Ok(()))
}

/// Row 9.
fn unknown_use(token: &Token<'_>) -> AccessTokenError {
    match token.circumstances.audience {
        MatchedAudience::OurClientId => AccessTokenError::UnknownUseForClient,
        _ => AccessTokenError::UnknownUse {
            setting: token.setting.to_owned(),
            accepts: token.circumstances.accepts,
        },
    }
}

fn another_use(reason: String) -> Verdict {
    Err(AccessTokenError::AnotherUse { reason })
}

/// The scopes of a token, as the purpose check distinguishes them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scopes {
    None,
    OfOpenId,
    Others,
}

impl<'a> Token<'a> {
    /// The claim, if it is not empty.
    fn claim(&self, name: &str) -> Option<&'a Value> {
        debug_assert!(is_in_a_row(name), "{name:?} was left out");
        let mut claims = self.claims.iter();
        claims.find(|claim| claim.0 == name).map(|claim| claim.1)
    }

    fn has(&self, name: &str) -> bool {
        self.claim(name).is_some()
    }

    fn has_any(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.has(name))
    }

    fn typ(&self) -> Option<&'a str> {
        match self.source {
            Source::Jwt { typ } => typ,
            Source::Introspection => None,
        }
    }

    fn is_at_jwt(&self) -> bool {
        is_at_jwt(self.typ())
    }

    /// The claims for the kind of the token, with their values.
    fn words(&self) -> impl Iterator<Item = (&'static str, &'a Value)> {
        let words = WORDS.into_iter();
        words.filter_map(|name| Some((name, self.claim(name)?)))
    }

    /// A claim of row 3 of another kind of token. `code` is that of a signed authorization response (JARM).
    fn other_claim(&self) -> Option<&'static str> {
        let code = (!self.is_at_jwt()).then_some("code");
        let mut names = OF_OTHER_TOKENS.into_iter().chain(code);
        names.find(|name| self.has(name))
    }

    /// Whether a mark that no ID token has is there. After row 3, every word is one for access.
    fn shows_access(&self) -> bool {
        self.is_at_jwt() || self.words().next().is_some() || self.has_any(&OF_ACCESS_TOKENS)
    }

    fn names_client(&self) -> bool {
        self.has_any(&CLIENT_ID)
    }

    fn scopes(&self) -> Scopes {
        let mut scopes = Scopes::None;
        for value in ["scope", "scp"].into_iter().filter_map(|name| self.claim(name)) {
            let is_openid = |word: &str| SCOPES_OF_OPENID.contains(&word);
            let are_openid = match value {
                Value::String(text) => text.split_ascii_whitespace().all(is_openid),
                Value::Array(list) => {
                    let mut words = list.iter().map(Value::as_str);
                    words.all(|word| word.is_none_or(is_openid))
                }
                // A value of a type that no scope has.
                _ => true,
            };
            if !are_openid {
                return Scopes::Others;
            }
            scopes = Scopes::OfOpenId;
        }
        scopes
    }
}

/// Whether a row names the claim.
fn is_in_a_row(name: &str) -> bool {
    const OTHERS: [&str; 5] = ["events", "code", "scope", "scp", "jti"];
    let rows: [&[&str]; 7] = [
        &HASHES,
        &OF_OTHER_TOKENS,
        &WORDS,
        &OF_ACCESS_TOKENS,
        &OF_ID_TOKENS,
        &CLIENT_ID,
        &OTHERS,
    ];
    rows.iter().any(|names| names.contains(&name))
}

/// Whether a value is not empty: `null`, the empty string and the empty array are.
pub(super) fn is_present(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        _ => true,
    }
}

fn is_word(value: &Value, words: &[&str]) -> bool {
    let word = value.as_str();
    word.is_some_and(|word| words.iter().any(|good| word.eq_ignore_ascii_case(good)))
}
