//! `MissedClaims`: the claims that a policy looked for and a user does not have.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{printable::printable, settings::Settings, token::scope_of};

/// The maximum number of claims that one refusal names.
const MAX_MISSED: usize = 8;

/// What a policy looked for in vain. Clones share it. It has names, which the app's code wrote, and no values.
#[derive(Clone, Debug, Default)]
pub(crate) struct MissedClaims(Arc<Mutex<BTreeSet<MissedClaim>>>);

/// A claim that a policy looked for in vain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum MissedClaim {
    /// The provider sent none of this name.
    Absent(String),
    /// It is of another type than the policy expects.
    OtherType(String),
    /// The user is in more groups than the provider puts into a token.
    TooManyGroups,
    /// `groups` or `roles`, which do not count among several providers.
    NotTrusted(&'static str),
    /// No setting says which claim has the roles.
    NoRolesClaim,
}

impl MissedClaims {
    pub(super) fn add(&self, missed: MissedClaim) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() < MAX_MISSED {
            all.insert(missed);
        }
    }

    /// All of them, in order.
    pub(crate) fn list(&self) -> Vec<MissedClaim> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().cloned().collect()
    }
}

impl MissedClaim {
    /// What is missing, for the log.
    pub(crate) fn cause(&self) -> String {
        match self {
            MissedClaim::Absent(claim) => format!("the user has no claim `{}`", printable(claim)),
            MissedClaim::OtherType(claim) => {
                format!("the user's claim `{}` is of another type", printable(claim))
            }
            MissedClaim::TooManyGroups => "the user is in more groups than the provider puts into a token".to_owned(),
            MissedClaim::NotTrusted(names) => format!("the {names} of this provider's users do not count"),
            MissedClaim::NoRolesClaim => "user's roles: no claim has them".to_owned(),
        }
    }

    /// What to write.
    pub(crate) fn remedy(&self, settings: &Settings) -> String {
        let is_requested = |scope: &str| settings.scopes.iter().any(|own| own == scope);
        match self {
            MissedClaim::Absent(claim) => match scope_of(claim) {
                Some(scope) if is_requested(scope) => {
                    format!("have the provider send `{claim}`: the scope `{scope}` is requested")
                }
                Some("groups") => format!(
                    "add `groups` to `{}`, or the scope that has them at this provider, or have it send them without one",
                    settings.key("scopes")
                ),
                Some(scope) => format!("add `{scope}` to `{}`", settings.key("scopes")),
                None => format!(
                    "have the provider send `{}`, or add the scope that has it there to `{}`",
                    printable(claim),
                    settings.key("scopes")
                ),
            },
            MissedClaim::OtherType(claim) => format!("read `{}` as the type that the provider sends", printable(claim)),
            MissedClaim::TooManyGroups => {
                "limit the groups that the provider sends, or ask its API for them: see `User::groups_overage`"
                    .to_owned()
            }
            MissedClaim::NotTrusted(_) => format!(
                "set `{} = true`, if the administrators of this provider may decide about this app's groups and roles",
                settings.key("trust_groups")
            ),
            MissedClaim::NoRolesClaim => format!(
                "set `{}` to the path of the claim, such as `roles` or `realm_access.roles`",
                settings.key("roles_claim")
            ),
        }
    }
}
