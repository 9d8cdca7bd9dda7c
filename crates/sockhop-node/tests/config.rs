//! The subcommands of the binary, and a node that is configured by a file.

mod support;

use std::path::PathBuf;
use std::process::{Command, Output};

use support::Node;

fn sockhop(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sockhop"))
        .args(arguments)
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn write(name: &str, content: &[u8]) -> PathBuf {
    let path = std::env::temp_dir().join(format!("sockhop-{}-{name}.toml", std::process::id()));
    std::fs::write(&path, content).unwrap();
    path
}

#[test]
fn the_default_config_is_checked_and_found_fine() {
    let printed = sockhop(&["default-config"], &[]);
    assert!(printed.status.success());
    let path = write("default", &printed.stdout);
    // Variables that are options do not get in the way of a subcommand.
    let environment = [("SOCKHOP_LOG", "debug")];
    let arguments = ["check-config", "--config", path.to_str().unwrap()];
    let checked = sockhop(&arguments, &environment);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(text(&checked.stdout), "the configuration is fine\n");
    assert_eq!(checked.status.code(), Some(0));
    assert_eq!(sockhop(&["check-config"], &[]).status.code(), Some(0));
}

#[test]
fn all_faults_are_printed_and_the_node_does_not_start_with_them() {
    let path = write("faults", b"[server]\nlisten = \"x\"\nport = 1\n");
    let file = path.to_str().unwrap();
    let environment = [("SOCKHOP__LIMITS__OUTBOX_BYTES", "much")];
    let checked = sockhop(&["check-config", "--config", file], &environment);
    let started = sockhop(&["--config", file, "--max-sessions", "0"], &environment);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(checked.status.code(), Some(1));
    assert_eq!(started.status.code(), Some(1));
    for output in [text(&checked.stdout), text(&started.stderr)] {
        for key in ["server.listen: ", "server.port: ", "limits.outbox_bytes: "] {
            assert!(output.lines().any(|line| line.starts_with(key)), "{output}");
        }
    }
    assert!(text(&started.stderr).contains("limits.max_sessions: 0 is too small"));
}

#[test]
fn a_node_serves_as_its_file_says_unless_an_option_says_otherwise() {
    let content = b"[server]\nlisten = \"nobody listens to an address that an option replaces\"\n\
                    path = \"/chat/\"\n[session]\nping_interval_ms = 4321\n";
    let path = write("serve", content);
    let node = Node::start(&["--config", path.to_str().unwrap()]);
    std::fs::remove_file(&path).unwrap();
    let (status, _, open) = node.get("/chat/?EIO=4&transport=polling", "");
    assert_eq!(status, 200);
    assert!(open.contains("\"pingInterval\":4321"), "{open}");
    assert_eq!(node.get("/socket.io/?EIO=4&transport=polling", "").0, 404);
}

#[test]
fn help_says_the_defaults_in_words() {
    let help = text(&sockhop(&["--help"], &[]).stdout);
    for words in [
        "Default: 127.0.0.1:8080",
        "Default: 25000",
        "check-config",
        "default-config",
    ] {
        assert!(help.contains(words), "{help}");
    }
}
