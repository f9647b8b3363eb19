//! It adds to `sign_in`: a WebSocket and a stream of server-sent events that close when their session ends, by any cause,
//! on any node. The example `two_nodes` shows how to start two.
//!
//! ```sh
//! cargo run --example live
//! ```

mod page;
#[cfg(test)]
mod tests;

use std::time::Duration;

use rocket::{
    Build, Rocket,
    futures::{SinkExt, StreamExt},
    get, launch,
    response::{
        content::RawHtml,
        stream::{Event, EventStream},
    },
    routes,
    tokio::{select, time::interval},
};
use rocket_openidconnect::{LoggedIn, Oidc, OptionalUser, RelyingParty};
use rocket_ws::{
    Channel, Message, WebSocket,
    frame::{CloseCode, CloseFrame},
};

/// The code by which the page knows that it should sign in again: 4000 to 4999 are the app's own.
const SIGNED_OUT: u16 = 4401;
/// The code by which the page knows that it may connect again.
const CONNECT_AGAIN: u16 = 4503;

#[get("/")]
fn index(visitor: OptionalUser, rp: &RelyingParty) -> RawHtml<String> {
    match visitor.user() {
        Some(user) => page::live(user, &rp.logout_url("/")),
        None => page::signed_out(&rp.login_url("/")),
    }
}

/// A tick each second, until the session ends.
#[get("/events")]
fn events(user: LoggedIn) -> EventStream![] {
    let mut ended = user.ended();
    EventStream! {
        let mut ticks = interval(Duration::from_secs(1));
        let mut count = 0;
        loop {
            select! {
                _ = ticks.tick() => {
                    count += 1;
                    yield Event::data(format!("tick {count}"));
                }
                end = &mut ended => {
                    // Without a last word, the browser would connect anew by itself.
                    yield Event::data(end.reason()).event("ended");
                    break;
                }
            }
        }
    }
}

/// Answers each message with itself, until the session ends. The guard rejects handshakes of other sites' pages.
#[get("/socket")]
fn socket(user: LoggedIn, socket: WebSocket) -> Channel<'static> {
    let subject = user.subject().to_owned();
    let mut ended = user.ended();
    socket.channel(move |mut stream| {
        Box::pin(async move {
            stream.send(format!("hello {subject}").into()).await?;
            loop {
                select! {
                    message = stream.next() => match message {
                        Some(message) => stream.send(message?).await?,
                        None => return Ok(()),
                    },
                    end = &mut ended => {
                        let code = if end.has_session_ended() { SIGNED_OUT } else { CONNECT_AGAIN };
                        let frame = CloseFrame { code: CloseCode::from(code), reason: end.reason().into() };
                        return stream.send(Message::Close(Some(frame))).await;
                    }
                }
            }
        })
    })
}

fn app(oidc: Oidc) -> Rocket<Build> {
    rocket::build().attach(oidc).mount("/", routes![index, events, socket])
}

#[launch]
fn rocket() -> Rocket<Build> {
    app(Oidc::fairing())
}
