//! `GET {mount}/session.js`, and the file that it names: the script for pages that follow the session.

use std::io::Cursor;

use rocket::{
    Data, Request, Response, Route,
    http::{ContentType, Method, Status},
    route::{Handler, Outcome},
};

use super::not_modified;
use crate::relying_party::{SCRIPT, SCRIPT_NAME, script_file};

/// The name of the file is that of its text.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";
/// Another version of this crate names another file.
const REVALIDATED: &str = "no-cache";

/// Both are public, and the same for all users.
#[derive(Clone, Copy)]
enum ScriptRoute {
    /// Re-exports the file, so that all pages import one module by a name that stays.
    Name,
    File,
}

/// The routes, to be mounted at the setting `mount`.
pub(super) fn routes() -> Vec<Route> {
    let route = |handler: ScriptRoute, path: &str, name: &'static str| {
        let mut route = Route::new(Method::Get, &format!("/{path}"), handler);
        route.name = Some(name.into());
        route
    };
    vec![
        route(ScriptRoute::Name, SCRIPT_NAME, "oidc_script"),
        route(ScriptRoute::File, script_file(), "oidc_script_file"),
    ]
}

#[rocket::async_trait]
impl Handler for ScriptRoute {
    async fn handle<'r>(&self, request: &'r Request<'_>, _: Data<'r>) -> Outcome<'r> {
        let mut response = Response::build();
        response
            .header(ContentType::JavaScript)
            .raw_header("X-Content-Type-Options", "nosniff")
            .raw_header("Cross-Origin-Resource-Policy", "same-origin");
        let text = match self {
            ScriptRoute::File => {
                response.raw_header("Cache-Control", IMMUTABLE);
                SCRIPT.to_owned()
            }
            ScriptRoute::Name => {
                // The name of the file is all that changes.
                let tag = format!("\"{}\"", script_file());
                response.raw_header("Cache-Control", REVALIDATED);
                response.raw_header("ETag", tag.clone());
                if not_modified(request, &tag) {
                    return Outcome::Success(response.status(Status::NotModified).finalize());
                }
                format!("export * from \"./{}\";\n", script_file())
            }
        };
        Outcome::Success(response.sized_body(text.len(), Cursor::new(text)).finalize())
    }
}
