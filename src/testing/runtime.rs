//! Where the kit's own work is done, so that its methods are the same for both kinds of local client.

use std::{panic, sync::LazyLock, thread};

use rocket::tokio::runtime::{Builder, Runtime};

/// It outlives every test: what is begun here, such as the connections of a session store, goes on.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("oidc-testing")
        .enable_all()
        .build();
    runtime.expect("a runtime starts")
});

/// Waits for a future, also in an asynchronous test, whose own thread may not.
pub(super) fn block_on<T: Send>(future: impl Future<Output = T> + Send) -> T {
    let waited = thread::scope(|scope| scope.spawn(|| RUNTIME.block_on(future)).join());
    waited.unwrap_or_else(|cause| panic::resume_unwind(cause))
}
