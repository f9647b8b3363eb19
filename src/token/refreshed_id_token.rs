//! The ID token of a refresh, which must be about the same sign-in as the original.

use std::collections::BTreeSet;

use serde_json::Value;
use time::OffsetDateTime;

use super::{Claims, IdToken, IdTokenError, IdTokenExpectations, KeySet, SigningAlgorithm};
use crate::{observing, secret::Secret};

/// The original sign-in, as its ID token states it.
#[derive(Clone, Debug)]
pub(crate) struct OriginalSignIn<'a> {
    /// For a template, the issuer of the tenant.
    pub(crate) issuer: &'a str,
    pub(crate) claims: &'a Claims,
    /// Stored apart from the claims.
    pub(crate) nonce: Option<&'a Secret>,
}

/// A verified ID token of a refresh.
#[derive(Clone, Debug)]
pub(crate) struct RefreshedIdToken {
    pub(crate) claims: Claims,
    /// The signature algorithm.
    pub(crate) algorithm: SigningAlgorithm,
    /// The latest expiry of the session, as [`IdToken::session_expiry`].
    pub(crate) session_expiry: Option<f64>,
}

impl RefreshedIdToken {
    /// Accepts the ID token of a refresh ([Core §12.2]). `expected` has no `nonce`, `max_age` and `acr_values`:
    /// they belong to an authorization request, and a refresh has none.
    ///
    /// [Core §12.2]: https://openid.net/specs/openid-connect-core-1_0.html#RefreshTokenResponse
    pub(crate) fn accept(
        compact: &str,
        keys: &KeySet,
        expected: &IdTokenExpectations<'_>,
        original: &OriginalSignIn<'_>,
        now: OffsetDateTime,
    ) -> Result<RefreshedIdToken, IdTokenError> {
        let id_token = IdToken::accept(compact, keys, expected, now)?;
        // "its `iss` Claim Value MUST be the same": another tenant has another issuer.
        unchanged("iss", id_token.issuer() == original.issuer)?;
        let (claims, algorithm) = (id_token.claims, id_token.algorithm);
        let session_expiry = id_token.session_expiry;
        unchanged("sub", claims.value("sub") == original.claims.value("sub"))?;
        unchanged("aud", audiences(&claims) == audiences(original.claims))?;
        check_sid(&claims, original.claims)?;
        check_auth_time(&claims, original.claims)?;
        check_nonce(&claims, original.nonce)?;
        Ok(RefreshedIdToken {
            claims,
            algorithm,
            session_expiry,
        })
    }
}

/// A claim that must be the one of the sign-in.
fn unchanged(claim: &'static str, is_same: bool) -> Result<(), IdTokenError> {
    if is_same {
        Ok(())
    } else {
        Err(IdTokenError::Changed { claim })
    }
}

/// "its `aud` Claim Value MUST be the same": compared as a set, in which a string is a list of one.
fn audiences(claims: &Claims) -> BTreeSet<String> {
    match claims.value("aud") {
        Some(Value::String(one)) => BTreeSet::from([one.clone()]),
        _ => claims.get("aud").unwrap_or_default(),
    }
}

/// `sid` must not change: a session is ended by the `sid` of its sign-in, and an end recorded under that would not
/// be found under another.
fn check_sid(claims: &Claims, original: &Claims) -> Result<(), IdTokenError> {
    let stated = claims.value("sid").filter(|value| !value.is_null());
    unchanged("sid", stated.is_none() || stated == original.value("sid"))
}

/// "if the ID Token contains an `auth_time` Claim, its value MUST represent the time of the original authentication".
///
/// Departs from it: a user who has authenticated again at the provider has a newer `auth_time` there, and providers
/// send it. An older one belongs to another authentication.
fn check_auth_time(claims: &Claims, original: &Claims) -> Result<(), IdTokenError> {
    let seconds = |value: &Value| {
        let seconds: Option<f64> = match value {
            Value::String(text) => text.parse().ok(),
            value => value.as_f64(),
        };
        seconds.filter(|seconds| seconds.is_finite())
    };
    let is_stated = |value: &&Value| !value.is_null();
    let newer = claims.value("auth_time").filter(is_stated);
    let older = original.value("auth_time").filter(is_stated);
    let (Some(newer), Some(older)) = (newer, older) else {
        return Ok(());
    };
    match (seconds(older), seconds(newer)) {
        _ if older == newer => Ok(()),
        (Some(older), Some(newer)) if older <= newer => {
            if older < newer {
                observing::newer_auth_time(older, newer);
            }
            Ok(())
        }
        _ => Err(IdTokenError::Changed { claim: "auth_time" }),
    }
}

/// "it SHOULD NOT have a `nonce` Claim […]; however, if it is present, its value MUST be the same".
fn check_nonce(claims: &Claims, original: Option<&Secret>) -> Result<(), IdTokenError> {
    match claims.value("nonce").filter(|nonce| *nonce != "") {
        None => Ok(()),
        Some(Value::String(nonce)) if Some(&Secret::new(nonce)) == original => Ok(()),
        Some(_) => Err(IdTokenError::Changed { claim: "nonce" }),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::token::{
        ClaimError, ExpectedIssuer, JwsError, SigningAlgorithm, StaleKeys,
        test_keys::{header, key_set, sign},
    };

    const ES256: SigningAlgorithm = SigningAlgorithm::ES256;
    const NOW: i64 = 1_700_000_000;

    fn original() -> Value {
        json!({
            "iss": "https://op.example", "sub": "alice", "aud": ["client", "api"],
            "auth_time": NOW - 1000, "exp": NOW - 500, "iat": NOW - 1000,
        })
    }

    /// Checks the refreshed token of the sign-in with this change.
    fn judge(change: impl FnOnce(&mut Value)) -> Result<Claims, IdTokenError> {
        judge_after(original(), change)
    }

    /// Checks the refreshed token of this sign-in with this change.
    fn judge_after(original: Value, change: impl FnOnce(&mut Value)) -> Result<Claims, IdTokenError> {
        let mut claims = original.clone();
        claims["iat"] = json!(NOW);
        claims["exp"] = json!(NOW + 300);
        change(&mut claims);
        let token = sign(ES256, &header(ES256), &claims);
        let nonce = Secret::new("the nonce of the sign-in");
        let original = serde_json::from_value(original).unwrap();
        let trusted = ["api".to_owned(), "other".to_owned()];
        let expected = IdTokenExpectations {
            issuer: ExpectedIssuer::exactly("https://op.example"),
            client_id: "client",
            trusted_audiences: &trusted,
            algorithms: &[ES256],
            client_secret: None,
            nonce: None,
            accepts_missing_nonce: false,
            access_token: None,
            max_age: None,
            authenticated_since: None,
            acr_values: &[],
            clock_skew: Duration::from_secs(60),
        };
        let sign_in = OriginalSignIn {
            issuer: "https://op.example",
            claims: &original,
            nonce: Some(&nonce),
        };
        let now = OffsetDateTime::from_unix_timestamp(NOW).unwrap();
        RefreshedIdToken::accept(&token, &key_set(), &expected, &sign_in, now).map(|token| token.claims)
    }

    fn changed<T>(claim: &'static str) -> Result<T, IdTokenError> {
        Err(IdTokenError::Changed { claim })
    }

    #[test]
    fn the_same_sign_in_is_accepted() {
        let claims = judge(|claims| claims["aud"] = json!(["api", "client"])).unwrap();
        assert_eq!(claims.value("iat"), Some(&json!(NOW)));
        assert!(judge(|claims| claims["aud"] = json!(["client", "api", "client"])).is_ok());
        assert!(judge(|claims| claims["nonce"] = json!("the nonce of the sign-in")).is_ok());
        assert!(judge(|claims| drop(claims.as_object_mut().unwrap().remove("auth_time"))).is_ok());
    }

    /// A `sid` that the sign-in did not have counts as another, too.
    #[test]
    fn a_sid_is_the_one_of_the_sign_in_or_absent() {
        let mut sign_in = original();
        sign_in["sid"] = json!("s-1");
        for (sid, expected) in [
            (json!("s-1"), Ok(())),
            (Value::Null, Ok(())),
            (json!("s-2"), changed("sid")),
        ] {
            let judged = judge_after(sign_in.clone(), |claims| claims["sid"] = sid);
            assert_eq!(judged.map(drop), expected);
        }
    }

    #[test]
    fn an_audience_is_the_same_as_a_list_of_it() {
        let mut sign_in = original();
        sign_in["aud"] = json!("client");
        let claims = judge_after(sign_in.clone(), |claims| claims["aud"] = json!(["client"]));
        assert_eq!(claims.unwrap().value("aud"), Some(&json!(["client"])));
        sign_in["aud"] = json!(["client"]);
        assert!(judge_after(sign_in, |claims| claims["aud"] = json!("client")).is_ok());
    }

    #[test]
    fn id_token_of_refresh_about_another_sign_in() {
        for (claim, value) in [
            ("sub", json!("bob")),
            ("aud", json!("client")),
            ("aud", json!(["client", "other"])),
            ("aud", json!(["client", "api", "other"])),
            ("sid", json!("another")),
            ("sid", json!(1)),
            ("auth_time", json!(NOW - 1001)),
            ("auth_time", json!(0)),
            ("auth_time", json!(-1)),
            ("auth_time", json!("yesterday")),
            ("auth_time", json!("NaN")),
            ("auth_time", json!("inf")),
            ("auth_time", json!([NOW])),
            ("auth_time", json!(true)),
            ("nonce", json!("another")),
            ("nonce", json!(1)),
        ] {
            assert_eq!(judge(|claims| claims[claim] = value), changed(claim));
        }
    }

    /// The user has authenticated again at the provider, for example for another of its clients.
    #[test]
    fn a_newer_auth_time_is_kept() {
        for value in [
            json!(NOW - 999),
            json!(NOW),
            json!(NOW as f64 - 0.5),
            json!(format!("{NOW}")),
        ] {
            let claims = judge(|claims| claims["auth_time"] = value.clone()).unwrap();
            assert_eq!(claims.value("auth_time"), Some(&value));
        }
    }

    /// In another notation of the number, or absent.
    #[test]
    fn the_same_auth_time_is_the_same_sign_in() {
        let same = [
            json!(NOW - 1000),
            json!((NOW - 1000) as f64),
            json!(format!("{}", NOW - 1000)),
            Value::Null,
        ];
        for value in same {
            assert!(judge(|claims| claims["auth_time"] = value).is_ok());
        }
        for odd in [Value::Null, json!("odd")] {
            let mut sign_in = original();
            sign_in["auth_time"] = odd;
            assert!(judge_after(sign_in, |_| ()).is_ok());
        }
    }

    #[test]
    fn id_token_of_refresh_of_another_issuer() {
        let error = judge(|claims| claims["iss"] = json!("https://other.example")).unwrap_err();
        let expected = ClaimError::Issuer {
            expected: "https://op.example".into(),
            actual: "https://other.example".into(),
        };
        assert_eq!(error, IdTokenError::Claim(expected));
    }

    #[test]
    fn id_token_of_refresh_by_a_new_key() {
        let new_key = IdTokenError::Jws(JwsError::UnknownKey { kid: "new".into() });
        assert_eq!(new_key.wants_fresh_keys(), Some(StaleKeys::Missing));
        let error = judge(|claims| claims["sub"] = json!("bob")).unwrap_err();
        assert_eq!(error.wants_fresh_keys(), None);
        let error = judge(|claims| claims["iss"] = json!("https://other.example")).unwrap_err();
        assert_eq!(error.wants_fresh_keys(), None);
    }

    #[test]
    fn id_token_of_refresh_that_is_the_old_one() {
        let error = judge(|claims| *claims = original()).unwrap_err();
        let expected = ClaimError::Expired {
            exp: NOW - 500,
            now: NOW,
        };
        assert_eq!(error, IdTokenError::Claim(expected));
    }

    #[test]
    fn errors_have_a_reason_and_say_what_to_do() {
        let error = judge(|claims| claims["sub"] = json!("bob")).unwrap_err();
        assert_eq!(
            (error.reason(), error.remedy()),
            (
                "id_token_of_another_sign_in",
                "report this to the provider: a refresh answers with the sign-in that it refreshes"
            )
        );
        let error = judge(|claims| *claims = original()).unwrap_err();
        assert_eq!(
            (error.reason(), error.remedy()),
            (
                "id_token_expired",
                "synchronise the clocks of this machine and of the provider, or raise `clock_skew`"
            )
        );
    }
}
