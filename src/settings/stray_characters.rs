//! Characters around credentials and addresses that are no part of them: what shells, editors and files add.

use std::path::Path;

use figment::Figment;
use serde_json::Value;

use super::{ClientSecrets, Settings, client_secrets::read_raw};

/// The credentials and addresses among the settings; in client secrets, all members are.
const KEYS: [&str; 10] = [
    "issuer",
    "client_id",
    "client_secret",
    "private_key_id",
    "server_metadata_url",
    "base_url",
    "overwrite_redirect_uri",
    "resource",
    "session.url",
    "provider.url",
];

/// A text without the white space and the byte-order mark around it.
pub(super) fn trimmed(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || is_invisible(c))
}

/// Whether a trimmed text has a character in it that nobody can have meant: a line break, another control character, or
/// one without width.
pub(super) fn has_control(text: &str) -> bool {
    text.contains(|c: char| c.is_control() || is_invisible(c))
}

/// A byte-order mark, or another character without width.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{feff}' | '\u{200b}'..='\u{200d}' | '\u{2060}')
}

/// What is around a text, if anything is. It says nothing of the text itself.
fn stray(text: &str) -> Option<&'static str> {
    let inner = trimmed(text);
    let quotes = [('"', '"'), ('\'', '\''), ('`', '`'), ('“', '”'), ('‘', '’')];
    let is_quoted = |(open, close)| {
        let inner = inner
            .strip_prefix(open)
            .and_then(|rest| rest.strip_suffix(close));
        inner.is_some()
    };
    if quotes.into_iter().any(is_quoted) {
        return Some("is in quotes, which count as a part of it");
    }
    let around = |is: fn(char) -> bool| text.starts_with(is) || text.ends_with(is);
    if around(is_invisible) {
        return Some(
            "has a byte-order mark or another invisible character around it, which is ignored",
        );
    }
    (inner != text).then_some("has white space around it, which is ignored")
}

impl Settings {
    /// Notes what is around the values of the settings, as they were written.
    pub(super) fn note_stray_characters(&mut self, figment: &Figment) {
        let mut keys: Vec<String> = KEYS.iter().map(|key| (*key).to_owned()).collect();
        for name in self.issuers.keys() {
            keys.push(format!("issuers.{name}.issuer"));
            keys.push(format!("issuers.{name}.server_metadata_url"));
        }
        for table in ["client_secrets", "client_secrets.web"] {
            let members = figment.find_value(table).ok();
            let members = members.as_ref().and_then(|value| value.as_dict());
            let members = members.into_iter().flatten();
            keys.extend(members.map(|(member, _)| format!("{table}.{member}")));
        }
        for key in keys {
            let value = figment.find_value(&key).ok();
            let text = value.as_ref().and_then(|value| value.as_str());
            if let Some(what) = text.and_then(stray) {
                let line = [&*self.origins.find(&key).to_string(), what].join(" ");
                self.stray_characters.push(line);
            }
        }
    }

    /// What is around credentials and addresses, in settings and in the files that they name: a sentence each, to be
    /// told as warnings at liftoff.
    pub(crate) fn stray_characters(&self) -> Vec<String> {
        let mut lines = self.stray_characters.clone();
        if let Some(path) = &self.client_secret_file
            && let Ok(text) = read_raw(path)
        {
            // A file ends with a line break, as a rule.
            let line = text.strip_suffix('\n').unwrap_or(&text);
            let line = line.strip_suffix('\r').unwrap_or(line);
            if let Some(what) = stray(line) {
                lines.push(format!("the client secret in `{}` {what}", path.display()));
            }
        }
        if let Some(ClientSecrets::File(path)) = &self.client_secrets {
            lines.extend(of_client_secrets(path));
        }
        lines
    }
}

/// What is around the members of a `client_secrets.json`.
fn of_client_secrets(path: &Path) -> Vec<String> {
    let Ok(text) = read_raw(path) else {
        return vec![];
    };
    let document: Option<Value> = serde_json::from_str(trimmed(&text)).ok();
    let web = document.and_then(|mut document| document.get_mut("web").map(Value::take));
    let Some(Value::Object(web)) = web else {
        return vec![];
    };
    let known = web
        .iter()
        .filter(|(member, _)| super::client_secrets::MEMBERS.contains(&member.as_str()));
    known
        .filter_map(|(member, value)| {
            let what = stray(value.as_str()?)?;
            Some(format!("`{member}` in `{}` {what}", path.display()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_around_a_text() {
        const BLANKS: &str = "has white space around it, which is ignored";
        const MARK: &str =
            "has a byte-order mark or another invisible character around it, which is ignored";
        const QUOTES: &str = "is in quotes, which count as a part of it";
        for (text, expected, is) in [
            ("hush", "hush", None),
            ("hu sh", "hu sh", None),
            ("\"", "\"", None),
            ("it's'", "it's'", None),
            ("", "", None),
            ("hush\n", "hush", Some(BLANKS)),
            (" \thush\r\n\u{a0}", "hush", Some(BLANKS)),
            ("\u{feff}hush", "hush", Some(MARK)),
            ("\u{feff}\n hush\u{200b}", "hush", Some(MARK)),
            ("\"hush\"", "\"hush\"", Some(QUOTES)),
            ("“hush”", "“hush”", Some(QUOTES)),
            ("\"hush\"\n", "\"hush\"", Some(QUOTES)),
        ] {
            assert_eq!((trimmed(text), stray(text)), (expected, is), "{text:?}");
        }
        for text in ["a\nb", "a\u{feff}b", "a\0b", "a\u{7f}"] {
            assert!(has_control(text), "{text:?}");
        }
        assert!(!has_control("a b“ü"));
    }
}
