//! Background tasks: what goes on when the request that began it is answered.

use std::time::Duration;

use tokio_util::task::TaskTracker;
use tracing::{dispatcher, instrument::WithSubscriber, subscriber::NoSubscriber};

/// The tasks of an app which a shutdown waits for: what they do would be lost, such as a refresh token that the provider
/// has just exchanged for a new one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tasks(TaskTracker);

impl Tasks {
    /// Spawns a task that inherits the caller's `tracing` subscriber.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        spawn(self.0.track_future(task));
    }

    /// Whether the app shuts down.
    pub(crate) fn are_ending(&self) -> bool {
        self.0.is_closed()
    }

    /// Waits for the tasks at a shutdown, at most this long. Returns how many have not ended.
    pub(crate) async fn end(&self, longest: Duration) -> usize {
        self.0.close();
        let _ = tokio::time::timeout(longest, self.0.wait()).await;
        self.0.len()
    }
}

/// Spawns a task that inherits the caller's `tracing` subscriber, and that a shutdown does not wait for.
///
/// `NoSubscriber` is not passed on: `tracing` would count it as a subscriber, and from then on no event of this
/// process would reach `log`, and with it Rocket's logger.
pub(crate) fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    let subscriber = dispatcher::get_default(Clone::clone);
    if subscriber.is::<NoSubscriber>() {
        tokio::spawn(task)
    } else {
        tokio::spawn(task.with_subscriber(subscriber))
    };
}
