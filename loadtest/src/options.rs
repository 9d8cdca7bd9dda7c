//! What a user can ask for, on the command line or in a file.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::{Deserialize, Serialize};

/// The options of a run; each may stand in the file (TOML, the same names) as well.
#[derive(Args, Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Options {
    /// Server to test; several for a cluster, connections take turns
    #[arg(long = "url", value_name = "URL")]
    pub url: Vec<String>,
    /// Connections to open
    #[arg(long, short = 'c')]
    pub connections: Option<u32>,
    /// Connections opened per second
    #[arg(long, value_name = "PER_SECOND")]
    pub connect_rate: Option<f64>,
    /// Seconds of work after all are connected
    #[arg(long, short = 'd', value_name = "SECONDS")]
    pub duration: Option<f64>,
    /// Transports and their shares, as websocket=70,polling=10,upgrading=20
    #[arg(long, value_name = "MIX")]
    pub mix: Option<String>,
    /// Engine.IO version: 4, 3, or shares as 4=90,3=10
    #[arg(long, value_name = "VERSION")]
    pub eio: Option<String>,
    /// Path of the server, if the URL has none [default: /socket.io/]
    #[arg(long)]
    pub path: Option<String>,
    /// Namespace [default: /]
    #[arg(long)]
    pub namespace: Option<String>,
    /// JSON sent with CONNECT
    #[arg(long, value_name = "JSON")]
    pub auth: Option<String>,
    /// Added to the handshake query, as a=1&b=2
    #[arg(long)]
    pub query: Option<String>,
    /// Further request header, as 'Name: value'
    #[arg(long, value_name = "LINE")]
    pub header: Vec<String>,
    /// Send the cookies that the server sets (sticky balancers want them)
    #[arg(long)]
    #[serde(default)]
    pub cookies: bool,
    /// Accept any certificate
    #[arg(long)]
    #[serde(default)]
    pub insecure: bool,
    /// PEM file of the certificates to trust instead of the system's
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Source addresses 127.0.0.1, 127.0.0.2, … to connect from
    #[arg(long, value_name = "COUNT")]
    pub sources: Option<u8>,
    /// First source address, for --sources against another host
    #[arg(long, value_name = "IPV4")]
    pub first_source: Option<std::net::Ipv4Addr>,
    /// Events of the server: bench, contract, node, none
    #[arg(long, value_name = "NAME")]
    pub app: Option<String>,
    /// One event of the server, as key=name or key=["name","$room","$payload"]
    #[arg(long, value_name = "KEY=EVENT")]
    pub event: Vec<String>,
    /// Bytes of a message's payload [default: 100]
    #[arg(long, value_name = "BYTES")]
    pub payload: Option<usize>,
    /// Acked round trips per second, all connections together
    #[arg(long, value_name = "PER_SECOND")]
    pub echo_rate: Option<f64>,
    /// Acked round trips that each connection keeps in flight (closed loop)
    #[arg(long, value_name = "COUNT")]
    pub echo_in_flight: Option<u32>,
    /// Broadcasts to everybody per second
    #[arg(long, value_name = "PER_SECOND")]
    pub broadcast_rate: Option<f64>,
    /// Broadcasts kept in flight, each done when all have it (closed loop)
    #[arg(long, value_name = "COUNT")]
    pub broadcast_in_flight: Option<u32>,
    /// Connections that broadcast, and which churn and storms leave alone [default: 1]
    #[arg(long, value_name = "COUNT")]
    pub publishers: Option<u32>,
    /// Share of broadcasts and room messages that skip their sender, percent
    #[arg(long, value_name = "PERCENT")]
    pub skip: Option<f64>,
    /// Rooms
    #[arg(long, value_name = "COUNT")]
    pub rooms: Option<u32>,
    /// Rooms that each connection is in [default: 1]
    #[arg(long, value_name = "COUNT")]
    pub rooms_each: Option<u32>,
    /// Room messages per second, all rooms together
    #[arg(long, value_name = "PER_SECOND")]
    pub room_rate: Option<f64>,
    /// Moves from one room to another per second, all connections together
    #[arg(long, value_name = "PER_SECOND")]
    pub move_rate: Option<f64>,
    /// Connections closed and opened again per second
    #[arg(long, value_name = "PER_SECOND")]
    pub churn_rate: Option<f64>,
    /// Second at which a share of all connections is dropped at once
    #[arg(long, value_name = "SECOND")]
    pub storm_at: Option<f64>,
    /// That share, percent [default: 100]
    #[arg(long, value_name = "PERCENT")]
    pub storm_share: Option<f64>,
    /// Share of connections that never read again once connected, percent
    #[arg(long, value_name = "PERCENT")]
    pub slow: Option<f64>,
    /// Delay before a broken connection is opened again, milliseconds, ±50 % [default: 1000]
    #[arg(long, value_name = "MS")]
    pub reconnect_delay: Option<u64>,
    /// How long messages may be in flight around a leave or a break, milliseconds [default: 2000]
    #[arg(long, value_name = "MS")]
    pub grace: Option<u64>,
    /// How long a confirmed join may take to be in force everywhere, milliseconds [default: 0]
    #[arg(long, value_name = "MS")]
    pub settle: Option<u64>,
    /// How long to wait for stragglers at the end, milliseconds [default: 5000]
    #[arg(long, value_name = "MS")]
    pub drain: Option<u64>,
    /// Runs a command at a second of the work, as 10s='docker kill node2'
    #[arg(long, value_name = "TIME=COMMAND")]
    pub at: Vec<String>,
    /// Process whose CPU time and memory to report
    #[arg(long, value_name = "PID")]
    pub pid: Vec<u32>,
    /// Exit with 1 if it holds, as 'p99>50ms' or 'loss>0'
    #[arg(long, value_name = "CONDITION")]
    pub fail_if: Vec<String>,
    /// Writes the result as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Writes the result as one HTML file
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// No progress while it runs
    #[arg(long, short)]
    #[serde(default)]
    pub quiet: bool,
}

/// A file: a scenario and its options.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct File {
    /// The scenario to begin with.
    pub scenario: Option<String>,
    /// The rest; serde refuses unknown names.
    #[serde(flatten)]
    pub options: toml::Table,
}

impl Options {
    /// Reads a file: its scenario's name and its options.
    ///
    /// # Errors
    /// A sentence with the place of the fault.
    pub fn read(path: &Path) -> Result<(Option<String>, Self), String> {
        let place = path.display();
        let text = std::fs::read_to_string(path).map_err(|error| format!("{place}: {error}"))?;
        let mut file: File = toml::from_str(&text).map_err(|error| format!("{place}: {error}"))?;
        if let Some(toml::Value::String(url)) = file.options.get("url") {
            let list = vec![toml::Value::String(url.clone())];
            file.options.insert("url".to_owned(), list.into());
        }
        let options = file.options.try_into();
        Ok((
            file.scenario,
            options.map_err(|error| format!("{place}: {error}"))?,
        ))
    }

    /// These options where they are set, otherwise those.
    #[must_use]
    pub fn over(self, below: Self) -> Self {
        let list = |upper: Vec<String>, lower| if upper.is_empty() { lower } else { upper };
        Self {
            url: list(self.url, below.url),
            connections: self.connections.or(below.connections),
            connect_rate: self.connect_rate.or(below.connect_rate),
            duration: self.duration.or(below.duration),
            mix: self.mix.or(below.mix),
            eio: self.eio.or(below.eio),
            path: self.path.or(below.path),
            namespace: self.namespace.or(below.namespace),
            auth: self.auth.or(below.auth),
            query: self.query.or(below.query),
            header: list(self.header, below.header),
            cookies: self.cookies || below.cookies,
            insecure: self.insecure || below.insecure,
            ca_file: self.ca_file.or(below.ca_file),
            sources: self.sources.or(below.sources),
            first_source: self.first_source.or(below.first_source),
            app: self.app.or(below.app),
            event: [below.event, self.event].concat(),
            payload: self.payload.or(below.payload),
            echo_rate: self.echo_rate.or(below.echo_rate),
            echo_in_flight: self.echo_in_flight.or(below.echo_in_flight),
            broadcast_rate: self.broadcast_rate.or(below.broadcast_rate),
            broadcast_in_flight: self.broadcast_in_flight.or(below.broadcast_in_flight),
            publishers: self.publishers.or(below.publishers),
            skip: self.skip.or(below.skip),
            rooms: self.rooms.or(below.rooms),
            rooms_each: self.rooms_each.or(below.rooms_each),
            room_rate: self.room_rate.or(below.room_rate),
            move_rate: self.move_rate.or(below.move_rate),
            churn_rate: self.churn_rate.or(below.churn_rate),
            storm_at: self.storm_at.or(below.storm_at),
            storm_share: self.storm_share.or(below.storm_share),
            slow: self.slow.or(below.slow),
            reconnect_delay: self.reconnect_delay.or(below.reconnect_delay),
            grace: self.grace.or(below.grace),
            settle: self.settle.or(below.settle),
            drain: self.drain.or(below.drain),
            at: [below.at, self.at].concat(),
            pid: [below.pid, self.pid].concat(),
            fail_if: [below.fail_if, self.fail_if].concat(),
            json: self.json.or(below.json),
            html: self.html.or(below.html),
            quiet: self.quiet || below.quiet,
        }
    }
}
