//! What guards demand, in an OpenAPI document: what rocket_okapi can carry from a guard to the document, and the
//! requirements that it becomes.
//!
//! rocket_okapi asks a guard's type for one scheme and one requirement, before anything about the app is known, and lists
//! the requirements of a route's guards as alternatives. A guard therefore names a placeholder. When the document is
//! served, the placeholders of an operation become requirements of the app's schemes: of all of its guards, because
//! Rocket runs them all.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{BEARER, SESSION};

/// What a guard accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::guard) enum Accepted {
    Token,
    Session,
    /// One of them.
    TokenOrSession,
}

/// The placeholders, with whether the route is also for requests without credentials.
const PLACEHOLDERS: [(&str, Accepted, bool); 6] = [
    ("rocket_openidconnect.token", Accepted::Token, false),
    ("rocket_openidconnect.optional_token", Accepted::Token, true),
    ("rocket_openidconnect.session", Accepted::Session, false),
    ("rocket_openidconnect.optional_session", Accepted::Session, true),
    ("rocket_openidconnect.caller", Accepted::TokenOrSession, false),
    ("rocket_openidconnect.optional_caller", Accepted::TokenOrSession, true),
];

/// The name of a guard's placeholder.
pub(in crate::guard) fn placeholder(accepted: Accepted, is_optional: bool) -> &'static str {
    let found = PLACEHOLDERS
        .iter()
        .find(|(_, other, optional)| (*other, *optional) == (accepted, is_optional));
    found.map_or("", |(name, ..)| name)
}

/// The scopes in the requirement of a placeholder: each alternative in one text.
pub(in crate::guard) fn placeholder_scopes(any_of: &[&[&str]]) -> Vec<String> {
    any_of.iter().map(|all_of| all_of.join(" ")).collect()
}

/// What a request brings, in one of the alternatives.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Alternative {
    /// An access token with these scopes.
    token: Option<BTreeSet<String>>,
    has_session: bool,
    /// Schemes of the app, with their scopes.
    others: BTreeMap<String, BTreeSet<String>>,
}

impl Alternative {
    fn and(&self, other: &Alternative) -> Alternative {
        let mut both = self.clone();
        if let Some(scopes) = &other.token {
            both.token.get_or_insert_default().extend(scopes.iter().cloned());
        }
        both.has_session |= other.has_session;
        for (name, scopes) in &other.others {
            both.others
                .entry(name.clone())
                .or_default()
                .extend(scopes.iter().cloned());
        }
        both
    }

    /// As requirements of these schemes; none if no scheme carries what is demanded.
    fn requirements(&self, schemes: &Map<String, Value>) -> Vec<Value> {
        if self.has_session && !schemes.contains_key(SESSION) {
            return vec![];
        }
        let mut common: Map<String, Value> = self
            .others
            .iter()
            .map(|(name, scopes)| (name.clone(), json!(scopes)))
            .collect();
        if self.has_session {
            common.insert(SESSION.to_owned(), json!([]));
        }
        let Some(scopes) = &self.token else {
            return vec![Value::Object(common)];
        };
        let of_tokens: BTreeSet<_> = schemes.keys().filter(|name| *name != SESSION).collect();
        let requirements = of_tokens.into_iter().map(|name| {
            let mut requirement = common.clone();
            // OpenAPI 3.0 has scopes only for `oauth2` and `openIdConnect`.
            let scopes = if name == BEARER { json!([]) } else { json!(scopes) };
            requirement.insert(name.clone(), scopes);
            Value::Object(requirement)
        });
        requirements.collect()
    }
}

/// What one guard demands: alternatives, and whether the route is also for requests without credentials.
struct Demanded {
    any_of: Vec<Alternative>,
    is_optional: bool,
}

impl Demanded {
    /// An entry of `security`.
    fn parse(entry: &Value) -> Option<Demanded> {
        let entry = entry.as_object()?;
        let texts = |scopes: &Value| -> Vec<String> {
            let scopes = scopes.as_array().into_iter().flatten();
            scopes.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let mut demanded = Demanded {
            any_of: vec![Alternative::default()],
            is_optional: entry.is_empty(),
        };
        for (name, scopes) in entry {
            let scopes = texts(scopes);
            let Some((_, accepted, is_optional)) = PLACEHOLDERS.iter().find(|(own, ..)| own == name) else {
                let other = Alternative {
                    others: BTreeMap::from([(name.clone(), scopes.into_iter().collect())]),
                    ..Alternative::default()
                };
                demanded.any_of = product(&demanded.any_of, &[other]);
                continue;
            };
            let tokens = scopes.iter().map(|all_of| Alternative {
                token: Some(all_of.split_whitespace().map(str::to_owned).collect()),
                ..Alternative::default()
            });
            let session = Alternative {
                has_session: true,
                ..Alternative::default()
            };
            let any_of: Vec<_> = match accepted {
                Accepted::Token => tokens.collect(),
                Accepted::Session => vec![session],
                Accepted::TokenOrSession => tokens.chain([session]).collect(),
            };
            demanded.any_of = product(&demanded.any_of, &any_of);
            demanded.is_optional |= is_optional;
        }
        Some(demanded)
    }
}

fn product(left: &[Alternative], right: &[Alternative]) -> Vec<Alternative> {
    let pairs = left
        .iter()
        .flat_map(|one| right.iter().map(move |other| one.and(other)));
    pairs.collect()
}

/// Replaces the placeholders of a document, in its operations and among its schemes.
pub(super) fn resolve(document: &mut Value, schemes: &Map<String, Value>) {
    let paths = document.get_mut("paths").and_then(Value::as_object_mut);
    let items = paths.into_iter().flat_map(Map::values_mut);
    let operations = items.filter_map(Value::as_object_mut).flat_map(Map::values_mut);
    for security in operations.filter_map(|operation| operation.get_mut("security")) {
        if let Some(resolved) = security.as_array().and_then(|entries| resolved(entries, schemes)) {
            *security = json!(resolved);
        }
    }
    let known = document.pointer_mut("/components/securitySchemes");
    if let Some(known) = known.and_then(Value::as_object_mut) {
        known.retain(|name, _| !is_placeholder(name));
    }
}

fn is_placeholder(name: &str) -> bool {
    PLACEHOLDERS.iter().any(|(own, ..)| *own == name)
}

/// The requirements of an operation; `None` if no guard of this crate is among them.
fn resolved(entries: &[Value], schemes: &Map<String, Value>) -> Option<Vec<Value>> {
    let names = entries.iter().filter_map(Value::as_object).flat_map(Map::keys);
    if !names.map(String::as_str).any(is_placeholder) {
        return None;
    }
    let demanded: Vec<_> = entries.iter().filter_map(Demanded::parse).collect();
    let is_public = demanded.iter().all(|guard| guard.is_optional);
    let mut alternatives = vec![Alternative::default()];
    for guard in &demanded {
        if !guard.is_optional {
            alternatives = product(&alternatives, &guard.any_of);
        } else if is_public {
            // Beside a guard that demands credentials, one for everyone demands nothing more.
            let with = product(&alternatives, &guard.any_of);
            alternatives.extend(with);
        }
    }
    let mut requirements: Vec<Value> = vec![];
    for requirement in alternatives.iter().flat_map(|one| one.requirements(schemes)) {
        if !requirements.contains(&requirement) {
            requirements.push(requirement);
        }
    }
    Some(requirements)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schemes() -> Map<String, Value> {
        let names = ["oidc", "oauth2", "bearer", "session"];
        names.map(|name| (name.to_owned(), json!({}))).into_iter().collect()
    }

    fn of(entries: Value) -> Value {
        json!(resolved(entries.as_array().unwrap(), &schemes()))
    }

    #[test]
    fn a_token_may_come_by_each_scheme_and_each_alternative_of_scopes() {
        let found = of(json!([{ "rocket_openidconnect.token": ["a b", "c"] }]));
        let expected = json!([
            { "bearer": [] },
            { "oauth2": ["a", "b"] },
            { "oidc": ["a", "b"] },
            { "oauth2": ["c"] },
            { "oidc": ["c"] },
        ]);
        assert_eq!(found, expected);
        let found = of(json!([{ "rocket_openidconnect.token": [""] }]));
        assert_eq!(found, json!([{ "bearer": [] }, { "oauth2": [] }, { "oidc": [] }]));
    }

    #[test]
    fn all_guards_of_a_route_apply() {
        let found =
            of(json!([{ "rocket_openidconnect.session": [] }, { "rocket_openidconnect.token": ["a"] }, { "key": [] }]));
        let expected = json!([
            { "bearer": [], "session": [], "key": [] },
            { "oauth2": ["a"], "session": [], "key": [] },
            { "oidc": ["a"], "session": [], "key": [] },
        ]);
        assert_eq!(found, expected);
        let found = of(json!([{ "rocket_openidconnect.token": ["a"] }, { "rocket_openidconnect.token": ["b"] }]));
        assert_eq!(found[1], json!({ "oauth2": ["a", "b"] }));
    }

    #[test]
    fn an_optional_guard_counts_only_where_all_are_optional() {
        let found = of(json!([{ "rocket_openidconnect.optional_session": [] }]));
        assert_eq!(found, json!([{}, { "session": [] }]));
        let found = of(json!([
            { "rocket_openidconnect.optional_session": [] },
            { "rocket_openidconnect.session": [] },
        ]));
        assert_eq!(found, json!([{ "session": [] }]));
        let found = of(json!([
            { "rocket_openidconnect.optional_session": [] },
            { "rocket_openidconnect.optional_caller": [""] },
        ]));
        let expected = json!([
            {},
            { "session": [] },
            { "bearer": [] },
            { "oauth2": [] },
            { "oidc": [] },
            { "session": [], "bearer": [] },
            { "session": [], "oauth2": [] },
            { "session": [], "oidc": [] },
        ]);
        assert_eq!(found, expected);
    }

    #[test]
    fn an_app_without_sessions_takes_tokens_only() {
        let schemes: Map<String, Value> = [("bearer".to_owned(), json!({}))].into_iter().collect();
        let of = |entries: Value| json!(resolved(entries.as_array().unwrap(), &schemes));
        assert_eq!(
            of(json!([{ "rocket_openidconnect.caller": ["a"] }])),
            json!([{ "bearer": [] }])
        );
        assert_eq!(of(json!([{ "rocket_openidconnect.session": [] }])), json!([]));
    }

    #[test]
    fn requirements_without_a_guard_of_this_crate_stay() {
        for entries in [json!([]), json!([{}, { "key": ["x"] }]), json!(["text", 1])] {
            assert_eq!(of(entries), Value::Null);
        }
    }

    #[test]
    fn whatever_is_no_document_stays() {
        for document in [
            json!(null),
            json!([1]),
            json!({ "paths": [1] }),
            json!({ "paths": { "/": { "get": 1, "parameters": [] } } }),
        ] {
            let mut resolved = document.clone();
            resolve(&mut resolved, &schemes());
            assert_eq!(resolved, document);
        }
    }
}
