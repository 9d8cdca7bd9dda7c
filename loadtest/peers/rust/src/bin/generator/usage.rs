//! What the servers' processes have used, as the kernel tells it.

use std::fs;
use std::time::Instant;

use serde_json::{Value, json};

/// Nanoseconds on the CPU of all threads of these processes.
pub fn cpu_ns(pids: &[u32]) -> u64 {
    let mut total = 0;
    for pid in pids {
        let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
            continue;
        };
        for thread in threads.flatten() {
            let spent = fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
            let spent = spent.split_whitespace().next().unwrap_or_default();
            total += spent.parse().unwrap_or(0);
        }
    }
    total
}

/// Proportional set size of these processes, in bytes.
pub fn pss_bytes(pids: &[u32]) -> u64 {
    let of = |pid: &u32| -> Option<u64> {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    pids.iter().filter_map(of).sum::<u64>() * 1024
}

/// From one instant to another: CPU and wall clock.
pub struct Meter<'a> {
    pids: &'a [u32],
    cpu_ns: u64,
    began: Instant,
}

impl<'a> Meter<'a> {
    pub fn start(pids: &'a [u32]) -> Self {
        Self {
            pids,
            cpu_ns: cpu_ns(pids),
            began: Instant::now(),
        }
    }

    pub fn stop(&self, units: u64) -> Value {
        let wall_ns = self.began.elapsed().as_nanos() as u64;
        let cpu_ns = cpu_ns(self.pids) - self.cpu_ns;
        json!({
            "units": units,
            "cpu_us": cpu_ns as f64 / 1000.0 / units.max(1) as f64,
            "wall_us": wall_ns as f64 / 1000.0 / units.max(1) as f64,
            "cpu_share": cpu_ns as f64 / wall_ns as f64,
        })
    }
}
