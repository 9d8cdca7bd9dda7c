//! The sections `[admission]` and `[rates]`: who may come, and how much one session may say.

use serde::{Deserialize, Serialize};
use sockhop::engine::{Admission, AdmissionConfig, MemoryBudget, OverRate, Rate, SessionRates};

use super::check::Checker;
use crate::http::{ClientsConfig, Network};

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AdmissionSection {
    /// 0: no limit.
    handshakes_per_second: u64,
    handshake_burst: u64,
    /// 0: no limit.
    address_handshakes_per_second: u64,
    address_handshake_burst: u64,
    /// 0: no limit.
    address_sessions: u64,
    /// 0: no limit.
    address_connections: u64,
    /// 0: no limit.
    memory_budget_bytes: u64,
    trusted_proxies: Vec<String>,
    proxy_protocol: bool,
}

impl Default for AdmissionSection {
    fn default() -> Self {
        Self {
            handshakes_per_second: 0,
            handshake_burst: 100,
            address_handshakes_per_second: 0,
            address_handshake_burst: 20,
            address_sessions: 0,
            address_connections: 0,
            memory_budget_bytes: 0,
            trusted_proxies: Vec::new(),
            proxy_protocol: false,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RatesSection {
    /// 0: no limit.
    messages_per_second: u64,
    message_burst: u64,
    /// 0: no limit.
    bytes_per_second: u64,
    byte_burst: u64,
    /// `close` or `drop`.
    over: String,
}

impl Default for RatesSection {
    fn default() -> Self {
        Self {
            messages_per_second: 0,
            message_burst: 100,
            bytes_per_second: 0,
            byte_burst: 1_000_000,
            over: "close".to_owned(),
        }
    }
}

impl Checker {
    /// None: there is no limit.
    pub(super) fn admission(&mut self, section: &AdmissionSection) -> Option<Admission> {
        let handshakes = self.rate(
            "admission.handshake_burst",
            section.handshakes_per_second,
            section.handshake_burst,
        );
        let address_handshakes = self.rate(
            "admission.address_handshake_burst",
            section.address_handshakes_per_second,
            section.address_handshake_burst,
        );
        let config = AdmissionConfig {
            handshakes,
            address_handshakes,
            address_sessions: self
                .any_number("admission.address_sessions", section.address_sessions),
        };
        (config != AdmissionConfig::default()).then(|| Admission::new(config))
    }

    pub(super) fn memory(&mut self, section: &AdmissionSection) -> Option<MemoryBudget> {
        let bytes = self.any_number("admission.memory_budget_bytes", section.memory_budget_bytes);
        (bytes > 0).then(|| MemoryBudget::new(bytes))
    }

    pub(super) fn clients(&mut self, section: &AdmissionSection) -> ClientsConfig {
        let mut trusted_proxies = Vec::new();
        for text in &section.trusted_proxies {
            match text.parse::<Network>() {
                Ok(network) => trusted_proxies.push(network),
                Err(error) => {
                    self.fault("admission.trusted_proxies", format!("`{text}` is {error}"))
                }
            }
        }
        ClientsConfig {
            trusted_proxies,
            proxy_protocol: section.proxy_protocol,
            max_connections_per_address: self
                .any_number("admission.address_connections", section.address_connections),
        }
    }

    pub(super) fn rates(&mut self, section: &RatesSection) -> SessionRates {
        let over = match section.over.as_str() {
            "close" => OverRate::Close,
            "drop" => OverRate::Drop,
            other => {
                let text = format!("`{other}` is neither `close` nor `drop`");
                self.fault("rates.over", text);
                OverRate::Close
            }
        };
        let (messages, bytes) = (section.messages_per_second, section.bytes_per_second);
        SessionRates {
            messages: self.rate("rates.message_burst", messages, section.message_burst),
            bytes: self.rate("rates.byte_burst", bytes, section.byte_burst),
            over,
        }
    }

    fn rate(&mut self, key: &str, per_second: u64, burst: u64) -> Rate {
        let burst = self.at_least_one(key, burst) as u64;
        match per_second {
            0 => Rate::UNLIMITED,
            per_second => Rate { per_second, burst },
        }
    }
}
