//! Text from outside, shortened and escaped for errors, log lines and pages.

/// The beginning of a value from outside, short enough for an error or a log line that quotes it.
pub(crate) fn excerpt(text: &str) -> String {
    beginning(text, 120)
}

fn beginning(text: &str, max_chars: usize) -> String {
    match text.char_indices().nth(max_chars) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// As [`printable`], for what names a user or a provider: whole, as long as the standard allows (255 characters of
/// `sub`).
pub(crate) fn printable_name(name: &str) -> String {
    let kept: String = name.chars().take(255).collect();
    kept.escape_debug().to_string()
}

/// The beginning of what somebody outside says in words, with its control characters escaped, for what does not quote.
pub(crate) fn printable(text: &str) -> String {
    let escaped = beginning(text, 300).escape_debug().to_string();
    // Each quotation mark is escaped too, and need not be.
    escaped.replace("\\'", "'").replace("\\\"", "\"")
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn words_of_others_keep_their_quotation_marks() {
        for (text, expected) in [
            (
                "Policy 'Trusted Hosts' said \"no\"",
                "Policy 'Trusted Hosts' said \"no\"",
            ),
            ("a\\b \\' \\\\'", "a\\\\b \\\\' \\\\\\\\'"),
            (
                "two\nlines\u{1b}[31m\u{202e}",
                "two\\nlines\\u{1b}[31m\\u{202e}",
            ),
        ] {
            assert_eq!(printable(text), expected);
        }
    }
}
