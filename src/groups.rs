//! Groups that a user must be in, declared by the app with the macro `groups!`.

/// Whether a member of these groups is in all groups of one of the alternatives. Everyone meets an empty alternative.
#[doc(hidden)]
pub fn are_met(any_of: &[&[&str]], groups: &[impl AsRef<str>]) -> bool {
    let is_in = |name: &&str| groups.iter().any(|group| group.as_ref() == *name);
    any_of.iter().any(|all_of| all_of.iter().all(is_in))
}

/// Whether everyone meets an alternative, so that the groups need not be read.
pub(crate) fn are_none_needed(any_of: &[&[&str]]) -> bool {
    any_of.iter().any(|all_of| all_of.is_empty())
}

/// The alternatives in words: `admin, or staff and owner`.
pub(crate) fn in_words(any_of: &[&[&str]]) -> String {
    let all: Vec<_> = any_of.iter().map(|all_of| all_of.join(" and ")).collect();
    all.join(", or ")
}

/// Declares groups that a user must be in, as a [`Policy`](crate::Policy) for [`Authorized`](crate::Authorized) and
/// [`protect_with`](crate::protect_with) with any claims type, and as [`Scopes`](crate::Scopes) for
/// [`Caller`](crate::Caller), [`Bearer`](crate::Bearer) and [`BoundBearer`](crate::BoundBearer): groups are joined by
/// `&`, alternatives by `|`.
///
/// ```
/// use rocket::{get, routes};
/// use rocket_openidconnect::{Authorized, Caller, groups, protect_with};
///
/// groups! {
///     /// Those who may change settings.
///     pub Admins = "admin" | "owner";
///     /// Accountants with the right to sign.
///     pub Signers = "accounting" & "sign";
/// }
///
/// #[get("/settings")]
/// fn settings(user: Authorized<Admins>) -> String {
///     format!("changed by {}", user.subject())
/// }
///
/// #[get("/api/members")]
/// fn members(caller: Caller<Admins>) -> String {
///     format!("for {:?}", caller.subject())
/// }
///
/// let rocket = rocket::build()
///     .mount("/", routes![settings, members])
///     .mount("/ledger", protect_with::<Signers>(routes![]));
/// ```
///
/// The groups are those of [`User::groups`](crate::User::groups) and [`Bearer::groups`](crate::Bearer::groups), in the claims
/// of the setting [`groups_claim`](crate::settings::Settings::groups_claim): none where the settings do not trust the provider
/// with groups, and never the words of `scope`, which a client asks for.
///
/// Others get 403. The names are compared exactly. A name that is empty is a compile error:
///
/// ```compile_fail
/// rocket_openidconnect::groups! { pub Nameless = ""; }
/// ```
#[macro_export]
macro_rules! groups {
    ($(
        $(#[$meta:meta])*
        $visibility:vis $name:ident = $($($group:literal)&+)|+;
    )+) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug)]
        $visibility struct $name;

        impl $crate::Scopes for $name {
            const ANY_OF: &'static [&'static [&'static str]] = &[&[]];
            const GROUPS: &'static [&'static [&'static str]] = &[$(&[$($group),+]),+];
        }

        impl<C: Send + Sync + 'static> $crate::Policy<C> for $name {
            async fn permits(user: &$crate::User<C>, _: &$crate::__private::Request<'_>) -> bool {
                let any_of = <$name as $crate::Scopes>::GROUPS;
                $crate::__private::are_groups_met(any_of, &user.groups())
            }
        }

        const _: () = {
            $($(assert!(!$group.is_empty(), "a group has a name");)+)+
        };
    )+};
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scopes::Scopes;

    crate::groups! {
        Admins = "admin" | "owner";
        /// Either of two ways.
        pub(crate) Signers = "accounting" & "right to sign" | "owner";
    }

    #[test]
    fn all_of_and_any_of() {
        let met = |groups: &[&str]| [are_met(Admins::GROUPS, groups), are_met(Signers::GROUPS, groups)];
        assert_eq!(met(&[]), [false, false]);
        assert_eq!(met(&["admin"]), [true, false]);
        assert_eq!(met(&["owner"]), [true, true]);
        assert_eq!(met(&["accounting"]), [false, false]);
        assert_eq!(met(&["right to sign", "accounting"]), [false, true]);
        assert_eq!(
            met(&["Admin", "admins", " owner", "accounting right to sign"]),
            [false, false]
        );
    }

    #[test]
    fn no_scope_is_needed() {
        assert!(Admins::are_met_by(&[]));
        assert_eq!(Admins::API, None);
    }

    #[test]
    fn in_words_of_an_error() {
        assert_eq!(in_words(Signers::GROUPS), "accounting and right to sign, or owner");
    }
}
