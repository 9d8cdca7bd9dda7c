//! Fuzz targets, each a function of bytes that panics when something is wrong.
//!
//! The files in `fuzz_targets` hand them to libFuzzer; `crates/testkit/tests/fuzz.rs` runs the same
//! functions over the seeds and over mutations of them, without any fuzzer.

pub mod cluster;
pub mod codec;
pub mod http;
pub mod input;
pub mod machines;
#[path = "../../crates/engineio-proto/tests/common/naive.rs"]
mod naive;
pub mod redis;
pub mod websocket;

/// A target by its name.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 14] = [
    ("engineio_packet", codec::engineio_packet),
    ("payload_v3", codec::payload_v3),
    ("payload_v4", codec::payload_v4),
    ("payload_differential", codec::payload_differential),
    ("socketio_json", codec::socketio_json),
    ("socketio_msgpack", codec::socketio_msgpack),
    ("websocket_frames", websocket::websocket_frames),
    ("request_head", http::request_head),
    ("session", machines::session),
    ("client", machines::client),
    ("cluster_wire", cluster::cluster_wire),
    ("dialect_node", cluster::dialect_node),
    ("dialect_python", cluster::dialect_python),
    ("resp", redis::resp),
];
