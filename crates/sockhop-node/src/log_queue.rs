//! Log lines on their way to standard error, which may be full, closed, or a pipe that nobody reads.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{IntCounterVec, Opts, Registry};
use tracing_subscriber::fmt::MakeWriter;

/// Bytes that may wait to be written.
const MAX_BYTES: usize = 1 << 20;

/// How long the process's end waits for what is queued.
const LAST_LINES: Duration = Duration::from_millis(500);

/// How long a sink that takes nothing at the moment is left alone.
const REST: Duration = Duration::from_millis(10);

/// The way of a process's log lines out of it.
///
/// *Shape:* whoever logs only queues. A thread of its own writes, so that a sink that blocks stops
/// nobody else; what does not fit into the queue or cannot be written is dropped and counted. When
/// this value is dropped, what is queued has half a second to leave.
#[derive(Debug)]
#[must_use = "dropping it waits for the lines that are queued"]
pub struct Logs(LogQueue);

/// Where log lines are put.
#[derive(Clone, Debug)]
pub(crate) struct LogQueue(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    filled: Condvar,
    emptied: Condvar,
    dropped: IntCounterVec,
}

#[derive(Debug, Default)]
struct State {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// The writer has a line in its hands.
    writing: bool,
    /// Lines that were dropped, and of those the ones that the log itself tells of.
    lost: u64,
    told: u64,
}

#[derive(Clone, Copy)]
enum Lost {
    QueueFull,
    WriteFailed,
}

impl Lost {
    const ALL: [Self; 2] = [Self::QueueFull, Self::WriteFailed];

    fn label(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::WriteFailed => "write_failed",
        }
    }
}

impl Logs {
    /// Starts the thread that writes to `sink`.
    pub(crate) fn start(sink: impl Write + Send + 'static) -> Self {
        let dropped = IntCounterVec::new(
            Opts::new(
                "sockhop_node_log_lines_dropped_total",
                "Log lines that were not written.",
            ),
            &["reason"],
        );
        let dropped = dropped.expect("its name and its label are well-formed");
        for reason in Lost::ALL {
            dropped.with_label_values(&[reason.label()]);
        }
        let queue = LogQueue(Arc::new(Shared {
            state: Mutex::default(),
            filled: Condvar::new(),
            emptied: Condvar::new(),
            dropped,
        }));
        let writer = queue.clone();
        let thread = thread::Builder::new().name("log".to_owned());
        // Without the thread everything is dropped, and counted.
        let _ = thread.spawn(move || writer.write_to(sink));
        Self(queue)
    }

    /// Where lines are put.
    pub(crate) fn queue(&self) -> LogQueue {
        self.0.clone()
    }

    /// Shows in `registry` how many lines were dropped.
    ///
    /// # Errors
    /// When the registry holds a metric of this name already.
    pub fn register(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        let dropped: Box<dyn Collector> = Box::new(self.0.0.dropped.clone());
        registry.register(dropped)
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        let shared = &self.0.0;
        let busy = |state: &mut State| state.writing || !state.lines.is_empty();
        let waited = shared
            .emptied
            .wait_timeout_while(shared.state(), LAST_LINES, busy);
        drop(waited);
    }
}

impl LogQueue {
    fn put(&self, line: &[u8]) {
        let mut state = self.0.state();
        if state.bytes + line.len() > MAX_BYTES {
            self.0.lose(&mut state, Lost::QueueFull);
            return;
        }
        state.bytes += line.len();
        state.lines.push_back(line.to_vec());
        self.0.filled.notify_one();
    }

    fn write_to(&self, mut sink: impl Write) {
        loop {
            let line = self.0.take();
            let written = write_patiently(&mut sink, &line);
            let mut state = self.0.state();
            state.writing = false;
            state.bytes -= line.len();
            if written.is_err() {
                self.0.lose(&mut state, Lost::WriteFailed);
            }
            if !state.lines.is_empty() {
                continue;
            }
            self.0.emptied.notify_all();
            let lost = state.lost - state.told;
            if written.is_ok() && lost > 0 {
                state.told = state.lost;
                // It is queued like any other line.
                drop(state);
                tracing::warn!(lost, "log lines were dropped");
            }
        }
    }
}

impl Shared {
    /// Waits for a line.
    fn take(&self) -> Vec<u8> {
        let empty = |state: &mut State| state.lines.is_empty();
        let state = self.filled.wait_while(self.state(), empty);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        state.writing = true;
        state.lines.pop_front().unwrap_or_default()
    }

    fn lose(&self, state: &mut State, reason: Lost) {
        state.lost += 1;
        self.dropped.with_label_values(&[reason.label()]).inc();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes a line; a sink that takes nothing at the moment is asked again.
fn write_patiently(sink: &mut impl Write, mut line: &[u8]) -> io::Result<()> {
    while !line.is_empty() {
        match sink.write(line) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(len) => line = &line[len..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(REST),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// One event of the log is written with one call.
impl Write for LogQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.put(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogQueue {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::*;

    /// A sink that says what it was given, and takes it when it is told to.
    struct Hand {
        given: SyncSender<Vec<u8>>,
        answers: Receiver<io::Result<()>>,
    }

    impl Write for Hand {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            let _ = self.given.send(line.to_vec());
            self.answers.recv().unwrap_or(Ok(()))?;
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn hand() -> (Logs, Receiver<Vec<u8>>, SyncSender<io::Result<()>>) {
        let (given, lines) = sync_channel(1);
        let (answer, answers) = sync_channel(1);
        (Logs::start(Hand { given, answers }), lines, answer)
    }

    fn dropped(logs: &Logs, reason: Lost) -> u64 {
        let dropped = &logs.0.0.dropped;
        dropped.with_label_values(&[reason.label()]).get()
    }

    #[test]
    fn a_sink_that_blocks_stops_nobody_and_what_does_not_fit_is_counted() {
        let (logs, lines, answer) = hand();
        let queue = logs.queue();
        let line = vec![b'x'; MAX_BYTES / 4];
        queue.put(&line);
        assert_eq!(lines.recv().unwrap(), line);
        // The first one is in the hands of the sink, and counts until it has left.
        for _ in 0..5 {
            queue.put(&line);
        }
        assert_eq!(dropped(&logs, Lost::QueueFull), 2);
        for _ in 0..3 {
            answer.send(Ok(())).unwrap();
            lines.recv().unwrap();
        }
        answer.send(Ok(())).unwrap();
        drop(logs);
        assert_eq!(queue.0.state().bytes, 0);
    }

    #[test]
    fn a_line_that_cannot_be_written_is_counted_and_the_next_one_is_tried() {
        let (logs, lines, answer) = hand();
        let queue = logs.queue();
        queue.put(b"lost");
        lines.recv().unwrap();
        queue.put(b"kept");
        answer.send(Err(ErrorKind::StorageFull.into())).unwrap();
        assert_eq!(lines.recv().unwrap(), b"kept");
        assert_eq!(dropped(&logs, Lost::WriteFailed), 1);
        answer.send(Ok(())).unwrap();
    }

    #[test]
    fn a_sink_that_takes_nothing_at_the_moment_is_asked_again() {
        let (logs, lines, answer) = hand();
        logs.queue().put(b"line");
        assert_eq!(lines.recv().unwrap(), b"line");
        answer.send(Err(ErrorKind::WouldBlock.into())).unwrap();
        assert_eq!(lines.recv().unwrap(), b"line");
        answer.send(Ok(())).unwrap();
        drop(logs);
    }
}
