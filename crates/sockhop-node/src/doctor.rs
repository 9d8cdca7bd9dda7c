//! `sockhop doctor`: whether this machine and its Redis are ready for a node, and what to do if not.

use std::fmt::{self, Write};
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};

use sockhop_redis::inspect::{Inspection, SubscriberLimit, inspect};

use crate::NodeConfig;
use crate::descriptors::OWN_DESCRIPTORS;

/// Connections that the kernel should hold for us while we accept others.
const BACKLOG: u64 = 4_096;

/// The oldest Redis that the tests run against.
const OLDEST_REDIS: (u32, u32) = (6, 2);

/// How many of the largest frames must fit into what Redis keeps for a subscriber.
const FRAMES_IN_LIMIT: u64 = 4;

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Fine,
    /// It will work until there is more load.
    Warning,
    /// It will not work.
    Fault,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    verdict: Verdict,
    what: String,
    /// What to do, to the letter.
    fix: String,
}

impl Finding {
    fn fine(what: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Fine,
            what: what.into(),
            fix: String::new(),
        }
    }

    fn bad(verdict: Verdict, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            verdict,
            what: what.into(),
            fix: fix.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.verdict {
            Verdict::Fine => "ok     ",
            Verdict::Warning => "warning",
            Verdict::Fault => "FAULT  ",
        };
        write!(f, "{mark}  {}", self.what)?;
        if !self.fix.is_empty() {
            write!(f, "\n         fix: {}", self.fix)?;
        }
        Ok(())
    }
}

/// Looks at everything; the report, and whether a node would run.
pub(crate) fn examine(config: &NodeConfig) -> (String, bool) {
    let mut findings = vec![
        descriptors(
            config.engine.max_sessions as u64,
            &read("/proc/self/limits"),
        ),
        backlog(&read("/proc/sys/net/core/somaxconn")),
        tracked_connections(
            config.engine.max_sessions as u64,
            &read("/proc/sys/net/netfilter/nf_conntrack_max"),
        ),
        port("server.listen", config.listen),
    ];
    findings.extend(
        config
            .control
            .map(|address| port("control.listen", address)),
    );
    if let Some(redis) = &config.redis {
        findings.push(port("private.listen", config.private.listen));
        findings.extend(match ask_redis(redis) {
            Ok(inspection) => {
                redis_findings(&inspection, redis.max_frame_bytes as u64, &redis.prefix)
            }
            Err(error) => vec![Finding::bad(
                Verdict::Fault,
                format!("Redis does not answer: {error}"),
                "start it, or correct `redis.url`; from this machine: redis-cli -u URL ping",
            )],
        });
    } else {
        findings.push(Finding::fine(
            "no Redis is configured: a node without others",
        ));
    }
    let worst = findings.iter().map(|finding| finding.verdict).max();
    let runs = worst < Some(Verdict::Fault);
    let mut report = String::new();
    for finding in &findings {
        let _ = writeln!(report, "{finding}");
    }
    let _ = writeln!(
        report,
        "{}",
        match worst {
            Some(Verdict::Fault) => "a node would not run as configured",
            Some(Verdict::Warning) => "a node would run, with limits",
            Some(Verdict::Fine) | None => "ready",
        }
    );
    (report, runs)
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn ask_redis(config: &sockhop_redis::RedisConfig) -> Result<Inspection, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(inspect(config))
}

/// `limits` is what `/proc/self/limits` says.
fn descriptors(sessions: u64, limits: &str) -> Finding {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| match line.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    });
    let Some(soft) = soft else {
        return Finding::fine("open files: this system does not say");
    };
    let wanted = sessions.saturating_add(OWN_DESCRIPTORS);
    if soft >= wanted {
        return Finding::fine(format!("open files: {soft} for {sessions} sessions"));
    }
    let room = soft.saturating_sub(OWN_DESCRIPTORS);
    let verdict = if room == 0 {
        Verdict::Fault
    } else {
        Verdict::Warning
    };
    Finding::bad(
        verdict,
        format!("open files: {soft} allow about {room} of {sessions} sessions"),
        format!(
            "LimitNOFILE={wanted} in the unit of systemd, --ulimit nofile={wanted} for Docker, or \
             ulimit -n {wanted} in the shell; or limits.max_sessions = {}",
            room.max(1)
        ),
    )
}

fn backlog(somaxconn: &str) -> Finding {
    match somaxconn.trim().parse::<u64>() {
        Ok(now) if now < BACKLOG => Finding::bad(
            Verdict::Warning,
            format!("net.core.somaxconn: {now} connections may wait to be accepted"),
            format!("sysctl -w net.core.somaxconn={BACKLOG}"),
        ),
        Ok(now) => Finding::fine(format!("net.core.somaxconn: {now}")),
        Err(_) => Finding::fine("net.core.somaxconn: this system does not say"),
    }
}

fn tracked_connections(sessions: u64, max: &str) -> Finding {
    match max.trim().parse::<u64>() {
        Ok(max) if max < sessions.saturating_mul(2) => Finding::bad(
            Verdict::Warning,
            format!(
                "the firewall tracks {max} connections, {sessions} sessions may need twice as many"
            ),
            format!(
                "sysctl -w net.netfilter.nf_conntrack_max={}",
                sessions.saturating_mul(2)
            ),
        ),
        Ok(max) => Finding::fine(format!("the firewall tracks {max} connections")),
        Err(_) => Finding::fine("the firewall tracks no connections"),
    }
}

fn port(key: &str, address: SocketAddr) -> Finding {
    match TcpListener::bind(address) {
        Ok(_) => Finding::fine(format!("{key}: {address} is free")),
        Err(error) => {
            let port = address.port();
            let fix = match error.kind() {
                io::ErrorKind::AddrInUse => {
                    format!("see who has it: ss -ltnp 'sport = :{port}'; or choose another {key}")
                }
                io::ErrorKind::PermissionDenied => format!(
                    "AmbientCapabilities=CAP_NET_BIND_SERVICE in the unit of systemd, \
                     sysctl -w net.ipv4.ip_unprivileged_port_start={port}, or a port over 1023"
                ),
                _ => format!("choose an address of this machine for {key}: ip -brief address"),
            };
            let what = format!("{key}: cannot listen on {address}: {error}");
            Finding::bad(Verdict::Fault, what, fix)
        }
    }
}

fn redis_findings(inspection: &Inspection, frame_bytes: u64, prefix: &str) -> Vec<Finding> {
    let place = &inspection.place;
    let mut findings = vec![match &inspection.version {
        Some(version) if is_old(version) => Finding::bad(
            Verdict::Warning,
            format!("Redis at {place} has version {version}"),
            format!(
                "upgrade it to {}.{} or newer",
                OLDEST_REDIS.0, OLDEST_REDIS.1
            ),
        ),
        Some(version) => Finding::fine(format!("Redis at {place} has version {version}")),
        None => Finding::fine(format!(
            "Redis at {place} answers, and does not tell its version"
        )),
    }];
    findings.push(match inspection.subscribers {
        Some(limit) => subscriber_finding(limit, frame_bytes),
        None => Finding::bad(
            Verdict::Warning,
            "Redis does not tell how much it keeps for subscribers",
            format!(
                "let an operator ask: CONFIG GET client-output-buffer-limit; it should be at least \
                 \"{}\"",
                wanted_limit(frame_bytes)
            ),
        ),
    });
    findings.extend(inspection.denied.iter().map(|refusal| {
        let fix = format!(
            "ACL SETUSER <name> on resetchannels &{prefix}:* +ping +publish +subscribe +unsubscribe \
             +ssubscribe +sunsubscribe +spublish +psubscribe +punsubscribe +pubsub +client +role"
        );
        let what = format!("Redis refuses what the bus needs: {refusal}");
        Finding::bad(Verdict::Fault, what, fix)
    }));
    if inspection.denied.is_empty() {
        findings.push(Finding::fine(format!(
            "Redis lets us publish and subscribe under `{prefix}:`"
        )));
    }
    findings
}

fn is_old(version: &str) -> bool {
    let mut parts = version
        .split('.')
        .map(|part| part.parse::<u32>().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) < OLDEST_REDIS
}

fn subscriber_finding(limit: SubscriberLimit, frame_bytes: u64) -> Finding {
    let enough =
        |bytes: u64, frames: u64| bytes == 0 || bytes >= frame_bytes.saturating_mul(frames);
    let SubscriberLimit {
        hard,
        soft,
        seconds,
    } = limit;
    let now = format!("pubsub {hard} {soft} {seconds}");
    if enough(hard, FRAMES_IN_LIMIT) && enough(soft, 1) {
        return Finding::fine(format!("Redis keeps enough for subscribers: {now}"));
    }
    let wanted = wanted_limit(frame_bytes);
    Finding::bad(
        Verdict::Fault,
        format!("Redis cuts off nodes over a frame of {frame_bytes} bytes: {now}"),
        format!(
            "CONFIG SET client-output-buffer-limit \"{wanted}\" and the same in redis.conf, or a \
             smaller redis.max_frame_bytes"
        ),
    )
}

fn wanted_limit(frame_bytes: u64) -> String {
    let (hard, soft) = (frame_bytes.saturating_mul(8), frame_bytes.saturating_mul(2));
    format!("pubsub {} {} 60", hard.max(32 << 20), soft.max(8 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: &str = "Limit  Soft Limit  Hard Limit  Units\n\
                          Max open files            1024                 524288               files\n";

    #[test]
    fn too_few_descriptors_are_a_warning_with_the_number_that_is_needed() {
        let finding = descriptors(100_000, LIMITS);
        assert_eq!(finding.verdict, Verdict::Warning);
        assert!(finding.fix.contains("LimitNOFILE=101000"), "{finding}");
        assert_eq!(descriptors(20, LIMITS).verdict, Verdict::Fine);
        assert_eq!(descriptors(20, "").verdict, Verdict::Fine);
        let few = LIMITS.replace("1024 ", "256 ");
        assert_eq!(descriptors(100_000, &few).verdict, Verdict::Fault);
    }

    #[test]
    fn a_backlog_below_ours_is_a_warning() {
        assert_eq!(backlog("128\n").fix, "sysctl -w net.core.somaxconn=4096");
        assert_eq!(backlog("4096\n").verdict, Verdict::Fine);
    }

    #[test]
    fn a_port_in_use_is_a_fault_and_a_free_one_is_not() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let finding = port("server.listen", address);
        assert_eq!(finding.verdict, Verdict::Fault);
        assert!(finding.fix.contains("ss -ltnp"), "{finding}");
        drop(taken);
        assert_eq!(port("server.listen", address).verdict, Verdict::Fine);
        let elsewhere = port("server.listen", "192.0.2.1:80".parse().unwrap());
        assert_eq!(elsewhere.verdict, Verdict::Fault);
    }

    fn inspection() -> Inspection {
        Inspection {
            place: "localhost:6379".to_owned(),
            version: Some("7.0.15".to_owned()),
            subscribers: Some(SubscriberLimit {
                hard: 32 << 20,
                soft: 8 << 20,
                seconds: 60,
            }),
            denied: Vec::new(),
        }
    }

    #[test]
    fn the_defaults_of_redis_are_fine_for_our_frames_and_not_for_larger_ones() {
        let worst = |inspection: &Inspection, frame_bytes| {
            let findings = redis_findings(inspection, frame_bytes, "sockhop");
            findings
                .into_iter()
                .max_by_key(|finding| finding.verdict)
                .unwrap()
        };
        assert_eq!(worst(&inspection(), 4 << 20).verdict, Verdict::Fine);
        let large = worst(&inspection(), 16 << 20);
        assert_eq!(large.verdict, Verdict::Fault);
        assert!(
            large.fix.contains("\"pubsub 134217728 33554432 60\""),
            "{large}"
        );
        let unlimited = Inspection {
            subscribers: Some(SubscriberLimit {
                hard: 0,
                soft: 0,
                seconds: 0,
            }),
            ..inspection()
        };
        assert_eq!(worst(&unlimited, 16 << 20).verdict, Verdict::Fine);
    }

    #[test]
    fn old_versions_and_missing_rights_are_told() {
        let bad = Inspection {
            version: Some("5.0.7".to_owned()),
            denied: vec!["SUBSCRIBE: NOPERM".to_owned()],
            ..inspection()
        };
        let findings = redis_findings(&bad, 4 << 20, "sockhop");
        let text: String = findings.iter().map(Finding::to_string).collect();
        assert!(text.contains("upgrade it to 6.2"), "{text}");
        assert!(text.contains("&sockhop:*"), "{text}");
    }
}
