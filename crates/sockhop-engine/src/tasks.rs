//! The one place where tasks are spawned: each is named, counted and waited for at shutdown.

use std::future::Future;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

/// The tasks of a server.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    /// Runs `future` on the current runtime, within a span of this name.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn spawn<F>(&self, name: &'static str, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let span = tracing::debug_span!("task", name);
        // A disabled span costs memory in every idle task.
        if span.is_disabled() {
            self.tracker.spawn(future);
        } else {
            self.tracker.spawn(future.instrument(span));
        }
    }

    /// Asks the tasks that serve for as long as the server does to end.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Whether [`Self::stop`] was called.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Waits for [`Self::stop`].
    pub async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    /// Tasks that have not ended.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tracker.len()
    }

    /// Whether no task runs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tracker.is_empty()
    }

    /// Waits until no task is left. Tasks may still be spawned while this waits.
    pub async fn finished(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}
