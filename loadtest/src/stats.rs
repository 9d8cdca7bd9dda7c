//! Counters and histograms of one run.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::beside::Beside;

/// Two minutes: what takes longer counts as that.
const LONGEST_US: u64 = 120_000_000;

/// A histogram of microseconds with three significant digits.
#[must_use]
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_US, 3).expect("the bounds are sound")
}

/// Enters a time.
pub fn record(histogram: &mut Histogram<u64>, time_us: u64) {
    histogram.saturating_record(time_us.max(1));
}

/// What happened within one second.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Second {
    /// Connections that were open at its end.
    pub open: u64,
    /// Connects that were completed.
    pub connects: u64,
    /// Connections that ended unasked.
    pub breaks: u64,
    /// Messages and echoes sent.
    pub sent: u64,
    /// Messages that arrived.
    pub delivered: u64,
    /// Echoes answered.
    pub answered: u64,
    /// Errors of any kind.
    pub errors: u64,
    /// Owed messages sent in this second and lost.
    pub lost: u64,
    /// Owed messages sent in this second and cut off by a break.
    pub cut: u64,
    /// Messages of this second that somebody missed while away.
    pub missed: u64,
    /// Latency of deliveries and answers, µs: p50, p90, p99, p99.9, max.
    pub latency_us: Option<[u64; 5]>,
    /// CPU of each process given, percent of one core; none once it is gone.
    pub cpu_percent: Vec<Option<f64>>,
    /// CPU of this tool, percent of one core.
    pub own_cpu_percent: f64,
}

/// The counters of a run.
#[derive(Debug)]
pub struct Stats {
    /// Delivery of messages, from when they were to be sent.
    pub delivery: Histogram<u64>,
    /// Round trips of echoes, from when they were to be sent.
    pub echo: Histogram<u64>,
    /// Handshakes by transport, up to the namespace's answer.
    pub handshake: BTreeMap<&'static str, Histogram<u64>>,
    /// From the first request to the completed upgrade.
    pub upgrade: Histogram<u64>,
    /// How late this tool sent.
    pub send_lag: Histogram<u64>,
    /// How late this tool's own loop was.
    pub loop_lag: Histogram<u64>,
    /// Errors by kind.
    pub errors: BTreeMap<String, u64>,
    /// Why connections ended unasked.
    pub breaks: BTreeMap<String, u64>,
    /// Echoes sent.
    pub echoes: u64,
    /// Echoes answered.
    pub answered: u64,
    /// Echoes without an answer although the connection held.
    pub unanswered: u64,
    /// Echoes whose connection broke first.
    pub echoes_cut: u64,
    /// Answers that came a second time, or for nothing.
    pub echo_duplicates: u64,
    /// Answers that came after those of later echoes.
    pub echo_reordered: u64,
    /// Payloads that came back changed.
    pub corrupt: u64,
    /// Stamped messages of other runs.
    pub foreign: u64,
    /// Events without a stamp.
    pub unstamped: u64,
    /// Sends that found no open connection.
    pub unsent: u64,
    /// Connects completed.
    pub connects: u64,
    /// Connections closed by this tool.
    pub closed: u64,
    /// Latencies by the commands that ran meanwhile.
    pub beside: Beside,
    /// Seconds of the run, from its very beginning.
    pub seconds: Vec<Second>,
    interval: Histogram<u64>,
    now: Second,
}

impl Stats {
    /// All zero.
    #[must_use]
    pub fn new() -> Self {
        Self {
            delivery: histogram(),
            echo: histogram(),
            handshake: BTreeMap::new(),
            upgrade: histogram(),
            send_lag: histogram(),
            loop_lag: histogram(),
            errors: BTreeMap::new(),
            breaks: BTreeMap::new(),
            echoes: 0,
            answered: 0,
            unanswered: 0,
            echoes_cut: 0,
            echo_duplicates: 0,
            echo_reordered: 0,
            corrupt: 0,
            foreign: 0,
            unstamped: 0,
            unsent: 0,
            connects: 0,
            closed: 0,
            beside: Beside::new(),
            seconds: Vec::new(),
            interval: histogram(),
            now: Second::default(),
        }
    }

    /// A message arrived.
    pub fn delivered(&mut self, time_us: u64) {
        record(&mut self.delivery, time_us);
        self.arrived(time_us);
        self.now.delivered += 1;
    }

    /// An echo was answered.
    pub fn answered(&mut self, time_us: u64) {
        record(&mut self.echo, time_us);
        self.arrived(time_us);
        self.answered += 1;
        self.now.answered += 1;
    }

    fn arrived(&mut self, time_us: u64) {
        record(&mut self.interval, time_us);
        self.beside.record(time_us);
    }

    /// Something was sent, this long after it was due.
    pub fn sent(&mut self, lag_us: u64) {
        record(&mut self.send_lag, lag_us);
        self.now.sent += 1;
    }

    /// A connection is ready.
    pub fn connected(&mut self, kind: &'static str, time_us: u64) {
        let times = self.handshake.entry(kind).or_insert_with(histogram);
        record(times, time_us);
        self.connects += 1;
        self.now.connects += 1;
    }

    /// Something failed.
    pub fn error(&mut self, kind: String) {
        *self.errors.entry(kind).or_default() += 1;
        self.now.errors += 1;
    }

    /// A connection ended unasked.
    pub fn broke(&mut self, kind: String) {
        *self.breaks.entry(kind).or_default() += 1;
        self.now.breaks += 1;
    }

    /// Ends a second; what the caller measured itself comes with it.
    pub fn end_second(&mut self, open: u64, cpu_percent: Vec<Option<f64>>, own_cpu_percent: f64) {
        let mut second = std::mem::take(&mut self.now);
        second.open = open;
        second.cpu_percent = cpu_percent;
        second.own_cpu_percent = own_cpu_percent;
        second.latency_us = (!self.interval.is_empty()).then(|| percentiles(&self.interval));
        self.interval.reset();
        self.seconds.push(second);
    }
}

impl Default for Stats {
    fn default() -> Self {
        Self::new()
    }
}

/// p50, p90, p99, p99.9 and the largest.
fn percentiles(histogram: &Histogram<u64>) -> [u64; 5] {
    let [p50, p90, p99, p999] = [0.5, 0.9, 0.99, 0.999].map(|q| histogram.value_at_quantile(q));
    [p50, p90, p99, p999, histogram.max()]
}

/// The shape of a histogram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// How many values.
    pub count: u64,
    /// Their mean, µs.
    pub mean_us: f64,
    /// Half are at most this, µs.
    pub p50_us: u64,
    /// µs.
    pub p90_us: u64,
    /// µs.
    pub p99_us: u64,
    /// µs.
    pub p999_us: u64,
    /// The largest, µs.
    pub max_us: u64,
}

impl From<&Histogram<u64>> for Spread {
    fn from(histogram: &Histogram<u64>) -> Self {
        let [p50_us, p90_us, p99_us, p999_us, max_us] = percentiles(histogram);
        Self {
            count: histogram.len(),
            mean_us: if histogram.is_empty() {
                0.0
            } else {
                histogram.mean()
            },
            p50_us,
            p90_us,
            p99_us,
            p999_us,
            max_us,
        }
    }
}
