//! What an app learns about a session that is not of the current request.

use rocket::serde::DeserializeOwned;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// A session of a user, as [`RelyingParty::sessions_of_user`](crate::RelyingParty::sessions_of_user) lists it.
///
/// It serializes as an object with its fields and `data`, without tokens and claims, so that a template can render it.
/// Times are texts such as `2026-11-30T20:33:28Z` (RFC 3339). It does not say where the user signed in: an app that
/// shows this notes it itself, as the manual's page [`sessions`](crate::manual::sessions) describes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SessionInfo {
    /// The session's name, for [`RelyingParty::end_session_of`](crate::RelyingParty::end_session_of). It is not a
    /// secret: it cannot be used to sign in.
    pub id: String,
    /// The name of the provider in the settings; `default` in an app with one.
    pub provider: String,
    /// When the user signed in.
    #[serde(serialize_with = "rfc3339")]
    pub started: OffsetDateTime,
    /// When the session was last used, to within a tenth of `session.idle_timeout`.
    #[serde(serialize_with = "rfc3339")]
    pub last_seen: OffsetDateTime,
    /// When the session ends at the latest. It ends earlier if it is not used for `session.idle_timeout`.
    #[serde(serialize_with = "rfc3339")]
    pub ends: OffsetDateTime,
    pub(super) data: Map<String, Value>,
}

impl SessionInfo {
    /// The value that the app stored under this name, as [`User::data`](crate::User::data). `None` when there is none, or
    /// one of another type.
    pub fn data<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        T::deserialize(self.data.get(name)?).ok()
    }
}

fn rfc3339<S: Serializer>(time: &OffsetDateTime, serializer: S) -> Result<S::Ok, S::Error> {
    match time.format(&Rfc3339) {
        Ok(text) => serializer.serialize_str(&text),
        // Only years after 9999 have no such text.
        Err(_) => serializer.serialize_none(),
    }
}
