//! Lets scripts of one other origin call the API, with access tokens.

use rocket::{
    Request, Response, async_trait,
    fairing::{Fairing, Info, Kind},
    http::{Header, Method, Status},
};

/// The origin.
pub struct Cors(pub &'static str);

#[async_trait]
impl Fairing for Cors {
    fn info(&self) -> Info {
        Info {
            name: "CORS",
            kind: Kind::Response,
        }
    }

    async fn on_response<'r>(&self, request: &'r Request<'_>, response: &mut Response<'r>) {
        if !request.uri().path().starts_with("/api/") {
            return;
        }
        // A cache must not give the answer for one origin to another.
        response.adjoin_header(Header::new("Vary", "Origin"));
        if request.headers().get_one("Origin") != Some(self.0) {
            return;
        }
        response.set_header(Header::new("Access-Control-Allow-Origin", self.0));
        if request.method() == Method::Options && request.headers().contains("Access-Control-Request-Method") {
            response.set_status(Status::NoContent);
            response.set_sized_body(0, std::io::Cursor::new(""));
            response.set_header(Header::new("Access-Control-Allow-Methods", "GET, POST"));
            response.set_header(Header::new(
                "Access-Control-Allow-Headers",
                "Authorization, Content-Type",
            ));
        }
    }
}
