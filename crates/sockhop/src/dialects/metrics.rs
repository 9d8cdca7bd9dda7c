//! Shows what the dialects count: their crate knows nothing of metrics.

use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounterVec, Opts};
use sockhop_adapter::dialect::{DialectStats, Ignored};

/// The counters of all dialects that are on.
pub(super) struct DialectCollector {
    dialects: Vec<(&'static str, Arc<DialectStats>)>,
    messages: IntCounterVec,
    failures: IntCounterVec,
    unsupported: IntCounterVec,
    ignored: IntCounterVec,
}

impl DialectCollector {
    pub(super) fn new(
        dialects: Vec<(&'static str, Arc<DialectStats>)>,
    ) -> Result<Self, prometheus::Error> {
        let counters = |name: &str, help: &str, labels: &[&str]| {
            IntCounterVec::new(Opts::new(format!("sockhop_dialect_{name}"), help), labels)
        };
        Ok(Self {
            dialects,
            messages: counters(
                "messages_total",
                "Messages on the channels of servers of other makes.",
                &["dialect", "direction"],
            )?,
            failures: counters(
                "publish_failures_total",
                "Messages that servers of other makes miss.",
                &["dialect"],
            )?,
            unsupported: counters(
                "unsupported_total",
                "Operations that servers of another make cannot be told of.",
                &["dialect"],
            )?,
            ignored: counters(
                "ignored_total",
                "Messages received and not acted on.",
                &["dialect", "reason"],
            )?,
        })
    }

    fn all(&self) -> [&IntCounterVec; 4] {
        [
            &self.messages,
            &self.failures,
            &self.unsupported,
            &self.ignored,
        ]
    }
}

impl Collector for DialectCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.all().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let set = |counters: &IntCounterVec, labels: &[&str], value: u64| {
            // Scrapes may overlap; each shows a value that was true a moment ago.
            let counter = counters.with_label_values(labels);
            counter.reset();
            counter.inc_by(value);
        };
        for (name, stats) in &self.dialects {
            set(&self.messages, &[name, "in"], stats.received.get());
            set(&self.messages, &[name, "out"], stats.published.get());
            set(&self.failures, &[name], stats.publish_failures.get());
            set(&self.unsupported, &[name], stats.unsupported.get());
            for reason in Ignored::ALL {
                let count = stats.ignored(reason).get();
                set(&self.ignored, &[name, reason.as_str()], count);
            }
        }
        let families = self.all().into_iter().flat_map(Collector::collect);
        families.collect()
    }
}
