//! The form field `user` of Sign in with Apple: what the browser says about the user.

use serde_json::Value;

use crate::token::parse_object;

/// The maximum length of the field, in bytes.
pub(crate) const MAX_USER_LEN: usize = 1024;

/// What the browser says about a user who signs in: not signed by anyone, and not verified.
///
/// Apple sends it in the form field `user`, only when a user signs in for the first time, and only here the name. It
/// travels through the browser, whose user can write anything into it: use it to fill in a form or a new profile, never
/// to identify a user or to decide what they may do. It is not among the claims, and not stored: see
/// [`NewSignIn::unverified_user`](crate::NewSignIn::unverified_user).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnverifiedUser {
    first_name: Option<String>,
    last_name: Option<String>,
    email: Option<String>,
}

impl UnverifiedUser {
    /// Parses the field: a JSON object, such as `{"name":{"firstName":"…","lastName":"…"},"email":"…"}`. A member of
    /// another type is absent, and so is one that is empty or has control characters. `None` if nothing is left.
    pub(crate) fn parse(json: &str) -> Option<UnverifiedUser> {
        if json.len() > MAX_USER_LEN {
            return None;
        }
        let user = parse_object(json.as_bytes()).ok()?;
        let text = |value: Option<&Value>| {
            let text = value?.as_str()?.trim();
            let is_plain = !text.is_empty() && !text.contains(char::is_control);
            is_plain.then(|| text.to_owned())
        };
        let name = |member| text(user.get("name")?.get(member));
        let user = UnverifiedUser {
            first_name: name("firstName"),
            last_name: name("lastName"),
            email: text(user.get("email")),
        };
        let is_empty = user.first_name.is_none() && user.last_name.is_none() && user.email.is_none();
        (!is_empty).then_some(user)
    }

    /// The first name, as the user wrote it.
    pub fn first_name(&self) -> Option<&str> {
        self.first_name.as_deref()
    }

    /// The last name, as the user wrote it.
    pub fn last_name(&self) -> Option<&str> {
        self.last_name.as_deref()
    }

    /// An unverified e-mail address. The one that Apple verified is the claim `email` of
    /// [`NewSignIn::claims`](crate::NewSignIn::claims).
    pub fn email(&self) -> Option<&str> {
        self.email.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(json: &str) -> Option<[Option<String>; 3]> {
        let user = UnverifiedUser::parse(json)?;
        Some([user.first_name, user.last_name, user.email])
    }

    #[test]
    fn the_members_are_read_by_type() {
        let some = |text: &str| Some(text.to_owned());
        for (json, expected) in [
            (
                r#"{"name":{"firstName":"Zoë","lastName":" O'Hara "},"email":"zoe@example.com"}"#,
                Some([some("Zoë"), some("O'Hara"), some("zoe@example.com")]),
            ),
            (
                r#"{"name":{"firstName":"A","middleName":"B"},"more":[]}"#,
                Some([some("A"), None, None]),
            ),
            (r#"{"email":"a@b.c"}"#, Some([None, None, some("a@b.c")])),
            (
                r#"{"name":{"firstName":7,"lastName":["x"]},"email":"a@b.c"}"#,
                Some([None, None, some("a@b.c")]),
            ),
            (r#"{"name":"A","email":{"a":1}}"#, None),
            (r#"{"name":{"firstName":"","lastName":" "},"email":null}"#, None),
            (
                r#"{"name":{"firstName":"a\u0000b","lastName":"a\nb"},"email":"a\r\nBcc: b"}"#,
                None,
            ),
            ("{}", None),
            ("", None),
            ("null", None),
            ("[]", None),
            (r#""A""#, None),
            ("{\"name\":", None),
            (r#"{"email":"a@b.c"} x"#, None),
        ] {
            assert_eq!(parsed(json), expected, "{json}");
        }
    }

    #[test]
    fn its_length_and_depth_are_bounded() {
        let of_length = |length: usize| {
            let rest = r#"{"email":""}"#.len();
            format!(r#"{{"email":"{}"}}"#, "a".repeat(length - rest))
        };
        assert!(parsed(&of_length(MAX_USER_LEN)).is_some());
        assert_eq!(parsed(&of_length(MAX_USER_LEN + 1)), None);
        let nested = format!(r#"{{"email":"a@b.c","x":{}{}}}"#, "[".repeat(400), "]".repeat(400));
        assert!(nested.len() < MAX_USER_LEN);
        assert_eq!(parsed(&nested), None);
    }
}
