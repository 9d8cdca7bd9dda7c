//! What several crates' tests share: a virtual clock; its tests guard the shape of the workspace.

mod clock;

pub use clock::Clock;
