//! The claims about a user, deserialized into the types that the app expects.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::json;
use crate::printable::printable;

/// The claims about a user: a JSON object.
///
/// Unknown claims and claims of an unexpected type never fail a sign-in; types are checked by [`get`](Claims::get)
/// and [`to`](Claims::to). A claim that the provider sends as `null` is absent, and so is a member of a claim such
/// as `address`; in an array `null` stays.
///
/// ```
/// use rocket_openidconnect::Claims;
/// use serde_json::json;
///
/// let mut claims = Claims::default();
/// claims.insert("groups", json!(["staff", "chess"]));
///
/// assert_eq!(claims.get::<Vec<String>>("groups").unwrap(), ["staff", "chess"]);
/// assert_eq!(claims.get::<String>("groups"), None);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Claims(Map<String, Value>);

/// The claims of the ID token about itself and about the sign-in; no other source may change them.
pub(super) const ABOUT_THE_SIGN_IN: [&str; 12] = [
    "iss",
    "sub",
    "aud",
    "exp",
    "iat",
    "nonce",
    "azp",
    "auth_time",
    "acr",
    "amr",
    "at_hash",
    "sid",
];

/// Claims about another claim: dropped beside another source's value of that claim ([Core §5.1]).
///
/// [Core §5.1]: https://openid.net/specs/openid-connect-core-1_0.html#StandardClaims
pub(crate) const VERIFIED: [(&str, &str); 2] = [("email", "email_verified"), ("phone_number", "phone_number_verified")];

impl Claims {
    /// The claim as a `T`; `None` when it is absent or of another type.
    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        T::deserialize(self.0.get(name)?).ok()
    }

    /// The raw value of the claim, without members that are `null`.
    pub fn value(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// All claims, as pairs of name and value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Sets a claim and returns its previous value.
    pub fn insert(&mut self, name: impl Into<String>, value: impl Into<Value>) -> Option<Value> {
        self.0.insert(name.into(), value.into())
    }

    /// All claims, deserialized into the app's own type.
    ///
    /// # Errors
    ///
    /// When a claim that `C` requires is absent or of another type. The error can quote the value.
    pub fn to<C: DeserializeOwned>(&self) -> Result<C, serde_json::Error> {
        C::deserialize(&self.0)
    }

    /// All claims, deserialized into the app's own type. The error names the claim that does not fit, never its
    /// value.
    pub(crate) fn fit<C: DeserializeOwned>(&self) -> Result<C, String> {
        serde_path_to_error::deserialize(&self.0).map_err(|error: serde_path_to_error::Error<serde_json::Error>| {
            match error.path().to_string().as_str() {
                // The path is empty for an absent claim, which serde's message names.
                "." => error.inner().to_string(),
                claim => format!("the claim `{claim}` is of another type"),
            }
        })
    }

    /// Whether the user is in more groups than the provider puts into a token: the claim `groups` is then absent, and a
    /// reference takes its place, as Microsoft Entra ID sends it. A policy that requires a group refuses such a user,
    /// as it refuses a user without groups; with this, the app can tell the two apart, and ask Microsoft Graph: see
    /// [the manual](crate::manual::providers#more-than-200-groups).
    ///
    /// [Microsoft](https://learn.microsoft.com/entra/identity-platform/id-token-claims-reference#groups-overage-claim)
    pub fn groups_overage(&self) -> bool {
        let is_empty = |groups: &Value| groups.as_array().is_some_and(Vec::is_empty);
        if self.stated("groups").is_some_and(|groups| !is_empty(groups)) {
            return false;
        }
        let elsewhere = self.value("_claim_names").and_then(|names| names.get("groups"));
        elsewhere.is_some_and(|source| !source.is_null()) || self.get("hasgroups") == Some(true)
    }

    /// The names of at most five claims that the provider sends by reference
    /// ([Core §5.6.2](https://openid.net/specs/openid-connect-core-1_0.html#AggregatedDistributedClaims)), as
    /// Microsoft Entra ID does with more groups than fit into a token.
    pub(crate) fn by_reference(&self) -> Vec<String> {
        const MAX_NAMES: usize = 5;

        let elsewhere = self.value("_claim_names").and_then(Value::as_object);
        let mut names: Vec<String> = elsewhere
            .into_iter()
            .flatten()
            .filter(|(name, source)| !source.is_null() && self.value(name).is_none())
            .map(|(name, _)| format!("`{}`", printable(name)))
            .take(MAX_NAMES)
            .collect();
        // Entra's form of the same in the implicit flow.
        let has_groups = self.get("hasgroups") == Some(true);
        if names.is_empty() && has_groups && self.value("groups").is_none() {
            names.push("`groups`".to_owned());
        }
        names
    }

    /// Merges the claims of `other`, a UserInfo response, which take precedence over equal names here.
    ///
    /// A claim whose value is `null` there is absent. The ID token's claims about itself and the sign-in are not
    /// merged, not even when they are absent here: `iss`, `sub`, `aud`, `exp`, `iat`, `nonce`, `azp`, `auth_time`,
    /// `acr`, `amr`, `at_hash`, `sid`. `email_verified` stays with the `email` of its own source: an `email` in
    /// `other` comes with the `email_verified` of `other`, or with none; so does `phone_number` with
    /// `phone_number_verified`.
    pub fn merge(&mut self, other: Claims) {
        // One source did not verify the other's value.
        let mut unrelated = vec![];
        for (name, verified) in VERIFIED {
            if other.stated(name).is_some() {
                self.remove(verified);
            } else if self.stated(name).is_some() {
                unrelated.push(verified);
            }
        }
        for (name, value) in other.0 {
            let is_taken = !value.is_null() && !ABOUT_THE_SIGN_IN.contains(&&*name) && !unrelated.contains(&&*name);
            if is_taken {
                self.insert(name, value);
            }
        }
    }

    /// The claim, unless it is absent or `null`.
    pub(super) fn stated(&self, name: &str) -> Option<&Value> {
        self.value(name).filter(|value| !value.is_null())
    }

    /// Removes claims, and members of claims, that are `null`: they count as absent.
    pub(super) fn remove_nulls(&mut self) {
        json::remove_nulls(&mut self.0);
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// Keeps only the claims whose names `is_wanted` accepts.
    pub(crate) fn retain(&mut self, mut is_wanted: impl FnMut(&str) -> bool) {
        self.0.retain(|name, _| is_wanted(name));
    }

    /// The JSON object itself.
    pub fn as_map(&self) -> &Map<String, Value> {
        &self.0
    }
}

impl From<Map<String, Value>> for Claims {
    fn from(map: Map<String, Value>) -> Claims {
        Claims(map)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claims(json: Value) -> Claims {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_claim_is_read_by_type() {
        let claims = claims(json!({"email": "a@b.c", "email_verified": 1, "null": null}));
        assert_eq!(claims.get::<String>("email").as_deref(), Some("a@b.c"));
        assert_eq!(claims.get::<bool>("email_verified"), None);
        assert_eq!(claims.get::<u8>("email_verified"), Some(1));
        assert_eq!(claims.get::<String>("null"), None);
        assert_eq!(claims.get::<String>("absent"), None);
        assert_eq!(claims.value("null"), Some(&Value::Null));
        assert_eq!(claims.iter().count(), 3);
    }

    #[test]
    fn all_claims_become_the_type_of_the_app() {
        #[derive(Debug, PartialEq, Deserialize)]
        struct Staff {
            sub: String,
            groups: Vec<String>,
        }
        let mut claims = claims(json!({"sub": "alice", "other": {}}));
        assert!(claims.to::<Staff>().is_err());
        claims.insert("groups", vec!["staff"]);
        let staff = Staff {
            sub: "alice".into(),
            groups: vec!["staff".into()],
        };
        assert_eq!(claims.to::<Staff>().unwrap(), staff);
    }

    /// A field with a default gets it, whether the provider sends `null` or nothing.
    #[test]
    fn a_member_of_a_claim_that_is_null_is_absent() {
        #[derive(Debug, PartialEq, Deserialize)]
        #[serde(default)]
        struct Address {
            country: String,
            region: Option<String>,
        }
        impl Default for Address {
            fn default() -> Address {
                Address {
                    country: "unknown".to_owned(),
                    region: None,
                }
            }
        }
        #[derive(Debug, PartialEq, Deserialize)]
        struct Person {
            address: Address,
            former: Vec<Address>,
        }
        let address = r#"{"country":null,"region":null}"#;
        let json = format!(r#"{{"address":{address},"former":[{address}]}}"#);
        let claims = Claims::from(json::parse_object(json.as_bytes()).unwrap());
        let expected = Person {
            address: Address::default(),
            former: vec![Address::default()],
        };
        assert_eq!(claims.to::<Person>().unwrap(), expected);
        assert_eq!(claims.fit::<Person>().unwrap(), expected);
    }

    #[test]
    fn groups_that_did_not_fit_into_the_token() {
        let reference = json!({"groups": "src1"});
        for (json, expected) in [
            (
                json!({"_claim_names": reference, "_claim_sources": {"src1": {"endpoint": "https://graph.example"}}}),
                true,
            ),
            (json!({"_claim_names": reference, "groups": null}), true),
            (json!({"_claim_names": reference, "groups": []}), true),
            (json!({"_claim_names": {"groups": 1, "roles": "src2"}}), true),
            (json!({"hasgroups": true}), true),
            (json!({"hasgroups": true, "_claim_names": {"roles": "src1"}}), true),
            (json!({"_claim_names": reference, "groups": ["staff"]}), false),
            (json!({"_claim_names": reference, "groups": "staff"}), false),
            (json!({"hasgroups": true, "groups": ["staff"]}), false),
            (json!({"hasgroups": false}), false),
            (json!({"hasgroups": "true"}), false),
            (json!({"_claim_names": {"groups": null}}), false),
            (json!({"_claim_names": {"roles": "src1"}}), false),
            (json!({"_claim_names": ["groups"]}), false),
            (json!({"_claim_names": "groups"}), false),
            (json!({"groups": []}), false),
            (json!({}), false),
        ] {
            assert_eq!(claims(json.clone()).groups_overage(), expected, "{json}");
        }
    }

    #[test]
    fn merging_keeps_what_the_id_token_says_about_the_sign_in() {
        let mut merged = claims(json!({"sub": "alice", "iss": "a", "name": "A", "acr": "1"}));
        let mut other = claims(json!({"name": "Alice", "email": "a@b.c"}));
        for name in ABOUT_THE_SIGN_IN {
            other.insert(name, "changed");
        }
        merged.merge(other);
        let expected = json!(
            {"sub": "alice", "iss": "a", "name": "Alice", "acr": "1", "email": "a@b.c"}
        );
        assert_eq!(serde_json::to_value(merged).unwrap(), expected);
    }
}
