//! A policy is a type that implements `Policy`.

use rocket::get;
use rocket_openidconnect::{Authorized, protect_with};

struct Admin;

#[get("/admin")]
fn admin(_user: Authorized<Admin>) {}

fn main() {
    let _ = rocket::routes![admin];
    let _ = protect_with::<Admin>(vec![]);
}
