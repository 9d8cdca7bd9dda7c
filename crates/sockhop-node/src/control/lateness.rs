//! How late the event loop is: what a wake-up costs while the node is busy.

use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, Registry};
use sockhop::engine::Tasks;
use tokio::time::{Instant, sleep_until};

/// From one look at the clock to the next.
const INTERVAL: Duration = Duration::from_millis(100);

/// Seconds; the timer itself is exact to a millisecond.
const BUCKETS: [f64; 10] = [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];

/// Measures for as long as the server serves. Must be called within a runtime.
///
/// # Errors
/// When the registry holds a metric of this name already.
pub(crate) fn watch_lateness(registry: &Registry, tasks: &Tasks) -> Result<(), prometheus::Error> {
    let options = HistogramOpts::new(
        "sockhop_node_loop_lateness_seconds",
        "How much later than asked for a timer ran, ten times a second.",
    );
    let lateness = Histogram::with_opts(options.buckets(BUCKETS.to_vec()))?;
    registry.register(Box::new(lateness.clone()))?;
    let stopping = tasks.clone();
    tasks.spawn("lateness", async move {
        loop {
            let due = Instant::now() + INTERVAL;
            tokio::select! {
                () = sleep_until(due) => lateness.observe(due.elapsed().as_secs_f64()),
                () = stopping.stopped() => return,
            }
        }
    });
    Ok(())
}
