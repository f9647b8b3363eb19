//! Stray characters around credentials and URLs, which shells, editors and files add.

/// Trims white space and zero-width characters, such as a byte-order mark.
pub(super) fn trimmed(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || is_invisible(c))
}

/// Whether a trimmed text contains a line break, another control character, or a zero-width character.
pub(super) fn has_control(text: &str) -> bool {
    text.contains(|c: char| c.is_control() || is_invisible(c))
}

/// Whether a character is a byte-order mark, or has no width otherwise.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{feff}' | '\u{200b}'..='\u{200d}' | '\u{2060}')
}

/// A note about stray characters around a text, if there are any. It reveals nothing of the text itself.
pub(super) fn note(text: &str) -> Option<&'static str> {
    let inner = trimmed(text);
    let quotes = [('"', '"'), ('\'', '\''), ('`', '`'), ('“', '”'), ('‘', '’')];
    let is_quoted = |(open, close)| {
        let inner = inner.strip_prefix(open).and_then(|rest| rest.strip_suffix(close));
        inner.is_some()
    };
    if quotes.into_iter().any(is_quoted) {
        return Some("is in quotes, which are part of the value");
    }
    let around = |is: fn(char) -> bool| text.starts_with(is) || text.ends_with(is);
    if around(is_invisible) {
        return Some("has a byte-order mark or another invisible character around it, which is ignored");
    }
    (inner != text).then_some("has white space around it, which is ignored")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_around_a_text() {
        const BLANKS: &str = "has white space around it, which is ignored";
        const MARK: &str = "has a byte-order mark or another invisible character around it, which is ignored";
        const QUOTES: &str = "is in quotes, which are part of the value";
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
            assert_eq!((trimmed(text), note(text)), (expected, is), "{text:?}");
        }
        for text in ["a\nb", "a\u{feff}b", "a\0b", "a\u{7f}"] {
            assert!(has_control(text), "{text:?}");
        }
        assert!(!has_control("a b“ü"));
    }
}
