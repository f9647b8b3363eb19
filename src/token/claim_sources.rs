//! The claims of a user by source, so that a claim that its source no longer states is removed.

use super::Claims;

/// The claims about a sign-in that a later ID token may omit without withdrawing them.
const SURVIVES_ABSENCE: [&str; 8] = ["iss", "sub", "aud", "azp", "sid", "auth_time", "acr", "amr"];

/// The claims of a user, by the source that stated them: the ID token and UserInfo.
///
/// Each source is replaced as a whole. A source that was not requested, or did not respond, is kept. A claim whose
/// value is `null` is absent.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ClaimSources {
    /// The claims of the latest ID token.
    pub(crate) id_token: Claims,
    /// The claims of the latest UserInfo response; `None` if there never was one.
    pub(crate) user_info: Option<Claims>,
    /// The latest values of [`SURVIVES_ABSENCE`], from the latest ID token or an earlier one.
    pub(crate) sign_in: Claims,
    /// Whether the ID token is newer than the UserInfo response, after a refresh without UserInfo: then the ID
    /// token takes precedence.
    pub(crate) is_user_info_older: bool,
}

impl ClaimSources {
    /// The sources of a sign-in.
    pub(crate) fn new(id_token: Claims, user_info: Option<Claims>) -> ClaimSources {
        let sources = ClaimSources {
            user_info,
            ..ClaimSources::default()
        };
        ClaimSources {
            is_user_info_older: false,
            ..sources.with_id_token(id_token)
        }
    }

    /// Replaces the ID token by that of a refresh ([Core §12.2]).
    ///
    /// `iss`, `sub`, `aud`, `azp`, `sid`, `auth_time`, `acr` and `amr` keep their values when the new token omits
    /// them: they are about the sign-in, which is the same.
    ///
    /// [Core §12.2]: https://openid.net/specs/openid-connect-core-1_0.html#RefreshTokenResponse
    pub(crate) fn with_id_token(mut self, id_token: Claims) -> ClaimSources {
        for name in SURVIVES_ABSENCE {
            if let Some(value) = id_token.stated(name) {
                self.sign_in.insert(name, value.clone());
            }
        }
        self.id_token = id_token;
        self.is_user_info_older = true;
        self
    }

    /// Replaces the UserInfo response.
    pub(crate) fn with_user_info(mut self, user_info: Claims) -> ClaimSources {
        self.user_info = Some(user_info);
        self.is_user_info_older = false;
        self
    }

    /// Merges the claims for the app. UserInfo takes precedence, except over the ID token's claims about itself and
    /// the sign-in, and over the claims of an ID token that is newer.
    pub(crate) fn merged(&self) -> Claims {
        self.clone().into_merged()
    }

    /// As [`merged`](Self::merged), consuming the sources.
    pub(crate) fn into_merged(self) -> Claims {
        let mut user_info = self.user_info;
        if let Some(user_info) = &mut user_info
            && self.is_user_info_older
        {
            user_info.retain(|name| self.id_token.stated(name).is_none());
        }
        let mut merged = self.id_token;
        merged.remove_nulls();
        for (name, value) in self.sign_in.iter() {
            if merged.value(name).is_none() {
                merged.insert(name, value.clone());
            }
        }
        if let Some(user_info) = user_info {
            merged.merge(user_info);
        }
        merged
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::*;
    use crate::token::claims::{ABOUT_THE_SIGN_IN, VERIFIED};

    fn claims(json: Value) -> Claims {
        serde_json::from_value(json).unwrap()
    }

    /// The merged claims of an ID token and a UserInfo response.
    fn merged(id_token: Value, user_info: Value) -> Value {
        let sources = ClaimSources::new(claims(id_token), Some(claims(user_info)));
        serde_json::to_value(sources.merged()).unwrap()
    }

    #[test]
    fn a_claim_that_its_source_no_longer_states_is_removed() {
        let sources = ClaimSources::new(
            claims(json!({"sub": "a", "groups": ["admin"], "name": "A"})),
            Some(claims(json!({"sub": "a", "roles": ["root"], "name": "B"}))),
        );
        let sources = sources.with_id_token(claims(json!({"sub": "a"})));
        let expected = json!({"sub": "a", "roles": ["root"], "name": "B"});
        assert_eq!(sources.merged(), claims(expected));
        let sources = sources.with_user_info(claims(json!({"sub": "a"})));
        assert_eq!(sources.merged(), claims(json!({"sub": "a"})));
    }

    /// A demotion in the ID token takes effect, although UserInfo stated more at the sign-in and is not requested
    /// again.
    #[test]
    fn a_newer_id_token_takes_precedence_over_an_older_user_info() {
        let at_sign_in = json!({"sub": "a", "groups": ["admin"], "email": "a@x", "email_verified": true, "name": "A"});
        let sources = ClaimSources::new(claims(at_sign_in.clone()), Some(claims(at_sign_in.clone())));
        let refreshed = claims(json!({"sub": "a", "groups": [], "email": "b@x"}));
        let sources = sources.with_id_token(refreshed);
        let expected = json!({"sub": "a", "groups": [], "email": "b@x", "name": "A"});
        assert_eq!(sources.merged(), claims(expected));
        // After another request, UserInfo is as new as the ID token.
        let sources = sources.with_user_info(claims(at_sign_in.clone()));
        assert_eq!(sources.merged(), claims(at_sign_in));
    }

    /// If one source withdraws a claim, the other's own value applies again.
    #[test]
    fn the_other_source_still_states_its_value() {
        let both = |groups: &[&str]| claims(json!({"sub": "a", "groups": groups}));
        let sources = ClaimSources::new(both(&["user"]), Some(both(&["admin"])));
        assert_eq!(sources.merged(), both(&["admin"]));
        let demoted = sources.clone().with_user_info(claims(json!({"sub": "a"})));
        assert_eq!(demoted.merged(), both(&["user"]));
        // The UserInfo response is the older one: it still counts where the newer ID token lacks the claim.
        let refreshed = sources.clone().with_id_token(both(&[]));
        assert_eq!(refreshed.merged(), both(&[]));
        let silent = sources.with_id_token(claims(json!({"sub": "a"})));
        assert_eq!(silent.merged(), both(&["admin"]));
    }

    #[test]
    fn what_is_about_the_sign_in_survives_a_later_id_token() {
        let first = json!({
            "iss": "i", "sub": "a", "aud": "c", "azp": "c", "sid": "s", "auth_time": 1, "acr": "1", "amr": ["pwd"],
            "nonce": "n", "at_hash": "h", "exp": 2, "iat": 1, "name": "A",
        });
        let sources = ClaimSources::new(claims(first), None);
        let later = claims(json!({"iss": "i", "sub": "a", "exp": 9, "iat": 8, "sid": null}));
        let expected = json!({
            "iss": "i", "sub": "a", "aud": "c", "azp": "c", "sid": "s", "auth_time": 1, "acr": "1", "amr": ["pwd"],
            "exp": 9, "iat": 8,
        });
        let sources = sources.with_id_token(later);
        assert_eq!(sources.merged(), claims(expected.clone()));
        // Over any number of ID tokens; and a newer value replaces the older one permanently.
        let sources = sources.with_id_token(claims(json!({"exp": 9, "iat": 8, "acr": "2"})));
        let sources = sources.with_id_token(claims(json!({"exp": 9, "iat": 8})));
        let mut newer = claims(expected);
        newer.insert("acr", "2");
        assert_eq!(sources.merged(), newer);
    }

    #[test]
    fn user_info_states_nothing_about_the_sign_in() {
        let about: Value = ABOUT_THE_SIGN_IN
            .map(|name| (name.to_owned(), json!("x")))
            .into_iter()
            .collect();
        assert_eq!(merged(json!({"sub": "a"}), about.clone()), json!({"sub": "a"}));
        let sources = ClaimSources::new(claims(json!({"sub": "a"})), Some(claims(about)));
        let sources = sources.with_id_token(claims(json!({"sub": "a", "name": "A"})));
        assert_eq!(sources.merged(), claims(json!({"sub": "a", "name": "A"})));
    }

    #[test]
    fn an_address_and_whether_it_is_verified_are_of_one_source() {
        for (name, verified) in VERIFIED {
            for (id_token, user_info, expected) in [
                // The ID token did not verify UserInfo's address.
                (
                    json!({name: "old", verified: true}),
                    json!({name: "new"}),
                    json!({name: "new"}),
                ),
                (
                    json!({name: "same", verified: true}),
                    json!({name: "same"}),
                    json!({name: "same"}),
                ),
                (
                    json!({name: "old", verified: true}),
                    json!({name: "new", verified: null}),
                    json!({name: "new"}),
                ),
                (
                    json!({name: "old", verified: true}),
                    json!({name: "new", verified: false}),
                    json!({name: "new", verified: false}),
                ),
                // UserInfo did not verify the ID token's address.
                (json!({name: "old"}), json!({verified: true}), json!({name: "old"})),
                (
                    json!({name: "old", verified: false}),
                    json!({name: null, verified: true}),
                    json!({name: "old", verified: false}),
                ),
                (
                    json!({name: "old", verified: true}),
                    json!({verified: false}),
                    json!({name: "old", verified: true}),
                ),
                // A verification in the ID token without an address does not apply to UserInfo's.
                (json!({verified: true}), json!({name: "new"}), json!({name: "new"})),
                (
                    json!({name: null, verified: true}),
                    json!({name: "new"}),
                    json!({name: "new"}),
                ),
                // One source alone.
                (
                    json!({name: "old", verified: true}),
                    json!({}),
                    json!({name: "old", verified: true}),
                ),
                (
                    json!({}),
                    json!({name: "new", verified: true}),
                    json!({name: "new", verified: true}),
                ),
                (json!({}), json!({verified: true}), json!({verified: true})),
            ] {
                assert_eq!(
                    merged(id_token.clone(), user_info.clone()),
                    expected,
                    "{id_token} {user_info}"
                );
            }
        }
        // `email` does not affect `phone_number_verified`.
        assert_eq!(
            merged(
                json!({"phone_number": "1", "phone_number_verified": true}),
                json!({"email": "e"})
            ),
            json!({"phone_number": "1", "phone_number_verified": true, "email": "e"})
        );
    }

    /// A refresh must not combine the address of one response with the verification of another.
    #[test]
    fn an_address_that_changes_loses_its_verification() {
        let sources = ClaimSources::new(
            claims(json!({"email": "mine@a", "email_verified": true})),
            Some(claims(json!({"email": "mine@a", "email_verified": true}))),
        );
        let sources = sources.with_user_info(claims(json!({"email": "boss@a"})));
        assert_eq!(sources.merged(), claims(json!({"email": "boss@a"})));
        let sources = sources.with_id_token(claims(json!({"email": "other@a"})));
        let sources = sources.with_user_info(claims(json!({"email_verified": true})));
        assert_eq!(sources.merged(), claims(json!({"email": "other@a"})));
    }

    #[test]
    fn null_is_absent() {
        let id_token = json!({"name": "A", "nickname": null, "address": null});
        let user_info = json!({"name": null, "nickname": "al", "locale": null});
        assert_eq!(merged(id_token, user_info), json!({"name": "A", "nickname": "al"}));
    }

    /// A source as a test writes it.
    type Source = BTreeMap<&'static str, Value>;

    /// A reference implementation of the rules, claim by claim, over the whole history: the final value of the
    /// claim `name`. `is_older` means that the last response was an ID token.
    fn expected(name: &str, id_tokens: &[Source], user_infos: &[Source], is_older: bool) -> Option<Value> {
        let stated = |source: Option<&Source>, name: &str| {
            source
                .and_then(|source| source.get(name))
                .filter(|value| !value.is_null())
                .cloned()
        };
        let id_token = id_tokens.last();
        let user_info = user_infos.last().map(|user_info| {
            let mut user_info = user_info.clone();
            user_info.retain(|name, _| !is_older || stated(id_token, name).is_none());
            user_info
        });
        let user_info = user_info.as_ref();
        if SURVIVES_ABSENCE.contains(&name) {
            return id_tokens.iter().rev().find_map(|token| stated(Some(token), name));
        }
        if ABOUT_THE_SIGN_IN.contains(&name) {
            return stated(id_token, name);
        }
        if let Some(base) = name.strip_suffix("_verified") {
            if stated(user_info, base).is_some() {
                return stated(user_info, name);
            }
            if stated(id_token, base).is_some() {
                return stated(id_token, name);
            }
        }
        stated(user_info, name).or_else(|| stated(id_token, name))
    }

    /// 20,000 histories of up to six responses each, of claims that come, go and are `null`.
    #[test]
    fn any_history_of_replies_gives_what_the_rules_say() {
        const NAMES: [&str; 20] = [
            "iss",
            "sub",
            "aud",
            "azp",
            "sid",
            "auth_time",
            "acr",
            "amr",
            "exp",
            "iat",
            "nonce",
            "at_hash",
            "email",
            "email_verified",
            "phone_number",
            "phone_number_verified",
            "groups",
            "name",
            "constructor",
            "",
        ];
        // Xorshift with a fixed seed: the same histories in each run.
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move |below: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed % below
        };
        let to_claims = |source: &Source| claims(json!(source));
        let mut removed = 0;
        for history in 0..20_000 {
            let mut source = || -> Source {
                let mut source = Source::new();
                for name in NAMES {
                    let value = match random(6) {
                        0..3 => continue,
                        3 => Value::Null,
                        _ => json!(random(1000)),
                    };
                    source.insert(name, value);
                }
                source
            };
            let mut id_tokens = vec![source()];
            let mut user_infos = vec![];
            if history % 2 == 0 {
                user_infos.push(source());
            }
            let mut sources = ClaimSources::new(to_claims(&id_tokens[0]), user_infos.first().map(to_claims));
            let mut is_older = false;
            for step in 0..history % 6 {
                let reply = source();
                is_older = (history >> step) % 2 == 0;
                match (history >> step) % 2 {
                    0 => {
                        sources = sources.with_id_token(to_claims(&reply));
                        id_tokens.push(reply);
                    }
                    _ => {
                        sources = sources.with_user_info(to_claims(&reply));
                        user_infos.push(reply);
                    }
                }
            }
            let merged = sources.merged();
            for name in NAMES {
                let expected = expected(name, &id_tokens, &user_infos, is_older);
                removed += usize::from(expected.is_none());
                assert_eq!(
                    merged.value(name),
                    expected.as_ref(),
                    "{name} of {id_tokens:?} and {user_infos:?}"
                );
            }
        }
        assert!(removed > 10_000, "{removed}");
    }
}
