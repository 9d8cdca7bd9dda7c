//! The program as a user starts it, against a real server.

mod real;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// A directory of one test, gone with it.
struct Directory(PathBuf);

impl Directory {
    fn new(test: &str) -> Self {
        let name = format!("sockhop-loadtest-{test}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a place for files");
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn loadtest(arguments: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_sockhop-loadtest");
    let output = Command::new(program).args(arguments).output();
    output.expect("the program starts")
}

/// Standard output of a run that ended with this status.
fn text(output: &Output, status: i32) -> String {
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{out}\n{err}");
    out
}

fn json(path: &Path) -> Value {
    let text = fs::read_to_string(path).expect("the report was written");
    serde_json::from_str(&text).expect("it is JSON")
}

fn count(report: &Value, pointer: &str) -> u64 {
    let value = report.pointer(pointer).and_then(Value::as_u64);
    value.unwrap_or_else(|| panic!("no {pointer} in {report}"))
}

#[test]
fn a_stated_mix_of_transports_and_versions_is_what_connects() {
    let directory = Directory::new("mix");
    let (file, url) = (directory.file("run.json"), real::start());
    let run = loadtest(&[
        "run",
        "soak",
        "--url",
        &url,
        "-c",
        "20",
        "-d",
        "2",
        "--quiet",
        "--churn-rate",
        "2",
        "--rooms",
        "4",
        "--mix",
        "websocket=50,upgrading=25,polling=25",
        "--eio",
        "4=80,3=20",
        "--fail-if",
        "loss>0",
        "--fail-if",
        "duplicates>0",
        "--fail-if",
        "reordered>0",
        "--fail-if",
        "leaks>0",
        "--fail-if",
        "errors>0",
        "--fail-if",
        "breaks>0",
        "--json",
        file.to_str().expect("a plain name"),
    ]);
    text(&run, 0);
    let report = json(&file);
    assert_eq!(count(&report, "/connected"), 20);
    for kind in ["websocket", "upgrading", "polling"] {
        assert!(count(&report, &format!("/handshake/{kind}/count")) > 0);
    }
    assert!(count(&report, "/upgrade/count") > 0);
    for pointer in ["/messages/owed", "/echoes/answered", "/closed"] {
        assert!(count(&report, pointer) > 0, "{pointer}: {report}");
    }
}

#[test]
fn conditions_decide_the_exit_status() {
    let url = real::start();
    let echo = [
        "run", "echo", "--app", "contract", "--url", &url, "-c", "5", "-d", "1", "--quiet",
    ];
    let with = |condition: &str| loadtest(&[&echo[..], &["--fail-if", condition]].concat());
    text(&with("loss>0"), 0);
    assert!(text(&with("echo-p50>1us"), 1).contains("FAILED: echo-p50>1us"));
    let unknown = with("p98>1ms");
    text(&unknown, 2);
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("handshake-p99"));
}

#[test]
fn a_scenario_stands_in_a_file_and_the_command_line_overrules_it() {
    let directory = Directory::new("file");
    let (file, run) = (directory.file("night.toml"), directory.file("run.json"));
    let scenario = format!(
        "scenario = \"broadcast\"\nurl = \"{}\"\napp = \"contract\"\nconnections = 7\n\
         duration = 2\nbroadcast-rate = 30\nat = [\"100ms=echo hello\", \"200ms=sleep 60\"]\nquiet = true\n",
        real::start()
    );
    fs::write(&file, scenario).expect("a place for files");
    let names = [&file, &run].map(|path| path.to_str().expect("a plain name").to_owned());
    text(
        &loadtest(&["run", &names[0], "-c", "9", "--json", &names[1]]),
        0,
    );
    let report = json(&run);
    assert_eq!(count(&report, "/connected"), 9);
    let published = count(&report, "/messages/published");
    assert!((20..100).contains(&published), "{published}");
    let outcomes = [0, 1].map(|at| &report["events"][at]["outcome"]);
    assert_eq!(outcomes, ["done", "still running at the end"]);
    let [disturbed, undisturbed] =
        ["/disturbed/count", "/undisturbed/count"].map(|pointer| count(&report, pointer));
    assert!(disturbed > 0 && undisturbed > 0, "{report}");
    assert_eq!(disturbed + undisturbed, count(&report, "/delivery/count"));
    assert!(count(&report, "/events/1/latency/count") > 0, "{report}");
    fs::write(&file, "scenario = \"broadcast\"\nconections = 7\n").expect("a place for files");
    let refused = loadtest(&["run", &names[0]]);
    text(&refused, 2);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("conections"));
}

#[test]
fn two_runs_are_compared_and_one_is_shown_as_a_page() {
    let directory = Directory::new("compare");
    let [a, b, page] = ["a.json", "b.json", "a.html"].map(|name| {
        let path = directory.file(name);
        path.to_str().expect("a plain name").to_owned()
    });
    let (url, pid) = (real::start(), std::process::id().to_string());
    for (connections, file) in [("4", &a), ("8", &b)] {
        text(
            &loadtest(&[
                "run",
                "echo",
                "--app",
                "contract",
                "--url",
                &url,
                "-c",
                connections,
                "-d",
                "1",
                "--quiet",
                "--pid",
                &pid,
                "--json",
                file,
            ]),
            0,
        );
    }
    let compared = text(&loadtest(&["compare", &a, &b]), 0);
    let row = |name: &str| compared.lines().find(|line| line.starts_with(name));
    let connected: Vec<&str> = row("connected")
        .expect("a row")
        .split_whitespace()
        .collect();
    assert_eq!(connected, ["connected", "4", "8", "2.00", "better"]);
    assert!(row("echo-p99").is_some(), "{compared}");
    // The server is a thread of this process, whose memory and CPU time `--pid` asked for.
    let report = json(Path::new(&a));
    assert_eq!(report["processes"][0]["pid"].to_string(), pid);
    assert!(count(&report, "/processes/0/pss_connected_kib") > 0);
    assert!(report["cost"]["cpu_per_message_us"].is_f64(), "{report}");

    text(&loadtest(&["html", &a, &page]), 0);
    let page = fs::read_to_string(page).expect("the page was written");
    let outside = ["src=\"http", "href=\"http", "src=\"//", "@import"];
    assert!(outside.iter().all(|link| !page.contains(link)));
    assert!(page.contains("Connections"));
}

#[test]
fn events_of_a_server_can_be_named() {
    let url = real::start();
    let run = loadtest(&[
        "run",
        "rooms",
        "--app",
        "none",
        "--url",
        &url,
        "-c",
        "10",
        "-d",
        "1",
        "--quiet",
        "--rooms",
        "3",
        "--rooms-each",
        "1",
        "--move-rate",
        "5",
        "--event",
        "join=join",
        "--event",
        "leave=[\"leave\",\"$room\"]",
        "--event",
        "room=room-emit",
        "--event",
        "room_skip=room-broadcast",
        "--fail-if",
        "loss>0",
        "--fail-if",
        "leaks>0",
        "--fail-if",
        "throughput<1",
    ]);
    text(&run, 0);
}
