//! A look at a Redis before it is used: what `sockhop doctor` asks it.

use std::fmt::Write as _;

use crate::config::RedisConfig;
use crate::connect::Connector;
use crate::error::{ConnectError, RedisError};
use crate::resp::Value;
use crate::url::{Address, Mode};

/// How much a server keeps for a subscriber that does not read, in bytes; 0 is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscriberLimit {
    /// At any time.
    pub hard: u64,
    /// For `seconds`.
    pub soft: u64,
    /// How long the soft limit may be passed.
    pub seconds: u64,
}

/// What one server says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// Its place.
    pub place: String,
    /// Its version; none when it does not say.
    pub version: Option<String>,
    /// Its limit for subscribers; none when the user may not ask.
    pub subscribers: Option<SubscriberLimit>,
    /// Commands that the bus needs and the server refuses, each with the refusal.
    pub denied: Vec<String>,
}

/// Asks the first server that answers: the one in the URL, the master that a sentinel names, or a
/// server of the cluster.
///
/// # Errors
/// No server answers. The words are for people.
pub async fn inspect(config: &RedisConfig) -> Result<Inspection, String> {
    let connector = Connector::new(config).map_err(|error: RedisError| error.to_string())?;
    let mut failures = String::new();
    for address in places(config, &connector).await {
        match look(config, &connector, &address).await {
            Ok(inspection) => return Ok(inspection),
            Err(error) => {
                let _ = write!(failures, "{address}: {error}; ");
            }
        }
    }
    Err(failures.trim_end_matches("; ").to_owned())
}

async fn places(config: &RedisConfig, connector: &Connector) -> Vec<Address> {
    match &config.url.mode {
        Mode::Single(address) => vec![address.clone()],
        Mode::Cluster { seeds } => seeds.clone(),
        Mode::Sentinel { sentinels, master } => {
            let question: [&[u8]; 3] = [b"SENTINEL", b"get-master-addr-by-name", master.as_bytes()];
            for sentinel in sentinels {
                let Ok(mut stream) = connector.open_sentinel(sentinel).await else {
                    continue;
                };
                let answer = connector.ask_on(&mut stream, &question).await;
                if let Ok(Value::Array(pair)) = answer
                    && let [Value::Bulk(host), Value::Bulk(port)] = pair.as_slice()
                    && let Ok(port) = String::from_utf8_lossy(port).parse()
                {
                    let host = String::from_utf8_lossy(host).into_owned();
                    return vec![Address::Tcp(host, port)];
                }
            }
            // Nobody names it; asking them shows why.
            sentinels.clone()
        }
    }
}

async fn look(
    config: &RedisConfig,
    connector: &Connector,
    address: &Address,
) -> Result<Inspection, ConnectError> {
    let ask = |words: Vec<Vec<u8>>| async move {
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        connector.ask(address, &words).await
    };
    let words = |text: &[&str]| text.iter().map(|word| word.as_bytes().to_vec()).collect();
    let info = match ask(words(&["INFO", "server"])).await {
        Ok(Value::Bulk(info)) => String::from_utf8_lossy(&info).into_owned(),
        // It answers, if only with a refusal to say more.
        Ok(_) | Err(ConnectError::Refused(_)) => String::new(),
        Err(error) => return Err(error),
    };
    let version = info
        .lines()
        .find_map(|line| line.strip_prefix("redis_version:"))
        .map(|version| version.trim().to_owned());
    let limit = ask(words(&["CONFIG", "GET", "client-output-buffer-limit"])).await;
    let subscribers = limit.ok().and_then(|answer| subscriber_limit(&answer));
    let channel = format!("{}:doctor", config.prefix);
    let mut denied = Vec::new();
    for command in ["PING", "PUBLISH", "SUBSCRIBE"] {
        let question = match command {
            "PING" => words(&[command]),
            "PUBLISH" => words(&[command, &channel, "?"]),
            _ => words(&[command, &channel]),
        };
        match ask(question).await {
            Ok(_) => {}
            Err(ConnectError::Refused(line)) => denied.push(format!("{command}: {line}")),
            Err(error) => return Err(error),
        }
    }
    Ok(Inspection {
        place: address.to_string(),
        version,
        subscribers,
        denied,
    })
}

/// Reads `normal 0 0 0 slave … pubsub 33554432 8388608 60`.
fn subscriber_limit(answer: &Value) -> Option<SubscriberLimit> {
    let Value::Array(pair) = answer else {
        return None;
    };
    let Some(Value::Bulk(text)) = pair.get(1) else {
        return None;
    };
    let text = String::from_utf8_lossy(text);
    let (_, numbers) = text.split_once("pubsub ")?;
    let mut numbers = numbers.split(' ').map_while(|number| number.parse().ok());
    Some(SubscriberLimit {
        hard: numbers.next()?,
        soft: numbers.next()?,
        seconds: numbers.next()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_subscribers_is_found_among_the_others() {
        let answer = |text: &'static str| {
            let name = Value::Bulk("client-output-buffer-limit".into());
            subscriber_limit(&Value::Array(vec![name, Value::Bulk(text.into())]))
        };
        let limit = answer("normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60");
        let default = SubscriberLimit {
            hard: 32 << 20,
            soft: 8 << 20,
            seconds: 60,
        };
        assert_eq!(limit, Some(default));
        assert_eq!(answer("normal 0 0 0"), None);
        assert_eq!(answer("pubsub x"), None);
        assert_eq!(subscriber_limit(&Value::Nil), None);
    }
}
