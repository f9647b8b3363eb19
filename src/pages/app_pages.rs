//! `Pages`: the pages that an app may render itself.

use std::{fmt, ops::Deref, sync::Arc};

use rocket::{Request, http::Status, response};

use super::{
    KeptFormPage, ProviderChoice, RefusedRequest, SignInConfirmation, SignOutConfirmation, UnrecordedSignOut, built_in,
    html, kept_form, provider_choice, refused_request, sign_in_confirmation, sign_in_failed, sign_out,
    unrecorded_sign_out,
};
use crate::request::SignInFailure;

/// The app's own pages: translated, in the app's design. Every method renders the built-in page by default, plain
/// and in English.
///
/// A method renders a template or another responder by its `respond_to`. A responder that sets no status gets that of
/// the page. A method that returns a status as an error passes the response to the app's catcher of that status, as
/// always in Rocket. To render the built-in page for some requests, call the method of [`BuiltInPages`].
///
/// Each page receives what it shows as a struct that implements `Serialize`, so it can be the context of a template.
/// `Cache-Control: no-store` and a `Referrer-Policy` are set on every page, and the pages with buttons may not be
/// shown in a frame, whatever the app's response says.
///
/// # Security
///
/// Escape what goes into HTML, as templates do: names of users and some texts come from outside. Load nothing from
/// other sites that is not needed.
///
/// ```
/// use rocket::{
///     Request,
///     http::RawStr,
///     response::{self, Responder, content::RawHtml},
/// };
/// use rocket_openidconnect::{BuiltInPages, Oidc, Pages, ProviderChoice, SignInFailure, SignInFailureKind};
///
/// struct InGerman;
///
/// impl Pages for InGerman {
///     fn sign_in_failed(&self, request: &Request<'_>, failure: &SignInFailure) -> response::Result<'static> {
///         let text = match failure.kind() {
///             SignInFailureKind::Cancelled => "Sie haben die Anmeldung abgebrochen.",
///             _ => "Die Anmeldung ist fehlgeschlagen.",
///         };
///         let id = &failure.id;
///         RawHtml(format!("<!DOCTYPE html><title>Anmeldung</title><p>{text}</p><p>Fehler {id}</p>")).respond_to(request)
///     }
///
///     fn choose_provider(&self, request: &Request<'_>, choice: &ProviderChoice) -> response::Result<'static> {
///         if request.headers().get_one("Accept-Language").is_none_or(|it| !it.starts_with("de")) {
///             return BuiltInPages.choose_provider(request, choice);
///         }
///         let buttons = choice.providers.iter().map(|provider| {
///             let (url, label) = (RawStr::new(&provider.url), RawStr::new(&provider.label));
///             format!("<li><a href=\"{}\">Mit {} anmelden</a></li>", url.html_escape(), label.html_escape())
///         });
///         let buttons: String = buttons.collect();
///         RawHtml(format!("<!DOCTYPE html><title>Anmeldung</title><ul>{buttons}</ul>")).respond_to(request)
///     }
/// }
///
/// let fairing = Oidc::fairing().pages(InGerman);
/// ```
///
/// With `rocket_dyn_templates` a method is one line:
///
/// ```ignore
/// fn choose_provider(&self, request: &Request<'_>, choice: &ProviderChoice) -> response::Result<'static> {
///     Template::render("choose_provider", choice).respond_to(request)
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not make the pages of sign-in",
    label = "expected a type that implements `Pages`",
    note = "implement it: a method that is not written keeps its built-in page"
)]
pub trait Pages: Send + Sync + 'static {
    /// The page for a failed sign-in.
    ///
    /// The status is the failure's, and an outage adds `Retry-After`. [`SignInFailure::of`] gives the failure to a
    /// catcher: `Err(failure.status())` passes every failure to the catchers.
    ///
    /// # Errors
    ///
    /// The status of the catcher that shall respond.
    fn sign_in_failed(&self, request: &Request<'_>, failure: &SignInFailure) -> response::Result<'static> {
        BuiltInPages.sign_in_failed(request, failure)
    }

    /// The page on which the user chooses the provider to sign in with.
    ///
    /// # Errors
    ///
    /// The status of the catcher that shall respond.
    fn choose_provider(&self, request: &Request<'_>, choice: &ProviderChoice) -> response::Result<'static> {
        BuiltInPages.choose_provider(request, choice)
    }

    /// The page that asks the user to confirm a sign-in that another site began.
    ///
    /// # Errors
    ///
    /// The status of the catcher that shall respond.
    fn confirm_sign_in(&self, request: &Request<'_>, sign_in: &SignInConfirmation) -> response::Result<'static> {
        BuiltInPages.confirm_sign_in(request, sign_in)
    }

    /// The page with the button that signs out: for a link to `{mount}/logout`, with status 200, and for a sign-out
    /// request of another site, with status 403.
    ///
    /// # Errors
    ///
    /// The status of the catcher that shall respond.
    fn confirm_sign_out(&self, request: &Request<'_>, sign_out: &SignOutConfirmation) -> response::Result<'static> {
        BuiltInPages.confirm_sign_out(request, sign_out)
    }

    /// The page with the button that sends a form whose session had ended ([`Kept`](crate::Kept)).
    ///
    /// # Errors
    ///
    /// The status of the catcher that shall respond.
    fn kept_form(&self, request: &Request<'_>, form: &KeptFormPage) -> response::Result<'static> {
        BuiltInPages.kept_form(request, form)
    }

    /// The page for a sign-out that the session store could not record, because it is down: the user is signed out in this
    /// browser, and a copy of the session may be accepted until it is recorded. The status is 503.
    ///
    /// The response also clears the browser's data (`clear_site_data`), so no catcher can take its place: if this fails,
    /// the built-in page is shown.
    ///
    /// # Errors
    ///
    /// Any, for the built-in page.
    fn sign_out_unrecorded(&self, request: &Request<'_>, page: &UnrecordedSignOut) -> response::Result<'static> {
        BuiltInPages.sign_out_unrecorded(request, page)
    }

    /// The page for a request of a sign-in route that is not a page load: a frame, a `fetch` or a prefetch. Nothing has
    /// changed. The status is 403.
    ///
    /// # Errors
    ///
    /// The status of the catcher that shall respond.
    fn request_refused(&self, request: &Request<'_>, page: &RefusedRequest) -> response::Result<'static> {
        BuiltInPages.request_refused(request, page)
    }
}

/// The default [`Pages`]: plain pages in English, without scripts.
///
/// They load nothing but the logos of providers.
#[derive(Clone, Copy, Debug, Default)]
pub struct BuiltInPages;

impl Pages for BuiltInPages {
    fn sign_in_failed(&self, _request: &Request<'_>, failure: &SignInFailure) -> response::Result<'static> {
        Ok(html(failure.status(), sign_in_failed(failure)))
    }

    fn choose_provider(&self, _request: &Request<'_>, choice: &ProviderChoice) -> response::Result<'static> {
        let (page, policy) = (provider_choice::page(choice), provider_choice::policy(choice));
        Ok(built_in(page, &policy))
    }

    fn confirm_sign_in(&self, _request: &Request<'_>, sign_in: &SignInConfirmation) -> response::Result<'static> {
        Ok(built_in(sign_in_confirmation::page(sign_in), ""))
    }

    fn confirm_sign_out(&self, _request: &Request<'_>, sign_out: &SignOutConfirmation) -> response::Result<'static> {
        Ok(built_in(sign_out::page(sign_out), ""))
    }

    fn kept_form(&self, _request: &Request<'_>, form: &KeptFormPage) -> response::Result<'static> {
        Ok(built_in(kept_form::page(form), ""))
    }

    fn sign_out_unrecorded(&self, _request: &Request<'_>, page: &UnrecordedSignOut) -> response::Result<'static> {
        Ok(html(Status::ServiceUnavailable, unrecorded_sign_out::page(page)))
    }

    fn request_refused(&self, _request: &Request<'_>, page: &RefusedRequest) -> response::Result<'static> {
        Ok(html(Status::Forbidden, refused_request::page(page)))
    }
}

/// The app's [`Pages`]. Rocket-managed state.
#[derive(Clone)]
pub(crate) struct AppPages(pub(crate) Arc<dyn Pages>);

impl Default for AppPages {
    fn default() -> AppPages {
        AppPages(Arc::new(BuiltInPages))
    }
}

impl Deref for AppPages {
    type Target = dyn Pages;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl fmt::Debug for AppPages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AppPages(…)")
    }
}

#[cfg(test)]
mod tests {
    use rocket::local::asynchronous::Client;

    use super::*;
    use crate::pages::{ProviderLink, protect_buttons};

    struct Defaults;

    impl Pages for Defaults {}

    #[rocket::async_test]
    async fn a_page_that_the_app_does_not_render_is_built_in() {
        let client = Client::untracked(rocket::build()).await.unwrap();
        let local = client.get("/");
        let request = local.inner();
        let pages = AppPages(Arc::new(Defaults));
        let choice = ProviderChoice {
            providers: vec![ProviderLink {
                name: "work".to_owned(),
                label: "Acme".to_owned(),
                logo: Some("https://cdn.example/acme.svg".to_owned()),
                url: "/oidc/login/work".to_owned(),
            }],
            next: "/".to_owned(),
        };
        let sign_in = SignInConfirmation {
            action: "/oidc/login/work".to_owned(),
            fields: vec![],
            provider: "Acme".to_owned(),
            cancel: "/".to_owned(),
            signed_in: None,
        };
        let sign_out = SignOutConfirmation {
            action: "/oidc/logout".to_owned(),
            fields: vec![],
            cancel: "/".to_owned(),
            rejected: None,
        };
        const START: &str = "default-src 'none'; style-src 'unsafe-inline';";
        for (rendered, title, policy) in [
            (
                pages.choose_provider(request, &choice),
                "<title>Sign in</title>",
                format!("{START} img-src https://cdn.example; form-action 'none'; frame-ancestors 'none'"),
            ),
            (
                pages.confirm_sign_in(request, &sign_in),
                "<title>Sign in</title>",
                format!("{START} frame-ancestors 'none'"),
            ),
            (
                pages.confirm_sign_out(request, &sign_out),
                "<title>Sign out</title>",
                format!("{START} frame-ancestors 'none'"),
            ),
        ] {
            let mut response = rendered.unwrap();
            protect_buttons(&mut response);
            assert_eq!(response.status(), Status::Ok);
            let mut headers: Vec<_> = response.headers().iter().map(|header| header.to_string()).collect();
            headers.sort_unstable();
            let expected = [
                "Cache-Control: no-store".to_owned(),
                format!("Content-Security-Policy: {policy}"),
                "Content-Type: text/html; charset=utf-8".to_owned(),
                "Referrer-Policy: strict-origin".to_owned(),
            ];
            assert_eq!(headers, expected);
            let body = response.body_mut().to_string().await.unwrap();
            assert!(body.contains(title), "{body}");
        }
    }
}
