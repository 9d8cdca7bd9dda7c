//! The format of a corpus file: cases of steps, each with what it expects.

use std::path::Path;

use serde::Deserialize;

/// One file of the corpus.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Script {
    /// The published report, or the pain it answers.
    pub(crate) id: String,
    /// What broke elsewhere.
    pub(crate) broke: String,
    /// What holds here.
    pub(crate) holds: String,
    /// Who is attacked. Default: the binary.
    #[serde(default)]
    pub(crate) program: Program,
    /// How far the process may grow while the file runs. Default 48.
    #[serde(default = "default_peak_mib")]
    pub(crate) peak_mib: u64,
    #[serde(rename = "case")]
    pub(crate) cases: Vec<Case>,
}

/// What a node runs.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Program {
    /// The binary, with its chat.
    #[default]
    Sockhop,
    /// The example, which also has a mount for MessagePack.
    Contract,
}

fn default_peak_mib() -> u64 {
    48
}

/// One conversation, with every value of `each` in place of `{each}`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) each: Vec<String>,
    /// Runs with an eighth of this in place of `n`, then with all of it: the time that the server
    /// computes may grow with the input, not faster.
    pub(crate) linear: Option<usize>,
    /// Only where there is a Redis.
    #[serde(default)]
    pub(crate) needs_redis: bool,
    pub(crate) steps: Vec<Step>,
}

/// Something that a peer does, or expects.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Step {
    /// Opens a session; its id is `{sid}` from here on.
    Open(Open),
    /// A request on a connection of its own.
    Request(Request),
    /// A request whose answer comes later, or never: the connection gets the name.
    Begin(Begin),
    /// The answer of a connection that was begun.
    Answer(Expect),
    /// Connects without a word; the connection gets the name.
    Connect(String),
    /// Bytes on the current connection.
    Write(Data),
    /// Bytes on the current connection, one by one.
    Drip(Data),
    /// Bytes for as long as the server takes them; nobody reads.
    Stuff(Data),
    /// Frames on the current WebSocket.
    Frame(FrameStep),
    /// MessagePack as a binary frame on the current WebSocket.
    Msgpack(Words),
    /// A text frame on the current WebSocket.
    Text(String),
    /// The next text frame begins with this.
    Expect(String),
    /// The WebSocket ends, with one of these statuses if it says any; 0 is none.
    Closed(Vec<u16>),
    /// The connection ends, whatever arrives before.
    Ends(u64),
    /// The client ends its half of the current connection.
    HalfClose(Yes),
    /// The current connection ends with a RST.
    Reset(Yes),
    /// Goes back to a connection by its name.
    On(String),
    /// The current WebSocket still serves.
    Echo(Yes),
    /// The polling session is still there, or not.
    Alive(bool),
    /// The request, cut off after every byte, by a RST and by an end.
    CutEverywhere(Request),
    /// This many handshakes have ids without anything in common.
    Sids(usize),
    /// A message on a channel of the cluster's Redis.
    Publish(Publish),
    /// This many sessions that are opened and forgotten.
    Abandon(Abandon),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Open {
    pub(crate) transport: String,
    #[serde(default = "socket_io")]
    pub(crate) mount: String,
    #[serde(default = "default_eio")]
    pub(crate) eio: String,
    /// More of the query string.
    #[serde(default)]
    pub(crate) query: String,
    /// Whether the client joins `/` at once. Default true, for a WebSocket.
    #[serde(default = "yes")]
    pub(crate) join: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Publish {
    pub(crate) channel: String,
    pub(crate) message: Data,
    /// Whether it is all right that no node listens there.
    #[serde(default)]
    pub(crate) to_nobody: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Abandon {
    pub(crate) count: usize,
    /// `polling`, `parked`, `probing` or `websocket`.
    pub(crate) how: String,
}

fn socket_io() -> String {
    "/socket.io/".to_owned()
}

fn default_eio() -> String {
    "4".to_owned()
}

fn yes() -> bool {
    true
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    #[serde(default = "get")]
    pub(crate) method: String,
    pub(crate) target: String,
    #[serde(default)]
    pub(crate) headers: Vec<String>,
    /// Adds the headers of a WebSocket.
    #[serde(default)]
    pub(crate) upgrade: bool,
    pub(crate) body: Option<Data>,
    /// The statuses that are an answer; 0 is the end of the connection without one.
    #[serde(default)]
    pub(crate) status: Vec<u16>,
    /// The code in the answer's JSON body.
    pub(crate) code: Option<u64>,
    /// What the answer's head and body must not hold.
    pub(crate) without: Option<String>,
    /// How the answer's body begins.
    pub(crate) begins: Option<String>,
    #[serde(default = "default_deadline_ms")]
    pub(crate) deadline_ms: u64,
}

fn get() -> String {
    "GET".to_owned()
}

pub(crate) fn default_deadline_ms() -> u64 {
    10_000
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Begin {
    pub(crate) name: String,
    pub(crate) request: Request,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Expect {
    pub(crate) name: String,
    pub(crate) status: Vec<u16>,
    #[serde(default = "default_deadline_ms")]
    pub(crate) deadline_ms: u64,
}

/// `true`: a step that says nothing more.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "bool")]
pub(crate) struct Yes;

impl TryFrom<bool> for Yes {
    type Error = &'static str;

    fn try_from(value: bool) -> Result<Self, Self::Error> {
        value.then_some(Self).ok_or("the only value is `true`")
    }
}

/// Bytes: `text` or `hex`, then `repeat` as often as `times` says, then `end`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Data {
    #[serde(default)]
    pub(crate) text: String,
    #[serde(default)]
    pub(crate) hex: String,
    #[serde(default)]
    pub(crate) repeat: String,
    /// 0: as often as the case's `linear` says.
    #[serde(default)]
    pub(crate) times: usize,
    #[serde(default)]
    pub(crate) end: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FrameStep {
    /// FIN, RSV bits and opcode. Default 129: a whole text.
    #[serde(default = "whole_text")]
    pub(crate) first: u8,
    #[serde(default = "yes")]
    pub(crate) masked: bool,
    /// The length that the header claims, as a number too large for some parsers.
    pub(crate) declared: Option<String>,
    #[serde(default)]
    pub(crate) payload: Data,
    /// How often; 0: as often as the case's `linear` says.
    #[serde(default = "once")]
    pub(crate) times: usize,
}

fn whole_text() -> u8 {
    0x81
}

fn once() -> usize {
    1
}

impl Data {
    pub(crate) fn bytes(&self, vars: &Vars) -> Vec<u8> {
        let mut bytes = vars.fill(&self.text).into_bytes();
        bytes.extend(from_hex(&vars.fill(&self.hex)));
        let times = vars.times(self.times);
        bytes.extend(vars.fill(&self.repeat).repeat(times).into_bytes());
        bytes.extend(vars.fill(&self.end).into_bytes());
        bytes
    }
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let bytes = digits.chunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair).unwrap_or_default();
        u8::from_str_radix(pair, 16).unwrap_or_default()
    });
    bytes.collect()
}

/// MessagePack, with spaces between its words: bytes in hex, or `'` and a string of at most 31 bytes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Words {
    pub(crate) words: String,
    #[serde(default)]
    pub(crate) repeat: String,
    /// 0: as often as the case's `linear` says.
    #[serde(default)]
    pub(crate) times: usize,
    #[serde(default)]
    pub(crate) end: String,
}

impl Words {
    pub(crate) fn bytes(&self, vars: &Vars) -> Vec<u8> {
        let mut bytes = words(&vars.fill(&self.words));
        bytes.extend(words(&vars.fill(&self.repeat)).repeat(vars.times(self.times)));
        bytes.extend(words(&vars.fill(&self.end)));
        bytes
    }
}

/// The bytes of words of MessagePack.
pub(crate) fn words(text: &str) -> Vec<u8> {
    let word = |word: &str| match word.strip_prefix('\'') {
        Some(text) => {
            let len = u8::try_from(text.len()).ok().filter(|len| *len < 32);
            let len = len.expect("a short string");
            [&[0xa0 | len], text.as_bytes()].concat()
        }
        None => from_hex(word),
    };
    text.split_whitespace().flat_map(word).collect()
}

/// What stands for `{sid}`, `{each}` and a number of times.
#[derive(Clone, Debug, Default)]
pub(crate) struct Vars {
    pub(crate) sid: String,
    pub(crate) each: String,
    pub(crate) n: usize,
}

impl Vars {
    pub(crate) fn fill(&self, text: &str) -> String {
        text.replace("{sid}", &self.sid)
            .replace("{each}", &self.each)
    }

    pub(crate) fn times(&self, times: usize) -> usize {
        if times == 0 { self.n } else { times }
    }
}

/// All files of the corpus by their names.
pub(crate) fn corpus() -> Vec<(String, Script)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/hostile/corpus");
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .expect("the corpus is there")
        .map(|entry| entry.expect("a file of the corpus").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    files.sort();
    let read = |path: &std::path::PathBuf| {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let text = std::fs::read_to_string(path).expect("a file of the corpus is text");
        let script = toml::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        (name.into_owned(), script)
    };
    files.iter().map(read).collect()
}
