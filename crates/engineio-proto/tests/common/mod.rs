//! What several integration tests need.

use std::sync::OnceLock;
use std::time::Instant;

/// The moment that all virtual time counts from.
#[expect(
    clippy::disallowed_methods,
    reason = "an Instant can only be had from the clock; tests add to this one"
)]
pub(crate) fn base_instant() -> Instant {
    static BASE: OnceLock<Instant> = OnceLock::new();
    *BASE.get_or_init(Instant::now)
}
