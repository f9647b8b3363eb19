//! A user comes from a guard.

use rocket::get;
use rocket_openidconnect::User;

#[get("/")]
fn index(user: User) -> String {
    user.subject().to_owned()
}

fn main() {
    let _ = rocket::routes![index];
}
