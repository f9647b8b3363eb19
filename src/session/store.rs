//! Server-side session stores: the trait [`SessionStore`], and its implementations in this crate.

#[cfg(feature = "testing")]
pub mod contract;
mod memory_store;
#[cfg(feature = "redis")]
mod redis_store;
mod session_store;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod sql_store;

pub use memory_store::MemoryStore;
#[cfg(feature = "redis")]
pub use redis_store::RedisStore;
pub(crate) use session_store::RETRY_AFTER;
pub use session_store::{SessionStore, StoreError, StoredSession};
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub use sql_store::SqlStore;
