//! The header `Clear-Site-Data` of a sign-out, by the setting `clear_site_data`.
//!
//! <https://www.w3.org/TR/clear-site-data/>

use crate::settings::ClearSiteData::{
    self, All, Cache, ClientHints, Cookies, ExecutionContexts, PrefetchCache, PrerenderCache, Storage,
};

/// All types except cookies.
const OTHERS: [ClearSiteData; 6] = [
    Cache,
    Storage,
    ExecutionContexts,
    PrefetchCache,
    PrerenderCache,
    ClientHints,
];

/// The header's value for the last response of a sign-out.
pub(super) fn all(types: &[ClearSiteData]) -> Option<String> {
    // JSON quotes strings as the header does.
    let types = types.iter().filter_map(|it| serde_json::to_string(it).ok());
    let types: Vec<_> = types.collect();
    (!types.is_empty()).then(|| types.join(", "))
}

/// The value for a response whose cookies are needed: a browser may clear cookies that the same response sets.
pub(super) fn without_cookies(types: &[ClearSiteData]) -> Option<String> {
    let is_set = |it: &ClearSiteData| types.contains(&All) || types.contains(it);
    let types: Vec<_> = OTHERS.into_iter().filter(is_set).collect();
    all(&types)
}

/// Whether the types include cookies.
pub(super) fn has_cookies(types: &[ClearSiteData]) -> bool {
    types.contains(&Cookies) || types.contains(&All)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(types: &[ClearSiteData]) -> [Option<String>; 2] {
        [all(types), without_cookies(types)]
    }

    #[test]
    fn the_header_quotes_each_type() {
        let some = |value: &str| Some(value.to_owned());
        assert_eq!(values(&[]), [None, None]);
        let both = some(r#""cache", "storage""#);
        assert_eq!(values(&[Cache, Storage]), [both.clone(), both]);
        assert_eq!(values(&[Cookies]), [some(r#""cookies""#), None]);
        assert_eq!(
            values(&[Storage, Cookies, Cache]),
            [some(r#""storage", "cookies", "cache""#), some(r#""cache", "storage""#)]
        );
        assert_eq!(
            values(&[All]),
            [
                some(r#""*""#),
                some(r#""cache", "storage", "executionContexts", "prefetchCache", "prerenderCache", "clientHints""#)
            ]
        );
    }
}
