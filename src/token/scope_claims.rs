//! Which scope has a claim.

/// The claims of each scope ([OpenID Connect Core 1.0 §5.4]). No standard has `groups`: many providers give it this scope.
///
/// [OpenID Connect Core 1.0 §5.4]: https://openid.net/specs/openid-connect-core-1_0.html#ScopeClaims
const CLAIMS_OF_SCOPES: [(&str, &[&str]); 5] = [
    ("address", &["address"]),
    ("email", &["email", "email_verified"]),
    ("groups", &["groups"]),
    ("phone", &["phone_number", "phone_number_verified"]),
    (
        "profile",
        &[
            "name",
            "family_name",
            "given_name",
            "middle_name",
            "nickname",
            "preferred_username",
            "profile",
            "picture",
            "website",
            "gender",
            "birthdate",
            "zoneinfo",
            "locale",
            "updated_at",
        ],
    ),
];

/// The scope that has this claim; `None` if no standard says so.
pub(crate) fn scope_of(claim: &str) -> Option<&'static str> {
    let (scope, _) = CLAIMS_OF_SCOPES.iter().find(|(_, claims)| claims.contains(&claim))?;
    Some(scope)
}

/// The scopes that have claims.
#[cfg(feature = "dev-provider")]
pub(crate) fn scopes_of_claims() -> impl Iterator<Item = &'static str> {
    CLAIMS_OF_SCOPES.iter().map(|(scope, _)| *scope)
}
