//! `Clear-Site-Data`: what a browser drops at a sign-out, by the setting `clear_site_data`.
//!
//! <https://www.w3.org/TR/clear-site-data/>

use crate::settings::CLEAR_SITE_DATA;

/// The types that include cookies.
const COOKIES: [&str; 2] = ["cookies", "*"];

/// The header's value for the last answer of a sign-out.
pub(super) fn all(types: &[String]) -> Option<String> {
    header(types.iter().map(String::as_str))
}

/// For an answer whose cookies are needed afterwards: a browser may drop those that the same answer sets.
pub(super) fn without_cookies(types: &[String]) -> Option<String> {
    let has_all = types.iter().any(|of_setting| of_setting == "*");
    let types = CLEAR_SITE_DATA.into_iter().filter(|name| {
        !COOKIES.contains(name) && (has_all || types.iter().any(|of_setting| of_setting == name))
    });
    header(types)
}

/// Whether cookies are among them.
pub(super) fn has_cookies(types: &[String]) -> bool {
    types.iter().any(|name| COOKIES.contains(&name.as_str()))
}

fn header<'a>(types: impl Iterator<Item = &'a str>) -> Option<String> {
    let types: Vec<_> = types.map(|name| format!("\"{name}\"")).collect();
    (!types.is_empty()).then(|| types.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(types: &[&str]) -> [Option<String>; 2] {
        let types: Vec<_> = types.iter().map(|name| (*name).to_owned()).collect();
        [all(&types), without_cookies(&types)]
    }

    #[test]
    fn the_header_quotes_each_type() {
        let some = |value: &str| Some(value.to_owned());
        assert_eq!(values(&[]), [None, None]);
        let both = some(r#""cache", "storage""#);
        assert_eq!(values(&["cache", "storage"]), [both.clone(), both]);
        assert_eq!(values(&["cookies"]), [some(r#""cookies""#), None]);
        assert_eq!(
            values(&["storage", "cookies", "cache"]),
            [
                some(r#""storage", "cookies", "cache""#),
                some(r#""cache", "storage""#)
            ]
        );
        assert_eq!(
            values(&["*"]),
            [
                some(r#""*""#),
                some(
                    r#""cache", "storage", "executionContexts", "prefetchCache", "prerenderCache", "clientHints""#
                )
            ]
        );
    }
}
