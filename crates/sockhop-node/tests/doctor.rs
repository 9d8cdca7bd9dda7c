//! `sockhop doctor` as its user meets it.

use std::net::TcpListener;
use std::process::{Command, Output};

use testkit::RedisServer;

fn doctor(environment: &[(&str, &str)]) -> (String, Option<i32>) {
    let Output { stdout, status, .. } = Command::new(env!("CARGO_BIN_EXE_sockhop"))
        .arg("doctor")
        .env("SOCKHOP__SERVER__LISTEN", "127.0.0.1:0")
        .env("SOCKHOP__LIMITS__MAX_SESSIONS", "10")
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    (String::from_utf8(stdout).unwrap(), status.code())
}

#[test]
fn a_machine_without_faults_is_ready() {
    let (report, code) = doctor(&[]);
    assert_eq!(code, Some(0), "{report}");
    assert!(report.contains("open files: "), "{report}");
    assert!(report.contains("no Redis is configured"), "{report}");
}

#[test]
fn a_port_in_use_is_a_fault_with_its_fix() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (report, code) = doctor(&[("SOCKHOP__SERVER__LISTEN", &address)]);
    assert_eq!(code, Some(1), "{report}");
    assert!(
        report.contains("FAULT    server.listen: cannot listen"),
        "{report}"
    );
    assert!(report.contains("fix: see who has it: ss -ltnp"), "{report}");
}

#[test]
fn redis_is_looked_at() {
    let redis = RedisServer::start();
    let url = redis.url();
    let (report, code) = doctor(&[("SOCKHOP__REDIS__URL", &url)]);
    assert_eq!(code, Some(0), "{report}");
    assert!(
        report.contains("Redis keeps enough for subscribers"),
        "{report}"
    );

    redis.run(&[
        "CONFIG",
        "SET",
        "client-output-buffer-limit",
        "pubsub 1mb 1mb 60",
    ]);
    let (report, code) = doctor(&[("SOCKHOP__REDIS__URL", &url)]);
    assert_eq!(code, Some(1), "{report}");
    assert!(
        report.contains("CONFIG SET client-output-buffer-limit"),
        "{report}"
    );

    redis.run(&[
        "ACL", "SETUSER", "poor", "on", ">word", "~*", "+ping", "+publish",
    ]);
    let poor = url.replace("redis://", "redis://poor:word@");
    let (report, code) = doctor(&[("SOCKHOP__REDIS__URL", &poor)]);
    assert_eq!(code, Some(1), "{report}");
    assert!(
        report.contains("Redis refuses what the bus needs: SUBSCRIBE"),
        "{report}"
    );
    assert!(!report.contains("word"), "{report}");
}

#[test]
fn a_redis_that_is_not_there_is_a_fault() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}", free.local_addr().unwrap());
    drop(free);
    let (report, code) = doctor(&[("SOCKHOP__REDIS__URL", &url)]);
    assert_eq!(code, Some(1), "{report}");
    assert!(report.contains("Redis does not answer"), "{report}");
}
