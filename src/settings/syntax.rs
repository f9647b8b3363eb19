//! The syntax of setting values, and suggestions for unknown names.

/// The syntax of a setting type's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Syntax {
    /// The description of a value, to follow the word "expected".
    pub expectation: &'static str,
    /// An example of a value in a TOML file.
    pub example: &'static str,
    /// How the text of an environment variable is parsed.
    pub variable: Variable,
    /// The first characters of a variable that holds a table or a list.
    pub brackets: &'static str,
}

/// How the text of an environment variable is parsed, unless it is a table or a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Variable {
    /// The text is the value. Figment would parse the secret `12345` as a number.
    Raw,
    /// As a boolean in any case, otherwise as figment does.
    Flag,
    /// As figment does.
    Parsed,
}

use Variable::{Flag, Parsed, Raw};

pub(super) const FLAG: Syntax = syntax("`true` or `false`", "true", Flag, "");
pub(super) const TEXT: Syntax = syntax("a string", "\"…\"", Raw, "");
pub(super) const URL: Syntax = syntax("an absolute URL", "\"https://…\"", Raw, "");
pub(super) const PATH: Syntax = syntax("the path of a file", "\"secrets/file\"", Raw, "");
pub(super) const WORDS: Syntax = syntax("a list of strings, or words in one string", "[\"…\", \"…\"]", Raw, "[");
pub(super) const DURATION: Syntax = syntax("seconds, or a duration such as `10m`", "\"10m\"", Raw, "");
pub(super) const COUNT: Syntax = syntax("a whole number", "2", Parsed, "");
pub(super) const PORT: Syntax = syntax("a port from 0 to 65535", "9400", Parsed, "");
pub(super) const TABLE: Syntax = syntax("a table", "{ … = \"…\" }", Parsed, "{[");
pub(super) const PATH_OR_TABLE: Syntax = syntax(
    "the path of a client_secrets.json, or the same as a table",
    "\"client_secrets.json\"",
    Raw,
    "{",
);
pub(super) const NAME_OR_TABLE: Syntax =
    syntax("the name of a provider, or a table with `name`", "\"google\"", Raw, "{");
pub(super) const FLAG_OR_TABLE: Syntax = syntax("`true`, `false` or a table", "true", Flag, "{[");
pub(super) const FLAG_OR_COUNT: Syntax = syntax("`true`, `false` or a whole number", "true", Flag, "");
pub(super) const LIST_OF_TABLES: Syntax = syntax("a list of tables", "[{ sub = \"…\" }]", Parsed, "{[");
/// A value in a table with arbitrary names.
pub(super) const ANY: Syntax = syntax("a value", "\"…\"", Parsed, "{[");

const fn syntax(
    expectation: &'static str,
    example: &'static str,
    variable: Variable,
    brackets: &'static str,
) -> Syntax {
    Syntax {
        expectation,
        example,
        variable,
        brackets,
    }
}

/// Previous keys of settings, with their current keys.
const RENAMED: [(&str, &str); 3] = [
    ("session.idle", "session.idle_timeout"),
    ("session.lifetime", "session.absolute_timeout"),
    ("session.url", "session.store_url"),
];

/// The current key of a setting that was renamed from this one.
pub(super) fn renamed(key: &str) -> Option<&'static str> {
    let (_, now) = RENAMED.iter().find(|(before, _)| *before == key)?;
    Some(now)
}

/// The name in `known` that `found` was probably meant to be.
pub(super) fn nearest<'k>(found: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let found = found.to_lowercase().replace('-', "_");
    let found = found.strip_prefix("oidc_").unwrap_or(&found);
    let score = |name: &str| {
        let distance = edit_distance(found, name);
        if distance <= 2.max(name.len() / 4) && distance < name.len() {
            Some(distance)
        } else if found.len() >= 4 && (name.contains(found) || found.contains(name)) {
            Some(100 + name.len().abs_diff(found.len()))
        } else {
            None
        }
    };
    let candidates = known.into_iter();
    let candidates = candidates.filter_map(|name| Some((score(name)?, name)));
    let best = candidates.min_by_key(|(score, _)| *score);
    best.map(|(_, name)| name)
}

/// The edit distance: the number of characters to insert, remove or replace to turn `a` into `b`.
pub(super) fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}
