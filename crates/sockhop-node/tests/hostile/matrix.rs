//! Every state of a session against every class of input, each with its outcome.
//!
//! The expected outcomes are in `tests/hostile/matrix.tsv`. `UPDATE_MATRIX=1` writes what the node
//! does now; whoever commits that says with it that it is right.

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::inputs::{Ending, Http, Input, inputs};
use crate::peer::{Fault, Peer, head};
use crate::process::{Node, wait_until};
use crate::scene::{STATES, Scene, State, parked};

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
        let parks = input.method == "GET" && input.parks_in(scene.state);
        let rest = input.ending != Ending::Stays;
        if parks && peers.is_empty() {
            wait_until(PATIENCE, || parked(scene.node, 1))?;
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
fn cell(node: &Node, state: State, input: &Input, expected: Option<&str>) -> Result<String, Fault> {
    if matches!(input, Input::Http(http) if http.twice && http.method == "GET")
        && state == State::Upgrading
    {
        // The next release of polls may meet the first GET alone: chance.
        return Ok("–".to_owned());
    }
    let mut scene = Scene::set(node, state)?;
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

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/hostile/matrix.tsv")
}

/// Rows of the expected table: the input, then an outcome for each state.
pub(crate) fn expected() -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(path()).unwrap_or_default();
    let row = |line: &str| line.split('\t').map(str::to_owned).collect();
    text.lines().skip(1).map(row).collect()
}

#[test]
fn every_state_answers_every_input_as_the_matrix_says() {
    let update = std::env::var_os("UPDATE_MATRIX").is_some();
    let (inputs, expected) = (inputs(), expected());
    let next = Mutex::new((0..inputs.len() * STATES.len()).rev().collect::<Vec<_>>());
    let outcomes = Mutex::new(vec![String::new(); inputs.len() * STATES.len()]);
    let limits = [("SOCKHOP__LIMITS__SESSION_CLOSE_TIMEOUT_MS", "60000")];
    let slow = [
        ("SOCKHOP__SESSION__PING_INTERVAL_MS", "60000"),
        ("SOCKHOP__SESSION__UPGRADE_TIMEOUT_MS", "60000"),
        ("SOCKHOP__LIMITS__CONNECT_TIMEOUT_MS", "60000"),
    ];
    let impatient = ("SOCKHOP__LIMITS__CONNECT_TIMEOUT_MS", "50");
    let environment = [&limits[..], &slow[..]].concat();
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                let mut node = Node::start_with_defaults(&environment);
                let closing = Node::start_with_defaults(&[limits[0], impatient]);
                loop {
                    let Some(index) = next.lock().expect("no worker panics").pop() else {
                        break;
                    };
                    let (row, column) = (index / STATES.len(), index % STATES.len());
                    let wanted = expected.get(row).and_then(|row| row.get(column + 1));
                    let wanted = wanted.map(String::as_str).filter(|_| !update);
                    let state = STATES[column].0;
                    let node = if state == State::Closing {
                        &closing
                    } else {
                        &node
                    };
                    let outcome = cell(node, state, &inputs[row].1, wanted);
                    let outcome = outcome.unwrap_or_else(|fault| format!("fault: {fault}"));
                    outcomes.lock().expect("no worker panics")[index] = outcome;
                }
                assert!(node.lives(), "the process is gone");
            });
        }
    });
    let outcomes = outcomes.into_inner().expect("no worker panics");
    let rows: Vec<Vec<String>> = inputs
        .iter()
        .zip(outcomes.chunks(STATES.len()))
        .map(|((name, _), cells)| [std::slice::from_ref(name), cells].concat())
        .collect();
    if update {
        write(&rows);
    }
    compare(&rows);
}

fn write(rows: &[Vec<String>]) {
    let states = STATES.map(|(_, name)| name).join("\t");
    let lines: Vec<_> = rows.iter().map(|row| row.join("\t")).collect();
    let text = format!("input\t{states}\n{}\n", lines.join("\n"));
    std::fs::write(path(), text).expect("the matrix can be written");
}

fn compare(rows: &[Vec<String>]) {
    let expected = expected();
    let names = |rows: &[Vec<String>]| rows.iter().map(|row| row[0].clone()).collect::<Vec<_>>();
    assert_eq!(
        names(rows),
        names(&expected),
        "the matrix has other inputs: UPDATE_MATRIX=1"
    );
    let mut faults = Vec::new();
    for (row, wanted) in rows.iter().zip(&expected) {
        for (index, (is, should)) in row.iter().zip(wanted).enumerate().skip(1) {
            if is != should {
                let state = STATES[index - 1].1;
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
        "matrix: {} inputs, {} states, {} cells hold",
        rows.len(),
        STATES.len(),
        cells.count()
    );
}
