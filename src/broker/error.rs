//! Pure. Why something couldn't be done with a message broker. No word of it holds a password.

use std::time::Duration;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The broker, the network or the protocol said no.
    #[error("{doing}")]
    Failed {
        /// What was being done.
        doing: String,
        /// What was said.
        source: lapin::Error,
    },
    /// No answer came in time.
    #[error("{doing}: no answer within {} s", .limit.as_secs_f64())]
    TooLate {
        /// What was being done.
        doing: String,
        /// How long it was waited for.
        limit: Duration,
    },
    /// A file that TLS needs.
    #[error("reading {path}")]
    File {
        /// Its path.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
}
