//! Takes metering messages in: receives, verifies, reads, and hands them on in batches. Nothing a
//! peer sends can stop it, and a slow database never makes it wait.

pub mod amqp;
pub mod intake;
pub mod newest;
pub mod receipt;
pub mod udp;
pub mod waiting;
