//! Structured logs.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::IsTerminal;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

use crate::log_queue::Logs;

/// How logs look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// A line for people.
    Text,
    /// A JSON object for machines.
    Json,
}

/// Sends logs to standard error, as the filter in `directives` says (`info`, `sockhop=debug,…`).
/// A filter that cannot be read is replaced by `info`, and a warning says so. A panic is logged
/// like everything else: standard error may be a pipe that nobody reads.
pub fn init(directives: &str, format: LogFormat) -> Logs {
    let (filter, unreadable) = match EnvFilter::try_new(directives) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new("info"), Some(error)),
    };
    let queue = Logs::start(std::io::stderr());
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(queue.queue())
        .with_ansi(std::io::stderr().is_terminal());
    // A second initialisation in one process (tests) keeps the first.
    let _ = match format {
        LogFormat::Text => logs.try_init(),
        LogFormat::Json => logs.json().try_init(),
    };
    std::panic::set_hook(Box::new(|panic| {
        let trace = Backtrace::capture();
        match trace.status() {
            BacktraceStatus::Captured => tracing::error!("{panic}\n{trace}"),
            _ => tracing::error!("{panic}"),
        }
    }));
    if let Some(error) = unreadable {
        tracing::warn!(%error, "log filter not understood, using `info`");
    }
    queue
}
