//! The runtime of the test kit, so that its methods are the same for both kinds of local client.

use std::{panic, sync::LazyLock, thread};

use rocket::tokio::runtime::{Builder, Runtime};

/// It outlives every test: background work that begins here, such as connections of a session store, continues.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("oidc-testing")
        .enable_all()
        .build();
    runtime.expect("a runtime starts")
});

/// Blocks on a future. Also works in an asynchronous test, whose own thread must not block.
pub(super) fn block_on<T: Send>(future: impl Future<Output = T> + Send) -> T {
    let waited = thread::scope(|scope| scope.spawn(|| RUNTIME.block_on(future)).join());
    waited.unwrap_or_else(|cause| panic::resume_unwind(cause))
}
