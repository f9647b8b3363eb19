//! The binary encoding of a session: the record that is encrypted as one value.
//!
//! A record is a small JSON object with times and the app's data, then the body: the provider's tokens and claims.
//! Claims, UserInfo, and headers and payloads of JWTs are compressed in one stream. Signatures, opaque tokens, ids and
//! the app's data are not: compression next to attacker-chosen text would leak a secret by its length.

use std::{ops::Not, sync::Arc};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use miniz_oxide::{deflate::compress_to_vec, inflate::decompress_slice_iter_to_slice};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Session, SessionTokens};
use crate::{
    secret::{self, Secret},
    token::{ClaimSources, Claims, ProofKey, optional_proof_key, parse_object},
};

/// Maximum inflated size of a record, in bytes. A session that would exceed it is rejected when it is encoded.
const MAX_INFLATED: usize = 256 * 1024;
/// The level of `miniz_oxide`, from 1 to 10: higher levels do not shrink texts of this size further.
const COMPRESSION_LEVEL: u8 = 7;

/// Metadata of the tokens.
#[derive(Serialize, Deserialize)]
struct TokenMetadata {
    #[serde(rename = "x", default, skip_serializing_if = "Option::is_none")]
    access_token_expires_at: Option<i64>,
    #[serde(
        rename = "n",
        default,
        with = "secret::optional_text",
        skip_serializing_if = "Option::is_none"
    )]
    nonce: Option<Secret>,
    /// See [`ClaimSources::is_user_info_older`].
    #[serde(rename = "o", default, skip_serializing_if = "Not::not")]
    is_user_info_older: bool,
    #[serde(rename = "d", default, skip_serializing_if = "Vec::is_empty")]
    authorization_details: Vec<Value>,
    /// Not in the compressed stream, as all secrets.
    #[serde(
        rename = "k",
        default,
        with = "optional_proof_key",
        skip_serializing_if = "Option::is_none"
    )]
    proof_key: Option<ProofKey>,
    /// The encoding of each token.
    #[serde(rename = "t")]
    tokens: [TokenEncoding; 3],
    /// The inflated size of the compressed stream, in bytes.
    #[serde(rename = "l")]
    stream_len: usize,
}

/// How a token is encoded.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum TokenEncoding {
    #[serde(rename = "")]
    Absent,
    /// Verbatim.
    #[serde(rename = "o")]
    Opaque,
    /// The signature here; header and payload in the compressed stream.
    #[serde(rename = "j")]
    Jwt,
}

/// The error of a record whose stream would exceed `MAX_INFLATED`: its size in bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong(pub(super) usize);

/// Encodes the whole record, before encryption.
pub(super) fn encode(session: &Session, body: &[u8]) -> Vec<u8> {
    let mut record = Vec::with_capacity(200 + body.len());
    put(&mut record, &json(session));
    record.extend_from_slice(body);
    record
}

/// Encodes the body of a record: tokens and claims.
pub(super) fn encode_body(tokens: &SessionTokens) -> Result<Vec<u8>, TooLong> {
    let sources = &tokens.sources;
    let texts = [&tokens.id_token, &tokens.access_token, &tokens.refresh_token];
    let jwts = texts.map(|token| token.as_ref().and_then(|token| Jwt::parse(token.expose())));
    let encoding = |i: usize| match (texts[i], &jwts[i]) {
        (None, _) => TokenEncoding::Absent,
        (Some(_), None) => TokenEncoding::Opaque,
        (Some(_), Some(_)) => TokenEncoding::Jwt,
    };

    let mut stream = vec![];
    put(&mut stream, &sources.user_info.as_ref().map(json).unwrap_or_default());
    let omitted = sources.sign_in.iter();
    let omitted = omitted.filter(|(name, _)| sources.id_token.value(name).is_none());
    let omitted: Map<_, _> = omitted.map(|(name, value)| (name.to_owned(), value.clone())).collect();
    let omitted = (!omitted.is_empty()).then(|| json(&omitted));
    put(&mut stream, &omitted.unwrap_or_default());
    let has_id_token = jwts[0].is_some();
    let id_token = (!has_id_token).then(|| json(&sources.id_token));
    put(&mut stream, &id_token.unwrap_or_default());
    for jwt in jwts.iter().flatten() {
        put(&mut stream, &jwt.header);
        put(&mut stream, &jwt.payload);
    }
    if stream.len() > MAX_INFLATED {
        return Err(TooLong(stream.len()));
    }
    let mut body = vec![];
    put(
        &mut body,
        &json(&TokenMetadata {
            access_token_expires_at: tokens.access_token_expires_at,
            nonce: tokens.nonce.clone(),
            is_user_info_older: sources.is_user_info_older,
            authorization_details: tokens.authorization_details.clone(),
            proof_key: tokens.proof_key.clone(),
            tokens: [encoding(0), encoding(1), encoding(2)],
            stream_len: stream.len(),
        }),
    );
    for (token, jwt) in texts.iter().zip(&jwts) {
        match (token, jwt) {
            (_, Some(jwt)) => put(&mut body, &jwt.signature),
            (Some(token), None) => put(&mut body, token.expose().as_bytes()),
            (None, None) => {}
        }
    }

    body.extend_from_slice(&compress_to_vec(&stream, COMPRESSION_LEVEL));
    Ok(body)
}

/// Decodes a record: the session with the merged claims of its sources, and the offset of the body. `None` also if
/// `issuer` finds no issuer for the claims.
pub(super) fn decode(record: &[u8], issuer: impl FnOnce(&Claims) -> Option<Arc<str>>) -> Option<(Session, usize)> {
    let mut rest = record;
    let mut session: Session = serde_json::from_slice(take(&mut rest)?).ok()?;
    let body_start = record.len() - rest.len();
    let body = Body::split(rest)?;
    session.claims = body.stored_sources(&body.inflate()?)?.into_merged();
    session.issuer = issuer(&session.claims)?;
    Some((session, body_start))
}

/// Decodes the tokens and the claim sources from the body of a record.
pub(super) fn decode_body(body: &[u8]) -> Option<SessionTokens> {
    let body = Body::split(body)?;
    let stream = body.inflate()?;
    let (_, mut rest) = split_sources(&stream)?;
    let mut tokens = [None, None, None];
    for (token, (encoding, kept)) in tokens.iter_mut().zip(body.tokens) {
        *token = match encoding {
            TokenEncoding::Absent => None,
            TokenEncoding::Opaque => Some(Secret::new(std::str::from_utf8(kept).ok()?)),
            TokenEncoding::Jwt => {
                let (header, payload) = (take(&mut rest)?, take(&mut rest)?);
                Some(Secret::new(Jwt::join(header, payload, kept)))
            }
        };
    }
    let [id_token, access_token, refresh_token] = tokens;
    Some(SessionTokens {
        access_token,
        access_token_expires_at: body.facts.access_token_expires_at,
        refresh_token,
        id_token,
        nonce: body.facts.nonce.clone(),
        authorization_details: body.facts.authorization_details.clone(),
        proof_key: body.facts.proof_key.clone(),
        sources: body.sources(&stream)?,
    })
}

/// The body of a record, with its stream still compressed.
struct Body<'a> {
    facts: TokenMetadata,
    tokens: [(TokenEncoding, &'a [u8]); 3],
    compressed: &'a [u8],
}

impl<'a> Body<'a> {
    fn split(mut body: &'a [u8]) -> Option<Body<'a>> {
        let facts: TokenMetadata = serde_json::from_slice(take(&mut body)?).ok()?;
        let mut tokens = facts.tokens.map(|encoding| (encoding, &[][..]));
        for (encoding, kept) in &mut tokens {
            if *encoding != TokenEncoding::Absent {
                *kept = take(&mut body)?;
            }
        }
        Some(Body {
            facts,
            tokens,
            compressed: body,
        })
    }

    fn inflate(&self) -> Option<Vec<u8>> {
        let length = self.facts.stream_len;
        if length > MAX_INFLATED {
            return None;
        }
        let mut stream = vec![0; length];
        let compressed = std::iter::once(self.compressed);
        let inflated = decompress_slice_iter_to_slice(&mut stream, compressed, false, true);
        (inflated == Ok(length)).then_some(stream)
    }

    /// The claim sources as the record has them: of the sign-in, only the claims that the latest ID token lacks. It is
    /// enough to merge them, which each first sight of a session does, and copies no claim.
    fn stored_sources(&self, stream: &[u8]) -> Option<ClaimSources> {
        let ([user_info, sign_in, id_token], mut rest) = split_sources(stream)?;
        let id_token = if self.tokens[0].0 == TokenEncoding::Jwt {
            take(&mut rest)?;
            take(&mut rest)?
        } else {
            id_token
        };
        let optional = |text: &[u8]| {
            if text.is_empty() {
                Some(None)
            } else {
                claims(text).map(Some)
            }
        };
        Some(ClaimSources {
            id_token: claims(id_token)?,
            user_info: optional(user_info)?,
            sign_in: optional(sign_in)?.unwrap_or_default(),
            is_user_info_older: self.facts.is_user_info_older,
        })
    }

    /// The claim sources, with all claims of the sign-in.
    fn sources(&self, stream: &[u8]) -> Option<ClaimSources> {
        let stored = self.stored_sources(stream)?;
        let mut sources = ClaimSources::new(stored.id_token, stored.user_info);
        sources.is_user_info_older = stored.is_user_info_older;
        for (name, value) in stored.sign_in.iter() {
            sources.sign_in.insert(name, value.clone());
        }
        Some(sources)
    }
}

/// Splits the claim sources off the beginning of a stream, as JSON or empty if absent: UserInfo, the claims of the
/// sign-in that the latest ID token lacks, and the claims of an ID token that is not encoded as a JWT.
fn split_sources(mut stream: &[u8]) -> Option<([&[u8]; 3], &[u8])> {
    let sources = [take(&mut stream)?, take(&mut stream)?, take(&mut stream)?];
    Some((sources, stream))
}

/// A JWT split into its three parts, decoded.
struct Jwt {
    header: Vec<u8>,
    payload: Vec<u8>,
    signature: Vec<u8>,
}

impl Jwt {
    /// `None` unless header and payload are JSON objects, and the parts re-encode to the same text byte for byte.
    fn parse(token: &str) -> Option<Jwt> {
        let mut parts = token.split('.');
        let mut next = || URL_SAFE_NO_PAD.decode(parts.next()?).ok();
        let (header, payload, signature) = (next()?, next()?, next()?);
        parse_object(&header).ok()?;
        parse_object(&payload).ok()?;
        let is_same = Jwt::join(&header, &payload, &signature) == token;
        is_same.then_some(Jwt {
            header,
            payload,
            signature,
        })
    }

    fn join(header: &[u8], payload: &[u8], signature: &[u8]) -> String {
        let length = header.len() + payload.len() + signature.len();
        let mut token = String::with_capacity(length / 3 * 4 + 8);
        URL_SAFE_NO_PAD.encode_string(header, &mut token);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(payload, &mut token);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        token
    }
}

fn claims(object: &[u8]) -> Option<Claims> {
    parse_object(object).ok().map(Claims::from)
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("strings, numbers and JSON with string keys always serialize")
}

/// Appends a part, prefixed with its length as a varint (LEB128).
fn put(bytes: &mut Vec<u8>, part: &[u8]) {
    let mut length = part.len();
    while length >= 0x80 {
        bytes.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes.extend_from_slice(part);
}

/// Splits a length-prefixed part off the beginning.
fn take<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let mut length = 0;
    for shift in [0, 7, 14, 21] {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        length |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            let (part, rest) = bytes.split_at_checked(length)?;
            *bytes = rest;
            return Some(part);
        }
    }
    None
}

/// A proof key as the record has it.
#[cfg(feature = "__internals")]
#[derive(Serialize)]
struct TextOfKey {
    #[serde(with = "optional_proof_key")]
    key: Option<ProofKey>,
}

/// A record as JSON, for tests and fuzzing.
#[cfg(feature = "__internals")]
pub(crate) fn to_json(record: &[u8]) -> Option<Value> {
    let (session, body_start) = decode(record, |_| Some("".into()))?;
    let tokens = decode_body(&record[body_start..])?;
    let text = |token: &Option<Secret>| token.as_ref().map(|token| token.expose().to_owned());
    Some(serde_json::json!({
        "id": session.id.expose(),
        "claims": session.claims,
        "data": session.data,
        "generation": session.generation,
        "refresh_due": session.refresh_due,
        "user_info_due": session.user_info_due,
        "started": session.started,
        "ends": session.ends,
        "seen": session.seen,
        "access_token": text(&tokens.access_token),
        "access_token_expires_at": tokens.access_token_expires_at,
        "refresh_token": text(&tokens.refresh_token),
        "id_token": text(&tokens.id_token),
        "nonce": text(&tokens.nonce),
        "proof_key": serde_json::to_value(TextOfKey { key: tokens.proof_key.clone() }).ok()?["key"],
    }))
}

/// The record of a session, for benchmarks.
#[cfg(feature = "__internals")]
pub(crate) fn to_record(session: &Session, tokens: &SessionTokens) -> Vec<u8> {
    let body = encode_body(tokens).unwrap_or_default();
    encode(session, &body)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use time::OffsetDateTime;

    use super::*;
    use crate::{requirement::Authentication, token::ProofAlgorithm};

    const ISSUER: &str = "https://op.example";

    fn claims(value: Value) -> Claims {
        serde_json::from_value(value).unwrap()
    }

    fn jwt(payload: &Value) -> String {
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let payload = payload.to_string();
        let (header, signature) = (br#"{"alg":"RS256","kid":"1"}"#, [0xA5; 256]);
        [part(header), part(payload.as_bytes()), part(&signature)].join(".")
    }

    fn tokens(texts: [Option<&str>; 3], id_token: Value, user_info: Option<Value>) -> SessionTokens {
        let [access, refresh, id] = texts.map(|text| text.map(Secret::new));
        SessionTokens {
            access_token: access,
            access_token_expires_at: Some(7),
            refresh_token: refresh,
            id_token: id,
            nonce: Some(Secret::new("nonce")),
            authorization_details: vec![json!({ "type": "payment", "amount": "1.00" })],
            proof_key: Some(ProofKey::random(ProofAlgorithm::Es256)),
            sources: ClaimSources::new(claims(id_token), user_info.map(claims)),
        }
    }

    fn session(tokens: &SessionTokens) -> Session {
        let now = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let mut session = Session::new(ISSUER, tokens.sources.merged(), now);
        session.data.insert("desk".into(), json!([4]));
        session.refresh_due = Some(5);
        session.authentication = Authentication {
            time: Some(1_799_999_999),
            acr: Some("gold".to_owned()),
        };
        session
    }

    /// Encodes and decodes a session.
    fn read(session: &Session, tokens: &SessionTokens) -> (Session, SessionTokens) {
        let record = encode(session, &encode_body(tokens).unwrap());
        let (read, body_start) = decode(&record, |_| Some(ISSUER.into())).unwrap();
        (read, decode_body(&record[body_start..]).unwrap())
    }

    fn assert_same(session: &Session, tokens: &SessionTokens) {
        let (read, read_tokens) = read(session, tokens);
        assert_eq!(format!("{read:?}"), format!("{session:?}"));
        assert_eq!(read.id, session.id);
        assert_eq!(read_tokens.texts(), tokens.texts());
        assert_eq!(read_tokens.access_token_expires_at, tokens.access_token_expires_at);
        assert_eq!(read_tokens.nonce, tokens.nonce);
        assert_eq!(read_tokens.authorization_details, tokens.authorization_details);
        assert_eq!(read_tokens.sources, tokens.sources);
    }

    #[test]
    fn an_encoded_session_decodes_to_the_same() {
        let payload = json!({"iss": ISSUER, "sub": "alice", "name": "Ä\u{1F600}", "n": 1.5e300});
        let (id, access) = (jwt(&payload), jwt(&json!({"scope": "a b"})));
        for texts in [
            [None, None, None],
            [Some(&*access), Some("opaque"), Some(&*id)],
            [Some("opaque"), None, Some(&*id)],
            [Some(&*access), Some(&*access), None],
            [None, Some("x.y.z"), Some("not a JWT")],
        ] {
            for user_info in [None, Some(json!({})), Some(json!({"sub": "alice", "name": "A"}))] {
                let tokens = tokens(texts, payload.clone(), user_info);
                assert_same(&session(&tokens), &tokens);
            }
        }
    }

    #[test]
    fn claims_of_the_sign_in_survive_that_the_id_token_leaves_out() {
        let first = json!({"iss": ISSUER, "sub": "alice", "sid": "s", "auth_time": 3, "groups": ["a"]});
        let later = json!({"iss": ISSUER, "sub": "alice"});
        let text = jwt(&later);
        let mut tokens = tokens([None, None, Some(&text)], first, None);
        tokens.sources = tokens.sources.with_id_token(claims(later));
        let (read, read_tokens) = read(&session(&tokens), &tokens);
        let expected = json!({"iss": ISSUER, "sub": "alice", "sid": "s", "auth_time": 3});
        assert_eq!(read.claims, claims(expected));
        assert_eq!(read_tokens.sources, tokens.sources);
    }

    /// Variants that other decoders accept as the same JWT.
    #[test]
    fn a_jwt_round_trips_byte_for_byte() {
        let good = jwt(&json!({"sub": "alice"}));
        let (start, _) = good.rsplit_once('.').unwrap();
        for text in [
            good.clone(),
            format!("{good}="),
            format!("{start}.AB"),
            format!("{start}."),
            start.to_owned(),
            format!("{good}.x"),
            good.replace('.', ".."),
            format!("{good} "),
            "..".to_owned(),
            ".".to_owned(),
            "e30.e30.".to_owned(),
            "e30.W10.".to_owned(),
            "bnVsbA.e30.AA".to_owned(),
            "é.é.é".to_owned(),
        ] {
            let tokens = tokens([Some(&text), Some(&text), Some(&text)], json!({}), None);
            let (_, read) = read(&session(&tokens), &tokens);
            assert_eq!(read.texts(), tokens.texts(), "{text}");
        }
    }

    #[test]
    fn a_record_that_would_inflate_too_far_is_rejected() {
        let long = |length: usize| json!({"sub": "alice", "long": "x".repeat(length)});
        let fits = tokens([None; 3], long(MAX_INFLATED - 100), None);
        assert_same(&session(&fits), &fits);
        let too_long = tokens([None; 3], long(MAX_INFLATED), None);
        let error = encode_body(&too_long).unwrap_err();
        assert!(error.0 > MAX_INFLATED, "{error:?}");
    }

    #[test]
    fn a_truncated_record_is_rejected_and_a_changed_one_does_not_panic() {
        let id = jwt(&json!({"sub": "alice"}));
        let tokens = tokens([Some("opaque"), Some(&id), Some(&id)], json!({"sub": "alice"}), None);
        let record = encode(&session(&tokens), &encode_body(&tokens).unwrap());
        let read = |record: &[u8]| {
            let (_, body_start) = decode(record, |_| Some(ISSUER.into()))?;
            decode_body(&record[body_start..])
        };
        assert!(read(&record).is_some());
        for length in 0..record.len() {
            assert!(read(&record[..length]).is_none(), "{length}");
        }
        for place in 0..record.len() {
            let mut changed = record.clone();
            changed[place] ^= 0x55;
            read(&changed);
        }
    }

    #[test]
    fn lengths_round_trip() {
        for length in [0, 1, 127, 128, 16_383, 16_384, 100_000] {
            let mut bytes = vec![];
            put(&mut bytes, &vec![7; length]);
            let mut rest = &bytes[..];
            assert_eq!(take(&mut rest).map(<[u8]>::len), Some(length));
            assert!(rest.is_empty());
        }
        for bytes in [&[][..], &[0x80], &[1], &[0xff; 5]] {
            assert_eq!(take(&mut &*bytes), None, "{bytes:?}");
        }
    }
}
