//! The real binary under attack, what the system says about it, and a witness: a client that
//! behaves, and must be served all the while.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::peer::{Answer, Arrived, Fault, Frame, Peer, head, sid_in, upgrade_headers};

/// How long anything that must happen may take on a machine with other work.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Deadlines of the node under test, short so that a test sees them pass.
const OPTIONS: [&str; 12] = [
    "--listen",
    "127.0.0.1:0",
    "--ping-interval-ms",
    "2000",
    "--ping-timeout-ms",
    "2000",
    "--upgrade-timeout-ms",
    "1000",
    "--connect-timeout-ms",
    "2000",
    "--header-timeout-ms",
    "1500",
];

/// The same deadlines for the example.
const CONTRACT: [(&str, &str); 6] = [
    ("PORT", "0"),
    ("PING_INTERVAL", "2000"),
    ("PING_TIMEOUT", "2000"),
    ("UPGRADE_TIMEOUT", "1000"),
    ("CONNECT_TIMEOUT", "2000"),
    ("HEADER_TIMEOUT", "1500"),
];

/// What has no option.
const VARIABLES: [(&str, &str); 3] = [
    ("SOCKHOP__SERVER__IDLE_TIMEOUT_MS", "1500"),
    ("SOCKHOP__LIMITS__SESSION_CLOSE_TIMEOUT_MS", "500"),
    ("SOCKHOP__LIMITS__ATTACHMENT_TIMEOUT_MS", "1500"),
];

/// An event that the chat acknowledges.
const CHAT_MESSAGE: &str = "chat message";

/// One node: a process of its own, killed with this value.
pub(crate) struct Node {
    process: Child,
    pub(crate) address: SocketAddr,
    /// Where its metrics and its readiness are asked for.
    control: SocketAddr,
    /// What it acknowledges with what it was sent.
    echo_event: &'static str,
}

impl Node {
    /// A node whose deadlines are short.
    pub(crate) fn start(more: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sockhop"));
        command.args(OPTIONS).envs(VARIABLES);
        Self::run(command, more)
    }

    /// The example, with the same deadlines; one of a cluster if `redis_url` says where it meets.
    pub(crate) fn start_contract(redis_url: &str) -> Self {
        let binary = PathBuf::from(env!("CARGO_BIN_EXE_sockhop"));
        let program = binary.with_file_name("examples").join("contract");
        let hint = "cargo build -p sockhop-node --example contract";
        assert!(program.exists(), "{} is missing: {hint}", program.display());
        let environment = CONTRACT.into_iter().chain([("REDIS_URL", redis_url)]);
        let environment: Vec<_> = environment.collect();
        let mut node = Self::run(Command::new(program), &environment);
        node.echo_event = "message-with-ack";
        node
    }

    /// A node as anybody would start it, but for `environment`.
    pub(crate) fn start_with_defaults(environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sockhop"));
        command.args(&OPTIONS[..2]);
        Self::run(command, environment)
    }

    /// A node that may open only so many files.
    pub(crate) fn start_with_descriptors(descriptors: usize) -> Self {
        let mut command = Command::new("sh");
        let binary = env!("CARGO_BIN_EXE_sockhop");
        let script = format!("ulimit -n {descriptors}; exec {binary} \"$@\"");
        command.args(["-c", &script, "sh"]).args(&OPTIONS[..2]);
        Self::run(command, &[])
    }

    fn run(mut command: Command, environment: &[(&str, &str)]) -> Self {
        let mut process = command
            .envs(environment.iter().copied())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let stderr = process.stderr.take().expect("its log is a pipe");
        let mut lines = BufReader::new(stderr).lines().map_while(Result::ok);
        let address = lines.find_map(|line| {
            let (_, address) = line.split_once("listening on http://")?;
            address.trim().parse().ok()
        });
        // What it logs later must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let address = address.expect("the node says where it listens");
        Self::of(process, address, address)
    }

    /// A node that was started some other way.
    pub(crate) fn of(process: Child, address: SocketAddr, control: SocketAddr) -> Self {
        Self {
            process,
            address,
            control,
            echo_event: CHAT_MESSAGE,
        }
    }

    /// Waits until the node knows of this many, itself included.
    pub(crate) fn wait_for_members(&self, members: u64) {
        let known = || match self.metric("sockhop_node_members")? {
            now if now >= members => Ok(()),
            now => Err(format!("{now} members")),
        };
        wait_until(PATIENCE, known).expect("the nodes find each other");
    }

    /// Kills it, as a crash would.
    pub(crate) fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn lives(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(None))
    }

    fn proc(&self, file: &str) -> String {
        let path = format!("/proc/{}/{file}", self.process.id());
        fs::read_to_string(path).unwrap_or_default()
    }

    pub(crate) fn descriptors(&self) -> usize {
        let path = format!("/proc/{}/fd", self.process.id());
        fs::read_dir(path).map_or(usize::MAX, Iterator::count)
    }

    /// A field of the process's status, in MiB.
    fn status_mib(&self, field: &str) -> u64 {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        kib.unwrap_or_default() / 1024
    }

    pub(crate) fn resident_mib(&self) -> u64 {
        self.status_mib("VmRSS:")
    }

    /// Resident memory that is no file's: heap and stacks.
    pub(crate) fn anonymous_mib(&self) -> u64 {
        self.status_mib("RssAnon:")
    }

    pub(crate) fn peak_mib(&self) -> u64 {
        self.status_mib("VmHWM:")
    }

    /// From here on [`Self::peak_mib`] begins anew.
    pub(crate) fn forget_peak(&self) {
        let _ = fs::write(format!("/proc/{}/clear_refs", self.process.id()), "5");
    }

    /// Computing time of all threads so far.
    pub(crate) fn computed(&self) -> Duration {
        let tasks = format!("/proc/{}/task", self.process.id());
        let entries = fs::read_dir(tasks).into_iter().flatten().flatten();
        let nanos = entries.filter_map(|entry| {
            let text = fs::read_to_string(entry.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(nanos.sum())
    }

    /// Open sessions, as the node's metrics count them.
    pub(crate) fn sessions(&self) -> Result<u64, Fault> {
        self.metric("sockhop_engine_sessions")
    }

    /// The value of the line of the metrics that begins with `line`.
    pub(crate) fn metric_line(&self, line: &str) -> Result<u64, Fault> {
        let metrics = self.metrics()?;
        let value = metrics
            .lines()
            .find_map(|other| other.strip_prefix(line)?.trim().parse().ok());
        Ok(value.unwrap_or(0))
    }

    pub(crate) fn metrics(&self) -> Result<String, Fault> {
        Ok(self.page("/metrics")?.body)
    }

    /// A page of the control listener, or of the public one if there is no other.
    pub(crate) fn page(&self, path: &str) -> Result<Answer, Fault> {
        let mut peer = Peer::connect(self.control)?;
        let close = ["Connection: close".to_owned()];
        peer.write(head("GET", path, &close).as_bytes());
        peer.answer(Instant::now() + PATIENCE)
    }

    /// The sum of a metric over its labels.
    pub(crate) fn metric(&self, name: &str) -> Result<u64, Fault> {
        let metrics = self.metrics()?;
        let values = metrics
            .lines()
            .filter(|line| {
                line.strip_prefix(name)
                    .is_some_and(|rest| rest.starts_with([' ', '{']))
            })
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
        Ok(values.sum())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A WebSocket session of `address`, joined to `/`, and its id.
pub(crate) fn open_websocket(address: SocketAddr) -> Result<(Peer, String), Fault> {
    let mut peer = Peer::connect(address)?;
    let target = "/socket.io/?EIO=4&transport=websocket";
    peer.write(head("GET", target, &upgrade_headers()).as_bytes());
    let deadline = Instant::now() + PATIENCE;
    let answer = peer.answer(deadline)?;
    if answer.status != 101 {
        return Err(format!("no WebSocket but {}", answer.status));
    }
    let Arrived::Text(opened) = peer.arrived(deadline)? else {
        return Err("no open packet".to_owned());
    };
    let sid = sid_in(&opened).ok_or("no session id")?;
    peer.write(&Frame::text("40").bytes());
    match peer.arrived(deadline)? {
        Arrived::Text(text) if text.starts_with("40") => Ok((peer, sid)),
        other => Err(format!("not joined but {other:?}")),
    }
}

/// Asks for an acknowledgement and waits for it.
pub(crate) fn echo(peer: &mut Peer, number: usize) -> Result<(), Fault> {
    echo_of(peer, CHAT_MESSAGE, number)
}

fn echo_of(peer: &mut Peer, event: &str, number: usize) -> Result<(), Fault> {
    let deadline = Instant::now() + PATIENCE;
    peer.write(&Frame::text(&format!("42{number}[\"{event}\",{{\"text\":1}}]")).bytes());
    let wanted = format!("43{number}[");
    loop {
        match peer.arrived(deadline)? {
            Arrived::Text(text) if text.starts_with(&wanted) => return Ok(()),
            Arrived::Text(_) | Arrived::Binary(_) | Arrived::Pong => {}
            other => return Err(format!("no echo but {other:?}")),
        }
    }
}

/// Echoes on a session of its own until it is dropped.
pub(crate) struct Witness {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Vec<Duration>, Fault>>>,
}

impl Witness {
    pub(crate) fn start(address: SocketAddr) -> Result<Self, Fault> {
        Self::echoing(address, CHAT_MESSAGE)
    }

    /// The witness of a node of any program.
    pub(crate) fn of(node: &Node) -> Result<Self, Fault> {
        Self::echoing(node.address, node.echo_event)
    }

    fn echoing(address: SocketAddr, event: &'static str) -> Result<Self, Fault> {
        let (mut peer, _) = open_websocket(address)?;
        // A room of its own: what attackers say to everybody is not for it.
        peer.write(&Frame::text("42[\"join room\",{\"name\":\"w\",\"room\":\"quiet\"}]").bytes());
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut waits = Vec::new();
            let mut number = 0;
            while !stopped.load(Ordering::Relaxed) {
                let began = Instant::now();
                echo_of(&mut peer, event, number)?;
                waits.push(began.elapsed());
                number = (number + 1) % 1000;
                // A pace, not a condition.
                std::thread::sleep(Duration::from_millis(20));
            }
            Ok(waits)
        });
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }

    /// Whether it was served to this moment, how often, and its longest wait.
    pub(crate) fn finish(self) -> Result<(usize, Duration), Fault> {
        let waits = self.waits()?;
        Ok((waits.len(), waits.last().copied().unwrap_or_default()))
    }

    /// As [`Self::finish`], but the wait that 99 of 100 stay below.
    pub(crate) fn finish_with_p99(self) -> Result<(usize, Duration), Fault> {
        let waits = self.waits()?;
        let p99 = waits.get(waits.len() * 99 / 100).copied();
        Ok((waits.len(), p99.unwrap_or_default()))
    }

    /// All waits, the longest last.
    fn waits(mut self) -> Result<Vec<Duration>, Fault> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("it is finished once");
        let mut waits = thread.join().map_err(|_| "the witness panicked")??;
        waits.sort_unstable();
        Ok(waits)
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Waits until `ready` says so.
pub(crate) fn wait_until(
    patience: Duration,
    mut ready: impl FnMut() -> Result<(), Fault>,
) -> Result<(), Fault> {
    let deadline = Instant::now() + patience;
    loop {
        match ready() {
            Ok(()) => return Ok(()),
            Err(fault) if Instant::now() >= deadline => return Err(fault),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}
