//! Two results side by side.

use std::fmt::Write as _;

use crate::report::Report;
use crate::table;

/// Whether more is better, worse, or neither.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Better {
    Less,
    More,
}

/// What is compared: the metric's name, whether it is a time, and what is better.
const ROWS: [(&str, bool, Better); 23] = [
    ("loss", false, Better::Less),
    ("cut", false, Better::Less),
    ("missed", false, Better::Less),
    ("duplicates", false, Better::Less),
    ("reordered", false, Better::Less),
    ("leaks", false, Better::Less),
    ("corrupt", false, Better::Less),
    ("errors", false, Better::Less),
    ("breaks", false, Better::Less),
    ("connected", false, Better::More),
    ("throughput", false, Better::More),
    ("delivery-p50", true, Better::Less),
    ("delivery-p99", true, Better::Less),
    ("delivery-p99.9", true, Better::Less),
    ("delivery-max", true, Better::Less),
    ("echo-p50", true, Better::Less),
    ("echo-p99", true, Better::Less),
    ("echo-p99.9", true, Better::Less),
    ("handshake-p99", true, Better::Less),
    ("disturbance", false, Better::Less),
    ("cpu", false, Better::Less),
    ("connect-cpu", false, Better::Less),
    ("memory", false, Better::Less),
];

/// A smaller difference is not called better or worse.
const NOISE: f64 = 0.05;

/// The comparison as a table; what neither run has is left out.
#[must_use]
pub fn render(a: &Report, b: &Report) -> String {
    let mut out = format!("A: {}, {} connections\n", a.scenario, a.connected);
    let _ = writeln!(out, "B: {}, {} connections\n", b.scenario, b.connected);
    let _ = writeln!(out, "{:<18}{:>14}{:>14}{:>10}", "", "A", "B", "B / A");
    let (of_a, of_b) = (a.metrics(), b.metrics());
    for (name, is_time, better) in ROWS {
        let (x, y) = (of_a[name], of_b[name]);
        if x == 0.0 && y == 0.0 {
            continue;
        }
        let ratio = if x == 0.0 {
            "new".to_owned()
        } else {
            format!("{:.2}", y / x)
        };
        let verdict = match better {
            _ if (y - x).abs() <= x * NOISE => "",
            Better::Less if y < x => "better",
            Better::More if y > x => "better",
            Better::Less | Better::More => "worse",
        };
        let (x, y) = (show(x, is_time), show(y, is_time));
        let line = format!("{name:<18}{x:>14}{y:>14}{ratio:>10}  {verdict}");
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}

fn show(value: f64, is_time: bool) -> String {
    if is_time {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a time in µs"
        )]
        return table::time(value as u64);
    }
    if value.fract() == 0.0 || value >= 1000.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}")
    }
}
