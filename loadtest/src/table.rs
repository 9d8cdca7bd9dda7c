//! The summary on the terminal.

use std::fmt::Write as _;

use crate::report::Report;
use crate::stats::Spread;

/// A time with the unit that suits it.
#[must_use]
pub fn time(time_us: u64) -> String {
    let ms = u128::from(time_us) / 1000;
    match time_us {
        0..1_000 => format!("{time_us} µs"),
        1_000..100_000 => format!("{ms}.{} ms", time_us % 1000 / 100),
        100_000..10_000_000 => format!("{ms} ms"),
        _ => format!("{} s", ms / 1000),
    }
}

/// The whole summary, ending with a line end.
#[must_use]
pub fn render(report: &Report) -> String {
    let mut out = String::new();
    heading(&mut out, report);
    latencies(&mut out, report);
    books(&mut out, report);
    troubles(&mut out, report);
    costs(&mut out, report);
    for event in &report.events {
        let at = event.at_us.saturating_sub(report.work_began_us);
        let _ = write!(
            out,
            "  at {:<8} {} ({})",
            time(at),
            event.command,
            event.outcome
        );
        if event.latency.count > 0 {
            let _ = write!(out, ", p99 meanwhile {}", time(event.latency.p99_us));
        }
        if let Some(times) = report.times_undisturbed(&event.latency) {
            let _ = write!(out, ", {times:.1} times the undisturbed");
        }
        out.push('\n');
    }
    for failed in &report.failed {
        let _ = writeln!(out, "FAILED: {failed}");
    }
    out
}

fn heading(out: &mut String, report: &Report) {
    let _ = writeln!(
        out,
        "{}: {} of {} connected in {:.1} s, {:.1} s of work, {} open at the end",
        report.scenario,
        report.connected,
        report.connections,
        report.ramp_seconds,
        report.work_seconds,
        report.open_at_end,
    );
}

fn latencies(out: &mut String, report: &Report) {
    let names = ["", "count", "p50", "p90", "p99", "p99.9", "max"];
    let _ = writeln!(
        out,
        "\n{:<22}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}",
        names[0], names[1], names[2], names[3], names[4], names[5], names[6]
    );
    let mut row = |name: &str, spread: &Spread| {
        if spread.count > 0 {
            let Spread {
                count,
                p50_us,
                p90_us,
                p99_us,
                p999_us,
                max_us,
                ..
            } = *spread;
            let times = [p50_us, p90_us, p99_us, p999_us, max_us].map(time);
            let _ = write!(out, "{name:<22}{count:>10}");
            for text in times {
                let _ = write!(out, "{text:>10}");
            }
            out.push('\n');
        }
    };
    for (kind, spread) in &report.handshake {
        row(&format!("handshake {kind}"), spread);
    }
    row("upgrade complete", &report.upgrade);
    row("delivery", &report.delivery);
    row("echo round trip", &report.echo);
    if !report.events.is_empty() {
        row("both, undisturbed", &report.undisturbed);
        row("both, disturbed", &report.disturbed);
    }
    row("this tool: send lag", &report.send_lag);
    row("this tool: loop lag", &report.loop_lag);
}

fn books(out: &mut String, report: &Report) {
    let seconds = report.work_seconds.max(0.001);
    let mut rate = |name: &str, count: u64| {
        #[expect(clippy::cast_precision_loss, reason = "for display")]
        let rate = count as f64 / seconds;
        let _ = writeln!(out, "{name:<22}{count:>10}{rate:>14.0}/s");
    };
    let (messages, echoes) = (&report.messages, &report.echoes);
    if messages.published > 0 {
        rate("\nmessages published", messages.published);
        rate("messages delivered", report.delivery.count);
        let rows = [
            ("owed", messages.owed),
            ("lost", messages.lost),
            ("cut by breaks", messages.cut),
            ("missed while away", messages.missed),
            ("in doubt", messages.in_doubt),
            ("duplicates", messages.duplicates),
            ("reordered", messages.reordered),
            ("skip leaks", messages.skip_leaks),
            ("strays", messages.strays),
        ];
        for (name, count) in rows {
            let _ = writeln!(out, "  {name:<20}{count:>10}");
        }
    }
    if echoes.sent > 0 {
        let mut rate = |name: &str, count: u64| {
            #[expect(clippy::cast_precision_loss, reason = "for display")]
            let rate = count as f64 / seconds;
            let _ = writeln!(out, "{name:<22}{count:>10}{rate:>14.0}/s");
        };
        rate("\nechoes sent", echoes.sent);
        rate("echoes answered", echoes.answered);
        let rows = [
            ("lost", echoes.lost),
            ("cut by breaks", echoes.cut),
            ("duplicates", echoes.duplicates),
            ("reordered", echoes.reordered),
            ("corrupt", echoes.corrupt),
        ];
        for (name, count) in rows {
            let _ = writeln!(out, "  {name:<20}{count:>10}");
        }
    }
}

fn troubles(out: &mut String, report: &Report) {
    let _ = writeln!(
        out,
        "\nconnects {}, closed by this tool {}, broken {}, errors {}, unsent {}",
        report.connects,
        report.closed,
        report.breaks.values().sum::<u64>(),
        report.errors.values().sum::<u64>(),
        report.unsent,
    );
    for (kind, count) in &report.breaks {
        let _ = writeln!(out, "  break {kind}: {count}");
    }
    for (kind, count) in &report.errors {
        let _ = writeln!(out, "  error {kind}: {count}");
    }
    if report.foreign > 0 {
        let _ = writeln!(out, "  messages of other runs: {}", report.foreign);
    }
}

fn costs(out: &mut String, report: &Report) {
    let number = |value: Option<f64>, unit: &str| {
        value.map_or_else(
            || "unknown".to_owned(),
            |value| format!("{value:.2} {unit}"),
        )
    };
    for process in &report.processes {
        let cpu = number(process.work_cpu_seconds, "s");
        let _ = writeln!(
            out,
            "process {} {}: CPU of the work {cpu}",
            process.pid, process.name
        );
    }
    if !report.processes.is_empty() {
        let cost = &report.cost;
        let _ = writeln!(
            out,
            "  CPU per message {}, per connect {}; memory per connection {}",
            number(cost.cpu_per_message_us, "µs"),
            number(cost.cpu_per_connect_us, "µs"),
            number(cost.pss_per_connection_kib, "KiB"),
        );
    }
    let _ = writeln!(
        out,
        "this tool: CPU {}, per message {}, memory {} KiB",
        number(report.own_cpu_seconds, "s"),
        number(report.own_cpu_per_message_us, "µs"),
        report.own_pss_kib.unwrap_or(0),
    );
}
