//! The page that sent a request, by the headers of the browser: whether guards read the session for it.

use rocket::{
    Request,
    http::{HeaderMap, Method},
};
use thiserror::Error;

use super::RequestState;
use crate::relying_party::{RejectedRequest, RelyingParty};

/// What a browser states about the page that sent a request.
///
/// Guards that read the session accept a request by this table, and reject others with 403. A script or a form of another
/// site, or of a sibling sub-domain, then acts with no session, and forms need no token.
///
/// | request | `Sec-Fetch-Site` | `Origin` | |
/// |---|---|---|---|
/// | `GET`, `HEAD`, `OPTIONS`, `TRACE`, no WebSocket | any | any | accepted |
/// | any other | any | listed in `allowed_origins` for this path | accepted |
/// | any other | `same-origin` | any | accepted |
/// | any other | `none` | any but `null` | accepted |
/// | any other | `same-site`, `cross-site` | any | rejected |
/// | any other | absent | that of `base_url` | accepted |
/// | any other | absent | another one, `null` | rejected |
/// | any other | absent | absent | accepted: not a browser |
/// | any other | twice, or another value | any | rejected |
/// | any other | any | twice | rejected |
/// | a WebSocket handshake | any | another one than above | rejected |
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sender<'a> {
    is_safe: bool,
    /// Whether it opens a WebSocket: then browsers send `Origin` with a `GET`, and Chromium no `Sec-Fetch-Site`.
    is_handshake: bool,
    site: Field<'static>,
    origin: Field<'a>,
}

/// The values of `Sec-Fetch-Site`.
const SITES: [&str; 4] = ["same-origin", "same-site", "cross-site", "none"];

/// A header that a browser sends at most once.
#[derive(Clone, Copy, Debug)]
enum Field<'a> {
    Absent,
    One(&'a str),
    Several,
}

/// Why a request is not from a page of this app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum CrossOrigin {
    #[error("`Sec-Fetch-Site` is `same-site` or `cross-site`: a page of another origin sent it")]
    Site,
    #[error("its `Origin` is not that of `base_url`: a page of another origin sent it")]
    Origin,
    #[error("its `Origin` is `null`: the browser hides which page sent it")]
    Hidden,
    #[error("its `Sec-Fetch-Site` or `Origin` is not as a browser sends it")]
    Malformed,
}

impl CrossOrigin {
    /// How to fix it, where the page is one of the app.
    pub(crate) fn remedy(self) -> &'static str {
        match self {
            CrossOrigin::Site => {
                "if pages of that origin may act for the users of this app, list it in `oidc.allowed_origins`"
            }
            CrossOrigin::Origin => {
                "open the app at `oidc.base_url`, or list an origin whose pages may act for its users in `oidc.allowed_origins`"
            }
            CrossOrigin::Hidden => {
                "give the page with the form another `Referrer-Policy` than `no-referrer`, such as `same-origin`"
            }
            CrossOrigin::Malformed => "have the proxy in front of the app pass these headers on unchanged",
        }
    }
}

impl<'a> Sender<'a> {
    pub(crate) fn of(request: &'a Request<'_>) -> Sender<'a> {
        Sender::new(request.method(), request.headers())
    }

    /// Whether a request changes nothing, and opens no WebSocket: then its page does not matter.
    pub(crate) fn is_irrelevant(request: &Request<'_>) -> bool {
        is_safe(request.method()) && !request.headers().contains("Upgrade")
    }

    fn new(method: Method, headers: &'a HeaderMap<'_>) -> Sender<'a> {
        let mut protocols = headers.get("Upgrade").flat_map(|list| list.split(','));
        Sender {
            is_safe: is_safe(method),
            is_handshake: protocols.any(|protocol| protocol.trim().eq_ignore_ascii_case("websocket")),
            site: match Field::of("Sec-Fetch-Site", headers) {
                Field::One(site) => {
                    let known = SITES.into_iter().find(|known| known.eq_ignore_ascii_case(site));
                    Field::One(known.unwrap_or("unknown"))
                }
                Field::Absent => Field::Absent,
                Field::Several => Field::Several,
            },
            origin: Field::of("Origin", headers),
        }
    }

    /// Whether the request has neither header: it is not from a current browser.
    pub(crate) fn is_unknown(&self) -> bool {
        matches!((self.site, self.origin), (Field::Absent, Field::Absent))
    }

    /// Whether the request may be one of another origin: it changes something, or opens a WebSocket.
    fn is_checked(&self) -> bool {
        !self.is_safe || self.is_handshake
    }

    /// Decides by the table above. `is_own` and `is_allowed` compare an `Origin` as the browser serialises it.
    pub(crate) fn check(
        &self,
        is_own: impl Fn(&str) -> bool,
        is_allowed: impl Fn(&str) -> bool,
    ) -> Result<(), CrossOrigin> {
        if !self.is_checked() {
            return Ok(());
        }
        self.check_page(is_own, is_allowed)
    }

    /// As [`check`](Self::check), whatever the method: for a response that no other origin may read.
    pub(crate) fn check_page(
        &self,
        is_own: impl Fn(&str) -> bool,
        is_allowed: impl Fn(&str) -> bool,
    ) -> Result<(), CrossOrigin> {
        match (self.site, self.origin) {
            (Field::Several, _) | (_, Field::Several) => Err(CrossOrigin::Malformed),
            (_, Field::One(origin)) if origin != "null" && is_allowed(origin) => Ok(()),
            (Field::One("same-origin" | "none"), Field::One(origin))
                if self.is_handshake && origin != "null" && !is_own(origin) =>
            {
                Err(CrossOrigin::Origin)
            }
            (Field::One("same-origin"), _) => Ok(()),
            (Field::Absent | Field::One("none"), Field::One("null")) => Err(CrossOrigin::Hidden),
            // The user: an address that was typed, a bookmark.
            (Field::One("none"), _) => Ok(()),
            (Field::One("same-site" | "cross-site"), _) => Err(CrossOrigin::Site),
            (Field::One(_), _) => Err(CrossOrigin::Malformed),
            (Field::Absent, Field::Absent) => Ok(()),
            (Field::Absent, Field::One(origin)) if is_own(origin) => Ok(()),
            (Field::Absent, Field::One(_)) => Err(CrossOrigin::Origin),
        }
    }

    /// Whether the browser reports that a page of this app sent the request: by `Sec-Fetch-Site: same-origin`, or without
    /// it by its `Origin`.
    pub(crate) fn is_own_page(&self, is_own: impl Fn(&str) -> bool) -> bool {
        match (self.site, self.origin) {
            (_, Field::Several) => false,
            (Field::One(site), _) => site == "same-origin",
            (Field::Absent, Field::One(origin)) => origin != "null" && is_own(origin),
            (Field::Absent, Field::Absent) | (Field::Several, _) => false,
        }
    }
}

/// RFC 9110 §9.2.1.
fn is_safe(method: Method) -> bool {
    matches!(method, Method::Get | Method::Head | Method::Options | Method::Trace)
}

impl<'a> Field<'a> {
    fn of(name: &str, headers: &'a HeaderMap<'_>) -> Field<'a> {
        let mut values = headers.get(name);
        match (values.next(), values.next()) {
            (None, _) => Field::Absent,
            (Some(value), None) => Field::One(value),
            (Some(_), Some(_)) => Field::Several,
        }
    }

    fn text(self) -> &'a str {
        match self {
            Field::Absent => "",
            Field::One(value) => value,
            Field::Several => "(several)",
        }
    }
}

/// Whether this is the origin of the app at the tenant of `rp`, as a browser serialises it. While sign-in is disabled,
/// `base_url` need not be set: then the host of the request counts, too.
pub(crate) fn is_own_origin(rp: &RelyingParty, request: &Request<'_>, origin: &str) -> bool {
    if origin == rp.site.base_url.origin().ascii_serialization() {
        return true;
    }
    let authority = origin.split_once("://").map(|(_, authority)| authority);
    let host = request.host().map(|host| host.to_string());
    !rp.is_enabled() && authority.is_some() && authority == host.as_deref()
}

/// Fails if a page of another origin sent the request, and logs it. `rp` is that of the request's tenant.
pub(crate) fn check_sender(request: &Request<'_>, rp: &RelyingParty) -> Result<(), CrossOrigin> {
    if RequestState::of(request).has_own_sender_rule.get().is_some() {
        return Ok(());
    }
    let sender = Sender::of(request);
    let path = request.uri().path();
    let checked = sender.check(
        |origin| is_own_origin(rp, request, origin),
        |origin| rp.settings.allows_origin(path.as_str(), origin),
    );
    checked.inspect_err(|cause| {
        tracing::warn!(reason = "cross_origin", "a request was rejected: {cause}");
        tracing::info!("{}", cause.remedy());
        rp.events.developer_log.rejected(|| RejectedRequest {
            at: rp.clock.now(),
            request: format!("{} {path}", request.method()),
            site: sender.site.text().to_owned(),
            origin: sender.origin.text().to_owned(),
            cause: cause.to_string(),
            remedy: cause.remedy(),
        });
    })
}

#[cfg(test)]
mod tests {
    use rocket::http::Header;

    use super::*;

    const OWN: &str = "https://app.example.com";
    const LISTED: &str = "https://admin.example.com";

    fn check(method: Method, headers: &[(&'static str, &'static str)]) -> Result<(), CrossOrigin> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.add(Header::new(*name, *value));
        }
        Sender::new(method, &map).check(|origin| origin == OWN, |origin| origin == LISTED)
    }

    /// Every case: site, origin, then the verdict about an unsafe method, and about the handshake of a WebSocket.
    #[test]
    fn the_table() {
        use CrossOrigin::{Hidden, Malformed, Origin, Site};

        const SIBLING: &str = "https://blog.example.com";
        let ok = Ok(());
        for (site, origin, unsafe_method, handshake) in [
            // A browser with Fetch Metadata.
            (Some("same-origin"), Some(OWN), ok, ok),
            (Some("same-origin"), None, ok, ok),
            (Some("same-origin"), Some("null"), ok, ok),
            (Some("none"), None, ok, ok),
            (Some("none"), Some(OWN), ok, ok),
            (Some("none"), Some("null"), Err(Hidden), Err(Hidden)),
            (Some("same-site"), Some(SIBLING), Err(Site), Err(Site)),
            (Some("same-site"), Some(OWN), Err(Site), Err(Site)),
            (Some("same-site"), None, Err(Site), Err(Site)),
            (Some("cross-site"), Some("https://evil.example"), Err(Site), Err(Site)),
            (Some("cross-site"), Some("null"), Err(Site), Err(Site)),
            (Some("cross-site"), None, Err(Site), Err(Site)),
            // A proxy changed the host, or an alias of the app: the browser compared both itself.
            (Some("same-origin"), Some("https://alias.example"), ok, Err(Origin)),
            (Some("none"), Some("https://alias.example"), ok, Err(Origin)),
            // Without it: plain http, old browsers, and a WebSocket in Chromium.
            (None, Some(OWN), ok, ok),
            (None, Some("https://app.example.com:444"), Err(Origin), Err(Origin)),
            (None, Some("https://app.example.com/"), Err(Origin), Err(Origin)),
            (None, Some("http://app.example.com"), Err(Origin), Err(Origin)),
            (None, Some("https://APP.example.com"), Err(Origin), Err(Origin)),
            (
                None,
                Some("https://app.example.com.evil.example"),
                Err(Origin),
                Err(Origin),
            ),
            (None, Some(SIBLING), Err(Origin), Err(Origin)),
            (None, Some("null"), Err(Hidden), Err(Hidden)),
            (None, Some(""), Err(Origin), Err(Origin)),
            (
                None,
                Some("https://app.example.com https://evil.example"),
                Err(Origin),
                Err(Origin),
            ),
            // Not a browser.
            (None, None, ok, ok),
            // An origin that the settings list.
            (Some("same-site"), Some(LISTED), ok, ok),
            (Some("cross-site"), Some(LISTED), ok, ok),
            (None, Some(LISTED), ok, ok),
            // What no browser sends.
            (Some(""), Some(OWN), Err(Malformed), Err(Malformed)),
            (Some("Same-Origin"), Some(OWN), ok, ok),
            (Some("same-origin, none"), Some(OWN), Err(Malformed), Err(Malformed)),
            (Some("same-origin;a"), None, Err(Malformed), Err(Malformed)),
        ] {
            let site = site.map(|site| ("Sec-Fetch-Site", site));
            let origin = origin.map(|origin| ("Origin", origin));
            let headers: Vec<_> = site.into_iter().chain(origin).collect();
            for method in [
                Method::Post,
                Method::Put,
                Method::Patch,
                Method::Delete,
                Method::Connect,
            ] {
                assert_eq!(check(method, &headers), unsafe_method, "{method} {headers:?}");
            }
            for method in [Method::Get, Method::Head, Method::Options, Method::Trace] {
                assert_eq!(check(method, &headers), ok, "{method} {headers:?}");
            }
            for upgrade in ["websocket", "WebSocket", "h2c, websocket"] {
                let headers = [&headers[..], &[("Upgrade", upgrade)]].concat();
                assert_eq!(check(Method::Get, &headers), handshake, "{headers:?}");
            }
            let headers = [&headers[..], &[("Upgrade", "h2c")]].concat();
            assert_eq!(check(Method::Get, &headers), ok, "{headers:?}");
        }
    }

    #[test]
    fn a_header_that_is_there_twice_is_rejected() {
        let site = ("Sec-Fetch-Site", "same-origin");
        for headers in [
            &[site, site][..],
            &[site, ("sec-fetch-site", "none")],
            &[site, ("Origin", OWN), ("Origin", OWN)],
            &[("Origin", OWN), ("origin", LISTED)],
            &[("Origin", LISTED), ("Origin", LISTED)],
        ] {
            assert_eq!(check(Method::Post, headers), Err(CrossOrigin::Malformed), "{headers:?}");
        }
    }

    #[test]
    fn the_pages_of_this_app() {
        for (headers, expected) in [
            (&[("Sec-Fetch-Site", "same-origin")][..], true),
            (&[("Sec-Fetch-Site", "same-origin"), ("Origin", "null")], true),
            (&[("Origin", OWN)], true),
            (&[("Sec-Fetch-Site", "none")], false),
            (&[("Sec-Fetch-Site", "same-site"), ("Origin", OWN)], false),
            (&[("Origin", LISTED)], false),
            (&[("Origin", "null")], false),
            (&[("Origin", OWN), ("Origin", OWN)], false),
            (&[], false),
        ] {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.add(Header::new(*name, *value));
            }
            let sender = Sender::new(Method::Post, &map);
            assert_eq!(sender.is_own_page(|origin| origin == OWN), expected, "{headers:?}");
        }
    }
}
