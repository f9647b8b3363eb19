//! The script `session.js`, which tells the pages of an app whether a user is signed in: its names, hash and tag.

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA384, digest};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};

use super::RelyingParty;

/// An ES module without imports.
pub(crate) const SCRIPT: &str = include_str!("script.js");
/// The name below `mount` at which pages import the script. It names the file that has the script.
pub(crate) const SCRIPT_NAME: &str = "session.js";
/// How much of the hash is in the file name.
const NAME_HASH_LEN: usize = 9;

/// What follows from the text of the script.
struct Hashed {
    file: String,
    integrity: String,
}

static HASHED: LazyLock<Hashed> = LazyLock::new(|| {
    let hash = digest(&SHA384, SCRIPT.as_bytes());
    Hashed {
        file: format!("session-{}.js", URL_SAFE_NO_PAD.encode(&hash.as_ref()[..NAME_HASH_LEN])),
        integrity: format!("sha384-{}", STANDARD.encode(hash)),
    }
});

/// The name of the script below `mount`, with a hash of its text.
pub(crate) fn script_file() -> &'static str {
    &HASHED.file
}

/// The hash of its text, for the attribute `integrity` ([SRI §3.5](https://www.w3.org/TR/SRI/#the-integrity-attribute)).
pub(crate) fn script_integrity() -> &'static str {
    &HASHED.integrity
}

impl RelyingParty {
    /// The HTML element that loads the script for [pages that follow the session](crate::manual::scripts), with its
    /// `integrity`: no inline script, so that a policy of `script-src 'self'` is enough. `None` without the setting
    /// [`me_claims`](crate::settings::Settings::me_claims).
    ///
    /// The script of the app imports the same module from `{mount}/session.js`.
    ///
    /// ```
    /// use rocket::{get, response::content::RawHtml};
    /// use rocket_openidconnect::RelyingParty;
    ///
    /// #[get("/")]
    /// fn index(rp: &RelyingParty) -> RawHtml<String> {
    ///     RawHtml(format!("<title>Notes</title>{}", rp.script_tag().unwrap_or_default()))
    /// }
    /// ```
    pub fn script_tag(&self) -> Option<String> {
        self.settings.me_claims.as_ref()?;
        // The characters of `mount` and of the path of `base_url` need no escapes.
        let src = self.route_path(script_file());
        let integrity = script_integrity();
        Some(format!(
            "<script type=\"module\" src=\"{src}\" integrity=\"{integrity}\"></script>"
        ))
    }
}
