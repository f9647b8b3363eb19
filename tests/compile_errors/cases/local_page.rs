//! A page is one of this app.

use rocket::uri;
use rocket_openidconnect::RelyingParty;

fn urls(rp: &RelyingParty) {
    let _ = rp.login_url(7);
    let _ = rp.login_url(uri!("https://other.example/page"));
    let _ = rp.sign_in_url().next(Some("/page"));
}

fn main() {
    let _ = urls;
}
