//! CPU time and memory of processes, from `/proc`.

use std::fs;

/// Clock ticks per second; Linux tells 100 to every program on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;

/// One process to watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process(u32);

impl Process {
    /// By its number.
    #[must_use]
    pub fn new(pid: u32) -> Self {
        Self(pid)
    }

    /// This tool.
    #[must_use]
    pub fn own() -> Self {
        Self(std::process::id())
    }

    /// Its number.
    #[must_use]
    pub fn pid(self) -> u32 {
        self.0
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> String {
        let name = fs::read_to_string(format!("/proc/{}/comm", self.0)).unwrap_or_default();
        name.trim().to_owned()
    }

    /// Seconds of CPU time so far, user and system.
    #[must_use]
    pub fn cpu_seconds(self) -> Option<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0)).ok()?;
        // The name may contain spaces and brackets; the fields begin behind the last one.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
        Some((ticks(11)? + ticks(12)?) / TICKS_PER_SECOND)
    }

    /// Its proportional share of memory, KiB.
    #[must_use]
    pub fn pss_kib(self) -> Option<u64> {
        let path = format!("/proc/{}/smaps_rollup", self.0);
        let text = fs::read_to_string(path).ok()?;
        let line = text.lines().find(|line| line.starts_with("Pss:"))?;
        line.split_ascii_whitespace().nth(1)?.parse().ok()
    }
}
