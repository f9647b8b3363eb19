//! Which claims the client gets for the scopes of a sign-in.

use serde_json::{Map, Value};

use super::{Op, grants::Grant};
use crate::token::{scope_of, scopes_of_claims};

/// The scopes of this provider, for its metadata.
pub(super) fn scopes_supported() -> Vec<&'static str> {
    ["openid", "offline_access"]
        .into_iter()
        .chain(scopes_of_claims())
        .collect()
}

/// The user's claims of the granted scopes, those of no scope, and those that the setting `unscoped_claims` names.
pub(super) fn visible_claims(op: &Op, grant: &Grant) -> Map<String, Value> {
    let is_granted = |scope: &str| grant.request.scope.split(' ').any(|granted| granted == scope);
    let mut claims = grant.claims.clone();
    claims.retain(|name, _| scope_of(name).is_none_or(is_granted) || op.unscoped_claims.contains(name));
    claims
}
