//! Templates of rocket_dyn_templates that show the visitor: the responder, and what the fairing does with it.

use std::{
    borrow::Cow,
    fmt,
    io::Cursor,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Mutex, PoisonError},
};

use rocket::{
    Ignite, Request, Response, Rocket, Sentinel,
    http::{ContentType, Header, Status},
    request::FromRequest,
    response::{self, Responder},
};
use rocket_dyn_templates::{Metadata, Template};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{guard::Visitor, relying_party::RelyingParty, request::RequestState, resource_server::ResourceServer};

/// The name of the visitor in the context of a template.
const VISITOR: &str = "visitor";
/// Marks a response whose body is a template that is not rendered yet. Never sent.
const PENDING: &str = "X-Oidc-Template";
/// The body of a response whose template failed.
const FAILED: &str = "<!DOCTYPE html><html lang=\"en\"><meta charset=\"utf-8\"><title>500 Internal Server Error</title>\
    <h1>500: Internal Server Error</h1><p>This page could not be made.</p></html>";

/// A template of rocket_dyn_templates, with [`Visitor`] as `visitor` in its context: for every page of an app, and for its
/// catchers. The route needs no guard.
///
/// ```
/// use rocket::{Request, catch, catchers, get, routes};
/// use rocket_dyn_templates::{Template, context};
/// use rocket_openidconnect::{Oidc, VisitorTemplate, render};
///
/// #[get("/")]
/// fn index() -> VisitorTemplate {
///     render("index", context! { title: "Welcome" })
/// }
///
/// #[catch(404)]
/// fn not_found(request: &Request<'_>) -> VisitorTemplate {
///     render("not_found", context! { path: request.uri().path().as_str() })
/// }
///
/// let rocket = rocket::build()
///     .attach(Oidc::fairing())
///     .attach(Template::fairing())
///     .mount("/", routes![index])
///     .register("/", catchers![not_found]);
/// ```
///
/// The context is an object, such as `context! { … }`, a struct or a map; `()` is an empty one. A member `visitor` of it is
/// replaced. The manual's page [templates](crate::manual::templates) has an example of a template.
#[cfg_attr(docsrs, doc(cfg(feature = "templates")))]
pub fn render(name: impl Into<Cow<'static, str>>, context: impl Serialize) -> VisitorTemplate {
    VisitorTemplate {
        name: name.into(),
        context: object(context),
    }
}

/// The context as an object, or what is wrong with it.
fn object(context: impl Serialize) -> Result<Map<String, Value>, String> {
    let kind = match serde_json::to_value(context) {
        Ok(Value::Object(context)) => return Ok(context),
        Ok(Value::Null) => return Ok(Map::new()),
        Err(error) => return Err(format!("does not serialize: {error}")),
        Ok(Value::Bool(_)) => "a boolean",
        Ok(Value::Number(_)) => "a number",
        Ok(Value::String(_)) => "a string",
        Ok(Value::Array(_)) => "a list",
    };
    Err(format!("is {kind}, expected an object"))
}

/// The responder that [`render`] returns.
///
/// | response | when |
/// |---|---|
/// | the rendered template | always but for the following; the status is that of the route or catcher |
/// | 500, the app's catcher | the context does not serialize, or is not an object |
/// | 500, a short page | the template does not exist, or its engine fails |
///
/// The log has the cause of a 500. The `Content-Type` is that of the template's file name, unless the response has one.
/// `Vary: Cookie` is added, and for a signed-in user `Cache-Control: no-store`, unless the app has set one with `private` or
/// `no-store`.
///
/// The body is made when the fairing [`Oidc`](crate::Oidc) completes the response. Fairings that are attached before it see
/// an empty body.
#[cfg_attr(docsrs, doc(cfg(feature = "templates")))]
pub struct VisitorTemplate {
    name: Cow<'static, str>,
    context: Result<Map<String, Value>, String>,
}

/// Without the context, which may have secrets of the app.
impl fmt::Debug for VisitorTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VisitorTemplate")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl<'r> Responder<'r, 'static> for VisitorTemplate {
    fn respond_to(self, request: &'r Request<'_>) -> response::Result<'static> {
        let VisitorTemplate { name, context } = self;
        if request.rocket().state::<RelyingParty>().is_none() {
            tracing::error!("the template `{name}` needs a visitor, but this app has no sign-in");
            tracing::info!("attach `Oidc::fairing()`, without `resource_server_only`, or use `Template::render`");
            return Err(Status::InternalServerError);
        }
        let context = context.map_err(|cause| {
            tracing::error!("the context of the template `{name}` {cause}");
            tracing::info!("pass `context! {{ … }}`, or a struct or a map that serializes");
            Status::InternalServerError
        })?;
        let template = PendingTemplate { name, context };
        PendingTemplate::place(request).replace(template);
        let _ = RequestState::of(request).has_template.set(());
        Response::build().raw_header(PENDING, "").ok()
    }
}

impl Sentinel for VisitorTemplate {
    /// Aborts the launch without the fairing, with `resource_server_only`, and without the fairing of
    /// rocket_dyn_templates.
    fn abort(rocket: &Rocket<Ignite>) -> bool {
        if rocket.state::<RelyingParty>().is_some() {
            return Template::abort(rocket);
        }
        let (cause, remedy) = match rocket.state::<ResourceServer>() {
            Some(_) => (
                "`oidc.resource_server_only` is set",
                "remove the setting, or use `Template::render`",
            ),
            None => (
                "the fairing `Oidc` is not attached",
                "add `.attach(rocket_openidconnect::Oidc::fairing())`",
            ),
        };
        tracing::error!("a route returns `{}`, but {cause}", std::any::type_name::<Self>());
        tracing::info!("{remedy}");
        true
    }
}

/// A template beside its request, until the fairing completes the response.
struct PendingTemplate {
    name: Cow<'static, str>,
    context: Map<String, Value>,
}

/// Where Rocket keeps it. Of several, such as that of a route and that of the catcher of its error, the last counts.
#[derive(Default)]
struct Place(Mutex<Option<PendingTemplate>>);

impl PendingTemplate {
    fn place<'r>(request: &'r Request<'_>) -> std::sync::MutexGuard<'r, Option<PendingTemplate>> {
        let Place(place) = request.local_cache(Place::default);
        place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A template and its visitor.
pub(crate) struct VisitorPage {
    template: PendingTemplate,
    visitor: Visitor,
}

impl VisitorPage {
    /// The template of this response, if it has one. Reads the session, which may be refreshed: the cookies of the response
    /// are written afterwards.
    pub(crate) async fn take(request: &Request<'_>, response: &mut Response<'_>) -> Option<VisitorPage> {
        // The response may be another one by now, such as that of a catcher.
        if RequestState::of(request).has_template.get().is_none() || !response.headers().contains(PENDING) {
            return None;
        }
        response.remove_header(PENDING);
        let template = PendingTemplate::place(request).take()?;
        let visitor = Visitor::of(request).await;
        Some(VisitorPage { template, visitor })
    }

    /// Renders the page into the response, unless that has become a redirect.
    pub(crate) async fn show(self, request: &Request<'_>, response: &mut Response<'_>) {
        if response.status().class().is_redirection() {
            return;
        }
        forbid_sharing(response, self.visitor.logged_in());
        let PendingTemplate { name, mut context } = self.template;
        let rendered = match serde_json::to_value(&self.visitor) {
            Ok(visitor) => {
                context.insert(VISITOR.to_owned(), visitor);
                let metadata = Metadata::from_request(request).await.succeeded();
                // The cookies of this response must arrive, whatever a function of the app's templates does.
                let render = || metadata?.render(name.clone(), context);
                catch_unwind(AssertUnwindSafe(render)).unwrap_or(None)
            }
            Err(_) => None,
        };
        let (content_type, body) = match rendered {
            Some((content_type, body)) => (response.content_type().unwrap_or(content_type), body),
            None => {
                tracing::error!("the template `{name}` was not rendered");
                tracing::info!("look at the error of its engine in the log");
                response.set_status(Status::InternalServerError);
                (ContentType::HTML, FAILED.to_owned())
            }
        };
        response.set_header(content_type);
        response.set_sized_body(body.len(), Cursor::new(body));
    }
}

/// Keeps the page of one visitor out of what caches give to another.
fn forbid_sharing(response: &mut Response<'_>, is_signed_in: bool) {
    response.adjoin_header(Header::new("Vary", "Cookie"));
    let is_private = response.headers().get("Cache-Control").any(|value| {
        let mut directives = value.split(',').map(str::trim);
        directives.any(|name| name.eq_ignore_ascii_case("private") || name.eq_ignore_ascii_case("no-store"))
    });
    if is_signed_in && !is_private {
        response.set_header(Header::new("Cache-Control", "no-store"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_context_is_an_object() {
        assert_eq!(object(json!({ "a": 1 })).map(|context| context.len()), Ok(1));
        assert_eq!(object(()), Ok(Map::new()));
        for (context, kind) in [
            (json!([1]), "a list"),
            (json!("text"), "a string"),
            (json!(1), "a number"),
            (json!(true), "a boolean"),
        ] {
            assert_eq!(object(context), Err(format!("is {kind}, expected an object")));
        }
        let keys = std::collections::BTreeMap::from([((1, 2), 3)]);
        assert_eq!(object(keys), Err("does not serialize: key must be a string".to_owned()));
    }

    #[test]
    fn a_page_of_a_user_is_not_shared() {
        let cached = |app: Option<&'static str>, is_signed_in| {
            let mut response = Response::new();
            if let Some(value) = app {
                response.set_header(Header::new("Cache-Control", value));
            }
            forbid_sharing(&mut response, is_signed_in);
            assert_eq!(response.headers().get_one("Vary"), Some("Cookie"));
            response.headers().get_one("Cache-Control").map(str::to_owned)
        };
        assert_eq!(cached(None, false), None);
        assert_eq!(cached(Some("max-age=60"), false).as_deref(), Some("max-age=60"));
        assert_eq!(cached(None, true).as_deref(), Some("no-store"));
        assert_eq!(cached(Some("public, max-age=60"), true).as_deref(), Some("no-store"));
        assert_eq!(
            cached(Some("max-age=9, Private"), true).as_deref(),
            Some("max-age=9, Private")
        );
    }
}
