//! Scopes that an access token must have, declared by the app with the macro `scopes!`.

/// The scopes that an access token must have (RFC 6749 §3.3), and the API that it must be for. Declare them with
/// [`scopes!`](crate::scopes), or groups with [`groups!`](crate::groups).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a type of scopes",
    label = "expected scopes or groups",
    note = "declare it: `rocket_openidconnect::scopes! {{ pub NotesRead = \"notes:read\"; }}`"
)]
pub trait Scopes: Send + Sync + 'static {
    /// The API that the token must be for, in an app of several APIs: the name of a table below `oidc.apis`, see
    /// [`ApiSettings`](crate::settings::ApiSettings). `None` is the app's default API, with `audience` and
    /// `resource`.
    ///
    /// A name without such a table aborts the launch.
    const API: Option<&'static str> = None;

    /// Alternatives, each a list of scopes that must all be there. Every token meets an empty list of scopes.
    const ANY_OF: &'static [&'static [&'static str]];

    /// Alternatives, each a list of groups in all of which the user is, by the setting
    /// [`groups_claim`](crate::settings::Settings::groups_claim). Everyone meets an empty list of groups.
    ///
    /// _Default:_ no group is needed
    const GROUPS: &'static [&'static [&'static str]] = &[&[]];

    /// Whether these scopes meet one of the alternatives.
    fn are_met_by(scopes: &[String]) -> bool {
        Self::ANY_OF
            .iter()
            .any(|all_of| all_of.iter().all(|word| scopes.iter().any(|scope| scope == word)))
    }
}

/// No required scope: any accepted token.
#[derive(Clone, Copy, Debug)]
pub struct AnyScope;

impl Scopes for AnyScope {
    const ANY_OF: &'static [&'static [&'static str]] = &[&[]];
}

/// The API and scopes that a guard demands, for its challenges.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Demand {
    pub(crate) api: Option<&'static str>,
    any_of: &'static [&'static [&'static str]],
    /// Whether only tokens that are bound to a key or a client certificate are accepted.
    pub(crate) needs_binding: bool,
}

impl Demand {
    pub(crate) const fn of<S: Scopes>() -> Demand {
        Demand {
            api: S::API,
            any_of: S::ANY_OF,
            needs_binding: false,
        }
    }

    /// As [`of`](Self::of), for tokens that are bound to a key or a client certificate alone.
    pub(crate) const fn with_binding<S: Scopes>() -> Demand {
        Demand {
            needs_binding: true,
            ..Demand::of::<S>()
        }
    }

    /// The alternative with the fewest scopes; `None` if none is needed.
    pub(crate) fn scope(&self) -> Option<String> {
        Some(nearest(self.any_of, &[])).filter(|scope| !scope.is_empty())
    }
}

/// The alternative of which a token with `scopes` lacks the fewest scopes, for the challenge (RFC 6750 §3).
pub(crate) fn nearest(any_of: &[&[&str]], scopes: &[String]) -> String {
    let missing = |all_of: &&&[&str]| {
        all_of
            .iter()
            .filter(|word| !scopes.iter().any(|scope| scope == **word))
            .count()
    };
    any_of
        .iter()
        .min_by_key(missing)
        .map(|all_of| all_of.join(" "))
        .unwrap_or_default()
}

/// Whether a word is a valid scope (RFC 6749 §3.3), at compile time.
#[doc(hidden)]
pub const fn is_scope(word: &str) -> bool {
    let bytes = word.as_bytes();
    let mut i = 0;
    while i < bytes.len() {
        if !matches!(bytes[i], b'!' | b'#'..=b'[' | b']'..=b'~') {
            return false;
        }
        i += 1;
    }
    !bytes.is_empty()
}

/// Declares the scopes that an access token must have, for [`Bearer`](crate::Bearer) and [`Caller`](crate::Caller):
/// scopes are joined by `&`, alternatives by `|`, and the API follows `for` in an app of several APIs.
///
/// ```
/// use rocket::get;
/// use rocket_openidconnect::{Bearer, scopes};
///
/// scopes! {
///     /// Reads notes.
///     pub NotesRead = "notes:read";
///     /// Reads and writes them.
///     pub NotesAdmin = "notes:read" & "notes:write";
///     /// Flask-OIDC's `scopes=["notes:read notes:write", "admin"]`.
///     pub NotesAdminOrAdmin = "notes:read" & "notes:write" | "admin";
/// }
///
/// #[get("/notes")]
/// fn notes(token: Bearer<NotesRead>) -> String {
///     format!("the notes of {}", token.subject().unwrap_or("nobody"))
/// }
/// ```
///
/// An app of several APIs has a table `oidc.apis.NAME` for each, see [`ApiSettings`](crate::settings::ApiSettings).
/// A guard accepts only the tokens of its own API:
///
/// ```
/// rocket_openidconnect::scopes! {
///     /// Reads orders, at the API of the table `oidc.apis.orders`.
///     pub OrdersRead = "orders:read" for "orders";
///     /// Any token for that API.
///     pub Orders for "orders";
/// }
/// ```
///
/// An invalid scope is a compile error, and so is an empty declaration:
///
/// ```compile_fail
/// rocket_openidconnect::scopes! { pub TwoWords = "notes:read notes:write"; }
/// ```
///
/// ```compile_fail
/// rocket_openidconnect::scopes! { pub Nothing; }
/// ```
#[macro_export]
macro_rules! scopes {
    ($(
        $(#[$meta:meta])*
        $visibility:vis $name:ident $(= $($($word:literal)&+)|+)? $(for $api:literal)?;
    )+) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug)]
        $visibility struct $name;

        impl $crate::Scopes for $name {
            $(const API: Option<&'static str> = Some($api);)?
            const ANY_OF: &'static [&'static [&'static str]] = {
                const WORDS: &[&[&str]] = &[$($(&[$($word),+]),+)?];
                match WORDS.is_empty() {
                    true => &[&[]],
                    false => WORDS,
                }
            };
        }

        const _: () = {
            const PARTS: &[&str] = &[$(stringify!($($($word)&+)|+),)? $($api,)?];
            assert!(!PARTS.is_empty(), "name scopes after `=`, or an API after `for`");
            $($($(
                assert!(
                    $crate::__private::is_scope($word),
                    "a scope is one word of printable ASCII; join words by `&`"
                );
            )+)+)?
        };
    )+};
}

#[cfg(test)]
mod tests {
    use super::*;

    crate::scopes! {
        One = "a";
        Both = "a" & "b";
        /// Flask-OIDC's any-of over entries whose words are all required.
        Either = "a" & "b" | "c";
        OfOrders = "a" & "b" | "c" for "orders";
        /// Any scopes at that API.
        pub(crate) Orders for "orders";
    }

    fn are_met<S: Scopes>(scopes: &str) -> bool {
        let scopes: Vec<_> = scopes.split_whitespace().map(str::to_owned).collect();
        S::are_met_by(&scopes)
    }

    #[test]
    fn all_of_and_any_of() {
        let met = |scopes: &str| {
            [
                are_met::<AnyScope>(scopes),
                are_met::<One>(scopes),
                are_met::<Both>(scopes),
                are_met::<Either>(scopes),
            ]
        };
        assert_eq!(met(""), [true, false, false, false]);
        assert_eq!(met("a"), [true, true, false, false]);
        assert_eq!(met("b a"), [true, true, true, true]);
        assert_eq!(met("c"), [true, false, false, true]);
        assert_eq!(met("ab A aa"), [true, false, false, false]);
    }

    #[test]
    fn an_api_is_named_beside_the_scopes() {
        let apis = [AnyScope::API, Either::API, OfOrders::API, Orders::API];
        assert_eq!(apis, [None, None, Some("orders"), Some("orders")]);
        assert_eq!(OfOrders::ANY_OF, Either::ANY_OF);
        assert_eq!(Orders::ANY_OF, AnyScope::ANY_OF);
    }

    #[test]
    fn a_challenge_names_the_alternative_of_fewest_words() {
        assert_eq!(Demand::of::<Either>().scope().as_deref(), Some("c"));
        assert_eq!(Demand::of::<Both>().scope().as_deref(), Some("a b"));
        assert_eq!(Demand::of::<AnyScope>().scope(), None);
        assert_eq!(Demand::of::<Orders>().scope(), None);
    }

    #[test]
    fn the_nearest_alternative_is_named() {
        assert_eq!(nearest(Both::ANY_OF, &[]), "a b");
        assert_eq!(nearest(Either::ANY_OF, &[]), "c");
        assert_eq!(nearest(Either::ANY_OF, &["b".to_owned()]), "a b");
    }

    #[test]
    fn words_that_are_no_scopes() {
        for (word, expected) in [("notes:read", true), ("", false), ("a b", false), ("é", false)] {
            assert_eq!(is_scope(word), expected, "{word:?}");
        }
    }
}
