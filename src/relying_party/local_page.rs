//! A page of this app, as the functions that make addresses take it.

use std::borrow::Cow;

use rocket::http::uri::Origin;

/// A page of this app, to which a browser returns: `uri!(…)` of a route, or a path as Rocket has it, with its query.
///
/// ```
/// use rocket::{get, response::Redirect, uri};
/// use rocket_openidconnect::RelyingParty;
///
/// #[get("/checkout?<item>")]
/// fn checkout(item: u32) -> String {
///     format!("buy {item}")
/// }
///
/// #[get("/buy")]
/// fn buy(rp: &RelyingParty) -> Redirect {
///     Redirect::to(rp.login_url(uri!(checkout(7))))
/// }
///
/// #[get("/look")]
/// fn look(rp: &RelyingParty) -> String {
///     rp.login_url("/checkout?item=7")
/// }
/// ```
///
/// An address that is not a path of this app is replaced by the start page.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a page of this app",
    label = "expected `uri!(…)` of a route, or a path",
    note = "pass `uri!(route(arguments))` without a host, or a path such as \"/checkout?item=7\""
)]
pub trait LocalPage: private::Sealed {
    /// The path and the query.
    #[doc(hidden)]
    fn address(&self) -> Cow<'_, str>;
}

mod private {
    use std::borrow::Cow;

    use rocket::http::uri::Origin;

    pub trait Sealed {}

    impl Sealed for str {}
    impl Sealed for String {}
    impl Sealed for Cow<'_, str> {}
    impl Sealed for Origin<'_> {}
    impl<T: Sealed + ?Sized> Sealed for &T {}
}

impl LocalPage for str {
    fn address(&self) -> Cow<'_, str> {
        self.into()
    }
}

impl LocalPage for String {
    fn address(&self) -> Cow<'_, str> {
        self.as_str().into()
    }
}

impl LocalPage for Cow<'_, str> {
    fn address(&self) -> Cow<'_, str> {
        Cow::Borrowed(self)
    }
}

impl LocalPage for Origin<'_> {
    fn address(&self) -> Cow<'_, str> {
        self.to_string().into()
    }
}

impl<T: LocalPage + ?Sized> LocalPage for &T {
    fn address(&self) -> Cow<'_, str> {
        T::address(self)
    }
}

#[cfg(test)]
mod tests {
    use rocket::uri;

    use super::*;

    #[test]
    fn the_address_is_path_and_query() {
        let of = |page: &dyn LocalPage| page.address().into_owned();
        assert_eq!(of(&"/a?b=c"), "/a?b=c");
        assert_eq!(of(&&String::from("/a")), "/a");
        assert_eq!(of(&Cow::Borrowed("/a")), "/a");
        assert_eq!(of(&uri!("/a%20b?c=d")), "/a%20b?c=d");
    }
}
