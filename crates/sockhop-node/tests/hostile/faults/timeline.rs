//! What is noted of a fault while it lasts, and the table of it in `docs/reliability.md`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::peer::Fault;
use crate::process::Node;

/// Counters that say that something was lost, refused or given up, and how they are called for short.
const LOSSES: [(&str, &str); 10] = [
    ("sockhop_engine_sessions_closed_total", "sessions closed"),
    ("sockhop_engine_requests_refused_total", "requests refused"),
    ("sockhop_engine_dropped_total", "packets of ended sessions"),
    ("sockhop_bus_dropped_total", "bus messages dropped"),
    ("sockhop_bus_disconnects_total", "bus disconnects"),
    (
        "sockhop_adapter_bus_publish_failures_total",
        "broadcasts refused by the bus",
    ),
    ("sockhop_adapter_missing_answers_total", "missing answers"),
    ("sockhop_route_forwarded_total", "forwarded"),
    (
        "sockhop_node_connections_refused_total",
        "connections refused",
    ),
    ("sockhop_node_log_lines_dropped_total", "log lines dropped"),
];

/// All series of one node.
#[derive(Clone, Debug, Default)]
pub(super) struct Counters(BTreeMap<String, u64>);

impl Counters {
    pub(super) fn of(node: &Node) -> Result<Self, Fault> {
        let metrics = node.metrics()?;
        let series = metrics.lines().filter(|line| !line.starts_with('#'));
        let values = series.filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        Ok(Self(values.collect()))
    }

    /// The sum of a metric over its labels.
    pub(super) fn sum(&self, metric: &str) -> u64 {
        self.series(metric).values().sum()
    }

    /// One series; 0 if it has not begun.
    pub(super) fn get(&self, series: &str) -> u64 {
        self.0.get(series).copied().unwrap_or(0)
    }

    /// The series of a metric, by the values of their labels.
    fn series(&self, metric: &str) -> BTreeMap<String, u64> {
        let all = self.0.iter().filter_map(|(name, value)| {
            let labels = name.strip_prefix(metric)?;
            if !labels.is_empty() && !labels.starts_with('{') {
                return None;
            }
            let values: Vec<_> = labels.split('"').skip(1).step_by(2).collect();
            Some((values.join(" "), *value))
        });
        all.collect()
    }
}

/// What every node had counted when a fault began.
pub(super) struct Before(Vec<(u32, Counters)>);

impl Before {
    pub(super) fn of(nodes: &[Node]) -> Result<Self, Fault> {
        let all = nodes
            .iter()
            .map(|node| Ok((node.pid(), Counters::of(node)?)));
        Ok(Self(all.collect::<Result<_, Fault>>()?))
    }

    /// How much all nodes together have counted of losses since then. A node that was not there
    /// begins at zero; what one that is gone had counted is gone too.
    pub(super) fn losses(&self, nodes: &[Node]) -> Result<BTreeMap<String, u64>, Fault> {
        let mut losses = BTreeMap::new();
        for node in nodes {
            let now = Counters::of(node)?;
            let nothing = Counters::default();
            let before = self.0.iter().find(|(pid, _)| *pid == node.pid());
            let before = before.map_or(&nothing, |(_, counters)| counters);
            for (metric, short) in LOSSES {
                let earlier = before.series(metric);
                for (label, value) in now.series(metric) {
                    let more = value.saturating_sub(earlier.get(&label).copied().unwrap_or(0));
                    let name = format!("{short} {label}").trim_end().to_owned();
                    if more > 0 {
                        *losses.entry(name).or_insert(0) += more;
                    }
                }
            }
        }
        Ok(losses)
    }
}

/// When what was seen.
pub(super) struct Timeline {
    began: Instant,
    marks: Vec<(String, Duration)>,
    /// What a node had counted that is gone at the end.
    counts: BTreeMap<String, u64>,
}

impl Timeline {
    pub(super) fn begin() -> Self {
        Self {
            began: Instant::now(),
            marks: Vec::new(),
            counts: BTreeMap::new(),
        }
    }

    /// What was prepared until now is no part of the fault.
    pub(super) fn restart(&mut self) {
        self.began = Instant::now();
    }

    /// A node counted so much before it was replaced.
    pub(super) fn count(&mut self, what: impl Into<String>, much: u64) {
        self.counts.insert(what.into(), much);
    }

    /// All of these counts.
    pub(super) fn counts(&self) -> BTreeMap<String, u64> {
        self.counts.clone()
    }

    /// This is so now.
    pub(super) fn mark(&mut self, what: impl Into<String>) {
        self.marks.push((what.into(), self.began.elapsed()));
    }
}

impl std::fmt::Display for Timeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let marks = self.marks.iter();
        let marks = marks.map(|(what, at)| format!("{:.2} s {what}", at.as_secs_f64()));
        f.write_str(&marks.collect::<Vec<_>>().join(", "))
    }
}

/// All rounds of one fault.
#[derive(Default)]
pub(super) struct Rounds(Vec<(Timeline, BTreeMap<String, u64>)>);

impl Rounds {
    pub(super) fn add(&mut self, timeline: Timeline, losses: BTreeMap<String, u64>) {
        self.0.push((timeline, losses));
    }

    /// The row of the table: what was seen when, and what was counted, from the least to the most.
    fn row(&self, name: &str, clients: usize) -> String {
        let mut line = String::new();
        let marks = self
            .0
            .first()
            .map_or(0, |(timeline, _)| timeline.marks.len());
        for mark in 0..marks {
            let mut rounds = self
                .0
                .iter()
                .filter_map(|(timeline, _)| timeline.marks.get(mark));
            let times = rounds.clone().map(|(_, at)| at.as_secs_f64());
            let (least, most) = times.fold((f64::MAX, 0.0_f64), |(least, most), at| {
                (least.min(at), most.max(at))
            });
            let what = rounds.next_back().map_or("", |(what, _)| what);
            let separator = if mark > 0 { "; " } else { "" };
            let _ = write!(line, "{separator}{least:.2}–{most:.2} {what}");
        }
        let mut counted = BTreeMap::new();
        for (name, _) in self.0.iter().flat_map(|(_, losses)| losses) {
            let rounds = self.0.iter();
            let values = rounds.map(|(_, losses)| losses.get(name).copied().unwrap_or(0));
            let (least, most) = (values.clone().min(), values.max());
            counted.insert(name, (least.unwrap_or(0), most.unwrap_or(0)));
        }
        let counted = counted
            .iter()
            .map(|(name, (least, most))| match least == most {
                true => format!("{name} {most}"),
                false => format!("{name} {least}–{most}"),
            });
        let counted = counted.collect::<Vec<_>>().join("; ");
        let size = format!("{} × {clients}", self.0.len());
        format!("| {name} | {size} | {line} | {counted} |\n")
    }
}

/// Writes the rows of the faults that were run into the document; those of others stay.
pub(super) fn write_rows(order: &[&str], rounds: &BTreeMap<&str, Rounds>, clients: usize) {
    const BEGIN: &str = "<!-- faults: generated -->\n";
    const END: &str = "<!-- faults: end -->";
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/reliability.md");
    let document = std::fs::read_to_string(&path).expect("the document is there");
    let (before, rest) = document
        .split_once(BEGIN)
        .expect("the mark of the beginning");
    let (table, after) = rest.split_once(END).expect("the mark of the end");
    let mut rows = String::from(
        "| fault | rounds × clients | seconds after its begin | counted by all nodes |\n\
         |---|---|---|---|\n",
    );
    for name in order {
        let old = table
            .lines()
            .find(|row| row.starts_with(&format!("| {name} |")));
        match (rounds.get(name), old) {
            (Some(rounds), _) => rows.push_str(&rounds.row(name, clients)),
            (None, Some(row)) => {
                rows.push_str(row);
                rows.push('\n');
            }
            (None, None) => {}
        }
    }
    let document = format!("{before}{BEGIN}{rows}{END}{after}");
    std::fs::write(&path, document).expect("the document can be written");
}
