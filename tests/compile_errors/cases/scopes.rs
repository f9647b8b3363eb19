//! Scopes are declared by a macro.

use rocket::get;
use rocket_openidconnect::{Bearer, Caller};

struct NotesRead;

#[get("/notes")]
fn notes(_token: Bearer<NotesRead>) {}

#[get("/both")]
fn both(_caller: Caller<NotesRead>) {}

fn main() {
    let _ = rocket::routes![notes, both];
}
