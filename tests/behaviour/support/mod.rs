//! What the behaviour tests stand on: a scripted OpenID provider and a browser.
//!
//! ```ignore
//! mod support;
//! use support::{Browser, TestProvider};
//!
//! let provider = TestProvider::start().await;
//! let browser = Browser::open(app(&provider)).await;
//! browser.sign_in(&provider, "/me").await.sees("Alice");
//! ```

// Each test binary compiles this module and uses a part of it.
#![allow(dead_code, unused_imports)]

pub mod browser;
pub mod callback;
mod endpoints;
mod foreign_host;
mod github;
pub mod http;
pub mod keys;
mod proofs;
pub mod provider;
pub mod return_addresses;
mod test_store;
mod token_endpoint;

pub use browser::{Browser, Page};
pub use callback::Callback;
pub use foreign_host::ForeignHost;
pub use github::{GitHub, form_encoded, message};
pub use http::{Misbehaviour, RecordedRequest, Reply};
pub use keys::{IdTokenParts, JwtParts, SigningKey};
pub use provider::{Held, TestProvider};
pub use test_store::{Call, Gate, TestStore, until};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks past a panic: one failed assertion must not hide behind another.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Prints that a provider, or who speaks for it, is about to do what it should not: for those who count such
/// cases, as `docs/conformance.md` does.
pub fn case(outcome: &str) {
    let test = std::thread::current();
    println!("case {}: {outcome}", test.name().unwrap_or_default());
}
