//! Where Redis is, from one URL.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use percent_encoding::percent_decode_str;

const DEFAULT_PORT: u16 = 6379;
const DEFAULT_SENTINEL_PORT: u16 = 26379;

/// Text that shows itself in no log.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps it.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// One place where a server listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// A host name or address, and a port.
    Tcp(String, u16),
    /// A socket in the file system.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// What is listening there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One server.
    Single(Address),
    /// Sentinels, which know the server.
    Sentinel {
        /// At least one.
        sentinels: Vec<Address>,
        /// The name under which they watch the server.
        master: String,
    },
    /// Some of the servers of a Redis Cluster, which know the others.
    Cluster {
        /// At least one.
        seeds: Vec<Address>,
    },
}

/// Where Redis is and how to log in.
///
/// *Shape:* one of
/// `redis://[user:password@]host[:6379]`,
/// `unix:///path?user=…&pass=…`,
/// `redis+sentinel://[user:password@]host[:26379],host…/master-name`,
/// `redis+cluster://[user:password@]host[:6379],host…`;
/// with `rediss` in place of `redis` over TLS. User and password may be percent-encoded. A database
/// number is accepted and has no effect: pub/sub knows no databases, a prefix keeps clusters apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisUrl {
    /// What is where.
    pub mode: Mode,
    /// Whether connections are encrypted.
    pub tls: bool,
    /// The ACL user. `None`: the default user.
    pub username: Option<String>,
    /// Its password.
    pub password: Option<Secret>,
}

/// Why a URL was refused. It never quotes the URL, which may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// The scheme is none of ours.
    #[error(
        "the scheme is none of redis, rediss, unix, redis+sentinel, rediss+sentinel, \
         redis+cluster, rediss+cluster"
    )]
    Scheme,
    /// No host or path.
    #[error("the host or path is missing")]
    Host,
    /// A port is no number up to 65535.
    #[error("a port is not a number from 1 to 65535")]
    Port,
    /// The part after the hosts is wrong.
    #[error("after the host may follow a database number, and for Sentinel the master's name must")]
    Path,
    /// Several hosts where one is meant.
    #[error("several hosts are for redis+sentinel and redis+cluster only")]
    Hosts,
    /// Percent-encoded bytes are not text.
    #[error("percent-encoded bytes are not UTF-8")]
    Encoding,
    /// An unknown query parameter.
    #[error("unknown query parameter")]
    Query,
}

impl FromStr for RedisUrl {
    type Err = UrlError;

    fn from_str(url: &str) -> Result<Self, UrlError> {
        let (scheme, rest) = url.split_once(':').ok_or(UrlError::Scheme)?;
        let (tls, rest) = match scheme {
            "unix" | "redis+unix" => return unix(rest),
            scheme => (
                scheme.starts_with("rediss"),
                rest.strip_prefix("//").ok_or(UrlError::Host)?,
            ),
        };
        if rest.contains(['?', '#']) {
            return Err(UrlError::Query);
        }
        // A password may hold a `/` only if it is encoded, as in every URL.
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (username, password) = match login.split_once(':') {
            Some((user, password)) => (some_text(user)?, some_text(password)?),
            None => (some_text(login)?, None),
        };
        let mode = match scheme {
            "redis" | "rediss" => single(hosts, path)?,
            "redis+sentinel" | "rediss+sentinel" => Mode::Sentinel {
                sentinels: addresses(hosts, DEFAULT_SENTINEL_PORT)?,
                master: path
                    .split('/')
                    .next()
                    .and_then(|name| some_text(name).transpose())
                    .ok_or(UrlError::Path)??,
            },
            "redis+cluster" | "rediss+cluster" => Mode::Cluster {
                seeds: addresses(hosts, DEFAULT_PORT)?,
            },
            _ => return Err(UrlError::Scheme),
        };
        Ok(Self {
            mode,
            tls,
            username,
            password: password.map(Secret::new),
        })
    }
}

fn single(hosts: &str, path: &str) -> Result<Mode, UrlError> {
    if !path.is_empty() && path.parse::<u16>().is_err() {
        return Err(UrlError::Path);
    }
    match addresses(hosts, DEFAULT_PORT)?.as_slice() {
        [address] => Ok(Mode::Single(address.clone())),
        _ => Err(UrlError::Hosts),
    }
}

fn unix(rest: &str) -> Result<RedisUrl, UrlError> {
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let path = some_text(path)?.ok_or(UrlError::Host)?;
    let mut url = RedisUrl {
        mode: Mode::Single(Address::Unix(path.into())),
        tls: false,
        username: None,
        password: None,
    };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=').ok_or(UrlError::Query)? {
            ("user", user) => url.username = some_text(user)?,
            ("pass", password) => url.password = some_text(password)?.map(Secret::new),
            ("db", _) => {}
            _ => return Err(UrlError::Query),
        }
    }
    Ok(url)
}

fn addresses(hosts: &str, default_port: u16) -> Result<Vec<Address>, UrlError> {
    hosts
        .split(',')
        .map(|host| address(host, default_port))
        .collect()
}

fn address(text: &str, default_port: u16) -> Result<Address, UrlError> {
    let (host, port) = match text.strip_prefix('[') {
        // An IPv6 address has colons of its own.
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or(UrlError::Host)?;
            let port = match rest {
                "" => None,
                rest => Some(rest.strip_prefix(':').ok_or(UrlError::Port)?),
            };
            (host, port)
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = match port {
        None => default_port,
        Some(port) => match port.parse() {
            Ok(port) if port > 0 => port,
            _ => return Err(UrlError::Port),
        },
    };
    let host = some_text(host)?.ok_or(UrlError::Host)?;
    Ok(Address::Tcp(host, port))
}

fn some_text(encoded: &str) -> Result<Option<String>, UrlError> {
    let text = percent_decode_str(encoded).decode_utf8();
    let text = text.map_err(|_| UrlError::Encoding)?.into_owned();
    Ok((!text.is_empty()).then_some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<RedisUrl, UrlError> {
        url.parse()
    }

    fn tcp(host: &str, port: u16) -> Address {
        Address::Tcp(host.to_owned(), port)
    }

    #[test]
    fn one_server_with_defaults() {
        let url = parse("redis://localhost").unwrap();
        assert_eq!(url.mode, Mode::Single(tcp("localhost", 6379)));
        assert!(!url.tls);
        assert_eq!((url.username, url.password), (None, None));
    }

    #[test]
    fn login_and_tls() {
        let url = parse("rediss://app:p%40ss%2Fword@[::1]:7000/2").unwrap();
        assert_eq!(url.mode, Mode::Single(tcp("::1", 7000)));
        assert!(url.tls);
        assert_eq!(url.username.as_deref(), Some("app"));
        assert_eq!(url.password.unwrap().expose(), "p@ss/word");
        let only_password = parse("redis://:secret@r").unwrap();
        assert_eq!(only_password.username, None);
        assert_eq!(only_password.password.unwrap().expose(), "secret");
    }

    #[test]
    fn sentinels_and_the_name_of_the_master() {
        let url = parse("redis+sentinel://u:p@a,b:1234/mymaster/0").unwrap();
        let Mode::Sentinel { sentinels, master } = url.mode else {
            panic!("no sentinels");
        };
        assert_eq!(sentinels, [tcp("a", 26379), tcp("b", 1234)]);
        assert_eq!(master, "mymaster");
        assert_eq!(parse("redis+sentinel://a"), Err(UrlError::Path));
    }

    #[test]
    fn seeds_of_a_cluster() {
        let url = parse("rediss+cluster://a:1,b:2").unwrap();
        let seeds = vec![tcp("a", 1), tcp("b", 2)];
        assert_eq!(url.mode, Mode::Cluster { seeds });
        assert!(url.tls);
    }

    #[test]
    fn a_socket_in_the_file_system() {
        for text in [
            "unix:///run/redis.sock?user=u&pass=p",
            "unix:/run/redis.sock?user=u&pass=p",
        ] {
            let url = parse(text).unwrap();
            let path = PathBuf::from("/run/redis.sock");
            assert_eq!(url.mode, Mode::Single(Address::Unix(path)));
            assert_eq!(url.password.unwrap().expose(), "p");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (url, error) in [
            ("http://localhost", UrlError::Scheme),
            ("localhost", UrlError::Scheme),
            ("redis:localhost", UrlError::Host),
            ("redis://", UrlError::Host),
            ("redis://a:b", UrlError::Port),
            ("redis://a:0", UrlError::Port),
            ("redis://a,b", UrlError::Hosts),
            ("redis://a/db", UrlError::Path),
            ("redis://a?db=1", UrlError::Query),
            ("redis://%ff@a", UrlError::Encoding),
            ("unix:///s?x=1", UrlError::Query),
        ] {
            assert_eq!(parse(url), Err(error), "{url}");
        }
    }

    #[test]
    fn a_password_shows_in_no_debug_output() {
        let url = parse("redis://app:hunter2@localhost").unwrap();
        assert!(!format!("{url:?}").contains("hunter2"));
    }
}
