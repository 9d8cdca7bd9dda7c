//! What the first packet of a session says.

use std::time::Duration;

use crate::session::SessionConfig;
use crate::{SessionId, Text, Transport};

/// The content of the open packet, without its type `0`, of a session that begins on `transport`.
///
/// *Shape:* `{"sid":…,"upgrades":[…],"pingInterval":…,"pingTimeout":…,"maxPayload":…}`; a WebSocket
/// has nothing to upgrade to. Version 3 gets `maxPayload` too, as from engine.io 6.
///
/// *Units:* milliseconds and bytes.
#[must_use]
pub fn json(config: &SessionConfig, id: SessionId, transport: Transport) -> Text {
    let upgrades = match transport {
        Transport::Polling if config.allow_upgrades => "\"websocket\"",
        Transport::Polling | Transport::WebSocket => "",
    };
    let text = format!(
        "{{\"sid\":\"{id}\",\"upgrades\":[{upgrades}],\"pingInterval\":{},\"pingTimeout\":{},\
         \"maxPayload\":{}}}",
        milliseconds(config.ping_interval),
        milliseconds(config.ping_timeout),
        config.max_payload,
    );
    Text::from(text)
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NodeTag;

    #[test]
    fn the_open_packet_names_the_upgrades_of_its_transport() {
        let config = SessionConfig::default();
        let id = SessionId::new(NodeTag::default(), [0; 12]);
        let tail = "\"pingInterval\":25000,\"pingTimeout\":20000,\"maxPayload\":1000000}";
        assert_eq!(
            json(&config, id, Transport::Polling).as_str(),
            format!("{{\"sid\":\"AAAAAAAAAAAAAAAAAAAA\",\"upgrades\":[\"websocket\"],{tail}")
        );
        assert_eq!(
            json(&config, id, Transport::WebSocket).as_str(),
            format!("{{\"sid\":\"AAAAAAAAAAAAAAAAAAAA\",\"upgrades\":[],{tail}")
        );
        let fixed = SessionConfig {
            allow_upgrades: false,
            ..config
        };
        let text = json(&fixed, id, Transport::Polling);
        assert!(text.contains("\"upgrades\":[]"), "{text:?}");
    }
}
