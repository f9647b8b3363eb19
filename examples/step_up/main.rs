//! Adds to `sign_in`: a bank whose accounts need a second factor, and whose transfers need an authentication of the last
//! minutes. It runs on the development provider, which accepts any `acr` that is asked for.

#[cfg(test)]
mod tests;

use rocket::{
    Build, Request, Rocket, catch, catchers,
    form::{Form, FromForm},
    get, launch, post,
    response::{Redirect, content::RawHtml},
    routes,
    serde::json::{Value, json},
};
use rocket_openidconnect::{Acr, Claims, Fresh, LoggedIn, Oidc, OptionalUser, RelyingParty, StepUp, acr_values};

acr_values! {
    /// A password and something else.
    SecondFactor = "two-factor" | "hardware-key";
}

/// What a transfer demands, in one sign-in.
type Transfers = (Fresh<5>, Acr<SecondFactor>);

#[get("/")]
fn index(visitor: OptionalUser, rp: &RelyingParty) -> RawHtml<String> {
    RawHtml(match visitor.user() {
        Some(_) => {
            "<a href=/accounts>Accounts</a> <a href=/transfer>Transfer</a> <a href=/other-account>Other account</a>"
                .to_owned()
        }
        None => format!("<a href=\"{}\">Sign in</a>", rp.login_url("/accounts")),
    })
}

#[get("/accounts")]
fn accounts(_user: LoggedIn<Claims, Acr<SecondFactor>>) -> RawHtml<&'static str> {
    RawHtml("<p>Savings: 1,000.00</p><a href=/transfer>Transfer</a>")
}

#[get("/transfer")]
fn transfer_page(_user: LoggedIn<Claims, Transfers>) -> RawHtml<&'static str> {
    RawHtml("<form method=post><input name=amount type=number><button>Transfer</button></form>")
}

#[derive(FromForm)]
struct Transfer {
    amount: u32,
}

/// A form is not redirected: its body would be lost. When the page was open for too long, the answer is 401, and the catcher
/// says what to do.
#[post("/transfer", data = "<transfer>")]
fn transfer(user: LoggedIn<Claims, Transfers>, transfer: Form<Transfer>) -> String {
    format!("{} transferred {}", user.subject(), transfer.amount)
}

/// Parameters of one sign-in: the provider lets the user choose another account.
#[get("/other-account")]
fn other_account(rp: &RelyingParty) -> Redirect {
    Redirect::to(rp.sign_in_url().next("/accounts").prompt("select_account").to_string())
}

#[catch(401)]
fn unauthorized(request: &Request<'_>) -> Value {
    let rp = request.rocket().state::<RelyingParty>();
    match (StepUp::of(request), rp) {
        (Some(step_up), Some(rp)) => json!({
            "error": "authenticate_again",
            "demanded": step_up,
            "url": step_up.sign_in_url(rp, "/transfer"),
        }),
        _ => json!({ "error": "sign_in" }),
    }
}

#[launch]
fn rocket() -> Rocket<Build> {
    rocket::build()
        .attach(Oidc::fairing())
        .mount("/", routes![index, accounts, transfer_page, transfer, other_account])
        .register("/", catchers![unauthorized])
}
