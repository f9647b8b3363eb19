//! A policy is for one type of claims, unless it is generic.

use rocket::{Request, get, serde::Deserialize};
use rocket_openidconnect::{Authorized, Policy, User};

#[derive(Deserialize)]
#[serde(crate = "rocket::serde")]
struct Employee {}

struct Admin;

impl Policy for Admin {
    async fn permits(user: &User, _: &Request<'_>) -> bool {
        user.groups().contains(&"admin")
    }
}

#[get("/admin")]
fn admin(_user: Authorized<Admin, Employee>) {}

fn main() {
    let _ = rocket::routes![admin];
}
