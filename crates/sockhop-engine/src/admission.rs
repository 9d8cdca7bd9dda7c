//! Who may open a session now: rates and numbers, over all clients and for each address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::rate::Rate;

/// Addresses that are remembered. More are admitted by the common rate alone.
const MAX_ADDRESSES: usize = 262_144;

/// Between two searches of a full table for addresses without meaning.
const SWEEP_REST: Duration = Duration::from_secs(1);

/// Limits on new sessions. By default there are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AdmissionConfig {
    /// Handshakes of all clients together.
    pub handshakes: Rate,
    /// Handshakes of one address.
    pub address_handshakes: Rate,
    /// Sessions of one address at a time; 0 is no limit.
    pub address_sessions: usize,
}

/// Decides about handshakes. Clones share what they know, so that several mounts can share limits.
///
/// *Shape:* an address is what one [`customer`] has. Requests without an address meet only the common
/// rate.
#[derive(Clone, Debug)]
pub struct Admission(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: AdmissionConfig,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// When the common bucket is full again; none before the first handshake.
    full: Option<Instant>,
    addresses: HashMap<IpAddr, Known>,
    /// At this number of addresses those without meaning are forgotten.
    sweep_at: usize,
    /// When that was last done.
    swept: Option<Instant>,
}

#[derive(Debug)]
struct Known {
    full: Instant,
    sessions: usize,
}

/// Why a handshake is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unadmitted {
    /// Too many handshakes of all; when there may be another.
    Rate(Duration),
    /// Too many handshakes of this address; when it may try again.
    AddressRate(Duration),
    /// Too many sessions of this address.
    AddressSessions,
}

/// An address's place for one session; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    admission: Admission,
    address: Option<IpAddr>,
}

impl Admission {
    /// Limits of which nothing is used.
    #[must_use]
    pub fn new(config: AdmissionConfig) -> Self {
        Self(Arc::new(Inner {
            config,
            state: Mutex::new(State {
                full: None,
                addresses: HashMap::new(),
                sweep_at: 1_024,
                swept: None,
            }),
        }))
    }

    /// The limits.
    #[must_use]
    pub fn config(&self) -> &AdmissionConfig {
        &self.0.config
    }

    /// Lets one handshake in.
    pub(crate) fn admit(&self, now: Instant, address: Option<IpAddr>) -> Result<Place, Unadmitted> {
        let config = self.0.config;
        let counts_addresses =
            config.address_handshakes.is_limited() || config.address_sessions > 0;
        let address = address.filter(|_| counts_addresses).map(customer);
        let mut state = self.state();
        // The address first: a client that is refused takes nothing from the others.
        let tracked = match address {
            Some(address) if state.make_room(now, &address) => {
                let known = state.addresses.entry(address).or_insert(Known {
                    full: now,
                    sessions: 0,
                });
                if config.address_sessions > 0 && known.sessions >= config.address_sessions {
                    return Err(Unadmitted::AddressSessions);
                }
                let taken = config.address_handshakes.take(&mut known.full, now, 1);
                taken.map_err(Unadmitted::AddressRate)?;
                Some(address)
            }
            Some(_) | None => None,
        };
        let full = state.full.get_or_insert(now);
        config
            .handshakes
            .take(full, now, 1)
            .map_err(Unadmitted::Rate)?;
        if let Some(known) = tracked.and_then(|address| state.addresses.get_mut(&address)) {
            known.sessions += 1;
        }
        drop(state);
        Ok(Place {
            admission: self.clone(),
            address: tracked,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether `address` is known or can be. Forgets those that have no session and a full bucket.
    fn make_room(&mut self, now: Instant, address: &IpAddr) -> bool {
        if self.addresses.contains_key(address) {
            return true;
        }
        // In a full table there may be nothing to forget, and strangers may come by the thousand.
        let rests = self.addresses.len() >= MAX_ADDRESSES
            && self.swept.is_some_and(|swept| now < swept + SWEEP_REST);
        if self.addresses.len() >= self.sweep_at && !rests {
            self.swept = Some(now);
            self.addresses
                .retain(|_, known| known.sessions > 0 || known.full > now);
            self.addresses.shrink_to_fit();
            // So that sweeping costs a constant for each new address.
            self.sweep_at = (self.addresses.len() * 2).clamp(1_024, MAX_ADDRESSES);
        }
        self.addresses.len() < MAX_ADDRESSES
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(address) = self.address else { return };
        if let Some(known) = self.admission.state().addresses.get_mut(&address) {
            known.sessions = known.sessions.saturating_sub(1);
        }
    }
}

/// The part of an address that is one customer's: all of one of IPv4, also in the form of IPv6, and
/// the first 64 bits of any other, which is the least that one customer gets.
#[must_use]
pub fn customer(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    fn per_second(per_second: u64, burst: u64) -> Rate {
        Rate { per_second, burst }
    }

    #[test]
    fn an_address_over_its_rate_takes_nothing_from_the_others() {
        let admission = Admission::new(AdmissionConfig {
            handshakes: per_second(1, 3),
            address_handshakes: per_second(1, 2),
            address_sessions: 0,
        });
        let now = now();
        let greedy = || admission.admit(now, address("10.0.0.1"));
        let _places = [greedy().unwrap(), greedy().unwrap()];
        for _ in 0..10 {
            assert!(matches!(greedy(), Err(Unadmitted::AddressRate(_))));
        }
        assert!(admission.admit(now, address("10.0.0.2")).is_ok());
        let refused = admission.admit(now, address("10.0.0.3"));
        assert!(matches!(refused, Err(Unadmitted::Rate(_))));
    }

    #[test]
    fn the_place_of_a_session_is_free_again_when_it_ends() {
        let admission = Admission::new(AdmissionConfig {
            address_sessions: 1,
            ..AdmissionConfig::default()
        });
        let one = admission.admit(now(), address("10.0.0.1")).unwrap();
        let two = admission.admit(now(), address("10.0.0.1"));
        assert_eq!(two.unwrap_err(), Unadmitted::AddressSessions);
        drop(one);
        assert!(admission.admit(now(), address("10.0.0.1")).is_ok());
    }

    #[test]
    fn all_addresses_of_a_customer_are_one() {
        let of = |text: &str| customer(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2::3"), of("2001:db8:1:2:ffff::"));
        assert_ne!(of("2001:db8:1:2::3"), of("2001:db8:1:3::3"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
    }

    #[test]
    fn addresses_without_meaning_are_forgotten() {
        let admission = Admission::new(AdmissionConfig {
            address_handshakes: per_second(1_000, 1),
            ..AdmissionConfig::default()
        });
        let start = now();
        for number in 0..10_000_u32 {
            let address = IpAddr::V4((number + (10 << 24)).into());
            let at = start + Duration::from_millis(u64::from(number));
            assert!(admission.admit(at, Some(address)).is_ok());
        }
        assert!(admission.state().addresses.len() <= 1_024);
    }

    /// A table that is full at `start`, with nothing to forget for half a second.
    fn full_table(start: Instant) -> Admission {
        let admission = Admission::new(AdmissionConfig {
            handshakes: per_second(1_000_000, 1_000_000),
            address_handshakes: per_second(2, 1),
            address_sessions: 0,
        });
        for number in 0..MAX_ADDRESSES {
            assert!(admission.admit(start, numbered(number)).is_ok());
        }
        admission
    }

    fn numbered(number: usize) -> Option<IpAddr> {
        let number = u32::try_from(number).unwrap();
        Some(IpAddr::V4((number + (10 << 24)).into()))
    }

    #[test]
    fn a_full_table_grows_no_more_and_who_is_not_in_it_meets_the_common_rate_alone() {
        let start = now();
        let admission = full_table(start);
        for _ in 0..10 {
            for number in MAX_ADDRESSES..MAX_ADDRESSES + 10 {
                assert!(admission.admit(start, numbered(number)).is_ok());
            }
        }
        assert_eq!(admission.state().addresses.len(), MAX_ADDRESSES);
        for number in [0, MAX_ADDRESSES - 1] {
            let known = admission.admit(start, numbered(number));
            assert!(matches!(known, Err(Unadmitted::AddressRate(_))));
        }
        admission.state().full = Some(start + Duration::from_secs(3600));
        let stranger = admission.admit(start, numbered(MAX_ADDRESSES));
        assert!(matches!(stranger, Err(Unadmitted::Rate(_))));
    }

    #[test]
    fn a_full_table_is_not_searched_for_each_new_address() {
        let start = now();
        let admission = full_table(start);
        let admit = |ms, number| {
            let at = start + Duration::from_millis(ms);
            assert!(admission.admit(at, numbered(number)).is_ok());
            admission.state().addresses.len()
        };
        // All could be forgotten by now, but it was searched when it became full.
        assert_eq!(admit(999, MAX_ADDRESSES), MAX_ADDRESSES);
        assert_eq!(admit(1_000, MAX_ADDRESSES), 1);
    }
}
