//! `keep_forms`: a wrapper that keeps the forms of routes when their session has ended.

use rocket::{
    Data, Request, Route,
    http::{Method, Status},
    outcome::Outcome,
    route::{self, Handler},
};

use crate::{
    guard::{KeptRequest, current_session, drop_sent_form},
    request::RequestState,
};

/// Keeps the forms of these routes when their session has ended, as [`Kept`](crate::Kept) does: for routes whose guards are
/// in their signatures, and for those of [`protect`](crate::protect()) and its like.
///
/// A form that can be kept is not handed to the route: its user signs in again first. So it is for routes that need a
/// user. A form whose user must authenticate again is kept by `Kept` alone.
///
/// ```
/// use rocket::{form::Form, post, routes};
/// use rocket_openidconnect::{LoggedIn, keep_forms};
///
/// #[post("/notes", data = "<text>")]
/// fn add(user: LoggedIn, text: Form<String>) -> String {
///     format!("{} notes {}", user.subject(), *text)
/// }
///
/// let rocket = rocket::build().mount("/", keep_forms(routes![add]));
/// ```
pub fn keep_forms(routes: impl Into<Vec<Route>>) -> Vec<Route> {
    let mut routes = routes.into();
    for route in &mut routes {
        let inner = route.handler.clone();
        route.handler = Box::new(Keeping(inner));
    }
    routes
}

/// A handler whose forms are kept.
#[derive(Clone)]
struct Keeping(Box<dyn Handler>);

#[rocket::async_trait]
impl Handler for Keeping {
    async fn handle<'r>(&self, request: &'r Request<'_>, data: Data<'r>) -> route::Outcome<'r> {
        if let Some(kept) = Box::pin(KeptRequest::of(request)).await {
            Box::pin(kept.keep(request, data)).await;
            if let Err(reason) = current_session(request).await {
                let _ = RequestState::of(request).signed_out.set(*reason);
            }
            return Outcome::Error(Status::Unauthorized);
        }
        let outcome = self.0.handle(request, data).await;
        if let Outcome::Success(response) = &outcome
            && response.status().code < 400
            && request.method() != Method::Get
        {
            Box::pin(drop_sent_form(request)).await;
        }
        outcome
    }
}
