//! Pure. Why something couldn't be done with a message broker. No word of it holds a password.

use std::io;
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
    /// No connection to it could be made.
    #[error("connecting to the broker {member}")]
    Unreachable {
        /// Where it is.
        member: String,
        /// What the system said.
        source: io::Error,
    },
    /// TLS with it failed.
    #[error("connecting to the broker {member}: {why}")]
    Tls {
        /// Where it is.
        member: String,
        /// What is wrong, and where it would be set right.
        why: String,
        /// What was said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It doesn't know the user, or not with this password.
    #[error("logging in at the broker {member}: it refuses the user {user} or the password")]
    Login {
        /// Where it is.
        member: String,
        /// Who wanted in.
        user: String,
        /// What was said.
        source: Box<lapin::Error>,
    },
    /// It knows the user, but not there.
    #[error(
        "logging in at the broker {member}: the virtual host {virtual_host:?} isn't there, or the user {user} may not use it"
    )]
    VirtualHost {
        /// Where it is.
        member: String,
        /// Who wanted in.
        user: String,
        /// Where to.
        virtual_host: String,
        /// What was said.
        source: Box<lapin::Error>,
    },
    /// No answer came in time.
    #[error("{doing}: no answer within {} s", .limit.as_secs_f64())]
    TooLate {
        /// What was being done.
        doing: String,
        /// How long it was waited for.
        limit: Duration,
    },
    /// A file that TLS needs can't be read, or not be used.
    #[error("reading {path}")]
    File {
        /// Its path.
        path: String,
        /// What the system said.
        source: io::Error,
    },
}
