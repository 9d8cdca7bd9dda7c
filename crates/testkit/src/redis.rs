//! Real Redis servers for tests: on free ports of the loopback, in a folder of their own, without
//! persistence, gone when dropped.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Until a server that was started must answer; generous, for loaded machines.
const START_DEADLINE: Duration = Duration::from_secs(20);

/// A port found free may be taken by somebody else before the server has it.
const START_ATTEMPTS: usize = 5;

/// An answer of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisReply {
    /// A status or a string.
    Text(String),
    /// A number.
    Int(i64),
    /// Nothing.
    Nil,
    /// An error.
    Error(String),
    /// Several answers.
    List(Vec<Self>),
}

impl RedisReply {
    /// The text; fails the test if it is something else.
    ///
    /// # Panics
    /// As said.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            other => panic!("not a text: {other:?}"),
        }
    }

    /// The number; fails the test if it is something else.
    ///
    /// # Panics
    /// As said.
    #[must_use]
    pub fn int(&self) -> i64 {
        match self {
            Self::Int(number) => *number,
            other => panic!("not a number: {other:?}"),
        }
    }

    /// The parts; fails the test if it is something else.
    ///
    /// # Panics
    /// As said.
    #[must_use]
    pub fn list(&self) -> &[Self] {
        match self {
            Self::List(parts) => parts,
            other => panic!("not a list: {other:?}"),
        }
    }
}

/// A `redis-server` of one test. The program must be installed: `apt-get install redis-server`.
#[derive(Debug)]
pub struct RedisServer {
    folder: PathBuf,
    port: u16,
    options: Vec<String>,
    sentinel: bool,
    child: Option<Child>,
}

impl RedisServer {
    /// Starts one and waits until it answers.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts one with further options, each name followed by its value: `["--maxclients", "9"]`.
    /// `{port}` in a value is the port that was found free.
    ///
    /// # Panics
    /// It does not start.
    #[must_use]
    pub fn start_with(options: &[&str]) -> Self {
        Self::try_start(options, None)
    }

    /// Starts a sentinel with this configuration file.
    ///
    /// # Panics
    /// It does not start.
    #[must_use]
    pub fn start_sentinel(configuration: &str) -> Self {
        Self::try_start(&[], Some(configuration))
    }

    fn try_start(options: &[&str], sentinel: Option<&str>) -> Self {
        let folder = new_folder();
        let mut server = Self {
            folder,
            port: 0,
            options: options.iter().map(|&option| option.to_owned()).collect(),
            sentinel: sentinel.is_some(),
            child: None,
        };
        if let Some(configuration) = sentinel {
            let path = server.folder.join("sentinel.conf");
            fs::write(path, configuration).expect("a file in a new folder can be written");
        }
        for _ in 0..START_ATTEMPTS {
            server.port = free_port();
            if server.launch() {
                return server;
            }
        }
        panic!("redis-server does not start: {}", server.log());
    }

    /// The port of the loopback on which it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Its socket in the file system.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.join("redis.sock")
    }

    /// The value of one of the options that it was started with.
    pub(crate) fn option(&self, name: &str) -> &str {
        let position = self.options.iter().position(|option| option == name);
        let value = position.and_then(|position| self.options.get(position + 1));
        value.expect("an option of the start")
    }

    /// Its folder, which goes with it.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("redis.log")).unwrap_or_default()
    }

    /// Sends one command on a connection of its own, past every password and port. A server that
    /// changes its role closes all connections, so it is tried again for a while.
    ///
    /// # Panics
    /// The server is not there.
    #[must_use]
    pub fn ask(&self, words: &[&str]) -> RedisReply {
        let deadline = Instant::now() + START_DEADLINE;
        loop {
            match self.try_ask(words) {
                Ok(reply) => return reply,
                Err(error) => assert!(Instant::now() < deadline, "{words:?}: {error}"),
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends one command that must succeed.
    ///
    /// # Panics
    /// It fails.
    pub fn run(&self, words: &[&str]) {
        if let RedisReply::Error(error) = self.ask(words) {
            panic!("{words:?}: {error}");
        }
    }

    fn try_ask(&self, words: &[&str]) -> std::io::Result<RedisReply> {
        let stream = UnixStream::connect(self.socket())?;
        stream.set_read_timeout(Some(START_DEADLINE))?;
        let mut command = format!("*{}\r\n", words.len());
        for word in words {
            command.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        (&stream).write_all(command.as_bytes())?;
        read_reply(&mut BufReader::new(&stream))
    }

    /// Kills it, as a crash would.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it again on the same port.
    ///
    /// # Panics
    /// It does not start.
    pub fn start_again(&mut self) {
        self.stop();
        for _ in 0..START_ATTEMPTS {
            if self.launch() {
                return;
            }
        }
        panic!("redis-server does not start again: {}", self.log());
    }

    /// Stops its process without closing anything, as a machine that hangs.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Lets a frozen process go on.
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let child = self.child.as_ref().expect("the server runs");
        let status = Command::new("kill")
            .args([signal, &child.id().to_string()])
            .status();
        assert!(status.is_ok_and(|status| status.success()), "kill {signal}");
    }

    /// Runs the program and says whether it answers.
    fn launch(&mut self) -> bool {
        let port = self.port.to_string();
        let mut command = Command::new("redis-server");
        if self.sentinel {
            command
                .arg(self.folder.join("sentinel.conf"))
                .arg("--sentinel");
        }
        // An explicit port of the caller, such as 0, comes later and wins.
        command
            .args(["--port", &port, "--bind", "127.0.0.1"])
            .arg("--dir")
            .arg(&self.folder)
            .arg("--unixsocket")
            .arg(self.socket())
            .args(["--logfile", "redis.log", "--daemonize", "no"]);
        if !self.sentinel {
            command.args([
                "--save",
                "",
                "--appendonly",
                "no",
                "--repl-diskless-sync-delay",
                "0",
            ]);
        }
        let child = command
            .args(
                self.options
                    .iter()
                    .map(|option| option.replace("{port}", &port)),
            )
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let child = child.expect("redis-server is installed (apt-get install redis-server)");
        let child = self.child.insert(child);
        let deadline = Instant::now() + START_DEADLINE;
        while Instant::now() < deadline {
            if let Ok(Some(_)) = child.try_wait() {
                self.child = None;
                return false;
            }
            let answers = || {
                let stream = UnixStream::connect(self.folder.join("redis.sock")).ok()?;
                (&stream).write_all(b"*1\r\n$4\r\nPING\r\n").ok()?;
                read_reply(&mut BufReader::new(&stream)).ok()
            };
            if answers().is_some() {
                return true;
            }
            thread::sleep(Duration::from_millis(10));
        }
        self.stop();
        false
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.stop();
        // What is left in the folder for temporary files does no harm.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn new_folder() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("sockhop-redis-{}-{number}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    // An earlier process of this number may have been killed.
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a folder for temporary files");
    folder
}

/// A port that nobody has at this moment.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a bound address").port()
}

fn read_reply(stream: &mut impl BufRead) -> std::io::Result<RedisReply> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    let malformed = || std::io::Error::other("malformed reply");
    let (kind, rest) = line.trim_end().split_at_checked(1).ok_or_else(malformed)?;
    let number = || rest.parse::<i64>().map_err(|_| malformed());
    Ok(match kind {
        "+" => RedisReply::Text(rest.to_owned()),
        "-" => RedisReply::Error(rest.to_owned()),
        ":" => RedisReply::Int(number()?),
        "$" => match usize::try_from(number()?) {
            Err(_) => RedisReply::Nil,
            Ok(length) => {
                let mut bytes = vec![0; length + 2];
                stream.read_exact(&mut bytes)?;
                RedisReply::Text(String::from_utf8_lossy(&bytes[..length]).into_owned())
            }
        },
        "*" => match usize::try_from(number()?) {
            Err(_) => RedisReply::Nil,
            Ok(length) => {
                let parts = (0..length).map(|_| read_reply(stream));
                RedisReply::List(parts.collect::<Result<_, _>>()?)
            }
        },
        _ => return Err(malformed()),
    })
}
