//! The runtime under a node.

use std::io;
use std::num::NonZeroUsize;

use tokio::runtime::{Builder, Runtime};

/// Tasks that run before it is looked again for sockets that have something. Each of them may write
/// to a client, so with tokio's 61 a request waits for so many writes of a large broadcast. What that
/// brought is in `docs/performance.md`.
const EVENT_INTERVAL: u32 = 16;

/// A runtime for nodes, with so many worker threads; `None` is one for each core.
///
/// # Errors
/// The operating system has no threads or descriptors for it.
pub fn runtime(workers: Option<NonZeroUsize>) -> io::Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    if let Some(workers) = workers {
        builder.worker_threads(workers.get());
    }
    builder.event_interval(EVENT_INTERVAL).enable_all().build()
}
