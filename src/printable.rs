//! Untrusted text, truncated and escaped for errors, log lines and pages.

/// Truncates an untrusted value to 120 characters, for an error or log line that quotes it.
pub(crate) fn excerpt(text: &str) -> String {
    beginning(text, 120)
}

fn beginning(text: &str, max_chars: usize) -> String {
    match text.char_indices().nth(max_chars) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Truncates an untrusted message to 300 characters and escapes its control characters, for output without quotes.
pub(crate) fn printable(text: &str) -> String {
    let escaped = beginning(text, 300).escape_debug().to_string();
    // `escape_debug` escapes quotation marks too: undo that.
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
            ("two\nlines\u{1b}[31m\u{202e}", "two\\nlines\\u{1b}[31m\\u{202e}"),
        ] {
            assert_eq!(printable(text), expected);
        }
    }
}
