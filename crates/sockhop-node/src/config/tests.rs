//! The layers, the faults, and that the documents are complete.

use std::path::PathBuf;

use super::*;
use crate::telemetry::LogFormat;

const DOCUMENT: &str = include_str!("../../../../docs/configuration.md");

/// A file that is gone with the test.
struct TestFile(PathBuf);

impl TestFile {
    fn new(name: &str, text: &str) -> Self {
        let name = format!("sockhop-config-{}-{name}.toml", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).unwrap();
        Self(path)
    }
}

impl Drop for TestFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn variables(list: &[(&str, &str)]) -> Vec<(String, String)> {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    list.iter().map(own).collect()
}

fn load_all(
    name: &str,
    text: &str,
    environment: &[(&str, &str)],
    flags: Vec<Flag>,
) -> Result<NodeConfig, Faults> {
    let file = TestFile::new(name, text);
    load(Some(&file.0), variables(environment), flags)
}

fn faults_of(name: &str, text: &str, environment: &[(&str, &str)]) -> Vec<String> {
    let Faults(faults) = load_all(name, text, environment, Vec::new()).unwrap_err();
    faults.iter().map(Fault::to_string).collect()
}

/// Every key of a configuration with its value as TOML writes it.
fn keys() -> Vec<(String, String)> {
    let Value::Object(sections) = serde_json::to_value(Raw::default()).unwrap() else {
        panic!("a configuration has sections");
    };
    let mut keys = Vec::new();
    for (section, content) in sections {
        for (key, value) in content.as_object().unwrap() {
            keys.push((format!("{section}.{key}"), value.to_string()));
        }
    }
    keys
}

#[test]
fn flags_override_the_environment_and_that_the_file() {
    let text = "[limits]\nmax_rooms_per_socket = 1\nmax_sessions = 1\noutbox_bytes = 1";
    let environment = [
        ("SOCKHOP__LIMITS__MAX_SESSIONS", "2"),
        ("SOCKHOP__LIMITS__OUTBOX_BYTES", "2"),
    ];
    let flags = vec![("limits.outbox_bytes", 3_u64.into())];
    let config = load_all("precedence", text, &environment, flags).unwrap();
    assert_eq!(config.server.max_rooms_per_socket, 1);
    assert_eq!(config.engine.max_sessions, 2);
    assert_eq!(config.engine.outbox_bytes, 3);
    assert_eq!(
        config.engine.max_fragments,
        NodeConfig::default().engine.max_fragments
    );
}

#[test]
fn variables_have_the_type_of_their_key() {
    let environment = [
        ("SOCKHOP__COOKIE__NAME", "123"),
        ("SOCKHOP__COOKIE__ENABLED", "true"),
        ("SOCKHOP__CORS__ORIGINS", "http://a, https://b:8443"),
        ("SOCKHOP__LOG__FORMAT", "json"),
        ("SOCKHOP__LOG__FILTER", "info,sockhop_engine=debug"),
        ("SOCKHOP__SERVER__PATH", ""),
        ("SOCKHOP_LOG", "not of this"),
        ("HOME", "nor this"),
    ];
    let config = load(None, variables(&environment), Vec::new()).unwrap();
    let cookie = config.engine.cookie.as_ref().unwrap();
    assert_eq!(cookie.name, "123");
    let origins = format!("{:?}", config.engine.cors.origins);
    assert_eq!(origins, r#"List(["http://a", "https://b:8443"])"#);
    assert_eq!(config.log_format, LogFormat::Json);
    assert_eq!(config.log_filter, "info,sockhop_engine=debug");
    // Empty is not set.
    assert_eq!(config.engine.path, "/socket.io/");
}

#[test]
fn all_faults_of_all_kinds_are_told_at_once() {
    let text = r#"
        [server]
        listen = "nowhere"
        path = "x"
        [session]
        polling = "yes"
        ping_interval_ms = 0
        [cors]
        origins = ["https://a/", 5]
        credentials = true
        [cookie]
        same_site = "None"
        [limits]
        outbox = 1
        outbox_bytes = 1.5
        max_sessions = -1
        [log]
        format = "xml"
        [nothing]
        at = { all = 1 }
    "#;
    let environment = [
        ("SOCKHOP__LIMITS__MAX_FRAGMENTS", "0"),
        ("SOCKHOP__RUNTIME__WORKERS", "many"),
    ];
    let faults = faults_of("all", text, &environment);
    let keys: Vec<_> = faults
        .iter()
        .map(|fault| fault.split_once(": ").unwrap().0)
        .collect();
    let mut sorted = keys.clone();
    sorted.sort_unstable();
    assert_eq!(
        sorted,
        [
            "cookie.same_site",
            "cors.credentials",
            "cors.origins",
            "limits.max_fragments",
            "limits.max_sessions",
            "limits.outbox",
            "limits.outbox_bytes",
            "log.format",
            "nothing.at.all",
            "runtime.workers",
            "server.listen",
            "server.path",
            "session.ping_interval_ms",
            "session.polling",
        ],
        "{faults:#?}"
    );
    let has = |line: &str| assert!(faults.iter().any(|fault| fault == line), "{faults:#?}");
    has("session.polling: invalid type: string \"yes\", expected true or false");
    has("limits.outbox_bytes: invalid type: floating point `1.5`, expected a whole number");
    has("limits.max_fragments: 0 is too small, the least is 1 (from the environment)");
    has(
        "runtime.workers: invalid type: string \"many\", expected a whole number (from the \
         environment)",
    );
}

#[test]
fn unknown_keys_are_refused_in_the_file_and_in_the_environment() {
    let text = "top = 1\n[server]\nport = 1\n[extra]\n[limits]";
    let environment = [
        ("SOCKHOP__SERVER__HOST", "a"),
        ("SOCKHOP__BALANCER__URL", "b"),
        ("SOCKHOP__LISTEN", "c"),
        ("SOCKHOP__SERVER__LISTEN__PORT", "1"),
    ];
    let faults = faults_of("unknown", text, &environment);
    let begins = [
        "balancer.url: unknown key `balancer`, expected one of `server`",
        "extra: unknown key `extra`",
        "listen: unknown key `listen`",
        "server.host: unknown key `host`, expected one of `listen`",
        "server.listen.port: invalid type: map, expected a string",
        "server.port: unknown key `port`",
        "top: unknown key `top`",
    ];
    assert_eq!(faults.len(), begins.len(), "{faults:#?}");
    for (fault, begin) in faults.iter().zip(begins) {
        assert!(fault.starts_with(begin), "{fault}");
    }
}

#[test]
fn a_section_that_is_a_value_is_one_fault() {
    let faults = faults_of("section", "limits = 5", &[]);
    assert_eq!(
        faults,
        ["limits: invalid type: integer `5`, expected a section of keys"]
    );
}

#[test]
fn the_heartbeat_fits_into_one_timer_of_the_clients() {
    let text = "[session]\nping_interval_ms = 2147483647";
    let faults = faults_of("timer", text, &[]);
    assert_eq!(
        faults,
        ["session.ping_timeout_ms: with `session.ping_interval_ms` it is more than 2147483647"]
    );
}

#[test]
fn times_that_depend_on_each_other_are_checked_together() {
    let text = "[drain]\ngrace_ms = 20000\nspread_ms = 5000\n[cluster]\nheartbeat_ms = 8000\n\
                [redis]\nurl = \"http://a\"\ncanary_interval_ms = 1500\ntls_key_file = \"k\"";
    let faults = faults_of("times", text, &[]);
    assert_eq!(
        faults,
        [
            "drain.deadline_ms: 25000 leaves no time after the others",
            "redis.url: the scheme is none of redis, rediss, unix, redis+sentinel, \
             rediss+sentinel, redis+cluster, rediss+cluster",
            "redis.canary_timeout_ms: it must be more than `redis.canary_interval_ms`",
            "redis.tls_key_file: it goes together with `redis.tls_cert_file`",
            "cluster.member_timeout_ms: it must be more than `cluster.heartbeat_ms`",
        ]
    );
}

#[test]
fn a_secret_is_not_printed_with_the_configuration() {
    let config = load_all(
        "secret",
        "[private]\nsecret = \"hush\"\n[redis]\nurl = \"redis://u:hush@a\"",
        &[],
        Vec::new(),
    )
    .unwrap();
    let secret = config.private.secret.as_ref().unwrap();
    assert_eq!(secret.expose(), "hush");
    assert!(!format!("{config:?}").contains("hush"));
}

#[test]
fn without_any_transport_nobody_could_connect() {
    let faults = faults_of(
        "transports",
        "[session]\npolling = false\nwebsocket = false",
        &[],
    );
    assert_eq!(
        faults,
        ["session.websocket: without polling and without WebSocket nobody can connect"]
    );
    let text = "[session]\nwebsocket = false";
    let config = load_all("no-websocket", text, &[], Vec::new()).unwrap();
    // Nobody is offered what is not served.
    assert!(!config.engine.session.allow_upgrades);
}

#[test]
fn a_file_that_is_missing_or_no_toml_is_named() {
    let missing = load(Some(Path::new("missing.toml")), [], Vec::new()).unwrap_err();
    assert!(
        missing
            .to_string()
            .starts_with("missing.toml: No such file"),
        "{missing}"
    );
    let faults = faults_of("syntax", "[server\nlisten = 1", &[]);
    assert!(
        faults[0].contains("-syntax.toml: TOML parse error at line 1"),
        "{faults:?}"
    );
}

#[test]
fn the_default_config_parses_back_to_the_defaults_and_has_every_key() {
    let config = load_all("default", DEFAULT_CONFIG, &[], Vec::new()).unwrap();
    assert_eq!(
        format!("{config:?}"),
        format!("{:?}", NodeConfig::default())
    );
    // Only the file, without defaults below it: nothing may be missing.
    let layers = Config::builder().add_source(File::from_str(DEFAULT_CONFIG, FileFormat::Toml));
    let alone: Raw = layers.build().unwrap().try_deserialize().unwrap();
    assert_eq!(alone, Raw::default());
}

#[test]
fn every_key_is_documented_with_its_default() {
    for (key, default) in keys() {
        let row = format!("| `{key}` | `{default}` |");
        assert!(
            DOCUMENT.contains(&row),
            "docs/configuration.md has no row `{row}`"
        );
    }
}

#[test]
fn no_key_is_documented_that_does_not_exist() {
    let keys = keys();
    let rows = DOCUMENT.lines().filter_map(|line| line.strip_prefix("| `"));
    for key in rows
        .filter_map(|row| row.split_once('`'))
        .map(|(key, _)| key)
    {
        assert!(keys.iter().any(|(known, _)| known == key), "{key}");
    }
}

#[test]
fn a_namespace_has_the_most_exact_policy_for_slow_consumers() {
    use sockhop::SlowConsumers::{Close, DropOldest, DropVolatile};
    let text = r#"
        [slow_consumers]
        policy = "drop_volatile"
        close = ["/news-today"]
        drop_oldest = ["/news-*"]
    "#;
    let environment = [("SOCKHOP__SLOW_CONSUMERS__DROP_VOLATILE", "/n*, /x")];
    let config = load_all("slow", text, &environment, Vec::new()).unwrap();
    assert_eq!(config.server.slow_consumers, DropVolatile);
    let rules = config.server.slow_consumers_of;
    let rules: Vec<_> = rules
        .iter()
        .map(|(name, policy)| (&**name, *policy))
        .collect();
    assert_eq!(
        rules,
        [
            ("/news-today", Close),
            ("/x", DropVolatile),
            ("/news-*", DropOldest),
            ("/n*", DropVolatile),
        ]
    );
}

#[test]
fn faults_in_policies_for_slow_consumers_are_told() {
    let text = r#"
        [slow_consumers]
        policy = "drop"
        close = ["/a"]
        drop_oldest = ["news", "/a", "/b*c"]
    "#;
    let not_a_name =
        "is not a namespace: it begins with `/`, has no comma, and a `*` only at its end";
    assert_eq!(
        faults_of("slow-faults", text, &[]),
        [
            "slow_consumers.policy: `drop` is none of `close`, `drop_oldest`, `drop_volatile`",
            &format!("slow_consumers.drop_oldest: `news` {not_a_name}"),
            "slow_consumers.drop_oldest: `/a` is named twice",
            &format!("slow_consumers.drop_oldest: `/b*c` {not_a_name}"),
        ]
    );
}
