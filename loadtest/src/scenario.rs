//! The named scenarios: options to begin with, each of which can be overruled.

use crate::options::Options;

/// Name and purpose of each.
pub const SCENARIOS: [(&str, &str); 10] = [
    ("connect", "open connections at a rate and hold them"),
    ("echo", "acknowledged round trips"),
    ("broadcast", "messages to everybody"),
    ("rooms", "many rooms, joins and leaves while messages flow"),
    ("chat", "rooms, echoes and broadcasts, mixed transports"),
    ("polling", "echo and broadcast over long-polling"),
    ("churn", "connections come and go while messages flow"),
    (
        "reconnect-storm",
        "all connections drop at once and come back",
    ),
    (
        "slow-readers",
        "some connections never read while messages flow",
    ),
    ("soak", "everything at once, for long"),
];

/// The options of a scenario.
///
/// # Errors
/// A sentence that lists the scenarios.
pub fn defaults(name: &str) -> Result<Options, String> {
    let base = Options {
        connections: Some(1000),
        duration: Some(20.0),
        ..Options::default()
    };
    Ok(match name {
        "connect" => base,
        "echo" => Options {
            connections: Some(100),
            echo_rate: Some(1000.0),
            ..base
        },
        "broadcast" => Options {
            broadcast_rate: Some(20.0),
            skip: Some(20.0),
            ..base
        },
        "rooms" => Options {
            app: Some("contract".to_owned()),
            rooms: Some(100),
            rooms_each: Some(2),
            room_rate: Some(200.0),
            move_rate: Some(20.0),
            skip: Some(20.0),
            ..base
        },
        "chat" => Options {
            app: Some("contract".to_owned()),
            mix: Some("websocket=60,upgrading=30,polling=10".to_owned()),
            rooms: Some(50),
            room_rate: Some(100.0),
            move_rate: Some(5.0),
            echo_rate: Some(50.0),
            broadcast_rate: Some(0.5),
            churn_rate: Some(2.0),
            skip: Some(50.0),
            ..base
        },
        "polling" => Options {
            connections: Some(200),
            mix: Some("polling=1".to_owned()),
            echo_rate: Some(200.0),
            broadcast_rate: Some(5.0),
            ..base
        },
        "churn" => Options {
            churn_rate: Some(50.0),
            broadcast_rate: Some(10.0),
            ..base
        },
        "reconnect-storm" => Options {
            storm_at: Some(5.0),
            broadcast_rate: Some(10.0),
            ..base
        },
        "slow-readers" => Options {
            slow: Some(5.0),
            broadcast_rate: Some(20.0),
            payload: Some(10_000),
            ..base
        },
        "soak" => soak(base),
        _ => {
            let names = SCENARIOS.map(|(name, _)| name).join(", ");
            return Err(format!("no scenario `{name}`; there are {names}"));
        }
    })
}

/// Everything at once; three connections are left in peace and tell what reached them.
fn soak(base: Options) -> Options {
    Options {
        app: Some("contract".to_owned()),
        duration: Some(600.0),
        mix: Some("websocket=60,upgrading=30,polling=10".to_owned()),
        eio: Some("4=90,3=10".to_owned()),
        rooms: Some(50),
        rooms_each: Some(2),
        room_rate: Some(100.0),
        move_rate: Some(10.0),
        echo_rate: Some(50.0),
        broadcast_rate: Some(2.0),
        churn_rate: Some(5.0),
        skip: Some(25.0),
        publishers: Some(3),
        ..base
    }
}
