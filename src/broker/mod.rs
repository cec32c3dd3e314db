//! The message broker, as publishers and the collector share it: one connection to one member of the
//! cluster, with a deadline on each wait, and the declaration of exchange and queues.
//!
//! Nothing here is tried again: whoever uses a connection decides what its end means, and asks for
//! another one.

mod connect;
mod declare;
mod error;
mod socket;
mod tls;

pub use connect::{Broker, CONNECT_LIMIT, Link, REPLY_LIMIT, in_time};
pub use declare::{Queue, Topology};
pub use error::BrokerError;
