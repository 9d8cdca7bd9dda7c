//! One line a second on the terminal, and the timeline.

use std::cell::RefCell;
use std::io::{IsTerminal as _, Write as _};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::process::Process;
use crate::world::World;

/// See the module.
#[derive(Debug)]
pub struct Progress {
    world: Rc<World>,
    processes: Vec<Process>,
    phase: RefCell<&'static str>,
    shown: bool,
}

impl Progress {
    /// Shows nothing if the plan wants quiet.
    #[must_use]
    pub fn new(world: Rc<World>, processes: Vec<Process>) -> Self {
        let shown = !world.plan.options.quiet;
        Self {
            world,
            processes,
            phase: RefCell::new(""),
            shown,
        }
    }

    /// What is going on from now on.
    pub fn phase(&self, phase: &'static str) {
        *self.phase.borrow_mut() = phase;
    }

    /// Ends the line.
    pub fn end(&self) {
        if self.shown {
            let _ = writeln!(std::io::stderr());
        }
    }

    /// Ends every second of the run.
    pub async fn every_second(self: Rc<Self>) {
        let own = Process::own();
        let mut last = self
            .processes
            .iter()
            .map(|process| process.cpu_seconds())
            .collect::<Vec<_>>();
        let mut own_last = own.cpu_seconds();
        let mut then = Instant::now();
        for second in 1.. {
            let due = self.world.start() + Duration::from_secs(second);
            tokio::time::sleep_until(due.into()).await;
            let took = then.elapsed().as_secs_f64();
            then = Instant::now();
            let share = |now: Option<f64>, last: Option<f64>| {
                now.zip(last).map(|(now, last)| (now - last) / took * 100.0)
            };
            let now = self
                .processes
                .iter()
                .map(|process| process.cpu_seconds())
                .collect::<Vec<_>>();
            let cpu = now
                .iter()
                .zip(&last)
                .map(|(now, last)| share(*now, *last))
                .collect();
            let own_now = own.cpu_seconds();
            let own_cpu = share(own_now, own_last).unwrap_or(0.0);
            (last, own_last) = (now, own_now);
            let open = self.world.live.borrow().len() as u64;
            self.world.stats.borrow_mut().end_second(open, cpu, own_cpu);
            self.show(second);
        }
    }

    fn show(&self, second: u64) {
        if !self.shown {
            return;
        }
        let stats = self.world.stats.borrow();
        let Some(last) = stats.seconds.last() else {
            return;
        };
        let latency = last
            .latency_us
            .map_or_else(String::new, |[p50, _, p99, ..]| {
                format!(
                    "  p50 {}  p99 {}",
                    crate::table::time(p50),
                    crate::table::time(p99)
                )
            });
        let line = format!(
            "{second:>4} s  {:<10}  {} open  {} sent/s  {} received/s{latency}  {} errors",
            self.phase.borrow(),
            last.open,
            last.sent,
            last.delivered + last.answered,
            stats.errors.values().sum::<u64>(),
        );
        let mut err = std::io::stderr().lock();
        let _ = if err.is_terminal() {
            write!(err, "\r\x1b[K{line}")
        } else {
            writeln!(err, "{line}")
        };
        let _ = err.flush();
    }
}
