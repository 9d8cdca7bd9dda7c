//! Every state of a session against every class of input, each with its outcome.
//!
//! The expected outcomes are in `tests/hostile/matrix.tsv`, and where a cluster that is asked at the
//! wrong node differs, in `matrix-cluster.tsv`. `UPDATE_MATRIX=1` writes what the nodes do now; whoever
//! commits that says with it that it is right.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use testkit::RedisServer;

use crate::inputs::{Ending, Http, Input, inputs};
use crate::peer::{Fault, Peer, head};
use crate::process::{Node, wait_until};
use crate::scene::{CLUSTER_STATES, Place, STATES, Scene, State, parked};

/// Cells that are tried at once, each worker with a node of its own.
const AT_ONCE: usize = 6;

/// How long the fate of a session may take to show.
const PATIENCE: Duration = Duration::from_secs(10);

/// Writes a request, or two; what became of them in words.
fn send(scene: &mut Scene<'_>, input: &Http) -> Result<String, Fault> {
    let mut bytes = request_bytes(scene, input);
    bytes.truncate(bytes.len() - input.missing);
    let mut peers: Vec<Peer> = Vec::new();
    let mut answers = Vec::new();
    for _ in 0..=usize::from(input.twice) {
        let mut peer = scene.connect()?;
        peer.write(&bytes);
        let parks = input.may_wait() && scene.parks();
        let rest = input.ending != Ending::Stays;
        if parks && peers.is_empty() {
            wait_until(PATIENCE, || parked(scene.owner(), 1))?;
        } else if rest || !input.twice {
            // The node has read the head when it answers it, or asks for the body.
            match words(&mut peer) {
                word if word == "100" => {}
                word => answers.push(word),
            }
        }
        match input.ending {
            Ending::Stays => {}
            Ending::HalfClose => peer.half_close(),
            Ending::Reset => {
                peer.reset();
                continue;
            }
        }
        peers.push(peer);
    }
    let waits = input.ending == Ending::Stays && !input.twice && answers.is_empty();
    if waits {
        answers.push("waits".to_owned());
    } else if answers.is_empty() {
        answers.extend(peers.iter_mut().map(words));
    }
    // A request that goes away is another input.
    scene.waiting = peers;
    if input.twice {
        // Which of two is first, and whether the second still finds its session, is chance.
        answers.iter_mut().for_each(|answer| answer.truncate(3));
        answers.sort();
    }
    if scene.is_passed_on() && input.missing > 0 {
        // Whether the owner has refused the request before it hears that its body is cut off is
        // chance, and so is whether the door has asked for the body.
        match input.ending {
            Ending::Stays => {}
            Ending::HalfClose => answers.iter_mut().for_each(|answer| answer.truncate(3)),
            Ending::Reset => answers.clear(),
        }
    }
    Ok(answers.join(" + "))
}

/// An answer in words.
fn words(peer: &mut Peer) -> String {
    match peer.answer(Instant::now() + PATIENCE) {
        Ok(answer) => match answer.code() {
            Some(code) => format!("{} code {code}", answer.status),
            None if answer.sid().is_some() => format!("{} opens", answer.status),
            None => answer.status.to_string(),
        },
        Err(_) => "end".to_owned(),
    }
}

fn request_bytes(scene: &Scene<'_>, input: &Http) -> Vec<u8> {
    let mut headers = input.headers.clone();
    if !headers.iter().any(|line| line.starts_with("Connection")) {
        headers.push("Connection: close".to_owned());
    }
    if let Some(body) = &input.body {
        headers.push(format!("Content-Length: {}", body.len()));
    }
    let target = scene.target(input.eio, input.transport);
    let mut bytes = head(input.method, &target, &headers).into_bytes();
    bytes.extend(input.body.iter().flatten());
    bytes
}

/// Tries a cell until it is as expected, or what it is after all the patience.
fn cell(
    place: Place<'_>,
    state: State,
    input: &Input,
    expected: Option<&str>,
) -> Result<String, Fault> {
    if matches!(input, Input::Http(http) if http.twice && http.method == "GET")
        && state == State::Upgrading
    {
        // The next release of polls may meet the first GET alone: chance.
        return Ok("–".to_owned());
    }
    let mut scene = Scene::set(place, state)?;
    let mut said = match input {
        Input::Http(http) => vec![send(&mut scene, http)?],
        Input::Frames(bytes, ending) => {
            if scene.frames(bytes).is_none() {
                return Ok("–".to_owned());
            }
            match ending {
                Ending::Stays => {}
                Ending::HalfClose => scene.websocket.iter().for_each(Peer::half_close),
                Ending::Reset => scene.websocket.take().into_iter().for_each(Peer::reset),
            }
            vec![String::new()]
        }
    };
    let mut websocket = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    let settled = Instant::now() + Duration::from_millis(300);
    loop {
        if websocket.last().is_none_or(|last| last == "open") {
            websocket.pop();
            websocket.extend(scene.websocket_says());
        }
        if said.len() < 2 {
            said.push(scene.poll_says());
        }
        let fate = scene.fate()?;
        let parts = [
            said[0].clone(),
            websocket.join(" "),
            said[1].clone(),
            fate.to_owned(),
        ];
        let words: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        let outcome = if words.is_empty() {
            "nothing".to_owned()
        } else {
            words.join(", ")
        };
        let now = Instant::now();
        let done = match expected {
            Some(expected) => outcome == expected || now >= deadline,
            None => now >= settled,
        };
        if done {
            return Ok(outcome);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn path(file: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    folder.join("../../tests/hostile").join(file)
}

fn read(file: &str) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(path(file)).unwrap_or_default();
    let row = |line: &str| line.split('\t').map(str::to_owned).collect();
    text.lines().skip(1).map(row).collect()
}

/// Rows of the expected table: the input, then an outcome for each state.
pub(crate) fn expected() -> Vec<Vec<String>> {
    read("matrix.tsv")
}

/// What is different on a cluster: input, state, outcome.
pub(crate) fn differences() -> Vec<Vec<String>> {
    read("matrix-cluster.tsv")
}

/// The table of a cluster: that of one node with the differences. What another node has not heard
/// of yet is as open as any other session, and what is of no node is as unknown.
fn expected_on_a_cluster() -> Vec<Vec<String>> {
    let column = |state| {
        let column = STATES.iter().position(|(other, _)| *other == state);
        column.expect("it is a column") + 1
    };
    let (open, foreign) = (column(State::PollingOpen), column(State::Foreign));
    let mut rows = expected();
    for row in &mut rows {
        row.push(row[foreign].clone());
        row[foreign] = row[open].clone();
    }
    let names = CLUSTER_STATES.map(|(_, name)| name);
    for difference in differences() {
        let row = rows.iter_mut().find(|row| row[0] == difference[0]);
        let column = names.iter().position(|name| *name == difference[1]);
        if let (Some(row), Some(column)) = (row, column) {
            row[column + 1].clone_from(&difference[2]);
        }
    }
    rows
}

const NEVER_CLOSED: (&str, &str) = ("SOCKHOP__LIMITS__SESSION_CLOSE_TIMEOUT_MS", "60000");

/// Deadlines of the node that has the sessions: none passes meanwhile.
const PATIENT: [(&str, &str); 4] = [
    NEVER_CLOSED,
    ("SOCKHOP__SESSION__PING_INTERVAL_MS", "60000"),
    ("SOCKHOP__SESSION__UPGRADE_TIMEOUT_MS", "60000"),
    ("SOCKHOP__LIMITS__CONNECT_TIMEOUT_MS", "60000"),
];

/// Those of the node whose sessions are closed before they join anything.
const IMPATIENT: [(&str, &str); 2] = [NEVER_CLOSED, ("SOCKHOP__LIMITS__CONNECT_TIMEOUT_MS", "50")];

/// What a worker tries its cells on.
struct Field {
    patient: Node,
    impatient: Node,
    /// On a cluster: the node that is asked for the sessions of the others.
    door: Option<Node>,
}

impl Field {
    fn one_node() -> Self {
        Self {
            patient: Node::start_with_defaults(&PATIENT),
            impatient: Node::start_with_defaults(&IMPATIENT),
            door: None,
        }
    }

    /// A cluster of three, of its own by the prefix of its channels.
    fn cluster(redis: &RedisServer, prefix: &str) -> Self {
        let url = redis.url();
        let cluster = [
            ("SOCKHOP__REDIS__URL", url.as_str()),
            ("SOCKHOP__REDIS__PREFIX", prefix),
        ];
        let start = |more: &[_]| Node::start_with_defaults(&[&cluster[..], more].concat());
        let field = Self {
            patient: start(&PATIENT),
            impatient: start(&IMPATIENT),
            door: Some(start(&PATIENT)),
        };
        field.nodes().for_each(|node| node.wait_for_members(3));
        field
    }

    fn nodes(&self) -> impl Iterator<Item = &Node> {
        [&self.patient, &self.impatient]
            .into_iter()
            .chain(&self.door)
    }

    fn place(&self, state: State) -> Place<'_> {
        Place {
            owner: match state {
                State::Closing => &self.impatient,
                _ => &self.patient,
            },
            door: self.door.as_ref(),
        }
    }
}

fn updates() -> bool {
    std::env::var_os("UPDATE_MATRIX").is_some()
}

/// Tries all cells, several at once, each worker with nodes of its own.
fn try_all(
    states: &[(State, &str)],
    expected: &[Vec<String>],
    start: impl Fn() -> Field + Sync,
) -> Vec<Vec<String>> {
    let inputs = inputs();
    let cells = inputs.len() * states.len();
    let next = Mutex::new((0..cells).rev().collect::<Vec<_>>());
    let outcomes = Mutex::new(vec![String::new(); cells]);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                let mut field = start();
                loop {
                    let Some(index) = next.lock().expect("no worker panics").pop() else {
                        break;
                    };
                    let (row, column) = (index / states.len(), index % states.len());
                    let wanted = expected.get(row).and_then(|row| row.get(column + 1));
                    let wanted = wanted.map(String::as_str).filter(|_| !updates());
                    let state = states[column].0;
                    let outcome = cell(field.place(state), state, &inputs[row].1, wanted);
                    let outcome = outcome.unwrap_or_else(|fault| format!("fault: {fault}"));
                    outcomes.lock().expect("no worker panics")[index] = outcome;
                }
                let nodes = [&mut field.patient, &mut field.impatient];
                let lives = nodes.into_iter().chain(&mut field.door).all(Node::lives);
                assert!(lives, "a process is gone");
            });
        }
    });
    let outcomes = outcomes.into_inner().expect("no worker panics");
    let rows = inputs.iter().zip(outcomes.chunks(states.len()));
    rows.map(|((name, _), cells)| [std::slice::from_ref(name), cells].concat())
        .collect()
}

#[test]
fn every_state_answers_every_input_as_the_matrix_says() {
    let rows = try_all(&STATES, &expected(), Field::one_node);
    if updates() {
        let states = STATES.map(|(_, name)| name).join("\t");
        write("matrix.tsv", &format!("input\t{states}"), &rows);
    }
    compare("one node", &STATES, &rows, &expected());
}

#[test]
fn every_state_answers_every_input_through_another_node_as_well() {
    let redis = RedisServer::start();
    let workers = AtomicUsize::new(0);
    let rows = try_all(&CLUSTER_STATES, &expected_on_a_cluster(), || {
        let worker = workers.fetch_add(1, Ordering::Relaxed);
        Field::cluster(&redis, &format!("matrix-{worker}"))
    });
    if updates() {
        write("matrix-cluster.tsv", "input\tstate\toutcome", &[]);
        let mut different = Vec::new();
        for (row, same) in rows.iter().zip(expected_on_a_cluster()) {
            for (column, (_, state)) in CLUSTER_STATES.iter().enumerate() {
                if row[column + 1] != same[column + 1] {
                    let outcome = row[column + 1].clone();
                    different.push(vec![row[0].clone(), (*state).to_owned(), outcome]);
                }
            }
        }
        write("matrix-cluster.tsv", "input\tstate\toutcome", &different);
    }
    compare(
        "three nodes",
        &CLUSTER_STATES,
        &rows,
        &expected_on_a_cluster(),
    );
}

fn write(file: &str, head: &str, rows: &[Vec<String>]) {
    let lines = rows.iter().map(|row| format!("{}\n", row.join("\t")));
    let text = format!("{head}\n{}", lines.collect::<String>());
    std::fs::write(path(file), text).expect("the matrix can be written");
}

fn compare(what: &str, states: &[(State, &str)], rows: &[Vec<String>], expected: &[Vec<String>]) {
    let names = |rows: &[Vec<String>]| rows.iter().map(|row| row[0].clone()).collect::<Vec<_>>();
    assert_eq!(
        names(rows),
        names(expected),
        "the matrix has other inputs: UPDATE_MATRIX=1"
    );
    let mut faults = Vec::new();
    for (row, wanted) in rows.iter().zip(expected) {
        for (index, (is, should)) in row.iter().zip(wanted).enumerate().skip(1) {
            if is != should {
                let state = states[index - 1].1;
                faults.push(format!("{state} × {}: {is:?}, not {should:?}", row[0]));
            }
        }
    }
    assert!(
        faults.is_empty(),
        "{} cells differ:\n{}",
        faults.len(),
        faults.join("\n")
    );
    let cells = rows
        .iter()
        .flat_map(|row| &row[1..])
        .filter(|cell| *cell != "–");
    eprintln!(
        "matrix, {what}: {} inputs, {} states, {} cells hold",
        rows.len(),
        states.len(),
        cells.count()
    );
}
