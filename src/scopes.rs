//! Scopes: what an access token must allow, declared by the app in one line.

/// What an access token must allow (RFC 6749 §3.3). Declare one with [`scopes!`](crate::scopes).
pub trait Scopes: Send + Sync + 'static {
    /// The token needs all words of one of these. An empty list of words is met by every token.
    const ANY_OF: &'static [&'static [&'static str]];

    /// Whether these scopes are enough.
    fn are_met_by(scopes: &[String]) -> bool {
        Self::ANY_OF.iter().any(|all_of| {
            all_of
                .iter()
                .all(|word| scopes.iter().any(|scope| scope == word))
        })
    }
}

/// No scope in particular: any token that is accepted.
#[derive(Clone, Copy, Debug)]
pub struct AnyScope;

impl Scopes for AnyScope {
    const ANY_OF: &'static [&'static [&'static str]] = &[&[]];
}

/// What is missing: the words that a token with `scopes` would have to have for the alternative that is
/// nearest, for the challenge (RFC 6750 §3).
pub(crate) fn nearest<S: Scopes>(scopes: &[String]) -> String {
    let missing = |all_of: &&&[&str]| {
        all_of
            .iter()
            .filter(|word| !scopes.iter().any(|scope| scope == **word))
            .count()
    };
    S::ANY_OF
        .iter()
        .min_by_key(missing)
        .map(|all_of| all_of.join(" "))
        .unwrap_or_default()
}

/// Whether a word can be a scope (RFC 6749 §3.3), at compile time.
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

/// Declares what an access token must allow, for [`Bearer`](crate::Bearer) and
/// [`Caller`](crate::Caller): words joined by `&`, alternatives by `|`.
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
/// What is no scope is an error of the compiler:
///
/// ```compile_fail
/// rocket_openidconnect::scopes! { pub TwoWords = "notes:read notes:write"; }
/// ```
#[macro_export]
macro_rules! scopes {
    ($($(#[$meta:meta])* $visibility:vis $name:ident = $($($word:literal)&+)|+;)+) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug)]
        $visibility struct $name;

        impl $crate::Scopes for $name {
            const ANY_OF: &'static [&'static [&'static str]] = &[$(&[$($word),+]),+];
        }

        const _: () = {
            $($(
                assert!(
                    $crate::is_scope($word),
                    "a scope is one word of printable ASCII; join words by `&`"
                );
            )+)+
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
    fn the_nearest_alternative_is_named() {
        assert_eq!(nearest::<Both>(&[]), "a b");
        assert_eq!(nearest::<Either>(&[]), "c");
        assert_eq!(nearest::<Either>(&["b".to_owned()]), "a b");
    }

    #[test]
    fn words_that_are_no_scopes() {
        for (word, expected) in [
            ("notes:read", true),
            ("", false),
            ("a b", false),
            ("é", false),
        ] {
            assert_eq!(is_scope(word), expected, "{word:?}");
        }
    }
}
