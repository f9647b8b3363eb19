//! The claims come first, the requirement last.

use rocket::get;
use rocket_openidconnect::{Acr, Claims, LoggedIn, SignedInAt, protect_requiring};

struct Gold;

#[get("/claims")]
fn claims(_user: LoggedIn<Claims, Claims>) {}

fn main() {
    let _ = rocket::routes![claims];
    let _ = protect_requiring::<Acr<Gold>>(vec![]);
    let _ = protect_requiring::<SignedInAt<Gold>>(vec![]);
}
