//! A load test for Socket.IO servers that accounts for every message.
//!
//! A [`plan::Plan`] says what to do, [`run::run`] does it, and the [`report::Report`] says what
//! came of it. Everything happens on one thread: the books need no locks, and one clock reads
//! both ends of every message.

pub mod app;
pub mod beside;
pub mod compare;
pub mod drive;
pub mod error;
pub mod fail_if;
pub mod html;
pub mod http;
pub mod ledger;
pub mod link;
pub mod options;
pub mod pace;
pub mod packet;
pub mod plan;
pub mod process;
pub mod progress;
pub mod random;
pub mod report;
pub mod run;
pub mod scenario;
pub mod session;
pub mod stamp;
pub mod stats;
pub mod stream;
pub mod table;
pub mod tls;
pub mod track;
pub mod websocket;
pub mod world;
