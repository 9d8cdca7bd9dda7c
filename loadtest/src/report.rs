//! The result of a run, as it is written to JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::beside::Beside;
use crate::fail_if::FailIf;
use crate::ledger::Tally;
use crate::options::Options;
use crate::plan::Plan;
use crate::process::Process;
use crate::stats::{Second, Spread};
use crate::world::World;

/// The format; a later one gets another number.
pub const FORMAT: u32 = 1;

/// CPU time and memory of one process at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    cpu_seconds: Option<f64>,
    pss_kib: Option<u64>,
}

impl Usage {
    /// As `/proc` tells it.
    #[must_use]
    pub fn now(process: Process) -> Self {
        Self {
            cpu_seconds: process.cpu_seconds(),
            pss_kib: process.pss_kib(),
        }
    }
}

/// What was noted while the run went on.
#[derive(Debug, Default)]
pub struct Measured {
    /// Names of the processes.
    pub names: Vec<String>,
    /// Before the first connect.
    pub before: Vec<Usage>,
    /// With everybody connected.
    pub after_ramp: Vec<Usage>,
    /// After the work, still connected.
    pub after_work: Vec<Usage>,
    /// How long connecting took.
    pub ramp_seconds: f64,
    /// How many were connected then.
    pub connected: u64,
    /// How many were at the end.
    pub open_at_end: u64,
    /// When the work began, µs since the run did.
    pub work_began_us: u64,
    /// How long it took.
    pub work_seconds: f64,
    /// CPU time of this tool during the work.
    pub own_cpu_seconds: Option<f64>,
    /// Memory of this tool at the end.
    pub own_pss_kib: Option<u64>,
    /// Commands that were run.
    pub events: Vec<Event>,
}

impl Measured {
    /// Nothing yet.
    #[must_use]
    pub fn new(plan: &Plan) -> Self {
        let names = plan.options.pid.iter().map(|pid| Process::new(*pid).name());
        Self {
            names: names.collect(),
            ..Self::default()
        }
    }
}

/// A command that was run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When, µs since the run began.
    pub at_us: u64,
    /// How long it took, µs.
    pub took_us: u64,
    /// What.
    pub command: String,
    /// `done`, what went wrong, or that it was not over yet.
    pub outcome: String,
    /// Latency of deliveries and echoes while it ran.
    #[serde(default)]
    pub latency: Spread,
}

/// One watched process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Watched {
    /// Its number.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// Memory before the first connect.
    pub pss_before_kib: Option<u64>,
    /// Memory with everybody connected.
    pub pss_connected_kib: Option<u64>,
    /// Memory after the work.
    pub pss_after_kib: Option<u64>,
    /// CPU time while connecting, seconds.
    pub connect_cpu_seconds: Option<f64>,
    /// CPU time during the work, seconds; none if the process is gone.
    pub work_cpu_seconds: Option<f64>,
}

/// All watched processes together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cost {
    /// Memory per connection: with everybody connected, less what it was before.
    pub pss_per_connection_kib: Option<f64>,
    /// CPU time per completed connect.
    pub cpu_per_connect_us: Option<f64>,
    /// CPU time of the work per message that arrived or echo that was answered.
    pub cpu_per_message_us: Option<f64>,
}

/// Echoes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Echoes {
    /// Sent.
    pub sent: u64,
    /// Answered.
    pub answered: u64,
    /// Not answered although the connection held.
    pub lost: u64,
    /// Not answered, and the connection broke or was closed.
    pub cut: u64,
    /// Answered again.
    pub duplicates: u64,
    /// Answered after a later one.
    pub reordered: u64,
    /// Came back changed.
    pub corrupt: u64,
}

/// The result of a run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// [`FORMAT`].
    pub format: u32,
    /// Version of the tool.
    pub version: String,
    /// The scenario.
    pub scenario: String,
    /// Everything that was asked for, defaults of the scenario included.
    pub options: Options,
    /// When it ended, seconds since 1970.
    pub ended_unix_s: u64,
    /// Connections asked for.
    pub connections: u32,
    /// Connections when the work began.
    pub connected: u64,
    /// Connections when it ended.
    pub open_at_end: u64,
    /// Time to connect all, seconds.
    pub ramp_seconds: f64,
    /// When the work began, µs since the run did.
    pub work_began_us: u64,
    /// Length of the work, seconds.
    pub work_seconds: f64,
    /// The books.
    pub messages: Tally,
    /// The echoes.
    pub echoes: Echoes,
    /// Delivery latency from the intended time of sending.
    pub delivery: Spread,
    /// Echo round trips from the intended time of sending.
    pub echo: Spread,
    /// Handshakes by transport.
    pub handshake: BTreeMap<String, Spread>,
    /// Completed upgrades.
    pub upgrade: Spread,
    /// How late this tool sent.
    pub send_lag: Spread,
    /// How late this tool's own loop was.
    pub loop_lag: Spread,
    /// Connects completed.
    pub connects: u64,
    /// Connections closed by this tool.
    pub closed: u64,
    /// Connections that ended unasked, by reason.
    pub breaks: BTreeMap<String, u64>,
    /// Errors by kind.
    pub errors: BTreeMap<String, u64>,
    /// Sends that found no open connection.
    pub unsent: u64,
    /// Stamped messages of other runs.
    pub foreign: u64,
    /// Events without a stamp.
    pub unstamped: u64,
    /// The watched processes.
    pub processes: Vec<Watched>,
    /// What they cost.
    pub cost: Cost,
    /// CPU time of this tool during the work, seconds.
    pub own_cpu_seconds: Option<f64>,
    /// CPU time of this tool per message sent or received.
    pub own_cpu_per_message_us: Option<f64>,
    /// Memory of this tool at the end.
    pub own_pss_kib: Option<u64>,
    /// Commands that were run, in the order in which they began.
    pub events: Vec<Event>,
    /// Latency of deliveries and echoes while a command ran.
    #[serde(default)]
    pub disturbed: Spread,
    /// The same while none ran.
    #[serde(default)]
    pub undisturbed: Spread,
    /// Second by second from the very beginning.
    pub seconds: Vec<Second>,
    /// Conditions of `--fail-if` that hold.
    pub failed: Vec<String>,
}

impl Report {
    /// Closes a run.
    #[must_use]
    pub fn new(world: &World, measured: Measured) -> Self {
        let (stats, ledger) = (world.stats.borrow(), world.ledger.borrow());
        let tally = ledger.tally();
        let mut seconds = stats.seconds.clone();
        let parts = [
            ledger.lost_by_second(),
            ledger.cut_by_second(),
            ledger.missed_by_second(),
        ];
        // The last second may have been cut short by the end of the run.
        let longest = parts.iter().map(|part| part.len()).max().unwrap_or(0);
        seconds.resize(seconds.len().max(longest), Second::default());
        for (at, second) in seconds.iter_mut().enumerate() {
            let [lost, cut, missed] = parts.map(|part| part.get(at).copied().unwrap_or(0));
            (second.lost, second.cut, second.missed) = (lost, cut, missed);
        }
        let received = stats.delivery.len() + stats.answered;
        let moved = received + tally.published + stats.echoes;
        let names = stats.handshake.iter();
        let processes = watched(&world.plan, &measured);
        let mut report = Self {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            scenario: world.plan.scenario.clone(),
            options: world.plan.options.clone(),
            ended_unix_s: unix_seconds(),
            connections: world.plan.connections,
            connected: measured.connected,
            open_at_end: measured.open_at_end,
            ramp_seconds: measured.ramp_seconds,
            work_began_us: measured.work_began_us,
            work_seconds: measured.work_seconds,
            messages: tally,
            echoes: Echoes {
                sent: stats.echoes,
                answered: stats.answered,
                lost: stats.unanswered,
                cut: stats.echoes_cut,
                duplicates: stats.echo_duplicates,
                reordered: stats.echo_reordered,
                corrupt: stats.corrupt,
            },
            delivery: (&stats.delivery).into(),
            echo: (&stats.echo).into(),
            handshake: names
                .map(|(name, times)| ((*name).to_owned(), times.into()))
                .collect(),
            upgrade: (&stats.upgrade).into(),
            send_lag: (&stats.send_lag).into(),
            loop_lag: (&stats.loop_lag).into(),
            connects: stats.connects,
            closed: stats.closed,
            breaks: stats.breaks.clone(),
            errors: stats.errors.clone(),
            unsent: stats.unsent,
            foreign: stats.foreign,
            unstamped: stats.unstamped,
            cost: cost(&processes, measured.connected, received),
            processes,
            own_cpu_seconds: measured.own_cpu_seconds,
            own_cpu_per_message_us: measured
                .own_cpu_seconds
                .and_then(|cpu| per(cpu * 1e6, moved)),
            own_pss_kib: measured.own_pss_kib,
            events: with_latencies(measured.events, &stats.beside),
            disturbed: stats.beside.disturbed().into(),
            undisturbed: stats.beside.undisturbed().into(),
            seconds,
            failed: Vec::new(),
        };
        report.failed = report.judge();
        report
    }

    fn judge(&self) -> Vec<String> {
        let metrics = self.metrics();
        let conditions = self.options.fail_if.iter();
        let conditions = conditions.filter_map(|text| FailIf::parse(text, &metrics).ok());
        conditions
            .filter_map(|condition| condition.holds(&metrics).map(str::to_owned))
            .collect()
    }

    /// How many times as large p99 was while a command ran as while none did; none if one of the
    /// two never was.
    #[must_use]
    pub fn disturbance(&self) -> Option<f64> {
        self.times_undisturbed(&self.disturbed)
    }

    /// How many times as large p99 is in these latencies as it was while no command ran.
    #[must_use]
    pub fn times_undisturbed(&self, latency: &Spread) -> Option<f64> {
        let both = latency.count > 0 && self.undisturbed.count > 0;
        both.then(|| count(latency.p99_us) / count(self.undisturbed.p99_us))
    }

    /// What `--fail-if` and `compare` know by name. Times are in µs.
    #[must_use]
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        let main = if self.delivery.count >= self.echo.count {
            &self.delivery
        } else {
            &self.echo
        };
        let (messages, echoes) = (&self.messages, &self.echoes);
        let mut metrics = BTreeMap::new();
        let mut add = |name: &str, value: f64| {
            metrics.insert(name.to_owned(), value);
        };
        for (prefix, spread) in [
            ("", main),
            ("delivery-", &self.delivery),
            ("echo-", &self.echo),
        ] {
            add(&format!("{prefix}p50"), count(spread.p50_us));
            add(&format!("{prefix}p90"), count(spread.p90_us));
            add(&format!("{prefix}p99"), count(spread.p99_us));
            add(&format!("{prefix}p99.9"), count(spread.p999_us));
            add(&format!("{prefix}max"), count(spread.max_us));
        }
        let slowest = self.handshake.values().map(|spread| spread.p99_us).max();
        add("handshake-p99", count(slowest.unwrap_or(0)));
        add("loss", count(messages.lost + echoes.lost));
        add("cut", count(messages.cut + echoes.cut));
        add("missed", count(messages.missed));
        add("duplicates", count(messages.duplicates + echoes.duplicates));
        add("reordered", count(messages.reordered + echoes.reordered));
        add("leaks", count(messages.skip_leaks + messages.strays));
        add("corrupt", count(echoes.corrupt));
        add("errors", count(self.errors.values().sum()));
        add("breaks", count(self.breaks.values().sum()));
        add("unsent", count(self.unsent));
        add("connected", count(self.connected));
        add(
            "throughput",
            count(self.delivery.count + self.echo.count) / self.work_seconds,
        );
        add("cpu", self.cost.cpu_per_message_us.unwrap_or(0.0));
        add("connect-cpu", self.cost.cpu_per_connect_us.unwrap_or(0.0));
        add("memory", self.cost.pss_per_connection_kib.unwrap_or(0.0));
        add("disturbance", self.disturbance().unwrap_or(0.0));
        add("send-lag-p99", count(self.send_lag.p99_us));
        add("loop-lag-p99", count(self.loop_lag.p99_us));
        metrics
    }
}

fn with_latencies(mut events: Vec<Event>, beside: &Beside) -> Vec<Event> {
    for (number, event) in events.iter_mut().enumerate() {
        event.latency = beside.command(number).map(Spread::from).unwrap_or_default();
    }
    events
}

fn watched(plan: &Plan, measured: &Measured) -> Vec<Watched> {
    let pids = plan.options.pid.iter().zip(&measured.names).enumerate();
    pids.map(|(at, (pid, name))| {
        let get = |list: &[Usage]| list.get(at).copied().unwrap_or_default();
        let (before, ramp, work) = (
            get(&measured.before),
            get(&measured.after_ramp),
            get(&measured.after_work),
        );
        let between = |from: Usage, to: Usage| {
            to.cpu_seconds
                .zip(from.cpu_seconds)
                .map(|(to, from)| to - from)
        };
        Watched {
            pid: *pid,
            name: name.clone(),
            pss_before_kib: before.pss_kib,
            pss_connected_kib: ramp.pss_kib,
            pss_after_kib: work.pss_kib,
            connect_cpu_seconds: between(before, ramp),
            work_cpu_seconds: between(ramp, work),
        }
    })
    .collect()
}

fn cost(processes: &[Watched], connected: u64, received: u64) -> Cost {
    if processes.is_empty() {
        return Cost::default();
    }
    let sum =
        |get: &dyn Fn(&Watched) -> Option<f64>| processes.iter().map(get).sum::<Option<f64>>();
    let grown = sum(&|process| {
        let (before, after) = (process.pss_before_kib?, process.pss_connected_kib?);
        Some(count(after) - count(before))
    });
    let micros = |seconds: Option<f64>, units: u64| per(seconds? * 1e6, units);
    Cost {
        pss_per_connection_kib: grown.and_then(|kib| per(kib, connected)),
        cpu_per_connect_us: micros(sum(&|process| process.connect_cpu_seconds), connected),
        cpu_per_message_us: micros(sum(&|process| process.work_cpu_seconds), received),
    }
}

fn per(value: f64, units: u64) -> Option<f64> {
    (units > 0).then(|| value / count(units))
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
fn count(value: u64) -> f64 {
    value as f64
}

fn unix_seconds() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
