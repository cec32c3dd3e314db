//! Pure. What was kept aside of messages that no table can hold.

use super::UtcTime;

/// A message that could not be stored, without the message itself. Its texts came from the network.
#[derive(Debug, Clone, PartialEq)]
pub struct Quarantined {
    /// Its number in the quarantine.
    pub id: i64,
    /// When it was put there, by the database's clock.
    pub at: UtcTime,
    /// How long ago that was.
    pub age_seconds: f64,
    /// Why, as in metric labels.
    pub reason: String,
    /// Why in words; the engine's own where it refused.
    pub detail: String,
    /// Who saw it; None for a plain Ceilometer sender's.
    pub observer: Option<String>,
    /// The meter's name.
    pub meter: String,
    /// The resource.
    pub resource_id: String,
    /// The message's own id.
    pub message_id: String,
}

/// The same with the message.
#[derive(Debug, Clone, PartialEq)]
pub struct QuarantinedMessage {
    /// What is said about it.
    pub about: Quarantined,
    /// The message as JSON, under the names of the wire.
    pub message: String,
}
