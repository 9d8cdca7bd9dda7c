//! The command line.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ::config::Value;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::{self, DEFAULT_CONFIG, Dialect, Faults, Flag};
use crate::doctor;
use crate::node::NodeConfig;
use crate::telemetry::LogFormat;

/// The Socket.IO server you deploy instead of embed.
///
/// Without arguments it listens on http://127.0.0.1:8080, shows a chat there and serves Socket.IO
/// clients of every version since 2018 under /socket.io/, over long-polling and WebSocket. A file
/// (`--config`), environment variables such as SOCKHOP__LIMITS__OUTBOX_BYTES and these options
/// configure it; the later one wins.
#[derive(Clone, Debug, Parser)]
#[command(name = "sockhop", version, max_term_width = 100)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Configuration file; `sockhop default-config` prints one. Default: none.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// What overrides the file and the environment.
    #[command(flatten)]
    pub flags: Flags,
}

/// What the binary does besides serving.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Say everything that is wrong with a configuration file and the environment, and serve
    /// nothing.
    CheckConfig {
        /// Configuration file; without it only the environment is checked.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Say whether this machine and its Redis are ready for a node, and what to do if they are not.
    /// Serves nothing and changes nothing.
    Doctor {
        /// Configuration file; without it the environment and the defaults.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Print a complete configuration file, with comments and the defaults.
    DefaultConfig,
}

/// The options that override the configuration, each only when it is given.
#[derive(Clone, Debug, Default, Args)]
pub struct Flags {
    /// Address and port to listen on. Default: 127.0.0.1:8080.
    #[arg(long, short, value_name = "ADDR")]
    pub listen: Option<SocketAddr>,

    /// Path of the Socket.IO endpoint. Default: /socket.io/.
    #[arg(long)]
    pub path: Option<String>,

    /// Directory with the official browser client (`socket.io.js` and its variants), served under
    /// the path. Without it browsers are sent to its usual CDN.
    #[arg(long, value_name = "DIR")]
    pub client_dir: Option<PathBuf>,

    /// Worker threads. Default: one for each core.
    #[arg(long, value_name = "N")]
    pub workers: Option<NonZeroUsize>,

    /// What is logged: a level, or a list such as `info,sockhop_engine=debug`. Default: info.
    #[arg(long, value_name = "FILTER", env = "SOCKHOP_LOG")]
    pub log: Option<String>,

    /// How logs look. Default: text.
    #[arg(long, value_enum)]
    pub log_format: Option<LogFormat>,

    /// Where Redis is, such as redis://host:6379, which makes this node one of a cluster. Without
    /// it there are no other nodes.
    #[arg(long, value_name = "URL", help_heading = "Cluster")]
    pub redis_url: Option<String>,

    /// What the names of all channels begin with, so that several clusters can share one Redis.
    /// Default: sockhop.
    #[arg(long, value_name = "TEXT", help_heading = "Cluster")]
    pub redis_prefix: Option<String>,

    /// Servers of another make on the same Redis that are members of the cluster too; repeat it
    /// for both. Default: none.
    #[arg(long, value_enum, help_heading = "Cluster")]
    pub dialect: Vec<Dialect>,

    /// Address and port where the other nodes of the cluster reach this one. Default: 127.0.0.1
    /// and a free port.
    #[arg(long, value_name = "ADDR", help_heading = "Cluster")]
    pub private_listen: Option<SocketAddr>,

    /// What the other nodes are told instead: an address or a name, with or without a port.
    /// Without it, where they reach the address of --private-listen.
    #[arg(long, value_name = "HOST", help_heading = "Cluster")]
    pub private_advertise: Option<String>,

    /// Address and port of a listener with /metrics, /healthz and /readyz that is not for clients.
    /// Without it /metrics is on the public listener.
    #[arg(long, value_name = "ADDR", help_heading = "Operation")]
    pub control_listen: Option<SocketAddr>,

    /// Milliseconds to go on serving after a signal to end, while saying not to be ready.
    /// Default: 0.
    #[arg(long, value_name = "MS", help_heading = "Operation")]
    pub drain_grace_ms: Option<u64>,

    /// Milliseconds over which the sessions are then closed. Default: 0.
    #[arg(long, value_name = "MS", help_heading = "Operation")]
    pub drain_spread_ms: Option<u64>,

    /// Milliseconds between two pings. Default: 25000.
    #[arg(long, value_name = "MS", help_heading = "Heartbeat")]
    pub ping_interval_ms: Option<u64>,

    /// Milliseconds that a ping may stay unanswered. Default: 20000.
    #[arg(long, value_name = "MS", help_heading = "Heartbeat")]
    pub ping_timeout_ms: Option<u64>,

    /// Origins whose pages may connect, `*` for all; repeat it for several. Default: none but the
    /// node's own.
    #[arg(long, value_name = "ORIGIN", help_heading = "Who may connect")]
    pub cors_origin: Vec<String>,

    /// Let browsers send cookies from those origins.
    #[arg(long, help_heading = "Who may connect")]
    pub cors_credentials: bool,

    /// Refuse clients of the 2.x line (EIO=3).
    #[arg(long, help_heading = "Who may connect")]
    pub no_eio3: bool,

    /// Sessions open at once. Default: 100000.
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pub max_sessions: Option<u64>,

    /// Bytes of one request body or WebSocket message. Default: 1000000.
    #[arg(long, value_name = "BYTES", help_heading = "Limits")]
    pub max_payload_bytes: Option<u64>,

    /// Bytes that may wait for one client before it is closed as a slow consumer.
    /// Default: 1048576.
    #[arg(long, value_name = "BYTES", help_heading = "Limits")]
    pub outbox_bytes: Option<u64>,

    /// Binary attachments of one packet. Default: 10.
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pub max_attachments: Option<u64>,

    /// Namespaces of one client. Default: 100.
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pub max_namespaces: Option<u64>,

    /// Rooms of one socket. Default: 1000.
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pub max_rooms: Option<u64>,

    /// Acknowledgements that one client may owe. Default: 1000.
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pub max_pending_acks: Option<u64>,

    /// Milliseconds for a client to join a namespace. Default: 45000.
    #[arg(long, value_name = "MS", help_heading = "Limits")]
    pub connect_timeout_ms: Option<u64>,

    /// Milliseconds for a WebSocket upgrade to finish. Default: 10000.
    #[arg(long, value_name = "MS", help_heading = "Limits")]
    pub upgrade_timeout_ms: Option<u64>,

    /// Milliseconds for a request's head to arrive. Default: 15000.
    #[arg(long, value_name = "MS", help_heading = "Limits")]
    pub header_timeout_ms: Option<u64>,
}

impl Cli {
    /// The configuration that the file, the variables of `environment` and the options describe.
    ///
    /// # Errors
    /// All faults of all three.
    pub fn config(
        &self,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<NodeConfig, Faults> {
        config::load(self.config.as_deref(), environment, self.flags.given())
    }
}

impl Command {
    /// Does it, and writes to standard output.
    pub fn run(&self, environment: impl IntoIterator<Item = (String, String)>) -> ExitCode {
        let (text, code) = match self {
            Self::DefaultConfig => (DEFAULT_CONFIG.to_owned(), ExitCode::SUCCESS),
            Self::CheckConfig { config } => check(config.as_deref(), environment),
            Self::Doctor { config } => examine(config.as_deref(), environment),
        };
        match io::stdout().write_all(text.as_bytes()) {
            Ok(()) => code,
            Err(_) => ExitCode::FAILURE,
        }
    }
}

fn check(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> (String, ExitCode) {
    match config::load(file, environment, Vec::new()) {
        Ok(_) => ("the configuration is fine\n".to_owned(), ExitCode::SUCCESS),
        Err(faults) => (format!("{faults}\n"), ExitCode::FAILURE),
    }
}

fn examine(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> (String, ExitCode) {
    match config::load(file, environment, Vec::new()) {
        Ok(config) => {
            let (report, runs) = doctor::examine(&config);
            let code = if runs {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            };
            (report, code)
        }
        Err(faults) => (format!("{faults}\n"), ExitCode::FAILURE),
    }
}

impl Flags {
    /// The given options by their keys in the configuration.
    fn given(&self) -> Vec<Flag> {
        fn text(value: &impl ToString) -> Value {
            value.to_string().into()
        }
        let format = self
            .log_format
            .and_then(|format| format.to_possible_value());
        let workers = self.workers.map(|workers| u64::try_from(workers.get()));
        let numbers = [
            (
                "runtime.workers",
                workers.map(|number| number.unwrap_or(u64::MAX)),
            ),
            ("session.ping_interval_ms", self.ping_interval_ms),
            ("session.ping_timeout_ms", self.ping_timeout_ms),
            ("session.upgrade_timeout_ms", self.upgrade_timeout_ms),
            ("server.header_timeout_ms", self.header_timeout_ms),
            ("limits.max_sessions", self.max_sessions),
            ("limits.max_payload_bytes", self.max_payload_bytes),
            ("limits.outbox_bytes", self.outbox_bytes),
            ("limits.max_attachments", self.max_attachments),
            ("limits.max_namespaces", self.max_namespaces),
            ("limits.max_rooms_per_socket", self.max_rooms),
            ("limits.max_pending_acks", self.max_pending_acks),
            ("limits.connect_timeout_ms", self.connect_timeout_ms),
            ("drain.grace_ms", self.drain_grace_ms),
            ("drain.spread_ms", self.drain_spread_ms),
        ]
        .map(|(key, number)| (key, number.map(Value::from)));
        let others = [
            ("server.listen", self.listen.as_ref().map(text)),
            ("control.listen", self.control_listen.as_ref().map(text)),
            ("redis.url", self.redis_url.as_ref().map(text)),
            ("redis.prefix", self.redis_prefix.as_ref().map(text)),
            ("private.listen", self.private_listen.as_ref().map(text)),
            (
                "private.advertise",
                self.private_advertise.as_ref().map(text),
            ),
            ("server.path", self.path.as_ref().map(text)),
            (
                "server.client_dir",
                self.client_dir.as_ref().map(|dir| text(&dir.display())),
            ),
            ("log.filter", self.log.as_ref().map(text)),
            ("log.format", format.map(|format| text(&format.get_name()))),
            ("session.allow_eio3", self.no_eio3.then(|| false.into())),
            (
                "cors.credentials",
                self.cors_credentials.then(|| true.into()),
            ),
            (
                "cors.origins",
                (!self.cors_origin.is_empty()).then(|| self.cors_origin.clone().into()),
            ),
            ("cluster.dialects", self.dialects()),
        ];
        let all = numbers.into_iter().chain(others);
        all.filter_map(|(key, value)| Some((key, value?))).collect()
    }

    fn dialects(&self) -> Option<Value> {
        let given = self.dialect.iter().filter_map(ValueEnum::to_possible_value);
        let names: Vec<String> = given.map(|value| value.get_name().to_owned()).collect();
        (!names.is_empty()).then(|| names.into())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use sockhop::Origins;

    use super::*;

    fn config_of(arguments: &[&str]) -> NodeConfig {
        Cli::parse_from(arguments).config([]).unwrap()
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_arguments_mean_the_defaults_of_the_library() {
        let config = config_of(&["sockhop"]);
        assert_eq!(
            format!("{config:?}"),
            format!("{:?}", NodeConfig::default())
        );
    }

    #[test]
    fn a_star_among_the_origins_means_all() {
        let config = config_of(&["sockhop", "--cors-origin", "http://a", "--cors-origin", "*"]);
        assert!(matches!(config.engine.cors.origins, Origins::Any));
    }

    #[test]
    fn every_option_says_its_default_or_what_happens_without_it() {
        for argument in Cli::command().get_arguments() {
            let takes_value = argument.get_action().takes_values();
            let help = argument
                .get_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            let told = help.contains("Default:") || help.contains("Without it");
            assert!(told || !takes_value, "--{}: {help}", argument.get_id());
        }
    }

    #[test]
    fn every_option_arrives_at_its_key() {
        let config = config_of(&[
            "sockhop",
            "--listen",
            "0.0.0.0:1",
            "--path",
            "/x/",
            "--client-dir",
            "d",
            "--workers",
            "2",
            "--log",
            "debug",
            "--log-format",
            "json",
            "--ping-interval-ms",
            "3",
            "--ping-timeout-ms",
            "4",
            "--cors-origin",
            "http://a",
            "--cors-credentials",
            "--no-eio3",
            "--max-sessions",
            "5",
            "--max-payload-bytes",
            "6",
            "--outbox-bytes",
            "7",
            "--max-attachments",
            "8",
            "--max-namespaces",
            "9",
            "--max-rooms",
            "10",
            "--max-pending-acks",
            "11",
            "--connect-timeout-ms",
            "12",
            "--upgrade-timeout-ms",
            "13",
            "--header-timeout-ms",
            "14",
        ]);
        let (engine, server) = (&config.engine, &config.server);
        let session = &engine.session;
        let millis = |duration: std::time::Duration| duration.as_millis();
        assert_eq!((config.listen.port(), engine.path.as_str()), (1, "/x/"));
        assert_eq!(config.client_dir.as_deref(), Some(Path::new("d")));
        assert_eq!(config.workers.map(NonZeroUsize::get), Some(2));
        assert_eq!(
            (config.log_filter.as_str(), config.log_format),
            ("debug", LogFormat::Json)
        );
        assert_eq!(millis(session.ping_interval), 3);
        assert_eq!(millis(session.ping_timeout), 4);
        assert!(matches!(&engine.cors.origins, Origins::List(list) if list == &["http://a"]));
        assert!(engine.cors.credentials && !engine.allow_v3);
        assert_eq!((engine.max_sessions, session.max_payload), (5, 6));
        assert_eq!((engine.outbox_bytes, server.limits.max_attachments), (7, 8));
        assert_eq!(
            (server.limits.max_namespaces, server.max_rooms_per_socket),
            (9, 10)
        );
        assert_eq!(server.limits.max_pending_acks, 11);
        assert_eq!(millis(server.connect_timeout), 12);
        assert_eq!(millis(session.upgrade_timeout), 13);
        assert_eq!(millis(config.header_timeout), 14);
    }

    #[test]
    fn every_option_of_operation_and_cluster_arrives_at_its_key() {
        let config = config_of(&[
            "sockhop",
            "--control-listen",
            "127.0.0.1:15",
            "--drain-grace-ms",
            "16",
            "--drain-spread-ms",
            "17",
            "--private-listen",
            "127.0.0.1:18",
            "--private-advertise",
            "b",
            "--redis-url",
            "redis://c:19",
            "--redis-prefix",
            "d",
            "--dialect",
            "python",
            "--dialect",
            "node",
        ]);
        assert_eq!(config.control.map(|control| control.port()), Some(15));
        assert_eq!(config.drain.grace.as_millis(), 16);
        assert_eq!(config.drain.spread.as_millis(), 17);
        assert_eq!(config.private.listen.port(), 18);
        assert_eq!(config.private.advertise.as_deref(), Some("b"));
        assert_eq!(config.dialects.names(), ["node", "python"]);
        let redis = config.redis.unwrap();
        assert_eq!(redis.url, "redis://c:19".parse().unwrap());
        assert_eq!(redis.prefix, "d");
    }
}
