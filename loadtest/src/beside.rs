//! Latencies by what ran beside the work: a run with commands is two runs in one, a disturbed and an
//! undisturbed one, and this keeps them apart.

use hdrhistogram::Histogram;

use crate::stats::{histogram, record};

/// Latencies of deliveries and answers, µs, by the commands of `--at` that ran when they arrived.
#[derive(Debug)]
pub struct Beside {
    running: Vec<usize>,
    commands: Vec<Histogram<u64>>,
    disturbed: Histogram<u64>,
    undisturbed: Histogram<u64>,
}

impl Beside {
    /// No command has begun.
    #[must_use]
    pub fn new() -> Self {
        Self {
            running: Vec::new(),
            commands: Vec::new(),
            disturbed: histogram(),
            undisturbed: histogram(),
        }
    }

    /// Another command runs; its number, from 0.
    pub fn begin(&mut self) -> usize {
        let number = self.commands.len();
        self.commands.push(histogram());
        self.running.push(number);
        number
    }

    /// A command is over.
    pub fn end(&mut self, number: usize) {
        self.running.retain(|running| *running != number);
    }

    /// Something arrived.
    pub fn record(&mut self, time_us: u64) {
        for number in &self.running {
            record(&mut self.commands[*number], time_us);
        }
        let all = match self.running.is_empty() {
            true => &mut self.undisturbed,
            false => &mut self.disturbed,
        };
        record(all, time_us);
    }

    /// While this command ran; none if there is no such command.
    #[must_use]
    pub fn command(&self, number: usize) -> Option<&Histogram<u64>> {
        self.commands.get(number)
    }

    /// While one or more commands ran.
    #[must_use]
    pub fn disturbed(&self) -> &Histogram<u64> {
        &self.disturbed
    }

    /// While none ran.
    #[must_use]
    pub fn undisturbed(&self) -> &Histogram<u64> {
        &self.undisturbed
    }
}

impl Default for Beside {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_count_for_every_command_that_runs_and_for_none_after_its_end() {
        let mut beside = Beside::new();
        beside.record(10);
        let first = beside.begin();
        beside.record(20);
        let second = beside.begin();
        beside.record(30);
        beside.end(first);
        beside.record(40);
        beside.end(second);
        beside.record(50);
        let shape = |histogram: &Histogram<u64>| (histogram.len(), histogram.max());
        assert_eq!(beside.command(first).map(shape), Some((2, 30)));
        assert_eq!(beside.command(second).map(shape), Some((2, 40)));
        assert_eq!(shape(beside.disturbed()), (3, 40));
        assert_eq!(shape(beside.undisturbed()), (2, 50));
        assert_eq!(beside.command(2).map(shape), None);
    }
}
