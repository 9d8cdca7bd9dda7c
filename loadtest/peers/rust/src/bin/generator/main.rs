//! A lean generator for the comparison: one thread, one epoll loop, closed loops.
//!
//! It measures what the server's processes spend, so it only has to be faster than they are. The
//! tool for users, with open loops and a check of every message, is the folder above.
//!
//! ```text
//! generator SCENARIO --ports P[,P] --pids N[,N] [--connections N] [--in-flight N]
//!           [--seconds S] [--warm-up S]
//! ```
//! The answer is one line of JSON: units of work, CPU nanoseconds of the servers, wall-clock
//! nanoseconds, and what else the scenario measures.

mod net;
mod scenario;
mod usage;

use std::error::Error;
use std::time::Duration;

/// What the command line asks for.
pub struct Options {
    scenario: String,
    ports: Vec<u16>,
    pids: Vec<u32>,
    connections: usize,
    in_flight: usize,
    duration: Duration,
    warm_up: Duration,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut options = Options {
        scenario: arguments.next().ok_or("which scenario?")?,
        ports: Vec::new(),
        pids: Vec::new(),
        connections: 1000,
        in_flight: 1,
        duration: Duration::from_secs(2),
        warm_up: Duration::from_millis(500),
    };
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or("an option without a value")?;
        match name.as_str() {
            "--ports" => options.ports = list(&value)?,
            "--pids" => options.pids = list(&value)?,
            "--connections" => options.connections = value.parse()?,
            "--in-flight" => options.in_flight = value.parse()?,
            "--seconds" => options.duration = Duration::from_secs_f64(value.parse()?),
            "--warm-up" => options.warm_up = Duration::from_secs_f64(value.parse()?),
            _ => return Err(format!("unknown option {name}").into()),
        }
    }
    let answer = scenario::run(&options)?;
    println!("{answer}");
    Ok(())
}

fn list<T: std::str::FromStr>(text: &str) -> Result<Vec<T>, T::Err> {
    text.split(',').map(str::parse).collect()
}
