//! Extraction of groups and roles from the claims of a user or a token.

use serde_json::{Map, Value};

/// Where the groups and the roles of a user, or of an access token, are: the settings `groups_claim` and `roles_claim`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupPaths {
    groups: Vec<ClaimPath>,
    roles: Vec<ClaimPath>,
}

impl Default for GroupPaths {
    fn default() -> GroupPaths {
        GroupPaths {
            groups: ClaimPath::parse("groups").into_iter().collect(),
            roles: vec![],
        }
    }
}

impl GroupPaths {
    /// The paths of settings, which were validated before.
    pub(crate) fn new(groups: &[String], roles: &[String]) -> GroupPaths {
        GroupPaths {
            groups: ClaimPath::parse_all(groups),
            roles: ClaimPath::parse_all(roles),
        }
    }

    /// The groups; `None` if there is no such claim.
    pub(crate) fn groups<'a>(&self, claims: &'a Map<String, Value>) -> Option<Vec<&'a str>> {
        let found = self.groups.iter().filter_map(|path| path.groups(claims));
        found.reduce(joined)
    }

    /// The roles; `None` if there is no such claim.
    pub(crate) fn roles<'a>(&self, claims: &'a Map<String, Value>) -> Option<Vec<&'a str>> {
        let found = self.roles.iter().filter_map(|path| path.roles(claims));
        found.reduce(joined)
    }
}

fn joined<'a>(mut all: Vec<&'a str>, others: Vec<&'a str>) -> Vec<&'a str> {
    all.extend(others);
    all
}

/// The strings of an array, or the names of the members of an object that are objects themselves.
fn names(value: &Value) -> Vec<&str> {
    match value {
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
        Value::Object(members) => {
            let named = members.iter().filter(|(_, value)| value.is_object());
            named.map(|(name, _)| name.as_str()).collect()
        }
        _ => vec![],
    }
}

/// The path of a claim: its name, member names joined by dots, or a JSON Pointer
/// ([RFC 6901](https://www.rfc-editor.org/rfc/rfc6901)), whose names may contain dots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClaimPath {
    text: String,
    members: Vec<String>,
}

impl ClaimPath {
    /// Parses a path. `None` for a pointer with another escape than `~0` and `~1`.
    pub(crate) fn parse(text: &str) -> Option<ClaimPath> {
        let members = match text.strip_prefix('/') {
            Some(pointer) => pointer.split('/').map(unescaped).collect::<Option<_>>()?,
            None => text.split('.').map(str::to_owned).collect(),
        };
        Some(ClaimPath {
            text: text.to_owned(),
            members,
        })
    }

    /// Parses the paths of a setting, which was validated before.
    fn parse_all(texts: &[String]) -> Vec<ClaimPath> {
        let paths = texts.iter().map(String::as_str);
        paths.filter_map(ClaimPath::parse).collect()
    }

    /// The roles at this path: the words of a string, the strings of an array, or the names of the members of
    /// an object that are objects themselves, as Zitadel writes them. `None` if there is no such claim.
    fn roles<'a>(&self, claims: &'a Map<String, Value>) -> Option<Vec<&'a str>> {
        match self.find(claims)? {
            Value::String(text) => Some(text.split_ascii_whitespace().collect()),
            value => Some(names(value)),
        }
    }

    /// The groups at this path. A group may have blanks in its name, so a string is one.
    fn groups<'a>(&self, claims: &'a Map<String, Value>) -> Option<Vec<&'a str>> {
        match self.find(claims)? {
            Value::String(name) => Some(vec![name]),
            value => Some(names(value)),
        }
    }

    /// The claim whose name is the whole text, else the member at the path.
    fn find<'a>(&self, claims: &'a Map<String, Value>) -> Option<&'a Value> {
        if let Some(value) = claims.get(&self.text) {
            return Some(value);
        }
        let (first, rest) = self.members.split_first()?;
        let mut value = claims.get(first)?;
        for member in rest {
            value = value.as_object()?.get(member)?;
        }
        Some(value)
    }
}

/// Unescapes a reference token (RFC 6901 §4).
fn unescaped(token: &str) -> Option<String> {
    let mut pieces = token.split('~');
    let mut text = pieces.next()?.to_owned();
    for piece in pieces {
        let (escaped, rest) = match piece.as_bytes().first()? {
            b'0' => ('~', &piece[1..]),
            b'1' => ('/', &piece[1..]),
            _ => return None,
        };
        text.push(escaped);
        text.push_str(rest);
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn roles(claims: &Value, path: &str) -> Vec<String> {
        let paths = GroupPaths::new(&[], &[path.to_owned()]);
        let roles = paths.roles(claims.as_object().unwrap()).unwrap_or_default();
        roles.into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn paths_select_members() {
        let claims = json!({
            "realm_access": {"roles": ["a", "b"]},
            "resource_access": {"my.app": {"roles": ["c"]}, "x/y~z": {"roles": ["d"]}},
            "https://app.example/roles": ["e"],
            "a.b": "f g",
            "a": {"b": "h"},
        });
        for (path, expected) in [
            ("realm_access.roles", &["a", "b"][..]),
            ("/realm_access/roles", &["a", "b"]),
            ("/resource_access/my.app/roles", &["c"]),
            ("/resource_access/x~1y~0z/roles", &["d"]),
            ("https://app.example/roles", &["e"]),
            ("/https:~1~1app.example~1roles", &["e"]),
            ("a.b", &["f", "g"]),
            ("/a.b", &["f", "g"]),
            ("/a/b", &["h"]),
            ("resource_access.my.app.roles", &[]),
            ("realm_access", &[]),
            ("realm_access.", &[]),
            ("realm_access.roles.x", &[]),
            ("/realm_access/roles/0", &[]),
            ("/", &[]),
            ("nothing", &[]),
        ] {
            assert_eq!(roles(&claims, path), expected, "{path}");
        }
    }

    #[test]
    fn roles_as_names_of_members() {
        let claims = json!({"urn:zitadel:iam:org:project:roles": {
            "admin": {"1234": "org.zitadel.localhost"}, "user": {}, "no": false, "yes": true, "text": "x",
        }});
        let path = "urn:zitadel:iam:org:project:roles";
        assert_eq!(roles(&claims, path), ["admin", "user"]);
    }

    #[test]
    fn a_group_is_a_string_and_a_role_is_a_word() {
        let claims = json!({"groups": "Domain Users", "cognito:groups": ["a b"], "x": {"groups": {"c": {}, "d": 1}}});
        let claims = claims.as_object().unwrap();
        let paths = ["groups", "cognito:groups", "x.groups", "nothing"].map(str::to_owned);
        let paths = GroupPaths::new(&paths, &paths);
        assert_eq!(paths.groups(claims).unwrap(), ["Domain Users", "a b", "c"]);
        assert_eq!(paths.roles(claims).unwrap(), ["Domain", "Users", "a b", "c"]);
        assert_eq!(GroupPaths::default().roles(claims), None);
        assert_eq!(GroupPaths::default().groups(&Map::new()), None);
    }

    #[test]
    fn other_escapes_are_not_pointers() {
        for text in ["/a~", "/a~2b", "/~/b", "/ä~ß"] {
            assert_eq!(ClaimPath::parse(text), None, "{text}");
        }
        assert!(ClaimPath::parse("a~b").is_some());
    }
}
