//! One run, complete and checked.

use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::app::App;
use crate::options::Options;
use crate::packet::Eio;
use crate::scenario;
use crate::stream::Target;
use crate::tls;

/// How a connection talks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// WebSocket from the start.
    WebSocket,
    /// Long-polling for good.
    Polling,
    /// Long-polling, then WebSocket, as browsers do.
    Upgrading,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::WebSocket, Self::Polling, Self::Upgrading];

    /// As in the mix.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
            Self::Polling => "polling",
            Self::Upgrading => "upgrading",
        }
    }
}

/// A command to run in the middle of the work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// When, from the beginning of the work.
    pub at: Duration,
    /// For `sh -c`.
    pub command: String,
}

/// Everything about a run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The scenario's name.
    pub scenario: String,
    /// As asked for, for the report.
    pub options: Options,
    /// The servers.
    pub targets: Vec<Target>,
    /// The path, with slashes around.
    pub path: String,
    /// Weighted transports.
    pub mix: Vec<(Kind, f64)>,
    /// Weighted versions.
    pub eio: Vec<(Eio, f64)>,
    /// The namespace.
    pub namespace: String,
    /// Sent with CONNECT.
    pub auth: Option<Value>,
    /// Header lines with line ends.
    pub headers: String,
    /// The events.
    pub app: App,
    /// Connections.
    pub connections: u32,
    /// Connects per second.
    pub connect_rate: f64,
    /// Length of the work.
    pub duration: Duration,
    /// Commands.
    pub steps: Vec<Step>,
    /// Source addresses; empty: the system's choice.
    pub sources: Vec<Ipv4Addr>,
}

impl Plan {
    /// Checks the options of a scenario.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn new(scenario: &str, options: Options) -> Result<Self, String> {
        let options = options.over(scenario::defaults(scenario)?);
        let (targets, path) = targets(&options)?;
        let mut app = App::named(options.app.as_deref().unwrap_or("bench"))
            .ok_or("--app is one of bench, contract, node, none")?;
        for event in &options.event {
            let (key, text) = event.split_once('=').ok_or("--event is key=event")?;
            app.set(key, text)?;
        }
        let auth = options.auth.as_deref().map(serde_json::from_str);
        let auth = auth
            .transpose()
            .map_err(|error| format!("--auth: {error}"))?;
        let steps = options.at.iter().map(|text| step(text));
        let plan = Self {
            scenario: scenario.to_owned(),
            targets,
            path,
            mix: mix(options.mix.as_deref().unwrap_or("websocket=1"))?,
            eio: versions(options.eio.as_deref().unwrap_or("4"))?,
            namespace: options.namespace.clone().unwrap_or_else(|| "/".to_owned()),
            auth,
            headers: options
                .header
                .iter()
                .map(|line| format!("{line}\r\n"))
                .collect(),
            app,
            connections: options.connections.unwrap_or(100),
            connect_rate: options.connect_rate.unwrap_or(500.0),
            duration: seconds(options.duration.unwrap_or(10.0), "duration")?,
            steps: steps.collect::<Result<_, _>>()?,
            sources: sources(&options),
            options,
        };
        plan.check()?;
        Ok(plan)
    }

    fn check(&self) -> Result<(), String> {
        if self.connections == 0 {
            return Err("--connections must be at least 1".to_owned());
        }
        if self.connect_rate <= 0.0 {
            return Err("--connect-rate must be more than 0".to_owned());
        }
        let options = &self.options;
        let wants = [
            (
                "echo",
                options.echo_rate.is_some() || options.echo_in_flight.is_some(),
            ),
            (
                "broadcast",
                options.broadcast_rate.is_some() || options.broadcast_in_flight.is_some(),
            ),
            ("room", options.room_rate.is_some()),
            ("join", options.rooms.is_some_and(|rooms| rooms > 0)),
            ("leave", options.move_rate.is_some()),
        ];
        for (key, wanted) in wants {
            if wanted && self.app.get(key).is_none() {
                return Err(format!(
                    "the server has no event for `{key}`: say --event {key}=…"
                ));
            }
        }
        if options.move_rate.is_some() && !self.app.joins_by_event() {
            return Err("--move-rate needs rooms that are joined by an event".to_owned());
        }
        let rooms_each = options.rooms_each.unwrap_or(1);
        if rooms_each > 1 && !self.app.joins_by_event() {
            return Err("--rooms-each above 1 needs rooms that are joined by an event".to_owned());
        }
        if options.rooms.is_some_and(|rooms| rooms_each > rooms) {
            return Err("--rooms-each is more than --rooms".to_owned());
        }
        Ok(())
    }

    /// The transport of the user with this number.
    #[must_use]
    pub fn kind_of(&self, user: u32) -> Kind {
        weighted(&self.mix, user)
    }

    /// The version of the user with this number.
    #[must_use]
    pub fn eio_of(&self, user: u32) -> Eio {
        // Another order than that of the transports, so that every pair occurs.
        weighted(&self.eio, user.wrapping_mul(7919))
    }

    /// Rooms, as channels from 1.
    #[must_use]
    pub fn rooms(&self) -> u32 {
        self.options.rooms.unwrap_or(0)
    }

    /// The users that churn and storms leave alone.
    #[must_use]
    pub fn publishers(&self) -> u32 {
        self.options.publishers.unwrap_or(1)
    }

    /// Whether this user never reads.
    #[must_use]
    pub fn is_slow(&self, user: u32) -> bool {
        let share = self.options.slow.unwrap_or(0.0) / 100.0;
        // Another order again, so that slow readers are on all transports.
        user >= self.publishers() && spread(user.wrapping_mul(104_729)) < share
    }
}

/// A number from 0 to 1 for each user, evenly spread however few they are.
fn spread(user: u32) -> f64 {
    (f64::from(user) * 0.618_033_988_749_895).fract()
}

fn weighted<T: Copy>(list: &[(T, f64)], user: u32) -> T {
    let total: f64 = list.iter().map(|(_, weight)| weight).sum();
    let mut at = spread(user) * total;
    for (value, weight) in list {
        if at < *weight {
            return *value;
        }
        at -= weight;
    }
    list[list.len() - 1].0
}

fn mix(text: &str) -> Result<Vec<(Kind, f64)>, String> {
    shares(text, "mix", |name| {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    })
}

fn versions(text: &str) -> Result<Vec<(Eio, f64)>, String> {
    shares(text, "eio", |name| {
        [Eio::V3, Eio::V4]
            .into_iter()
            .find(|eio| eio.number().to_string() == name)
    })
}

fn shares<T>(
    text: &str,
    option: &str,
    find: impl Fn(&str) -> Option<T>,
) -> Result<Vec<(T, f64)>, String> {
    let mut list = Vec::new();
    for part in text.split(',') {
        let (name, weight) = part.split_once('=').unwrap_or((part, "1"));
        let value = find(name.trim()).ok_or_else(|| format!("--{option}: no `{name}`"))?;
        let weight: f64 = weight
            .trim()
            .parse()
            .map_err(|_| format!("--{option}: `{weight}` is no share"))?;
        if weight > 0.0 {
            list.push((value, weight));
        }
    }
    if list.is_empty() {
        return Err(format!("--{option} leaves nothing"));
    }
    Ok(list)
}

fn seconds(value: f64, option: &str) -> Result<Duration, String> {
    Duration::try_from_secs_f64(value).map_err(|error| format!("--{option}: {error}"))
}

fn step(text: &str) -> Result<Step, String> {
    let (time, command) = text.split_once('=').ok_or("--at is 10s='command'")?;
    let at = crate::fail_if::duration(time).ok_or_else(|| format!("--at: `{time}` is no time"))?;
    Ok(Step {
        at,
        command: command.trim().to_owned(),
    })
}

fn sources(options: &Options) -> Vec<Ipv4Addr> {
    let first = options.first_source.unwrap_or(Ipv4Addr::LOCALHOST);
    let count = u32::from(options.sources.unwrap_or(0));
    (0..count)
        .map(|index| Ipv4Addr::from(u32::from(first) + index))
        .collect()
}

fn targets(options: &Options) -> Result<(Vec<Target>, String), String> {
    let mut path = options.path.clone();
    let mut targets = Vec::new();
    let mut connector: Option<TlsConnector> = None;
    for url in &options.url {
        let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
        let tls = matches!(scheme, "https" | "wss");
        if !tls && !matches!(scheme, "http" | "ws") {
            return Err(format!("--url: no scheme `{scheme}`"));
        }
        let (host, own_path) = rest
            .split_once('/')
            .map_or((rest, ""), |(host, path)| (host, path));
        if !own_path.is_empty() {
            path.get_or_insert_with(|| own_path.to_owned());
        }
        let has_port = host
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let port = if tls { 443 } else { 80 };
        let full = if has_port {
            host.to_owned()
        } else {
            format!("{host}:{port}")
        };
        let addrs = full
            .to_socket_addrs()
            .map_err(|error| format!("--url {url}: {error}"))?;
        let addrs = of_one_family(addrs);
        if addrs.is_empty() {
            return Err(format!("--url {url}: no address"));
        }
        let name = host
            .rsplit_once(':')
            .filter(|_| has_port)
            .map_or(host, |(name, _)| name);
        let tls = match &connector {
            _ if !tls => None,
            Some(connector) => Some((connector.clone(), server_name(name)?)),
            None => {
                let made = tls::connector(options.ca_file.as_deref(), options.insecure)?;
                connector = Some(made.clone());
                Some((made, server_name(name)?))
            }
        };
        targets.extend(addrs.into_iter().map(|addr| Target {
            addr,
            authority: host.to_owned(),
            tls: tls.clone(),
        }));
    }
    if targets.is_empty() {
        return Err("say which server: --url http://127.0.0.1:3000".to_owned());
    }
    let path = path.unwrap_or_else(|| "socket.io".to_owned());
    Ok((targets, format!("/{}/", path.trim_matches('/'))))
}

/// All addresses of a name, as the nodes behind one name of a cluster have; but not `::1` beside
/// 127.0.0.1, where a server may listen on one of them only.
fn of_one_family(addrs: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut found: Vec<SocketAddr> = Vec::new();
    for addr in addrs {
        let is_alike = found
            .first()
            .is_none_or(|first| first.is_ipv4() == addr.is_ipv4());
        if is_alike && !found.contains(&addr) {
            found.push(addr);
        }
    }
    found
}

fn server_name(name: &str) -> Result<ServerName<'static>, String> {
    let name = name.trim_matches(['[', ']']).to_owned();
    ServerName::try_from(name.clone()).map_err(|error| format!("--url: `{name}`: {error}"))
}
