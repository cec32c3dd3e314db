//! What became of the readings that a publisher was given.

use std::io;

/// What became of the readings of one call.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Readings that left.
    pub sent: usize,
    /// Readings that didn't.
    pub failed: usize,
    /// Datagrams that left.
    pub datagrams: u64,
    /// Their bytes, without the headers of IP and UDP.
    pub bytes: u64,
    /// The last error.
    pub error: Option<io::Error>,
    /// What came back about a datagram that had left before: the other end did not take it.
    pub refused: Option<io::Error>,
}
