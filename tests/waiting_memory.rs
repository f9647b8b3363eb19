//! What 10,000 open sockets cost in memory while they wait for the ends of their sessions, counted by the allocator.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::{
        Mutex,
        atomic::{AtomicIsize, Ordering},
    },
    time::Duration,
};

use rocket::{State, get, local::asynchronous::Client, routes, serde::json::json, tokio::time::sleep};
use rocket_openidconnect::{
    LoggedIn, Oidc, SessionEnded,
    testing::{TestProvider, TestRequest},
};

/// Bytes that are allocated and not freed.
static ALLOCATED: AtomicIsize = AtomicIsize::new(0);

struct Counting;

unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size().cast_signed(), Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size().cast_signed(), Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const SOCKETS: usize = 10_000;
/// The name of a session, which its waiter keeps in memory, and its counters. Here all sockets are of one session.
const NAME: isize = 43 + 16;

#[get("/sockets")]
fn sockets(user: LoggedIn, open: &State<Mutex<Vec<SessionEnded>>>) {
    open.lock().unwrap().extend((0..SOCKETS).map(|_| user.ended()));
}

#[test]
fn ten_thousand_sockets_cost_less_than_a_kilobyte_each() {
    rocket::async_test(async {
        for store in ["cookie", "memory"] {
            let figment = rocket::Config::figment()
                .merge(("log_level", "off"))
                .merge(("oidc.session.store", store));
            let open = Mutex::new(Vec::<SessionEnded>::with_capacity(SOCKETS));
            let rocket = rocket::custom(figment)
                .attach(Oidc::fairing())
                .manage(open)
                .mount("/", routes![sockets]);
            let provider = TestProvider::new();
            let client = Client::tracked(provider.register(rocket)).await.unwrap();
            let request = client
                .get("/sockets")
                .signed_in_as(json!({ "sub": "alice", "sid": "1" }));
            let before = ALLOCATED.load(Ordering::Relaxed);
            request.dispatch().await;
            // Each has been looked at.
            let mut each = 0;
            for _ in 0..50 {
                sleep(Duration::from_millis(20)).await;
                let after = ALLOCATED.load(Ordering::Relaxed);
                each = NAME + (after - before) / SOCKETS.cast_signed();
            }
            let own = size_of::<SessionEnded>();
            println!("{store}: {each} bytes for each socket, beside {own} in its task");
            let each = each + own.cast_signed();
            assert!((200..1_024).contains(&each), "{store}: {each} bytes");

            // Closed, they cost nothing.
            client
                .rocket()
                .state::<Mutex<Vec<SessionEnded>>>()
                .unwrap()
                .lock()
                .unwrap()
                .clear();
            let after = ALLOCATED.load(Ordering::Relaxed);
            let left = (after - before) / SOCKETS.cast_signed();
            assert!(left < 10, "{store}: {left} bytes are left of each socket");
        }
    });
}
