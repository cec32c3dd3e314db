//! Takes readings to where a sink's URLs say. Each publisher has a thread and a queue of its own,
//! so that none waits for another.

pub mod notifier;
pub mod queue;
pub mod spool;
pub mod udp;

pub use crate::events::Outcome;
use crate::model::Reading;

/// A way out.
pub trait Publish: Send {
    /// The path it puts on its messages, and its name in logs and metrics.
    fn path(&self) -> &str;

    /// Sends these readings. It may block, but not for ever. Readings after the first error are
    /// still tried.
    fn publish(&mut self, readings: &[Reading]) -> Outcome;
}
